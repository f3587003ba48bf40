//! Recorded conversations with Claude Code: reading, replaying and damaging them.

use std::{
    collections::HashMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use bridge_proto::model::{Answer, Ask, Outcome, RunEvent, ToolState, Tuning};
use bridge_providers::{
    claude::ClaudeDialogue,
    dialogue::{Dialogue as _, Exit, Step},
    provider::{Steer, TurnEnd},
};
use serde_json::{Value, json};

#[derive(Clone)]
pub(crate) struct Recorded {
    at: Duration,
    inward: bool,
    message: Value,
    /// Instead of the message, for damaged lines.
    bytes: Option<Vec<u8>>,
}

/// Everything the dialogue did.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) prompts: usize,
    pub(crate) sent: Vec<Value>,
    pub(crate) events: Vec<RunEvent>,
    pub(crate) raw: Vec<Value>,
    pub(crate) asks: Vec<Ask>,
    pub(crate) applied: usize,
    pub(crate) deltas: usize,
    pub(crate) replaced: usize,
    blocks: Vec<(String, String)>,
    pub(crate) resumable: Vec<String>,
    pub(crate) turns: Vec<TurnEnd>,
    pub(crate) terminated: bool,
}

impl Seen {
    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.turns.iter().map(|turn| turn.outcome.clone()).collect()
    }

    /// The texts on the screen, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        let texts = self.blocks.iter().map(|(_, text)| text.clone());
        texts.filter(|text| !text.is_empty()).collect()
    }

    pub(crate) fn tools(&self) -> Vec<ToolState> {
        self.events
            .iter()
            .filter_map(|event| match event {
                RunEvent::Tool(state) => Some(state.clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn statuses(&self) -> Vec<String> {
        self.events
            .iter()
            .filter_map(|event| match event {
                RunEvent::Status { text } => Some(text.clone()),
                _ => None,
            })
            .collect()
    }

    /// Tokens in, tokens out, dollars.
    pub(crate) fn usages(&self) -> Vec<(Option<u64>, Option<u64>, String)> {
        self.events
            .iter()
            .filter_map(|event| match event {
                RunEvent::Usage(usage) => Some((
                    usage.input_tokens,
                    usage.output_tokens,
                    usage
                        .cost_usd
                        .map(|cost| format!("{cost:.6}"))
                        .unwrap_or_default(),
                )),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn sent_responses(&self) -> Vec<Value> {
        let responses = self
            .sent
            .iter()
            .filter(|line| line["type"] == "control_response");
        responses
            .map(|line| line["response"]["response"].clone())
            .collect()
    }

    pub(crate) fn answers(&self, behavior: &str) -> Vec<Value> {
        let responses = self.sent_responses().into_iter();
        responses
            .filter(|response| response["behavior"] == behavior)
            .collect()
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Send(line) => self.sent.push(serde_json::from_str(&line).unwrap()),
            Step::Emit(observed) => {
                match &observed.event {
                    RunEvent::Text { block, delta } => {
                        self.deltas += 1;
                        self.block(block.as_str()).push_str(delta);
                    }
                    RunEvent::TextReplaced { block, text } => {
                        self.replaced += 1;
                        text.clone_into(self.block(block.as_str()));
                    }
                    RunEvent::Ask(ask) => self.asks.push(ask.clone()),
                    _ => {}
                }
                self.raw.extend(observed.raw);
                self.events.push(observed.event);
            }
            Step::Resumable(id) => self.resumable.push(id.as_str().to_owned()),
            Step::Applied(_) => self.applied += 1,
            Step::TurnOver(end) => self.turns.push(end),
            Step::Prompted | Step::Injected(_) | Step::EndInput | Step::CloseInput(_) => {}
            Step::Terminate(_) => self.terminated = true,
        }
    }

    fn block(&mut self, name: &str) -> &mut String {
        let at = self
            .blocks
            .iter()
            .position(|(id, _)| id == name)
            .unwrap_or_else(|| {
                self.blocks.push((name.to_owned(), String::new()));
                self.blocks.len() - 1
            });
        &mut self.blocks[at].1
    }
}

pub(crate) fn replay(name: &str) -> Seen {
    run(&read(name))
}

pub(crate) fn run(recording: &[Recorded]) -> Seen {
    let begin = Instant::now();
    let spawn = &recording[0].message["_spawn"]["args"];
    let resumed = spawn
        .as_array()
        .is_some_and(|args| args.contains(&json!("--resume")));
    let duplex = spawn
        .as_array()
        .is_some_and(|args| args.contains(&json!("--input-format")));
    let mut dialogue = ClaudeDialogue::new("replay", resumed);
    let mut seen = Seen::default();
    let mut ids = HashMap::new();
    let mut stderr = String::new();
    dialogue.on_start(begin);
    if !duplex {
        let prompt = spawn
            .as_array()
            .and_then(|args| args.last())
            .and_then(Value::as_str);
        seen.prompts += 1;
        dialogue.on_steer(begin, Steer::Prompt(prompt.unwrap_or("Hi").to_owned()));
    }
    drain(&mut dialogue, &mut seen);
    for line in recording.iter().skip(1) {
        let now = begin + line.at;
        run_clock(&mut dialogue, &mut seen, now);
        if let Some(bytes) = &line.bytes {
            dialogue.on_line(now, bytes);
        } else if let Some(words) = line.message.get("_stderr").and_then(Value::as_str) {
            stderr.push_str(words);
        } else if let Some(exit) = line.message.get("_exit") {
            let killed = exit["signal"] == "SIGKILL";
            dialogue.on_end(
                now,
                Exit {
                    code: exit["code"]
                        .as_i64()
                        .and_then(|code| i32::try_from(code).ok()),
                    signal: killed.then_some(9),
                    stderr_tail: stderr.clone(),
                },
            );
        } else if line.inward {
            let mut message = line.message.clone();
            let id = message.pointer_mut("/response/request_id");
            if let Some(id) = id
                && let Some(ours) = id.as_str().and_then(|id| ids.get(id))
            {
                *id = Value::String(String::clone(ours));
            }
            dialogue.on_line(now, message.to_string().as_bytes());
        } else {
            let steer = steer(&line.message, &seen);
            seen.prompts += usize::from(matches!(steer, Some(Steer::Prompt(_))));
            if let Some(steer) = steer {
                dialogue.on_steer(now, steer);
                drain(&mut dialogue, &mut seen);
            }
            let ours = seen
                .sent
                .iter()
                .rev()
                .find(|sent| sent["request"]["subtype"] == line.message["request"]["subtype"]);
            if let (Some(theirs), Some(ours)) = (line.message["request_id"].as_str(), ours) {
                ids.insert(
                    theirs.to_owned(),
                    ours["request_id"].as_str().unwrap_or("").to_owned(),
                );
            }
        }
        drain(&mut dialogue, &mut seen);
    }
    seen
}

/// What the host of the recording did, in our words.
fn steer(message: &Value, seen: &Seen) -> Option<Steer> {
    let request = &message["request"];
    match message["type"].as_str()? {
        "user" => {
            let text = message["message"]["content"][0]["text"].as_str()?;
            Some(Steer::Prompt(text.to_owned()))
        }
        "control_request" => match request["subtype"].as_str()? {
            "interrupt" if seen.prompts > 0 => Some(Steer::Interrupt),
            "set_model" => {
                let model = request["model"].as_str().map(str::to_owned);
                Some(Steer::Tune(Tuning {
                    model,
                    ..Tuning::default()
                }))
            }
            "set_permission_mode" => {
                let mode = request["mode"].as_str().map(str::to_owned);
                Some(Steer::Tune(Tuning {
                    mode,
                    ..Tuning::default()
                }))
            }
            _ => None,
        },
        "control_response" => {
            let ask = seen.asks.last()?.id.clone();
            let response = &message["response"]["response"];
            let choose = |option: &str| Answer::Choose {
                option: option.to_owned(),
            };
            let answer = match response["behavior"].as_str() {
                Some("allow") if response["updatedPermissions"].is_array() => {
                    choose("allow_session")
                }
                Some("allow") => match response["updatedInput"]["answers"].as_object() {
                    Some(answers) => {
                        let text = answers.values().next()?.as_str()?.to_owned();
                        Answer::Text { text }
                    }
                    None => choose("allow"),
                },
                _ => {
                    let reason = response["message"].as_str().unwrap_or("no").to_owned();
                    Answer::Deny { reason }
                }
            };
            Some(Steer::Answer(ask, answer))
        }
        _ => None,
    }
}

fn run_clock(dialogue: &mut ClaudeDialogue, seen: &mut Seen, until: Instant) {
    while let Some(at) = dialogue.deadline().filter(|at| *at < until) {
        dialogue.on_timeout(at);
        drain(dialogue, seen);
    }
}

fn drain(dialogue: &mut ClaudeDialogue, seen: &mut Seen) {
    while let Some(step) = dialogue.next_step() {
        seen.take(step);
    }
}

pub(crate) fn is_interrupt(line: &Value) -> bool {
    line["request"]["subtype"] == "interrupt"
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/claude")
}

pub(crate) fn recordings() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() > 40, "{} recordings", names.len());
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
                message: line.get("msg").cloned().unwrap_or_default(),
                bytes: None,
            }
        })
        .collect()
}

pub(crate) fn lines_of(name: &str, direction: &str) -> impl Iterator<Item = Value> {
    let inward = direction == "in";
    read(name)
        .into_iter()
        .filter(move |line| line.inward == inward)
        .map(|line| line.message)
}

pub(crate) fn recorded_answers(name: &str) -> Vec<Value> {
    lines_of(name, "out")
        .filter(|line| line["type"] == "control_response")
        .map(|line| line["response"]["response"].clone())
        .collect()
}

/// xorshift: the same seed gives the same damage.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

pub(crate) fn damage(line: &Recorded, random: &mut Random) -> Vec<Recorded> {
    if !line.inward || line.message.get("_exit").is_some() {
        return vec![line.clone()];
    }
    let mut line = line.clone();
    let mut bytes = line.message.to_string().into_bytes();
    match random.below(12) {
        0 => return Vec::new(),
        1 => return vec![line.clone(), line],
        2 => {
            let at = random.below(bytes.len());
            bytes.truncate(at);
        }
        3 => {
            let at = random.below(bytes.len());
            bytes[at] = u8::try_from(random.below(256)).unwrap();
        }
        4..=8 => {
            let leaves = count(&line.message);
            let target = random.below(leaves);
            let with = [
                Value::Null,
                json!(-1),
                json!(1e300),
                json!("\u{0}\u{202e}x"),
                json!([[[]]]),
                json!({"type": "text"}),
                json!(u64::MAX),
                json!("é".repeat(400)),
            ];
            let mut at = 0;
            put(
                &mut line.message,
                target,
                &mut at,
                &with[random.below(with.len())],
            );
            bytes = line.message.to_string().into_bytes();
        }
        _ => return vec![line],
    }
    line.bytes = Some(bytes);
    vec![line]
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
