//! A socket whose end is found by reading.
//!
//! A write that fails says nothing about what has arrived, but whoever reads and writes through the
//! same hands would stop there: a WebSocket answers a ping before it reads on. So what is written
//! after a failure is thrown away for a while, and the reader comes to the end by itself. A peer
//! that takes nothing for a minute is another thing: there may be no end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A stream of bytes, and what it holds as long as it is open.
#[derive(Debug)]
pub(crate) struct Socket<S, H> {
    stream: S,
    failed: Option<Instant>,
    /// While a write waits: when it has waited too long.
    stalled: Option<Pin<Box<Sleep>>>,
    _holds: H,
}

impl<S, H> Socket<S, H> {
    pub(crate) fn new(stream: S, holds: H) -> Self {
        Self {
            stream,
            failed: None,
            stalled: None,
            _holds: holds,
        }
    }

    /// What a failed write comes to: nothing, while a reader may have something left.
    fn forgive<T>(&mut self, error: io::Error, instead: T) -> io::Result<T> {
        let failed = *self.failed.get_or_insert_with(|| {
            tracing::debug!(%error, "what is written from here on is lost");
            Instant::now()
        });
        if failed.elapsed() < FORGIVEN {
            Ok(instead)
        } else {
            Err(error)
        }
    }

    fn on_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl<S: AsyncRead + Unpin, H: Unpin> AsyncRead for Socket<S, H> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, H: Unpin> AsyncWrite for Socket<S, H> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Ready(Ok(written)) => {
                self.stalled = None;
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => Poll::Ready(self.forgive(error, buf.len())),
            Poll::Pending => self.on_stall(cx).map(Err),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.stream).poll_flush(cx)) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(self.forgive(error, ())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Longer than a connection that has ended is read.
const FORGIVEN: Duration = Duration::from_secs(10);
/// The longest a peer may take nothing.
const STALL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Gives some bytes; takes none.
    struct Broken(io::Cursor<Vec<u8>>);

    impl AsyncRead for Broken {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Broken {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_write_does_not_keep_from_reading_and_is_told_in_the_end() {
        let arrived = io::Cursor::new(b"arrived".to_vec());
        let mut socket = Socket::new(Broken(arrived), ());
        socket.write_all(b"pong").await.unwrap();
        let mut read = String::new();
        socket.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "arrived");
        tokio::time::advance(FORGIVEN).await;
        let told = socket.write_all(b"ping").await.unwrap_err();
        assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_and_one_that_is_slow_is_not() {
        let (near, mut far) = duplex(4);
        let mut socket = Socket::new(near, ());
        let mut taken = [0; 4];
        for _ in 0..5 {
            socket.write_all(b"abcd").await.unwrap();
            let more = socket.write_all(b"efgh");
            let slow = async {
                sleep(STALL / 2).await;
                far.read_exact(&mut taken).await.unwrap();
            };
            let (wrote, ()) = tokio::join!(more, slow);
            wrote.unwrap();
            far.read_exact(&mut taken).await.unwrap();
        }
        socket.write_all(b"abcd").await.unwrap();
        let start = Instant::now();
        let given_up = socket.write_all(b"x").await.unwrap_err();
        assert_eq!(given_up.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), STALL);
    }
}
