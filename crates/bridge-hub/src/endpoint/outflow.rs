//! What one connection of a bridge is sent, in which order: what the envelope has to say, then
//! whatever waits, then a part of something large.

use std::{future::ready, sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::ws::{CloseFrame, Message as Frame},
};
use bridge_transport::delivery::{Writer, write_list};
use futures_util::{Sink, SinkExt as _};
use tokio::{
    sync::mpsc,
    time::{Instant, interval_at, timeout},
};

use crate::owner::Outgoing;

/// Writes until there is no more, or it cannot.
pub(super) async fn write(
    mut sink: impl Sink<Frame> + Unpin,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> &'static str {
    let mut pings = interval_at(Instant::now() + PING, PING);
    let mut numbered = Numbered::default();
    loop {
        let frame = if let Some(text) = numbered.next_frame() {
            Frame::Text(text.into())
        } else {
            let in_parts = numbered.has_parts();
            tokio::select! {
                biased;
                _ = pings.tick() => Frame::Ping(Bytes::new()),
                next = outgoing.recv() => match next {
                    Some(Outgoing::Frame(text)) => Frame::Text(text.into()),
                    Some(Outgoing::Close(why)) => {
                        let (code, reason) = why.close();
                        let close = CloseFrame { code, reason: reason.into() };
                        let close = sink.send(Frame::Close(Some(close)));
                        return match timeout(CLOSING, close).await {
                            Ok(Ok(())) => reason,
                            Ok(Err(_)) | Err(_) => "closed without a word",
                        };
                    }
                    Some(Outgoing::Resumed(writer)) => {
                        numbered.writer = Some(*writer);
                        continue;
                    }
                    Some(Outgoing::Numbered { stream, frame }) => {
                        numbered.keep(stream, frame);
                        continue;
                    }
                    Some(Outgoing::Acknowledged { seq }) => {
                        numbered.on_ack(seq);
                        continue;
                    }
                    None => return "let go",
                },
                () = ready(()), if in_parts => match numbered.next_part() {
                    Some(text) => Frame::Text(text.into()),
                    None => continue,
                },
            }
        };
        match timeout(STALL, sink.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return "broken",
            Err(_) => return "does not read",
        }
    }
}

/// The hub's stream on this connection, if the bridge takes one.
#[derive(Default)]
struct Numbered {
    writer: Option<Writer<Arc<str>>>,
}

impl Numbered {
    /// The command is kept by the store, under the number it gets here.
    fn keep(&mut self, stream: u64, frame: Arc<str>) {
        if let Some(writer) = &mut self.writer {
            let size = frame.len();
            let seq = writer.keep(frame, stream, size);
            writer.on_stored(seq);
        }
    }

    fn on_ack(&mut self, seq: u64) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.on_ack(seq)
        {
            tracing::error!(%error, "an acknowledgement that was checked");
        }
    }

    fn next_frame(&mut self) -> Option<String> {
        let writer = self.writer.as_mut()?;
        writer.next_frame(|frame, list| write_list(list, [&**frame]))
    }

    fn has_parts(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::has_parts)
    }

    fn next_part(&mut self) -> Option<String> {
        self.writer.as_mut()?.next_part()
    }
}

/// Keeps proxies from closing an idle connection, and makes a live bridge answer.
const PING: Duration = Duration::from_secs(20);
/// A frame of 32 MiB on a slow line takes its time.
const STALL: Duration = Duration::from_secs(60);
pub(super) const CLOSING: Duration = Duration::from_secs(1);
