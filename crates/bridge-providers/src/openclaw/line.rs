//! The connection of a conversation: being let in, being refused, losing it and making it again.

use std::{
    fmt,
    time::{Duration, Instant},
};

use bridge_proto::model::{Fault, Fix, Outcome};
use serde_json::Value;

use super::{
    dialogue::{Act, Lost, OpenclawDialogue, Rights, Stage},
    frames::Frame,
    handshake::{ADMIN, Admission, CONNECT, Hello, SCOPES},
    refusal::Refusal,
};
use crate::plain::sentence;

/// How far the connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Down { until: Instant },
    Dialling,
    Greeting { until: Instant },
    Up { heard: Instant, tick: Duration },
}

#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) since: Instant,
    pub(super) attempts: u32,
    pub(super) what: String,
}

impl OpenclawDialogue {
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
            let reason =
                format!("the OpenClaw gateway at {url} hung up between two turns ({what})");
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
            self.give_up(now, &outcome);
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

    /// What the time means for the connection; true when it is lost.
    pub(super) fn line_timeout(&mut self, now: Instant) -> bool {
        let silent = match self.line {
            Line::Down { until } if until <= now => {
                self.dial();
                return false;
            }
            Line::Greeting { until } if until <= now => "it says nothing",
            // Whatever still comes on it is not read: a new connection takes its place.
            Line::Up { heard, tick } if heard + 2 * tick <= now => "it fell silent",
            Line::Down { .. } | Line::Dialling | Line::Greeting { .. } | Line::Up { .. } => {
                return false;
            }
        };
        self.on_lost(now, &Lost::Unreachable(silent.into()));
        true
    }

    pub(super) fn on_greeting(&mut self, now: Instant, frame: Frame) {
        match frame {
            Frame::Event { name, payload } if name == "connect.challenge" => {
                let mut scopes = SCOPES.to_vec();
                if self.rights == Rights::Admin {
                    scopes.push(ADMIN);
                }
                match self.handshake.answer(&payload, &scopes) {
                    Ok(line) => self.acts.push_back(Act::Greet(line)),
                    Err(refusal) => self.on_refusal(now, &refusal),
                }
            }
            Frame::Answer { id, result } if id == CONNECT => match self.handshake.read(result) {
                Admission::In(hello) => self.on_let_in(now, hello),
                Admission::ShowOther => {
                    self.acts.push_back(Act::Keep(None));
                    self.dial();
                }
                Admission::Refused(refusal) => self.on_refusal(now, &refusal),
            },
            Frame::Answer { .. } | Frame::Event { .. } | Frame::Strange(_) => {}
        }
    }

    pub(super) fn on_let_in(&mut self, now: Instant, hello: Hello) {
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

    pub(super) fn on_refusal(&mut self, now: Instant, refusal: &Refusal) {
        match refusal {
            Refusal::Starting(wait) => {
                let trouble = self.trouble.get_or_insert_with(|| Trouble {
                    since: now,
                    attempts: 0,
                    what: "it is still starting".into(),
                });
                if now < trouble.since + STARTING {
                    self.line = Line::Down { until: now + *wait };
                } else {
                    let outcome = refusal.outcome(&self.plan.url);
                    self.give_up(now, &outcome);
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
                        self.give_up(now, &Outcome::Blocked { fix, reason });
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
                self.give_up(now, &outcome);
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
    pub(super) fn patience(&self, lost: &Lost, worked: bool) -> Duration {
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

    pub(super) fn unreachable(&self, lost: &Lost, working: bool, first: &str) -> Outcome {
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
    pub(super) fn give_up(&mut self, now: Instant, outcome: &Outcome) {
        self.stage = Stage::Over(outcome.clone());
        self.refuse_injections();
        self.finish(now, outcome.clone());
        for _ in std::mem::take(&mut self.waiting) {
            self.turn_over(outcome.clone(), String::new());
        }
        self.hang_up();
    }

    pub(super) fn hang_up(&mut self) {
        self.refuse_injections();
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
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

/// How long the gateway may take to let us in once the connection stands.
pub(super) const LET_IN: Duration = Duration::from_secs(15);
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
