//! Recorded conversations of real agents, replayed against the dialogue: what it sends must be
//! what the recorder sent, and every turn must end as it did. The same recordings, damaged, must
//! never do harm.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets something else shall fail"
)]

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use bridge_proto::{
    AskId, ResumeId,
    model::{Answer, Fix, Outcome, RunEvent, ToolState, ToolStatus, Tuning},
};
use bridge_providers::{
    acp::{AcpDialogue, AcpQuirks, AcpStart},
    dialogue::{Dialogue as _, Exit, Step},
    gemini, opencode,
    provider::{Steer, TurnEnd},
};
use serde_json::Value;

/// One line of a recording.
struct Record {
    at: Duration,
    ours: bool,
    /// What was written, as text and, where it is JSON, parsed.
    text: String,
    message: Option<Value>,
}

fn recording(name: &str) -> Vec<Record> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let text = fs::read_to_string(root.join(format!("{name}.jsonl"))).unwrap();
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let message = line.get("msg").cloned();
        let text = message.as_ref().map(Value::to_string);
        Record {
            at: Duration::from_millis(line["t"].as_u64().unwrap()),
            ours: line["dir"] == "out",
            text: text.unwrap_or_else(|| line["raw"].as_str().unwrap().to_owned()),
            message,
        }
    };
    text.lines().map(read).collect()
}

fn quirks(name: &str) -> AcpQuirks {
    if name.starts_with("gemini") {
        gemini::quirks()
    } else {
        opencode::quirks()
    }
}

fn start(records: &[Record]) -> AcpStart {
    let resume = records
        .iter()
        .filter(|record| record.ours)
        .find_map(|record| {
            let message = record.message.as_ref()?;
            let method = message["method"].as_str()?;
            let resumes = matches!(method, "session/load" | "session/resume");
            resumes.then(|| ResumeId::parse(message["params"]["sessionId"].as_str()?).ok())?
        });
    AcpStart {
        directory: "/home/user/project".into(),
        resume,
        ..AcpStart::default()
    }
}

/// A replay under way, and what came of it.
struct Replay {
    dialogue: AcpDialogue,
    base: Instant,
    now: Instant,
    /// Requests of ours: the recorder's id by method in order, and our own.
    ids: BTreeMap<u64, u64>,
    sent: Vec<Value>,
    asks: Vec<AskId>,
    seen: Vec<RunEvent>,
    ends: Vec<TurnEnd>,
    tools: BTreeMap<String, ToolState>,
    endings: usize,
}

impl Replay {
    fn new(name: &str, records: &[Record]) -> Self {
        let base = Instant::now();
        let mut replay = Self {
            dialogue: AcpDialogue::new(start(records), quirks(name)),
            base,
            now: base,
            ids: BTreeMap::new(),
            sent: Vec::new(),
            asks: Vec::new(),
            seen: Vec::new(),
            ends: Vec::new(),
            tools: BTreeMap::new(),
            endings: 0,
        };
        replay.dialogue.on_start(base);
        replay.drain();
        replay
    }

    /// Goes through the recording until the recorder did something the dialogue never does.
    /// Gives the kinds of what the recorder sent until there.
    fn run(&mut self, records: &[Record]) -> Vec<String> {
        let mut recorded = Vec::new();
        let loads = records.iter().any(|record| {
            record
                .message
                .as_ref()
                .is_some_and(|message| message["method"] == "session/load")
        });
        for record in records {
            self.pass_to(self.base + record.at);
            let Some(message) = &record.message else {
                self.line(record.text.as_bytes());
                continue;
            };
            if message.get("_exit").is_some() {
                let code = message["_exit"]["code"]
                    .as_i64()
                    .and_then(|code| i32::try_from(code).ok());
                let exit = Exit {
                    code,
                    signal: None,
                    stderr_tail: String::new(),
                };
                self.dialogue.on_end(self.now, exit);
                self.drain();
            } else if message.get("_spawn").is_some() || message.get("_signal").is_some() {
            } else if record.ours {
                let kind = kind_of(message);
                if !is_ours(&kind) {
                    return recorded;
                }
                self.as_recorded(message);
                if let Some(id) = message["id"]
                    .as_u64()
                    .filter(|_| message.get("method").is_some())
                {
                    let own = self
                        .sent
                        .iter()
                        .rev()
                        .find(|sent| sent["method"] == message["method"]);
                    let own = own.unwrap_or_else(|| panic!("{kind} was not sent"));
                    self.ids.insert(id, own["id"].as_u64().unwrap());
                }
                recorded.push(kind);
            } else {
                let mut message = message.clone();
                if message.get("method").is_none()
                    && let Some(id) = message["id"].as_u64()
                {
                    message["id"] = self.ids[&id].into();
                }
                // The recorder reloaded where the dialogue would rather resume.
                let offers = message.pointer_mut("/result/agentCapabilities/sessionCapabilities");
                if let Some(Value::Object(offers)) = offers
                    && loads
                {
                    offers.remove("resume");
                }
                self.line(message.to_string().as_bytes());
            }
        }
        recorded
    }

    /// Makes the owner say what makes the dialogue send this.
    fn as_recorded(&mut self, message: &Value) {
        let steer = match message["method"].as_str() {
            Some("session/prompt") => Steer::Prompt(
                message["params"]["prompt"][0]["text"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
            ),
            Some("session/cancel") => Steer::Interrupt,
            Some(_) => return,
            None => {
                let Some(option) = message["result"]["outcome"]["optionId"].as_str() else {
                    return;
                };
                let ask = self.asks.last().unwrap().clone();
                Steer::Answer(
                    ask,
                    Answer::Choose {
                        option: option.to_owned(),
                    },
                )
            }
        };
        let is_prompt = matches!(steer, Steer::Prompt(_));
        let before = self.sent.len();
        self.dialogue.on_steer(self.now, steer);
        self.drain();
        // After a reload the dialogue waits for quiet where the recorder did not.
        if is_prompt && self.sent.len() == before {
            self.pass_to(self.now + Duration::from_millis(200));
        }
    }

    fn pass_to(&mut self, until: Instant) {
        while let Some(due) = self.dialogue.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.dialogue.on_timeout(self.now);
            self.drain();
        }
        self.now = self.now.max(until);
    }

    fn line(&mut self, line: &[u8]) {
        self.dialogue.on_line(self.now, line);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(step) = self.dialogue.next_step() {
            match step {
                Step::Send(line) => self.sent.push(serde_json::from_str(&line).unwrap()),
                Step::Emit(seen) => {
                    if let RunEvent::Ask(ask) = &seen.event {
                        self.asks.push(ask.id.clone());
                    }
                    if let RunEvent::Tool(state) = &seen.event {
                        self.tools
                            .insert(state.id.as_str().to_owned(), state.clone());
                    }
                    self.seen.push(seen.event);
                }
                Step::TurnOver(end) => self.ends.push(end),
                Step::CloseInput(_) | Step::Terminate(_) => self.endings += 1,
                Step::Resumable(_) | Step::Applied(_) | Step::Injected(_) | Step::EndInput => {}
            }
        }
    }

    /// A line that says how it went.
    fn summary(&self) -> String {
        let ends: Vec<_> = self.ends.iter().map(|end| word_of(&end.outcome)).collect();
        let statuses: Vec<_> = self
            .tools
            .values()
            .map(|tool| status_of(tool.status))
            .collect();
        let count =
            |wanted: fn(&RunEvent) -> bool| self.seen.iter().filter(|event| wanted(event)).count();
        format!(
            "{} | asked {} | tools {} | wrote {} | text {}",
            ends.join(" "),
            self.asks.len(),
            if statuses.is_empty() {
                "-".to_owned()
            } else {
                statuses.join(" ")
            },
            count(|event| matches!(event, RunEvent::FileWritten { .. })),
            count(|event| matches!(event, RunEvent::Text { .. })),
        )
    }
}

fn word_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Completed => "completed",
        Outcome::Failed { .. } => "failed",
        Outcome::Blocked {
            fix: Fix::Login, ..
        } => "login",
        Outcome::Blocked { .. } => "blocked",
        Outcome::Cancelled { .. } => "cancelled",
    }
}

fn status_of(status: ToolStatus) -> &'static str {
    match status {
        ToolStatus::Pending => "pending",
        ToolStatus::InProgress => "in_progress",
        ToolStatus::Completed => "completed",
        ToolStatus::Failed => "failed",
        ToolStatus::Cancelled => "cancelled",
        ToolStatus::Unknown => "unknown",
    }
}

fn kind_of(message: &Value) -> String {
    if let Some(method) = message["method"].as_str() {
        return method.to_owned();
    }
    let outcome = &message["result"]["outcome"];
    match (outcome["optionId"].as_str(), outcome["outcome"].as_str()) {
        (Some(option), _) => format!("answer {option}"),
        (None, Some(other)) => format!("answer {other}"),
        // The recorder wrote files for the agent; the dialogue says it cannot.
        (None, None) => "answer to a request".to_owned(),
    }
}

fn is_ours(kind: &str) -> bool {
    kind.starts_with("answer")
        || matches!(
            kind,
            "initialize"
                | "session/new"
                | "session/load"
                | "session/resume"
                | "session/prompt"
                | "session/cancel"
        )
}

const EXPECTED: [(&str, &str); 46] = [
    (
        "gemini/drop",
        "failed | asked 0 | tools - | wrote 0 | text 1",
    ),
    (
        "gemini/edit",
        "completed | asked 2 | tools completed completed | wrote 2 | text 8",
    ),
    (
        "gemini/eof-busy",
        "completed | asked 0 | tools - | wrote 0 | text 120",
    ),
    (
        "gemini/err401",
        "login | asked 0 | tools - | wrote 0 | text 0",
    ),
    (
        "gemini/err403",
        "login | asked 0 | tools - | wrote 0 | text 0",
    ),
    (
        "gemini/err429once",
        "completed | asked 0 | tools - | wrote 0 | text 3",
    ),
    (
        "gemini/load",
        "completed | asked 0 | tools - | wrote 0 | text 3",
    ),
    (
        "gemini/multi",
        "completed | asked 1 | tools completed completed | wrote 1 | text 6",
    ),
    (
        "gemini/perm-pending-cancel",
        "cancelled | asked 1 | tools cancelled | wrote 0 | text 2",
    ),
    (
        "gemini/read-missing",
        "completed | asked 0 | tools failed | wrote 0 | text 6",
    ),
    (
        "gemini/refuse",
        "completed | asked 0 | tools - | wrote 0 | text 1",
    ),
    (
        "gemini/shell-allow-once",
        "completed | asked 1 | tools completed | wrote 0 | text 6",
    ),
    (
        "gemini/shell-cancel",
        "cancelled | asked 1 | tools completed | wrote 0 | text 2",
    ),
    (
        "gemini/shell-reject",
        "completed | asked 1 | tools failed | wrote 0 | text 6",
    ),
    (
        "gemini/shell-safe",
        "completed | asked 0 | tools completed | wrote 0 | text 6",
    ),
    (
        "gemini/slash",
        "completed | asked 0 | tools - | wrote 0 | text 1",
    ),
    (
        "gemini/slow-cancel",
        "cancelled completed | asked 0 | tools - | wrote 0 | text 20",
    ),
    (
        "gemini/text",
        "completed | asked 0 | tools - | wrote 0 | text 12",
    ),
    (
        "gemini/think",
        "completed | asked 0 | tools - | wrote 0 | text 2",
    ),
    (
        "gemini/write-allow-always",
        "completed completed | asked 1 | tools completed completed | wrote 2 | text 12",
    ),
    (
        "gemini/write-allow-once",
        "completed | asked 1 | tools completed | wrote 1 | text 6",
    ),
    (
        "gemini/write-outside",
        "completed | asked 0 | tools failed | wrote 0 | text 6",
    ),
    (
        "gemini/write-reject",
        "completed | asked 1 | tools failed | wrote 0 | text 6",
    ),
    (
        "opencode/edit",
        "completed | asked 2 | tools completed completed | wrote 2 | text 8",
    ),
    (
        "opencode/eof-busy",
        "failed | asked 0 | tools - | wrote 0 | text 6",
    ),
    (
        "opencode/err401",
        "login | asked 0 | tools - | wrote 0 | text 0",
    ),
    (
        "opencode/err429once",
        "completed | asked 0 | tools - | wrote 0 | text 3",
    ),
    (
        "opencode/load",
        "completed | asked 0 | tools - | wrote 0 | text 12",
    ),
    (
        "opencode/multi",
        "completed | asked 2 | tools completed completed | wrote 1 | text 6",
    ),
    (
        "opencode/perm-pending-cancel",
        "cancelled | asked 1 | tools failed | wrote 0 | text 2",
    ),
    (
        "opencode/plan",
        "completed | asked 0 | tools completed | wrote 0 | text 6",
    ),
    (
        "opencode/read-missing",
        "completed | asked 0 | tools failed | wrote 0 | text 6",
    ),
    (
        "opencode/refuse",
        "failed | asked 0 | tools - | wrote 0 | text 1",
    ),
    (
        "opencode/resume",
        "completed | asked 0 | tools - | wrote 0 | text 12",
    ),
    (
        "opencode/shell-allow-once",
        "completed | asked 1 | tools completed | wrote 0 | text 6",
    ),
    (
        "opencode/shell-cancel",
        "cancelled | asked 1 | tools completed | wrote 0 | text 2",
    ),
    (
        "opencode/shell-reject",
        "completed | asked 1 | tools failed | wrote 0 | text 2",
    ),
    (
        "opencode/sigterm-in-shell",
        "failed | asked 1 | tools unknown | wrote 0 | text 2",
    ),
    (
        "opencode/slow-cancel-immediate",
        "cancelled | asked 0 | tools - | wrote 0 | text 0",
    ),
    (
        "opencode/slow-cancel",
        "cancelled completed | asked 0 | tools - | wrote 0 | text 18",
    ),
    (
        "opencode/text",
        "completed | asked 0 | tools - | wrote 0 | text 12",
    ),
    (
        "opencode/think",
        "completed | asked 0 | tools - | wrote 0 | text 2",
    ),
    (
        "opencode/write-allow-once",
        "completed | asked 1 | tools completed | wrote 1 | text 6",
    ),
    (
        "opencode/write-default-permission",
        "completed completed | asked 1 | tools completed completed | wrote 2 | text 12",
    ),
    (
        "opencode/write-outside",
        "completed | asked 2 | tools completed | wrote 1 | text 6",
    ),
    (
        "opencode/write-reject",
        "completed | asked 1 | tools failed | wrote 0 | text 2",
    ),
];

#[test]
fn recorded_agents_get_what_the_recorder_sent_and_every_turn_ends_as_it_did() {
    for (name, expected) in EXPECTED {
        let records = recording(name);
        let mut replay = Replay::new(name, &records);
        let recorded = replay.run(&records);
        let sent: Vec<_> = replay
            .sent
            .iter()
            .map(kind_of)
            .take(recorded.len())
            .collect();
        assert_eq!(sent, recorded, "{name}");
        assert_eq!(replay.summary(), expected, "{name}");
    }
}

#[test]
fn a_recorded_login_prompt_on_standard_output_ends_the_start_before_anything_else_is_sent() {
    let name = "gemini/noauth-oauth-selected-no-creds";
    let mut replay = Replay::new(name, &[]);
    replay
        .dialogue
        .on_steer(replay.now, Steer::Prompt("work".into()));
    for record in recording(name)
        .iter()
        .filter(|record| record.message.is_none())
    {
        replay.line(record.text.as_bytes());
    }
    assert_eq!(
        replay.sent.iter().map(kind_of).collect::<Vec<_>>(),
        ["initialize"]
    );
    let [end] = &replay.ends[..] else {
        panic!("{:?}", replay.ends)
    };
    let Outcome::Blocked {
        fix: Fix::Login,
        reason,
    } = &end.outcome
    else {
        panic!("{end:?}")
    };
    assert!(
        reason.contains("It said: Please visit the following URL"),
        "{reason}"
    );
    assert_eq!(replay.endings, 1);
}

#[test]
fn no_text_of_a_recorded_answer_is_lost_or_told_twice() {
    for (name, _) in EXPECTED {
        let records = recording(name);
        let mut replay = Replay::new(name, &records);
        replay.run(&records);
        let told: String = replay
            .seen
            .iter()
            .filter_map(|event| match event {
                RunEvent::Text { delta, .. } => Some(delta.as_str()),
                _ => None,
            })
            .collect();
        let answers: String = replay.ends.iter().map(|end| end.answer.as_str()).collect();
        let squeezed = |text: &str| text.replace('\n', "");
        assert_eq!(squeezed(&answers), squeezed(&told), "{name}");
    }
}

#[test]
fn damaged_recordings_do_no_harm_and_every_prompt_still_gets_its_end() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for (name, _) in EXPECTED {
        for _ in 0..12 {
            let records = recording(name);
            let mut replay = Replay::new(name, &records);
            let mut prompts = 0;
            for record in &records {
                let now = replay.now + Duration::from_millis(dice.below(3000));
                replay.pass_to(now);
                if record.ours || dice.below(20) == 0 {
                    let steer = match dice.below(8) {
                        0 => Steer::Interrupt,
                        1 => Steer::Close,
                        2 => Steer::Tune(Tuning {
                            model: Some("x".into()),
                            mode: Some("plan".into()),
                            ..Tuning::default()
                        }),
                        3 if !replay.asks.is_empty() => {
                            let ask = replay.asks.last().unwrap().clone();
                            Steer::Answer(ask, Answer::Text { text: "1".into() })
                        }
                        _ => {
                            prompts += 1;
                            Steer::Prompt("go".into())
                        }
                    };
                    replay.dialogue.on_steer(replay.now, steer);
                    replay.drain();
                }
                if !record.ours {
                    let line = damaged(record.text.as_bytes(), &mut dice);
                    for _ in 0..dice.below(3) {
                        replay.line(&line);
                    }
                }
            }
            let exit = Exit {
                code: Some(1),
                signal: None,
                stderr_tail: String::new(),
            };
            replay.dialogue.on_end(replay.now, exit);
            replay.drain();
            assert_eq!(replay.ends.len(), prompts, "{name}");
            assert_eq!(replay.dialogue.deadline(), None, "{name}");
        }
    }
}

fn damaged(line: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut line = line.to_vec();
    let length = u64::try_from(line.len().max(1)).unwrap();
    match dice.below(6) {
        0 => line.truncate(usize::try_from(dice.below(length)).unwrap()),
        1 => {
            for _ in 0..4 {
                let at = usize::try_from(dice.below(length)).unwrap();
                if let Some(byte) = line.get_mut(at) {
                    *byte = u8::try_from(dice.below(256)).unwrap();
                }
            }
        }
        2 => {
            let text = String::from_utf8_lossy(&line).into_owned();
            let swaps = [
                ("\"", "7"),
                ("{", "["),
                (":null", ":{}"),
                ("text", "type"),
                ("id", "ID"),
            ];
            let (from, to) = swaps[usize::try_from(dice.below(5)).unwrap()];
            line = text.replacen(from, to, 3).into_bytes();
        }
        _ => {}
    }
    line
}

/// A small reproducible source of numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
