//! The machine itself: what is said when, which turn runs, which prompts wait, and how a turn or
//! the process is ended.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

use bridge_proto::{
    AskId, ResumeId,
    model::{Fault, Observed, Outcome, RunEvent, Usage},
};
use serde_json::{Value, json};

use super::{
    jsonrpc::{self, Incoming, Noise, RpcError},
    outcome,
    permissions::AskBook,
    questions::Todos,
    quirks::AcpQuirks,
    session::{Capabilities, Offer, Setting},
    tools::ToolBook,
    turn::{TERMINATE_GRACE, Turn},
};
use crate::{
    dialogue::{Dialogue, Exit, Step},
    plain::sentence,
    provider::{Injection, RunSpec, Steer, TurnEnd},
};

/// What one conversation begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AcpStart {
    /// The working directory; absolute.
    pub directory: PathBuf,
    /// Further folders, sent only to agents that take them.
    pub extra_directories: Vec<PathBuf>,
    /// The wanted model; a session that does not offer it goes on with its own and says so.
    pub model: Option<String>,
    /// Put before the first prompt of a new session; the protocol has no other place for it.
    pub instructions: String,
    /// Continue this session.
    pub resume: Option<ResumeId>,
    /// Do not continue it earlier than this after the start.
    pub hold_resume: Option<Duration>,
}

impl AcpStart {
    /// Takes from a spec what the protocol can carry.
    pub fn of(spec: &RunSpec) -> Self {
        Self {
            directory: spec.directory.clone(),
            extra_directories: spec.extra_directories.clone(),
            model: spec.model.clone(),
            instructions: spec.instructions.clone(),
            resume: spec.resume.clone(),
            hold_resume: None,
        }
    }
}

/// One conversation with an agent that speaks the Agent Client Protocol.
#[derive(Debug)]
pub struct AcpDialogue {
    pub(super) start: AcpStart,
    pub(super) quirks: AcpQuirks,
    pub(super) phase: Phase,
    pub(super) capabilities: Capabilities,
    pub(super) session: String,
    pub(super) offer: Offer,
    /// What the owner knows to be in force.
    pub(super) told: BTreeMap<Setting, String>,
    /// Everything heard is the replay of what was before.
    pub(super) history: bool,
    /// Settings that were asked for before the session was open.
    pub(super) wanted: Vec<(Setting, String)>,
    pub(super) noise: Noise,
    pub(super) asks: AskBook,
    pub(super) tools: ToolBook,
    pub(super) todos: Todos,
    pub(super) usage: Usage,
    pub(super) waiting: VecDeque<String>,
    pub(super) side_requests: BTreeMap<u64, (Setting, String)>,
    pub(super) withdrawn: usize,
    turns: u64,
    next_id: u64,
    began: Option<Instant>,
    pub(super) closing: bool,
    pub(super) ending: bool,
    steps: VecDeque<Step>,
}

/// Where the conversation is.
#[derive(Debug)]
pub(super) enum Phase {
    New,
    Initializing {
        id: u64,
        until: Instant,
    },
    Holding {
        until: Instant,
    },
    Opening {
        id: u64,
        until: Instant,
        how: Opening,
    },
    Settling {
        quiet_at: Instant,
        latest: Instant,
    },
    Choosing {
        id: u64,
        until: Instant,
    },
    Idle,
    Running(Box<Turn>),
    /// Nothing can be said any more; prompts get this outcome.
    Over(Outcome),
}

/// How the session is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    New,
    Resume,
    Load,
}

impl AcpDialogue {
    /// A conversation that has not begun.
    pub fn new(start: AcpStart, quirks: AcpQuirks) -> Self {
        let tools = ToolBook::new(quirks.tools.clone(), quirks.asks.own_ids);
        Self {
            start,
            quirks,
            phase: Phase::New,
            capabilities: Capabilities::default(),
            session: String::new(),
            offer: Offer::default(),
            told: BTreeMap::new(),
            history: false,
            wanted: Vec::new(),
            noise: Noise::default(),
            asks: AskBook::default(),
            tools,
            todos: Todos::default(),
            usage: Usage::default(),
            waiting: VecDeque::new(),
            side_requests: BTreeMap::new(),
            withdrawn: 0,
            turns: 0,
            next_id: 0,
            began: None,
            closing: false,
            ending: false,
            steps: VecDeque::new(),
        }
    }

    /// The models the session offers, the current one first; empty until it is open.
    pub fn models(&self) -> Vec<String> {
        self.offer.models()
    }

    /// Why nothing can be said any more, once that is so.
    pub(super) fn failure(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Over(outcome) => Some(outcome),
            Phase::New
            | Phase::Initializing { .. }
            | Phase::Holding { .. }
            | Phase::Opening { .. }
            | Phase::Settling { .. }
            | Phase::Choosing { .. }
            | Phase::Idle
            | Phase::Running(_) => None,
        }
    }

    /// Whether the session is open and no turn runs.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    pub(super) fn request(&mut self, method: &str, params: &Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.push(Step::Send(jsonrpc::request(id, method, params)));
        id
    }

    pub(super) fn push(&mut self, step: Step) {
        self.steps.push_back(step);
    }

    pub(super) fn emit(&mut self, event: RunEvent, raw: Option<Value>) {
        self.push(Step::Emit(Box::new(Observed { event, raw })));
    }

    pub(super) fn say(&mut self, text: String) {
        self.emit(RunEvent::Status { text }, None);
    }

    pub(super) fn since_start(&self, after: Duration) -> Option<Instant> {
        self.began.map(|began| began + after)
    }

    /// Whether a turn runs that nobody has cancelled.
    pub(super) fn is_working(&self) -> bool {
        matches!(&self.phase, Phase::Running(turn) if turn.cancel.is_none())
    }

    /// The session is open and quiet: begins the next turn, or ends what was asked to end.
    pub(super) fn proceed(&mut self, now: Instant) {
        if !self.is_idle() {
            return;
        }
        for (setting, wanted) in std::mem::take(&mut self.wanted) {
            self.choose(setting, &wanted);
        }
        if let Some(prompt) = self.waiting.pop_front() {
            self.history = false;
            self.turns += 1;
            let mut blocks = Vec::new();
            let instructions = std::mem::take(&mut self.start.instructions);
            if !instructions.trim().is_empty() && self.start.resume.is_none() {
                blocks.push(json!({ "type": "text", "text": instructions }));
            }
            blocks.push(json!({ "type": "text", "text": prompt }));
            if let Some(before) = self.quirks.turn.before_slash
                && let Some(text) = blocks[0]["text"].as_str()
                && text.trim_start().starts_with('/')
            {
                blocks[0]["text"] = format!("{before}{text}").into();
            }
            let params = json!({ "sessionId": self.session, "prompt": blocks });
            let request = self.request("session/prompt", &params);
            self.push(Step::Prompted);
            self.phase = Phase::Running(Box::new(Turn::new(self.turns, request, now)));
        } else if self.closing {
            self.close_input();
        }
    }

    /// Nothing is left to do: lets the process end by itself.
    pub(super) fn close_input(&mut self) {
        let reason = "the conversation has been closed".to_owned();
        self.phase = Phase::Over(Outcome::Failed {
            fault: Fault::Bridge,
            reason,
        });
        self.ending = true;
        self.push(Step::CloseInput(END_GRACE));
    }

    /// The start has failed for good: every waiting prompt gets the reason.
    pub(super) fn fail(&mut self, outcome: Outcome) {
        let waiting = std::mem::take(&mut self.waiting);
        for _ in &waiting {
            self.turn_over(outcome.clone(), String::new());
        }
        if !waiting.is_empty() || self.closing {
            self.end_process();
        }
        self.phase = Phase::Over(outcome);
    }

    pub(super) fn end_process(&mut self) {
        if !self.ending {
            self.ending = true;
            self.push(Step::Terminate(TERMINATE_GRACE));
        }
    }

    pub(super) fn turn_over(&mut self, outcome: Outcome, answer: String) {
        self.push(Step::TurnOver(TurnEnd { outcome, answer }));
    }

    pub(super) fn send_cancel(&mut self) {
        let params = json!({ "sessionId": self.session });
        self.push(Step::Send(jsonrpc::notification("session/cancel", &params)));
    }

    fn on_response(&mut self, now: Instant, id: &Value, outcome: Result<Value, RpcError>) {
        let number = id
            .as_u64()
            .or_else(|| id.as_str().and_then(|text| text.parse().ok()));
        let Some(number) = number else { return };
        let expected = match &self.phase {
            Phase::Initializing { id, .. }
            | Phase::Opening { id, .. }
            | Phase::Choosing { id, .. } => Some(*id),
            Phase::Running(turn) => Some(turn.request),
            Phase::New
            | Phase::Holding { .. }
            | Phase::Settling { .. }
            | Phase::Idle
            | Phase::Over(_) => None,
        };
        if expected != Some(number) {
            if let Some((setting, value)) = self.side_requests.remove(&number) {
                self.on_chosen(setting, &value, outcome);
            }
            return;
        }
        match &self.phase {
            Phase::Initializing { .. } => self.on_initialized(now, outcome),
            Phase::Opening { how, .. } => {
                let how = *how;
                self.on_opened(now, how, outcome);
            }
            Phase::Choosing { .. } => {
                let Some((setting, value)) = self.side_requests.remove(&number) else {
                    return;
                };
                if let Err(error) = &outcome {
                    let why = sentence(&error.message, 200);
                    return self
                        .on_not_chosen(now, &format!("the model {value} is refused: {why}"));
                }
                self.on_chosen(setting, &value, outcome);
                self.phase = Phase::Idle;
                self.proceed(now);
            }
            Phase::Running(_) => self.on_prompt_answered(now, outcome),
            Phase::New
            | Phase::Holding { .. }
            | Phase::Settling { .. }
            | Phase::Idle
            | Phase::Over(_) => {}
        }
    }
}

impl Dialogue for AcpDialogue {
    fn on_start(&mut self, now: Instant) {
        self.began = Some(now);
        self.initialize(now);
    }

    fn on_line(&mut self, now: Instant, line: &[u8]) {
        if matches!(self.phase, Phase::Over(_) | Phase::New) || line.trim_ascii().is_empty() {
            return;
        }
        match &mut self.phase {
            Phase::Running(turn) => turn.heard(now),
            Phase::Settling { quiet_at, .. } => *quiet_at = now + self.quirks.reload.quiet,
            Phase::New
            | Phase::Initializing { .. }
            | Phase::Holding { .. }
            | Phase::Opening { .. }
            | Phase::Choosing { .. }
            | Phase::Idle
            | Phase::Over(_) => {}
        }
        match jsonrpc::classify(line) {
            Incoming::Response { id, outcome } => self.on_response(now, &id, outcome),
            Incoming::Request { id, method, params } => {
                self.on_request(now, &id, &method, params);
            }
            Incoming::Notification { method, params } => self.on_notification(&method, params),
            Incoming::Noise => self.on_noise(line),
        }
    }

    fn on_oversized(&mut self, now: Instant, bytes: u64) {
        if let Phase::Running(turn) = &mut self.phase {
            turn.heard(now);
        }
        let name = &self.quirks.name;
        self.say(format!(
            "a line of {bytes} bytes from {name} was skipped, it is over the limit"
        ));
    }

    fn on_steer(&mut self, now: Instant, steer: Steer) {
        match steer {
            Steer::Prompt(prompt) => {
                if let Phase::Over(outcome) = &self.phase {
                    let outcome = outcome.clone();
                    self.turn_over(outcome, String::new());
                    self.end_process();
                } else {
                    self.waiting.push_back(prompt);
                    self.proceed(now);
                }
            }
            Steer::Answer(ask, answer) => self.on_answer(now, &ask, &answer),
            Steer::Interrupt => self.on_interrupt(now),
            // The protocol has no way into a running turn.
            Steer::Inject(_) => self.push(Step::Injected(Injection::Refused)),
            Steer::Tune(tuning) => self.on_tune(tuning),
            Steer::Close => self.close(),
        }
    }

    fn on_end(&mut self, _now: Instant, exit: Exit) {
        let doing = match &self.phase {
            Phase::Over(_) => {
                self.ending = true;
                return;
            }
            Phase::Running(_) => "during the turn",
            Phase::Idle => "by itself",
            Phase::New
            | Phase::Initializing { .. }
            | Phase::Holding { .. }
            | Phase::Opening { .. }
            | Phase::Settling { .. }
            | Phase::Choosing { .. } => "before it was ready",
        };
        self.ending = true;
        let outcome = outcome::of_exit(&self.quirks, &exit, doing, &self.noise.told());
        if matches!(self.phase, Phase::Running(_)) {
            self.finish_turn(outcome.clone(), Phase::Over(outcome));
        } else {
            self.fail(outcome);
        }
    }

    fn on_timeout(&mut self, now: Instant) {
        while self.deadline().is_some_and(|due| due <= now) {
            match &self.phase {
                Phase::Running(_) => self.on_turn_deadline(now),
                Phase::New
                | Phase::Initializing { .. }
                | Phase::Holding { .. }
                | Phase::Opening { .. }
                | Phase::Settling { .. }
                | Phase::Choosing { .. }
                | Phase::Idle
                | Phase::Over(_) => self.on_start_deadline(now),
            }
        }
    }

    fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn ask_expires(&self, ask: &AskId) -> Option<Instant> {
        self.asks.expiry(ask)
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Initializing { until, .. }
            | Phase::Holding { until }
            | Phase::Opening { until, .. }
            | Phase::Choosing { until, .. } => Some(*until),
            Phase::Settling { quiet_at, latest } => Some(*quiet_at.min(latest)),
            Phase::Running(turn) => match &turn.cancel {
                Some(cancel) => cancel.due(),
                None if self.asks.is_empty() => Some(turn.silence_due()),
                None => self.asks.due(),
            },
            Phase::New | Phase::Idle | Phase::Over(_) => None,
        }
    }
}

/// How long an idle agent has to end by itself once its input is closed.
const END_GRACE: Duration = Duration::from_secs(3);
