//! What the owner says beside prompts and the interrupt: messages for the running turn, settings,
//! answers.

use std::time::Instant;

use bridge_proto::{
    AskId,
    model::{Answer, RunEvent, Tuning},
};
use serde_json::json;

use super::{
    dialogue::{CodexDialogue, Life, Request},
    outgoing,
};
use crate::{dialogue::Step, plain::one_line, provider::Injection};

/// A message for the running turn; they are answered in the order they were said.
#[derive(Debug)]
pub(super) enum Inject {
    /// The turn has no id yet.
    Held(String),
    /// Sent with this request.
    Sent(u64),
    Answered(Injection),
}

/// Settings that shall be in force from the next turn on.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) model: Option<String>,
    pub(super) effort: Option<String>,
}

impl CodexDialogue {
    /// Puts a message into the turn that works. It counts as taken when the program says so: the
    /// turn may end before it is read.
    pub(super) fn inject(&mut self, text: String) {
        let inject = if !self.is_working() || self.life == Life::Ending {
            Inject::Answered(Injection::Refused)
        } else {
            match self.turn_id() {
                Some(_) => Inject::Sent(self.steer_turn(&text)),
                None => Inject::Held(text),
            }
        };
        self.injects.push_back(inject);
        self.tell_injects();
    }

    fn steer_turn(&mut self, text: &str) -> u64 {
        let params = json!({
            "threadId": self.thread,
            "expectedTurnId": self.turn_id(),
            "input": outgoing::input(text),
        });
        self.request("turn/steer", &params, Request::Steer)
    }

    pub(super) fn send_held(&mut self) {
        if !self.is_working() {
            return;
        }
        let mut injects = std::mem::take(&mut self.injects);
        for inject in &mut injects {
            if let Inject::Held(text) = inject {
                let text = std::mem::take(text);
                *inject = Inject::Sent(self.steer_turn(&text));
            }
        }
        self.injects = injects;
    }

    /// The program answered a message for the running turn.
    pub(super) fn steered(&mut self, request: u64, taken: bool) {
        let injection = if taken {
            Injection::Taken
        } else {
            Injection::Refused
        };
        for inject in &mut self.injects {
            if matches!(inject, Inject::Sent(id) if *id == request) {
                *inject = Inject::Answered(injection);
            }
        }
        self.tell_injects();
    }

    fn tell_injects(&mut self) {
        while let Some(Inject::Answered(injection)) = self.injects.front() {
            let step = Step::Injected(*injection);
            self.steps.push_back(step);
            self.injects.pop_front();
        }
    }

    /// The turn is over; what it has not confirmed it has not read.
    pub(super) fn refuse_injects(&mut self) {
        for inject in &mut self.injects {
            if matches!(inject, Inject::Held(_) | Inject::Sent(_)) {
                *inject = Inject::Answered(Injection::Refused);
            }
        }
        self.tell_injects();
    }

    pub(super) fn on_tune(&mut self, tuning: Tuning) {
        if let Some(model) = tuning.model.filter(|model| !model.is_empty()) {
            self.wanted.model = Some(model);
        }
        match tuning.effort {
            Some(effort) if is_word(&effort) => self.wanted.effort = Some(effort),
            Some(effort) => self.status(format!(
                "the thinking effort was not changed: {} is none",
                one_line(&effort, 50)
            )),
            None => {}
        }
        if let Some(mode) = tuning.mode {
            self.status(format!(
                "the mode was not changed to {}: Codex has none",
                one_line(&mode, 50)
            ));
        }
    }

    pub(super) fn on_answer(&mut self, now: Instant, ask: AskId, answer: &Answer) {
        let Some(given) = self.asks.answer(&ask, answer) else {
            return;
        };
        self.heard_something(now);
        if let Some(line) = given.line {
            self.send(line);
        } else {
            // The last of its questions is answered to the program; the others only here.
            self.steps.push_back(Step::Applied(ask));
        }
        self.emit_all(given.next.map(RunEvent::Ask));
    }
}

/// Words such as `low` or `xhigh`; the program passes others on to the model's service.
fn is_word(effort: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !effort.is_empty() && effort.len() <= 32 && effort.chars().all(plain)
}
