//! Who works without a run of this bridge, by the files that change: each for a while after the
//! last of them. Pure.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bridge_proto::AgentId;

/// The agents that stir.
#[derive(Debug, Default)]
pub(crate) struct Stirring {
    until: BTreeMap<AgentId, Instant>,
}

impl Stirring {
    /// The agent did something; whether it did nothing before.
    pub(crate) fn stirred(&mut self, now: Instant, agent: AgentId) -> bool {
        self.until.insert(agent, now + IDLE).is_none()
    }

    pub(crate) fn stirs(&self, agent: &AgentId) -> bool {
        self.until.contains_key(agent)
    }

    /// When the next one has done nothing for long enough.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }

    /// Forgets those that have done nothing for long enough; whether there were any.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        let before = self.until.len();
        self.until.retain(|_, until| *until > now);
        self.until.len() != before
    }
}

/// As long as the published bridge waits.
const IDLE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_stirs_until_fifteen_seconds_after_its_last_file() {
        let mut stirring = Stirring::default();
        let scout = AgentId::parse("scout").unwrap();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(stirring.stirred(at(0), scout.clone()));
        assert!(!stirring.stirred(at(10), scout.clone()));
        assert!(!stirring.expire(at(24)));
        assert!(stirring.stirs(&scout));
        assert_eq!(stirring.deadline(), Some(at(25)));
        assert!(stirring.expire(at(25)) && !stirring.stirs(&scout));
        assert_eq!(stirring.deadline(), None);
        assert!(stirring.stirred(at(30), scout));
    }
}
