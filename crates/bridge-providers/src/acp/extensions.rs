//! Requests outside the protocol by which Cursor asks questions, shows plans and tells to-do lists.
//! None is left unanswered: it would wait for ever.

use bridge_proto::model::{Ask, RunEvent};
use serde_json::{Value, json};

use super::{
    dialogue::AcpDialogue,
    jsonrpc, permissions,
    questions::{self, Questions},
};
use crate::{dialogue::Step, plain::sentence};

impl AcpDialogue {
    /// The name of an extension of this agent; `None` for any other method.
    pub(super) fn extension<'a>(&self, method: &'a str) -> Option<&'a str> {
        method.strip_prefix(self.quirks.asks.extensions?)
    }

    /// A request by the agent, or a notification when there is no `id`: both forms have been seen
    /// of some.
    pub(super) fn on_extension(&mut self, id: Option<&Value>, name: &str, params: Value) {
        match (name, id) {
            ("ask_question", Some(id)) => {
                let questions = Questions::read(&params).filter(|_| self.is_working());
                let ask =
                    questions.and_then(|questions| self.asks.open_questions(id.clone(), questions));
                let refusal = questions::skipped("nobody can answer this here");
                self.raise(id, ask, &refusal, name, params);
            }
            ("create_plan", Some(id)) => {
                self.tell_todos(&params);
                let ask = if self.is_working() {
                    self.asks.open_plan(id.clone(), &params)
                } else {
                    None
                };
                self.raise(id, ask, &permissions::cancelled(), name, params);
            }
            ("update_todos", id) => {
                let items = self.todos.update(&params);
                self.tell_plan(name, items, params);
                self.acknowledge(id);
            }
            (_, id) => {
                self.other(&sentence(name, 100), params);
                self.acknowledge(id);
            }
        }
    }

    fn raise(&mut self, id: &Value, ask: Option<Ask>, refusal: &Value, name: &str, params: Value) {
        if let Some(ask) = ask {
            self.release_text();
            self.emit(RunEvent::Ask(ask), Some(params));
        } else {
            self.push(Step::Send(jsonrpc::result(id, refusal)));
            self.other(&sentence(name, 100), params);
        }
    }

    fn acknowledge(&mut self, id: Option<&Value>) {
        if let Some(id) = id {
            self.push(Step::Send(jsonrpc::result(id, &json!({}))));
        }
    }
}
