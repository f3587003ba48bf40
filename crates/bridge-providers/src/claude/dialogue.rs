//! The life of a conversation with Claude Code: prompts, turns, interrupts, time limits.
//!
//! ```text
//!          Prompt            result               no background work, or 3 s after its end
//!  idle ───────────► working ───────► settling ─────────────────────────────────► idle
//!   ▲                 │   ▲              │ init (it began a turn by itself)
//!   │                 │   └──────────────┘
//!   │   result        ▼ Interrupt, refused login
//!   └───────────── stopping ── 5 s ──► ending (Terminate) ──► gone
//! ```
//!
//! Prompts that come while a turn runs wait here, not in the program, so that every `TurnOver`
//! belongs to exactly one prompt, and every prompt gets exactly one.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bridge_proto::{
    AskId,
    model::{Actor, Answer as Reply, AskEnd, Fault, Outcome, RunEvent, ToolStatus, Tuning},
};
use serde_json::{Value, json};

use super::{asks::Asks, outcome::Ledger, outgoing, stream::Stream, tools::Tools};
use crate::{
    answer::Answer,
    dialogue::{Dialogue, Exit, Step},
    plain::{one_line, readable, tail},
    provider::{Injection, Steer, TurnEnd},
};

/// Native stream-json, both ways, with one process of Claude Code.
///
/// An answer to a question counts as applied when it is written: the program sends no receipt.
#[derive(Debug)]
pub struct ClaudeDialogue {
    pub(super) steps: VecDeque<Step>,
    /// Makes the ids of our messages unique to this process.
    seed: String,
    /// Messages with an id sent so far.
    sent: u64,
    pub(super) requests: HashMap<String, Request>,
    pub(super) turn: Option<Turn>,
    waiting: VecDeque<String>,
    life: Life,
    pub(super) stream: Stream,
    pub(super) tools: Tools,
    pub(super) asks: Asks,
    pub(super) ledger: Ledger,
    pub(super) background: Vec<String>,
    /// A background task has reported; the program is going to begin a turn about it.
    pub(super) report_due: bool,
    pub(super) conversation: Option<String>,
    pub(super) model: Option<String>,
    pub(super) mode: Option<String>,
    /// When the program, or somebody who answers it, was last heard.
    heard: Option<Instant>,
    /// How many times this silence was told.
    silences: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    /// The owner wants the end when no turn runs.
    Closing,
    /// Nothing more can be sent.
    Ending,
}

#[derive(Debug)]
pub(super) struct Turn {
    pub(super) answer: Answer,
    /// What the last error message called its error.
    pub(super) code: Option<String>,
    /// A result for the prompt itself was there.
    pub(super) answered: bool,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    Working,
    /// The result is there; background work goes on, or a turn of its own accord may follow.
    Settling {
        outcome: Outcome,
        until: Option<Instant>,
    },
    /// The program was asked to stop.
    Stopping {
        outcome: Outcome,
        until: Instant,
    },
    /// The process is being ended.
    Ending {
        outcome: Outcome,
    },
}

/// Requests of ours that have an answer worth reading.
#[derive(Debug)]
pub(super) enum Request {
    Model(String),
    Mode(String),
    Effort(String),
}

impl ClaudeDialogue {
    /// `seed` must differ for every process; `resumed` when the process continues a conversation
    /// (its cost totals then begin with what was spent before).
    pub fn new(seed: &str, resumed: bool) -> Self {
        Self {
            steps: VecDeque::new(),
            seed: seed.to_owned(),
            sent: 0,
            requests: HashMap::new(),
            turn: None,
            waiting: VecDeque::new(),
            life: Life::Open,
            stream: Stream::default(),
            tools: Tools::default(),
            asks: Asks::default(),
            ledger: Ledger::new(resumed),
            background: Vec::new(),
            report_due: false,
            conversation: None,
            model: None,
            mode: None,
            heard: None,
            silences: 0,
        }
    }

    pub(super) fn emit(&mut self, event: RunEvent) {
        self.steps.push_back(Step::Emit(Box::new(event.into())));
    }

    pub(super) fn emit_all(&mut self, events: impl IntoIterator<Item = RunEvent>) {
        for event in events {
            self.emit(event);
        }
    }

    pub(super) fn status(&mut self, text: String) {
        self.emit(RunEvent::Status { text });
    }

    pub(super) fn other(&mut self, what: &str) {
        self.emit(RunEvent::Other {
            what: one_line(what, 100),
        });
    }

    pub(super) fn send(&mut self, line: String) {
        if self.life != Life::Ending {
            self.steps.push_back(Step::Send(line));
        }
    }

    pub(super) fn request(&mut self, body: &Value) -> String {
        self.sent += 1;
        let id = format!("bridge-{}", self.sent);
        self.send(outgoing::request(&id, body));
        id
    }

    fn tune(&mut self, body: &Value, about: Request) {
        let id = self.request(body);
        if self.requests.len() < MAX_REQUESTS {
            self.requests.insert(id, about);
        }
    }

    fn begin_turn(&mut self, now: Instant, text: &str) {
        self.turn = Some(Turn {
            answer: Answer::default(),
            code: None,
            answered: false,
            stage: Stage::Working,
        });
        self.ledger.begin();
        self.heard_something(now);
        self.say(text);
        self.steps.push_back(Step::Prompted);
    }

    fn heard_something(&mut self, now: Instant) {
        self.heard = Some(now);
        self.silences = 0;
    }

    pub(super) fn end_turn(&mut self, now: Instant, outcome: Outcome) {
        let Some(turn) = self.turn.take() else { return };
        self.withdraw_asks();
        let left = if matches!(outcome, Outcome::Cancelled { .. }) {
            ToolStatus::Cancelled
        } else {
            ToolStatus::Unknown
        };
        let open = self.tools.close(left);
        self.emit_all(open);
        self.stream.clear();
        self.report_due = false;
        let answer = turn.answer.text();
        self.steps
            .push_back(Step::TurnOver(TurnEnd { outcome, answer }));
        match self.life {
            Life::Open | Life::Closing => {
                if let Some(text) = self.waiting.pop_front() {
                    self.begin_turn(now, &text);
                } else if self.life == Life::Closing {
                    self.close_input();
                }
            }
            Life::Ending => {
                for _ in std::mem::take(&mut self.waiting) {
                    self.refuse_prompt();
                }
            }
        }
    }

    /// A prompt nobody reads any more.
    fn refuse_prompt(&mut self) {
        let reason = "Claude Code ended before it could read this message".to_owned();
        let outcome = Outcome::Failed {
            fault: Fault::Agent,
            reason,
        };
        self.steps.push_back(Step::TurnOver(TurnEnd {
            outcome,
            answer: String::new(),
        }));
    }

    fn close_input(&mut self) {
        self.life = Life::Ending;
        self.steps.push_back(Step::CloseInput(CLOSE));
    }

    fn withdraw_asks(&mut self) {
        for ask in self.asks.withdraw_all() {
            self.emit(RunEvent::AskClosed {
                ask,
                how: AskEnd::Withdrawn,
            });
        }
    }

    /// Stops the running turn; it ends with this outcome whatever the program says.
    pub(super) fn stop(&mut self, now: Instant, outcome: Outcome) {
        let Some(turn) = &mut self.turn else { return };
        match &mut turn.stage {
            Stage::Working => {
                turn.stage = Stage::Stopping {
                    outcome,
                    until: now + STOP,
                };
                self.request(&json!({"subtype": "interrupt"}));
            }
            // Only background work is left, which an interrupt does not reach.
            Stage::Settling { .. } => self.terminate(outcome),
            Stage::Stopping {
                outcome: before, ..
            }
            | Stage::Ending { outcome: before } => {
                *before = outcome;
            }
        }
    }

    pub(super) fn terminate(&mut self, outcome: Outcome) {
        if let Some(turn) = &mut self.turn {
            turn.stage = Stage::Ending { outcome };
        }
        self.withdraw_asks();
        self.life = Life::Ending;
        self.steps.push_back(Step::Terminate(OBEY));
    }

    /// A further line of the user while it works: the program reads it at its next step, or as a
    /// turn of its own behind the running one, whose result then says so.
    fn inject(&mut self, text: &str) {
        let working = |turn: &Turn| matches!(turn.stage, Stage::Working) && !turn.answered;
        let injection = if self.life == Life::Open && self.turn.as_ref().is_some_and(working) {
            self.say(text);
            Injection::Taken
        } else {
            Injection::Refused
        };
        self.steps.push_back(Step::Injected(injection));
    }

    fn say(&mut self, text: &str) {
        self.sent += 1;
        let uuid = outgoing::uuid_of(&["prompt", &self.seed, &self.sent.to_string()]);
        self.send(outgoing::prompt(text, &uuid));
    }

    fn on_tune(&mut self, tuning: Tuning) {
        if let Some(model) = tuning.model {
            let body = json!({"subtype": "set_model", "model": model});
            self.tune(&body, Request::Model(model));
        }
        match tuning.mode {
            Some(mode) if mode == BYPASS => {
                self.status(format!("the mode was not changed: {BYPASS} is not offered"));
            }
            Some(mode) => {
                let body = json!({"subtype": "set_permission_mode", "mode": mode});
                self.tune(&body, Request::Mode(mode));
            }
            None => {}
        }
        if let Some(effort) = tuning.effort {
            match thinking_tokens(&effort) {
                Some(tokens) => {
                    let body = json!({
                        "subtype": "set_max_thinking_tokens",
                        "max_thinking_tokens": tokens,
                    });
                    self.tune(&body, Request::Effort(effort));
                }
                None => self.status(format!(
                    "the thinking effort was not changed: choose off, low, medium, high, max \
                     or a number of tokens instead of {}",
                    one_line(&effort, 50)
                )),
            }
        }
    }

    fn on_answer(&mut self, now: Instant, ask: AskId, answer: &Reply) {
        let Some(given) = self.asks.answer(&ask, answer) else {
            return;
        };
        self.heard_something(now);
        if let Some(line) = given.line {
            self.send(line);
        }
        self.steps.push_back(Step::Applied(ask));
        let goes_on = given
            .call
            .and_then(|call| self.tools.status(&call, ToolStatus::InProgress));
        self.emit_all(goes_on);
        self.emit_all(given.next.map(RunEvent::Ask));
    }

    /// When silence is told next; never while a person is waited for.
    fn silence(&self) -> Option<Instant> {
        let turn = self.turn.as_ref()?;
        let working = matches!(turn.stage, Stage::Working) && self.asks.is_empty();
        let heard = self.heard.filter(|_| working)?;
        Some(heard + SILENCE * (self.silences + 1))
    }

    /// When the running stage ends by itself.
    fn stage_deadline(&self) -> Option<Instant> {
        match &self.turn.as_ref()?.stage {
            Stage::Working | Stage::Ending { .. } => None,
            Stage::Settling { until, .. } => until.or(self.heard.map(|heard| heard + BACKGROUND)),
            Stage::Stopping { until, .. } => Some(*until),
        }
    }
}

impl Dialogue for ClaudeDialogue {
    fn on_start(&mut self, now: Instant) {
        self.heard_something(now);
        self.request(&json!({"subtype": "initialize"}));
    }

    fn on_line(&mut self, now: Instant, line: &[u8]) {
        self.heard_something(now);
        match serde_json::from_slice::<Value>(line) {
            Ok(message) if message.is_object() => self.on_message(now, message),
            Ok(_) => self.other("a line that is no object"),
            Err(_) if line.iter().all(u8::is_ascii_whitespace) => {}
            Err(_) => self.other("a line that is no JSON"),
        }
    }

    fn on_oversized(&mut self, now: Instant, bytes: u64) {
        self.heard_something(now);
        self.status(format!(
            "a line of {bytes} bytes from the agent was too long and was skipped"
        ));
    }

    fn on_steer(&mut self, now: Instant, steer: Steer) {
        match steer {
            Steer::Prompt(text) => {
                if self.turn.is_some() {
                    self.waiting.push_back(text);
                } else if self.life == Life::Open {
                    self.begin_turn(now, &text);
                } else {
                    self.refuse_prompt();
                }
            }
            Steer::Inject(text) => self.inject(&text),
            Steer::Answer(ask, answer) => self.on_answer(now, ask, &answer),
            Steer::Interrupt => self.stop(now, Outcome::Cancelled { by: Actor::Person }),
            Steer::Tune(tuning) => self.on_tune(tuning),
            Steer::Close => {
                if self.life == Life::Open {
                    self.life = Life::Closing;
                    if self.turn.is_none() {
                        self.close_input();
                    }
                }
            }
        }
    }

    fn on_end(&mut self, now: Instant, exit: Exit) {
        self.life = Life::Ending;
        let Some(turn) = &self.turn else { return };
        let outcome = match &turn.stage {
            Stage::Settling { outcome, .. }
            | Stage::Stopping { outcome, .. }
            | Stage::Ending { outcome } => outcome.clone(),
            Stage::Working => Outcome::Failed {
                fault: Fault::Agent,
                reason: reason_of_end(&exit),
            },
        };
        self.end_turn(now, outcome);
    }

    fn on_timeout(&mut self, now: Instant) {
        if self.silence().is_some_and(|at| at <= now) {
            self.silences += 1;
            let silent = self.heard.map(|heard| now.saturating_duration_since(heard));
            let seconds = silent.unwrap_or_default().as_secs();
            self.emit(RunEvent::Silent { seconds });
        }
        if self.stage_deadline().is_none_or(|at| at > now) {
            return;
        }
        let Some(turn) = &self.turn else { return };
        match &turn.stage {
            Stage::Settling { outcome, .. } => {
                let outcome = outcome.clone();
                if !self.background.is_empty() {
                    self.status("background work is still running; it is not waited for".into());
                }
                self.end_turn(now, outcome);
            }
            Stage::Stopping { outcome, .. } => {
                let outcome = outcome.clone();
                self.terminate(outcome);
            }
            Stage::Working | Stage::Ending { .. } => {}
        }
    }

    fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        [self.silence(), self.stage_deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}

/// The thinking budget for an effort: the words Claude Code itself uses in prompts, or a number.
fn thinking_tokens(effort: &str) -> Option<u32> {
    Some(match effort.trim().to_lowercase().as_str() {
        "off" | "none" => 0,
        "low" => 4_000,
        "medium" => 10_000,
        "high" => 24_000,
        "max" => 31_999,
        number => number.parse().ok().filter(|tokens| *tokens <= 200_000)?,
    })
}

fn reason_of_end(exit: &Exit) -> String {
    let how = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!("Claude Code was ended by signal {signal}"),
        (Some(code), None) => format!("Claude Code ended with code {code}"),
        (None, None) => "Claude Code ended".to_owned(),
    };
    let said = exit.stderr_tail.trim();
    if said.is_empty() {
        format!("{how} before it was done")
    } else {
        format!("{how}: {}", readable(tail(said, NOTE), NOTE))
    }
}

/// How long an interrupt may take before the process is ended.
const STOP: Duration = Duration::from_secs(5);
/// How long the process may take to obey SIGTERM; with [`STOP`] less than 10 s (decision 13).
const OBEY: Duration = Duration::from_secs(3);
/// How long the process may take to end after its input was closed.
const CLOSE: Duration = Duration::from_secs(5);
/// How long background work may be silent after the result before it is no longer waited for.
const BACKGROUND: Duration = Duration::from_secs(3600);
/// Silence is told this often.
const SILENCE: Duration = Duration::from_secs(60);
/// The mode without any questions; never switched on from outside.
const BYPASS: &str = "bypassPermissions";
/// Most requests of ours whose answers are waited for.
const MAX_REQUESTS: usize = 64;
/// Longest text of the agent in a status or reason.
pub(super) const NOTE: usize = 2000;
