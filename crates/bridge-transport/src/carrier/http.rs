//! Requests of HTTP/1.1 over the same streams as a WebSocket: the same proxies, the same TLS, and
//! never another host than the one that was named.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1::{SendRequest, handshake},
};
use tokio::task::AbortHandle;
use tracing::debug;

use super::{bytes_io::BytesIo, traffic::TrafficMeter, way::Way};
use crate::{dial::DialError, upgrade};

/// One connection, for one request after the other. It is opened where there is none.
pub(super) struct Http {
    way: Way,
    /// `ws` or `wss`.
    url: Uri,
    traffic: TrafficMeter,
    open: Option<Open>,
}

struct Open {
    sender: SendRequest<Whole>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
}

/// The answer to a request.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    body: Incoming,
}

impl Http {
    pub(super) fn new(way: Way, url: Uri, traffic: TrafficMeter) -> Self {
        Self {
            way,
            url,
            traffic,
            open: None,
        }
    }

    /// Asks, and waits for the head of the answer. What was asked may have been heard although this
    /// fails.
    pub(super) async fn ask(&mut self, question: &Question) -> Result<Answer, DialError> {
        // A server closes what is idle, perhaps at this moment.
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.sender.is_ready())
        {
            match self.try_ask(question).await {
                Ok(answer) => return Ok(answer),
                Err(error) => debug!(%error, "a kept connection was of no use"),
            }
        }
        self.open = None;
        self.try_ask(question).await
    }

    async fn try_ask(&mut self, question: &Question) -> Result<Answer, DialError> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.dial().await?,
        };
        open.sender.ready().await.map_err(broken)?;
        let request = self.request(question)?;
        let response = open.sender.send_request(request).await.map_err(broken)?;
        self.open = Some(open);
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }

    async fn dial(&self) -> Result<Open, DialError> {
        let stream = self.way.stream(&self.url, &self.traffic).await?;
        let (sender, connection) = handshake(BytesIo::new(stream)).await.map_err(broken)?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "an HTTP connection ended");
            }
        });
        Ok(Open {
            sender,
            task: task.abort_handle(),
        })
    }

    fn request(&self, question: &Question) -> Result<Request<Whole>, DialError> {
        let host = self.url.authority().map_or("", |host| host.as_str());
        let mut request = Request::builder()
            .method(question.method.clone())
            .uri(&question.path)
            .header(header::HOST, host);
        for (name, value) in &question.headers {
            request = request.header(name, value);
        }
        request
            .body(Whole(Some(question.body.clone())))
            .map_err(|error| DialError::Broken(std::io::Error::other(error)))
    }
}

impl Answer {
    /// Waits for the next piece of the body; `None` at its end. Cancel safe.
    pub(super) async fn piece(&mut self) -> Option<Result<Bytes, DialError>> {
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await?;
            match frame.map(Frame::into_data) {
                Ok(Ok(bytes)) => return Some(Ok(bytes)),
                // Trailers say nothing here.
                Ok(Err(_)) => {}
                Err(error) => return Some(Err(broken(error))),
            }
        }
    }

    /// Reads the body to its end.
    pub(super) async fn whole(mut self, limit: usize) -> Result<Bytes, DialError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.piece().await {
            let piece = piece?;
            if whole.len() + piece.len() > limit {
                return Err(NOT_OURS_TOO_LONG);
            }
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    /// When the server wants to be asked again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        upgrade::retry_after(&self.headers, SystemTime::now())
    }

    /// The answer as the refusal of a dial, with the beginning of its body.
    pub(super) async fn into_refusal(mut self) -> DialError {
        let (status, retry_after) = (self.status, self.retry_after());
        let mut body = BytesMut::new();
        let reading = async {
            while body.len() < REFUSAL
                && let Some(Ok(piece)) = self.piece().await
            {
                body.extend_from_slice(&piece);
            }
        };
        // What has come by then is enough to judge.
        if tokio::time::timeout(REFUSAL_PATIENCE, reading)
            .await
            .is_err()
        {
            debug!("the body of a refusal did not come to its end");
        }
        body.truncate(REFUSAL);
        DialError::Refused {
            status,
            retry_after,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }
}

/// A body that is there as a whole.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = self.0.take().filter(|bytes| !bytes.is_empty());
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, Bytes::len) as u64)
    }
}

fn broken(error: hyper::Error) -> DialError {
    DialError::Broken(std::io::Error::other(error))
}

const NOT_OURS_TOO_LONG: DialError = DialError::NotOurs {
    reason: "its answer is too long",
};
const REFUSAL: usize = 4 << 10;
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);
