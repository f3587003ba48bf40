//! The way frames travel: what a link asks of a socket, whatever kind it is.

#[cfg(feature = "http")]
mod bytes_io;
#[cfg(feature = "deflate")]
pub mod deflate;
#[cfg(feature = "sse")]
mod events;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
pub mod hybrid;
pub mod line;
#[cfg(feature = "http")]
pub mod long_poll;
#[cfg(feature = "deflate")]
mod packing;
#[cfg(not(feature = "deflate"))]
#[path = "packing_off.rs"]
mod packing;
pub mod probing;
#[cfg(feature = "http")]
mod session;
#[cfg(feature = "sse")]
pub mod sse_post;
pub mod tcp_lines;
pub(crate) mod traffic;
pub mod watched;
mod way;
pub mod websocket;

use std::{fmt, time::Duration};

use ::http::{HeaderName, HeaderValue, Uri, header::AUTHORIZATION};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout};
use tracing::debug;

#[cfg(feature = "sse")]
use self::sse_post::SsePost;
pub(crate) use self::traffic::Traffic;
pub use self::traffic::TrafficMeter;
#[cfg(feature = "http")]
use self::{hybrid::Hybrid, long_poll::LongPoll};
use self::{probing::Probing, tcp_lines::TcpLines, websocket::WebSocket};
use crate::{
    address,
    config::Endpoint,
    dial::DialError,
    inbound::{CloseReason, FrameRefused},
    payload::TextFrame,
};

/// How frames travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CarrierKind {
    /// One WebSocket, the way of every control plane.
    WebSocket,
    /// Reads by a WebSocket, writes by HTTP requests.
    #[cfg(feature = "http")]
    Hybrid,
    /// Reads server-sent events, writes by HTTP requests.
    #[cfg(feature = "sse")]
    Sse,
    /// Reads and writes by HTTP requests.
    #[cfg(feature = "http")]
    LongPoll,
    /// One line for each frame, over TCP or TLS.
    Lines,
}

impl CarrierKind {
    /// Those to try for an address that any of them may reach, the best first.
    pub fn of_http() -> Vec<Self> {
        vec![
            Self::WebSocket,
            #[cfg(feature = "sse")]
            Self::Sse,
            #[cfg(feature = "http")]
            Self::LongPoll,
        ]
    }

    /// The name that people know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            #[cfg(feature = "http")]
            Self::Hybrid => "hybrid",
            #[cfg(feature = "sse")]
            Self::Sse => "sse",
            #[cfg(feature = "http")]
            Self::LongPoll => "poll",
            Self::Lines => "lines",
        }
    }
}

/// Makes the carrier that an endpoint asks for.
pub fn of(endpoint: &Endpoint) -> Box<dyn Carrier> {
    match endpoint.carriers[..] {
        [kind] => one(endpoint, kind),
        ref kinds => {
            let each = kinds.iter().map(|kind| (*kind, one(endpoint, *kind)));
            Box::new(Probing::new(each, endpoint.dialect.clone()))
        }
    }
}

fn one(endpoint: &Endpoint, kind: CarrierKind) -> Box<dyn Carrier> {
    match kind {
        CarrierKind::WebSocket => Box::new(WebSocket::new(endpoint)),
        #[cfg(feature = "http")]
        CarrierKind::Hybrid => Box::new(Hybrid::new(endpoint)),
        #[cfg(feature = "sse")]
        CarrierKind::Sse => Box::new(SsePost::new(endpoint)),
        #[cfg(feature = "http")]
        CarrierKind::LongPoll => Box::new(LongPoll::new(endpoint)),
        CarrierKind::Lines => Box::new(TcpLines::new(endpoint)),
    }
}

/// Opens a connection by one carrier, says nothing and closes it again; tells how long opening it
/// took. A peer that keeps one connection for a credential lets go of the one it had.
///
/// # Errors
/// Fails as a dial does, also when it takes longer than [`Limits::dial`](crate::Limits::dial).
pub async fn probe(endpoint: &Endpoint, kind: CarrierKind) -> Result<Duration, DialError> {
    let mut headers = endpoint.greeting.headers.clone();
    if let Some(mut value) = endpoint.authorization.borrow().clone() {
        value.set_sensitive(true);
        headers.push((AUTHORIZATION, value));
    }
    if endpoint.offer_extension {
        headers.push((EXTENSION, HeaderValue::from_static("1")));
    }
    let target = Target {
        url: endpoint.url.clone(),
        headers,
        offer_extension: endpoint.offer_extension,
        frame_limit: endpoint.limits.frame,
    };
    let limit = endpoint.limits.dial;
    let carrier = one(endpoint, kind);
    let begun = Instant::now();
    let opened = timeout(limit, carrier.open(&target)).await;
    let mut opened = opened.unwrap_or(Err(DialError::TimedOut { after: limit }))?;
    let took = begun.elapsed();
    if timeout(GOOD_BYE, opened.sink.close(NORMAL)).await.is_err() {
        debug!(carrier = kind.name(), "the peer did not answer a good-bye");
    }
    Ok(took)
}

/// The header of an upgrade by which the extension is offered and accepted.
pub(crate) const EXTENSION: HeaderName = HeaderName::from_static("x-bridge-extension");
/// How long a peer may take to answer a close frame.
const GOOD_BYE: Duration = Duration::from_secs(1);
/// Nothing went wrong.
const NORMAL: u16 = 1000;

/// The same address with the scheme of a WebSocket, whatever carrier it was written for: what is
/// encrypted stays encrypted.
fn as_socket(url: &Uri) -> Uri {
    let scheme = if address::is_secure(url) { "wss" } else { "ws" };
    address::with(url, Some(scheme), None)
}

/// Opens connections of one kind.
#[async_trait]
pub trait Carrier: Send + Sync + 'static {
    /// Opens a connection, ready for frames.
    ///
    /// The link gives up after [`Limits::dial`](crate::Limits::dial) and drops the future, which
    /// must leave nothing behind.
    async fn open(&self, target: &Target) -> Result<Connection, DialError>;
}

/// What one dial needs to know.
#[derive(Clone)]
pub struct Target {
    /// Where to connect.
    pub url: Uri,
    /// Headers of the request, the credential among them; sensitive values are marked.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether the extension was offered.
    pub offer_extension: bool,
    /// The longest frame to accept, in bytes.
    pub frame_limit: usize,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &address::host_text(&self.url))
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

/// One open connection, both directions.
pub struct Connection {
    /// Where frames go.
    pub sink: Box<dyn FrameSink>,
    /// Where frames come from.
    pub source: Box<dyn FrameSource>,
    /// Whether the peer accepted the extension.
    pub extended: bool,
    /// When bytes last moved.
    pub traffic: TrafficMeter,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("extended", &self.extended)
            .finish_non_exhaustive()
    }
}

/// The outgoing half of a connection.
///
/// The link never drops a future of a sink whose connection it wants to keep.
#[async_trait]
pub trait FrameSink: Send {
    /// Sends frames in order and flushes once; resolves when the socket has taken all bytes.
    ///
    /// # Errors
    /// Fails when the connection is gone. The source then ends with the reason.
    async fn send(&mut self, frames: Vec<TextFrame>) -> Result<(), SinkClosed>;

    /// Sends a ping that comes back as [`Received::Pong`] with the same number.
    ///
    /// # Errors
    /// Fails like [`send`](Self::send).
    async fn ping(&mut self, id: u64) -> Result<(), SinkClosed>;

    /// Says good-bye with a close code and waits shortly for the answer.
    async fn close(&mut self, code: u16);
}

/// The connection of a sink is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("connection is gone")]
pub struct SinkClosed;

/// The incoming half of a connection.
#[async_trait]
pub trait FrameSource: Send {
    /// Waits for the next thing the peer sent. After [`Received::Closed`] it is not called again.
    ///
    /// Must be cancel safe: nothing is lost when the future is dropped.
    async fn next(&mut self) -> Received;
}

/// What a connection received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A text frame, checked to be UTF-8.
    Text(Bytes),
    /// The answer to a ping.
    Pong {
        /// The number of the ping.
        id: u64,
    },
    /// A frame that is not accepted.
    Refused(FrameRefused),
    /// The connection has ended.
    Closed(CloseReason),
}
