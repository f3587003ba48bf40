//! What each line of the program means to the conversation.
//!
//! Both sides number their requests from 0, so lines are told apart by their keys. Notifications
//! name the thread and turn they are about: other threads are those of subagents, earlier turns
//! those whose commands go on. What is unknown is passed on by name and otherwise skipped.

use std::time::Instant;

use bridge_proto::model::{
    Actor, AskEnd, Fault, Outcome, PlanItem, PlanStatus, RunEvent, ToolStatus,
};
use serde_json::{Value, json};

use super::{
    asks::Raised,
    dialogue::{CodexDialogue, Door, FAILING, NOTE, Request, Retrying, Stage},
    outcome::{is_refused_key, judge, refused_key, refused_thread, retry},
    outgoing,
};
use crate::{
    acp::jsonrpc::{Incoming, RpcError, classify},
    dialogue::Step,
    plain::{one_line, readable, sentence},
};

/// What a notification is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The running turn.
    Present,
    /// A turn before it, or none.
    Earlier,
    /// Another thread.
    Foreign,
}

impl CodexDialogue {
    pub(super) fn on_message(&mut self, now: Instant, line: &[u8]) {
        match classify(line) {
            Incoming::Response { id, outcome } => self.on_response(now, &id, outcome),
            Incoming::Request { id, method, params } => self.on_request(&id, &method, params),
            Incoming::Notification { method, params } => {
                self.on_notification(now, &method, params);
            }
            Incoming::Noise if line.iter().all(u8::is_ascii_whitespace) => {}
            Incoming::Noise => self.pass_on("a line that is no message", None),
        }
    }

    fn on_response(&mut self, now: Instant, id: &Value, outcome: Result<Value, RpcError>) {
        let Some(id) = id.as_u64() else {
            self.pass_on("an answer to no request", None);
            return;
        };
        let Some(request) = self.requests.remove(&id) else {
            self.pass_on("an answer to no request", None);
            return;
        };
        match (request, outcome) {
            (Request::Greeting, outcome) => {
                if !matches!(self.door, Door::Greeting(_)) {
                    return;
                }
                match outcome {
                    Ok(_) => self.greeted(now),
                    Err(error) => self.refuse(now, refused_thread(&error.message)),
                }
            }
            (Request::Thread, Ok(result)) => self.on_thread(now, &result),
            (Request::Thread, Err(error)) => self.refuse(now, refused_thread(&error.message)),
            (Request::Turn, outcome) => self.on_turn_answer(now, id, outcome),
            (Request::Steer, outcome) => self.steered(id, outcome.is_ok()),
            (Request::Interrupt, Ok(_)) => {}
            (Request::Interrupt, Err(_)) => self.interrupt_refused(now),
            (Request::Clean, outcome) => self.cleaned(now, outcome.is_ok()),
        }
    }

    fn on_thread(&mut self, now: Instant, result: &Value) {
        if !matches!(self.door, Door::Opening(_)) {
            return;
        }
        let text = |name: &str| result.pointer(name).and_then(Value::as_str);
        self.model_is(text("/model"));
        self.effort_is(text("/reasoningEffort"));
        match text("/thread/id") {
            Some(thread) => self.opened(now, thread.to_owned()),
            None => self.refuse(now, refused_thread("it gave the conversation no id")),
        }
    }

    fn on_turn_answer(&mut self, now: Instant, request: u64, outcome: Result<Value, RpcError>) {
        let Some(turn) = self
            .turn
            .as_ref()
            .filter(|turn| turn.request == Some(request))
        else {
            return;
        };
        match outcome {
            Ok(result) => {
                if let Some(id) = result.pointer("/turn/id").and_then(Value::as_str) {
                    self.turn_is(id);
                }
            }
            Err(error) => {
                let outcome = match &turn.stage {
                    Stage::Stopping { outcome, .. } | Stage::Ending { outcome } => outcome.clone(),
                    Stage::Waiting(_) | Stage::Working => refused_thread(&error.message),
                };
                self.end_turn(now, outcome);
            }
        }
    }

    fn on_request(&mut self, id: &Value, method: &str, params: Value) {
        let asks = matches!(
            method,
            "item/commandExecution/requestApproval"
                | "item/fileChange/requestApproval"
                | "item/tool/requestUserInput"
        );
        if !asks {
            self.send(outgoing::unsupported(id, &one_line(method, 100)));
            self.pass_on(method, Some(params));
            return;
        }
        if !self.is_working() {
            let answer = if method == "item/tool/requestUserInput" {
                json!({ "answers": {} })
            } else {
                json!({ "decision": "decline" })
            };
            self.send(outgoing::result(id, &answer));
            return;
        }
        let item = params.get("itemId").and_then(Value::as_str);
        let raised = match method {
            "item/commandExecution/requestApproval" => {
                self.asks.command(id, &params, &self.start.directory)
            }
            "item/fileChange/requestApproval" => {
                let wanted = item.and_then(|item| self.tools.wanted(item));
                self.asks.change(id, &params, wanted)
            }
            _ => self.asks.questions(id, &params),
        };
        match raised {
            Raised::Ask { ask, instead_of } => {
                self.emit_all(instead_of.map(|ask| RunEvent::AskClosed {
                    ask,
                    how: AskEnd::Withdrawn,
                }));
                let waits = item.and_then(|item| self.tools.status(item, ToolStatus::Pending));
                self.emit_all(waits);
                self.emit(RunEvent::Ask(ask));
            }
            Raised::Refused(line) => self.send(line),
            Raised::Allowed(line) => {
                self.send(line);
                self.pass_on("a command that only reads was allowed", Some(params));
            }
        }
    }

    fn on_notification(&mut self, now: Instant, method: &str, params: Value) {
        let scope = self.scope(&params);
        if scope == Scope::Present
            && (method.starts_with("item/") || method.starts_with("rawResponse"))
            && let Some(turn) = &mut self.turn
        {
            turn.retrying = None;
        }
        let text = |name: &str| params.get(name).and_then(Value::as_str);
        match method {
            "turn/started" => {
                if scope == Scope::Present
                    && let Some(id) = params.pointer("/turn/id").and_then(Value::as_str)
                {
                    self.turn_is(id);
                    self.settings_taken();
                }
            }
            "turn/completed" => match (scope, params.get("turn")) {
                (Scope::Present, Some(turn)) => {
                    let outcome = self.outcome_of(turn);
                    self.turn_completed(now, outcome);
                }
                (Scope::Present | Scope::Earlier | Scope::Foreign, _) => {
                    self.pass_on("turn/completed of another turn", Some(params));
                }
            },
            "item/started" | "item/completed" => {
                let over = method == "item/completed";
                self.on_item(scope, over, params.get("item").unwrap_or(&Value::Null));
            }
            "item/agentMessage/delta" | "item/plan/delta" => {
                if let (Scope::Present, Some(turn)) = (scope, &mut self.turn) {
                    let (id, delta) = (text("itemId").unwrap_or_default(), text("delta"));
                    let delta = delta.unwrap_or_default();
                    let events = self.messages.delta(id, delta, &mut turn.answer);
                    self.emit_all(events);
                }
            }
            "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta" => {
                self.on_thought(scope, text("itemId"), text("delta").unwrap_or_default());
            }
            "item/reasoning/summaryPartAdded" => {
                if params.get("summaryIndex").and_then(Value::as_u64) > Some(0) {
                    self.on_thought(scope, text("itemId"), "\n\n");
                }
            }
            "item/commandExecution/outputDelta" => {
                let id = text("itemId").unwrap_or_default();
                self.item_goes_on(id);
                let event = self
                    .tools
                    .output(now, id, text("delta").unwrap_or_default());
                self.emit_all(event);
            }
            "item/fileChange/patchUpdated" => {
                let changes = params.get("changes").unwrap_or(&Value::Null);
                let event = self
                    .tools
                    .changed(text("itemId").unwrap_or_default(), changes);
                self.emit_all(event);
            }
            "rawResponseItem/completed" => {
                if scope == Scope::Present {
                    let event = params.get("item").and_then(|item| self.tools.raw(item));
                    self.emit_all(event);
                }
            }
            "turn/plan/updated" => {
                let steps = params.get("plan").and_then(Value::as_array);
                let steps = steps.into_iter().flatten().take(MAX_PLAN);
                let items = steps.filter_map(plan_item).collect();
                self.emit(RunEvent::Plan { items });
            }
            "turn/diff/updated" => {
                let diff = text("diff").unwrap_or_default();
                if self.diff.as_deref() != Some(diff) {
                    self.diff = Some(diff.to_owned());
                    self.pass_on(method, Some(params));
                }
            }
            "thread/tokenUsage/updated" => {
                if scope != Scope::Foreign
                    && let Some(usage) = params.get("tokenUsage")
                {
                    // What a continued conversation has used before is told when it is opened.
                    let present = scope == Scope::Present && self.turn_id().is_some();
                    let used = self.ledger.on_usage(usage, present);
                    self.emit_all(used.map(RunEvent::Usage));
                }
            }
            "thread/settings/updated" => {
                if scope != Scope::Foreign {
                    let setting = |name: &str| params.pointer(name).and_then(Value::as_str);
                    self.unconfirmed = super::steer::Settings::default();
                    self.model_is(setting("/threadSettings/model"));
                    self.effort_is(setting("/threadSettings/effort"));
                }
            }
            "model/rerouted" => {
                if scope == Scope::Present {
                    self.model_is(text("toModel"));
                }
            }
            "error" => self.on_error(now, scope, params),
            "serverRequest/resolved" => {
                if let Some(request) = params.get("requestId") {
                    self.on_resolved(request);
                }
            }
            "warning" | "guardianWarning" => {
                let said = sentence(text("message").unwrap_or_default(), NOTE);
                if !said.is_empty() {
                    self.status(said);
                }
            }
            "mcpServer/startupStatus/updated" => {
                if text("status") == Some("failed") {
                    let name = one_line(text("name").unwrap_or("?"), 80);
                    let why = one_line(text("error").unwrap_or_default(), 300);
                    self.status(format!("the tool server {name} did not start: {why}"));
                }
            }
            // Each says again what another one says, or is about the program itself.
            "account/rateLimits/updated"
            | "account/updated"
            | "item/commandExecution/terminalInteraction"
            | "item/fileChange/outputDelta"
            | "rawResponse/completed"
            | "remoteControl/status/changed"
            | "skills/changed"
            | "thread/compacted"
            | "thread/goal/cleared"
            | "thread/readState/changed"
            | "thread/started"
            | "thread/status/changed" => {}
            // The older names of all of these.
            twin if twin.starts_with("codex/event/") => {}
            other => self.pass_on(other, Some(params)),
        }
    }

    fn scope(&self, params: &Value) -> Scope {
        let thread = params.get("threadId").and_then(Value::as_str);
        if let (Some(thread), Some(own)) = (thread, &self.thread)
            && thread != own
        {
            return Scope::Foreign;
        }
        let begun = |turn: &&super::dialogue::Turn| turn.request.is_some();
        let Some(turn) = self.turn.as_ref().filter(begun) else {
            return Scope::Earlier;
        };
        let about = params.get("turnId").or_else(|| params.pointer("/turn/id"));
        let present = match (about.and_then(Value::as_str), &turn.id) {
            (None, _) => true,
            (Some(about), Some(id)) => about == id,
            (Some(about), None) => self.last_turn.as_deref() != Some(about),
        };
        if present {
            Scope::Present
        } else {
            Scope::Earlier
        }
    }

    fn on_item(&mut self, scope: Scope, over: bool, item: &Value) {
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let (kind, id) = (
            text("type").unwrap_or_default(),
            text("id").unwrap_or_default(),
        );
        if scope == Scope::Earlier && !self.tools.follows(id) {
            if over {
                self.pass_on("an item of another turn", Some(item.clone()));
            }
            return;
        }
        match (scope, kind) {
            (_, "userMessage") => {}
            (Scope::Present, "agentMessage" | "plan") => {
                let Some(turn) = &mut self.turn else { return };
                let events = if over {
                    let whole = text("text").unwrap_or_default();
                    self.messages.finished(id, whole, &mut turn.answer)
                } else {
                    self.messages.started(id, &mut turn.answer)
                };
                self.emit_all(events);
            }
            (Scope::Present, "reasoning") => {
                let streamed = self.turn.as_ref().and_then(|turn| turn.thought.as_deref());
                if over && streamed != Some(id) {
                    let parts = item.get("summary").and_then(Value::as_array);
                    let parts = parts.into_iter().flatten().filter_map(Value::as_str);
                    let delta = parts.collect::<Vec<_>>().join("\n\n");
                    self.on_thought(scope, Some(id), &delta);
                }
            }
            (_, "contextCompaction") => {
                if over {
                    self.status("the conversation was summarised".to_owned());
                }
            }
            _ => self.on_tool(over, kind, item),
        }
    }

    fn on_tool(&mut self, over: bool, kind: &str, item: &Value) {
        if !over {
            let event = self.tools.started(item);
            self.emit_all(event);
            return;
        }
        self.item_goes_on(item.get("id").and_then(Value::as_str).unwrap_or_default());
        let events = self.tools.completed(item);
        if events.is_empty() {
            let kind = if kind.is_empty() {
                "an item without a type"
            } else {
                kind
            };
            self.pass_on(kind, Some(item.clone()));
        }
        self.emit_all(events);
    }

    fn on_thought(&mut self, scope: Scope, id: Option<&str>, delta: &str) {
        if let (Scope::Present, Some(turn)) = (scope, &mut self.turn)
            && !delta.is_empty()
        {
            turn.thought = id.map(str::to_owned);
            let delta = delta.to_owned();
            self.emit(RunEvent::Thinking { delta });
        }
    }

    fn on_error(&mut self, now: Instant, scope: Scope, params: Value) {
        let error = params.get("error").cloned().unwrap_or_default();
        if scope != Scope::Present {
            let message = error.get("message").and_then(Value::as_str);
            match message.filter(|_| scope == Scope::Earlier) {
                Some(message) => self.status(readable(message, NOTE)),
                None => self.pass_on("error", Some(params)),
            }
            return;
        }
        let will_retry = params.get("willRetry").and_then(Value::as_bool) == Some(true);
        let Some(turn) = self
            .turn
            .as_mut()
            .filter(|turn| matches!(turn.stage, Stage::Working))
        else {
            return;
        };
        if !will_retry {
            turn.failing = Some((error, now + FAILING));
        } else if is_refused_key(&error) {
            self.stop(now, refused_key(&error));
        } else {
            self.messages.stream_lost();
            let (since, before) = match &turn.retrying {
                Some(retrying) => (retrying.since, retrying.count),
                None => (now, 0),
            };
            let count = before.saturating_add(1);
            let told = retry(&error, count);
            turn.retrying = Some(Retrying {
                since,
                count,
                error,
            });
            self.emit(RunEvent::Retrying(told));
        }
    }

    fn on_resolved(&mut self, request: &Value) {
        let Some(resolved) = self.asks.resolved(request) else {
            return;
        };
        match resolved.given {
            Some(goes_on) => {
                self.steps.push_back(Step::Applied(resolved.ask));
                let item = resolved.item.filter(|_| goes_on);
                let event = item.and_then(|item| self.tools.status(&item, ToolStatus::InProgress));
                self.emit_all(event);
            }
            None => self.emit(RunEvent::AskClosed {
                ask: resolved.ask,
                how: AskEnd::Withdrawn,
            }),
        }
    }

    /// What an item waited for has been answered, whether or not that was said.
    fn item_goes_on(&mut self, item: &str) {
        for ask in self.asks.goes_on(item) {
            self.steps.push_back(Step::Applied(ask));
        }
    }

    fn outcome_of(&self, turn: &Value) -> Outcome {
        let error = turn.get("error").filter(|error| error.is_object());
        let failing = self.turn.as_ref().and_then(|turn| turn.failing.as_ref());
        match (turn.get("status").and_then(Value::as_str), error) {
            (Some("completed"), _) => Outcome::Completed,
            (Some("interrupted"), None) => Outcome::Cancelled { by: Actor::Person },
            (Some("interrupted" | "failed"), Some(error)) => judge(error),
            (Some("failed"), None) => match failing {
                Some((error, _)) => judge(error),
                None => judge(&Value::Null),
            },
            (status, _) => Outcome::Failed {
                fault: Fault::Agent,
                reason: format!(
                    "the turn ended with the unknown status {}",
                    one_line(status.unwrap_or("none"), 100)
                ),
            },
        }
    }

    /// Versions that do not tell the settings have taken what was sent.
    fn settings_taken(&mut self) {
        let sent = std::mem::take(&mut self.unconfirmed);
        self.model_is(sent.model.as_deref());
        self.effort_is(sent.effort.as_deref());
    }

    fn model_is(&mut self, model: Option<&str>) {
        if let Some(model) = model.filter(|model| !model.is_empty())
            && self.model.as_deref() != Some(model)
        {
            self.model = Some(model.to_owned());
            let model = one_line(model, 200);
            self.emit(RunEvent::Model { model });
        }
    }

    fn effort_is(&mut self, effort: Option<&str>) {
        if let Some(effort) = effort.filter(|effort| !effort.is_empty())
            && self.effort.as_deref() != Some(effort)
        {
            self.effort = Some(effort.to_owned());
            let effort = one_line(effort, 50);
            self.emit(RunEvent::Effort { effort });
        }
    }
}

fn plan_item(step: &Value) -> Option<PlanItem> {
    let text = readable(step.get("step")?.as_str()?, 500);
    let status = match step.get("status").and_then(Value::as_str) {
        Some("completed") => PlanStatus::Completed,
        Some("inProgress" | "in_progress") => PlanStatus::InProgress,
        Some(_) | None => PlanStatus::Pending,
    };
    Some(PlanItem { text, status })
}

/// Most steps of a plan.
const MAX_PLAN: usize = 500;
