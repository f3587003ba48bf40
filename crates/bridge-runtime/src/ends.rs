//! How the latest runs ended, so that a run asked for again is answered and not started again.

use std::collections::{HashMap, VecDeque};

use bridge_proto::{RunKey, model::Outcome};

/// The ends of the last [`REMEMBERED`] runs.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    order: VecDeque<RunKey>,
    outcomes: HashMap<RunKey, (Outcome, u64)>,
}

impl Ends {
    /// Notes an end, forgetting the oldest beyond the limit.
    pub(crate) fn insert(&mut self, run: RunKey, outcome: Outcome, n: u64) {
        if self.outcomes.insert(run.clone(), (outcome, n)).is_none() {
            self.order.push_back(run);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.outcomes.remove(&oldest);
            }
        }
    }

    /// How this run ended and the number of its last event, if it is remembered.
    pub(crate) fn get(&self, run: &RunKey) -> Option<&(Outcome, u64)> {
        self.outcomes.get(run)
    }
}

/// As many as the journal keeps.
const REMEMBERED: usize = 1000;

#[cfg(test)]
mod tests {
    use bridge_proto::TaskId;

    use super::*;

    #[test]
    fn the_oldest_end_is_forgotten_first() {
        let key = |n: usize| RunKey {
            task: TaskId::parse("t").unwrap(),
            attempt: n.to_string(),
        };
        let mut ends = Ends::default();
        for n in 0..=REMEMBERED {
            ends.insert(key(n), Outcome::Completed, 7);
        }
        assert_eq!(ends.get(&key(0)), None);
        assert_eq!(ends.get(&key(1)), Some(&(Outcome::Completed, 7)));
        assert_eq!(ends.order.len(), ends.outcomes.len());
    }
}
