//! What the link waits for, and what it does when the time has come.
//!
//! Invariant: whatever ends by time alone has a [`Timer`] here; the earliest of them is the deadline.

use std::time::Instant;

use super::{
    Action, Link, Stage, Timer,
    liveness::{Need, Wait},
};
use crate::{inbound::CloseReason, payload::Payload};

impl<P: Payload> Link<P> {
    /// Returns when [`Input::Timeout`](super::Input::Timeout) is due, and what for; `None` once stopped.
    pub(crate) fn deadline(&self) -> Option<(Instant, Timer)> {
        let own = match &self.stage {
            Stage::Waiting { until, .. } => Some((*until, Timer::Redial)),
            Stage::Online(online) if !online.healthy => {
                Some((online.since + self.timings.healthy_after, Timer::Healthy))
            }
            Stage::Online(_) | Stage::Dialing { .. } => None,
            Stage::Stopped => return None,
        };
        let liveness = match self.stage {
            Stage::Online(_) => self.liveness.deadline().map(|(at, wait)| match wait {
                Wait::Ping => (at, Timer::Ping),
                Wait::Silence => (at, Timer::Silence),
                Wait::Unanswered => (at, Timer::Unanswered),
                Wait::Stall => (at, Timer::Stall),
            }),
            Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => None,
        };
        let clock = (
            self.last_seen.at + self.timings.clock_check,
            Timer::ClockCheck,
        );
        let drain = self.drain_limit.map(|at| (at, Timer::DrainLimit));
        let paced = drain.is_none()
            && match (&self.stage, &self.spooling) {
                (_, Some(spooling)) => !spooling.appending,
                (Stage::Online(online), None) if !online.extended() => !online.writing,
                (Stage::Online(online), None) => !online.writing && self.writer.is_caught_up(),
                (Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped, None) => false,
            };
        let pace = self.outbox.due(self.last_seen.at).filter(|_| paced);
        let pace = pace.map(|at| (at, Timer::Pace));
        let resume = match &self.stage {
            Stage::Online(online) if online.extended() && !self.writer.is_resumed() => {
                Some((online.since + self.timings.silence, Timer::Resume))
            }
            Stage::Online(_) | Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => {
                None
            }
        };
        let rate = self.breaker.paused_until().map(|at| (at, Timer::Rate));
        let proof = self.proof_due().map(|at| (at, Timer::Proof));
        let doubt = self.doubt_due().map(|at| (at, Timer::Doubt));
        [
            own,
            liveness,
            pace,
            resume,
            rate,
            proof,
            doubt,
            drain,
            Some(clock),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }

    pub(super) fn on_timeout(&mut self, now: Instant, random: u64) {
        if self.breaker.on_time(now) {
            self.liveness.on_reading(now, self.room);
        }
        match &mut self.stage {
            Stage::Waiting { until, .. } if *until <= now => self.dial(),
            Stage::Online(online)
                if online.extended()
                    && !self.writer.is_resumed()
                    && online.since + self.timings.silence <= now =>
            {
                let conn = online.conn;
                let silence = self.timings.silence;
                let reason = format!("it did not say where to go on within {silence:?}");
                self.actions.push_back(Action::HangUp { conn, code: None });
                self.lose(now, random, CloseReason::Protocol(reason));
            }
            Stage::Online(online) => {
                let conn = online.conn;
                if !online.healthy && online.since + self.timings.healthy_after <= now {
                    online.healthy = true;
                    self.backoff.on_healthy();
                    self.attempt = 0;
                    self.last_error = None;
                }
                let reason = match self.liveness.on_timeout(now, random) {
                    Some(Need::Ping(id)) => {
                        self.actions.push_back(Action::Ping { conn, id });
                        return;
                    }
                    Some(Need::GiveUpSilent(limit)) => CloseReason::Silent(limit),
                    Some(Need::GiveUpUnanswered(limit)) => CloseReason::Unanswered(limit),
                    Some(Need::GiveUpStalled(limit)) => CloseReason::Stalled(limit),
                    None => return,
                };
                self.actions.push_back(Action::HangUp { conn, code: None });
                self.lose(now, random, reason);
            }
            Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => {}
        }
    }
}
