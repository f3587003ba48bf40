//! A dialogue with the gateway of OpenClaw, played by hand: everything it does is kept.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bridge_proto::{
    Secret,
    model::{Ask, Outcome, RunEvent},
};
use bridge_providers::{
    openclaw::{Act, Credentials, Lost, OpenclawDialogue, Plan},
    provider::{Heard, Steer, TurnEnd},
};
use serde_json::{Value, json};

pub(crate) fn plan() -> Plan {
    Plan {
        url: "ws://127.0.0.1:18789".into(),
        credentials: Credentials {
            shared: Some(Secret::new("shared-token")),
            ..Credentials::default()
        },
        agent: None,
        directory: "/home/user/project".into(),
        foreign: true,
        task: "task-1".into(),
        seed: "seed".into(),
        resume: None,
        model: None,
        instructions: String::new(),
        further: false,
        fallback: Err("HTTP is not wanted".into()),
    }
}

/// A dialogue with everything it did.
pub(crate) struct Play {
    pub(crate) dialogue: OpenclawDialogue,
    pub(crate) begin: Instant,
    pub(crate) now: Instant,
    pub(crate) acts: Vec<Act>,
    pub(crate) seen: Vec<RunEvent>,
    pub(crate) raws: usize,
    pub(crate) turns: Vec<TurnEnd>,
    pub(crate) asks: Vec<Ask>,
    /// Requests of the dialogue that nobody answered yet: method, id, params.
    pub(crate) open: VecDeque<(String, String, Value)>,
    pub(crate) prompts: usize,
    blocks: Vec<(String, String)>,
}

impl Play {
    pub(crate) fn new(plan: Plan) -> Self {
        let begin = Instant::now();
        let mut play = Self {
            dialogue: OpenclawDialogue::new(plan),
            begin,
            now: begin,
            acts: Vec::new(),
            seen: Vec::new(),
            raws: 0,
            turns: Vec::new(),
            asks: Vec::new(),
            open: VecDeque::new(),
            prompts: 0,
            blocks: Vec::new(),
        };
        play.dialogue.on_start();
        play.drain();
        play
    }

    pub(crate) fn open_line(&mut self) {
        self.dialogue.on_open(self.now);
        self.drain();
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.dialogue.on_text(self.now, text);
        self.drain();
    }

    pub(crate) fn frame(&mut self, frame: &Value) {
        self.text(&frame.to_string());
    }

    #[expect(clippy::needless_pass_by_value, reason = "calls read better")]
    pub(crate) fn event(&mut self, name: &str, payload: Value) {
        self.frame(&json!({ "type": "event", "event": name, "payload": payload }));
    }

    pub(crate) fn lost(&mut self, lost: &Lost) {
        self.open.clear();
        self.dialogue.on_lost(self.now, lost);
        self.drain();
    }

    pub(crate) fn steer(&mut self, steer: Steer) {
        self.prompts += usize::from(matches!(steer, Steer::Prompt(_)));
        self.dialogue.on_steer(self.now, steer);
        self.drain();
    }

    pub(crate) fn say(&mut self, prompt: &str) {
        self.steer(Steer::Prompt(prompt.to_owned()));
    }

    /// Lets time pass, waking the dialogue whenever it wants to.
    pub(crate) fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.dialogue.deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.dialogue.on_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn drain(&mut self) {
        while let Some(act) = self.dialogue.next_act() {
            self.take(&act);
            self.acts.push(act);
        }
    }

    fn take(&mut self, act: &Act) {
        let line = match act {
            Act::Greet(line) => line.expose(),
            Act::Send(line) => line.as_str(),
            Act::Dial => {
                self.open.clear();
                return;
            }
            Act::Tell(heard) => return self.hear(heard),
            Act::Keep(_) | Act::Guard(_) | Act::Fallback(_) | Act::HangUp => return,
        };
        let request: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| request[name].as_str().unwrap().to_owned();
        self.open
            .push_back((text("method"), text("id"), request["params"].clone()));
    }

    fn hear(&mut self, heard: &Heard) {
        match heard {
            Heard::Seen(seen) => {
                self.raws += usize::from(seen.raw.is_some());
                match &seen.event {
                    RunEvent::Text { block, delta } => self.block(block.as_str()).push_str(delta),
                    RunEvent::TextReplaced { block, text } => {
                        text.clone_into(self.block(block.as_str()));
                    }
                    RunEvent::Ask(ask) => self.asks.push(ask.clone()),
                    _ => {}
                }
                self.seen.push(seen.event.clone());
            }
            Heard::TurnOver(end) => self.turns.push(end.clone()),
            Heard::Prompted
            | Heard::Resumable(_)
            | Heard::Applied(_)
            | Heard::Injected(_)
            | Heard::Gone => {}
        }
    }

    fn block(&mut self, name: &str) -> &mut String {
        let at = self.blocks.iter().position(|(id, _)| id == name);
        let at = at.unwrap_or_else(|| {
            self.blocks.push((name.to_owned(), String::new()));
            self.blocks.len() - 1
        });
        &mut self.blocks[at].1
    }

    /// The texts on the screen, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        let texts = self.blocks.iter().map(|(_, text)| text.clone());
        texts.filter(|text| !text.is_empty()).collect()
    }

    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.turns.iter().map(|turn| turn.outcome.clone()).collect()
    }

    pub(crate) fn statuses(&self) -> Vec<String> {
        let texts = self.seen.iter().filter_map(|event| match event {
            RunEvent::Status { text } => Some(text.clone()),
            _ => None,
        });
        texts.collect()
    }

    /// All requests of a method that were sent.
    pub(crate) fn sent(&self, method: &str) -> Vec<Value> {
        let lines = self.acts.iter().filter_map(|act| match act {
            Act::Send(line) => Some(line.as_str()),
            Act::Greet(line) => Some(line.expose()),
            _ => None,
        });
        lines
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|request| request["method"] == method)
            .map(|request| request["params"].clone())
            .collect()
    }

    /// The oldest unanswered request of a method.
    pub(crate) fn pending(&mut self, method: &str) -> Option<(String, Value)> {
        let at = self.open.iter().position(|(name, ..)| name == method)?;
        let (_, id, params) = self.open.remove(at)?;
        Some((id, params))
    }

    pub(crate) fn answer(&mut self, method: &str, payload: &Value) {
        let (id, _) = self.pending(method).unwrap_or_else(|| {
            panic!("{method} was not asked; open: {:?}", self.open);
        });
        self.frame(&json!({ "type": "res", "id": id, "ok": true, "payload": payload }));
    }

    pub(crate) fn refuse(&mut self, method: &str, code: &str, detail: &str) {
        let (id, _) = self.pending(method).unwrap_or_else(|| {
            panic!("{method} was not asked; open: {:?}", self.open);
        });
        let error = json!({ "code": code, "message": format!("no: {detail}"),
            "details": { "code": detail, "reason": detail } });
        self.frame(&json!({ "type": "res", "id": id, "ok": false, "error": error }));
    }

    /// Goes through the door.
    pub(crate) fn let_in(&mut self, boot: &str, scopes: &[&str]) {
        self.open_line();
        self.event("connect.challenge", json!({ "nonce": "n", "ts": 1 }));
        let hello = json!({ "type": "hello-ok", "protocol": 4,
            "server": { "version": "2026.9.6", "bootId": boot },
            "auth": { "scopes": scopes }, "policy": { "tickIntervalMs": 30_000 } });
        self.answer("connect", &hello);
    }

    /// Answers what is asked before a session is ready.
    pub(crate) fn ready(&mut self, session: &str) {
        self.answer("agents.list", &agents());
        if self
            .open
            .iter()
            .any(|(method, ..)| method == "sessions.resolve")
        {
            self.answer("sessions.resolve", &json!({ "ok": true, "key": session }));
        }
        self.answer("sessions.create", &created(session));
    }
}

pub(crate) const EVERYTHING: [&str; 4] = [
    "operator.read",
    "operator.write",
    "operator.approvals",
    "operator.admin",
];

pub(crate) fn agents() -> Value {
    json!({ "defaultId": "main", "agents": [
        { "id": "main", "workspace": "/home/user/.openclaw/workspace" },
        { "id": "reviewer", "workspace": "/home/user/reviews" } ] })
}

pub(crate) fn created(session: &str) -> Value {
    json!({ "ok": true, "key": session,
        "entry": { "sessionRoot": "/home/user/project", "permissionMode": "guarded" },
        "resolved": { "modelProvider": "mock", "model": "mock-model" } })
}

/// A conversation with its first run at work: `session`, and the name of the run.
pub(crate) fn working(prompt: &str) -> (Play, String) {
    let mut play = Play::new(plan());
    play.say(prompt);
    play.let_in("boot-1", &EVERYTHING);
    play.ready(SESSION);
    let run = accept(&mut play);
    (play, run)
}

/// The gateway takes the message; gives the name of its run.
pub(crate) fn accept(play: &mut Play) -> String {
    let (id, params) = play.pending("chat.send").unwrap();
    let run = params["idempotencyKey"].as_str().unwrap().to_owned();
    let payload = json!({ "runId": run, "status": "started" });
    play.frame(&json!({ "type": "res", "id": id, "ok": true, "payload": payload }));
    run
}

pub(crate) const SESSION: &str = "agent:main:task:task-1";

/// An `agent` event of a run.
#[expect(clippy::needless_pass_by_value, reason = "calls read better")]
pub(crate) fn agent(run: &str, seq: u64, stream: &str, data: Value) -> Value {
    json!({ "runId": run, "sessionKey": SESSION, "agentId": "main", "stream": stream,
        "seq": seq, "data": data })
}
