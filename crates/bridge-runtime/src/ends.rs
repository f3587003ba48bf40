//! How the latest runs ended, so that a run asked for again is answered and not started again.

use std::collections::{HashMap, VecDeque};

use bridge_proto::{RunKey, model::EventBody};

/// The ends of the last [`REMEMBERED`] runs.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    order: VecDeque<RunKey>,
    ends: HashMap<RunKey, (EventBody, u64)>,
}

impl Ends {
    /// Notes an end, forgetting the oldest beyond the limit.
    pub(crate) fn insert(&mut self, run: RunKey, end: EventBody, n: u64) {
        if self.ends.insert(run.clone(), (end, n)).is_none() {
            self.order.push_back(run);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.ends.remove(&oldest);
            }
        }
    }

    /// The last event of this run and its number, if it is remembered.
    pub(crate) fn get(&self, run: &RunKey) -> Option<&(EventBody, u64)> {
        self.ends.get(run)
    }
}

/// As many as the journal keeps.
const REMEMBERED: usize = 1000;

#[cfg(test)]
mod tests {
    use bridge_proto::{TaskId, model::Outcome};

    use super::*;

    #[test]
    fn the_oldest_end_is_forgotten_first() {
        let key = |n: usize| RunKey {
            task: TaskId::parse("t").unwrap(),
            attempt: n.to_string(),
        };
        let mut ends = Ends::default();
        for n in 0..=REMEMBERED {
            let end = EventBody::Ended {
                outcome: Outcome::Completed,
            };
            ends.insert(key(n), end, 7);
        }
        assert_eq!(ends.get(&key(0)), None);
        assert!(matches!(
            ends.get(&key(1)),
            Some((EventBody::Ended { .. }, 7))
        ));
        assert_eq!(ends.order.len(), ends.ends.len());
    }
}
