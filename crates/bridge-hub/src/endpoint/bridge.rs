//! `/ws/bridge`: the door for machines.
//!
//! A bridge shows its pairing token as `Authorization: Bearer`. A token that is not accepted is
//! answered with 401 and a body that says so. `x-bridge-extension: 1` is accepted by answering with
//! the same header; only then whole events are taken. A frame that cannot be read is counted,
//! logged and dropped; the connection goes on. A bridge that is silent for a minute is dropped.

use std::time::Duration;

use axum::{
    Json,
    body::Bytes,
    extract::{
        State,
        ws::{
            CloseFrame, Message as Frame, WebSocket, WebSocketUpgrade,
            rejection::WebSocketUpgradeRejection,
        },
    },
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use bridge_proto::{
    BridgeId,
    ctrlnode::{MAX_FRAME_BYTES, plane},
};
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, interval_at, timeout},
};

use super::failure;
use crate::{
    access,
    guard::bearer,
    hub::Hub,
    owner::{Message, Outgoing},
    state::ConnId,
};

/// `GET /ws/bridge`.
pub(crate) async fn connect(
    State(hub): State<Hub>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Some(token) = bearer(&headers) else {
        return not_accepted("no pairing token was sent");
    };
    let bridge = match hub.store.bridge_by_token(access::hash(&token)).await {
        Ok(Some(bridge)) => bridge.id,
        Ok(None) => {
            tracing::warn!("a bridge with an unknown pairing token was refused");
            return not_accepted("it is wrong or was revoked");
        }
        Err(error) => return failure::response(&error.into()),
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let extended = headers.get(EXTENSION).is_some_and(|offer| offer == "1");
    let mut response = upgrade
        .max_frame_size(MAX_FRAME_BYTES)
        .max_message_size(MAX_FRAME_BYTES)
        .on_upgrade(move |socket| serve(hub, bridge, extended, socket));
    if extended {
        response
            .headers_mut()
            .insert(EXTENSION, HeaderValue::from_static("1"));
    }
    response
}

fn not_accepted(why: &str) -> Response {
    let body = json!({
        "error": format!("pairing token not accepted: {why}"),
        "hint": "make a new pairing token on the hub and set it up on this machine",
    });
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}

async fn serve(hub: Hub, bridge: BridgeId, extended: bool, socket: WebSocket) {
    let (out, outgoing) = mpsc::channel(OUTGOING);
    let (reply, conn) = oneshot::channel();
    let opened = Message::Opened {
        bridge: bridge.clone(),
        extended,
        out,
        reply,
    };
    if hub.tell(opened).await.is_err() {
        return;
    }
    let Ok(conn) = conn.await else { return };
    tracing::info!(machine = %bridge, extended, "bridge connected");
    let (sink, stream) = socket.split();
    let why = tokio::select! {
        why = read(&hub, conn, stream) => why,
        why = write(sink, outgoing) => why,
    };
    tracing::info!(machine = %bridge, why, "bridge disconnected");
    if hub.tell(Message::Closed { conn }).await.is_err() {
        tracing::debug!("the hub has stopped");
    }
}

async fn read(hub: &Hub, conn: ConnId, mut stream: SplitStream<WebSocket>) -> &'static str {
    let mut unreadable: u64 = 0;
    loop {
        let frame = match timeout(SILENCE, stream.next()).await {
            Err(_) => return "silent",
            Ok(None) => return "closed",
            Ok(Some(Err(error))) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "socket failed");
                return "broken";
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Ping(_) | Frame::Pong(_) => continue,
            Frame::Close(_) => return "closed by the bridge",
            Frame::Binary(bytes) => {
                unreadable += 1;
                tracing::warn!(bytes = bytes.len(), unreadable, "binary frame dropped");
                continue;
            }
        };
        match plane::decode(text.as_bytes()) {
            Ok(message) => {
                if hub.tell(Message::Said { conn, message }).await.is_err() {
                    return "the hub has stopped";
                }
            }
            Err(error) => {
                unreadable += 1;
                tracing::warn!(%error, unreadable, "unreadable frame dropped");
            }
        }
    }
}

async fn write(
    mut sink: SplitSink<WebSocket, Frame>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) -> &'static str {
    let mut pings = interval_at(Instant::now() + PING, PING);
    loop {
        let frame = tokio::select! {
            next = outgoing.recv() => match next {
                Some(Outgoing::Frame(text)) => Frame::Text(text.into()),
                Some(Outgoing::Close(why)) => {
                    let (code, reason) = why.close();
                    let close = Frame::Close(Some(CloseFrame { code, reason: reason.into() }));
                    return match timeout(CLOSING, sink.send(close)).await {
                        Ok(Ok(())) => reason,
                        Ok(Err(_)) | Err(_) => "closed without a word",
                    };
                }
                None => return "let go",
            },
            _ = pings.tick() => Frame::Ping(Bytes::new()),
        };
        match timeout(STALL, sink.send(frame)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return "broken",
            Err(_) => return "does not read",
        }
    }
}

const EXTENSION: HeaderName = HeaderName::from_static("x-bridge-extension");
/// Frames that wait for one bridge.
const OUTGOING: usize = 256;
/// Keeps proxies from closing an idle connection, and makes a live bridge answer.
const PING: Duration = Duration::from_secs(20);
/// Three pings without an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// A frame of 32 MiB on a slow line takes its time.
const STALL: Duration = Duration::from_secs(60);
const CLOSING: Duration = Duration::from_secs(1);
