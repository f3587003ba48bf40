//! What the owner says: prompts are queued elsewhere; here are answers, interrupts, settings and
//! the end.

use std::time::Instant;

use bridge_proto::{
    AskId,
    model::{Actor, Answer, Outcome, RunEvent, Tuning},
};
use serde_json::Value;

use super::{
    dialogue::{AcpDialogue, Phase},
    jsonrpc::{self, RpcError},
    permissions::AnswerError,
    session::{Setting, short_name},
    turn::Cancel,
};
use crate::{dialogue::Step, plain::sentence};

impl AcpDialogue {
    pub(super) fn on_interrupt(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Running(turn) => {
                if turn.cancel.is_some() {
                    return;
                }
                turn.cancel = Some(Cancel::new(now));
                self.withdrawn += self.waiting.len();
                self.waiting.clear();
                self.send_cancel();
                self.withdraw_asks();
            }
            Phase::New
            | Phase::Initializing { .. }
            | Phase::Holding { .. }
            | Phase::Opening { .. }
            | Phase::Settling { .. }
            | Phase::Choosing { .. }
            | Phase::Idle
            | Phase::Over(_) => {
                for _ in std::mem::take(&mut self.waiting) {
                    self.turn_over(Outcome::Cancelled { by: Actor::Person }, String::new());
                }
            }
        }
    }

    pub(super) fn on_answer(&mut self, now: Instant, ask: &AskId, answer: &Answer) {
        match self.asks.answer(ask, answer) {
            Ok(settled) => {
                if let Some(result) = &settled.result {
                    self.push(Step::Send(jsonrpc::result(&settled.rpc_id, result)));
                }
                self.push(Step::Applied(ask.clone()));
                if let Some(next) = settled.next {
                    self.emit(RunEvent::Ask(next), None);
                }
                if let Some(state) = settled.refused.and_then(|tool| self.tools.reject(&tool)) {
                    self.emit(RunEvent::Tool(state), None);
                }
                if let Phase::Running(turn) = &mut self.phase {
                    turn.heard(now);
                }
            }
            // Answers and withdrawals cross; the closing of the question has been told already.
            Err(AnswerError::NotOpen(_)) => {}
            Err(error @ AnswerError::NotOffered { .. }) => self.say(error.to_string()),
        }
    }

    /// As [`crate::provider::Steer::Close`].
    pub(super) fn close(&mut self) {
        self.closing = true;
        match &self.phase {
            Phase::Running(_) => {}
            Phase::Idle => self.close_input(),
            Phase::Over(_) => self.end_process(),
            Phase::New
            | Phase::Initializing { .. }
            | Phase::Holding { .. }
            | Phase::Opening { .. }
            | Phase::Settling { .. }
            | Phase::Choosing { .. } => {
                if self.waiting.is_empty() {
                    self.close_input();
                }
            }
        }
    }

    pub(super) fn on_tune(&mut self, tuning: Tuning) {
        let open = match &self.phase {
            Phase::Idle | Phase::Running(_) => true,
            Phase::New
            | Phase::Initializing { .. }
            | Phase::Holding { .. }
            | Phase::Opening { .. }
            | Phase::Settling { .. }
            | Phase::Choosing { .. } => false,
            Phase::Over(_) => return,
        };
        let Tuning {
            model,
            mode,
            effort,
        } = tuning;
        if open {
            for (setting, wanted) in Setting::ALL.into_iter().zip([model, mode, effort]) {
                if let Some(wanted) = wanted {
                    self.choose(setting, &wanted);
                }
            }
            return;
        }
        if model.is_some() {
            self.start.model = model;
            self.quirks.model_at_launch = false;
        }
        let later = [(Setting::Mode, mode), (Setting::Effort, effort)];
        for (setting, wanted) in later {
            if let Some(wanted) = wanted {
                self.wanted.retain(|(other, _)| *other != setting);
                self.wanted.push((setting, wanted));
            }
        }
    }

    /// Asks for a setting; `None` and a word to the owner if the session does not offer it.
    pub(super) fn choose(&mut self, setting: Setting, wanted: &str) -> Option<u64> {
        let found = self.offer.find(setting, wanted).map(str::to_owned);
        let id = found.unwrap_or_else(|| wanted.to_owned());
        if self.offer.current(setting) == Some(id.as_str()) {
            return None;
        }
        let Some((method, params)) = self.offer.choose(setting, &self.session, &id) else {
            let what = setting.name();
            let name = &self.quirks.name;
            let wanted = sentence(wanted, 100);
            self.say(format!(
                "{name} does not offer the {what} {wanted}; its own stays in force"
            ));
            return None;
        };
        let request = self.request(method, &params);
        self.side_requests.insert(request, (setting, id));
        Some(request)
    }

    pub(super) fn on_chosen(
        &mut self,
        setting: Setting,
        value: &str,
        outcome: Result<Value, RpcError>,
    ) {
        match outcome {
            Ok(result) => {
                self.offer.read_options(&result);
                self.offer.set_current(setting, value);
                self.tell_setting(setting, Some(result));
            }
            Err(error) => {
                let what = setting.name();
                let name = &self.quirks.name;
                let why = sentence(&error.message, 200);
                self.say(format!("{name} did not take the {what} {value}: {why}"));
            }
        }
    }

    /// Tells the owner what is in force, unless it knows. Agents confirm a choice more than once.
    pub(super) fn tell_setting(&mut self, setting: Setting, raw: Option<Value>) {
        let Some(value) = self.offer.current(setting).map(str::to_owned) else {
            return;
        };
        if self.told.get(&setting) == Some(&value) {
            if let Some(raw) = raw {
                self.other(setting.name(), raw);
            }
            return;
        }
        self.told.insert(setting, value.clone());
        let event = match setting {
            Setting::Model => RunEvent::Model { model: value },
            Setting::Mode => RunEvent::Mode {
                mode: short_name(&value).to_owned(),
            },
            Setting::Effort => RunEvent::Effort { effort: value },
        };
        self.emit(event, raw);
    }
}
