//! The HTTP side of the gateway.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Line, TOKEN, brain::ToBrain, script::Step};

/// What every request can reach.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) brain: mpsc::Sender<ToBrain>,
    pub(super) line: watch::Sender<Line>,
}

impl Doors {
    /// How often connections were cut so far.
    pub(super) fn generation(&self) -> u64 {
        match &*self.line.borrow() {
            Line::Cut(n) => *n,
            Line::Open | Line::Dead(_) => 0,
        }
    }
}

pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "ok": true, "status": "live" }))
}

pub(super) async fn readyz() -> Json<Value> {
    Json(json!({ "ready": true, "failing": [] }))
}

pub(super) async fn completions(
    State(doors): State<Doors>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    let bearer = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    if bearer != Some(&format!("Bearer {TOKEN}")) {
        let error = json!({ "error": { "message": "Unauthorized", "type": "unauthorized" } });
        return (StatusCode::UNAUTHORIZED, Json(error)).into_response();
    }
    let session = headers.get("x-openclaw-session-key");
    let session = session
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let text = body["messages"][0]["content"].as_str().unwrap_or_default();
    let (reply, replied) = oneshot::channel();
    let prompt = ToBrain::Prompt {
        session: session.to_owned(),
        text: text.to_owned(),
        reply,
    };
    drop(doors.brain.send(prompt).await);
    let Ok((steps, earlier)) = replied.await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let mut chunks = Vec::new();
    let mut hangs = false;
    let mut say = |text: &str| {
        for word in text.split_inclusive(' ') {
            let delta = json!({ "content": word });
            chunks.push(json!({ "choices": [{ "index": 0, "delta": delta }] }));
        }
    };
    let mut error = None;
    for step in steps {
        match step {
            Step::Say(text) => say(&text),
            Step::Stream(pieces) => (1..=pieces).for_each(|n| say(&format!("w{n} "))),
            Step::Remember => say(&format!("Before: {}.", earlier.join(", "))),
            Step::Error(reason) => {
                error = Some(json!({ "error": { "message": reason, "type": "api_error" } }));
            }
            Step::Hang | Step::Listen | Step::Deaf => hangs = true,
            Step::Tool
            | Step::Ask
            | Step::Retry
            | Step::Clock(..)
            | Step::Background
            | Step::Escapes
            | Step::Wrong
            | Step::Unknown
            | Step::Stray
            | Step::Reuse
            | Step::OddEnd
            | Step::Children { .. }
            | Step::Exit(_)
            | Step::BigLine(_)
            | Step::Garbage
            | Step::Stderr(_)
            | Step::ExitAfter(_) => {}
        }
    }
    chunks.extend(error);
    let mut frames: Vec<String> = chunks
        .iter()
        .map(|chunk| format!("data: {chunk}\n\n"))
        .collect();
    if !hangs {
        frames.push("data: [DONE]\n\n".into());
    }
    let frames = frames.into_iter().map(Ok::<_, std::io::Error>);
    let said = stream::iter(frames);
    let body = if hangs {
        Body::from_stream(futures_util::StreamExt::chain(said, stream::pending()))
    } else {
        Body::from_stream(said)
    };
    ([(CONTENT_TYPE, "text/event-stream")], body).into_response()
}
