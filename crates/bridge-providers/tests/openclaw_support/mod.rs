//! Recorded conversations with the gateway of OpenClaw: reading, replaying and damaging them.

use std::{
    collections::{HashMap, VecDeque},
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use bridge_proto::{
    Secret,
    model::{Answer, Ask, Outcome, RunEvent},
};
use bridge_providers::{
    openclaw::{Act, Credentials, Lost, OpenclawDialogue, Plan},
    provider::{Heard, Steer, TurnEnd},
};
use serde_json::{Value, json};

/// One line of a recording.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) at: Duration,
    pub(crate) inward: bool,
    pub(crate) conn: u64,
    pub(crate) message: Value,
    /// Instead of the message, for damaged lines.
    pub(crate) text: Option<String>,
}

pub(crate) fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/openclaw")
}

pub(crate) fn recordings(prefix: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name.starts_with(prefix))
        .collect();
    names.sort();
    names
}

pub(crate) fn read(name: &str) -> Vec<Recorded> {
    let text = fs::read_to_string(folder().join(format!("{name}.jsonl"))).unwrap();
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            Recorded {
                at: Duration::from_millis(line["t"].as_u64().unwrap()),
                inward: line["dir"] == "in",
                conn: line["conn"].as_u64().unwrap_or(1),
                message: line["msg"].clone(),
                text: None,
            }
        })
        .collect()
}

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
            Heard::Resumable(_) | Heard::Applied(_) | Heard::Injected(_) | Heard::Gone => {}
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
        if self.open.iter().any(|(method, ..)| method == "sessions.resolve") {
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
pub(crate) fn agent(run: &str, seq: u64, stream: &str, data: Value) -> Value {
    json!({ "runId": run, "sessionKey": SESSION, "agentId": "main", "stream": stream,
        "seq": seq, "data": data })
}

/// Replays a recording: what its client did is done through the dialogue, and what the gateway
/// said is said to it, with ids and names of runs exchanged for those of the dialogue.
pub(crate) fn replay(name: &str) -> Play {
    run(&read(name))
}

pub(crate) fn run(recording: &[Recorded]) -> Play {
    let mut play = Play::new(plan_for(recording));
    let mut ids: HashMap<(u64, String), String> = HashMap::new();
    let mut runs: Vec<(String, String)> = Vec::new();
    let mut session = session_of(recording);
    let mut conn = 0;
    for line in recording {
        if line.conn != conn {
            conn = line.conn;
            // Where a connection ended for good, the recorded client simply made another one.
            if !matches!(play.acts.last(), Some(Act::Dial)) {
                play.wait(Duration::from_millis(300));
            }
            play.open_line();
        }
        let at = play.begin + line.at;
        if at > play.now {
            play.wait(at - play.now);
        }
        if let Some(text) = &line.text {
            play.text(text);
            continue;
        }
        let message = &line.message;
        if message["ws"] == "close" {
            let code = u16::try_from(message["code"].as_u64().unwrap()).unwrap();
            // 1005 is the recorded client hanging up.
            if code == 1006 {
                play.lost(&Lost::Broken("connection reset".into()));
            } else if code != 1005 {
                let reason = message["reason"].as_str().unwrap_or_default().to_owned();
                play.lost(&Lost::Closed { code, reason });
            }
            continue;
        }
        if !line.inward {
            let method = message["method"].as_str().unwrap_or_default();
            act(&mut play, method, &message["params"], &mut session, &mut runs);
            if let Some(recorded) = message["id"].as_str()
                && let Some((ours, _)) = play.pending(ours(method))
            {
                ids.insert((conn, recorded.to_owned()), ours);
            }
            continue;
        }
        let mut text = message.to_string();
        for (theirs, ours) in &runs {
            text = text.replace(theirs, ours);
        }
        if message["type"] == "res" {
            let recorded = message["id"].as_str().unwrap_or_default().to_owned();
            let Some(ours) = ids.get(&(conn, recorded)) else {
                continue;
            };
            let mut answer: Value = serde_json::from_str(&text).unwrap();
            answer["id"] = json!(ours);
            play.frame(&answer);
            continue;
        }
        play.text(&text);
    }
    play
}

/// A recording without the right to work anywhere worked in the agent's own workspace.
fn plan_for(recording: &[Recorded]) -> Plan {
    let anywhere = recording.iter().any(|line| {
        let scopes = line.message.pointer("/payload/auth/scopes");
        scopes.is_some_and(|scopes| scopes.to_string().contains("operator.admin"))
    });
    let directory = if anywhere {
        "/home/user/project"
    } else {
        "/home/user/.openclaw/workspace"
    };
    Plan {
        directory: directory.into(),
        foreign: anywhere,
        ..plan()
    }
}

/// Which request of ours stands for a recorded one.
fn ours(method: &str) -> &str {
    match method {
        "agent" => "chat.send",
        other => other,
    }
}

fn session_of(recording: &[Recorded]) -> String {
    let named = recording.iter().find_map(|line| {
        let params = &line.message["params"];
        let key = params["sessionKey"].as_str().or(params["key"].as_str());
        key.filter(|_| !line.inward).map(str::to_owned)
    });
    named.unwrap_or_else(|| SESSION.to_owned())
}

/// What the recorded client did, in our words.
fn act(
    play: &mut Play,
    method: &str,
    params: &Value,
    session: &mut String,
    runs: &mut Vec<(String, String)>,
) {
    let text = |name: &str| params[name].as_str().unwrap_or_default().to_owned();
    match method {
        "chat.send" | "agent" => {
            if params.get("queueMode").is_some() {
                return;
            }
            play.say(&text("message"));
            if play.sent("sessions.create").is_empty() && play.dialogue.deadline().is_some() {
                play.ready(session);
            }
            let sent = play.sent("chat.send");
            if let Some(sent) = sent.last() {
                let ours = sent["idempotencyKey"].as_str().unwrap().to_owned();
                runs.push((text("idempotencyKey"), ours));
            }
        }
        "sessions.create" => {
            play.answer("agents.list", &agents());
            let mut made = created(session);
            if let Some(model) = params["model"].as_str() {
                let (provider, model) = model.split_once('/').unwrap();
                made["resolved"] = json!({ "modelProvider": provider, "model": model });
            }
            play.answer("sessions.create", &made);
        }
        "chat.abort" => play.steer(Steer::Interrupt),
        "exec.approval.resolve" => {
            if let Some(ask) = play.asks.last().map(|ask| ask.id.clone()) {
                let option = text("decision");
                play.steer(Steer::Answer(ask, Answer::Choose { option }));
            }
        }
        _ => {}
    }
}

/// xorshift: the same seed gives the same damage.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// A recording with lines lost, doubled, cut, exchanged and changed.
pub(crate) fn damage(recording: &[Recorded], random: &mut Random) -> Vec<Recorded> {
    let mut damaged: Vec<Recorded> = Vec::new();
    for line in recording {
        let is_frame = line.inward && line.message.get("type").is_some();
        // What lets the client in stays, or nothing would happen at all.
        if !is_frame || line.message["id"] == "r1" || line.message["event"] == "connect.challenge"
        {
            damaged.push(line.clone());
            continue;
        }
        let mut changed = line.clone();
        let text = line.message.to_string();
        match random.below(14) {
            0 => continue,
            1 => damaged.push(line.clone()),
            2 => {
                let cut = random.below(text.len());
                changed.text = Some(text.chars().take(cut).collect());
            }
            3 => {
                let at = damaged.len().saturating_sub(1 + random.below(3));
                damaged.insert(at.max(1).min(damaged.len()), line.clone());
                continue;
            }
            4..=8 => {
                let leaves = count(&changed.message);
                let target = random.below(leaves);
                let with = [
                    Value::Null,
                    json!(-1),
                    json!(1e300),
                    json!("\u{0}\u{202e}x"),
                    json!([[[]]]),
                    json!({ "type": "text" }),
                    json!(u64::MAX),
                    json!("é".repeat(400)),
                    json!(true),
                ];
                let with = &with[random.below(with.len())];
                put(&mut changed.message, target, &mut 0, with);
                if !changed.message["type"].is_string() {
                    changed.text = Some(changed.message.to_string());
                }
            }
            _ => {}
        }
        damaged.push(changed);
    }
    damaged
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum::<usize>(),
        Value::Object(fields) => fields.values().map(count).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn put(value: &mut Value, target: usize, at: &mut usize, with: &Value) {
    if *at == target {
        *value = with.clone();
    }
    *at += 1;
    match value {
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| put(item, target, at, with)),
        Value::Object(fields) => {
            fields
                .iter_mut()
                .for_each(|(_, item)| put(item, target, at, with));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
