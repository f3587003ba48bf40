//! Plain text over the gateway's HTTP endpoint: the way that is left when it does not speak this
//! bridge's protocol. Tools work unseen, nothing can be asked, and the right that is used is full.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bridge_proto::{
    ResumeId,
    model::{Actor, Fault, Health, HealthReason, Outcome, RunEvent},
};
use futures_util::StreamExt as _;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time};

use super::{
    door::Door,
    follow::{Following, Logs},
    http_answer::HttpAnswer,
    socket::tls,
};
use crate::{
    plain::one_line,
    provider::{Heard, Injection, Steer, TurnEnd},
};

/// A conversation over HTTP.
struct Talk {
    http: Client,
    door: Door,
    /// The agent; `None`: the gateway's default.
    agent: Option<String>,
    session: String,
    model: Option<String>,
    instructions: String,
    answers: u64,
    logs: Option<Logs>,
    /// The log of the session, while a turn is at work.
    following: Option<Following>,
}

/// What the conversation is to be.
pub(super) struct Wish {
    pub(super) agent: Option<String>,
    pub(super) task: String,
    pub(super) resume: Option<ResumeId>,
    pub(super) model: Option<String>,
    pub(super) instructions: String,
    /// Where the logs of the sessions are, if the gateway is on this machine.
    pub(super) logs: Option<Logs>,
}

impl Talk {
    async fn new(door: Door, wish: Wish) -> Result<Self, String> {
        let http = client(&door).await?;
        let session = match (&wish.resume, &wish.agent) {
            (Some(resume), _) => resume.as_str().to_owned(),
            (None, Some(agent)) => format!("agent:{agent}:task:{}", wish.task),
            (None, None) => format!("task-{}", wish.task),
        };
        let instructions = match wish.resume {
            Some(_) => String::new(),
            None => wish.instructions,
        };
        Ok(Self {
            http,
            door,
            agent: wish.agent,
            session,
            model: wish.model,
            instructions,
            answers: 0,
            logs: wish.logs,
            following: None,
        })
    }

    /// Answers prompts until the owner has enough. Dropping an answer stops its run.
    async fn run(
        mut self,
        prompts: Vec<String>,
        tell: &mpsc::Sender<Heard>,
        asked: &mut mpsc::Receiver<Steer>,
    ) {
        let mut waiting = VecDeque::from(prompts);
        if let Ok(session) = ResumeId::parse(&self.session) {
            say(tell, Heard::Resumable(session)).await;
        }
        loop {
            if let Some(prompt) = waiting.pop_front() {
                if !self.turn(&prompt, &mut waiting, tell, asked).await {
                    break;
                }
                continue;
            }
            let steer = tokio::select! {
                steer = asked.recv() => steer,
                () = tell.closed() => None,
            };
            match steer {
                Some(Steer::Close) | None => break,
                Some(steer) => self.between(steer, &mut waiting, tell).await,
            }
        }
        say(tell, Heard::Gone).await;
    }

    /// One turn; false when the owner is gone.
    async fn turn(
        &mut self,
        prompt: &str,
        waiting: &mut VecDeque<String>,
        tell: &mpsc::Sender<Heard>,
        asked: &mut mpsc::Receiver<Steer>,
    ) -> bool {
        self.answers += 1;
        self.following = match &self.logs {
            Some(logs) => {
                let agent = self.agent.as_deref().unwrap_or(DEFAULT_AGENT);
                Following::start(logs, agent, &self.session, tell.clone()).await
            }
            None => None,
        };
        let seen = self.following.is_some();
        say(tell, status(if seen { LATER } else { UNSEEN })).await;
        say(tell, Heard::Prompted).await;
        let mut answer = HttpAnswer::new(self.answers);
        let mut response = None;
        let mut asking = Box::pin(self.request(prompt).send());
        let mut heard = now();
        let mut closing = false;
        while answer.outcome().is_none() {
            let silent = heard + SILENCE;
            tokio::select! {
                sent = &mut asking, if response.is_none() => match sent {
                    Ok(sent) if sent.status().is_success() => {
                        heard = now();
                        response = Some(sent.bytes_stream());
                    }
                    Ok(refused) => {
                        let status = refused.status().as_u16();
                        answer.on_refused(status, &body(refused).await);
                    }
                    Err(error) => return self.broken(&error, tell).await,
                },
                chunk = next(&mut response) => match chunk {
                    Some(Ok(bytes)) => {
                        heard = now();
                        for event in answer.on_bytes(&bytes) {
                            say(tell, Heard::Seen(Box::new(event.into()))).await;
                        }
                    }
                    Some(Err(error)) => return self.broken(&error, tell).await,
                    None => answer.on_end(),
                },
                steer = asked.recv() => match steer {
                    Some(Steer::Interrupt) => {
                        let outcome = Outcome::Cancelled { by: Actor::Person };
                        self.end(tell, outcome, answer.text()).await;
                        return true;
                    }
                    Some(Steer::Close) => closing = true,
                    Some(Steer::Prompt(text)) => waiting.push_back(text),
                    Some(Steer::Inject(_)) => say(tell, Heard::Injected(Injection::Refused)).await,
                    Some(Steer::Answer(..) | Steer::Tune(_)) => say(tell, status(DEAF)).await,
                    None => return false,
                },
                () = tell.closed() => return false,
                () = time::sleep_until(silent.into()) => {
                    heard = now();
                    let seconds = SILENCE.as_secs();
                    let event = RunEvent::Silent { seconds };
                    say(tell, Heard::Seen(Box::new(event.into()))).await;
                }
            }
        }
        let outcome = answer.outcome().cloned().unwrap_or(Outcome::Completed);
        self.end(tell, outcome, answer.text()).await;
        !(closing && waiting.is_empty())
    }

    async fn between(
        &mut self,
        steer: Steer,
        waiting: &mut VecDeque<String>,
        tell: &mpsc::Sender<Heard>,
    ) {
        match steer {
            Steer::Prompt(text) => waiting.push_back(text),
            Steer::Inject(_) => say(tell, Heard::Injected(Injection::Refused)).await,
            Steer::Tune(tuning) => {
                if let Some(model) = tuning.model {
                    let shown = one_line(&model, 100);
                    self.model = Some(model);
                    let text = format!("the next answer is asked of {shown}");
                    say(tell, status(&text)).await;
                }
                if tuning.mode.is_some() || tuning.effort.is_some() {
                    say(tell, status(DEAF)).await;
                }
            }
            Steer::Answer(..) | Steer::Interrupt | Steer::Close => {}
        }
    }

    fn request(&mut self, prompt: &str) -> reqwest::RequestBuilder {
        let instructions = std::mem::take(&mut self.instructions);
        let text = if instructions.trim().is_empty() {
            prompt.to_owned()
        } else {
            format!("{}\n\n{prompt}", instructions.trim())
        };
        let agent = match &self.agent {
            Some(agent) => format!("openclaw/{agent}"),
            None => "openclaw".into(),
        };
        let body = json!({
            "model": agent,
            "stream": true,
            "stream_options": { "include_usage": true },
            "messages": [{ "role": "user", "content": text }],
        });
        let url = self.door.gateway.http("/v1/chat/completions");
        let mut request = self
            .http
            .post(url)
            .header("x-openclaw-session-key", &self.session)
            .json(&body);
        if let Some(model) = &self.model {
            request = request.header("x-openclaw-model", model);
        }
        if let Some(secret) = &self.door.gateway.secret {
            request = request.bearer_auth(secret.expose());
        }
        request
    }

    /// The turn is over, with all that is known of it.
    async fn end(&mut self, tell: &mpsc::Sender<Heard>, outcome: Outcome, answer: &str) {
        if let Some(following) = self.following.take() {
            following.stop().await;
        }
        over(tell, outcome, answer).await;
    }

    async fn broken(&mut self, error: &reqwest::Error, tell: &mpsc::Sender<Heard>) -> bool {
        let reason = format!(
            "the connection to the OpenClaw gateway at {} broke: {}",
            self.door.gateway.url,
            what(error)
        );
        let fault = Fault::Agent;
        self.end(tell, Outcome::Failed { fault, reason }, "").await;
        true
    }
}

/// Goes on with a conversation over HTTP.
pub(super) async fn converse(
    door: Door,
    wish: Wish,
    prompts: Vec<String>,
    tell: &mpsc::Sender<Heard>,
    asked: &mut mpsc::Receiver<Steer>,
) {
    match Talk::new(door, wish).await {
        Ok(talk) => talk.run(prompts, tell, asked).await,
        Err(reason) => {
            let fault = Fault::Bridge;
            for _ in prompts {
                let reason = reason.clone();
                over(tell, Outcome::Failed { fault, reason }, "").await;
            }
            say(tell, Heard::Gone).await;
        }
    }
}

/// Whether the gateway lives and is ready, without showing it anything.
pub(super) async fn look(door: &Door, limit: Duration) -> Result<(), Health> {
    let unreachable = |hint: String| Health {
        available: false,
        reason: Some(HealthReason::ServiceUnreachable),
        version: None,
        hint: Some(hint),
    };
    let url = &door.gateway.url;
    let http = client(door).await.map_err(unreachable)?;
    let ask = async |path: &str| {
        let answer = http.get(door.gateway.http(path)).send();
        let answer = time::timeout(limit, answer).await;
        let answer = answer.map_err(|_| format!("no answer within {limit:?}"));
        let answer = answer.and_then(|sent| sent.map_err(|error| what(&error)));
        match answer {
            Ok(answer) => {
                let status = answer.status();
                Ok((
                    status,
                    serde_json::from_slice(&body(answer).await).unwrap_or_default(),
                ))
            }
            Err(what) => Err(unreachable(format!(
                "the OpenClaw gateway at {url} cannot be reached ({what}); start it with \
                 `openclaw gateway`"
            ))),
        }
    };
    let (status, alive): (StatusCode, Value) = ask("/healthz").await?;
    if !status.is_success() || alive.get("ok") != Some(&Value::Bool(true)) {
        return Err(unreachable(format!(
            "what answers at {url} is no OpenClaw gateway; check OPENCLAW_GATEWAY_URL or \
             gateway.port"
        )));
    }
    let (status, ready): (StatusCode, Value) = ask("/readyz").await?;
    if status.is_success() && ready.get("ready") == Some(&Value::Bool(true)) {
        return Ok(());
    }
    Err(unreachable(format!(
        "the OpenClaw gateway at {url} is still starting; try again in a minute"
    )))
}

/// A client that goes where it was told and nowhere else: no proxy, no redirect, because it
/// carries the secret of the gateway.
pub(super) async fn client(door: &Door) -> Result<Client, String> {
    let roots = door.roots.clone();
    let config = tokio::task::spawn_blocking(move || tls(roots))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("certificate authorities cannot be loaded: {error}"))?;
    Client::builder()
        .connect_timeout(CONNECT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_backend_preconfigured((*config).clone())
        .build()
        .map_err(|error| what(&error))
}

/// The beginning of a body.
async fn body(response: Response) -> Vec<u8> {
    let mut read = Vec::new();
    let mut stream = response.bytes_stream();
    let whole = async {
        while let Some(Ok(bytes)) = stream.next().await {
            read.extend_from_slice(&bytes);
            if read.len() > MAX_BODY {
                return;
            }
        }
    };
    if time::timeout(CONNECT, whole).await.is_err() {
        tracing::debug!("the body of an answer of the gateway did not end");
    }
    read
}

async fn next<S, T>(stream: &mut Option<S>) -> Option<T>
where
    S: futures_util::Stream<Item = T> + Unpin,
{
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

/// An error without the address it belongs to, which is told beside it.
pub(super) fn what(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    one_line(&deepest.to_string(), 200)
}

fn status(text: &str) -> Heard {
    let text = text.to_owned();
    Heard::Seen(Box::new(RunEvent::Status { text }.into()))
}

async fn over(tell: &mpsc::Sender<Heard>, outcome: Outcome, answer: &str) {
    let answer = answer.to_owned();
    say(tell, Heard::TurnOver(TurnEnd { outcome, answer })).await;
}

async fn say(tell: &mpsc::Sender<Heard>, heard: Heard) {
    if tell.send(heard).await.is_err() {
        tracing::debug!("nobody listens to OpenClaw any more");
    }
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

const UNSEEN: &str = "OpenClaw is asked over HTTP, which gives text only: its tools work unseen, in \
                      the agent's own workspace, with full access and without questions";
const LATER: &str = "OpenClaw is asked over HTTP, which gives text only: its tools work in the agent's own \
                     workspace, with full access and without questions, and are shown by the log \
                     of the session";
const DEAF: &str = "over HTTP OpenClaw takes no answers and no settings while it works";
/// Who answers where none is named.
const DEFAULT_AGENT: &str = "main";
const CONNECT: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(60);
/// Most bytes of a body that is no stream.
const MAX_BODY: usize = 64 << 10;
