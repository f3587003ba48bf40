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
    carrier::deflate::{MOST_FRAMES, Packed as Message, Packer, unpack},
};
use futures_util::{Sink, Stream};

/// Unpacks what comes and packs what goes, where that is agreed on: together what is given between
/// two flushes. A message that breaks the rules ends the connection with the code that says so.
pub(crate) struct Packed<S> {
    socket: S,
    packing: Option<Packing>,
    /// The longest a message may be, unpacked.
    limit: usize,
    unpacked: VecDeque<Frame>,
    ending: Option<Ending>,
}

/// What goes, where packing is agreed on.
#[derive(Default)]
struct Packing {
    packer: Packer,
    /// What can go together.
    together: Vec<TextFrame>,
    bytes: usize,
    /// What the socket has not taken yet.
    going: VecDeque<Frame>,
}

impl Packing {
    fn push(&mut self, frame: Frame) {
        match frame {
            Frame::Text(text) => {
                let text = TextFrame::from(text.as_str());
                self.bytes += text.len();
                self.together.push(text);
            }
            Frame::Binary(_) | Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_) => {
                self.pack();
                self.going.push_back(frame);
            }
        }
    }

    /// Whether more would not go together with what is there.
    fn is_full(&self) -> bool {
        self.bytes >= TOGETHER || self.together.len() >= MOST_FRAMES
    }

    fn pack(&mut self) {
        let messages = self.packer.pack(self.together.drain(..));
        self.bytes = 0;
        self.going
            .extend(messages.into_iter().map(|message| match message {
                Message::Binary(bytes) => Frame::Binary(bytes),
                Message::Text(frame) => text(&frame),
            }));
    }
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
            packing: agreed.then(Packing::default),
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
        if this.packing.is_none() {
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
        match &mut self.packing {
            Some(packing) if packing.is_full() => packing.pack(),
            Some(packing) if packing.going.is_empty() => return Poll::Ready(Ok(())),
            Some(_) => {}
            None => return Pin::new(&mut self.socket).poll_ready(cx),
        }
        self.poll_go(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Error> {
        match &mut self.packing {
            Some(packing) => {
                packing.push(frame);
                Ok(())
            }
            None => Pin::new(&mut self.socket).start_send(frame),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_all(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_all(cx))?;
        Pin::new(&mut self.socket).poll_close(cx)
    }
}

impl<S> Packed<S>
where
    S: Sink<Frame, Error = Error> + Unpin,
{
    /// Gives the socket everything.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(packing) = &mut self.packing {
            packing.pack();
        }
        self.poll_go(cx)
    }

    /// Gives the socket what is packed.
    fn poll_go(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(packing) = &mut self.packing else {
            return Poll::Ready(Ok(()));
        };
        while !packing.going.is_empty() {
            ready!(Pin::new(&mut self.socket).poll_ready(cx))?;
            if let Some(frame) = packing.going.pop_front() {
                Pin::new(&mut self.socket).start_send(frame)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn text(frame: &TextFrame) -> Frame {
    Frame::Text(frame.as_str().into())
}

/// As much as goes into one message.
const TOGETHER: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures_util::SinkExt as _;

    use super::*;

    /// A socket that takes everything.
    #[derive(Default)]
    struct Taken(Vec<Frame>);

    impl Sink<Frame> for Taken {
        type Error = Error;

        fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), Error> {
            self.0.push(frame);
            Ok(())
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
            Poll::Ready(Ok(()))
        }
    }

    /// What the socket has got, each message as the texts in it; a ping has none.
    fn messages(taken: &Taken) -> Vec<Vec<String>> {
        let texts = |frame: &Frame| match frame {
            Frame::Binary(packed) => {
                let frames = unpack(packed, 1 << 20).unwrap();
                frames.iter().map(|it| it.as_str().to_owned()).collect()
            }
            Frame::Text(text) => vec![text.as_str().to_owned()],
            Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_) => Vec::new(),
        };
        taken.0.iter().map(texts).collect()
    }

    fn frames(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers
            .map(|n| format!("{{\"n\":{n},\"text\":\"a few words more\"}}"))
            .collect()
    }

    async fn feed(socket: &mut Packed<Taken>, frames: &[String]) {
        for frame in frames {
            socket.feed(Frame::Text(frame.into())).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_given_between_two_flushes_goes_together_and_nothing_overtakes_it() {
        let mut socket = Packed::new(Taken::default(), true, 1 << 20);
        let (one, two, three) = (frames(0..50), frames(50..100), frames(100..101));
        feed(&mut socket, &one).await;
        socket.feed(Frame::Ping(Bytes::new())).await.unwrap();
        feed(&mut socket, &two).await;
        socket.flush().await.unwrap();
        feed(&mut socket, &three).await;
        socket.flush().await.unwrap();
        assert_eq!(messages(&socket.socket), [one, Vec::new(), two, three]);
    }

    #[tokio::test]
    async fn what_is_given_without_end_does_not_gather_without_end() {
        let mut socket = Packed::new(Taken::default(), true, 1 << 20);
        let all = frames(0..10_000);
        feed(&mut socket, &all).await;
        let given = messages(&socket.socket).concat();
        assert!(given.len() > all.len() - 2 * MOST_FRAMES, "{}", given.len());
        socket.flush().await.unwrap();
        assert_eq!(messages(&socket.socket).concat(), all);
    }

    #[tokio::test]
    async fn where_nobody_agreed_every_frame_is_a_text_at_once() {
        let mut socket = Packed::new(Taken::default(), false, 1 << 20);
        let all = frames(0..50);
        feed(&mut socket, &all).await;
        let each: Vec<Vec<String>> = all.into_iter().map(|text| vec![text]).collect();
        assert_eq!(messages(&socket.socket), each);
    }
}
