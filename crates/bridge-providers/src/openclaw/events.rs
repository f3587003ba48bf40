//! What the gateway says while it works: every event of our run, in our words.

use std::time::{Duration, Instant};

use bridge_proto::model::{
    Actor, Fault, Outcome, PlanItem, PlanStatus, Retry, RunEvent, ToolStatus,
};
use serde_json::Value;

use super::{
    dialogue::OpenclawDialogue,
    outcome::{failed, judge},
    turn::{Retrying, Verdict},
};
use crate::{
    plain::{one_line, readable, sentence},
    provider::Injection,
};

impl OpenclawDialogue {
    pub(super) fn on_event(&mut self, now: Instant, name: &str, payload: Value) {
        match name {
            "agent" => self.on_agent(now, payload),
            "chat" => self.on_chat(now, payload),
            "session.message" => self.on_message(&payload),
            "exec.approval.requested" => self.on_approval(now, &payload),
            "exec.approval.resolved" => {
                if let Some(closed) = self.asks.resolved(&payload) {
                    self.closed(closed);
                }
            }
            "shutdown" => self.on_shutdown(&payload),
            // Views of the same things for the gateway's own pages.
            "session.tool"
            | "session.approval"
            | "session.observer"
            | "session.operation"
            | "session.typing"
            | "session.sharing"
            | "session.sharing.evidence"
            | "session.suggestion"
            | "sessions.changed"
            | "chat.metadata.changed"
            | "task" => {}
            _ if self.is_ours(&payload) => self.other(name, payload),
            _ => {}
        }
    }

    /// Whether a message is about our session.
    fn is_ours(&self, payload: &Value) -> bool {
        let session = payload.get("sessionKey").and_then(Value::as_str);
        session.is_some() && session == self.session.as_deref()
    }

    fn on_agent(&mut self, now: Instant, payload: Value) {
        if !self.is_ours(&payload) {
            return;
        }
        let run = payload.get("runId").and_then(Value::as_str);
        if let Some(run) = run.filter(|run| self.is_injected(run)) {
            // It came too late for the turn and works on its own.
            let run = run.to_owned();
            self.injected(now, &run, Injection::Refused);
            return;
        }
        let seq = payload.get("seq").and_then(Value::as_u64);
        let Some(turn) = &mut self.turn else { return };
        if run != Some(turn.run.as_str()) || !turn.is_news(seq) {
            return;
        }
        turn.heard(now);
        turn.accepted = true;
        self.on_stream(now, payload);
    }

    /// One event of our run. Events that come back from the gateway's memory go the same way.
    pub(super) fn on_stream(&mut self, now: Instant, payload: Value) {
        let stream = payload.get("stream").and_then(Value::as_str);
        let data = payload.get("data").unwrap_or(&Value::Null);
        let known = match stream.unwrap_or_default() {
            "lifecycle" => self.on_lifecycle(now, data),
            "assistant" => self.on_assistant(data),
            "thinking" => self.on_thinking(data),
            "tool" => self.on_tool(data),
            "item" => self.on_item(data),
            "run_status" => self.on_run_status(now, data),
            "usage" => {
                let turn = self.turn.as_mut();
                let usage = turn.and_then(|turn| turn.ledger.estimate(data));
                self.emit_all(usage.map(RunEvent::Usage));
                true
            }
            "plan" => self.on_plan(data),
            "compaction" => {
                if data.get("phase").and_then(Value::as_str) == Some("start") {
                    self.status("OpenClaw shortens the conversation to go on with it");
                }
                true
            }
            // The same tool calls and approvals once more, for the gateway's own pages.
            "command_output" | "patch" | "approval" => true,
            _ => false,
        };
        if !known {
            let phase = data.get("phase").and_then(Value::as_str);
            let what = [stream.unwrap_or("an event"), phase.unwrap_or_default()].join(" ");
            self.other(what.trim(), payload);
        }
    }

    fn on_lifecycle(&mut self, now: Instant, data: &Value) -> bool {
        let text = |name: &str| data.get(name).and_then(Value::as_str);
        let is = |name: &str| data.get(name).and_then(Value::as_bool) == Some(true);
        match text("phase").unwrap_or_default() {
            "start" => {
                if let Some(turn) = &mut self.turn {
                    turn.begun = true;
                }
            }
            "model" => self.tell_model(data),
            phase @ ("end" | "error") => {
                if is("executionSettled") {
                    self.on_settled(now, phase == "end", data);
                } else if is("aborted") {
                    self.on_abort_told(now);
                }
            }
            "finishing" => {}
            "waiting-approval" => self.tool_waits(data, ToolStatus::Pending),
            "approval-resolved" => self.tool_waits(data, ToolStatus::InProgress),
            "fallback_step" => {
                let model = one_line(text("fallbackStepFromModel").unwrap_or("a model"), 100);
                let why = text("fallbackStepFromFailureDetail");
                let why = sentence(why.unwrap_or("no reason was given"), 200);
                self.status(format!("{model} failed: {why}"));
            }
            _ => return false,
        }
        true
    }

    /// The one event that every run of the gateway ends with.
    fn on_settled(&mut self, now: Instant, completed: bool, data: &Value) {
        let aborted = data.get("aborted").and_then(Value::as_bool) == Some(true);
        let closing = data.pointer("/terminalReply/text").and_then(Value::as_str);
        let visible = data
            .pointer("/terminalReply/disposition")
            .and_then(Value::as_str);
        if completed && visible.is_none_or(|how| how == "visible") {
            self.close_text(closing);
        }
        let outcome = match (completed, aborted) {
            (true, _) => Outcome::Completed,
            (false, true) => Outcome::Cancelled { by: Actor::Person },
            (false, false) => judge(data),
        };
        let outcome = self.stopped().unwrap_or(outcome);
        self.finish(now, outcome);
    }

    /// The run was stopped. One that had not begun never settles; of the others it is still told.
    fn on_abort_told(&mut self, now: Instant) {
        let outcome = Outcome::Cancelled { by: Actor::Person };
        let outcome = self.stopped().unwrap_or(outcome);
        if self.turn.as_ref().is_some_and(|turn| turn.begun) {
            self.verdict(now + UNSETTLED, outcome);
        } else {
            self.finish(now, outcome);
        }
    }

    /// How the turn is over unless the run settles until then. The first reason stays.
    pub(super) fn verdict(&mut self, at: Instant, outcome: Outcome) {
        if let Some(turn) = &mut self.turn {
            let verdict = turn.verdict.get_or_insert(Verdict { at, outcome });
            verdict.at = verdict.at.min(at);
        }
    }

    pub(super) fn close_text(&mut self, closing: Option<&str>) {
        let text = self
            .turn
            .as_mut()
            .zip(closing)
            .and_then(|(turn, closing)| turn.texts.closing(closing));
        self.emit_all(text);
    }

    fn tool_waits(&mut self, data: &Value, status: ToolStatus) {
        let call = data.get("toolCallId").and_then(Value::as_str);
        let event = self
            .turn
            .as_mut()
            .zip(call)
            .and_then(|(turn, call)| turn.tools.status(call, status));
        self.emit_all(event);
    }

    fn on_assistant(&mut self, data: &Value) -> bool {
        let text = |name: &str| data.get(name).and_then(Value::as_str);
        let Some(turn) = &mut self.turn else {
            return true;
        };
        // In the gateway's memory of a run its text stands beside its events.
        let Some(whole) = text("text") else {
            return true;
        };
        let replaces = data.get("replace").and_then(Value::as_bool) == Some(true);
        let name = text("itemId").unwrap_or("answer");
        let event = turn.texts.set(name, whole, replaces);
        if !whole.is_empty() {
            turn.model_works();
        }
        self.emit_all(event);
        true
    }

    fn on_thinking(&mut self, data: &Value) -> bool {
        let Some(delta) = data.get("delta").and_then(Value::as_str) else {
            return true;
        };
        if let Some(turn) = &mut self.turn {
            turn.texts.part();
            turn.model_works();
        }
        if !delta.is_empty() {
            let delta = delta.to_owned();
            self.emit(RunEvent::Thinking { delta });
        }
        true
    }

    fn on_tool(&mut self, data: &Value) -> bool {
        let Some(turn) = &mut self.turn else {
            return true;
        };
        turn.texts.part();
        turn.model_works();
        let Some(events) = turn.tools.on(data) else {
            return false;
        };
        self.emit_all(events);
        true
    }

    /// Items repeat tool calls; only what a model says before a call may be new.
    fn on_item(&mut self, data: &Value) -> bool {
        let text = |name: &str| data.get(name).and_then(Value::as_str);
        if (text("kind"), text("phase")) != (Some("preamble"), Some("end")) {
            return true;
        }
        let event = self
            .turn
            .as_mut()
            .zip(text("progressText"))
            .and_then(|(turn, said)| {
                let name = text("itemId").unwrap_or("preamble");
                turn.texts.preamble(name, said)
            });
        self.emit_all(event);
        true
    }

    fn on_run_status(&mut self, now: Instant, data: &Value) -> bool {
        let text = |name: &str| data.get(name).and_then(Value::as_str);
        let number = |name: &str| data.get(name).and_then(Value::as_u64);
        match text("phase").unwrap_or_default() {
            "preparing_workspace" | "preparing_context" | "starting_model" => true,
            "retrying" => {
                let attempt = number("retryAttempt").and_then(|n| u32::try_from(n).ok());
                let class = text("reason").map(|class| one_line(class, 100));
                let said = sentence(text("message").unwrap_or("the model call failed"), 300);
                if let Some(turn) = &mut self.turn {
                    let since = turn.retrying.as_ref().map_or(now, |before| before.since);
                    turn.retrying = Some(Retrying {
                        since,
                        class: class.clone(),
                        said: said.clone(),
                    });
                }
                let limit = number("maxRetries").and_then(|n| u32::try_from(n).ok());
                let reason = match class {
                    Some(class) => format!("{class}: {said}"),
                    None => said,
                };
                self.emit(RunEvent::Retrying(Retry {
                    attempt: attempt.unwrap_or(1),
                    limit,
                    delay: number("delayMs").map(Duration::from_millis),
                    reason,
                }));
                true
            }
            _ => false,
        }
    }

    fn on_plan(&mut self, data: &Value) -> bool {
        let Some(steps) = data.get("steps").and_then(Value::as_array) else {
            return false;
        };
        let item = |step: &Value| {
            let text = ["step", "text", "title"]
                .into_iter()
                .find_map(|name| step.get(name).and_then(Value::as_str))?;
            let status = match step.get("status").and_then(Value::as_str) {
                Some("completed") => PlanStatus::Completed,
                Some("in_progress") => PlanStatus::InProgress,
                Some(_) | None => PlanStatus::Pending,
            };
            let text = readable(text, MAX_STEP);
            Some(PlanItem { text, status })
        };
        let items = steps.iter().take(MAX_STEPS).filter_map(item).collect();
        self.emit(RunEvent::Plan { items });
        true
    }

    /// The gateway's other view of the run. It says little that is not said better elsewhere, and
    /// some of it twice; but runs that never begin are told only here.
    fn on_chat(&mut self, now: Instant, payload: Value) {
        if !self.is_ours(&payload) {
            return;
        }
        let text = |name: &str| payload.get(name).and_then(Value::as_str);
        let run = text("runId").unwrap_or_default();
        let state = text("state").unwrap_or_default();
        if self.is_injected(run) {
            if state == "final" {
                let run = run.to_owned();
                self.injected(now, &run, Injection::Taken);
            }
            return;
        }
        let Some(turn) = &mut self.turn else { return };
        if run != turn.run {
            return;
        }
        turn.heard(now);
        let begun = turn.begun;
        match state {
            "status" | "delta" => {}
            "aborted" => {
                let outcome = Outcome::Cancelled { by: Actor::Person };
                self.verdict(now + UNSETTLED, outcome);
            }
            "error" => {
                let class = payload.pointer("/errorDetail/failoverReason");
                let said = text("errorMessage").unwrap_or_default();
                let outcome = failed(class.and_then(Value::as_str), said);
                // An empty answer is told as aborted first and as an error then.
                turn.verdict = None;
                self.verdict(now + UNSETTLED, outcome);
            }
            "final" if begun => {
                self.verdict(now + UNSETTLED, Outcome::Completed);
            }
            "final" => {
                let said = payload.pointer("/message/content/0/text");
                let said = said.and_then(Value::as_str).map(str::to_owned);
                let outcome = if said.is_some() {
                    // The gateway answered by itself, without any run.
                    self.close_text(said.as_deref());
                    Outcome::Completed
                } else {
                    Outcome::Failed {
                        fault: Fault::Agent,
                        reason: "OpenClaw handed the message to another run".into(),
                    }
                };
                self.verdict(now + UNSETTLED, outcome);
            }
            _ => self.other(&format!("chat {state}"), payload),
        }
    }

    /// A message of the transcript: only here it says what the model has read and what it cost.
    fn on_message(&mut self, payload: &Value) {
        if !self.is_ours(payload) {
            return;
        }
        let run = payload.pointer("/message/__openclaw/runId");
        let usage = payload.pointer("/message/usage");
        let Some(turn) = &mut self.turn else { return };
        if run.and_then(Value::as_str) != Some(turn.run.as_str()) {
            return;
        }
        let usage = usage.and_then(|usage| turn.ledger.add(usage));
        self.emit_all(usage.map(RunEvent::Usage));
    }

    fn on_approval(&mut self, now: Instant, approval: &Value) {
        if self.raise(approval)
            && let Some(turn) = &mut self.turn
        {
            turn.heard(now);
        }
    }

    /// Shows a request for approval, if it is one of ours and new.
    pub(super) fn raise(&mut self, approval: &Value) -> bool {
        let session = approval
            .pointer("/request/sessionKey")
            .and_then(Value::as_str);
        let ours = session.is_some() && session == self.session.as_deref();
        if !ours || self.turn.is_none() {
            return false;
        }
        let Some(ask) = self.asks.raise(approval) else {
            return false;
        };
        let waits = ask.tool.as_ref().map(|call| call.as_str().to_owned());
        let event = self
            .turn
            .as_mut()
            .zip(waits)
            .and_then(|(turn, call)| turn.tools.status(&call, ToolStatus::Pending));
        self.emit_all(event);
        self.emit(RunEvent::Ask(ask));
        true
    }
}

/// How long the event that settles a run may come after the run's end was told otherwise.
const UNSETTLED: Duration = Duration::from_secs(4);
const MAX_STEPS: usize = 200;
const MAX_STEP: usize = 200;
