//! When bytes last moved on a connection, as the socket saw it.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Notes when bytes moved; cheap to clone, written by the socket, read by the link.
#[derive(Clone)]
pub struct TrafficMeter {
    epoch: tokio::time::Instant,
    /// Milliseconds since the epoch.
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

impl TrafficMeter {
    /// Starts a meter: both directions moved just now.
    pub fn new() -> Self {
        Self {
            epoch: tokio::time::Instant::now(),
            received: Arc::default(),
            sent: Arc::default(),
        }
    }

    /// Notes that bytes arrived.
    pub fn on_received(&self) {
        self.received.store(self.elapsed(), Ordering::Relaxed);
    }

    /// Notes that the network took bytes.
    pub fn on_sent(&self) {
        self.sent.store(self.elapsed(), Ordering::Relaxed);
    }

    /// The same meter for a stream whose sent bytes do not count.
    #[cfg(feature = "http")]
    pub(crate) fn receiving(&self) -> Self {
        Self {
            sent: Arc::default(),
            ..self.clone()
        }
    }

    /// The same meter for a stream whose received bytes do not count.
    #[cfg(feature = "http")]
    pub(crate) fn sending(&self) -> Self {
        Self {
            received: Arc::default(),
            ..self.clone()
        }
    }

    pub(crate) fn read(&self) -> Traffic {
        let at = |mark: &AtomicU64| {
            self.epoch.into_std() + Duration::from_millis(mark.load(Ordering::Relaxed))
        };
        Traffic {
            received: at(&self.received),
            sent: at(&self.sent),
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for TrafficMeter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TrafficMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TrafficMeter").field(&self.read()).finish()
    }
}

/// When bytes last moved in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) received: Instant,
    pub(crate) sent: Instant,
}

/// A byte stream that notes its traffic.
pub(crate) struct Metered<S> {
    inner: S,
    meter: TrafficMeter,
}

impl<S> Metered<S> {
    pub(crate) fn new(inner: S, meter: TrafficMeter) -> Self {
        Self { inner, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.meter.on_received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.meter.on_sent();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
