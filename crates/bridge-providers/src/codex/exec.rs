//! One turn with `codex exec --json`, for versions whose app-server does not work: messages come
//! whole, nothing is asked, and the process ends with its turn. A follow-up is a new process that
//! resumes the conversation by its id.
//!
//! The prompt goes to standard input, which the program reads to its end before it does anything.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bridge_proto::{
    BlockId, ResumeId,
    model::{
        Actor, Fault, Observed, Outcome, PlanItem, PlanStatus, RunEvent, ToolStatus, Tuning, Usage,
    },
};
use serde_json::{Value, json};

use super::{
    outcome::{judge, last_words, reason_of_end, refused_key, refused_thread, retry, status_in},
    tools::Tools,
};
use crate::{
    answer::Answer,
    dialogue::{Dialogue, Exit, Step},
    plain::{one_line, readable},
    provider::{Injection, Steer, TurnEnd},
};

/// JSON lines of one `codex exec`.
#[derive(Debug)]
pub struct ExecDialogue {
    steps: VecDeque<Step>,
    /// Whether a conversation is continued: its usage counts from its beginning.
    resumed: bool,
    turn: Option<Turn>,
    /// The prompt is said, and no further one can be.
    spent: bool,
    tools: Tools,
    heard: Option<Instant>,
    silences: u32,
}

#[derive(Debug)]
struct Turn {
    answer: Answer,
    /// How it ends, once that is known; told when the process is gone.
    outcome: Option<Outcome>,
    /// Since when there are only retries.
    retrying: Option<(Instant, u32)>,
    last_error: Option<Value>,
}

impl ExecDialogue {
    /// A turn in this directory; `resumed` when it continues a conversation.
    pub fn new(directory: &str, resumed: bool) -> Self {
        Self {
            steps: VecDeque::new(),
            resumed,
            turn: None,
            spent: false,
            tools: Tools::new(directory),
            heard: None,
            silences: 0,
        }
    }

    fn emit(&mut self, event: RunEvent) {
        self.steps.push_back(Step::Emit(Box::new(event.into())));
    }

    fn pass_on(&mut self, what: &str, raw: Value) {
        let what = one_line(what, 100);
        self.steps.push_back(Step::Emit(Box::new(Observed {
            event: RunEvent::Other { what },
            raw: Some(raw),
        })));
    }

    fn begin(&mut self, now: Instant, text: String) {
        if self.spent {
            self.over(Outcome::Failed {
                fault: Fault::Agent,
                reason: "this version of Codex takes one message per start".to_owned(),
            });
            return;
        }
        self.spent = true;
        self.turn = Some(Turn {
            answer: Answer::default(),
            outcome: None,
            retrying: None,
            last_error: None,
        });
        self.heard = Some(now);
        self.steps.push_back(Step::Send(text));
        self.steps.push_back(Step::EndInput);
        self.steps.push_back(Step::Prompted);
        self.emit(RunEvent::Status {
            text: "this version of Codex cannot ask before it acts; it works in its sandbox"
                .to_owned(),
        });
    }

    fn over(&mut self, outcome: Outcome) {
        let answer = String::new();
        self.steps
            .push_back(Step::TurnOver(TurnEnd { outcome, answer }));
    }

    /// Ends the process; the turn ends with this outcome.
    fn stop(&mut self, outcome: Outcome) {
        if let Some(turn) = &mut self.turn {
            let first = turn.outcome.is_none();
            turn.outcome = Some(outcome);
            if first {
                self.steps.push_back(Step::Terminate(OBEY));
            }
        }
    }

    /// The program says how the turn ended; the process is about to end as well.
    fn settle(&mut self, outcome: Outcome) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.outcome.is_none()) {
            turn.outcome = Some(outcome);
            self.steps.push_back(Step::CloseInput(LEAVE));
        }
    }

    fn on_message(&mut self, now: Instant, message: &Value) {
        let kind = message.get("type").and_then(Value::as_str);
        let Some(turn) = &mut self.turn else {
            self.pass_on(kind.unwrap_or("a message without a type"), message.clone());
            return;
        };
        match kind.unwrap_or_default() {
            "thread.started" => {
                let id = message.get("thread_id").and_then(Value::as_str);
                let id = id.and_then(|id| ResumeId::parse(id).ok());
                self.steps.extend(id.map(Step::Resumable));
            }
            "turn.started" => {}
            "item.started" | "item.updated" | "item.completed" => {
                turn.retrying = None;
                let over = kind == Some("item.completed");
                self.on_item(over, message.get("item").unwrap_or(&Value::Null));
            }
            "turn.completed" => {
                self.settle(Outcome::Completed);
                let used = message.get("usage").filter(|_| !self.resumed);
                if let Some(used) = used {
                    self.emit(RunEvent::Usage(usage(used)));
                }
            }
            "turn.failed" => {
                let error = message.get("error").cloned().unwrap_or_default();
                self.settle(judge(&error));
            }
            "error" => self.on_error(now, message),
            "" => self.pass_on("a message without a type", message.clone()),
            other => self.pass_on(other, message.clone()),
        }
    }

    /// Retries and final errors look alike but for their first word.
    fn on_error(&mut self, now: Instant, message: &Value) {
        let said = message.get("message").and_then(Value::as_str);
        let said = said.unwrap_or_default();
        let error = error_of(said);
        let Some(turn) = self.turn.as_mut().filter(|turn| turn.outcome.is_none()) else {
            return;
        };
        turn.last_error = Some(error.clone());
        if !said.starts_with(RETRY) {
            return;
        }
        if status_in(said) == Some(401) {
            self.stop(refused_key(&error));
            return;
        }
        let (since, before) = turn.retrying.unwrap_or((now, 0));
        let count = before.saturating_add(1);
        turn.retrying = Some((since, count));
        self.emit(RunEvent::Retrying(retry(&error, count)));
    }

    fn on_item(&mut self, over: bool, item: &Value) {
        let Some(turn) = &mut self.turn else { return };
        let text = |name: &str| item.get(name).and_then(Value::as_str);
        let said = text("text").unwrap_or_default();
        match text("type").unwrap_or_default() {
            "agent_message" => {
                let block = text("id").and_then(|id| BlockId::parse(id).ok());
                if let Some(block) = block.filter(|_| over && !said.is_empty()) {
                    turn.answer.replace(&block, said);
                    let delta = said.to_owned();
                    self.emit(RunEvent::Text { block, delta });
                }
            }
            "reasoning" => {
                if over && !said.is_empty() {
                    let delta = said.to_owned();
                    self.emit(RunEvent::Thinking { delta });
                }
            }
            "todo_list" => {
                let items = item.get("items").and_then(Value::as_array);
                let items = items.into_iter().flatten().take(MAX_PLAN);
                let items = items.filter_map(plan_item).collect();
                self.emit(RunEvent::Plan { items });
            }
            "error" => {
                let text = readable(text("message").unwrap_or_default(), super::dialogue::NOTE);
                self.emit(RunEvent::Status { text });
            }
            _ => self.on_tool(over, item),
        }
    }

    fn on_tool(&mut self, over: bool, item: &Value) {
        let same = as_item(item);
        let events: Vec<RunEvent> = if over {
            self.tools.completed(&same)
        } else {
            self.tools.started(&same).into_iter().collect()
        };
        if events.is_empty() {
            let kind = item.get("type").and_then(Value::as_str);
            self.pass_on(kind.unwrap_or("an item without a type"), item.clone());
        }
        for event in events {
            self.emit(event);
        }
    }

    fn on_tune(&mut self, tuning: &Tuning) {
        if *tuning != Tuning::default() {
            let text = "this version of Codex takes no settings while it works".to_owned();
            self.emit(RunEvent::Status { text });
        }
    }

    fn silence(&self) -> Option<Instant> {
        let working = self.turn.as_ref()?.outcome.is_none();
        Some(self.heard.filter(|_| working)? + SILENCE * (self.silences + 1))
    }

    fn endless(&self) -> Option<Instant> {
        let turn = self.turn.as_ref().filter(|turn| turn.outcome.is_none())?;
        turn.retrying.map(|(since, _)| since + RETRYING)
    }
}

impl Dialogue for ExecDialogue {
    fn on_start(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    fn on_line(&mut self, now: Instant, line: &[u8]) {
        self.heard = Some(now);
        self.silences = 0;
        match serde_json::from_slice::<Value>(line) {
            Ok(message) if message.is_object() => self.on_message(now, &message),
            Ok(other) => self.pass_on("a line that is no message", other),
            Err(_) if line.iter().all(u8::is_ascii_whitespace) => {}
            Err(_) => self.emit(RunEvent::Other {
                what: "a line that is no message".to_owned(),
            }),
        }
    }

    fn on_oversized(&mut self, now: Instant, bytes: u64) {
        self.heard = Some(now);
        self.emit(RunEvent::Status {
            text: format!("a line of {bytes} bytes from the agent was too long and was skipped"),
        });
    }

    fn on_steer(&mut self, now: Instant, steer: Steer) {
        match steer {
            Steer::Prompt(text) => self.begin(now, text),
            Steer::Inject(_) => self.steps.push_back(Step::Injected(Injection::Refused)),
            Steer::Answer(..) => {}
            Steer::Interrupt => self.stop(Outcome::Cancelled { by: Actor::Person }),
            Steer::Tune(tuning) => self.on_tune(&tuning),
            Steer::Close => {
                if !self.spent {
                    self.spent = true;
                    self.steps.push_back(Step::CloseInput(OBEY));
                }
            }
        }
    }

    fn on_end(&mut self, _now: Instant, exit: Exit) {
        self.spent = true;
        let Some(turn) = self.turn.take() else { return };
        let outcome = turn.outcome.unwrap_or_else(|| match turn.last_error {
            Some(error) => judge(&error),
            None if exit.stderr_tail.contains("no rollout found") => {
                refused_thread(&last_words(&exit.stderr_tail))
            }
            None => Outcome::Failed {
                fault: Fault::Agent,
                reason: reason_of_end(&exit),
            },
        });
        let left = match &outcome {
            Outcome::Cancelled { .. } => ToolStatus::Cancelled,
            Outcome::Completed | Outcome::Failed { .. } | Outcome::Blocked { .. } => {
                ToolStatus::Unknown
            }
        };
        for event in self.tools.turn_over(left, false).0 {
            self.emit(event);
        }
        let answer = turn.answer.text();
        self.steps
            .push_back(Step::TurnOver(TurnEnd { outcome, answer }));
    }

    fn on_timeout(&mut self, now: Instant) {
        if self.silence().is_some_and(|at| at <= now) {
            self.silences += 1;
            let seconds = SILENCE.as_secs() * u64::from(self.silences);
            self.emit(RunEvent::Silent { seconds });
        }
        if self.endless().is_some_and(|at| at <= now) {
            let error = self.turn.as_mut().and_then(|turn| turn.last_error.take());
            self.stop(judge(&error.unwrap_or_default()));
        }
    }

    fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        [self.silence(), self.endless()].into_iter().flatten().min()
    }
}

/// The error as the app-server would write it: `Reconnecting... 1/5 (why)` in two fields.
fn error_of(said: &str) -> Value {
    let retry = said
        .strip_suffix(')')
        .and_then(|said| said.split_once(" ("));
    match retry.filter(|_| said.starts_with(RETRY)) {
        Some((message, details)) => json!({ "message": message, "additionalDetails": details }),
        None => json!({ "message": said }),
    }
}

/// The item as the app-server would write it.
fn as_item(item: &Value) -> Value {
    let mut same = item.clone();
    let Some(fields) = same.as_object_mut() else {
        return same;
    };
    for (snake, camel) in [
        ("aggregated_output", "aggregatedOutput"),
        ("exit_code", "exitCode"),
    ] {
        if let Some(value) = fields.remove(snake) {
            fields.insert(camel.into(), value);
        }
    }
    let kind = fields.get("type").and_then(Value::as_str);
    let kind = match kind.unwrap_or_default() {
        "command_execution" => "commandExecution",
        "file_change" => "fileChange",
        "mcp_tool_call" => "mcpToolCall",
        "web_search" => "webSearch",
        _ => return same,
    };
    fields.insert("type".into(), kind.into());
    same
}

fn plan_item(item: &Value) -> Option<PlanItem> {
    let done = item.get("completed").and_then(Value::as_bool) == Some(true);
    Some(PlanItem {
        text: readable(item.get("text")?.as_str()?, 500),
        status: if done {
            PlanStatus::Completed
        } else {
            PlanStatus::Pending
        },
    })
}

fn usage(used: &Value) -> Usage {
    let tokens = |name: &str| used.get(name).and_then(Value::as_u64);
    Usage {
        input_tokens: tokens("input_tokens"),
        output_tokens: tokens("output_tokens"),
        cost_usd: None,
    }
}

/// How errors begin that will be tried again.
const RETRY: &str = "Reconnecting...";
/// How long the process may take to obey SIGTERM; seen are 40 ms.
const OBEY: Duration = Duration::from_secs(3);
/// How long the process may take to end after its turn; seen are 40 ms.
const LEAVE: Duration = Duration::from_secs(5);
/// Silence is told this often.
const SILENCE: Duration = Duration::from_secs(60);
/// How long retries may go on without anything between them.
const RETRYING: Duration = Duration::from_secs(180);
/// Most steps of a plan.
const MAX_PLAN: usize = 500;
