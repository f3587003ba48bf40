//! A carrier that shows every frame to somebody on its way: for recordings, never for decisions.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;

use super::{Carrier, Connection, FrameSink, FrameSource, Received, SinkClosed, Target};
use crate::{dial::DialError, inbound::CloseReason, payload::TextFrame};

/// Sees what passes. Called on the task of the link: it must return at once.
pub trait Watcher: Send + Sync + 'static {
    /// A connection has opened; they are numbered from 1.
    fn on_opened(&self, conn: u64, extended: bool);
    /// The peer sent a text frame.
    fn on_received(&self, conn: u64, frame: &TextFrame);
    /// A text frame is handed to the socket; before anything the peer says to it.
    fn on_sent(&self, conn: u64, frame: &TextFrame);
    /// The connection has ended.
    fn on_closed(&self, conn: u64, reason: &CloseReason);
}

/// Any carrier, with somebody who watches its frames.
pub struct Watched {
    inner: Arc<dyn Carrier>,
    watcher: Arc<dyn Watcher>,
    opened: AtomicU64,
}

impl Watched {
    /// Shows what `inner` carries to the watcher.
    pub fn new(inner: Arc<dyn Carrier>, watcher: Arc<dyn Watcher>) -> Self {
        Self {
            inner,
            watcher,
            opened: AtomicU64::new(0),
        }
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

#[async_trait]
impl Carrier for Watched {
    async fn open(&self, target: &Target) -> Result<Connection, DialError> {
        let opened = self.inner.open(target).await?;
        let conn = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        self.watcher.on_opened(conn, opened.extended);
        let seen = || Seen {
            conn,
            watcher: Arc::clone(&self.watcher),
        };
        Ok(Connection {
            sink: Box::new(WatchedSink {
                inner: opened.sink,
                seen: seen(),
            }),
            source: Box::new(WatchedSource {
                inner: opened.source,
                seen: seen(),
            }),
            extended: opened.extended,
            traffic: opened.traffic,
        })
    }
}

struct Seen {
    conn: u64,
    watcher: Arc<dyn Watcher>,
}

struct WatchedSink {
    inner: Box<dyn FrameSink>,
    seen: Seen,
}

#[async_trait]
impl FrameSink for WatchedSink {
    async fn send(&mut self, frames: Vec<TextFrame>) -> Result<(), SinkClosed> {
        for frame in &frames {
            self.seen.watcher.on_sent(self.seen.conn, frame);
        }
        self.inner.send(frames).await
    }

    async fn ping(&mut self, id: u64) -> Result<(), SinkClosed> {
        self.inner.ping(id).await
    }

    async fn close(&mut self, code: u16) {
        self.inner.close(code).await;
    }
}

struct WatchedSource {
    inner: Box<dyn FrameSource>,
    seen: Seen,
}

#[async_trait]
impl FrameSource for WatchedSource {
    async fn next(&mut self) -> Received {
        let received = self.inner.next().await;
        match &received {
            Received::Text(frame) => {
                if let Ok(frame) = TextFrame::try_from(frame.clone()) {
                    self.seen.watcher.on_received(self.seen.conn, &frame);
                }
            }
            Received::Closed(reason) => self.seen.watcher.on_closed(self.seen.conn, reason),
            Received::Pong { .. } | Received::Refused(_) => {}
        }
        received
    }
}
