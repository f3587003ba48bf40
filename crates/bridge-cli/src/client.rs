//! The hub's API as the command line uses it.

use std::{path::Path, time::Duration};

use bridge_hub::{Applies, Machine, OpenAsk, StoredEvent, TaskSummary, TaskView, TokenView, Told};
use bridge_proto::{
    Secret,
    model::{Tuning, When},
};
use eventsource_stream::Eventsource as _;
use futures_util::{Stream, StreamExt as _};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::Url;

use crate::{
    args::HubAddress,
    reach::Reach,
    report::{Exit, Problem},
    settings::variable,
    state::StateFolder,
};

/// A hub that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    reach: Reach,
    token: Secret,
}

#[derive(Deserialize)]
struct Refusal {
    error: RefusalBody,
}

#[derive(Deserialize)]
struct RefusalBody {
    #[serde(default)]
    code: String,
    message: String,
    hint: Option<String>,
}

#[derive(Deserialize)]
struct Machines {
    bridges: Vec<Machine>,
}

#[derive(Deserialize)]
struct Tasks {
    tasks: Vec<TaskSummary>,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<TokenView>,
}

/// A pairing token that was just made.
#[derive(Deserialize)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) token: String,
}

#[derive(Deserialize)]
struct Asks {
    asks: Vec<OpenAsk>,
}

#[derive(Deserialize)]
struct MadeTask {
    id: String,
}

#[derive(Deserialize)]
struct MadeRun {
    attempt: String,
}

#[derive(Deserialize)]
struct Tuned {
    applies: Applies,
}

#[derive(Deserialize)]
struct Cancelled {
    /// Older hubs do not say it.
    told: Option<Told>,
}

#[derive(Deserialize)]
struct LoginPath {
    path: String,
}

/// A result file in a listing.
#[derive(Debug, Deserialize, serde::Serialize)]
pub(crate) struct ResultFile {
    pub(crate) path: String,
    pub(crate) size: Option<u64>,
    pub(crate) is_dir: bool,
}

#[derive(Deserialize)]
struct Files {
    files: Vec<ResultFile>,
}

impl Client {
    /// The hub that was named, or the one that left its note on this machine.
    pub(crate) fn find(address: &HubAddress) -> Result<Self, Problem> {
        let note = StateFolder::locate(address.state.as_deref())?.note();
        let named = address.hub.clone();
        let own_token = variable("CTRLNODE_API_TOKEN").map(|token| Secret::new(&token));
        let (base, public, token) = match (named, note, own_token) {
            (Some(base), _, Some(token)) => (base, None, token),
            (Some(base), Some(note), None) if note.address == base => {
                let token = note.token();
                (base, note.public, token)
            }
            (Some(_), _, None) => {
                return Err(Problem::new("a hub was named, but no token for it")
                    .hint("set CTRLNODE_API_TOKEN to an API token of that hub")
                    .exit(Exit::NotConfigured));
            }
            (None, Some(note), _) => {
                let token = note.token();
                (note.address, note.public, token)
            }
            (None, None, _) => return Err(no_hub("no hub is running on this machine")),
        };
        let reach = Reach::new(&base, public.as_deref());
        let base = Url::parse(&base).map_err(|error| {
            Problem::new(format!("{base} is not an address"))
                .because(error)
                .exit(Exit::NoHub)
        })?;
        let provider = rustls::crypto::ring::default_provider();
        if provider.install_default().is_err() {
            tracing::debug!("a crypto provider was already there");
        }
        let mut http = reqwest::Client::builder().connect_timeout(Duration::from_secs(5));
        if base
            .host_str()
            .is_some_and(|host| host == "127.0.0.1" || host == "localhost")
        {
            http = http.no_proxy();
        }
        let http = http
            .build()
            .map_err(|error| Problem::new("no HTTP client can be made").because(error))?;
        Ok(Self {
            http,
            base,
            reach,
            token,
        })
    }

    /// Under which addresses it is reached, as far as this machine knows.
    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    pub(crate) async fn machines(&self) -> Result<Vec<Machine>, Problem> {
        Ok(self.get::<Machines>("bridges", &[]).await?.bridges)
    }

    pub(crate) async fn tasks(&self, limit: u32) -> Result<Vec<TaskSummary>, Problem> {
        let limit = limit.to_string();
        Ok(self
            .get::<Tasks>("tasks", &[("limit", &limit)])
            .await?
            .tasks)
    }

    pub(crate) async fn task(&self, id: &str) -> Result<TaskView, Problem> {
        self.get(&format!("tasks/{id}"), &[]).await
    }

    pub(crate) async fn asks(&self) -> Result<Vec<OpenAsk>, Problem> {
        Ok(self.get::<Asks>("asks", &[]).await?.asks)
    }

    pub(crate) async fn files(&self, id: &str) -> Result<Vec<ResultFile>, Problem> {
        Ok(self
            .get::<Files>(&format!("tasks/{id}/files"), &[])
            .await?
            .files)
    }

    pub(crate) async fn create(&self, task: &Value) -> Result<String, Problem> {
        let made: MadeTask = self.call(Method::POST, "tasks", Some(task)).await?;
        Ok(made.id)
    }

    /// Gives the attempt of the run that was made.
    pub(crate) async fn follow_up(
        &self,
        id: &str,
        text: &str,
        when: When,
    ) -> Result<String, Problem> {
        let body = json!({ "text": text, "when": when });
        let path = format!("tasks/{id}/followups");
        let made: MadeRun = self.call(Method::POST, &path, Some(&body)).await?;
        Ok(made.attempt)
    }

    pub(crate) async fn interrupt(&self, id: &str) -> Result<(), Problem> {
        let path = format!("tasks/{id}/interrupt");
        self.call::<Value>(Method::POST, &path, None)
            .await
            .map(drop)
    }

    /// Says when the settings are in force.
    pub(crate) async fn tune(&self, id: &str, tuning: &Tuning) -> Result<Applies, Problem> {
        let path = format!("tasks/{id}/tune");
        let body = serde_json::to_value(tuning).map_err(|error| {
            Problem::new("the settings cannot be written as JSON").because(error)
        })?;
        let tuned: Tuned = self.call(Method::POST, &path, Some(&body)).await?;
        Ok(tuned.applies)
    }

    pub(crate) async fn cancel(&self, id: &str) -> Result<Told, Problem> {
        let path = format!("tasks/{id}/cancel");
        let cancelled: Cancelled = self.call(Method::POST, &path, None).await?;
        Ok(cancelled.told.unwrap_or(Told::Now))
    }

    pub(crate) async fn answer(&self, id: &str, answer: &Value) -> Result<(), Problem> {
        let path = format!("tasks/{id}/answer");
        self.call::<Value>(Method::POST, &path, Some(answer))
            .await
            .map(drop)
    }

    pub(crate) async fn pairing_tokens(&self) -> Result<Vec<TokenView>, Problem> {
        Ok(self.get::<Tokens>("bridge-tokens", &[]).await?.tokens)
    }

    pub(crate) async fn make_pairing_token(&self, name: &str) -> Result<Made, Problem> {
        self.call(
            Method::POST,
            "bridge-tokens",
            Some(&json!({ "name": name })),
        )
        .await
    }

    pub(crate) async fn revoke_pairing_token(&self, id: &str) -> Result<(), Problem> {
        let response = self
            .send(Method::DELETE, &format!("bridge-tokens/{id}"), None)
            .await?;
        accepted(response).await.map(drop)
    }

    /// The address of a fresh one-time login.
    pub(crate) async fn login_address(&self) -> Result<String, Problem> {
        let made: LoginPath = self.call(Method::POST, "login-codes", None).await?;
        Ok(self.reach.page(&made.path))
    }

    /// The events of a task after `after`, until the connection ends.
    pub(crate) async fn events(
        &self,
        id: &str,
        after: u64,
    ) -> Result<impl Stream<Item = Result<StoredEvent, Problem>> + use<>, Problem> {
        let request = self.request(Method::GET, &format!("tasks/{id}/events"))?;
        let request = request.header("Last-Event-ID", after);
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        let stream = accepted(response).await?.bytes_stream().eventsource();
        Ok(stream.map(|event| {
            let event = event.map_err(|error| {
                Problem::new("the stream of events broke").because(error.to_string())
            })?;
            serde_json::from_str(&event.data).map_err(|error| {
                Problem::new("the hub sent an event this version does not know").because(error)
            })
        }))
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Problem> {
        let request = self.request(Method::GET, path)?.query(query);
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        read(accepted(response).await?).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Problem> {
        read(accepted(self.send(method, path, body).await?).await?).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<reqwest::Response, Problem> {
        let mut request = self.request(method, path)?;
        if let Some(body) = body {
            request = request.json(body);
        }
        request
            .send()
            .await
            .map_err(|error| self.unreachable(error))
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Problem> {
        let url = self
            .base
            .join(&format!("/api/v1/{path}"))
            .map_err(|error| {
                Problem::new(format!("{path} cannot be part of an address")).because(error)
            })?;
        Ok(self
            .http
            .request(method, url)
            .bearer_auth(self.token.expose()))
    }

    fn unreachable(&self, error: reqwest::Error) -> Problem {
        if error.is_connect() || error.is_timeout() {
            return no_hub(&format!("the hub at {} does not answer", self.base)).because(error);
        }
        Problem::new("the hub did not answer as expected").because(error)
    }
}

async fn accepted(response: reqwest::Response) -> Result<reqwest::Response, Problem> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = response.text().await.unwrap_or_default();
    let (message, hint) = match serde_json::from_str::<Refusal>(&text) {
        Ok(Refusal { error }) if error.code == "stopping" => return Err(no_hub(&error.message)),
        Ok(Refusal { error }) => (error.message, error.hint),
        Err(_) => (format!("the hub answered {status}"), None),
    };
    let mut problem = Problem::new(message);
    if let Some(hint) = hint {
        problem = problem.hint(hint);
    } else if status == StatusCode::UNAUTHORIZED {
        problem = problem.hint("the token is not known to this hub; was it started anew?");
    }
    Err(problem)
}

async fn read<T: DeserializeOwned>(response: reqwest::Response) -> Result<T, Problem> {
    response
        .json()
        .await
        .map_err(|error| Problem::new("the hub's answer cannot be read").because(error))
}

fn no_hub(message: &str) -> Problem {
    Problem::new(message)
        .hint("start one with `ctrlnode up` (a hub and a bridge on this machine) or name one with --hub")
        .exit(Exit::NoHub)
}

/// A file as the API takes it.
pub(crate) fn attachment(path: &Path) -> Result<Value, Problem> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let unreadable = || Problem::new(format!("{} cannot be attached", path.display()));
    let bytes = std::fs::read(path).map_err(|error| unreadable().because(error))?;
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(unreadable)?;
    Ok(json!({ "name": name, "content": STANDARD.encode(bytes) }))
}

#[cfg(test)]
mod tests {
    use wiremock::{
        Mock, MockServer, ResponseTemplate,
        matchers::{header, method, path},
    };

    use super::*;
    use crate::state::Note;

    fn client(hub: &MockServer) -> Client {
        client_of(&hub.uri())
    }

    /// A client of a hub, found by the note such a hub leaves.
    fn client_of(address: &str) -> Client {
        let home = tempfile::tempdir().unwrap();
        let state = StateFolder::locate(Some(home.path())).unwrap();
        let reach = Reach::new(address, None);
        let note = Note::new(&reach, "id".into(), &Secret::new("secret"));
        state.write_note(&note).unwrap();
        let address = HubAddress {
            hub: None,
            state: Some(home.path().to_owned()),
        };
        Client::find(&address).unwrap()
    }

    #[tokio::test]
    async fn the_token_of_the_note_is_sent_and_the_answer_read() {
        let hub = MockServer::start().await;
        Mock::given(method("POST"))
            .and(path("/api/v1/tasks"))
            .and(header("authorization", "Bearer secret"))
            .respond_with(ResponseTemplate::new(201).set_body_json(json!({ "id": "t1" })))
            .expect(1)
            .mount(&hub)
            .await;
        assert_eq!(client(&hub).create(&json!({})).await.unwrap(), "t1");
    }

    #[tokio::test]
    async fn a_refusal_of_the_hub_keeps_its_message_and_hint() {
        let hub = MockServer::start().await;
        let refusal = json!({ "error": { "code": "x", "message": "too long", "hint": "cut it" } });
        Mock::given(path("/api/v1/tasks/t/cancel"))
            .respond_with(ResponseTemplate::new(400).set_body_json(refusal))
            .mount(&hub)
            .await;
        let problem = client(&hub).cancel("t").await.unwrap_err();
        assert_eq!(problem.report(), "error: too long\nhint: cut it");
    }

    #[tokio::test]
    async fn a_hub_that_stops_is_no_hub() {
        let hub = MockServer::start().await;
        let refusal =
            json!({ "error": { "code": "stopping", "message": "the hub is shutting down" } });
        Mock::given(path("/api/v1/tasks/t/cancel"))
            .respond_with(ResponseTemplate::new(503).set_body_json(refusal))
            .mount(&hub)
            .await;
        let problem = client(&hub).cancel("t").await.unwrap_err();
        assert_eq!(problem.code(), Exit::NoHub);
    }

    #[tokio::test]
    async fn a_cancel_tells_when_the_machine_hears_of_it() {
        for (answer, told) in [
            (json!({ "accepted": true }), Told::Now),
            (
                json!({ "accepted": true, "told": "on_return" }),
                Told::OnReturn,
            ),
        ] {
            let hub = MockServer::start().await;
            Mock::given(path("/api/v1/tasks/t/cancel"))
                .respond_with(ResponseTemplate::new(202).set_body_json(answer))
                .mount(&hub)
                .await;
            assert_eq!(client(&hub).cancel("t").await.unwrap(), told);
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_json_is_a_problem_and_no_panic() {
        let hub = MockServer::start().await;
        Mock::given(path("/api/v1/tasks"))
            .respond_with(ResponseTemplate::new(200).set_body_string("<html>"))
            .mount(&hub)
            .await;
        let problem = client(&hub).tasks(1).await.unwrap_err();
        assert_eq!(problem.to_string(), "the hub's answer cannot be read");
    }

    #[tokio::test]
    async fn a_hub_that_has_gone_is_named_as_such() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", taken.local_addr().unwrap());
        drop(taken);
        let problem = client_of(&address).machines().await.unwrap_err();
        assert_eq!(problem.code(), Exit::NoHub);
    }
}
