//! What the agent tells and asks: session updates become events, permission requests become
//! questions, everything else is passed on or refused, and nothing is left unanswered.

use std::time::{Duration, Instant};

use bridge_proto::model::{AskEnd, PlanItem, Retry, RunEvent, Usage};
use serde_json::Value;

use super::{
    dialogue::{AcpDialogue, Phase},
    jsonrpc, permissions,
    questions::plan_item,
    session::Setting,
};
use crate::{dialogue::Step, plain::sentence};

impl AcpDialogue {
    pub(super) fn on_notification(&mut self, method: &str, mut params: Value) {
        match method {
            "session/update" => {
                let session = params.get("sessionId").and_then(Value::as_str);
                // Some agents tell of a session before they have answered that it is there.
                let ours = session == Some(&self.session) || self.session.is_empty();
                let update = params
                    .get_mut("update")
                    .map(Value::take)
                    .unwrap_or_default();
                if ours {
                    self.on_update(update);
                } else if !self.history {
                    let what = "update of another session".to_owned();
                    self.emit(RunEvent::Other { what }, Some(update));
                }
            }
            "$/cancel_request" => {
                let id = params.get("requestId").cloned().unwrap_or_default();
                if let Some(ask) = self.asks.withdraw(&id) {
                    let line = jsonrpc::error(&id, REQUEST_CANCELLED, "request cancelled");
                    self.push(Step::Send(line));
                    self.emit(
                        RunEvent::AskClosed {
                            ask,
                            how: AskEnd::Withdrawn,
                        },
                        None,
                    );
                }
            }
            RETRYING => match retry_of(&params, &self.session) {
                Some(retry) => self.emit(RunEvent::Retrying(retry), Some(params)),
                None => self.other(RETRYING, params),
            },
            other => {
                if let Some(name) = self.extension(other) {
                    let name = name.to_owned();
                    self.on_extension(None, &name, params);
                } else {
                    self.other(other, params);
                }
            }
        }
    }

    /// Every request is answered at once, except a permission, which waits for a person.
    pub(super) fn on_request(&mut self, now: Instant, id: &Value, method: &str, params: Value) {
        if method == "session/request_permission" {
            self.on_permission(now, id, params);
            return;
        }
        if let Some(name) = self.extension(method) {
            let name = name.to_owned();
            return self.on_extension(Some(id), &name, params);
        }
        let method = sentence(method, 100);
        let message = format!("the client does not offer {method}");
        self.push(Step::Send(jsonrpc::error(id, METHOD_NOT_FOUND, &message)));
    }

    fn on_permission(&mut self, now: Instant, id: &Value, params: Value) {
        let ask = if self.is_working() {
            self.release_text();
            let call = params.get("toolCall").cloned().unwrap_or_default();
            let asked = self.tools.ask(&call);
            let mut question = None;
            if let Some(asked) = asked {
                if asked.merged.news {
                    self.emit(RunEvent::Tool(asked.merged.state), Some(call));
                }
                self.break_block();
                question = Some(asked.question);
            }
            let expires = self.quirks.asks.lifetime.map(|lifetime| now + lifetime);
            self.asks
                .open(id.clone(), question.as_ref(), &params, expires)
        } else {
            None
        };
        match ask {
            Some(ask) => self.emit(RunEvent::Ask(ask), Some(params)),
            None => self.push(Step::Send(jsonrpc::result(id, &permissions::cancelled()))),
        }
    }

    fn on_update(&mut self, update: Value) {
        let kind = update
            .get("sessionUpdate")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if self.history {
            return;
        }
        match kind {
            "agent_message_chunk" => self.on_message(update),
            "agent_thought_chunk" => match text_of(&update) {
                Some(delta) => {
                    if self.is_running() && !delta.is_empty() {
                        self.release_text();
                        self.went_on();
                        self.emit(RunEvent::Thinking { delta }, Some(update));
                    }
                }
                None => self.other("agent_thought_chunk", update),
            },
            "tool_call" | "tool_call_update" => self.on_tool(update),
            "plan" => self.on_plan(update),
            "usage_update" => self.on_usage(update),
            "current_mode_update" => {
                if let Some(mode) = update.get("currentModeId").and_then(Value::as_str) {
                    self.offer.set_current(Setting::Mode, mode);
                    self.tell_setting(Setting::Mode, Some(update));
                } else {
                    self.other("current_mode_update", update);
                }
            }
            "config_option_update" => {
                let before = self.offer.clone();
                self.offer.read_options(&update);
                for setting in [Setting::Model, Setting::Mode] {
                    if self.offer.current(setting) != before.current(setting) {
                        self.tell_setting(setting, None);
                    }
                }
                self.other("config_option_update", update);
            }
            kind => {
                let kind = sentence(kind, 100);
                self.other(&kind, update);
            }
        }
    }

    fn on_message(&mut self, update: Value) {
        let Some(delta) = text_of(&update) else {
            self.other("agent_message_chunk", update);
            return;
        };
        if let Some(mode) = self.mode_of(&delta) {
            self.offer.set_current(Setting::Mode, &mode);
            self.tell_setting(Setting::Mode, Some(update));
            return;
        }
        if delta.is_empty() || !self.is_running() {
            return;
        }
        self.release_text();
        if let Some(remark) = self.remark_of(&delta) {
            self.emit(remark, Some(update));
            return;
        }
        self.went_on();
        let Phase::Running(turn) = &mut self.phase else {
            return;
        };
        if let Some((delta, update)) = turn.hold(&self.quirks.text, delta, update) {
            self.tell_text(delta, update);
        }
    }

    pub(super) fn tell_text(&mut self, delta: String, update: Value) {
        let Phase::Running(turn) = &mut self.phase else {
            return;
        };
        let message = update.get("messageId").and_then(Value::as_str);
        if let Some(block) = turn.text(message, &delta) {
            self.emit(RunEvent::Text { block, delta }, Some(update));
        }
    }

    /// What a chunk means that is a remark of the agent and not of the model.
    fn remark_of(&mut self, delta: &str) -> Option<RunEvent> {
        let remark = delta.strip_prefix(self.quirks.text.remark?)?;
        let Phase::Running(turn) = &mut self.phase else {
            return None;
        };
        turn.pause_text();
        let text = sentence(remark, MAX_REMARK);
        let again = self.quirks.text.retrying;
        if again.is_some_and(|again| remark.trim_end().ends_with(again)) {
            turn.retries = turn.retries.saturating_add(1);
            return Some(RunEvent::Retrying(Retry {
                attempt: turn.retries,
                limit: None,
                delay: None,
                reason: text,
            }));
        }
        Some(RunEvent::Status { text })
    }

    fn mode_of(&self, delta: &str) -> Option<String> {
        let mode = delta
            .strip_prefix(self.quirks.mode_chunk.as_deref()?)?
            .trim();
        let word = !mode.is_empty() && !mode.contains(char::is_whitespace);
        word.then(|| mode.to_owned())
    }

    fn on_tool(&mut self, update: Value) {
        if !self.is_running() {
            return;
        }
        self.release_text();
        if self.tools.is_new(&update) {
            self.went_on();
        }
        let Some(merged) = self.tools.merge(&update) else {
            self.other("tool_call without an id", update);
            return;
        };
        self.break_block();
        let list = update.get("rawInput").cloned();
        if merged.news {
            self.emit(RunEvent::Tool(merged.state), Some(update));
        }
        if self.quirks.tools.todos_in_input
            && let Some(list) = list.filter(|list| list.get("todos").is_some())
        {
            self.tell_todos(&list);
        }
        for path in merged.written {
            self.emit(RunEvent::FileWritten { path }, None);
        }
    }

    fn on_plan(&mut self, update: Value) {
        let entries = update.get("entries").and_then(Value::as_array);
        let items = entries
            .into_iter()
            .flatten()
            .take(MAX_PLAN)
            .filter_map(plan_item)
            .collect();
        self.tell_plan("plan", items, update);
    }

    /// A list that stands in a message which is told anyway.
    pub(super) fn tell_todos(&mut self, list: &Value) {
        let items = self.todos.update(list);
        if let Phase::Running(turn) = &mut self.phase
            && turn.plan != items
        {
            turn.plan.clone_from(&items);
            self.emit(RunEvent::Plan { items }, None);
        }
    }

    /// A list that is as it was is not told again; so an empty one is told only where it empties
    /// another.
    pub(super) fn tell_plan(&mut self, what: &str, items: Vec<PlanItem>, raw: Value) {
        let Phase::Running(turn) = &mut self.phase else {
            return;
        };
        if turn.plan == items {
            self.other(what, raw);
        } else {
            turn.plan.clone_from(&items);
            self.emit(RunEvent::Plan { items }, Some(raw));
        }
    }

    fn on_usage(&mut self, update: Value) {
        let dollars = update.pointer("/cost/currency").and_then(Value::as_str) == Some("USD");
        let amount = update
            .pointer("/cost/amount")
            .and_then(Value::as_f64)
            .filter(|_| dollars);
        if amount.is_none() {
            self.other("usage_update", update);
            return;
        }
        self.usage.cost_usd = amount;
        self.emit(RunEvent::Usage(self.usage), Some(update));
    }

    /// What the answer to a prompt says of tokens and of the model that gave it.
    pub(super) fn on_turn_usage(&mut self, result: &Value) {
        let quota = result.pointer("/_meta/quota");
        let count = |standard: &str, other: &str| {
            let standard = result.pointer(standard).and_then(Value::as_u64);
            standard.or_else(|| quota?.pointer(other)?.as_u64())
        };
        let input = count("/usage/inputTokens", "/token_count/input_tokens");
        let output = count("/usage/outputTokens", "/token_count/output_tokens");
        if input.is_some() || output.is_some() {
            let of_all = self.quirks.turn.usage_of_all;
            let count = |before, told: Option<u64>| {
                if of_all {
                    told.max(before)
                } else {
                    sum(before, told)
                }
            };
            self.usage = Usage {
                input_tokens: count(self.usage.input_tokens, input),
                output_tokens: count(self.usage.output_tokens, output),
                cost_usd: self.usage.cost_usd,
            };
            self.emit(RunEvent::Usage(self.usage), Some(result.clone()));
        }
        let used = quota.and_then(|quota| quota.get("model_usage")?.as_array());
        let model = used.into_iter().flatten().find_map(|entry| {
            entry
                .get("model")
                .and_then(Value::as_str)
                .filter(|model| *model != "auto")
        });
        if let Some(model) = model {
            self.emit(
                RunEvent::Model {
                    model: sentence(model, 200),
                },
                None,
            );
        }
    }

    pub(super) fn other(&mut self, what: &str, raw: Value) {
        if !self.history {
            self.emit(
                RunEvent::Other {
                    what: what.to_owned(),
                },
                Some(raw),
            );
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    fn break_block(&mut self) {
        if let Phase::Running(turn) = &mut self.phase {
            turn.break_block();
        }
    }
}

fn text_of(update: &Value) -> Option<String> {
    let content = update.get("content")?;
    if content.get("type").and_then(Value::as_str) != Some("text") {
        return None;
    }
    content
        .get("text")
        .and_then(Value::as_str)
        .map(str::to_owned)
}

fn retry_of(params: &Value, session: &str) -> Option<Retry> {
    if params.get("sessionId")?.as_str()? != session {
        return None;
    }
    let number = |key: &str| params.get(key).and_then(Value::as_u64);
    let small = |key: &str| number(key).and_then(|n| u32::try_from(n).ok());
    Some(Retry {
        attempt: small("attempt")?,
        limit: small("limit"),
        delay: number("delayMs").map(Duration::from_millis),
        reason: sentence(params.get("reason")?.as_str()?, 400),
    })
}

fn sum(before: Option<u64>, more: Option<u64>) -> Option<u64> {
    match (before, more) {
        (Some(before), Some(more)) => Some(before.saturating_add(more)),
        (before, more) => before.or(more),
    }
}

/// Beside the protocol, as it allows: an agent of ours sends a failed request to its model again.
pub(crate) const RETRYING: &str = "_ctrlnode/retrying";
const METHOD_NOT_FOUND: i64 = -32601;
const REQUEST_CANCELLED: i64 = -32800;
const MAX_PLAN: usize = 500;
const MAX_REMARK: usize = 500;
