//! The life of a conversation with `codex app-server`: its beginning, prompts, turns, time limits.
//!
//! ```text
//!               Prompt, the door is open            turn/completed
//!  idle ──────────────────────────────► working ───────────────────────► idle
//!   ▲  └─ it is not ─► waiting ─ opened ──▲   │
//!   │                                         ▼ Interrupt, refused key, endless retries
//!   └────────────── turn over, cleaned ─── stopping ── 5 s ──► ending (input closed) ──► gone
//! ```
//!
//! Prompts that come while a turn runs wait here: sent to the program they would steer the running
//! turn instead of beginning another. So every prompt gets exactly one `TurnOver`.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bridge_proto::{
    ResumeId,
    model::{Actor, AskEnd, Fault, Observed, Outcome, RunEvent, ToolStatus},
};
use serde_json::{Value, json};

use super::{
    asks::Asks,
    cancel::{CLOSE, Cancel, CancelStage},
    messages::Messages,
    outcome::{judge, reason_of_end},
    outgoing,
    start::CodexStart,
    steer::{Inject, Settings},
    tools::Tools,
    usage::Ledger,
};
use crate::{
    answer::Answer,
    dialogue::{Dialogue, Exit, Step},
    plain::one_line,
    provider::{Steer, TurnEnd},
};

/// JSON-RPC with one `codex app-server`, for one conversation.
#[derive(Debug)]
pub struct CodexDialogue {
    pub(super) steps: VecDeque<Step>,
    pub(super) start: CodexStart,
    sent: u64,
    pub(super) requests: HashMap<u64, Request>,
    pub(super) door: Door,
    pub(super) life: Life,
    /// Why no turn can be begun any more, if the conversation could not be opened.
    refusal: Option<Outcome>,
    pub(super) thread: Option<String>,
    /// The conversation's id was told.
    resumable: bool,
    pub(super) turn: Option<Turn>,
    /// The turn before.
    pub(super) last_turn: Option<String>,
    waiting: VecDeque<String>,
    pub(super) injects: VecDeque<Inject>,
    pub(super) messages: Messages,
    pub(super) tools: Tools,
    pub(super) asks: Asks,
    pub(super) ledger: Ledger,
    /// Settings for the next turn.
    pub(super) wanted: Settings,
    /// Settings that went out with the running turn and were not confirmed.
    pub(super) unconfirmed: Settings,
    pub(super) model: Option<String>,
    pub(super) effort: Option<String>,
    /// The turn's diff as it was passed on last.
    pub(super) diff: Option<String>,
    /// When the program, or somebody who answers it, was last heard.
    heard: Option<Instant>,
    /// How many times this silence was told.
    silences: u32,
}

/// How far the conversation is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The process is not there yet.
    Shut,
    /// The greeting is not answered; it has this long.
    Greeting(Instant),
    /// The thread is not there; it has this long.
    Opening(Instant),
    /// Turns can be begun.
    Open,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// The owner wants the end when no turn runs.
    Closing,
    /// Nothing more can be sent.
    Ending,
}

#[derive(Debug)]
pub(super) struct Turn {
    /// Our request that began it.
    pub(super) request: Option<u64>,
    /// The program's id for it, once it is told.
    pub(super) id: Option<String>,
    pub(super) answer: Answer,
    pub(super) stage: Stage,
    /// The item whose thoughts were streamed last.
    pub(super) thought: Option<String>,
    /// Retries with nothing between them.
    pub(super) retrying: Option<Retrying>,
    /// The error that is final; the end of the turn has this long to be told.
    pub(super) failing: Option<(Value, Instant)>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The conversation is not open; the prompt waits.
    Waiting(String),
    Working,
    /// It was asked to stop, and ends with this outcome whatever the program says.
    Stopping {
        outcome: Outcome,
        cancel: Cancel,
    },
    /// The process is being ended.
    Ending {
        outcome: Outcome,
    },
}

#[derive(Debug)]
pub(super) struct Retrying {
    pub(super) since: Instant,
    pub(super) count: u32,
    pub(super) error: Value,
}

/// Requests of ours whose answers mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Greeting,
    Thread,
    Turn,
    Steer,
    Interrupt,
    Clean,
}

impl CodexDialogue {
    /// A conversation that begins, or goes on, like this.
    pub fn new(start: CodexStart) -> Self {
        Self {
            steps: VecDeque::new(),
            tools: Tools::new(&start.directory),
            start,
            sent: 0,
            requests: HashMap::new(),
            door: Door::Shut,
            life: Life::Open,
            refusal: None,
            thread: None,
            resumable: false,
            turn: None,
            last_turn: None,
            waiting: VecDeque::new(),
            injects: VecDeque::new(),
            messages: Messages::default(),
            asks: Asks::default(),
            ledger: Ledger::default(),
            wanted: Settings::default(),
            unconfirmed: Settings::default(),
            model: None,
            effort: None,
            diff: None,
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

    /// Something without a place of its own.
    pub(super) fn pass_on(&mut self, what: &str, raw: Option<Value>) {
        let what = one_line(what, 100);
        let event = RunEvent::Other { what };
        self.steps
            .push_back(Step::Emit(Box::new(Observed { event, raw })));
    }

    pub(super) fn send(&mut self, line: String) {
        if self.life != Life::Ending {
            self.steps.push_back(Step::Send(line));
        }
    }

    pub(super) fn request(&mut self, method: &str, params: &Value, about: Request) -> u64 {
        let id = self.sent;
        self.sent += 1;
        self.send(outgoing::request(id, method, params));
        if self.requests.len() < MAX_REQUESTS {
            self.requests.insert(id, about);
        }
        id
    }

    /// The program answered the greeting.
    pub(super) fn greeted(&mut self, now: Instant) {
        self.send(outgoing::notification("initialized"));
        let (method, params) = self.start.request();
        self.request(method, &params, Request::Thread);
        self.door = Door::Opening(now + OPENING);
    }

    /// The conversation is there.
    pub(super) fn opened(&mut self, now: Instant, thread: String) {
        self.thread = Some(thread);
        self.door = Door::Open;
        if let Some(Turn {
            stage: Stage::Waiting(text),
            ..
        }) = &mut self.turn
        {
            let text = std::mem::take(text);
            self.send_turn(now, &text);
        }
    }

    /// The conversation cannot be opened: every prompt ends so.
    pub(super) fn refuse(&mut self, now: Instant, outcome: Outcome) {
        self.refusal = Some(outcome.clone());
        self.close_input();
        if self.turn.is_some() {
            self.end_turn(now, outcome);
        }
    }

    fn begin_turn(&mut self, now: Instant, text: &str) {
        self.turn = Some(Turn {
            request: None,
            id: None,
            answer: Answer::default(),
            stage: Stage::Waiting(text.to_owned()),
            thought: None,
            retrying: None,
            failing: None,
        });
        self.heard_something(now);
        if self.door == Door::Open {
            self.send_turn(now, text);
        }
    }

    fn send_turn(&mut self, now: Instant, text: &str) {
        let mut params = json!({ "threadId": self.thread, "input": outgoing::input(text) });
        let wanted = std::mem::take(&mut self.wanted);
        for (name, value) in [("model", &wanted.model), ("effort", &wanted.effort)] {
            if let (Some(fields), Some(value)) = (params.as_object_mut(), value) {
                fields.insert(name.into(), Value::String(value.clone()));
            }
        }
        self.unconfirmed = wanted;
        let request = self.request("turn/start", &params, Request::Turn);
        self.steps.push_back(Step::Prompted);
        self.ledger.begin();
        if let Some(turn) = &mut self.turn {
            turn.request = Some(request);
            turn.stage = Stage::Working;
        }
        self.heard_something(now);
    }

    /// The running turn has this id.
    pub(super) fn turn_is(&mut self, id: &str) {
        let Some(turn) = &mut self.turn else { return };
        if turn.id.is_some() || matches!(turn.stage, Stage::Waiting(_)) {
            return;
        }
        turn.id = Some(id.to_owned());
        let cancelled = match &mut turn.stage {
            Stage::Stopping { cancel, .. } if cancel.stage == CancelStage::TurnId => {
                cancel.stage = CancelStage::TurnOver;
                true
            }
            Stage::Waiting(_) | Stage::Working | Stage::Stopping { .. } | Stage::Ending { .. } => {
                false
            }
        };
        if cancelled {
            self.interrupt();
        }
        self.tell_resumable();
        self.send_held();
    }

    /// From its first turn on a conversation is kept by the program.
    fn tell_resumable(&mut self) {
        let thread = self.thread.as_deref();
        if !self.resumable
            && let Some(id) = thread.and_then(|thread| ResumeId::parse(thread).ok())
        {
            self.resumable = true;
            self.steps.push_back(Step::Resumable(id));
        }
    }

    /// The id of the running turn, if this is one and it is known.
    pub(super) fn turn_id(&self) -> Option<&str> {
        self.turn.as_ref()?.id.as_deref()
    }

    pub(super) fn is_working(&self) -> bool {
        let working = |turn: &Turn| matches!(turn.stage, Stage::Working);
        self.turn.as_ref().is_some_and(working)
    }

    pub(super) fn heard_something(&mut self, now: Instant) {
        self.heard = Some(now);
        self.silences = 0;
    }

    /// The program says that the running turn is over.
    pub(super) fn turn_completed(&mut self, now: Instant, outcome: Outcome) {
        let Some(turn) = &mut self.turn else { return };
        match &mut turn.stage {
            Stage::Stopping { cancel, .. } => {
                let first = cancel.stage != CancelStage::Cleaned;
                cancel.stage = CancelStage::Cleaned;
                if first {
                    self.clean();
                }
            }
            Stage::Working => self.end_turn(now, outcome),
            Stage::Waiting(_) | Stage::Ending { .. } => {}
        }
    }

    pub(super) fn end_turn(&mut self, now: Instant, outcome: Outcome) {
        let Some(turn) = self.turn.take() else { return };
        self.withdraw_asks();
        let completed = outcome == Outcome::Completed;
        let left = match &outcome {
            Outcome::Cancelled { .. } => ToolStatus::Cancelled,
            Outcome::Completed | Outcome::Failed { .. } | Outcome::Blocked { .. } => {
                ToolStatus::Unknown
            }
        };
        let (open, running) = self
            .tools
            .turn_over(left, completed && self.life != Life::Ending);
        self.emit_all(open);
        if completed && !running.is_empty() {
            let what = one_line(&running.join(", "), 300);
            self.status(format!("still running in the background: {what}"));
        }
        self.messages.clear();
        self.diff = None;
        self.last_turn = turn.id.or_else(|| self.last_turn.take());
        self.refuse_injects();
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
        let outcome = self.refusal.clone().unwrap_or_else(|| Outcome::Failed {
            fault: Fault::Agent,
            reason: "Codex ended before it could read this message".to_owned(),
        });
        self.steps.push_back(Step::TurnOver(TurnEnd {
            outcome,
            answer: String::new(),
        }));
    }

    pub(super) fn close_input(&mut self) {
        if self.life != Life::Ending {
            self.life = Life::Ending;
            self.steps.push_back(Step::CloseInput(CLOSE));
        }
    }

    pub(super) fn withdraw_asks(&mut self) {
        for ask in self.asks.withdraw_all() {
            self.emit(RunEvent::AskClosed {
                ask,
                how: AskEnd::Withdrawn,
            });
        }
    }

    /// When silence is told next; never while a person is waited for.
    fn silence(&self) -> Option<Instant> {
        let heard = self
            .heard
            .filter(|_| self.is_working() && self.asks.is_empty())?;
        Some(heard + SILENCE * (self.silences + 1))
    }

    /// When the conversation should be open.
    fn door_due(&self) -> Option<Instant> {
        match self.door {
            Door::Greeting(until) | Door::Opening(until) if self.life != Life::Ending => {
                Some(until)
            }
            Door::Shut | Door::Greeting(_) | Door::Opening(_) | Door::Open => None,
        }
    }

    /// When the running stage needs a push.
    fn stage_due(&self) -> Option<Instant> {
        let turn = self.turn.as_ref()?;
        match &turn.stage {
            Stage::Working => {
                let retrying = turn.retrying.as_ref();
                let retrying = retrying.map(|retrying| retrying.since + RETRYING);
                let failing = turn.failing.as_ref().map(|(_, until)| *until);
                retrying.into_iter().chain(failing).min()
            }
            Stage::Stopping { cancel, .. } => cancel.due(),
            Stage::Waiting(_) | Stage::Ending { .. } => None,
        }
    }

    fn on_stage_due(&mut self, now: Instant) {
        let Some(turn) = &mut self.turn else { return };
        match &mut turn.stage {
            Stage::Working => {
                let failed = turn.failing.take_if(|(_, until)| *until <= now);
                let endless = turn
                    .retrying
                    .take_if(|retrying| retrying.since + RETRYING <= now);
                if let Some((error, _)) = failed {
                    self.end_turn(now, judge(&error));
                } else if let Some(retrying) = endless {
                    self.stop(now, judge(&retrying.error));
                }
            }
            Stage::Stopping { .. } => self.on_cancel_due(now),
            Stage::Waiting(_) | Stage::Ending { .. } => {}
        }
    }
}

impl Dialogue for CodexDialogue {
    fn on_start(&mut self, now: Instant) {
        self.heard_something(now);
        self.door = Door::Greeting(now + GREETING);
        self.request("initialize", &outgoing::greeting(), Request::Greeting);
    }

    fn on_line(&mut self, now: Instant, line: &[u8]) {
        self.heard_something(now);
        self.on_message(now, line);
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
                } else if self.life == Life::Ending {
                    self.refuse_prompt();
                } else {
                    self.begin_turn(now, &text);
                }
            }
            Steer::Inject(text) => self.inject(text),
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
        self.door = Door::Shut;
        if self.refusal.is_none() {
            self.refusal = Some(Outcome::Failed {
                fault: Fault::Agent,
                reason: reason_of_end(&exit),
            });
        }
        let outcome = match &self.turn {
            Some(Turn {
                stage: Stage::Stopping { outcome, .. } | Stage::Ending { outcome },
                ..
            }) => outcome.clone(),
            Some(Turn {
                failing: Some((error, _)),
                ..
            }) => judge(error),
            Some(_) | None => Outcome::Failed {
                fault: Fault::Agent,
                reason: reason_of_end(&exit),
            },
        };
        self.end_turn(now, outcome);
        self.refuse_injects();
    }

    fn on_timeout(&mut self, now: Instant) {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.tools.due()) {
            let events = self.tools.flush(now);
            self.emit_all(events);
        }
        if due(self.silence()) {
            self.silences += 1;
            let seconds = SILENCE.as_secs() * u64::from(self.silences);
            self.emit(RunEvent::Silent { seconds });
        }
        if due(self.door_due()) {
            let reason = "Codex did not answer; it may be broken or very slow".to_owned();
            let fault = Fault::Agent;
            self.refuse(now, Outcome::Failed { fault, reason });
        }
        if due(self.stage_due()) {
            self.on_stage_due(now);
        }
    }

    fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        [
            self.silence(),
            self.door_due(),
            self.stage_due(),
            self.tools.due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// How long the greeting may take; seen are 0.1 to 0.5 s.
const GREETING: Duration = Duration::from_secs(30);
/// How long a conversation may take to begin: the user's own tool servers start with it.
const OPENING: Duration = Duration::from_secs(60);
/// Silence is told this often.
const SILENCE: Duration = Duration::from_secs(60);
/// How long retries may go on without anything between them.
const RETRYING: Duration = Duration::from_secs(180);
/// How long the end of a turn may take to be told after its final error.
pub(super) const FAILING: Duration = Duration::from_secs(10);
/// Most requests of ours whose answers are waited for.
const MAX_REQUESTS: usize = 256;
/// Longest text of the agent in a status or reason.
pub(super) const NOTE: usize = 2000;
