//! What each line of the program means to the conversation.
//!
//! Lines are told apart by their parsed `type` and `subtype`, never by how they begin; unknown
//! ones are passed on by name and otherwise skipped.

use std::time::{Duration, Instant};

use bridge_proto::{
    ResumeId,
    model::{AskEnd, Fix, Observed, Outcome, Retry, RunEvent, ToolStatus},
};
use serde_json::{Value, json};

use super::{
    asks::Raised,
    dialogue::{ClaudeDialogue, NOTE, Request, Stage, Turn},
    outcome::judge,
    outgoing,
};
use crate::{
    dialogue::Step,
    plain::{one_line, readable},
};

impl ClaudeDialogue {
    pub(super) fn on_message(&mut self, now: Instant, message: Value) {
        let text = |name: &str| {
            message
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        match text("type") {
            "stream_event" => self.on_stream(&message),
            "assistant" => self.on_assistant(message),
            "user" => self.on_user(&message),
            "result" => self.on_result(now, &message),
            "system" => self.on_system(now, &message),
            "control_request" => self.on_request(&message),
            "control_response" => self.on_response(&message),
            "control_cancel_request" => {
                if let Some(ask) = self.asks.withdraw(text("request_id")) {
                    self.emit(RunEvent::AskClosed {
                        ask,
                        how: AskEnd::Withdrawn,
                    });
                }
            }
            "command_lifecycle" | "keep_alive" => {}
            "" => self.other("a message without a type"),
            kind => {
                let kind = kind.to_owned();
                self.other(&kind);
            }
        }
    }

    fn on_stream(&mut self, message: &Value) {
        let (Some(event), Some(turn)) = (message.get("event"), &mut self.turn) else {
            return;
        };
        if !is_null(message.get("parent_tool_use_id")) {
            return;
        }
        let mut events = self
            .stream
            .on_event(event, &mut turn.answer, &mut self.tools);
        if let Some(given_up) = message.get("abandoned_blocks").filter(|v| v.is_object()) {
            let from = given_up
                .get("from_block_index")
                .and_then(Value::as_u64)
                .unwrap_or(0);
            events.extend(self.stream.abandon(from, &mut turn.answer, &mut self.tools));
        }
        self.emit_all(events);
    }

    fn on_assistant(&mut self, message: Value) {
        let (Some(body), Some(turn)) = (message.get("message"), &mut self.turn) else {
            return;
        };
        let parent = message.get("parent_tool_use_id").and_then(Value::as_str);
        let synthetic = body.get("model").and_then(Value::as_str) == Some("<synthetic>");
        let error = message.get("error").and_then(Value::as_str);
        let failed = message.get("is_api_error_message").and_then(Value::as_bool) == Some(true)
            || (synthetic && error.is_some());
        let mut events = Vec::new();
        if failed {
            if parent.is_none() {
                turn.code = error.map(str::to_owned).or_else(|| turn.code.take());
            }
            events.extend(texts(body).map(|text| RunEvent::Status {
                text: readable(text, NOTE),
            }));
        } else if let Some(parent) = parent {
            for block in body
                .get("content")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
                if text("type") == "tool_use" {
                    let input = block.get("input").unwrap_or(&Value::Null);
                    events.extend(self.tools.called(text("id"), text("name"), input));
                }
            }
            for text in texts(body) {
                events.extend(self.tools.subagent_said(parent, text));
            }
        } else {
            events = self
                .stream
                .on_assistant(body, &mut turn.answer, &mut self.tools);
        }
        self.emit_all(events);
        let event = RunEvent::Other {
            what: "assistant".into(),
        };
        self.steps.push_back(Step::Emit(Box::new(Observed {
            event,
            raw: Some(message),
        })));
    }

    fn on_user(&mut self, message: &Value) {
        let content = message
            .pointer("/message/content")
            .and_then(Value::as_array);
        let detail = message.get("tool_use_result");
        for block in content.into_iter().flatten() {
            if block.get("type").and_then(Value::as_str) == Some("tool_result") {
                let events = self.tools.result(block, detail);
                self.emit_all(events);
            }
        }
    }

    fn on_result(&mut self, now: Instant, result: &Value) {
        let Some(turn) = &mut self.turn else { return };
        let usage = self.ledger.add(result);
        let code = turn.code.take();
        let by_itself = result.pointer("/origin/kind").and_then(Value::as_str) == Some(BY_ITSELF);
        let queued = result
            .get("queued_turn_count")
            .and_then(Value::as_u64)
            .unwrap_or(0)
            > 0;
        self.steps
            .push_back(Step::Emit(Box::new(RunEvent::Usage(usage).into())));
        match &turn.stage {
            Stage::Stopping { outcome, .. } => {
                let outcome = outcome.clone();
                if self.background.is_empty() {
                    self.end_turn(now, outcome);
                } else {
                    self.terminate(outcome);
                }
            }
            Stage::Ending { .. } => {}
            Stage::Working | Stage::Settling { .. } => {
                let outcome = judge(result, code.as_deref());
                if by_itself && !turn.answered {
                    // It is about work of an earlier turn; the prompt's own comes after it.
                    return;
                }
                turn.answered = true;
                if outcome != Outcome::Completed {
                    self.end_turn(now, outcome);
                } else if !self.background.is_empty() {
                    let work = self.background.join(", ");
                    self.settle(outcome, None);
                    self.status(format!("waiting for background work: {work}"));
                } else if self.report_due || queued {
                    self.settle(outcome, Some(now + SETTLE));
                } else {
                    self.end_turn(now, outcome);
                }
            }
        }
    }

    fn settle(&mut self, outcome: Outcome, until: Option<Instant>) {
        if let Some(turn) = &mut self.turn {
            turn.stage = Stage::Settling { outcome, until };
        }
    }

    fn on_system(&mut self, now: Instant, message: &Value) {
        let text = |name: &str| {
            message
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        match text("subtype") {
            "init" => self.on_init(message),
            "status" => self.mode_is(text("permissionMode")),
            "api_retry" => self.on_retry(now, message),
            "permission_denied" => {
                let (tool, why) = (
                    one_line(text("tool_name"), 80),
                    readable(text("message"), NOTE),
                );
                self.status(format!("{tool} was not allowed: {why}"));
            }
            "background_tasks_changed" => {
                let tasks = message.get("tasks").and_then(Value::as_array);
                self.background = tasks
                    .into_iter()
                    .flatten()
                    .take(MAX_TASKS)
                    .map(task)
                    .collect();
                if let Some(Turn {
                    stage: Stage::Settling { until, .. },
                    ..
                }) = &mut self.turn
                {
                    *until = self.background.is_empty().then(|| now + SETTLE);
                }
            }
            "task_notification" => {
                self.report_due = self.turn.is_some();
                let event = self.tools.background_over(
                    text("tool_use_id"),
                    text("status"),
                    text("summary"),
                );
                self.emit_all(event);
            }
            "compact_boundary" => self.status("the conversation was summarised".into()),
            "session_state_changed"
            | "thinking_tokens"
            | "task_started"
            | "task_updated"
            | "task_progress" => {}
            subtype => {
                let what = format!("system/{subtype}");
                self.other(&what);
            }
        }
    }

    /// A turn begins, the prompt's own or one the program began by itself.
    fn on_init(&mut self, message: &Value) {
        let text = |name: &str| {
            message
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        if !text("cwd").is_empty() {
            self.tools.directory(text("cwd"));
        }
        let session = text("session_id");
        if self.conversation.as_deref() != Some(session)
            && let Ok(id) = ResumeId::parse(session)
        {
            self.conversation = Some(session.to_owned());
            self.steps.push_back(Step::Resumable(id));
        }
        self.model_is(text("model"));
        self.mode_is(text("permissionMode"));
        self.report_due = false;
        let Some(turn) = &mut self.turn else { return };
        match &turn.stage {
            Stage::Settling { .. } => turn.stage = Stage::Working,
            // The first interrupt came before there was anything to interrupt.
            Stage::Stopping { .. } => {
                self.request(&json!({"subtype": "interrupt"}));
            }
            Stage::Working | Stage::Ending { .. } => {}
        }
    }

    fn model_is(&mut self, model: &str) {
        if !model.is_empty() && self.model.as_deref() != Some(model) {
            self.model = Some(model.to_owned());
            self.emit(RunEvent::Model {
                model: one_line(model, 200),
            });
        }
    }

    fn mode_is(&mut self, mode: &str) {
        if !mode.is_empty() && self.mode.as_deref() != Some(mode) {
            self.mode = Some(mode.to_owned());
            self.emit(RunEvent::Mode {
                mode: one_line(mode, 200),
            });
        }
    }

    fn on_retry(&mut self, now: Instant, message: &Value) {
        let Some(turn) = &mut self.turn else { return };
        let withdrawn = self.stream.abandon(0, &mut turn.answer, &mut self.tools);
        self.emit_all(withdrawn);
        let number = |name: &str| message.get(name).and_then(Value::as_u64);
        let small = |name: &str| number(name).and_then(|n| u32::try_from(n).ok());
        let status = number("error_status");
        let error = message
            .get("error")
            .and_then(Value::as_str)
            .unwrap_or("unknown error");
        let error = one_line(error, 200);
        if error == "authentication_failed" || status == Some(401) {
            let reason = "Claude Code is not authorised: the login or key was refused".to_owned();
            self.stop_unless_stopping(
                now,
                Outcome::Blocked {
                    fix: Fix::Login,
                    reason,
                },
            );
            return;
        }
        self.emit(RunEvent::Retrying(Retry {
            attempt: small("attempt").unwrap_or(1),
            limit: small("max_retries"),
            delay: number("retry_delay_ms").map(Duration::from_millis),
            reason: match status {
                Some(status) => format!("{error} ({status})"),
                None => error,
            },
        }));
    }

    /// A cancel that came first keeps its outcome.
    fn stop_unless_stopping(&mut self, now: Instant, outcome: Outcome) {
        let working = |turn: &Turn| matches!(turn.stage, Stage::Working);
        if self.turn.as_ref().is_some_and(working) {
            self.stop(now, outcome);
        }
    }

    fn on_request(&mut self, message: &Value) {
        let id = message
            .get("request_id")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let none = Value::Null;
        let request = message.get("request").unwrap_or(&none);
        let subtype = request
            .get("subtype")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if subtype != "can_use_tool" {
            let subtype = one_line(subtype, 100);
            self.send(outgoing::unsupported(&id, &subtype));
            self.other(&format!("control_request/{subtype}"));
            return;
        }
        let listens = |turn: &Turn| matches!(turn.stage, Stage::Working | Stage::Settling { .. });
        if !self.turn.as_ref().is_some_and(listens) {
            self.send(outgoing::deny(&id, "The task is not running any more."));
            return;
        }
        match self.asks.raise(&id, request, &self.tools) {
            Raised::Ask(ask) => {
                let call = ask.tool.as_ref().map(|call| call.as_str().to_owned());
                let waits = call.and_then(|call| self.tools.status(&call, ToolStatus::Pending));
                self.emit_all(waits);
                self.emit(RunEvent::Ask(ask));
            }
            Raised::Refused(line) => self.send(line),
        }
    }

    fn on_response(&mut self, message: &Value) {
        let Some(response) = message.get("response") else {
            return;
        };
        let text = |name: &str| {
            response
                .get(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let Some(request) = self.requests.remove(text("request_id")) else {
            return;
        };
        let given = |name: &str| {
            response
                .pointer(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let refused = (text("subtype") != "success").then(|| readable(text("error"), NOTE));
        match (request, refused) {
            (Request::Model(wanted), None) => {
                self.model_is(&given("/response/model").unwrap_or(wanted));
            }
            (Request::Mode(wanted), None) => {
                self.mode_is(&given("/response/mode").unwrap_or(wanted));
            }
            (Request::Effort(wanted), None) => self.emit(RunEvent::Effort { effort: wanted }),
            (Request::Effort(_), Some(why)) => {
                self.status(format!("the thinking effort was not changed: {why}"));
            }
            (Request::Model(_), Some(why)) => {
                self.status(format!("the model was not changed: {why}"));
            }
            (Request::Mode(_), Some(why)) => {
                self.status(format!("the mode was not changed: {why}"));
            }
        }
    }
}

fn texts(message: &Value) -> impl Iterator<Item = &str> {
    let blocks = message.get("content").and_then(Value::as_array);
    blocks
        .into_iter()
        .flatten()
        .filter(|block| block.get("type").and_then(Value::as_str) == Some("text"))
        .filter_map(|block| block.get("text").and_then(Value::as_str))
}

fn task(task: &Value) -> String {
    let text = |name: &str| task.get(name).and_then(Value::as_str);
    one_line(
        text("description")
            .or_else(|| text("task_type"))
            .unwrap_or("a task"),
        100,
    )
}

fn is_null(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
}

/// How long the program may take to begin a turn about background work that has ended; seen are
/// 10 to 100 ms.
const SETTLE: Duration = Duration::from_secs(3);
/// Origin of a turn the program began about its background work.
const BY_ITSELF: &str = "task-notification";
/// Most background tasks that are named.
const MAX_TASKS: usize = 50;
