//! The bridge's mouth for runs: an [`Event`] becomes frames.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    frames::{
        AgentActivity, AgentStream, BridgeEvent, IntentResult, StreamEvent, TaskComplete,
        TaskModelUpdate, TaskProgress, TaskWaitingForInput, to_text,
    },
    token::Token,
};
use crate::{
    id::{AgentId, ProviderKey},
    model::{
        Ask, Event, EventBody, Fault, Observed, Origin, Outcome, Rejection, RunEvent, RunKind,
        ToolState, ToolStatus,
    },
};

/// The reason of a cancelled run on the plain wire, where such a run is `failed` (decision 13).
pub const CANCELLED_REASON: &str = "Task was cancelled";

/// What the frames of a run repeat; the same for all its events, and journalled with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// Who does it.
    pub agent: AgentId,
    /// Which program serves the agent.
    pub provider: ProviderKey,
    /// Which action asked for it.
    pub kind: RunKind,
    /// Of the command that asked for it.
    pub origin: Origin,
    /// Whether thinking text may leave the machine (`LOG_THINKING`).
    pub log_thinking: bool,
}

/// What the other side understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The published wire.
    Plain,
    /// Our own hub, which accepted the extension.
    Extended,
}

/// The frames for one event, in the order they must be sent.
///
/// On the plain wire one increment of text becomes up to three frames, the end of a run
/// `task_complete` then `intent_result`, a rejection `intent_result` alone, and what the wire has
/// no word for nothing at all. In the extended profile every event is exactly one `bridge_event`.
/// Thinking text is left out, also from raw messages, unless [`RunFacts::log_thinking`] is set.
pub fn encode_event(event: &Event, facts: &RunFacts, profile: Profile) -> Vec<String> {
    let token = Token::of(&facts.origin).unwrap_or_default();
    match profile {
        Profile::Plain => Plain {
            event,
            facts,
            token: &token,
            frames: Vec::new(),
        }
        .encode(),
        Profile::Extended => {
            let event = if facts.log_thinking {
                Cow::Borrowed(event)
            } else {
                Cow::Owned(without_thinking(event))
            };
            vec![to_text(&BridgeEvent {
                action: "bridge_event",
                agent_id: &facts.agent,
                provider: &facts.provider,
                request_id: token.request_id.as_deref(),
                event: &event,
            })]
        }
    }
}

/// The question as one text: the summary, then the options with the numbers by which
/// `input_response` may name them (decision 18).
fn prompt(ask: &Ask) -> String {
    let options = ask.options.iter().enumerate();
    options.fold(ask.summary.clone(), |text, (index, choice)| {
        // One line an option, or its number could not be told from the lines below it.
        format!("{text}\n{}. {}", index + 1, choice.label.replace('\n', " "))
    })
}

struct Plain<'a> {
    event: &'a Event,
    facts: &'a RunFacts,
    token: &'a Token,
    frames: Vec<String>,
}

impl Plain<'_> {
    fn encode(mut self) -> Vec<String> {
        match &self.event.body {
            EventBody::Queued { .. } | EventBody::Started { .. } => {}
            EventBody::Seen(observed) => self.seen(observed),
            EventBody::Ended { outcome } => self.ended(outcome),
            // No plane of this wire asks for that, but every accepted run has its one answer.
            EventBody::Joined { .. } => {
                let method = provider_method(self.facts.kind);
                self.intent_result(method, Some("completed"), None);
            }
            EventBody::Rejected(rejection) => self.rejected(rejection),
        }
        self.frames
    }

    fn seen(&mut self, observed: &Observed) {
        let raw = observed.raw.as_ref().and_then(|raw| {
            if self.facts.log_thinking {
                Some(Cow::Borrowed(raw))
            } else {
                raw_without_thinking(raw)
            }
        });
        let raw = raw.as_deref();
        let claude = matches!(self.facts.provider.as_str(), "claude" | "claude-sdk");
        // Claude's own messages have no `kind` and so no progress; they pass unmodified.
        if claude && let Some(raw) = raw.filter(|raw| is_claude_message(raw)) {
            self.stream(raw);
        }
        match &observed.event {
            RunEvent::Text { delta, .. } if delta.is_empty() => {}
            RunEvent::Text { delta, .. } => {
                if !claude {
                    self.progress("text_chunk", Some(delta), None);
                    self.stream(StreamEvent {
                        kind: "text_chunk",
                        text: Some(delta),
                        task_id: &self.event.run.task,
                        raw,
                    });
                }
                self.frames.push(to_text(&AgentActivity {
                    action: "agent_activity",
                    agent_id: &self.facts.agent,
                    task_id: &self.event.run.task,
                    delta,
                }));
            }
            RunEvent::Thinking { delta } => {
                self.progress(
                    "thinking",
                    self.facts.log_thinking.then_some(delta.as_str()),
                    None,
                );
            }
            RunEvent::Tool(tool) if !claude => {
                let kind = tool_event_kind(tool.status);
                self.progress(kind, None, None);
                let made = tool_update(tool);
                self.stream(StreamEvent {
                    kind,
                    text: None,
                    task_id: &self.event.run.task,
                    raw: Some(raw.unwrap_or(&made)),
                });
            }
            RunEvent::FileWritten { path } => self.progress("file_written", None, Some(path)),
            // This wire has no word for an answer that is on its way.
            RunEvent::Ask(ask) if ask.answered.is_none() => {
                self.frames.push(to_text(&TaskWaitingForInput {
                    action: "task_waiting_for_input",
                    agent_id: &self.facts.agent,
                    task_id: &self.event.run.task,
                    prompt: prompt(ask),
                }));
            }
            // Follow-ups do not report a model on this wire.
            RunEvent::Model { model } if self.facts.kind == RunKind::Dispatch => {
                self.frames.push(to_text(&TaskModelUpdate {
                    action: "task_model_update",
                    task_id: &self.event.run.task,
                    model,
                }));
            }
            RunEvent::Status { text } => self.progress("run_status", Some(text), None),
            RunEvent::TextReplaced { .. }
            | RunEvent::Tool(_)
            | RunEvent::Plan { .. }
            | RunEvent::Ask(_)
            | RunEvent::AskClosed { .. }
            | RunEvent::Model { .. }
            | RunEvent::Mode { .. }
            | RunEvent::Effort { .. }
            | RunEvent::Injected { .. }
            | RunEvent::Usage(_)
            | RunEvent::Retrying(_)
            | RunEvent::Silent { .. }
            | RunEvent::Other { .. } => {}
        }
    }

    fn ended(&mut self, outcome: &Outcome) {
        let (status, reason, own_fault) = match outcome {
            Outcome::Completed => ("completed", None, false),
            Outcome::Failed { fault, reason } => {
                ("failed", Some(reason.as_str()), *fault == Fault::Bridge)
            }
            Outcome::Blocked { reason, .. } => ("blocked", Some(reason.as_str()), false),
            Outcome::Cancelled { .. } => ("failed", Some(CANCELLED_REASON), false),
        };
        let reason = reason.filter(|reason| !reason.is_empty());
        self.frames.push(to_text(&TaskComplete {
            action: "task_complete",
            agent_id: &self.facts.agent,
            task_id: &self.event.run.task,
            status,
            reason,
            source: if own_fault { "bridge" } else { "provider" },
        }));
        let dispatch = self.facts.kind == RunKind::Dispatch;
        let (result, error) = match (own_fault, dispatch, reason) {
            (true, true, _) | (true, false, None) => (None, Some("BRIDGE_INTERNAL_ERROR".into())),
            (true, false, Some(reason)) => (None, Some(format!("BRIDGE_INTERNAL_ERROR: {reason}"))),
            (false, true, _) => (Some(status), None),
            (false, false, reason) => (Some(status), reason.map(str::to_owned)),
        };
        self.intent_result(provider_method(self.facts.kind), result, error);
    }

    fn rejected(&mut self, rejection: &Rejection) {
        let method = provider_method(self.facts.kind);
        let (method, error) = match rejection {
            Rejection::AgentNotFound => (method, "AGENT_NOT_FOUND".into()),
            Rejection::MissingIntentPayload => (None, "MISSING_INTENT_PAYLOAD".into()),
            Rejection::ProviderNotActive { provider } => {
                (method, format!("PROVIDER_NOT_ACTIVE:{provider}"))
            }
            Rejection::PlaceRefused { reason } => (method, format!("INVALID_PATH: {reason}")),
        };
        self.intent_result(method, None, Some(error));
    }

    fn intent_result(
        &mut self,
        provider_method: Option<&'static str>,
        result: Option<&'static str>,
        error: Option<String>,
    ) {
        self.frames.push(to_text(&IntentResult {
            action: "intent_result",
            request_id: self.token.request_id.as_deref(),
            agent_id: self.facts.agent.as_str(),
            intent_type: intent_type(self.facts.kind),
            provider_method,
            execution_id: self.token.execution_id.as_deref(),
            context_task_id: Some(self.event.run.task.as_str()),
            result,
            error,
        }));
    }

    fn progress(&mut self, kind: &'static str, text: Option<&str>, path: Option<&str>) {
        self.frames.push(to_text(&TaskProgress {
            action: "task_progress",
            task_id: &self.event.run.task,
            agent_id: &self.facts.agent,
            kind,
            text,
            path,
            timestamp: self.event.at,
        }));
    }

    fn stream(&mut self, event: impl Serialize) {
        self.frames.push(to_text(&AgentStream {
            action: "agent_stream",
            agent_id: &self.facts.agent,
            task_id: &self.event.run.task,
            event,
        }));
    }
}

pub(super) fn intent_type(kind: RunKind) -> &'static str {
    match kind {
        RunKind::Dispatch => "dispatch_task",
        RunKind::FollowUp => "followup",
        RunKind::AgentCommand => "agent_command",
    }
}

/// Follow-ups never carry one.
pub(super) fn provider_method(kind: RunKind) -> Option<&'static str> {
    match kind {
        RunKind::Dispatch | RunKind::AgentCommand => Some("sessions.send"),
        RunKind::FollowUp => None,
    }
}

fn is_claude_message(raw: &Value) -> bool {
    let kind = raw.get("type").and_then(Value::as_str);
    matches!(kind, Some("assistant" | "tool_use" | "tool_result"))
}

fn tool_event_kind(status: ToolStatus) -> &'static str {
    match status {
        ToolStatus::Pending | ToolStatus::InProgress => "tool_call",
        ToolStatus::Completed
        | ToolStatus::Failed
        | ToolStatus::Cancelled
        | ToolStatus::Unknown => "tool_result",
    }
}

/// The update an ACP agent would have sent, for tools of agents that speak something else.
fn tool_update(tool: &ToolState) -> Value {
    let (update, status) = match tool.status {
        ToolStatus::Pending => ("tool_call", "pending"),
        ToolStatus::InProgress => ("tool_call", "in_progress"),
        ToolStatus::Completed => ("tool_call_update", "completed"),
        ToolStatus::Failed | ToolStatus::Cancelled | ToolStatus::Unknown => {
            ("tool_call_update", "failed")
        }
    };
    let mut value = json!({
        "sessionUpdate": update,
        "toolCallId": tool.id,
        "title": tool.title,
        "kind": tool.kind,
        "status": status,
    });
    if let Some(input) = &tool.input {
        value["rawInput"] = input.clone();
    }
    if !tool.locations.is_empty() {
        value["locations"] = json!(tool.locations);
    }
    let output = tool
        .output
        .iter()
        .map(|text| json!({"type": "content", "content": {"type": "text", "text": text}}));
    let diffs = tool.diffs.iter().map(
        |diff| json!({"type": "diff", "path": diff.path, "oldText": diff.old, "newText": diff.new}),
    );
    let content: Vec<Value> = output.chain(diffs).collect();
    if !content.is_empty() {
        value["content"] = Value::Array(content);
    }
    value
}

fn without_thinking(event: &Event) -> Event {
    let mut event = event.clone();
    if let EventBody::Seen(observed) = &mut event.body {
        if let RunEvent::Thinking { delta } = &mut observed.event {
            delta.clear();
            observed.raw = None;
        }
        let raw = observed.raw.as_ref().and_then(raw_without_thinking);
        observed.raw = raw.map(Cow::into_owned);
    }
    event
}

/// The raw message without thinking, or `None` when nothing else is in it.
fn raw_without_thinking(raw: &Value) -> Option<Cow<'_, Value>> {
    fn is_thinking(block: &Value) -> bool {
        let kind = block.get("type").and_then(Value::as_str);
        matches!(
            kind,
            Some("thinking" | "redacted_thinking" | "thinking_delta" | "signature_delta")
        )
    }
    let update = raw.get("sessionUpdate").and_then(Value::as_str);
    let parts = ["/event/delta", "/event/content_block"];
    if matches!(update, Some("agent_thought_chunk" | "agent_thought"))
        || parts
            .iter()
            .filter_map(|part| raw.pointer(part))
            .any(is_thinking)
    {
        return None;
    }
    let blocks = raw.pointer("/message/content").and_then(Value::as_array);
    if !blocks.is_some_and(|blocks| blocks.iter().any(is_thinking)) {
        return Some(Cow::Borrowed(raw));
    }
    let mut raw = raw.clone();
    let blocks = raw
        .pointer_mut("/message/content")
        .and_then(Value::as_array_mut)?;
    blocks.retain(|block| !is_thinking(block));
    if blocks.is_empty() {
        None
    } else {
        Some(Cow::Owned(raw))
    }
}
