//! Plays a recording against a dialogue: what the agent said is said again, and what the host did
//! is done by its owner.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bridge_proto::{
    ResumeId,
    model::{Answer, Tuning},
};
use bridge_providers::{
    codex::{CodexDialogue, CodexStart, ExecDialogue},
    dialogue::{Dialogue as _, Exit},
    provider::{Asking, Steer},
};
use serde_json::{Value, json};

use crate::{
    recording::{Line, read},
    told::Told,
};

/// A replay under way.
pub(crate) struct Replay {
    pub(crate) dialogue: CodexDialogue,
    pub(crate) told: Told,
    pub(crate) prompts: usize,
    pub(crate) injects: usize,
    begin: Instant,
    pub(crate) now: Instant,
    /// The recorder's requests and our own.
    ids: HashMap<u64, u64>,
    /// The last request that was answered for the recorder.
    cleaned: Value,
    stderr: String,
}

pub(crate) fn replay(name: &str) -> Told {
    let lines = read(name);
    if name.starts_with("exec-") {
        return replay_exec(&lines);
    }
    let mut replay = Replay::new(&lines);
    for line in &lines {
        replay.play(line, &lines);
    }
    replay.told
}

impl Replay {
    pub(crate) fn new(lines: &[Line]) -> Self {
        let begin = Instant::now();
        let mut replay = Self {
            dialogue: CodexDialogue::new(start(lines)),
            told: Told::default(),
            prompts: 0,
            injects: 0,
            begin,
            now: begin,
            ids: HashMap::new(),
            cleaned: Value::Null,
            stderr: String::new(),
        };
        replay.dialogue.on_start(begin);
        replay.drain();
        replay
    }

    pub(crate) fn play(&mut self, line: &Line, all: &[Line]) {
        self.pass_to(self.begin + line.at);
        if let Some(bytes) = &line.bytes {
            if !line.ours {
                self.dialogue.on_line(self.now, bytes);
            }
        } else if let Some(words) = line.message["_stderr"].as_str() {
            self.stderr.push_str(words);
        } else if let Some(exit) = line.exit() {
            let stderr_tail = self.stderr.clone();
            self.end(Exit {
                stderr_tail,
                ..exit
            });
        } else if line.ours {
            self.as_recorded(line);
        } else if let Some(message) = self.in_our_numbers(&line.message) {
            self.dialogue
                .on_line(self.now, message.to_string().as_bytes());
        }
        self.drain();
        self.clean_for(all);
    }

    pub(crate) fn steer(&mut self, steer: Steer) {
        self.prompts += usize::from(matches!(steer, Steer::Prompt(_)));
        self.injects += usize::from(matches!(steer, Steer::Inject(_)));
        self.dialogue.on_steer(self.now, steer);
        self.drain();
    }

    pub(crate) fn end(&mut self, exit: Exit) {
        self.dialogue.on_end(self.now, exit);
        self.drain();
    }

    /// Lets time pass, with all that is due in it.
    pub(crate) fn pass_to(&mut self, until: Instant) {
        let mut wakes = 0;
        while let Some(due) = self.dialogue.deadline().filter(|due| *due <= until) {
            wakes += 1;
            assert!(wakes < 100_000, "a deadline that never passes");
            self.now = self.now.max(due);
            self.dialogue.on_timeout(self.now);
            self.drain();
        }
        self.now = self.now.max(until);
    }

    fn drain(&mut self) {
        self.told.drain(&mut self.dialogue);
    }

    /// Makes the owner say what makes the dialogue send this.
    fn as_recorded(&mut self, line: &Line) {
        let params = &line.message["params"];
        let text = || {
            params["input"][0]["text"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let steer = match line.method() {
            "turn/start" if self.is_busy() => Some(Steer::Inject(text())),
            "turn/start" => {
                let setting = |name: &str| params[name].as_str().map(str::to_owned);
                let tuning = Tuning {
                    model: setting("model"),
                    effort: setting("effort"),
                    mode: None,
                };
                if tuning != Tuning::default() {
                    self.steer(Steer::Tune(tuning));
                }
                Some(Steer::Prompt(text()))
            }
            "turn/steer" => Some(Steer::Inject(text())),
            "turn/interrupt" => Some(Steer::Interrupt),
            "" if line.message.get("_eof").is_some() => Some(Steer::Close),
            "" => self.told.asks().last().and_then(|ask| {
                let option = line.message["result"]["decision"].as_str()?.to_owned();
                Some(Steer::Answer(ask.id.clone(), Answer::Choose { option }))
            }),
            _ => None,
        };
        if let Some(steer) = steer {
            self.steer(steer);
        }
        if let (Some(theirs), false) = (line.message["id"].as_u64(), line.method().is_empty()) {
            let wanted = match line.method() {
                "turn/start"
                    if self
                        .told
                        .said()
                        .last()
                        .is_some_and(|said| said == "turn/steer") =>
                {
                    "turn/steer"
                }
                method => method,
            };
            let sent = self.told.sent();
            let own = sent.iter().rev().find(|sent| sent["method"] == wanted);
            if let Some(own) = own.and_then(|own| own["id"].as_u64()) {
                self.ids.insert(theirs, own);
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.told.ends().len() < self.prompts
    }

    /// An answer to a request the dialogue never makes is left out.
    fn in_our_numbers(&self, message: &Value) -> Option<Value> {
        let mut message = message.clone();
        if message.get("method").is_none() {
            let own = self.ids.get(&message["id"].as_u64()?)?;
            message["id"] = json!(own);
        }
        Some(message)
    }

    /// Answers the request that ends commands where the recorder did not make it.
    fn clean_for(&mut self, all: &[Line]) {
        let clean = "thread/backgroundTerminals/clean";
        if all.iter().any(|line| line.ours && line.method() == clean) {
            return;
        }
        let sent = self.told.sent();
        let last = sent.iter().rev().find(|sent| sent["method"] == clean);
        let Some(last) = last.filter(|last| last["id"] != self.cleaned) else {
            return;
        };
        self.cleaned = last["id"].clone();
        let answer = json!({ "id": last["id"], "result": {} });
        self.dialogue
            .on_line(self.now, answer.to_string().as_bytes());
        self.drain();
    }
}

/// What the recorder asked for.
fn start(lines: &[Line]) -> CodexStart {
    let asked = lines
        .iter()
        .find(|line| line.ours && matches!(line.method(), "thread/start" | "thread/resume"));
    let params = asked
        .map(|line| line.message["params"].clone())
        .unwrap_or_default();
    let text = |name: &str| params[name].as_str().map(str::to_owned);
    CodexStart {
        directory: text("cwd").unwrap_or_else(|| "/home/user/project".into()),
        writable: Vec::new(),
        model: text("model"),
        asking: match params["approvalPolicy"].as_str() {
            Some("untrusted") => Asking::Answered,
            Some("on-request") => Asking::Unneeded,
            _ => Asking::Unanswered,
        },
        instructions: String::new(),
        resume: text("threadId").and_then(|id| ResumeId::parse(&id).ok()),
    }
}

fn replay_exec(lines: &[Line]) -> Told {
    let args: Vec<&str> = lines[0].message["_spawn"]["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap())
        .collect();
    let begin = Instant::now();
    let mut dialogue = ExecDialogue::new("/home/user/project", args.contains(&"resume"));
    let mut told = Told::default();
    dialogue.on_start(begin);
    dialogue.on_steer(begin, Steer::Prompt("the prompt".into()));
    // What goes in is no JSON, and the same for all.
    told.drain(&mut dialogue);
    told.steps.remove(0);
    let mut stderr = String::new();
    for line in lines {
        let now = begin + line.at;
        while let Some(due) = dialogue.deadline().filter(|due| *due <= now) {
            dialogue.on_timeout(due);
            told.drain(&mut dialogue);
        }
        if let Some(words) = line.message["_stderr"].as_str() {
            stderr.push_str(words);
        } else if line.message.get("_signal").is_some() {
            dialogue.on_steer(now, Steer::Interrupt);
        } else if let Some(exit) = line.exit() {
            let stderr_tail = stderr.clone();
            dialogue.on_end(
                now,
                Exit {
                    stderr_tail,
                    ..exit
                },
            );
        } else if !line.ours && line.message.get("_note").is_none() {
            dialogue.on_line(now, line.message.to_string().as_bytes());
        }
        told.drain(&mut dialogue);
    }
    assert_eq!(dialogue.deadline(), None);
    told
}

/// Longer than any limit of a dialogue.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
