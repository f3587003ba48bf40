//! One turn in the print mode of Cursor CLI: the prompt goes to standard input, events come as
//! JSON lines, nothing is asked, and the process ends with its turn. A follow-up is a new process
//! that continues the chat by its id.
//!
//! With partial output the same text comes several times; see [`StreamDialogue::on_text`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bridge_proto::{
    ResumeId,
    model::{Actor, Fault, Observed, Outcome, RunEvent, ToolStatus, Usage},
};
use serde_json::Value;

use super::{quirks, stream_tools::Tools};
use crate::{
    acp::{Turn, of_exit, of_words},
    dialogue::{Dialogue, Exit, Step},
    plain::sentence,
    provider::{Injection, Steer, TurnEnd},
};

/// JSON lines of one `cursor-agent -p`.
#[derive(Debug)]
pub struct StreamDialogue {
    steps: VecDeque<Step>,
    /// Standing instructions, put before the prompt.
    instructions: String,
    /// Whether it does what it proposes.
    acts: bool,
    turn: Option<Turn>,
    /// The prompt is said, and no further one can be.
    spent: bool,
    cancelled: bool,
    /// The process is being ended.
    ending: bool,
    /// Text comes in increments, so that whole messages repeat it.
    partial: bool,
    tools: Tools,
    noise: u32,
}

impl StreamDialogue {
    /// A turn with these instructions before its prompt; `acts` when edits and commands are
    /// carried out, without a question.
    pub fn new(instructions: &str, acts: bool) -> Self {
        Self {
            steps: VecDeque::new(),
            instructions: instructions.to_owned(),
            acts,
            turn: None,
            spent: false,
            cancelled: false,
            ending: false,
            partial: false,
            tools: Tools::default(),
            noise: 0,
        }
    }

    fn emit(&mut self, event: RunEvent, raw: Option<Value>) {
        let seen = Observed { event, raw };
        self.steps.push_back(Step::Emit(Box::new(seen)));
    }

    fn say(&mut self, text: &str) {
        let text = text.to_owned();
        self.emit(RunEvent::Status { text }, None);
    }

    fn other(&mut self, what: &str, raw: Value) {
        let what = sentence(what, 100);
        self.emit(RunEvent::Other { what }, Some(raw));
    }

    fn begin(&mut self, now: Instant, prompt: &str) {
        if self.spent {
            let outcome = Outcome::Failed {
                fault: Fault::Agent,
                reason: "this version of Cursor takes one message per start".to_owned(),
            };
            let answer = String::new();
            self.steps
                .push_back(Step::TurnOver(TurnEnd { outcome, answer }));
            return;
        }
        self.spent = true;
        self.turn = Some(Turn::new(1, 0, now));
        let instructions = std::mem::take(&mut self.instructions);
        let text = if instructions.trim().is_empty() {
            prompt.to_owned()
        } else {
            format!("{instructions}\n\n{prompt}")
        };
        self.steps.push_back(Step::Send(text));
        self.steps.push_back(Step::EndInput);
        self.steps.push_back(Step::Prompted);
        self.say(if self.acts {
            "this version of Cursor cannot ask before it acts; everything is allowed"
        } else {
            "this version of Cursor cannot ask before it acts; it proposes changes and makes none"
        });
    }

    /// The turn is over; whatever is left of the process has nothing more to do.
    fn finish(&mut self, outcome: Outcome, tools: ToolStatus) {
        let Some(turn) = self.turn.take() else { return };
        for state in self.tools.finish(tools) {
            self.emit(RunEvent::Tool(state), None);
        }
        let outcome = if self.cancelled {
            Outcome::Cancelled { by: Actor::Person }
        } else {
            outcome
        };
        let answer = turn.into_answer();
        self.steps
            .push_back(Step::TurnOver(TurnEnd { outcome, answer }));
    }

    fn end_process(&mut self, step: Step) {
        if !std::mem::replace(&mut self.ending, true) {
            self.steps.push_back(step);
        }
    }

    fn on_message(&mut self, message: Value) {
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        if let Some(id) = text("session_id").and_then(|id| ResumeId::parse(id).ok())
            && matches!(text("type"), Some("system" | "result"))
        {
            self.steps.push_back(Step::Resumable(id));
        }
        match (text("type").unwrap_or_default(), text("subtype")) {
            ("system", Some("init")) => {
                if let Some(model) = text("model") {
                    let model = sentence(model, 200);
                    self.emit(RunEvent::Model { model }, Some(message));
                }
            }
            ("thinking", Some("delta")) => {
                let delta = text("text").unwrap_or_default().to_owned();
                self.pause_text();
                self.emit(RunEvent::Thinking { delta }, Some(message));
            }
            ("assistant", _) => self.on_text(message),
            ("tool_call", _) => self.on_tool(message),
            ("result", _) => self.on_result(message),
            (kind, _) => {
                let kind = kind.to_owned();
                self.other(&kind, message);
            }
        }
    }

    /// An increment has a time and no id of a model call. Whole messages repeat what came in
    /// increments, once with the id of the call and once at the end without a time; where there
    /// are no increments they are all there is.
    fn on_text(&mut self, message: Value) {
        let text = text_of(&message);
        let increment =
            message.get("timestamp_ms").is_some() && message.get("model_call_id").is_none();
        self.partial |= increment;
        if self.partial && !increment {
            self.other("assistant text once more", message);
            return;
        }
        let Some(turn) = &mut self.turn else { return };
        if text.is_empty() {
            return;
        }
        if !increment {
            turn.break_block();
        }
        if let Some(block) = turn.text(None, &text) {
            let delta = text;
            self.emit(RunEvent::Text { block, delta }, Some(message));
        }
    }

    fn on_tool(&mut self, message: Value) {
        if let Some(turn) = &mut self.turn {
            turn.break_block();
        }
        let Some(told) = self.tools.take(&message) else {
            self.other("tool_call without an id", message);
            return;
        };
        self.emit(RunEvent::Tool(told.state), Some(message));
        if let Some(path) = told.written {
            self.emit(RunEvent::FileWritten { path }, None);
        }
    }

    fn on_result(&mut self, message: Value) {
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        let failed = message.get("is_error").and_then(Value::as_bool) == Some(true)
            || text("subtype").is_some_and(|subtype| subtype != "success");
        let outcome = if failed {
            of_words(&quirks(), text("result").unwrap_or_default())
        } else {
            Outcome::Completed
        };
        let count = |name: &str| message.get("usage")?.get(name)?.as_u64();
        let usage = Usage {
            input_tokens: count("inputTokens"),
            output_tokens: count("outputTokens"),
            cost_usd: None,
        };
        if usage == Usage::default() {
            self.other("result", message);
        } else {
            self.emit(RunEvent::Usage(usage), Some(message));
        }
        self.finish(outcome, ToolStatus::Unknown);
        self.end_process(Step::CloseInput(LEAVE));
    }

    fn pause_text(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.pause_text();
        }
    }
}

impl Dialogue for StreamDialogue {
    fn on_start(&mut self, _now: Instant) {}

    fn on_line(&mut self, now: Instant, line: &[u8]) {
        let Some(turn) = &mut self.turn else { return };
        turn.heard(now);
        match serde_json::from_slice::<Value>(line) {
            Ok(message) if message.is_object() => self.on_message(message),
            Ok(_) | Err(_) => {
                self.noise = self.noise.saturating_add(1);
                let text = sentence(&String::from_utf8_lossy(line), 200);
                if self.noise <= NOISE_TOLD && !text.is_empty() {
                    self.other("unreadable line", Value::String(text));
                }
            }
        }
    }

    fn on_oversized(&mut self, now: Instant, bytes: u64) {
        if let Some(turn) = &mut self.turn {
            turn.heard(now);
        }
        self.say(&format!(
            "a line of {bytes} bytes from Cursor was skipped, it is over the limit"
        ));
    }

    fn on_steer(&mut self, now: Instant, steer: Steer) {
        match steer {
            Steer::Prompt(prompt) => self.begin(now, &prompt),
            Steer::Interrupt => {
                // There is no word for it: the process is the turn.
                if self.turn.is_some() {
                    self.cancelled = true;
                    self.end_process(Step::Terminate(OBEY));
                }
            }
            Steer::Inject(_) => self.steps.push_back(Step::Injected(Injection::Refused)),
            Steer::Answer(..) => {}
            Steer::Tune(_) => {
                self.say("this version of Cursor takes its settings only when it starts");
            }
            Steer::Close => {
                if self.turn.is_none() {
                    self.end_process(Step::CloseInput(LEAVE));
                }
            }
        }
    }

    fn on_end(&mut self, _now: Instant, exit: Exit) {
        self.ending = true;
        // Without a result the reason stands on standard error.
        let outcome = match of_words(&quirks(), &exit.stderr_tail) {
            blocked @ Outcome::Blocked { .. } => blocked,
            Outcome::Failed { .. } | Outcome::Completed | Outcome::Cancelled { .. } => {
                of_exit(&quirks(), &exit, "during the turn", "")
            }
        };
        let tools = if self.cancelled {
            ToolStatus::Cancelled
        } else {
            ToolStatus::Unknown
        };
        self.finish(outcome, tools);
    }

    fn on_timeout(&mut self, now: Instant) {
        let silent = self.turn.as_mut().and_then(|turn| turn.silence(now));
        if let Some(silent) = silent {
            let seconds = silent.as_secs();
            self.emit(RunEvent::Silent { seconds }, None);
        }
    }

    fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        self.turn.as_ref().map(Turn::silence_due)
    }
}

fn text_of(message: &Value) -> String {
    let blocks = message
        .pointer("/message/content")
        .and_then(Value::as_array);
    let texts = blocks.into_iter().flatten();
    texts
        .filter_map(|block| block.get("text").and_then(Value::as_str))
        .collect()
}

/// How long it has to end by itself when its work is done.
const LEAVE: Duration = Duration::from_secs(3);
/// Between SIGTERM and SIGKILL.
const OBEY: Duration = Duration::from_secs(2);
const NOISE_TOLD: u32 = 4;
