//! One line for each frame, over a bare TCP or TLS connection: for tunnels and machines without
//! HTTP. The first line says who is there, the first answer whether that is accepted.

use std::{collections::VecDeque, fmt, io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split},
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::timeout,
};
use tracing::debug;

use super::{
    Carrier, Connection, FrameSink, FrameSource, Received, SinkClosed, Target, as_socket,
    line::Line, traffic::TrafficMeter, way::Way,
};
use crate::{
    config::Endpoint,
    dial::DialError,
    inbound::{CloseReason, FrameRefused},
    payload::TextFrame,
    tcp::Stream,
};

/// Carries frames as lines, directly or through a proxy, with TLS for `tls`.
pub struct TcpLines {
    way: Way,
}

impl TcpLines {
    /// Prepares a carrier with the proxy and TLS settings of an endpoint.
    pub fn new(endpoint: &Endpoint) -> Self {
        Self {
            way: Way::new(endpoint),
        }
    }
}

impl fmt::Debug for TcpLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TcpLines").field(&self.way).finish()
    }
}

/// The first line: what would be the headers of an upgrade.
#[derive(Serialize, Deserialize)]
pub struct Hello {
    /// Names and values, the names in lower case.
    pub headers: Vec<(String, String)>,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("headers", &self.headers.len())
            .finish()
    }
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "carrier", rename_all = "snake_case")]
pub enum Welcome {
    /// The frames begin.
    Welcome {
        /// Whether the extension was accepted.
        extended: bool,
    },
    /// As an upgrade that is answered with this status.
    Refused {
        /// The HTTP status it would be.
        status: u16,
        /// Seconds after which to come back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after: Option<u64>,
        /// Why, as the body would say it.
        body: String,
    },
}

#[async_trait]
impl Carrier for TcpLines {
    async fn open(&self, target: &Target) -> Result<Connection, DialError> {
        let traffic = TrafficMeter::new();
        let mut stream = self.way.stream(&as_socket(&target.url), &traffic).await?;
        let hello = Hello {
            headers: target
                .headers
                .iter()
                .filter_map(|(name, value)| {
                    Some((name.to_string(), value.to_str().ok()?.to_owned()))
                })
                .collect(),
        };
        let mut hello = serde_json::to_string(&hello).map_err(|error| broken(error.into()))?;
        hello.push('\n');
        stream.write_all(hello.as_bytes()).await.map_err(broken)?;
        stream.flush().await.map_err(broken)?;
        let mut lines = Lines::new(HEAD);
        let line = match lines.next(&mut stream).await.map_err(broken)? {
            Some(Ok(line)) => line,
            Some(Err(TooLong { .. })) => return Err(NO_WELCOME),
            None => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
        };
        let extended = match serde_json::from_slice(&line).map_err(|_| NO_WELCOME)? {
            Welcome::Welcome { extended } => extended,
            Welcome::Refused {
                status,
                retry_after,
                body,
            } => {
                return Err(DialError::Refused {
                    status,
                    retry_after: retry_after.map(Duration::from_secs),
                    body,
                });
            }
        };
        lines.limit = target.frame_limit.saturating_mul(6).saturating_add(HEAD);
        let (ops, incoming_ops) = mpsc::channel(1);
        let (out, received) = mpsc::channel(1);
        let limit = target.frame_limit;
        let task = tokio::spawn(serve(stream, lines, limit, incoming_ops, out));
        let guard = Arc::new(Guard(task.abort_handle()));
        Ok(Connection {
            sink: Box::new(Outgoing {
                ops,
                _guard: Arc::clone(&guard),
            }),
            source: Box::new(Incoming {
                received,
                _guard: guard,
            }),
            extended: target.offer_extension && extended,
            traffic,
        })
    }
}

fn broken(error: io::Error) -> DialError {
    DialError::Broken(error)
}

/// Cuts a stream of bytes into lines of a bounded length.
pub struct Lines {
    read: BytesMut,
    /// How far it was looked for an end.
    looked: usize,
    limit: usize,
}

/// A line is longer than it may be; the stream is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// How long it is so far.
    pub bytes: usize,
}

impl Lines {
    /// `limit` bounds a line, in bytes without its end.
    pub fn new(limit: usize) -> Self {
        Self {
            read: BytesMut::new(),
            looked: 0,
            limit,
        }
    }

    /// Sets another bound for the lines that come.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Reads the next line without its end; `None` at the end of the stream, where what has no end
    /// is no line. Cancel safe.
    ///
    /// # Errors
    /// Fails as the stream does.
    pub async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> io::Result<Option<Result<BytesMut, TooLong>>> {
        loop {
            let fresh = self.read.get(self.looked..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let mut line = self.read.split_to(self.looked + at);
                self.read.advance(1);
                self.looked = 0;
                if line.len() > self.limit {
                    return Ok(Some(Err(TooLong { bytes: line.len() })));
                }
                if line.ends_with(b"\r") {
                    line.truncate(line.len() - 1);
                }
                return Ok(Some(Ok(line)));
            }
            self.looked = self.read.len();
            if self.looked > self.limit {
                return Ok(Some(Err(TooLong { bytes: self.looked })));
            }
            self.read.reserve(READ);
            if stream.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("at_hand", &self.read.len())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

/// Ends the task, and with it the connection, once both halves are dropped.
struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the sink asks of the task.
struct Op {
    lines: VecDeque<Line>,
    done: oneshot::Sender<()>,
}

struct Outgoing {
    ops: mpsc::Sender<Op>,
    _guard: Arc<Guard>,
}

impl Outgoing {
    async fn say(&self, lines: VecDeque<Line>) -> Result<(), SinkClosed> {
        let (done, said) = oneshot::channel();
        let op = Op { lines, done };
        self.ops.send(op).await.map_err(|_| SinkClosed)?;
        said.await.map_err(|_| SinkClosed)
    }
}

#[async_trait]
impl FrameSink for Outgoing {
    async fn send(&mut self, frames: Vec<TextFrame>) -> Result<(), SinkClosed> {
        self.say(frames.into_iter().map(Line::Text).collect()).await
    }

    async fn ping(&mut self, id: u64) -> Result<(), SinkClosed> {
        self.say(VecDeque::from([Line::Ping { id }])).await
    }

    async fn close(&mut self, code: u16) {
        let reason = String::new();
        let close = Line::Close { code, reason };
        if self.say(VecDeque::from([close])).await.is_ok() {
            // The task ends when the peer has hung up.
            self.ops.closed().await;
        }
    }
}

struct Incoming {
    received: mpsc::Receiver<Received>,
    _guard: Arc<Guard>,
}

#[async_trait]
impl FrameSource for Incoming {
    async fn next(&mut self) -> Received {
        self.received.recv().await.unwrap_or_else(|| {
            let ended = CloseReason::Lost("the task of the connection ended".to_owned());
            Received::Closed(ended)
        })
    }
}

/// Owns the connection until it ends.
async fn serve(
    stream: Box<dyn Stream>,
    lines: Lines,
    limit: usize,
    ops: mpsc::Receiver<Op>,
    out: mpsc::Sender<Received>,
) {
    let (reading, writing) = split(stream);
    let (pong, pongs) = mpsc::channel(PONGS);
    let read = read(reading, lines, limit, out.clone(), pong);
    tokio::pin!(read);
    let reason = tokio::select! {
        reason = &mut read => reason,
        written = write(writing, ops, pongs) => match written {
            // Nobody holds the connection any more.
            Ok(()) => return,
            // A failed write says less than what may still be there to be read.
            Err(error) => timeout(PATIENCE, read)
                .await
                .unwrap_or_else(|_| CloseReason::Lost(error.to_string())),
        },
    };
    if out.send(Received::Closed(reason)).await.is_err() {
        debug!("nobody waits for the end of a connection");
    }
}

async fn write(
    mut stream: impl AsyncWrite + Unpin,
    mut ops: mpsc::Receiver<Op>,
    mut pongs: mpsc::Receiver<u64>,
) -> io::Result<()> {
    loop {
        let (lines, done) = tokio::select! {
            op = ops.recv() => match op {
                Some(Op { lines, done }) => (lines, Some(done)),
                None => return Ok(()),
            },
            Some(id) = pongs.recv() => (VecDeque::from([Line::Pong { id }]), None),
        };
        let mut together = Vec::new();
        for line in lines {
            together.extend_from_slice(line.encode().as_bytes());
            together.push(b'\n');
            if together.len() >= TOGETHER {
                stream.write_all(&together).await?;
                together.clear();
            }
        }
        stream.write_all(&together).await?;
        stream.flush().await?;
        if done.is_some_and(|done| done.send(()).is_err()) {
            debug!("nobody waits for a finished write");
        }
    }
}

async fn read(
    mut stream: impl AsyncRead + Unpin,
    mut lines: Lines,
    limit: usize,
    out: mpsc::Sender<Received>,
    pong: mpsc::Sender<u64>,
) -> CloseReason {
    let too_large = |bytes| Received::Refused(FrameRefused::TooLarge { bytes });
    loop {
        let line = match lines.next(&mut stream).await {
            Ok(Some(Ok(line))) => Line::decode(&line),
            Ok(Some(Err(TooLong { bytes }))) => {
                let refused = out.send(too_large(bytes)).await;
                let why = if refused.is_ok() {
                    "a line is too long"
                } else {
                    "nobody reads"
                };
                return CloseReason::Protocol(why.to_owned());
            }
            Ok(None) => return CloseReason::Lost("the peer hung up".to_owned()),
            Err(error) => return CloseReason::Lost(error.to_string()),
        };
        let received = match line {
            Ok(Line::Text(frame)) if frame.len() > limit => too_large(frame.len()),
            Ok(Line::Text(frame)) => Received::Text(frame.into()),
            Ok(Line::Pong { id }) => Received::Pong { id },
            Ok(Line::Ping { id }) => {
                // A peer that pings faster than it reads misses answers.
                if pong.try_send(id).is_err() {
                    debug!("a ping was not answered");
                }
                continue;
            }
            Ok(Line::Close { code, reason }) => return CloseReason::Code { code, reason },
            Err(error) => return CloseReason::Protocol(error.to_string()),
        };
        let over = matches!(received, Received::Refused(_));
        if out.send(received).await.is_err() {
            return CloseReason::Lost("nobody reads".to_owned());
        }
        if over {
            return CloseReason::Protocol("a frame is over the limit".to_owned());
        }
    }
}

const NO_WELCOME: DialError = DialError::NotOurs {
    reason: "its first line is no answer",
};
/// The longest first line of each side, and what stands around a frame.
const HEAD: usize = 16 << 10;
/// Read in one go.
const READ: usize = 16 << 10;
/// Written in one go.
const TOGETHER: usize = 64 << 10;
/// Answers to pings that wait.
const PONGS: usize = 4;
/// How long the end of a connection may take.
const PATIENCE: Duration = Duration::from_secs(1);
