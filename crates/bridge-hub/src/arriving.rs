//! The body of a request on its way: it has to be there in time, and what is not read of it is
//! thrown away for a moment.
//!
//! A connection that is closed while the other end still writes is reset, and the answer is lost
//! with it. So behind an answer that did not wait for the whole body, the rest is read and forgotten,
//! within limits; the answer says that it is the last one of its connection.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    BoxError, Error,
    body::{Bytes, HttpBody},
    http::{HeaderValue, Response, header},
};
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep, timeout},
};

/// A body that has to be there in time.
#[derive(Debug)]
pub(crate) struct Arriving<B: HttpBody> {
    body: Option<B>,
    late: Pin<Box<Sleep>>,
    unread: Option<oneshot::Sender<B>>,
}

/// What is not read of a body.
#[derive(Debug)]
pub(crate) struct Unread<B>(oneshot::Receiver<B>);

/// A body for a handler, and what the handler leaves of it.
pub(crate) fn in_time<B: HttpBody>(body: B) -> (Arriving<B>, Unread<B>) {
    let (unread, left) = oneshot::channel();
    let arriving = Arriving {
        body: Some(body),
        late: Box::pin(sleep(BODY)),
        unread: Some(unread),
    };
    (arriving, Unread(left))
}

impl<B: HttpBody> Arriving<B> {
    /// Reads no further.
    fn leave(&mut self) {
        if let Some(body) = self.body.take()
            && !body.is_end_stream()
            && let Some(unread) = self.unread.take()
            && unread.send(body).is_err()
        {
            tracing::trace!("a request was given up");
        }
    }
}

impl<B: HttpBody> Drop for Arriving<B> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<B> HttpBody for Arriving<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                self.body = None;
                Poll::Ready(Some(Err(Error::new(error))))
            }
            Poll::Ready(None) => {
                self.body = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.late.as_mut().poll(cx));
                self.leave();
                let late = "the body did not come to its end in time";
                Poll::Ready(Some(Err(Error::new(late))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = SizeHint::with_exact(0);
        self.body.as_ref().map_or(none, HttpBody::size_hint)
    }
}

impl<B> Unread<B>
where
    B: HttpBody<Data = Bytes, Error: Send> + Send + Unpin + 'static,
{
    /// Throws away what is left, if this answer comes before the end of its request.
    pub(crate) fn throw_away<T>(mut self, answer: &mut Response<T>) {
        if let Ok(rest) = self.0.try_recv() {
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
            tokio::spawn(forget(rest));
        }
    }
}

async fn forget<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) {
    let mut most = REST;
    let forgetting = async {
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            match most.checked_sub(bytes) {
                Some(rest) => most = rest,
                None => return,
            }
        }
    };
    if timeout(LINGER, forgetting).await.is_err() {
        tracing::debug!("a request was not written to its end");
    }
}

/// 32 MiB on a slow line take their time.
const BODY: Duration = Duration::from_secs(60);
/// For an answer to arrive and be read. Who waits for it before it writes on has it by then.
const LINGER: Duration = Duration::from_secs(5);
/// As much as anybody here has to say in one request, for those who write it to the end first.
const REST: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use futures_util::{StreamExt as _, stream};
    use tokio::time::Instant;

    use super::*;

    fn parts(count: usize) -> impl stream::Stream<Item = Result<Bytes, Infallible>> + Send {
        stream::iter((0..count).map(|_| Ok(Bytes::from_static(b"a"))))
    }

    /// Which parts of it are good.
    async fn read(body: Arriving<Body>) -> Vec<bool> {
        let parts = Body::new(body).into_data_stream();
        parts.map(|part| part.is_ok()).collect().await
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_to_its_end_in_time_is_an_error_and_no_short_body() {
        let (whole, _unread) = in_time(Body::from_stream(parts(2)));
        assert_eq!(read(whole).await, [true, true]);
        let stuck = Body::from_stream(parts(1).chain(stream::pending()));
        let start = Instant::now();
        let (stuck, _unread) = in_time(stuck);
        assert_eq!(read(stuck).await, [true, false]);
        assert_eq!(start.elapsed(), BODY);
    }

    #[tokio::test]
    async fn an_answer_is_the_last_one_where_something_was_left_unread_and_only_there() {
        let closes = |unread: Unread<Body>| {
            let mut answer = Response::new(());
            unread.throw_away(&mut answer);
            answer.headers().contains_key(header::CONNECTION)
        };
        let (body, unread) = in_time(Body::from_stream(parts(2)));
        read(body).await;
        assert!(!closes(unread));
        let (body, unread) = in_time(Body::from("all of it is here"));
        let exact = HttpBody::size_hint(&body).exact();
        assert_eq!(exact, Some(17));
        drop(body);
        assert!(closes(unread));
        let (body, unread) = in_time(Body::empty());
        drop(body);
        assert!(!closes(unread));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_thrown_away_is_bounded_in_time_and_size() {
        let start = Instant::now();
        forget(Body::from_stream(parts(1).chain(stream::pending()))).await;
        assert_eq!(start.elapsed(), LINGER);
        let mega = Bytes::from(vec![0; 1 << 20]);
        let endless = stream::repeat(mega).map(Ok::<_, Infallible>);
        forget(Body::from_stream(endless)).await;
        assert_eq!(start.elapsed(), LINGER);
    }
}
