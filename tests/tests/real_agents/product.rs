//! The product as a user starts it: `ctrlnode up` in a home of its own, seen through its API.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bridge_proto::model::{Answer, Ask, Event};
use bridge_testkit::{
    loopback,
    mock_model::MockModel,
    program::{self, Running},
};
use eventsource_stream::Eventsource as _;
use futures_util::{Stream, StreamExt as _};
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    agents::Agent,
    gateway::Gateway,
    installed::Installed,
    remains::{self, Process},
};

/// A running product with one agent and the model behind it. Dropping it ends everything that was
/// started in its home.
pub(crate) struct Product {
    pub(crate) agent: Agent,
    pub(crate) model: MockModel,
    running: Option<Running>,
    /// Ends before the home it lives in.
    gateway: Option<Gateway>,
    home: tempfile::TempDir,
    http: reqwest::Client,
    note: Note,
}

/// What `up` leaves in its state folder for the command line.
#[derive(Debug, Deserialize)]
struct Note {
    address: String,
    token: String,
}

/// An event in the hub's order.
#[derive(Debug, Deserialize)]
pub(crate) struct Stored {
    pub(crate) seq: u64,
    pub(crate) event: Event,
}

impl Product {
    /// Starts it, and waits until the agent can be given work.
    pub(crate) async fn start(agent: Agent, installed: &Installed) -> Self {
        let home = tempfile::Builder::new()
            .prefix("ctrlnode-e2e-")
            .tempdir()
            .unwrap();
        let bin = home.path().join("programs");
        for folder in ["programs", "work", "tmp"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        agent.install(installed, &bin).unwrap();
        let model = MockModel::start().await.unwrap();
        agent.prepare(home.path(), &model.address()).unwrap();
        let gateway = agent.gateway(home.path(), &model.address()).await;
        let running = up(agent, home.path(), &model.address(), &[]);
        let mut product = Self {
            agent,
            model,
            running: Some(running),
            gateway,
            home,
            http: loopback::http_client(),
            note: Note {
                address: String::new(),
                token: String::new(),
            },
        };
        product.note = product.wait_for_note().await;
        product.wait_for_agent().await;
        product
    }

    /// Kills it, so that it can tidy up nothing, and starts it again where it was.
    pub(crate) async fn kill_and_start_again(&mut self) {
        if let Some(running) = self.running.take() {
            remains::kill(running.id());
        }
        self.start_again_with(&[]).await;
    }

    /// Stops it as a signal would, and starts it again where it was.
    pub(crate) async fn stop_and_start_again(&mut self) {
        self.start_again_with(&[]).await;
    }

    /// As [`stop_and_start_again`](Self::stop_and_start_again), with these variables more.
    pub(crate) async fn start_again_with(&mut self, variables: &[(&str, &str)]) {
        if let Some(mut running) = self.running.take() {
            let status = running.end(STOPPING).unwrap();
            assert!(status.success(), "{status}\n{}", self.diagnosis());
        }
        let address = self.model.address();
        let running = up(self.agent, self.home.path(), &address, variables);
        self.running = Some(running);
        self.note = self.wait_for_note().await;
        self.wait_for_agent().await;
    }

    /// The note of the product that runs now, not of one before it.
    async fn wait_for_note(&mut self) -> Note {
        let file = self.home.path().join("state/hub.json");
        let mut tick = tokio::time::interval(LOOK_AGAIN);
        loop {
            tick.tick().await;
            let note = fs::read(&file).ok();
            let note: Option<Note> = note.and_then(|note| serde_json::from_slice(&note).ok());
            if let Some(note) = note.filter(|note| note.token != self.note.token) {
                return note;
            }
            if let Some(status) = self.running.as_mut().and_then(|r| r.ended().unwrap()) {
                panic!("ctrlnode up ended: {status}\n{}", self.diagnosis());
            }
        }
    }

    async fn wait_for_agent(&self) {
        let marks = self
            .call(Method::GET, "changes", None)
            .await
            .bytes_stream()
            .eventsource();
        let mut marks = std::pin::pin!(marks);
        loop {
            let agents = self.get("agents").await;
            let agents = agents["agents"].as_array().cloned().unwrap_or_default();
            let own = agents
                .iter()
                .find(|one| one["profile"]["id"] == self.agent.id());
            if own.is_some_and(|own| own["health"]["available"] == true) {
                return;
            }
            marks
                .next()
                .await
                .expect("marks never end")
                .expect("marks are well formed");
        }
    }

    /// Gives the agent a task; gives its id.
    pub(crate) async fn give(&self, prompt: &str, mode: Value) -> String {
        let task = json!({ "agent": self.agent.id(), "prompt": prompt, "mode": mode });
        let made: Value = self.send(Method::POST, "tasks", &task).await;
        made["id"].as_str().expect("a task has an id").to_owned()
    }

    pub(crate) async fn follow_up(&self, task: &str, text: &str) {
        self.send(
            Method::POST,
            &format!("tasks/{task}/followups"),
            &json!({ "text": text }),
        )
        .await;
    }

    pub(crate) async fn cancel(&self, task: &str) {
        self.send(Method::POST, &format!("tasks/{task}/cancel"), &json!({}))
            .await;
    }

    pub(crate) async fn answer(&self, task: &str, ask: &Ask, answer: &Answer) {
        let body = json!({ "ask": ask.id, "digest": ask.digest, "answer": answer });
        self.send(Method::POST, &format!("tasks/{task}/answer"), &body)
            .await;
    }

    pub(crate) async fn task(&self, task: &str) -> Value {
        self.get(&format!("tasks/{task}")).await
    }

    pub(crate) async fn files(&self, task: &str) -> Value {
        self.get(&format!("tasks/{task}/files")).await
    }

    pub(crate) async fn file(&self, task: &str, path: &str) -> String {
        let path = format!("tasks/{task}/files/{path}");
        self.call(Method::GET, &path, None)
            .await
            .text()
            .await
            .unwrap()
    }

    /// What happens in a task, from `after` on.
    pub(crate) async fn events(
        &self,
        task: &str,
        after: u64,
    ) -> impl Stream<Item = Stored> + use<> {
        let path = format!("tasks/{task}/events?after={after}");
        let stream = self
            .call(Method::GET, &path, None)
            .await
            .bytes_stream()
            .eventsource();
        stream.map(|event| {
            let event = event.expect("the stream of events holds");
            serde_json::from_str(&event.data).expect("an event can be read")
        })
    }

    async fn get(&self, path: &str) -> Value {
        self.call(Method::GET, path, None)
            .await
            .json()
            .await
            .unwrap()
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Value {
        self.call(method, path, Some(body))
            .await
            .json()
            .await
            .unwrap()
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Response {
        let url = format!("{}/api/v1/{path}", self.note.address);
        let mut request = self
            .http
            .request(method, &url)
            .bearer_auth(&self.note.token);
        if let Some(body) = body {
            let json = reqwest::header::HeaderValue::from_static("application/json");
            request = request
                .header(reqwest::header::CONTENT_TYPE, json)
                .body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        if status.is_success() {
            return response;
        }
        panic!(
            "{path}: {status} {}",
            response.text().await.unwrap_or_default()
        );
    }

    /// The workspace agents may be pointed into.
    pub(crate) fn workspace(&self) -> PathBuf {
        self.home.path().join("work").canonicalize().unwrap()
    }

    /// The folder of a task.
    pub(crate) async fn task_folder(&self, task: &str) -> PathBuf {
        let view = self.task(task).await;
        let folder = view["folder"].as_str().expect("a task has a folder");
        self.home.path().join("state/bridge").join(folder)
    }

    /// All processes of this product's agents, and what they started.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let own = self.running.as_ref().map(Running::id);
        let mut all = remains::of_home(self.home.path());
        all.retain(|process| Some(process.pid) != own);
        all.extend(self.gateway.iter().flat_map(Gateway::processes));
        all
    }

    /// What a person needs to see what went wrong.
    pub(crate) fn diagnosis(&self) -> String {
        let log = fs::read_to_string(self.home.path().join("log")).unwrap_or_default();
        let skip = log.lines().count().saturating_sub(60);
        let log: Vec<&str> = log.lines().skip(skip).collect();
        format!("model: {:#?}\nlog:\n{}", self.model.log(), log.join("\n"))
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        let begun = Instant::now();
        drop(self.running.take());
        let left = remains::after(self.home.path(), DYING);
        for process in &left {
            remains::kill(process.pid);
        }
        if !std::thread::panicking() {
            assert!(
                left.is_empty(),
                "left behind after the end of the product: {left:#?}"
            );
            assert!(
                begun.elapsed() < Duration::from_secs(14),
                "the product did not end by itself"
            );
        }
    }
}

fn up(agent: Agent, home: &Path, model: &str, more: &[(&str, &str)]) -> Running {
    let inherited = env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(home.join("programs")).chain(env::split_paths(&inherited));
    let path: OsString = env::join_paths(path).unwrap();
    let log = File::options()
        .create(true)
        .append(true)
        .open(home.join("log"))
        .unwrap();
    let mut up = program::command(program::ctrlnode());
    up.env_clear().envs(agent.variables(home, model));
    up.envs(more.iter().copied());
    up.env("HOME", home)
        .env("PATH", path)
        .env("TMPDIR", home.join("tmp"));
    up.env("LANG", "C.UTF-8").env("GIT_CONFIG_NOSYSTEM", "1");
    up.args(["up", "--port", "0", "--log", "debug", "--state"])
        .arg(home.join("state"));
    up.arg("--workspace")
        .arg(home.join("work"))
        .current_dir(home);
    up.stdin(std::process::Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    Running::start(&mut up).expect("ctrlnode can be started")
}

/// It ends its agents within 10 s.
const STOPPING: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A killed process gives its memory back before it is gone.
const DYING: Duration = Duration::from_secs(2);
