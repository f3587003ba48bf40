//! A model server on loopback that answers as a script in the prompt tells it: the real agents run
//! against it without a network and without an account.
//!
//! It speaks what the agents of the end-to-end tests speak: the Anthropic Messages API, the Gemini
//! API, and the responses and chat completions of OpenAI (the latter also as Ollama speaks them),
//! streamed and whole. It keeps no conversation state; everything follows from the request and, for errors that happen once, from
//! what was answered before, so each answer is a pure function ([`answer`]) and only the sending
//! knows of time.
//!
//! The last line of the current prompt that begins with `@mock` is the script:
//!
//! | line | answer |
//! |---|---|
//! | `@mock text [N]` | N increments of text (12), 10 ms apart |
//! | `@mock flood [N]` | N increments of text (2,000) as fast as they go |
//! | `@mock slow [N]` | N increments of text (600), 100 ms apart |
//! | `@mock think [N]` | N increments of reasoning (8), then text |
//! | `@mock write PATH` | a call of the tool that writes a file, then text |
//! | `@mock read PATH` | a call of the tool that reads a file, then text |
//! | `@mock edit PATH` | reads PATH, replaces [`BEFORE`] in it by [`AFTER`], then text |
//! | `@mock shell COMMAND` | a call of the tool that runs commands, then text |
//! | `@mock linger COMMAND` | the same, then text as slow as that of `slow` |
//! | `@mock recall` | the earlier prompts of the conversation, in their own words |
//! | `@mock error STATUS` | an HTTP error as the vendor words it; 429 with `retry-after: 1` |
//! | `@mock error STATUS once` | the same for the first request that plays this line, then text |
//!
//! Without such a line the prompt is echoed. Tools are addressed by the names, and filled by the
//! schemas, that the agent offers. Relative paths are completed with the working directory the
//! agent names in its prompts. Side requests (titles, routing, token counts, lists of models) get
//! the shortest answer that makes sense.

mod anthropic;
mod gemini;
mod offered;
mod openai;
mod responses;
mod script;

use std::{convert::Infallible, future::IntoFuture as _, io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State},
    http::{HeaderValue, Method, StatusCode, Uri, header},
    response::Response,
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

pub use self::script::{AFTER, BEFORE, WRITTEN};

/// A running model server. Dropping it ends it, with all answers that are being sent.
#[derive(Debug)]
pub struct MockModel {
    address: SocketAddr,
    asked: watch::Receiver<Vec<Asked>>,
    closing: watch::Sender<()>,
    server: JoinHandle<io::Result<()>>,
}

/// One request, as far as tests care.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The path of the request.
    pub path: String,
    /// The model it names; empty where it names none.
    pub model: String,
    /// The script line that was played, without `@mock`; `None` for side requests and echoes.
    pub script: Option<String>,
    /// How many tool results came after the script line.
    pub step: usize,
    /// The names of the tools that were offered.
    pub tools: Vec<String>,
    /// The status of the answer.
    pub status: u16,
}

impl MockModel {
    /// Starts it on a free port of 127.0.0.1. Must be called on a tokio runtime.
    pub async fn start() -> io::Result<Self> {
        Self::start_at(0).await
    }

    /// Starts it on this port of 127.0.0.1; 0: a free one.
    pub async fn start_at(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let (asking, asked) = watch::channel(Vec::new());
        let (closing, closed) = watch::channel(());
        let router = Router::new()
            .fallback(serve)
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Server {
                asking,
                closed: closed.clone(),
            });
        let server = axum::serve(listener, router).with_graceful_shutdown(closing_of(closed));
        let server = tokio::spawn(server.into_future());
        Ok(Self {
            address,
            asked,
            closing,
            server,
        })
    }

    /// Its address without a path: `http://127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far, oldest first; the newest 4,096 are kept.
    pub fn log(&self) -> Vec<Asked> {
        self.asked.borrow().clone()
    }

    /// The requests so far, and word of every further one.
    pub fn watch(&self) -> watch::Receiver<Vec<Asked>> {
        self.asked.clone()
    }

    /// Ends it: answers that are being sent break off. Returns when all connections are closed.
    pub async fn shutdown(self) -> io::Result<()> {
        drop(self.closing);
        self.server.await.map_err(io::Error::other)?
    }
}

#[derive(Clone)]
struct Server {
    asking: watch::Sender<Vec<Asked>>,
    closed: watch::Receiver<()>,
}

async fn serve(State(server): State<Server>, method: Method, uri: Uri, body: Bytes) -> Response {
    let before = server.asking.borrow().clone();
    let (asked, reply) = answer(&method, uri.path(), &body, &before);
    server.asking.send_modify(|log| {
        if log.len() >= MAX_LOG {
            log.remove(0);
        }
        log.push(asked);
    });
    response(reply, server.closed)
}

fn response(reply: Reply, closed: watch::Receiver<()>) -> Response {
    let (status, kind, body) = match reply {
        Reply::Whole { status, body } => (status, "application/json", Body::from(body.to_string())),
        Reply::Stream(frames) => {
            let paced = stream::iter(frames).then(|frame| async move {
                if !frame.after.is_zero() {
                    tokio::time::sleep(frame.after).await;
                }
                Ok::<_, Infallible>(frame.text)
            });
            let paced = paced.take_until(Box::pin(closing_of(closed)));
            (
                StatusCode::OK,
                "text/event-stream",
                Body::from_stream(paced),
            )
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if status == StatusCode::TOO_MANY_REQUESTS {
        let seconds = HeaderValue::from_static("1");
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Resolves when the sending half is dropped.
async fn closing_of(mut closed: watch::Receiver<()>) {
    while closed.changed().await.is_ok() {}
}

/// What goes back.
#[derive(Debug, Clone, PartialEq)]
enum Reply {
    /// One JSON document.
    Whole { status: StatusCode, body: Value },
    /// Server-sent events.
    Stream(Vec<Frame>),
}

impl Reply {
    fn ok(body: Value) -> Self {
        Self::Whole {
            status: StatusCode::OK,
            body,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Whole { status, .. } => *status,
            Self::Stream(_) => StatusCode::OK,
        }
    }
}

/// One server-sent event, and how long after the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    after: Duration,
    text: String,
}

impl Frame {
    fn now(text: String) -> Self {
        Self {
            after: Duration::ZERO,
            text,
        }
    }
}

/// The answer to a request after those before it. Pure.
fn answer(method: &Method, path: &str, body: &[u8], before: &[Asked]) -> (Asked, Reply) {
    let path = path.trim_end_matches('/');
    let body = if body.is_empty() {
        Ok(Value::Null)
    } else {
        serde_json::from_slice(body)
    };
    let mut asked = Asked {
        path: path.to_owned(),
        model: String::new(),
        script: None,
        step: 0,
        tools: Vec::new(),
        status: 0,
    };
    let reply = match body {
        Ok(body) => route(method, path, &body, &mut asked, before),
        Err(error) => refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    asked.status = reply.status().as_u16();
    (asked, reply)
}

fn route(method: &Method, path: &str, body: &Value, asked: &mut Asked, before: &[Asked]) -> Reply {
    let posted = *method == Method::POST;
    let gemini = path
        .rsplit_once("/models/")
        .and_then(|(_, call)| call.split_once(':'));
    let (talk, render): (_, fn(&script::Talk, script::Plan) -> Reply) = match (path, gemini) {
        ("", _) => return Reply::ok(json!({})),
        (_, Some((_, "countTokens"))) => return Reply::ok(json!({ "totalTokens": 100 })),
        (_, Some((model, "generateContent"))) if posted => {
            (gemini::read(body, model, false), gemini::render)
        }
        (_, Some((model, "streamGenerateContent"))) if posted => {
            (gemini::read(body, model, true), gemini::render)
        }
        (path, _) if posted && path.ends_with("/messages/count_tokens") => {
            return Reply::ok(json!({ "input_tokens": 100 }));
        }
        (path, _) if posted && path.ends_with("/messages") => {
            (anthropic::read(body), anthropic::render)
        }
        (path, _) if posted && path.ends_with("/chat/completions") => {
            (openai::read(body), openai::render)
        }
        (path, _) if posted && path.ends_with("/responses") => {
            (responses::read(body), responses::render)
        }
        (path, _) if !posted && path.ends_with("/models") => return models(path),
        ("/api/tags", _) if !posted => return pulled(),
        ("/api/version", _) if !posted => return Reply::ok(json!({ "version": "0.0.0-mock" })),
        (path, _) => {
            return refusal(
                StatusCode::NOT_FOUND,
                &format!("there is no {method} {path}"),
            );
        }
    };
    let (directive, step, mut plan) = script::plan(&talk);
    let fails_once = directive.as_deref().is_some_and(script::is_once);
    if fails_once && before.iter().any(|asked| asked.script == directive) {
        plan = script::after_failure();
    }
    asked.model.clone_from(&talk.model);
    asked.tools = talk.tools.iter().map(|tool| tool.name.clone()).collect();
    asked.script = directive;
    asked.step = step;
    render(&talk, plan)
}

/// One list that is read as the vendor's own by each of the APIs.
fn models(path: &str) -> Reply {
    if path.contains("v1beta") {
        let methods = ["generateContent", "streamGenerateContent", "countTokens"];
        return Reply::ok(json!({ "models": [{
            "name": "models/mock-model",
            "displayName": "Mock model",
            "supportedGenerationMethods": methods,
        }] }));
    }
    Reply::ok(json!({
        "object": "list",
        "data": [{
            "id": "mock-model",
            "object": "model",
            "type": "model",
            "display_name": "Mock model",
            "created": 0,
            "created_at": "2025-01-01T00:00:00Z",
            "owned_by": "mock",
        }],
        // Codex has another word for it, and a catalogue of its own.
        "models": [],
        "has_more": false,
        "first_id": "mock-model",
        "last_id": "mock-model",
    }))
}

/// The models of an Ollama.
fn pulled() -> Reply {
    Reply::ok(json!({ "models": [{ "name": "mock-model:latest", "model": "mock-model:latest" }] }))
}

fn refusal(status: StatusCode, message: &str) -> Reply {
    let body = json!({ "error": { "type": "invalid_request_error", "message": message } });
    Reply::Whole { status, body }
}

/// A tenth of what an agent's whole history may come to.
const MAX_BODY: usize = 64 << 20;
/// Requests that are kept for tests to look at.
const MAX_LOG: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, body: &Value) -> (Asked, Reply) {
        answer(&Method::POST, path, body.to_string().as_bytes(), &[])
    }

    fn chat(prompt: &str) -> Value {
        json!({ "stream": true, "messages": [{ "role": "user", "content": prompt }] })
    }

    #[test]
    fn unknown_addresses_and_broken_bodies_are_refused() {
        let (asked, _) = asked("/v1/nothing", &Value::Null);
        assert_eq!((asked.status, asked.script), (404, None));
        let (asked, _) = answer(&Method::POST, "/v1/messages", b"{", &[]);
        assert_eq!(asked.status, 400);
        assert_eq!(answer(&Method::HEAD, "/", b"", &[]).0.status, 200);
    }

    #[test]
    fn lists_of_models_and_token_counts_are_answered_without_a_script() {
        for path in ["/v1/models", "/v1beta/models", "/api/tags", "/api/version"] {
            assert_eq!(answer(&Method::GET, path, b"", &[]).0.status, 200, "{path}");
        }
        for path in ["/v1/messages/count_tokens", "/v1beta/models/m:countTokens"] {
            let (asked, reply) = asked(path, &chat("@mock error 500"));
            assert_eq!(
                (asked.status, asked.script),
                (200, None),
                "{path} {reply:?}"
            );
        }
    }

    #[test]
    fn the_log_says_what_was_played() {
        let (asked, _) = asked("/v1/chat/completions", &chat("Hi\n@mock error 401"));
        assert_eq!(
            (asked.status, asked.script.as_deref()),
            (401, Some("error 401"))
        );
    }

    #[test]
    fn an_error_that_happens_once_is_followed_by_an_answer() {
        let body = chat("Hi\n@mock error 429 once").to_string();
        let ask = |before: &[Asked]| {
            let path = "/v1/chat/completions";
            answer(&Method::POST, path, body.as_bytes(), before).0
        };
        let first = ask(&[]);
        assert_eq!(first.status, 429);
        assert_eq!(ask(&[first]).status, 200);
        let (other, _) = asked("/v1/chat/completions", &chat("@mock error 503 once"));
        assert_eq!(ask(&[other]).status, 429);
    }

    #[tokio::test]
    async fn too_many_requests_come_with_a_hint_when_to_ask_again() {
        let model = MockModel::start().await.unwrap();
        let url = format!("{}/v1/chat/completions", model.address());
        let send = || {
            let client = crate::loopback::http_client();
            client
                .post(&url)
                .body(chat("@mock error 429 once").to_string())
                .send()
        };
        let refused = send().await.unwrap();
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["retry-after"]),
            (429, &"1".parse().unwrap())
        );
        assert_eq!(send().await.unwrap().status(), 200);
        model.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn answers_arrive_in_pieces_and_shutdown_breaks_them_off() {
        let model = MockModel::start().await.unwrap();
        let url = format!("{}/v1/chat/completions", model.address());
        let client = crate::loopback::http_client();
        let send = |prompt: &str| client.post(&url).body(chat(prompt).to_string()).send();

        let whole = send("@mock text 7").await.unwrap().text().await.unwrap();
        assert!(whole.ends_with("data: [DONE]\n\n"), "{whole}");
        assert_eq!(whole.matches(r#"{"content":"word"#).count(), 7);

        let mut slow = send("@mock slow").await.unwrap();
        assert!(slow.chunk().await.unwrap().is_some());
        assert_eq!(model.log().len(), 2);
        model.shutdown().await.unwrap();
        let mut rest = String::new();
        while let Ok(Some(chunk)) = slow.chunk().await {
            rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        assert!(!rest.contains("[DONE]"));
    }
}
