//! The endpoint over HTTP: sends a request and passes on what comes, lists models, and looks
//! whether anybody is there. No redirect is followed, so that neither key nor prompt reaches a
//! host that nobody named.

use std::time::{Duration, SystemTime};

use bridge_proto::Secret;
use reqwest::{
    Client, Method, RequestBuilder, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER},
    redirect::Policy,
};
use serde_json::Value;
use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::{
    models,
    reply::Head,
    settings::{Api, BaseUrl, ChatSettings},
    trouble::{Trouble, refusal},
};
use crate::plain::sentence;

/// An endpoint that can be asked.
#[derive(Debug)]
pub(super) struct Endpoint {
    client: Client,
    base: BaseUrl,
    api: Api,
    authorization: Option<HeaderValue>,
}

/// Why an endpoint cannot be asked at all.
#[derive(Debug, Error)]
pub(super) enum EndpointError {
    /// No header can carry the key.
    #[error("the key has characters that no key has")]
    Key,
    /// No client could be made.
    #[error("no HTTP client can be made")]
    Client(#[from] reqwest::Error),
}

/// What is heard of a response, in order.
#[derive(Debug)]
pub(super) enum Heard {
    /// It begins.
    Head(Head),
    /// More of its body.
    Bytes(Vec<u8>),
    /// It is over.
    End,
    /// There is none, or no more of it.
    Broken(String),
}

/// A request that runs; dropping it hangs up.
#[derive(Debug)]
pub(super) struct Running {
    heard: mpsc::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Endpoint {
    /// The endpoint of the settings.
    pub(super) fn new(
        settings: &ChatSettings,
        key: Option<&Secret>,
    ) -> Result<Self, EndpointError> {
        if rustls::crypto::ring::default_provider()
            .install_default()
            .is_err()
        {
            tracing::debug!("a crypto provider was already there");
        }
        let mut client = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .user_agent(concat!("ctrlnode/", env!("CARGO_PKG_VERSION")));
        if settings.base.is_loopback() {
            client = client.no_proxy();
        }
        let authorization = key
            .filter(|key| !key.is_empty())
            .map(|key| {
                let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose()))
                    .map_err(|_| EndpointError::Key)?;
                value.set_sensitive(true);
                Ok::<_, EndpointError>(value)
            })
            .transpose()?;
        Ok(Self {
            client: client.build()?,
            base: settings.base.clone(),
            api: settings.api,
            authorization,
        })
    }

    /// Sends a request for an answer. Must be called on a Tokio runtime.
    pub(super) fn ask(&self, request: &Value) -> Running {
        let request = self
            .request(Method::POST, "/v1/chat/completions")
            .header(CONTENT_TYPE, "application/json")
            .body(request.to_string());
        let base = self.base.clone();
        let (sender, heard) = mpsc::channel(HEARD_ROOM);
        let task = tokio::spawn(async move {
            let last = match pass_on(request, &sender).await {
                Ok(()) => Heard::End,
                Err(error) => Heard::Broken(reason(&base, error)),
            };
            // Nobody waits for the end of a request that was dropped.
            drop(sender.send(last).await);
        });
        Running { heard, task }
    }

    /// The models it lists.
    pub(super) async fn models(&self, limit: Duration) -> Result<Vec<String>, Trouble> {
        let path = match self.api {
            Api::OpenAi => "/v1/models",
            Api::Ollama => "/api/tags",
        };
        Ok(models::read(&self.document(path, limit).await?))
    }

    /// Whether it is there and lets us in; the version where it tells one.
    pub(super) async fn check(&self, limit: Duration) -> Result<Option<String>, Trouble> {
        let path = match self.api {
            Api::OpenAi => "/v1/models",
            Api::Ollama => "/api/version",
        };
        let document = self.document(path, limit).await?;
        let version = document.get("version").and_then(Value::as_str);
        Ok(version.map(|version| sentence(version, 50)))
    }

    async fn document(&self, path: &str, limit: Duration) -> Result<Value, Trouble> {
        let fetched = timeout(limit, self.fetch(path)).await;
        fetched.unwrap_or(Err(Trouble::Silent(limit)))
    }

    async fn fetch(&self, path: &str) -> Result<Value, Trouble> {
        let broken = |error| Trouble::Broken(reason(&self.base, error));
        let mut response = self
            .request(Method::GET, path)
            .send()
            .await
            .map_err(broken)?;
        let head = head_of(&response);
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(broken)? {
            if body.len() + piece.len() > DOCUMENT_BYTES {
                return Err(Trouble::Unfit("its list of models is too long".into()));
            }
            body.extend_from_slice(&piece);
        }
        match head.status {
            200..=299 => serde_json::from_slice(&body).map_err(|_| {
                Trouble::Unfit("it does not answer as such an endpoint; check the address".into())
            }),
            300..=399 => Err(Trouble::Unfit(
                "it sends us elsewhere, which is not followed; give the final address".into(),
            )),
            status => Err(Trouble::Refused {
                status,
                message: refusal(status, &body),
                retry_after: head.retry_after,
            }),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, self.base.at(path));
        match &self.authorization {
            Some(value) => request.header(AUTHORIZATION, value.clone()),
            None => request,
        }
    }
}

impl Running {
    /// What is heard next; `None` after the end.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes the response on until it is over or nobody listens.
async fn pass_on(
    request: RequestBuilder,
    sender: &mpsc::Sender<Heard>,
) -> Result<(), reqwest::Error> {
    let mut response = request.send().await?;
    if sender.send(Heard::Head(head_of(&response))).await.is_err() {
        return Ok(());
    }
    while let Some(piece) = response.chunk().await? {
        if sender.send(Heard::Bytes(piece.to_vec())).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn head_of(response: &Response) -> Head {
    let headers = response.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Head {
        status: response.status().as_u16(),
        kind: text(CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase(),
        retry_after: retry_after(headers),
        location: text(LOCATION).map(str::to_owned),
    }
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(
        until
            .duration_since(SystemTime::now())
            .unwrap_or(Duration::ZERO),
    )
}

/// What went wrong, without the layers of words around it.
fn reason(base: &BaseUrl, error: reqwest::Error) -> String {
    let connecting = error.is_connect();
    let error = error.without_url();
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    let inner = sentence(&inner.to_string(), 200);
    if connecting {
        format!("{base} cannot be reached ({inner})")
    } else {
        format!("the connection to {base} broke ({inner})")
    }
}

/// Of a connection; the answer itself may take its time.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Pieces that wait to be read; the endpoint waits with them.
const HEARD_ROOM: usize = 16;
/// Of a list of models.
const DOCUMENT_BYTES: usize = 8 << 20;
