//! After a connection was lost in the middle of a turn: the run went on without us. What happened
//! in the meantime is caught up, and no message is sent that may have arrived.

use std::time::Instant;

use bridge_proto::model::{Fault, Outcome};
use serde_json::{Value, json};

use super::{
    dialogue::{OpenclawDialogue, Request},
    frames::Failure,
    outcome::failed,
};
use crate::plain::sentence;

impl OpenclawDialogue {
    /// The connection stands again. `same_boot`: the gateway was not restarted.
    pub(super) fn recover(&mut self, same_boot: bool) {
        let Some(session) = self.session.clone() else {
            return;
        };
        self.subscribe();
        let Some(turn) = &self.turn else {
            return;
        };
        let stopping = turn.stopping.is_some();
        let run = turn.run.clone();
        if !same_boot {
            self.status("the OpenClaw gateway was restarted");
        }
        if stopping {
            let params = json!({ "sessionKey": session, "runId": run });
            self.ask("chat.abort", &params, Request::Abort);
        }
        let params = json!({ "sessionKey": session, "limit": 20 });
        self.ask("chat.history", &params, Request::History);
        self.ask("exec.approval.list", &json!({}), Request::Approvals);
    }

    pub(super) fn on_history(&mut self, now: Instant, result: Result<Value, Failure>) {
        let Some(turn) = &self.turn else { return };
        let run = turn.run.clone();
        let history = result.unwrap_or_default();
        let in_flight = history.get("inFlightRun").unwrap_or(&Value::Null);
        let text = |value: &Value, name: &str| {
            let text = value.get(name).and_then(Value::as_str);
            text.map(str::to_owned)
        };
        if text(in_flight, "runId").as_deref() == Some(run.as_str()) {
            let missed = text(in_flight, "text");
            let event = self
                .turn
                .as_mut()
                .zip(missed)
                .and_then(|(turn, missed)| turn.texts.catch_up(&missed));
            self.emit_all(event);
            let events = in_flight.get("events").and_then(Value::as_array);
            for event in events.into_iter().flatten().take(MAX_EVENTS) {
                let seq = event.get("seq").and_then(Value::as_u64);
                let news = self.turn.as_mut().is_some_and(|turn| turn.is_news(seq));
                if news {
                    self.on_stream(now, event.clone());
                }
            }
            return;
        }
        let own = format!("{run}:user");
        let messages = history.get("messages").and_then(Value::as_array);
        let arrived = messages.into_iter().flatten().any(|message| {
            message.get("idempotencyKey").and_then(Value::as_str) == Some(own.as_str())
        });
        if let Some(turn) = &mut self.turn {
            turn.accepted |= arrived;
        }
        let active: Vec<&str> = history
            .pointer("/sessionInfo/activeRunIds")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !active.contains(&run.as_str()) {
            let instead = active.first().map(|run| (*run).to_owned());
            self.wait_for(instead, true);
        }
    }

    /// Asks how the run ended, if it did. `instead`: the run the gateway works on now; `lost`: it
    /// does not work on ours.
    pub(super) fn wait_for(&mut self, instead: Option<String>, lost: bool) {
        if let Some(turn) = &self.turn {
            let params = json!({ "runId": turn.run, "timeoutMs": 0 });
            self.ask("agent.wait", &params, Request::Wait { instead, lost });
        }
    }

    pub(super) fn on_waited(
        &mut self,
        now: Instant,
        instead: Option<String>,
        lost: bool,
        result: Result<Value, Failure>,
    ) {
        let Some(turn) = &mut self.turn else { return };
        let told = result.unwrap_or_default();
        let text = |place: &str| told.pointer(place).and_then(Value::as_str);
        match text("/status").unwrap_or_default() {
            "ok" => {
                self.close_text(text("/terminalReply/text"));
                let outcome = self.stopped().unwrap_or(Outcome::Completed);
                self.finish(now, outcome);
            }
            "error" => {
                let said = text("/error").or_else(|| text("/message"));
                let outcome = failed(None, said.unwrap_or_default());
                let outcome = self.stopped().unwrap_or(outcome);
                self.finish(now, outcome);
            }
            // Nobody knows the run: it is still being prepared, or it is gone.
            _ if !lost => {}
            _ => match (instead, turn.accepted) {
                (Some(other), _) => {
                    // After a crash the gateway itself begins an interrupted run again.
                    let shown = sentence(&other, 100);
                    turn.adopt(other);
                    self.guard();
                    self.status(format!("OpenClaw goes on with the message as run {shown}"));
                }
                // The message may never have arrived. The same name makes sure that it is not
                // done twice.
                (None, false) => self.send_message(),
                (None, true) => {
                    let outcome = Outcome::Failed {
                        fault: Fault::Agent,
                        reason: "the OpenClaw gateway was restarted and has lost the run".into(),
                    };
                    let outcome = self.stopped().unwrap_or(outcome);
                    self.finish(now, outcome);
                }
            },
        }
    }

    /// What waits for approval at the gateway, of all its sessions.
    pub(super) fn on_approvals(&mut self, result: Result<Value, Failure>) {
        let Ok(list) = result else { return };
        let empty = Vec::new();
        let list = list.as_array().unwrap_or(&empty);
        let ids: Vec<&str> = list
            .iter()
            .filter_map(|approval| approval.get("id").and_then(Value::as_str))
            .collect();
        self.close_asks(&ids);
        for (ask, decision) in self.asks.unsure() {
            let params = json!({ "id": decision.approval, "decision": decision.word });
            self.ask("exec.approval.resolve", &params, Request::Resolve(ask));
        }
        for approval in list.iter().take(MAX_EVENTS) {
            self.raise(approval);
        }
    }
}

/// Most entries of a list that are looked at.
const MAX_EVENTS: usize = 1000;
