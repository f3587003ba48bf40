//! A conversation without a process: lines are said to the dialogue one by one.

use std::time::{Duration, Instant};

use bridge_proto::model::{Answer, Ask};
use bridge_providers::{
    codex::{CodexDialogue, CodexStart},
    dialogue::{Dialogue as _, Exit},
    provider::Steer,
};
use serde_json::{Value, json};

use crate::told::{Told, kind_of};

pub(crate) struct Talk {
    pub(crate) dialogue: CodexDialogue,
    pub(crate) now: Instant,
    pub(crate) told: Told,
    turns: u64,
}

impl Talk {
    /// The greeting is sent and not answered.
    pub(crate) fn new() -> Self {
        Self::with(CodexStart {
            directory: "/work".into(),
            ..CodexStart::default()
        })
    }

    pub(crate) fn with(start: CodexStart) -> Self {
        let now = Instant::now();
        let mut talk = Self {
            dialogue: CodexDialogue::new(start),
            now,
            told: Told::default(),
            turns: 0,
        };
        talk.dialogue.on_start(now);
        talk.told.drain(&mut talk.dialogue);
        talk
    }

    /// The conversation is open.
    pub(crate) fn open() -> Self {
        let mut talk = Self::new();
        talk.answer("initialize", &json!({"userAgent": "ctrlnode/0.169.0"}));
        talk.answer("thread/start", &thread());
        talk
    }

    /// The first turn runs; its id is `turn-1`.
    pub(crate) fn working() -> Self {
        let mut talk = Self::open();
        talk.prompt("Do it");
        talk.begin();
        talk
    }

    pub(crate) fn prompt(&mut self, text: &str) {
        self.steer(Steer::Prompt(text.into()));
    }

    /// The program says that the next turn has begun.
    pub(crate) fn begin(&mut self) {
        self.turns += 1;
        let turn = json!({"turn": {"id": format!("turn-{}", self.turns)}});
        self.answer("turn/start", &turn);
        self.tell("turn/started", turn);
    }

    /// The program says that the running turn is over.
    pub(crate) fn complete(&mut self, status: &str, error: &Value) {
        let id = format!("turn-{}", self.turns);
        let turn = json!({"id": id, "status": status, "error": error});
        self.tell("turn/completed", json!({ "turn": turn }));
    }

    pub(crate) fn steer(&mut self, steer: Steer) {
        self.dialogue.on_steer(self.now, steer);
        self.told.drain(&mut self.dialogue);
    }

    pub(crate) fn choose(&mut self, ask: &Ask, option: &str) {
        let option = option.to_owned();
        self.steer(Steer::Answer(ask.id.clone(), Answer::Choose { option }));
    }

    /// A notification about the running turn.
    pub(crate) fn tell(&mut self, method: &str, mut params: Value) {
        params["threadId"] = json!("thread-1");
        if params.get("turn").is_none() && params.get("turnId").is_none() {
            params["turnId"] = json!(format!("turn-{}", self.turns));
        }
        self.line(&json!({"method": method, "params": params}));
    }

    /// An item of the running turn.
    pub(crate) fn item(&mut self, over: bool, item: &Value) {
        let method = if over {
            "item/completed"
        } else {
            "item/started"
        };
        self.tell(method, json!({ "item": item }));
    }

    /// A request of the program.
    pub(crate) fn ask(&mut self, id: u64, method: &str, params: &Value) {
        self.line(&json!({"id": id, "method": method, "params": params}));
    }

    /// The answer to the newest request of ours with this method.
    pub(crate) fn answer(&mut self, method: &str, result: &Value) {
        let id = self.newest(method);
        self.line(&json!({"id": id, "result": result}));
    }

    pub(crate) fn refuse(&mut self, method: &str, message: &str) {
        let id = self.newest(method);
        self.line(&json!({"id": id, "error": {"code": -32600, "message": message}}));
    }

    fn newest(&self, method: &str) -> Value {
        let sent = self.told.sent();
        let newest = sent.iter().rev().find(|sent| kind_of(sent) == method);
        newest.unwrap_or_else(|| panic!("{method} was not sent"))["id"].clone()
    }

    pub(crate) fn line(&mut self, line: &Value) {
        self.raw_line(line.to_string().as_bytes());
    }

    pub(crate) fn raw_line(&mut self, line: &[u8]) {
        self.dialogue.on_line(self.now, line);
        self.told.drain(&mut self.dialogue);
    }

    pub(crate) fn end(&mut self, exit: Exit) {
        self.dialogue.on_end(self.now, exit);
        self.told.drain(&mut self.dialogue);
    }

    /// Lets time pass until the dialogue wants to be woken; gives how long that was.
    pub(crate) fn wait(&mut self) -> Duration {
        let due = self.dialogue.deadline().unwrap();
        let waited = due.saturating_duration_since(self.now);
        self.now = due;
        self.dialogue.on_timeout(due);
        self.told.drain(&mut self.dialogue);
        waited
    }

    /// Lets this much time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.dialogue.deadline().is_some_and(|due| due <= until) {
            self.wait();
        }
        self.now = until;
    }

    /// How many lines were sent with this method or answer.
    pub(crate) fn count(&self, said: &str) -> usize {
        self.told.said().iter().filter(|one| *one == said).count()
    }
}

pub(crate) fn thread() -> Value {
    json!({"thread": {"id": "thread-1"}, "model": "gpt-5.5", "reasoningEffort": null})
}

pub(crate) fn command(status: &str, output: &Value) -> Value {
    json!({"type": "commandExecution", "id": "call_1", "status": status,
        "command": "/bin/bash -lc 'make all'", "cwd": "/work", "aggregatedOutput": output})
}

pub(crate) fn approval() -> Value {
    json!({"kind": "command", "threadId": "thread-1", "turnId": "turn-1", "itemId": "call_1",
        "command": "/bin/bash -lc 'make all'", "cwd": "/work"})
}

pub(crate) fn exit(code: i32, stderr: &str) -> Exit {
    Exit {
        code: Some(code),
        signal: None,
        stderr_tail: stderr.into(),
    }
}
