//! A dialogue, a clock that stands still until told, and an agent that is a list of lines.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bridge_proto::{
    ResumeId,
    model::{Ask, Outcome, RunEvent},
};
use bridge_providers::{
    acp::{AcpDialogue, AcpQuirks, AcpStart},
    dialogue::{Dialogue as _, Exit, Step},
    provider::{Steer, TurnEnd},
};
use serde_json::{Value, json};

/// The dialogue, a clock that stands still until told, and what it has done so far.
pub(crate) struct Bench {
    pub(crate) dialogue: AcpDialogue,
    pub(crate) now: Instant,
    pub(crate) sent: VecDeque<Value>,
    pub(crate) steps: Vec<Step>,
}

impl Bench {
    pub(crate) fn new(start: AcpStart, quirks: AcpQuirks) -> Self {
        let now = Instant::now();
        let mut dialogue = AcpDialogue::new(start, quirks);
        dialogue.on_start(now);
        let mut bench = Self {
            dialogue,
            now,
            sent: VecDeque::new(),
            steps: Vec::new(),
        };
        bench.drain();
        bench
    }

    /// Started with these quirks.
    pub(crate) fn with(quirks: AcpQuirks) -> Self {
        let start = AcpStart {
            directory: "/p".into(),
            ..AcpStart::default()
        };
        Self::new(start, quirks)
    }

    /// Continuing the conversation `old`.
    pub(crate) fn resuming(quirks: AcpQuirks, hold: Option<Duration>) -> Self {
        let start = AcpStart {
            directory: "/p".into(),
            resume: Some(ResumeId::parse("old").unwrap()),
            hold_resume: hold,
            ..AcpStart::default()
        };
        Self::new(start, quirks)
    }

    /// With an open session and this prompt running.
    pub(crate) fn running(quirks: AcpQuirks) -> Self {
        let mut bench = Self::with(quirks);
        bench.reply(&json!({"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}));
        bench.reply(&json!({"sessionId": "s"}));
        bench.prompt("work");
        bench.steps.clear();
        bench
    }

    pub(crate) fn prompt(&mut self, text: &str) {
        self.steer(Steer::Prompt(text.into()));
    }

    pub(crate) fn line(&mut self, message: &Value) {
        self.dialogue
            .on_line(self.now, message.to_string().as_bytes());
        self.drain();
    }

    pub(crate) fn text(&mut self, line: &str) {
        self.dialogue.on_line(self.now, line.as_bytes());
        self.drain();
    }

    pub(crate) fn update(&mut self, update: &Value) {
        let params = json!({"sessionId": self.session(), "update": update});
        self.line(&json!({"jsonrpc": "2.0", "method": "session/update", "params": params}));
    }

    pub(crate) fn session(&self) -> &'static str {
        if self
            .sent
            .iter()
            .any(|sent| sent["params"]["sessionId"] == "old")
        {
            "old"
        } else {
            "s"
        }
    }

    /// Answers the last request that was sent.
    pub(crate) fn reply(&mut self, result: &Value) {
        let id = self.last_request()["id"].clone();
        self.line(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    pub(crate) fn reply_error(&mut self, code: i64, message: &str) {
        let id = self.last_request()["id"].clone();
        let error = json!({"code": code, "message": message});
        self.line(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
    }

    pub(crate) fn last_request(&self) -> &Value {
        let request = |sent: &&Value| sent.get("method").is_some() && sent.get("id").is_some();
        self.sent.iter().rev().find(request).unwrap()
    }

    pub(crate) fn steer(&mut self, steer: Steer) {
        self.dialogue.on_steer(self.now, steer);
        self.drain();
    }

    pub(crate) fn end(&mut self, code: i32, stderr: &str) {
        let exit = Exit {
            code: Some(code),
            signal: None,
            stderr_tail: stderr.into(),
        };
        self.dialogue.on_end(self.now, exit);
        self.drain();
    }

    /// Lets this much time pass, stopping at every deadline.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.dialogue.deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.dialogue.on_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    pub(crate) fn drain(&mut self) {
        while let Some(step) = self.dialogue.next_step() {
            if let Step::Send(line) = &step {
                self.sent.push_back(serde_json::from_str(line).unwrap());
            }
            self.steps.push(step);
        }
    }

    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let over = |step: &Step| match step {
            Step::TurnOver(end) => Some(end.outcome.clone()),
            _ => None,
        };
        self.steps.iter().filter_map(over).collect()
    }

    pub(crate) fn events(&self) -> Vec<RunEvent> {
        let seen = |step: &Step| match step {
            Step::Emit(seen) => Some(seen.event.clone()),
            _ => None,
        };
        self.steps.iter().filter_map(seen).collect()
    }

    pub(crate) fn methods(&self) -> Vec<&str> {
        self.sent
            .iter()
            .filter_map(|sent| sent["method"].as_str())
            .collect()
    }

    /// More of the answer, in one chunk.
    pub(crate) fn says(&mut self, text: &str) {
        self.update(&json!({"sessionUpdate": "agent_message_chunk",
            "content": {"type": "text", "text": text}}));
    }

    /// The agent asks for a permission; gives the question.
    pub(crate) fn permission(&mut self, id: &Value, call: &Value, options: &Value) -> Ask {
        self.line(
            &json!({"jsonrpc": "2.0", "id": id, "method": "session/request_permission",
            "params": {"sessionId": "s", "toolCall": call, "options": options}}),
        );
        self.last_ask().expect("a question")
    }

    /// The agent asks something outside the protocol.
    pub(crate) fn request(&mut self, id: u64, method: &str, params: &Value) {
        self.line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
    }

    pub(crate) fn last_ask(&self) -> Option<Ask> {
        let ask = |event| match event {
            RunEvent::Ask(ask) => Some(ask),
            _ => None,
        };
        self.events().into_iter().rev().find_map(ask)
    }

    /// The end of the only turn that is over.
    pub(crate) fn end_of_turn(&self) -> TurnEnd {
        let over = |step: &Step| match step {
            Step::TurnOver(end) => Some(end.clone()),
            _ => None,
        };
        let ends: Vec<_> = self.steps.iter().filter_map(over).collect();
        let [end] = &ends[..] else { panic!("{ends:?}") };
        end.clone()
    }

    /// The text a viewer has on its page.
    pub(crate) fn page(&self) -> String {
        let mut blocks: Vec<(String, String)> = Vec::new();
        for event in self.events() {
            let (block, text, more) = match event {
                RunEvent::Text { block, delta } => (block, delta, true),
                RunEvent::TextReplaced { block, text } => (block, text, false),
                _ => continue,
            };
            let at = blocks.iter().position(|(id, _)| id == block.as_str());
            match (at, more) {
                (Some(at), true) => blocks[at].1.push_str(&text),
                (Some(at), false) => blocks[at].1 = text,
                (None, _) => blocks.push((block.as_str().to_owned(), text)),
            }
        }
        blocks.into_iter().map(|(_, text)| text).collect()
    }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What a person reads of a turn that did not end well.
pub(crate) fn reason(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { reason, .. } | Outcome::Blocked { reason, .. } => reason,
        Outcome::Completed | Outcome::Cancelled { .. } => panic!("{outcome:?} has no reason"),
    }
}
