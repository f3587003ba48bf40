//! What the gateway knows: its sessions and the runs at work. One task owns it all; connections
//! and runs talk with it by messages.

use std::collections::BTreeMap;

use axum::extract::ws::Message;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::{
    Line, Manners, TOKEN,
    run::{self, ToRun, Work},
    script,
};

/// What the brain is told.
pub(super) enum ToBrain {
    /// A connection was made; how it hears of everything.
    Connected(oneshot::Sender<(u64, broadcast::Receiver<Message>)>),
    /// A request of a connection, and where its answer goes.
    Request {
        frame: Value,
        reply: oneshot::Sender<Value>,
    },
    /// A prompt over HTTP; gives how it goes.
    Prompt {
        session: String,
        text: String,
        reply: oneshot::Sender<(Vec<script::Step>, Vec<String>)>,
    },
    /// A run of this session waits for an approval, which is described so.
    Asked { session: String, approval: Value },
    /// A run is over.
    Over { session: String, subject: String },
}

pub(super) struct Brain {
    manners: Manners,
    log: watch::Sender<Vec<Value>>,
    own: mpsc::Sender<ToBrain>,
    line: watch::Sender<Line>,
    events: broadcast::Sender<Message>,
    sessions: BTreeMap<String, Session>,
    /// What waits for an approval, by its id, and in which session.
    approvals: BTreeMap<String, (String, Value)>,
    refused: u64,
    connections: u64,
}

#[derive(Default)]
struct Session {
    mode: String,
    root: String,
    earlier: Vec<String>,
    model: String,
    effort: String,
    working: Option<(String, mpsc::Sender<ToRun>)>,
}

impl Brain {
    pub(super) fn new(
        manners: Manners,
        log: watch::Sender<Vec<Value>>,
        own: mpsc::Sender<ToBrain>,
        line: watch::Sender<Line>,
    ) -> Self {
        let (events, _) = broadcast::channel(100_000);
        Self {
            manners,
            log,
            own,
            line,
            events,
            sessions: BTreeMap::new(),
            approvals: BTreeMap::new(),
            refused: 0,
            connections: 0,
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<ToBrain>) {
        let mut dead = Box::pin(Line::end(self.line.subscribe(), u64::MAX));
        loop {
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.on(message).await,
                    None => return,
                },
                _ = &mut dead => return,
            }
        }
    }

    async fn on(&mut self, message: ToBrain) {
        match message {
            ToBrain::Connected(reply) => {
                self.connections += 1;
                drop(reply.send((self.connections, self.events.subscribe())));
            }
            ToBrain::Request { frame, reply } => {
                self.log.send_modify(|log| log.push(frame.clone()));
                let id = frame["id"].clone();
                let result = self.request(&frame).await;
                let answer = match result {
                    Ok(payload) => {
                        json!({ "type": "res", "id": id, "ok": true, "payload": payload })
                    }
                    Err((code, detail)) => json!({ "type": "res", "id": id, "ok": false,
                        "error": { "code": code, "message": format!("fake: {detail}"),
                            "details": { "code": detail, "reason": detail } } }),
                };
                drop(reply.send(answer));
            }
            ToBrain::Prompt {
                session,
                text,
                reply,
            } => {
                let session = self.sessions.entry(session).or_default();
                drop(reply.send((script::read(&text), session.earlier.clone())));
                session.earlier.push(script::subject(&text));
            }
            ToBrain::Asked { session, approval } => {
                let id = approval["id"].as_str().unwrap_or_default().to_owned();
                self.approvals.insert(id, (session, approval));
            }
            ToBrain::Over { session, subject } => {
                self.approvals.retain(|_, (of, _)| *of != session);
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.earlier.push(subject);
                    session.working = None;
                }
            }
        }
    }

    async fn request(&mut self, frame: &Value) -> Result<Value, (&'static str, &'static str)> {
        let params = &frame["params"];
        let text = |name: &str| params[name].as_str().unwrap_or_default().to_owned();
        match frame["method"].as_str().unwrap_or_default() {
            "connect" => self.connect(params),
            "agents.list" => Ok(json!({ "defaultId": "main",
                "agents": [{ "id": "main", "workspace": "/nowhere/workspace" }] })),
            "models.list" => Ok(json!({ "models": [
                { "id": MODELS[0], "provider": "fake" },
                { "id": MODELS[1], "provider": "fake", "tags": ["default"] } ] })),
            "sessions.resolve" => Ok(json!({ "ok": self.sessions.contains_key(&text("key")) })),
            "sessions.create" => {
                let session = self.sessions.entry(text("key")).or_default();
                let mode = params["permissionMode"].as_str().unwrap_or("full");
                mode.clone_into(&mut session.mode);
                session.root = text("cwd");
                let model = params["model"].as_str().unwrap_or("big");
                model.clone_into(&mut session.model);
                Ok(json!({ "ok": true, "key": text("key"),
                    "entry": { "permissionMode": session.mode, "sessionRoot": session.root },
                    "resolved": { "modelProvider": "fake", "model": session.model } }))
            }
            "sessions.messages.subscribe" => Ok(json!({ "subscribed": true })),
            "sessions.patch" => {
                let model = params["model"].as_str();
                let model = model.map(|model| model.strip_prefix("fake/").unwrap_or(model));
                if model.is_some_and(|model| !MODELS.contains(&model)) {
                    return Err(("INVALID_REQUEST", "model not allowed"));
                }
                let session = self.sessions.entry(text("key")).or_default();
                if let Some(model) = model {
                    model.clone_into(&mut session.model);
                }
                if let Some(effort) = params["thinkingLevel"].as_str() {
                    effort.clone_into(&mut session.effort);
                }
                Ok(
                    json!({ "resolved": { "modelProvider": "fake", "model": session.model,
                    "thinkingLevel": session.effort } }),
                )
            }
            "chat.send" => self.send(params).await,
            "chat.abort" => {
                let session = self.sessions.entry(text("sessionKey")).or_default();
                let Some((run, work)) = &session.working else {
                    return Ok(json!({ "ok": true, "aborted": false, "runIds": [] }));
                };
                if params["runId"].as_str().is_some_and(|wanted| wanted != run) {
                    return Ok(json!({ "ok": true, "aborted": false, "runIds": [] }));
                }
                let told = work.send(ToRun::Abort).await.is_ok();
                Ok(json!({ "ok": true, "aborted": told, "runIds": [run] }))
            }
            "chat.history" => {
                let session = self.sessions.entry(text("sessionKey")).or_default();
                let working = session.working.as_ref().map(|(run, _)| run.clone());
                Ok(
                    json!({ "messages": [], "sessionInfo": { "activeRunIds": working.as_slice() },
                    "inFlightRun": working.map(|run| json!({ "runId": run, "text": "" })) }),
                )
            }
            "agent.wait" => Ok(json!({ "runId": text("runId"), "status": "timeout" })),
            "exec.approval.list" => {
                let list: Vec<Value> = self.approvals.values().map(|one| one.1.clone()).collect();
                Ok(json!(list))
            }
            "exec.approval.resolve" => self.resolve(&text("id"), &text("decision")).await,
            _ => Err(("INVALID_REQUEST", "unknown method")),
        }
    }

    fn connect(&mut self, params: &Value) -> Result<Value, (&'static str, &'static str)> {
        if self.refused < self.manners.starts_after {
            self.refused += 1;
            return Err(("UNAVAILABLE", "startup-sidecars"));
        }
        let range = params["minProtocol"].as_u64()..=params["maxProtocol"].as_u64();
        if !range.contains(&Some(self.manners.protocol)) {
            return Err(("INVALID_REQUEST", "PROTOCOL_MISMATCH"));
        }
        let auth = &params["auth"];
        if let Some(token) = auth["deviceToken"].as_str() {
            if token != GIVEN {
                return Err(("INVALID_REQUEST", "AUTH_DEVICE_TOKEN_MISMATCH"));
            }
        } else if auth["token"] != TOKEN {
            return Err(("INVALID_REQUEST", "AUTH_TOKEN_MISMATCH"));
        }
        let scopes = params["scopes"].as_array().cloned().unwrap_or_default();
        if self.manners.strict && scopes.iter().any(|scope| scope == "operator.admin") {
            return Err(("NOT_PAIRED", "PAIRING_REQUIRED"));
        }
        let mut granted = json!({ "role": "operator", "scopes": scopes });
        if params.get("device").is_some() {
            granted["deviceToken"] = json!(GIVEN);
        }
        Ok(json!({ "type": "hello-ok", "protocol": 4,
            "server": { "version": "9.9.9", "bootId": "fake-boot" },
            "auth": granted, "policy": { "tickIntervalMs": 30_000 } }))
    }

    async fn send(&mut self, params: &Value) -> Result<Value, (&'static str, &'static str)> {
        let text = |name: &str| params[name].as_str().unwrap_or_default().to_owned();
        let (key, run, prompt) = (text("sessionKey"), text("idempotencyKey"), text("message"));
        let session = self.sessions.entry(key.clone()).or_default();
        let expected = &params["expectedPermissionMode"];
        if expected.is_string() && *expected != json!(session.mode) {
            return Err(("INVALID_REQUEST", "session-settings-changed"));
        }
        let started = json!({ "runId": run, "status": "started" });
        match &session.working {
            Some((working, _)) if *working == run => {
                return Ok(json!({ "runId": run, "status": "in_flight" }));
            }
            Some((_, work)) if params["queueMode"] == "steer" => {
                let told = ToRun::Message { run, text: prompt };
                drop(work.send(told).await);
                return Ok(started);
            }
            Some((_, work)) => drop(work.send(ToRun::Abort).await),
            None => {}
        }
        let (tell, inbox) = mpsc::channel(64);
        session.working = Some((run.clone(), tell));
        let work = Work {
            session: key,
            run,
            steps: script::read(&prompt),
            subject: script::subject(&prompt),
            earlier: session.earlier.clone(),
            events: self.events.clone(),
            brain: self.own.clone(),
            line: self.line.clone(),
        };
        tokio::spawn(run::play(work, inbox));
        Ok(started)
    }

    async fn resolve(
        &mut self,
        id: &str,
        decision: &str,
    ) -> Result<Value, (&'static str, &'static str)> {
        let session = id.split('#').next().unwrap_or_default().to_owned();
        let working = self.sessions.get(&session).and_then(|s| s.working.as_ref());
        let Some((_, work)) = working else {
            return Err(("INVALID_REQUEST", "APPROVAL_ALREADY_RESOLVED"));
        };
        let allowed = decision == "allow-once";
        self.approvals.remove(id);
        drop(work.send(ToRun::Decided(allowed)).await);
        let payload = json!({ "id": id, "decision": decision, "resolvedBy": "fake" });
        let event = json!({ "type": "event", "event": "exec.approval.resolved",
            "payload": payload });
        drop(self.events.send(frame(&event)));
        Ok(json!({ "ok": true }))
    }
}

/// A frame as it goes over a connection.
pub(super) fn frame(value: &Value) -> Message {
    Message::Text(value.to_string().into())
}

const MODELS: [&str; 2] = ["small", "big"];
/// What a device is given.
const GIVEN: &str = "fake-device-token";
