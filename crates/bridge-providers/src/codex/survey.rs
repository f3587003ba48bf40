//! Asking the program about itself in one start of its app-server: who is logged in, which models
//! there are. No conversation, no model call; the catalogue is built in.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bridge_proto::model::{Observed, RunEvent};
use serde_json::{Map, Value, json};

use super::outgoing;
use crate::{
    acp::jsonrpc::{Incoming, classify},
    dialogue::{Dialogue, Exit, Step},
    plain::one_line,
    provider::{Heard, Steer},
};

/// A conversation that asks some things and ends.
#[derive(Debug, Default)]
pub(super) struct Survey {
    steps: VecDeque<Step>,
    answers: Map<String, Value>,
    over: bool,
}

/// What the program said.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// A task would be let in: somebody is logged in, or nobody has to be.
    pub(super) ready: bool,
    /// The models, the default first.
    pub(super) models: Vec<String>,
}

/// What is heard of a survey: `None` until it is over, then what was found, or `Err` if the
/// app-server did not even greet.
pub(super) fn heard_survey(heard: Heard) -> Option<Result<Found, ()>> {
    match heard {
        Heard::Seen(seen) => match (seen.event, seen.raw) {
            (RunEvent::Other { what }, Some(raw)) if what == ANSWER => Some(Ok(found(&raw))),
            (_, _) => None,
        },
        Heard::Gone => Some(Err(())),
        Heard::Prompted
        | Heard::Resumable(_)
        | Heard::Applied(_)
        | Heard::Injected(_)
        | Heard::TurnOver(_) => None,
    }
}

impl Survey {
    fn send(&mut self, line: String) {
        self.steps.push_back(Step::Send(line));
    }

    fn end(&mut self) {
        self.over = true;
        self.steps.push_back(Step::CloseInput(CLOSE));
    }

    fn on_answer(&mut self, id: u64, outcome: Option<Value>) {
        if id == GREETING {
            if outcome.is_none() {
                self.end();
                return;
            }
            self.send(outgoing::notification("initialized"));
            for (id, (method, params)) in (GREETING + 1..).zip(questions()) {
                self.send(outgoing::request(id, method, &params));
            }
            return;
        }
        let asked = id
            .checked_sub(GREETING + 1)
            .and_then(|at| usize::try_from(at).ok());
        let Some((method, _)) = asked.and_then(|at| questions().into_iter().nth(at)) else {
            return;
        };
        self.answers
            .insert(method.to_owned(), outcome.unwrap_or_default());
        if self.answers.len() == questions().len() {
            let event = RunEvent::Other {
                what: ANSWER.to_owned(),
            };
            let raw = Some(Value::Object(std::mem::take(&mut self.answers)));
            self.steps
                .push_back(Step::Emit(Box::new(Observed { event, raw })));
            self.end();
        }
    }
}

impl Dialogue for Survey {
    fn on_start(&mut self, _now: Instant) {
        self.send(outgoing::request(
            GREETING,
            "initialize",
            &outgoing::greeting(),
        ));
    }

    fn on_line(&mut self, _now: Instant, line: &[u8]) {
        if let Incoming::Response { id, outcome } = classify(line)
            && let Some(id) = id.as_u64()
            && !self.over
        {
            self.on_answer(id, outcome.ok());
        }
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

fn questions() -> [(&'static str, Value); 3] {
    [
        ("account/read", json!({ "refreshToken": false })),
        ("model/list", json!({ "limit": MAX_MODELS })),
        ("config/read", json!({ "includeLayers": false })),
    ]
}

fn found(answers: &Value) -> Found {
    let account = answers.get("account/read").unwrap_or(&Value::Null);
    let logged_in = account.get("account").is_some_and(Value::is_object);
    let needed = account.get("requiresOpenaiAuth").and_then(Value::as_bool);
    let list = answers
        .pointer("/model~1list/data")
        .and_then(Value::as_array);
    let is = |model: &Value, name: &str| model.get(name).and_then(Value::as_bool) == Some(true);
    let mut offered: Vec<&Value> = list.into_iter().flatten().collect();
    offered.retain(|model| !is(model, "hidden"));
    offered.sort_by_key(|model| !is(model, "isDefault"));
    let name = |model: &Value| Some(one_line(model.get("model")?.as_str()?, 200));
    let chosen = answers.pointer("/config~1read/config/model");
    let chosen = chosen
        .and_then(Value::as_str)
        .map(|model| one_line(model, 200));
    let mut models: Vec<String> = chosen.into_iter().collect();
    for model in offered.into_iter().filter_map(name) {
        if models.len() < MAX_MODELS && !models.contains(&model) {
            models.push(model);
        }
    }
    Found {
        ready: logged_in || needed == Some(false),
        models,
    }
}

/// Marks the one event of this conversation.
const ANSWER: &str = "survey";
/// The first request; the questions follow it.
const GREETING: u64 = 0;
/// Most models taken from the list.
const MAX_MODELS: usize = 100;
/// How long it may take to end once its input is closed.
const CLOSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(lines: &[Value]) -> (Vec<String>, Option<Result<Found, ()>>) {
        let now = Instant::now();
        let mut survey = Survey::default();
        survey.on_start(now);
        for line in lines {
            survey.on_line(now, line.to_string().as_bytes());
        }
        let (mut sent, mut told) = (Vec::new(), None);
        while let Some(step) = survey.next_step() {
            match step {
                Step::Send(line) => {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    sent.push(line["method"].as_str().unwrap().to_owned());
                }
                Step::Emit(seen) => told = heard_survey(Heard::Seen(seen)),
                Step::CloseInput(_) => sent.push("close".to_owned()),
                Step::Prompted
                | Step::Resumable(_)
                | Step::Applied(_)
                | Step::Injected(_)
                | Step::TurnOver(_)
                | Step::EndInput
                | Step::Terminate(_) => panic!("{step:?}"),
            }
        }
        (sent, told)
    }

    #[test]
    fn one_start_tells_login_and_models() {
        let models = json!([
            {"model": "b", "hidden": false, "isDefault": false},
            {"model": "secret", "hidden": true},
            {"model": "a", "isDefault": true}, 7]);
        let (sent, told) = ask(&[
            json!({"id": 0, "result": {}}),
            json!({"method": "configWarning", "params": {}}),
            json!({"id": 2, "result": {"data": models}}),
            json!({"id": 1, "result": {"account": null, "requiresOpenaiAuth": false}}),
            json!({"id": 3, "result": {"config": {"model": "own"}}}),
        ]);
        let asked = [
            "initialize",
            "initialized",
            "account/read",
            "model/list",
            "config/read",
        ];
        assert_eq!(sent[..5], asked);
        let models = ["own", "a", "b"].map(str::to_owned).to_vec();
        assert_eq!(
            told,
            Some(Ok(Found {
                ready: true,
                models
            }))
        );
    }

    #[test]
    fn nobody_logged_in_where_somebody_has_to_be_is_not_ready() {
        let (_, told) = ask(&[
            json!({"id": 0, "result": {}}),
            json!({"id": 1, "result": {"account": null, "requiresOpenaiAuth": true}}),
            json!({"id": 2, "error": {"code": -32600, "message": "no such method"}}),
            json!({"id": 3, "error": {"code": -32600, "message": "no such method"}}),
        ]);
        let models = Vec::new();
        assert_eq!(
            told,
            Some(Ok(Found {
                ready: false,
                models
            }))
        );
    }

    #[test]
    fn a_refused_greeting_ends_the_survey() {
        let (sent, told) = ask(&[
            json!({"id": 0, "error": {"code": -32601, "message": "what?"}}),
            json!({"id": 1, "result": {}}),
        ]);
        assert_eq!((sent.len(), told), (2, None), "{sent:?}");
        assert_eq!(heard_survey(Heard::Gone), Some(Err(())));
    }
}
