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
    time::Instant,
};

use bridge_proto::{
    AskId, ResumeId, Secret,
    model::{Fault, Observed, Outcome, RunEvent},
};
use serde_json::Value;

use super::{
    asks::Asks,
    frames::{Failure, Frame, request},
    handshake::{Credentials, Handshake},
    identity::Grant,
    line::{LET_IN, Line, Trouble},
    steer::Injected,
    turn::Turn,
};
use crate::{
    plain::{one_line, sentence},
    provider::{Heard, Injection, TurnEnd},
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
    pub(super) acts: VecDeque<Act>,
    pub(super) plan: Plan,
    pub(super) handshake: Handshake,
    pub(super) rights: Rights,
    pub(super) line: Line,
    /// Since when the connection has been in trouble.
    pub(super) trouble: Option<Trouble>,
    /// The gateway said that it stops; it may come back.
    pub(super) restarting: bool,
    pub(super) boot: Option<String>,
    pub(super) stage: Stage,
    /// Until when the session has to be ready.
    pub(super) opening: Option<Instant>,
    pub(super) session: Option<String>,
    pub(super) root: Option<String>,
    pub(super) model: Option<String>,
    pub(super) effort: Option<String>,
    pub(super) requests: HashMap<String, Request>,
    pub(super) sent: u64,
    pub(super) runs: u64,
    pub(super) turn: Option<Turn>,
    pub(super) waiting: VecDeque<String>,
    pub(super) injections: VecDeque<Injected>,
    /// How the last turn ended, while a message for it is undecided.
    pub(super) ended: Option<TurnEnd>,
    pub(super) asks: Asks,
    pub(super) closing: bool,
    pub(super) over: bool,
}

/// The right to work anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rights {
    Plain,
    Admin,
    /// It was asked for and refused.
    Refused,
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
            injections: VecDeque::new(),
            ended: None,
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

    /// The deadline has passed.
    pub fn on_timeout(&mut self, now: Instant) {
        if self.line_timeout(now) {
            return;
        }
        if self.opening.is_some_and(|until| until <= now) {
            let reason = format!(
                "the OpenClaw gateway at {} does not open a session",
                self.plan.url
            );
            let fault = Fault::Agent;
            self.give_up(now, &Outcome::Failed { fault, reason });
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

    pub(super) fn turn_over(&mut self, outcome: Outcome, answer: String) {
        self.tell(Heard::TurnOver(TurnEnd { outcome, answer }));
    }

    pub(super) fn on_answer_to(&mut self, now: Instant, id: &str, result: Result<Value, Failure>) {
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
            Request::Abort => self.on_aborted(now, result.as_ref().ok()),
            Request::History => self.on_history(now, result),
            Request::Wait { instead, lost } => self.on_waited(now, instead, lost, result),
            Request::Approvals => self.on_approvals(result),
            Request::Resolve(ask) => self.on_resolved(&ask, result),
            Request::Model(wanted) => self.on_tuned("model", &wanted, result),
            Request::Effort(wanted) => self.on_tuned("thinking effort", &wanted, result),
            Request::Unread => {}
        }
    }
}

/// The only mode a session of ours has: file tools stay in its folder, commands are asked for.
pub(super) const MODE: &str = "guarded";
/// Most requests whose answers are waited for.
const MAX_REQUESTS: usize = 256;
