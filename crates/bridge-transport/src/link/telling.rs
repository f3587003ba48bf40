//! What the link says of its own state.
//!
//! Invariant: it is called on line only while a round trip within the limit shows it.

use std::time::Instant;

use super::{Action, Link, Stage};
use crate::{
    payload::Payload,
    state::{LinkState, Phase},
};

impl<P: Payload> Link<P> {
    /// Publishes the state if it has changed.
    pub(super) fn publish(&mut self, now: Instant) {
        let draining = self.drain_limit.is_some();
        let (phase, next_retry, extended) = match &self.stage {
            Stage::Stopped => (Phase::Stopped, None, false),
            Stage::Online(online) if draining => (Phase::Draining, None, online.extended()),
            Stage::Dialing { .. } if draining => (Phase::Draining, None, false),
            Stage::Waiting { until, .. } if draining => (Phase::Draining, Some(*until), false),
            Stage::Online(online) if self.liveness.is_proven(now) => {
                (Phase::Online, None, online.extended())
            }
            Stage::Online(online) => (Phase::Doubtful, None, online.extended()),
            Stage::Dialing { .. } => (Phase::Dialing, None, false),
            Stage::Waiting {
                until,
                for_credential: true,
            } => (Phase::AuthRequired, Some(*until), false),
            Stage::Waiting {
                until,
                for_credential: false,
            } => (Phase::Waiting, Some(*until), false),
        };
        let round_trip = match self.stage {
            Stage::Online(_) => self.liveness.round_trip(),
            Stage::Waiting { .. } | Stage::Dialing { .. } | Stage::Stopped => None,
        };
        let last = &self.published;
        let since = if last.phase == phase { last.since } else { now };
        let state = LinkState {
            phase,
            since,
            attempt: self.attempt,
            next_retry,
            last_error: self.last_error.clone(),
            round_trip,
            extended,
        };
        if self.published != state {
            self.published = state.clone();
            self.actions.push_back(Action::State(state));
        }
    }
}
