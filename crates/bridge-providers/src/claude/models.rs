//! Asking the program for its models and commands: `initialize` and its answer, no prompt, no model call.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bridge_proto::model::{Observed, RunEvent};
use serde_json::{Value, json};

use super::outgoing;
use crate::{
    dialogue::{Dialogue, Exit, Step},
    plain::one_line,
    provider::{Heard, Steer},
};

/// A conversation that asks one thing and ends.
#[derive(Debug, Default)]
pub(super) struct ModelList {
    steps: VecDeque<Step>,
    answered: bool,
}

/// The answer, if this is it; `Err` with what came instead.
pub(super) fn heard_answer(heard: Heard) -> Option<Result<Value, String>> {
    match heard {
        Heard::Seen(observed) => match (observed.event, observed.raw) {
            (RunEvent::Other { what }, Some(raw)) if what == ANSWER => Some(Ok(raw)),
            (_, _) => None,
        },
        Heard::Gone => Some(Err("the program ended without an answer".into())),
        Heard::Prompted
        | Heard::Resumable(_)
        | Heard::Applied(_)
        | Heard::Injected(_)
        | Heard::TurnOver(_) => None,
    }
}

/// The models of the answer.
pub(super) fn models_in(answer: &Value) -> Result<Vec<String>, String> {
    let models = answer.get("models").and_then(Value::as_array);
    let models: Vec<String> = models
        .into_iter()
        .flatten()
        .filter_map(|model| model.get("value").and_then(Value::as_str))
        .take(MAX_MODELS)
        .map(|model| one_line(model, 200))
        .collect();
    if models.is_empty() {
        Err("the list is empty".into())
    } else {
        Ok(models)
    }
}

impl Dialogue for ModelList {
    fn on_start(&mut self, _now: Instant) {
        let line = outgoing::request("models", &json!({"subtype": "initialize"}));
        self.steps.push_back(Step::Send(line));
    }

    fn on_line(&mut self, _now: Instant, line: &[u8]) {
        let Ok(message) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        let is_answer = message
            .pointer("/response/request_id")
            .and_then(Value::as_str)
            == Some("models");
        if !is_answer || self.answered {
            return;
        }
        self.answered = true;
        let answer = message.pointer("/response/response").cloned();
        let event = RunEvent::Other {
            what: ANSWER.into(),
        };
        self.steps.push_back(Step::Emit(Box::new(Observed {
            event,
            raw: Some(answer.unwrap_or_default()),
        })));
        self.steps
            .push_back(Step::CloseInput(Duration::from_secs(2)));
    }

    fn on_oversized(&mut self, _now: Instant, _bytes: u64) {}

    fn on_steer(&mut self, _now: Instant, _steer: Steer) {}

    fn on_end(&mut self, _now: Instant, _exit: Exit) {}

    fn on_timeout(&mut self, _now: Instant) {}

    fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// Marks the one event of this conversation.
const ANSWER: &str = "models";
/// Most models taken from a list.
const MAX_MODELS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(answer: &Value) -> Vec<Step> {
        let now = Instant::now();
        let mut list = ModelList::default();
        list.on_start(now);
        list.on_line(now, b"no json");
        list.on_line(now, answer.to_string().as_bytes());
        std::iter::from_fn(|| list.next_step()).collect()
    }

    fn models(steps: Vec<Step>) -> Option<Result<Vec<String>, String>> {
        steps.into_iter().find_map(|step| {
            if let Step::Emit(observed) = step {
                heard_answer(Heard::Seen(observed)).map(|answer| models_in(&answer?))
            } else {
                None
            }
        })
    }

    #[test]
    fn the_names_of_the_answer_are_the_list() {
        let steps = ask(
            &json!({"type": "control_response", "response": {"subtype": "success",
            "request_id": "models", "response": {"models": [
                {"value": "default", "displayName": "Default"}, {"value": "opus"}, 7]}}}),
        );
        assert_eq!(
            steps.last(),
            Some(&Step::CloseInput(Duration::from_secs(2)))
        );
        assert_eq!(
            models(steps),
            Some(Ok(vec!["default".into(), "opus".into()]))
        );
    }

    #[test]
    fn an_answer_without_models_is_an_error() {
        let steps = ask(&json!({"response": {"request_id": "models"}}));
        assert_eq!(models(steps), Some(Err("the list is empty".into())));
    }
}
