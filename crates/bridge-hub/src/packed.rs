//! A WebSocket on which batches travel packed, as one on which every frame is a text.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{
    Error,
    extract::ws::{CloseFrame, Message as Frame},
};
use bridge_transport::{
    TextFrame,
    carrier::deflate::{Packed as Message, Packer, unpack},
};
use futures_util::{Sink, Stream};

/// Unpacks what comes and packs what goes, where that is agreed on. A message that breaks the rules
/// ends the connection with the code that says so.
pub(crate) struct Packed<S> {
    socket: S,
    packer: Option<Packer>,
    /// The longest a message may be, unpacked.
    limit: usize,
    unpacked: VecDeque<Frame>,
    ending: Option<Ending>,
}

/// The good-bye to who broke a rule.
struct Ending {
    code: u16,
    said: bool,
}

impl<S> Packed<S> {
    pub(crate) fn new(socket: S, agreed: bool, limit: usize) -> Self {
        Self {
            socket,
            packer: agreed.then(Packer::new),
            limit,
            unpacked: VecDeque::new(),
            ending: None,
        }
    }
}

impl<S> Packed<S>
where
    S: Sink<Frame, Error = Error> + Stream<Item = Result<Frame, Error>> + Unpin,
{
    /// Says good-bye, as far as the socket takes it.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let Some(ending) = &mut self.ending else {
            return Poll::Ready(None);
        };
        if !ending.said {
            ready!(Pin::new(&mut self.socket).poll_ready(cx))?;
            ending.said = true;
            let close = CloseFrame {
                code: ending.code,
                reason: "a packed message that breaks the rules".into(),
            };
            Pin::new(&mut self.socket).start_send(Frame::Close(Some(close)))?;
        }
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        self.ending = None;
        Poll::Ready(None)
    }
}

impl<S> Stream for Packed<S>
where
    S: Sink<Frame, Error = Error> + Stream<Item = Result<Frame, Error>> + Unpin,
{
    type Item = Result<Frame, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ending.is_some() {
            return this.poll_end(cx);
        }
        if let Some(frame) = this.unpacked.pop_front() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let next = ready!(Pin::new(&mut this.socket).poll_next(cx));
        let Some(Ok(Frame::Binary(bytes))) = &next else {
            return Poll::Ready(next);
        };
        if this.packer.is_none() {
            return Poll::Ready(next);
        }
        match unpack(bytes, this.limit) {
            Ok(frames) => {
                this.unpacked.extend(frames.iter().map(text));
                Poll::Ready(this.unpacked.pop_front().map(Ok))
            }
            Err(error) => {
                tracing::warn!(%error, "a bridge sent a packed message that breaks the rules");
                this.ending = Some(Ending {
                    code: error.code(),
                    said: false,
                });
                this.poll_end(cx)
            }
        }
    }
}

impl<S> Sink<Frame> for Packed<S>
where
    S: Sink<Frame, Error = Error> + Unpin,
{
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.socket).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Error> {
        let this = &mut *self;
        let frame = match (frame, &mut this.packer) {
            (Frame::Text(frame), Some(packer)) => {
                // One frame becomes one message.
                let packed = packer.pack([TextFrame::from(frame.as_str())]).pop_front();
                match packed {
                    Some(Message::Binary(bytes)) => Frame::Binary(bytes),
                    Some(Message::Text(_)) | None => Frame::Text(frame),
                }
            }
            (frame, _) => frame,
        };
        Pin::new(&mut this.socket).start_send(frame)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

fn text(frame: &TextFrame) -> Frame {
    Frame::Text(frame.as_str().into())
}
