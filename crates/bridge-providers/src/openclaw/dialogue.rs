//! The life of a conversation with the gateway: connections, prompts, turns, time limits. Pure.
//!
//! ```text
//!            let in            agents.list, sessions.create
//!  dialling ────────► fresh ──────────────────────────────► ready ◄──────────┐
//!     ▲                                                       │ prompt       │ settled
//!     │ lost in the middle of a turn                          ▼              │
//!     └──────────────────────────────────────────────────── turn ────────────┘
//! ```
//!
//! The session belongs to this conversation alone, but the gateway does not know that: everything
//! it says of other sessions and runs passes by here and is left alone. One message is in flight
//! at a time; prompts that come while a turn runs wait here.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bridge_proto::{
    AskId, ResumeId, Secret,
    model::{Actor, Answer, AskEnd, Fault, Fix, Observed, Outcome, RunEvent, ToolStatus, Tuning},
};
use serde_json::{Value, json};

use super::{
    asks::{Asks, Closed, How},
    frames::{Failure, Frame, request},
    handshake::{ADMIN, CONNECT, Credentials, Entry, Handshake, Hello, Refusal, SCOPES},
    identity::Grant,
    turn::{Stopping, Turn},
};
use crate::{
    plain::{one_line, readable, sentence},
    provider::{Heard, Injection, Steer, TurnEnd},
};

/// What a conversation is to be; nothing in it changes later.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The gateway's address, for people.
    pub url: String,
    /// What may be shown to the gateway.
    pub credentials: Credentials,
    /// The agent by its id; `None`: the gateway's default agent.
    pub agent: Option<String>,
    /// Where to work.
    pub directory: String,
    /// The folder is hardly the agent's own: the right to work elsewhere is asked for at once.
    pub foreign: bool,
    /// What the session of this task is called; unique to the run that began it.
    pub task: String,
    /// Makes the names of our runs unique.
    pub seed: String,
    /// The session to go on with.
    pub resume: Option<ResumeId>,
    /// `provider/model`; `None`: the agent's own.
    pub model: Option<String>,
    /// Put in front of the first prompt of a new session.
    pub instructions: String,
    /// There are folders beside `directory` that the agent cannot be given.
    pub further: bool,
    /// Whether plain text over HTTP may take the place of this protocol, or why not.
    pub fallback: Result<(), String>,
}

/// What the dialogue wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Hang up whatever connection there is, and connect.
    Dial,
    /// Send the first request. It holds secrets.
    Greet(Secret),
    /// Send this text.
    Send(String),
    /// Tell the owner.
    Tell(Heard),
    /// Keep what the gateway gave this device, or forget it.
    Keep(Option<Grant>),
    /// What works at the gateway from now on, and has to be aborted when the conversation ends
    /// without the dialogue.
    Guard(Option<Work>),
    /// Go on over HTTP with these prompts.
    Fallback(Vec<String>),
    /// The conversation is over.
    HangUp,
}

/// A run at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Its session.
    pub session: String,
    /// Its name.
    pub run: String,
}

/// How a connection was lost, or could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Nothing listens there.
    Refused(String),
    /// There was no way to it, or no answer in time.
    Unreachable(String),
    /// The gateway closed it.
    Closed {
        /// Its code.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// It broke.
    Broken(String),
}

/// The rules of a conversation with the gateway.
///
/// Contract: hand in one input (`on_*`), then carry out [`OpenclawDialogue::next_act`] until it is
/// `None`, then wait for the next input or [`OpenclawDialogue::deadline`].
#[derive(Debug)]
pub struct OpenclawDialogue {
    acts: VecDeque<Act>,
    pub(super) plan: Plan,
    handshake: Handshake,
    rights: Rights,
    line: Line,
    /// Since when the connection has been in trouble.
    trouble: Option<Trouble>,
    /// The gateway said that it stops; it may come back.
    restarting: bool,
    pub(super) boot: Option<String>,
    pub(super) stage: Stage,
    /// Until when the session has to be ready.
    opening: Option<Instant>,
    pub(super) session: Option<String>,
    pub(super) root: Option<String>,
    pub(super) model: Option<String>,
    effort: Option<String>,
    requests: HashMap<String, Request>,
    sent: u64,
    runs: u64,
    pub(super) turn: Option<Turn>,
    waiting: VecDeque<String>,
    injections: Vec<Injected>,
    pub(super) asks: Asks,
    closing: bool,
    over: bool,
}

/// The right to work anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    Plain,
    Admin,
    /// It was asked for and refused.
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Down { until: Instant },
    Dialling,
    Greeting { until: Instant },
    Up { heard: Instant, tick: Duration },
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    attempts: u32,
    what: String,
}

/// How far the session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Fresh,
    Opening,
    Ready,
    /// Nothing works any more; so every further prompt ends.
    Over(Outcome),
}

/// Requests of ours that have an answer worth reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Agents,
    Known,
    Create { with_model: bool },
    Message,
    Inject(String),
    Abort,
    History,
    Wait { instead: Option<String>, lost: bool },
    Approvals,
    Resolve(AskId),
    Model(String),
    Effort(String),
    Unread,
}

/// A message for a running turn on its way.
#[derive(Debug)]
struct Injected {
    run: String,
    until: Instant,
}

impl OpenclawDialogue {
    /// A conversation that has not begun.
    pub fn new(plan: Plan) -> Self {
        let rights = if plan.foreign {
            Rights::Admin
        } else {
            Rights::Plain
        };
        Self {
            acts: VecDeque::new(),
            handshake: Handshake::new(plan.credentials.clone()),
            rights,
            line: Line::Dialling,
            trouble: None,
            restarting: false,
            boot: None,
            stage: Stage::Fresh,
            opening: None,
            session: None,
            root: None,
            model: None,
            effort: None,
            requests: HashMap::new(),
            sent: 0,
            runs: 0,
            turn: None,
            waiting: VecDeque::new(),
            injections: Vec::new(),
            asks: Asks::default(),
            closing: false,
            over: false,
            plan,
        }
    }

    /// Begins.
    pub fn on_start(&mut self) {
        self.acts.push_back(Act::Dial);
    }

    /// The connection that was asked for stands.
    pub fn on_open(&mut self, now: Instant) {
        self.line = Line::Greeting {
            until: now + LET_IN,
        };
    }

    /// A text message. May be anything.
    pub fn on_text(&mut self, now: Instant, text: &str) {
        if self.over {
            return;
        }
        match &mut self.line {
            Line::Down { .. } | Line::Dialling => {}
            Line::Greeting { .. } => self.on_greeting(now, Frame::read(text)),
            Line::Up { heard, .. } => {
                *heard = now;
                match Frame::read(text) {
                    Frame::Answer { id, result } => self.on_answer_to(now, &id, result),
                    Frame::Event { name, payload } => self.on_event(now, &name, payload),
                    Frame::Strange(raw) => self.other("a frame of no known kind", raw),
                }
            }
        }
    }

    /// The connection is gone, or could not be made.
    pub fn on_lost(&mut self, now: Instant, lost: &Lost) {
        self.requests.clear();
        // While it waits to connect again, what becomes of the old connection does not matter.
        if self.over || matches!(self.line, Line::Down { .. }) {
            return;
        }
        let let_in = matches!(self.line, Line::Up { .. });
        let what = lost.to_string();
        let idle = self.stage == Stage::Ready && self.turn.is_none() && self.waiting.is_empty();
        if idle {
            let url = &self.plan.url;
            let reason = format!("the OpenClaw gateway at {url} hung up between two turns ({what})");
            let fault = Fault::Agent;
            self.stage = Stage::Over(Outcome::Failed { fault, reason });
            self.hang_up();
            return;
        }
        let working = self.stage == Stage::Ready;
        if !working {
            self.stage = Stage::Fresh;
        }
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        let patience = self.patience(lost, working || let_in);
        if now >= since + patience {
            let first = self.trouble.take().map_or(what, |trouble| trouble.what);
            let outcome = self.unreachable(lost, working, &first);
            self.give_up(now, outcome);
            return;
        }
        let trouble = self.trouble.get_or_insert(Trouble {
            since: now,
            attempts: 0,
            what,
        });
        let wait = RETRY_WAITS
            .get(trouble.attempts as usize)
            .copied()
            .unwrap_or(RETRY_LATER);
        trouble.attempts += 1;
        let until = (now + wait).min(since + patience);
        self.line = Line::Down { until };
    }

    /// The owner says something.
    pub fn on_steer(&mut self, now: Instant, steer: Steer) {
        match steer {
            Steer::Prompt(text) => self.on_prompt(now, text),
            Steer::Inject(text) => self.inject(now, &text),
            Steer::Answer(ask, answer) => self.on_answer(now, &ask, &answer),
            Steer::Interrupt => self.on_interrupt(now),
            Steer::Tune(tuning) => self.on_tune(tuning),
            Steer::Close => {
                self.closing = true;
                if self.turn.is_none() && self.waiting.is_empty() {
                    self.hang_up();
                }
            }
        }
    }

    /// The deadline has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        match self.line {
            Line::Down { until } if until <= now => self.dial(),
            Line::Greeting { until } if until <= now => {
                self.on_lost(now, &Lost::Unreachable("it says nothing".into()));
                return;
            }
            Line::Up { heard, tick } if heard + 2 * tick <= now => {
                // Whatever still comes on it is not read: a new connection takes its place.
                self.on_lost(now, &Lost::Unreachable("it fell silent".into()));
                return;
            }
            Line::Down { .. } | Line::Dialling | Line::Greeting { .. } | Line::Up { .. } => {}
        }
        if self.opening.is_some_and(|until| until <= now) {
            let reason = format!(
                "the OpenClaw gateway at {} does not open a session",
                self.plan.url
            );
            let fault = Fault::Agent;
            self.give_up(now, Outcome::Failed { fault, reason });
            return;
        }
        self.settle_overdue_injections(now);
        self.turn_timeout(now);
    }

    /// The deadline has passed while the owner took no news and so nothing was read: the gateway
    /// is not to blame for its silence.
    pub fn on_unread(&mut self, now: Instant) {
        if let Line::Up { heard, .. } = &mut self.line {
            *heard = now;
        }
        if let Some(turn) = &mut self.turn {
            turn.heard(now);
        }
        self.on_timeout(now);
    }

    /// The next thing to do, oldest first.
    pub fn next_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// When to call [`OpenclawDialogue::on_timeout`], if nothing else happens before.
    pub fn deadline(&self) -> Option<Instant> {
        if self.over {
            return None;
        }
        let line = match self.line {
            Line::Down { until } | Line::Greeting { until } => Some(until),
            Line::Up { heard, tick } => Some(heard + 2 * tick),
            Line::Dialling => None,
        };
        let turn = self.turn.as_ref();
        let silence = turn
            .filter(|turn| self.asks.is_empty() && turn.stopping.is_none())
            .map(Turn::silence_due);
        let injected = self.injections.iter().map(|one| one.until).min();
        [
            line,
            self.opening,
            silence,
            turn.and_then(Turn::deadline),
            injected,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_greeting(&mut self, now: Instant, frame: Frame) {
        match frame {
            Frame::Event { name, payload } if name == "connect.challenge" => {
                let mut scopes = SCOPES.to_vec();
                if self.rights == Rights::Admin {
                    scopes.push(ADMIN);
                }
                match self.handshake.answer(&payload, &scopes) {
                    Ok(line) => self.acts.push_back(Act::Greet(line)),
                    Err(refusal) => self.on_refusal(now, refusal),
                }
            }
            Frame::Answer { id, result } if id == CONNECT => match self.handshake.read(result) {
                Entry::In(hello) => self.on_let_in(now, hello),
                Entry::ShowOther => {
                    self.acts.push_back(Act::Keep(None));
                    self.dial();
                }
                Entry::Refused(refusal) => self.on_refusal(now, refusal),
            },
            Frame::Answer { .. } | Frame::Event { .. } | Frame::Strange(_) => {}
        }
    }

    fn on_let_in(&mut self, now: Instant, hello: Hello) {
        self.line = Line::Up {
            heard: now,
            tick: hello.tick,
        };
        self.trouble = None;
        self.restarting = false;
        if let Some(grant) = hello.grant {
            self.acts.push_back(Act::Keep(Some(grant)));
        }
        if self.rights == Rights::Admin && !hello.scopes.iter().any(|scope| scope == ADMIN) {
            self.rights = Rights::Refused;
        }
        let same_boot = self.boot == hello.boot;
        self.boot = hello.boot;
        if self.stage == Stage::Ready {
            self.recover(same_boot);
        } else {
            self.opening = Some(now + OPENING);
            self.open();
        }
    }

    fn on_refusal(&mut self, now: Instant, refusal: Refusal) {
        match refusal {
            Refusal::Starting(wait) => {
                let trouble = self.trouble.get_or_insert(Trouble {
                    since: now,
                    attempts: 0,
                    what: "it is still starting".into(),
                });
                if now < trouble.since + STARTING {
                    self.line = Line::Down { until: now + wait };
                } else {
                    let outcome = Refusal::Starting(wait).outcome(&self.plan.url);
                    self.give_up(now, outcome);
                }
            }
            Refusal::Scopes | Refusal::Pairing(_) if self.rights == Rights::Admin => {
                self.rights = Rights::Refused;
                self.dial();
            }
            Refusal::Protocol(_) if self.stage != Stage::Ready => {
                match self.plan.fallback.clone() {
                    Ok(()) => {
                        self.over = true;
                        let prompts = self.waiting.drain(..).collect();
                        self.acts.push_back(Act::Fallback(prompts));
                    }
                    Err(why) => {
                        let fix = Fix::Setup;
                        let reason = format!("{}; {why}", refusal.reason(&self.plan.url));
                        self.give_up(now, Outcome::Blocked { fix, reason });
                    }
                }
            }
            Refusal::Secret
            | Refusal::Pairing(_)
            | Refusal::Scopes
            | Refusal::Proof(_)
            | Refusal::Protocol(_)
            | Refusal::Other(_) => {
                let outcome = refusal.outcome(&self.plan.url);
                self.give_up(now, outcome);
            }
        }
    }

    /// It has finished or given up what ran, and is about to hang up.
    pub(super) fn on_shutdown(&mut self, payload: &Value) {
        self.restarting = true;
        if self.turn.is_some() {
            let reason = payload.get("reason").and_then(Value::as_str);
            let reason = sentence(reason.unwrap_or("no reason was given"), 200);
            self.status(format!("the OpenClaw gateway stops ({reason})"));
        }
    }

    /// How long a connection is tried for. A gateway that is gone takes the run with it, so there
    /// is little to wait for; one that restarts, or a network that is gone, comes back.
    fn patience(&self, lost: &Lost, worked: bool) -> Duration {
        let starting = matches!(lost, Lost::Closed { code: 1013, .. });
        if starting || self.restarting || matches!(lost, Lost::Closed { code: 1012, .. }) {
            return STARTING;
        }
        match (lost, worked) {
            (Lost::Refused(_), true) => GONE,
            (Lost::Unreachable(_) | Lost::Closed { .. } | Lost::Broken(_), true) => OUTAGE,
            (
                Lost::Refused(_) | Lost::Unreachable(_) | Lost::Closed { .. } | Lost::Broken(_),
                false,
            ) => Duration::ZERO,
        }
    }

    fn unreachable(&self, lost: &Lost, working: bool, first: &str) -> Outcome {
        let url = &self.plan.url;
        if working {
            let reason = format!(
                "the connection to the OpenClaw gateway at {url} was lost ({first}) and did not \
                 come back ({lost})"
            );
            let fault = Fault::Agent;
            return Outcome::Failed { fault, reason };
        }
        let fix = Fix::Setup;
        let reason = match lost {
            Lost::Refused(_) | Lost::Unreachable(_) => format!(
                "the OpenClaw gateway at {url} cannot be reached ({lost}); start it with \
                 `openclaw gateway`"
            ),
            Lost::Closed { .. } | Lost::Broken(_) => {
                format!("the OpenClaw gateway at {url} hung up ({lost})")
            }
        };
        Outcome::Blocked { fix, reason }
    }

    pub(super) fn dial(&mut self) {
        self.requests.clear();
        self.line = Line::Dialling;
        self.acts.push_back(Act::Dial);
    }

    /// Nothing works any more: every turn ends like this.
    pub(super) fn give_up(&mut self, now: Instant, outcome: Outcome) {
        self.stage = Stage::Over(outcome.clone());
        self.finish(now, outcome.clone());
        for _ in std::mem::take(&mut self.waiting) {
            self.turn_over(outcome.clone(), String::new());
        }
        self.hang_up();
    }

    fn hang_up(&mut self) {
        for _ in std::mem::take(&mut self.injections) {
            self.tell(Heard::Injected(Injection::Refused));
        }
        if !std::mem::replace(&mut self.over, true) {
            self.acts.push_back(Act::HangUp);
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.line, Line::Up { .. })
    }

    pub(super) fn rights(&self) -> Rights {
        self.rights
    }

    /// Connects again with the right to work anywhere.
    pub(super) fn ask_for_rights(&mut self) {
        self.rights = Rights::Admin;
        self.stage = Stage::Fresh;
        self.dial();
    }

    pub(super) fn ready(&mut self, now: Instant) {
        self.stage = Stage::Ready;
        self.opening = None;
        self.next_turn(now);
    }

    pub(super) fn ask(&mut self, method: &str, params: &Value, about: Request) -> bool {
        if !self.is_up() || self.requests.len() >= MAX_REQUESTS {
            return false;
        }
        self.sent += 1;
        let id = format!("r{}", self.sent);
        self.acts.push_back(Act::Send(request(&id, method, params)));
        if about != Request::Unread {
            self.requests.insert(id, about);
        }
        true
    }

    pub(super) fn tell(&mut self, heard: Heard) {
        self.acts.push_back(Act::Tell(heard));
    }

    pub(super) fn emit(&mut self, event: RunEvent) {
        self.tell(Heard::Seen(Box::new(event.into())));
    }

    pub(super) fn emit_all(&mut self, events: impl IntoIterator<Item = RunEvent>) {
        for event in events {
            self.emit(event);
        }
    }

    pub(super) fn status(&mut self, text: impl Into<String>) {
        self.emit(RunEvent::Status { text: text.into() });
    }

    /// What has no place in the model; the raw message says it all.
    pub(super) fn other(&mut self, what: &str, raw: Value) {
        let event = RunEvent::Other {
            what: one_line(what, 100),
        };
        let raw = Some(raw);
        self.tell(Heard::Seen(Box::new(Observed { event, raw })));
    }

    fn turn_over(&mut self, outcome: Outcome, answer: String) {
        self.tell(Heard::TurnOver(TurnEnd { outcome, answer }));
    }

    fn on_prompt(&mut self, now: Instant, text: String) {
        match &self.stage {
            Stage::Over(outcome) => {
                let outcome = outcome.clone();
                self.turn_over(outcome, String::new());
            }
            Stage::Fresh | Stage::Opening | Stage::Ready => {
                self.waiting.push_back(text);
                self.next_turn(now);
            }
        }
    }

    fn next_turn(&mut self, now: Instant) {
        let free = self.turn.is_none() && self.injections.is_empty();
        if self.stage != Stage::Ready || !free || !self.is_up() {
            return;
        }
        if let Some(text) = self.waiting.pop_front() {
            let message = self.message(&text);
            self.runs += 1;
            let run = format!("ctrlnode-{}-{}", self.plan.seed, self.runs);
            self.turn = Some(Turn::new(run, message, self.root.clone(), now));
            self.guard();
            self.send_message();
        } else if self.closing {
            self.hang_up();
        }
    }

    /// A prompt with what has to stand before it.
    fn message(&mut self, text: &str) -> String {
        let instructions = std::mem::take(&mut self.plan.instructions);
        let instructions = instructions.trim();
        if !instructions.is_empty() && self.plan.resume.is_none() {
            format!("{instructions}\n\n{text}")
        } else {
            text.to_owned()
        }
    }

    /// Sends the message of the turn. `interrupt` makes sure that it begins a run of its own name
    /// even if something else still works in the session; the mode it expects is checked by the
    /// gateway, so that nobody can have switched to full access in between.
    pub(super) fn send_message(&mut self) {
        let (Some(session), Some(turn)) = (self.session.clone(), &self.turn) else {
            return;
        };
        let params = self.message_params(&session, &turn.message, &turn.run, "interrupt");
        self.ask("chat.send", &params, Request::Message);
    }

    fn message_params(&self, session: &str, text: &str, run: &str, queue: &str) -> Value {
        let mut params = json!({
            "sessionKey": session,
            "message": text,
            "idempotencyKey": run,
            "queueMode": queue,
            "deliver": false,
        });
        if let Some(fields) = params.as_object_mut() {
            if queue == "interrupt" {
                fields.insert("expectedPermissionMode".into(), MODE.into());
            }
            // What looks like a command of the gateway (`/exec security=full` in the middle of a
            // text) is text. Only an administrator may say so.
            if self.rights == Rights::Admin {
                fields.insert("suppressCommandInterpretation".into(), true.into());
            } else if text.trim_start().starts_with('/') {
                fields.insert("message".into(), format!("The user writes: {text}").into());
            }
        }
        params
    }

    pub(super) fn guard(&mut self) {
        let work = self.turn.as_ref().zip(self.session.clone());
        let work = work.map(|(turn, session)| Work {
            session,
            run: turn.run.clone(),
        });
        self.acts.push_back(Act::Guard(work));
    }

    /// The turn is over.
    pub(super) fn finish(&mut self, now: Instant, outcome: Outcome) {
        let Some(mut turn) = self.turn.take() else {
            return;
        };
        self.close_asks(&[]);
        let left = if matches!(outcome, Outcome::Cancelled { .. }) {
            ToolStatus::Cancelled
        } else {
            ToolStatus::Unknown
        };
        let open = turn.tools.close(left);
        self.emit_all(open);
        if self.is_up() {
            self.acts.push_back(Act::Guard(None));
        }
        self.turn_over(outcome, turn.texts.answer());
        self.next_turn(now);
    }

    /// Stops the running turn; it ends with this outcome whatever the gateway says.
    pub(super) fn stop(&mut self, now: Instant, outcome: Outcome, by_person: bool) {
        let Some(turn) = &mut self.turn else { return };
        if let Some(stopping) = &mut turn.stopping {
            stopping.outcome = outcome;
            stopping.by_person |= by_person;
            return;
        }
        turn.stopping = Some(Stopping {
            outcome,
            asked: now,
            again: false,
            by_person,
        });
        self.abort();
    }

    fn abort(&mut self) {
        if let (Some(session), Some(turn)) = (&self.session, &self.turn) {
            let params = json!({ "sessionKey": session, "runId": turn.run });
            self.ask("chat.abort", &params, Request::Abort);
        }
    }

    fn on_interrupt(&mut self, now: Instant) {
        let cancelled = Outcome::Cancelled { by: Actor::Person };
        if self.turn.is_some() {
            self.stop(now, cancelled, true);
            return;
        }
        for _ in std::mem::take(&mut self.waiting) {
            self.turn_over(cancelled.clone(), String::new());
        }
    }

    /// The gateway puts the message into the run, or begins a run of its own with it when it comes
    /// too late. Which of the two is told later.
    fn inject(&mut self, now: Instant, text: &str) {
        let running = self
            .turn
            .as_ref()
            .is_some_and(|turn| turn.accepted && turn.stopping.is_none());
        let session = self.session.clone().filter(|_| running);
        let room = self.injections.len() < MAX_INJECTIONS;
        if let Some(session) = session.filter(|_| room) {
            self.runs += 1;
            let run = format!("ctrlnode-{}-{}", self.plan.seed, self.runs);
            let params = self.message_params(&session, text, &run, "steer");
            if self.ask("chat.send", &params, Request::Inject(run.clone())) {
                let until = now + INJECTED;
                self.injections.push(Injected { run, until });
                return;
            }
        }
        self.tell(Heard::Injected(Injection::Refused));
    }

    /// What became of a message for a running turn. One that began a run of its own is stopped.
    pub(super) fn injected(&mut self, now: Instant, run: &str, what: Injection) {
        let Some(at) = self.injections.iter().position(|one| one.run == run) else {
            return;
        };
        self.injections.remove(at);
        if what == Injection::Refused
            && let Some(session) = &self.session
        {
            let params = json!({ "sessionKey": session, "runId": run });
            self.ask("chat.abort", &params, Request::Unread);
        }
        self.tell(Heard::Injected(what));
        self.next_turn(now);
    }

    pub(super) fn is_injected(&self, run: &str) -> bool {
        self.injections.iter().any(|one| one.run == run)
    }

    fn settle_overdue_injections(&mut self, now: Instant) {
        // While the turn runs the gateway may still be waiting for the model's next step.
        let running = self.turn.is_some();
        let overdue: Vec<String> = self
            .injections
            .iter_mut()
            .filter(|one| one.until <= now)
            .map(|one| {
                one.until = now + INJECTED;
                one.run.clone()
            })
            .collect();
        for run in overdue.iter().filter(|_| !running) {
            self.injected(now, run, Injection::Refused);
        }
    }

    fn on_answer(&mut self, now: Instant, ask: &AskId, answer: &Answer) {
        let Some(decision) = self.asks.answer(ask, answer) else {
            return;
        };
        if let Some(turn) = &mut self.turn {
            turn.heard(now);
        }
        // Without a connection it is sent when there is one again.
        let params = json!({ "id": decision.approval, "decision": decision.word });
        let about = Request::Resolve(ask.clone());
        self.ask("exec.approval.resolve", &params, about);
    }

    pub(super) fn closed(&mut self, closed: Closed) {
        let Closed { ask, call, how } = closed;
        match how {
            How::Applied => self.tell(Heard::Applied(ask)),
            How::Otherwise(how) => self.emit(RunEvent::AskClosed { ask, how }),
        }
        let goes_on = self.turn.as_mut().zip(call).and_then(|(turn, call)| {
            turn.tools.status(&call, ToolStatus::InProgress)
        });
        self.emit_all(goes_on);
    }

    /// Closes every question but these.
    pub(super) fn close_asks(&mut self, still_open: &[&str]) {
        for gone in self.asks.keep_only(still_open) {
            let how = match gone.how {
                How::Applied => AskEnd::Withdrawn,
                How::Otherwise(how) => how,
            };
            self.emit(RunEvent::AskClosed { ask: gone.ask, how });
        }
    }

    fn on_tune(&mut self, tuning: Tuning) {
        let Tuning {
            model,
            mode,
            effort,
        } = tuning;
        if let Some(mode) = mode.filter(|mode| mode != MODE) {
            let mode = one_line(&mode, 50);
            self.status(format!(
                "the mode stays {MODE}: {mode} would let commands run without a question or not at all"
            ));
        }
        let session = self
            .session
            .clone()
            .filter(|_| self.stage == Stage::Ready && self.is_up());
        let Some(session) = session else {
            self.plan.model = model.or(self.plan.model.take());
            self.effort = effort.or(self.effort.take());
            return;
        };
        if let Some(model) = model {
            let params = json!({ "key": session, "model": model });
            self.ask("sessions.patch", &params, Request::Model(model));
        }
        if let Some(effort) = effort {
            let params = json!({ "key": session, "thinkingLevel": effort });
            self.ask("sessions.patch", &params, Request::Effort(effort));
        }
    }

    pub(super) fn wanted_effort(&self) -> Option<&str> {
        self.effort.as_deref()
    }

    fn on_answer_to(&mut self, now: Instant, id: &str, result: Result<Value, Failure>) {
        let Some(about) = self.requests.remove(id) else {
            return;
        };
        match about {
            Request::Agents => self.on_agents(now, result),
            Request::Known => self.on_known(result),
            Request::Create { with_model } => self.on_created(now, with_model, result),
            Request::Message => self.on_accepted(now, result),
            Request::Inject(run) => {
                if let Err(failure) = result {
                    let said = sentence(&failure.message, 200);
                    self.status(format!("OpenClaw did not take the message: {said}"));
                    self.injected(now, &run, Injection::Refused);
                }
            }
            Request::Abort => self.on_aborted(now, result),
            Request::History => self.on_history(now, result),
            Request::Wait { instead, lost } => self.on_waited(now, instead, lost, result),
            Request::Approvals => self.on_approvals(result),
            Request::Resolve(ask) => match result {
                Ok(_) => {
                    let closed = self.asks.applied(&ask);
                    closed.into_iter().for_each(|closed| self.closed(closed));
                }
                Err(failure) => {
                    let detail = failure.detail();
                    let over = detail.contains("ALREADY_RESOLVED")
                        || detail.contains("NOT_FOUND")
                        || detail.contains("EXPIRED");
                    let said = sentence(&failure.message, 200);
                    self.status(format!("OpenClaw did not take the answer: {said}"));
                    let closed = self.asks.refused(&ask, over);
                    closed.into_iter().for_each(|closed| self.closed(closed));
                }
            },
            Request::Model(wanted) => self.on_tuned("model", &wanted, result),
            Request::Effort(wanted) => self.on_tuned("thinking effort", &wanted, result),
            Request::Unread => {}
        }
    }

    fn on_tuned(&mut self, what: &str, wanted: &str, result: Result<Value, Failure>) {
        match result {
            Ok(payload) => {
                let resolved = payload.get("resolved").unwrap_or(&Value::Null);
                self.tell_model(resolved);
                if what != "model"
                    && let Some(effort) = resolved.get("thinkingLevel").and_then(Value::as_str)
                {
                    let effort = one_line(effort, 50);
                    self.emit(RunEvent::Effort { effort });
                }
            }
            Err(failure) => {
                let said = sentence(&failure.message, 200);
                let wanted = one_line(wanted, 100);
                self.status(format!("OpenClaw did not take the {what} {wanted}: {said}"));
            }
        }
    }

    fn on_accepted(&mut self, now: Instant, result: Result<Value, Failure>) {
        match result {
            Ok(payload) => {
                if let Some(turn) = &mut self.turn {
                    turn.accepted = true;
                    turn.heard(now);
                }
                // Sent twice, and done in the meantime: there will be no more events.
                if payload.get("status").and_then(Value::as_str) == Some("ok") {
                    self.wait_for(None, false);
                }
            }
            Err(failure) => {
                let said = readable(&failure.message, 500);
                let outcome = if failure.detail() == "session-settings-changed" {
                    Outcome::Blocked {
                        fix: Fix::Setup,
                        reason: format!(
                            "somebody took the session out of the mode {MODE}; set it back in \
                             OpenClaw, or begin a new task"
                        ),
                    }
                } else {
                    Outcome::Failed {
                        fault: Fault::Agent,
                        reason: format!("OpenClaw did not take the message: {said}"),
                    }
                };
                let outcome = self.stopped().unwrap_or(outcome);
                self.finish(now, outcome);
            }
        }
    }

    /// How the turn ends because it was told to.
    pub(super) fn stopped(&self) -> Option<Outcome> {
        let stopping = self.turn.as_ref()?.stopping.as_ref()?;
        Some(stopping.outcome.clone())
    }

    fn on_aborted(&mut self, now: Instant, result: Result<Value, Failure>) {
        let aborted = result
            .as_ref()
            .is_ok_and(|payload| payload.get("aborted").and_then(Value::as_bool) == Some(true));
        if !aborted && let Some(outcome) = self.stopped() {
            // It was over already, or never was; what is on its way may still arrive.
            self.verdict(now + SOON, outcome);
        }
    }

    fn turn_timeout(&mut self, now: Instant) {
        let waits = !self.asks.is_empty();
        let Some(turn) = &mut self.turn else { return };
        if turn.verdict.as_ref().is_some_and(|verdict| verdict.at <= now)
            && let Some(verdict) = turn.verdict.take()
        {
            let outcome = self.stopped().unwrap_or(verdict.outcome);
            self.finish(now, outcome);
            return;
        }
        if let Some(stopping) = &mut turn.stopping {
            let due = stopping.due().is_some_and(|due| due <= now);
            if due && !stopping.again {
                stopping.again = true;
                self.abort();
            } else if due {
                let outcome = stopping.outcome.clone();
                self.finish(now, outcome);
            }
            return;
        }
        let given_up = turn.deadline().is_some_and(|due| due <= now);
        if given_up && let Some(retrying) = turn.retrying.take() {
            let seconds = now.saturating_duration_since(retrying.since).as_secs();
            let said = format!("{} (gave up after {seconds} s)", retrying.said);
            let outcome = super::outcome::failed(retrying.class.as_deref(), &said);
            self.stop(now, outcome, false);
            return;
        }
        if !waits && let Some(seconds) = turn.silence(now) {
            self.emit(RunEvent::Silent { seconds });
            // Events may have been missed.
            self.wait_for(None, false);
        }
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(what) | Self::Unreachable(what) | Self::Broken(what) => {
                f.write_str(&sentence(what, 200))
            }
            Self::Closed { code, reason } if reason.is_empty() => {
                write!(f, "closed with code {code}")
            }
            Self::Closed { code, reason } => {
                write!(f, "closed with code {code}: {}", sentence(reason, 200))
            }
        }
    }
}

/// The only mode a session of ours has: file tools stay in its folder, commands are asked for.
pub(super) const MODE: &str = "guarded";
/// How long the gateway may take to let us in once the connection stands.
const LET_IN: Duration = Duration::from_secs(15);
/// How long it may take until the session is ready.
const OPENING: Duration = Duration::from_secs(60);
/// How long a gateway that is starting is waited for.
const STARTING: Duration = Duration::from_secs(60);
/// How long one that is gone in the middle of a turn is.
const GONE: Duration = Duration::from_secs(10);
/// How long a network that is gone in the middle of a turn is.
const OUTAGE: Duration = Duration::from_secs(60);
const RETRY_WAITS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
const RETRY_LATER: Duration = Duration::from_secs(2);
/// For what is on its way when the gateway says that nothing runs.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// How long a message for a running turn may stay undecided once the turn is over.
const INJECTED: Duration = Duration::from_secs(5);
const MAX_INJECTIONS: usize = 16;
/// Most requests whose answers are waited for.
const MAX_REQUESTS: usize = 256;
