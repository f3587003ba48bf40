//! A stream of bytes as the HTTP library wants it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::tcp::Stream;

/// Lends a stream to the HTTP library.
pub(super) struct BytesIo {
    stream: Box<dyn Stream>,
    buffer: Box<[u8]>,
}

impl BytesIo {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER].into_boxed_slice(),
        }
    }
}

impl Read for BytesIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut wanted: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, buffer } = self.get_mut();
        let most = wanted.remaining().min(buffer.len());
        let mut read = ReadBuf::new(buffer.get_mut(..most).unwrap_or_default());
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        wanted.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl Write for BytesIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Read in one go.
const BUFFER: usize = 16 << 10;
