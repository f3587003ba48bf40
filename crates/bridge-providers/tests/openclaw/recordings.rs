//! Recorded conversations with the gateway of OpenClaw: reading, replaying and damaging them.

use std::{collections::HashMap, fs, path::PathBuf, time::Duration};

use bridge_proto::model::Answer;
use bridge_providers::{
    openclaw::{Act, Lost, Plan},
    provider::Steer,
};
use serde_json::{Value, json};

use crate::play::{Play, SESSION, agents, created, plan};

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

/// Replays a recording: what its client did is done through the dialogue, and what the gateway
/// said is said to it, with ids and names of runs exchanged for those of the dialogue.
pub(crate) fn replay(name: &str) -> Play {
    run(&read(name))
}

pub(crate) fn run(recording: &[Recorded]) -> Play {
    let mut play = Play::new(plan_for(recording));
    let mut ids: HashMap<(u64, String), String> = HashMap::new();
    let mut runs: Vec<(String, String)> = Vec::new();
    let session = session_of(recording);
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
            act(&mut play, method, &message["params"], &session, &mut runs);
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
        let key = params["sessionKey"]
            .as_str()
            .or_else(|| params["key"].as_str());
        key.filter(|_| !line.inward).map(str::to_owned)
    });
    named.unwrap_or_else(|| SESSION.to_owned())
}

/// What the recorded client did, in our words.
fn act(
    play: &mut Play,
    method: &str,
    params: &Value,
    session: &str,
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
        if !is_frame || line.message["id"] == "r1" || line.message["event"] == "connect.challenge" {
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
