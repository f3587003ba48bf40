//! `/ws/bridge/link`: the door for machines whose network lets no WebSocket through. A link is
//! opened, said to, read from and ended by requests of its own; every one of them shows the token.
//!
//! Lines and batches are those of `bridge_transport::carrier::line`. Reading goes by long poll, by
//! server-sent events or by a WebSocket that only tells; all three begin after a number and may be
//! broken off and begun again.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{
        FromRequestParts, Path, Query, Request, State,
        ws::{Message as Frame, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use bridge_proto::ctrlnode::MAX_FRAME_BYTES;
use bridge_transport::carrier::line::{BadLine, Batch, Most};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use serde::Deserialize;
use serde_json::json;

use super::{
    bridge::{EXTENSION, let_in, not_accepted},
    failure::refusal,
};
use crate::{
    access,
    guard::bearer,
    hub::Hub,
    links::{
        Link, Links, NotOpened,
        flow::Told,
        session::{Ask, IDLE, NoLink, Reader},
        upload::{self, NotTaken},
    },
    listener::Visitor,
};

/// The doors of these links.
pub(crate) fn routes(links: Links) -> Router<Hub> {
    Router::new()
        .route("/ws/bridge/link", post(open))
        .route("/ws/bridge/link/{link}", post(say).get(poll).delete(end))
        .route("/ws/bridge/link/{link}/events", get(events))
        .route("/ws/bridge/link/{link}/socket", get(socket))
        .layer(Extension(links))
}

/// `POST /ws/bridge/link`.
async fn open(
    State(hub): State<Hub>,
    Extension(links): Extension<Links>,
    visitor: Option<Extension<Visitor>>,
    headers: HeaderMap,
) -> Response {
    let (bridge, token) = match let_in(&hub, visitor.map(|Extension(it)| it), &headers).await {
        Ok(found) => found,
        Err(refused) => return refused,
    };
    let extended = headers.get(EXTENSION).is_some_and(|offer| offer == "1");
    match links.open(hub, bridge, token, extended).await {
        Ok(link) => {
            let limits = json!({
                "lines": MOST.lines, "bytes": MOST.bytes, "line": BODY,
                "idle": IDLE.as_secs(), "wait": POLL.as_secs(),
            });
            let body = json!({ "link": link, "extended": extended, "limits": limits });
            (StatusCode::CREATED, Json(body)).into_response()
        }
        Err(NotOpened::Full) => later("links_full", "there are too many links"),
        Err(NotOpened::NoEntropy) => {
            tracing::error!("the system gives no random numbers");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// `POST /ws/bridge/link/{link}`.
async fn say(Named(link): Named, Extension(links): Extension<Links>, request: Request) -> Response {
    let (Ok(_place), Ok(_of_all)) = (link.bodies.try_acquire(), link.of_bridge.try_acquire())
    else {
        return later("link_busy", "other requests of this bridge are being read");
    };
    let batch = match upload::read(request.into_body(), MOST, BODY).await {
        Ok(batch) => batch,
        Err(error) => {
            let status = match error {
                NotTaken::Bad(BadLine::TooMuch) => StatusCode::PAYLOAD_TOO_LARGE,
                NotTaken::Bad(
                    BadLine::NotUtf8 | BadLine::Unknown | BadLine::Empty | BadLine::Batch,
                )
                | NotTaken::CutOff(_) => StatusCode::BAD_REQUEST,
            };
            links.not_taken(&link, error.to_string()).await;
            return refusal(status, "batch", &error.to_string(), None);
        }
    };
    match link.ask(|reply| Ask::Say { batch, reply }).await {
        Ok(heard) => Json(json!({ "heard": heard })).into_response(),
        Err(error) => no_link(error),
    }
}

/// `GET /ws/bridge/link/{link}?after=`.
async fn poll(Named(link): Named, Query(from): Query<From>) -> Response {
    match Reading::new(link, from.after).next(POLL).await {
        Ok(told) => {
            let lines = told.lines.iter().map(String::as_str);
            let batch = Batch::encode(told.first, told.heard, lines);
            text(batch.into(), "application/x-ndjson")
        }
        Err(error) => no_link(error),
    }
}

/// `GET /ws/bridge/link/{link}/events?after=`.
async fn events(Named(link): Named, Query(from): Query<From>) -> Response {
    // What is wrong is said with a status, before anything else.
    let mut reading = Reading::new(link, from.after);
    let first = match reading.next(Duration::ZERO).await {
        Ok(told) => told,
        Err(error) => return no_link(error),
    };
    let begin =
        stream::once(async move { Ok::<_, Infallible>(told_as_events(&first, ": open\n\n")) });
    let rest = stream::unfold(reading, |mut reading| async {
        let told = reading.next(AWAKE).await.ok()?;
        Some((Ok(told_as_events(&told, ":\n\n")), reading))
    });
    let mut response = text(Body::from_stream(begin.chain(rest)), "text/event-stream");
    // Some proxies keep back what is not marked so.
    let unbuffered = HeaderValue::from_static("no");
    response
        .headers_mut()
        .insert("x-accel-buffering", unbuffered);
    response
}

/// Lines as events, or a comment where there are none.
fn told_as_events(told: &Told, comment: &str) -> Bytes {
    let mut events = String::new();
    for (number, line) in (told.first..).zip(&told.lines) {
        events.extend(["id: ", &number.to_string(), "\ndata: ", line, "\n\n"]);
    }
    if events.is_empty() {
        events.push_str(comment);
    }
    events.into()
}

/// `GET /ws/bridge/link/{link}/socket?after=`.
async fn socket(
    Named(link): Named,
    Query(from): Query<From>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let mut reading = Reading::new(link, from.after);
    let first = match reading.next(Duration::ZERO).await {
        Ok(told) => told,
        Err(error) => return no_link(error),
    };
    upgrade
        .max_frame_size(SMALL)
        .max_message_size(SMALL)
        .on_upgrade(move |socket| tell_all(socket, first, reading))
}

/// Tells lines until the link has ended, the socket is gone or another reads.
async fn tell_all(socket: WebSocket, first: Told, mut reading: Reading) {
    let (mut sink, mut stream) = socket.split();
    // It has nothing to say: what is read are answers to pings, and the end.
    let hearing = async { while let Some(Ok(_)) = stream.next().await {} };
    let telling = async {
        let mut told = first;
        loop {
            for line in told.lines {
                if sink.feed(Frame::Text(line.into())).await.is_err() {
                    return;
                }
            }
            if sink.flush().await.is_err() {
                return;
            }
            told = match reading.next(AWAKE).await {
                Ok(told) => told,
                Err(_) => break,
            };
            if told.lines.is_empty() && sink.send(Frame::Ping(Bytes::new())).await.is_err() {
                return;
            }
        }
        if sink.close().await.is_err() {
            tracing::debug!("the socket of a link was gone at its end");
        }
    };
    tokio::select! {
        () = hearing => {}
        () = telling => {}
    }
}

/// `DELETE /ws/bridge/link/{link}?code=`.
async fn end(Named(link): Named, Query(with): Query<With>) -> Response {
    match link.end(with.code.unwrap_or(NORMAL)).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => no_link(error),
    }
}

/// One that reads a link from after a number on.
struct Reading {
    link: Link,
    after: u64,
    reader: Reader,
}

impl Reading {
    fn new(link: Link, after: u64) -> Self {
        Self {
            link,
            after,
            reader: Reader::New,
        }
    }

    async fn next(&mut self, wait: Duration) -> Result<Told, NoLink> {
        let (after, reader) = (self.after, self.reader);
        let asking = self.link.ask(|reply| Ask::Tell {
            after,
            reader,
            wait,
            reply,
        });
        let (reader, told) = asking.await?;
        self.reader = reader;
        self.after += told.lines.len() as u64;
        Ok(told)
    }
}

/// The number after which to tell.
#[derive(Deserialize)]
struct From {
    #[serde(default)]
    after: u64,
}

/// The code of an end.
#[derive(Deserialize)]
struct With {
    code: Option<u16>,
}

/// The link that a request names, by somebody who may ask things of it.
struct Named(Link);

impl FromRequestParts<Hub> for Named {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Self, Response> {
        let Some(token) = bearer(&parts.headers) else {
            return Err(not_accepted("no pairing token was sent"));
        };
        let gone = |_| no_link(NoLink::Ended);
        let Path(id) = Path::<String>::from_request_parts(parts, hub)
            .await
            .map_err(|_| no_link(NoLink::Ended))?;
        let Extension(links) = Extension::<Links>::from_request_parts(parts, hub)
            .await
            .map_err(gone)?;
        let found = links.find(id, access::hash(&token)).await;
        let link = found.ok_or_else(|| no_link(NoLink::Ended))?;
        if let Some(visitor) = parts.extensions.get::<Visitor>() {
            visitor.welcome();
        }
        Ok(Self(link))
    }
}

fn no_link(error: NoLink) -> Response {
    let (status, code) = match error {
        NoLink::Ended => (StatusCode::GONE, "link_ended"),
        NoLink::ReadElsewhere => (StatusCode::CONFLICT, "link_read_elsewhere"),
        NoLink::OutOfStep(_) => (StatusCode::CONFLICT, "link_out_of_step"),
    };
    let hint = Some("open a new one");
    refusal(status, code, &error.to_string(), hint)
}

fn later(code: &str, message: &str) -> Response {
    let mut response = refusal(StatusCode::SERVICE_UNAVAILABLE, code, message, None);
    let seconds = HeaderValue::from_static("1");
    response.headers_mut().insert(header::RETRY_AFTER, seconds);
    response
}

fn text(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What a batch may hold.
const MOST: Most = Most {
    lines: 256,
    bytes: 256 << 10,
};
/// The longest frame, and what stands around it where it does not go as it is.
const BODY: usize = MAX_FRAME_BYTES + (1 << 20);
/// How long a poll waits; below what common proxies allow.
const POLL: Duration = Duration::from_secs(20);
/// How often a reader that is told nothing hears so.
const AWAKE: Duration = Duration::from_secs(10);
/// What a reader may say on its socket.
const SMALL: usize = 4 << 10;
const NORMAL: u16 = 1000;
