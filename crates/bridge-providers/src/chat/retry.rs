//! When a request that failed is sent again, and when it is given up. Pure.

use std::time::{Duration, Instant};

use super::trouble::Trouble;

/// The failures of one request in a row.
#[derive(Debug, Default)]
pub(super) struct Retries {
    failures: u32,
    since: Option<Instant>,
}

/// A request that will be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Again {
    /// Which retry it is, from 1.
    pub(super) attempt: u32,
    /// After this wait.
    pub(super) delay: Duration,
}

impl Retries {
    /// Notes a failure; `None` when it is the last. A wait the service asks for wins over ours,
    /// unless it is longer than anybody would wait.
    pub(super) fn after(&mut self, now: Instant, trouble: &Trouble, jitter: u64) -> Option<Again> {
        let since = *self.since.get_or_insert(now);
        self.failures += 1;
        if !trouble.passes() || self.failures > LIMIT {
            return None;
        }
        let delay = match trouble.retry_after() {
            Some(asked) if asked > LONGEST => return None,
            Some(asked) => asked.max(SHORTEST),
            None => {
                let doubled = FIRST * 2_u32.pow(self.failures - 1);
                let spread = u32::try_from(jitter % 500).unwrap_or(0);
                doubled * (750 + spread) / 1000
            }
        };
        (now + delay <= since + IN_ALL).then_some(Again {
            attempt: self.failures,
            delay,
        })
    }

    /// How many retries there were.
    pub(super) fn made(&self) -> u32 {
        self.failures.saturating_sub(1)
    }
}

/// Retries of one request.
pub(super) const LIMIT: u32 = 4;
const FIRST: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(100);
/// A person is told instead of being made to wait longer than this.
const LONGEST: Duration = Duration::from_secs(60);
/// All retries of one request.
const IN_ALL: Duration = Duration::from_secs(150);

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, retry_after: Option<u64>) -> Trouble {
        Trouble::Refused {
            status,
            message: String::new(),
            retry_after: retry_after.map(Duration::from_secs),
        }
    }

    #[test]
    fn waits_are_doubled_spread_and_bounded_in_number() {
        for jitter in [0, 250, 499, u64::MAX] {
            let mut retries = Retries::default();
            let mut now = Instant::now();
            let mut waits = Vec::new();
            while let Some(again) = retries.after(now, &refused(503, None), jitter) {
                now += again.delay;
                waits.push(again.delay.as_secs_f64());
            }
            assert_eq!(waits.len(), 4);
            for (at, wait) in waits.iter().enumerate() {
                let middle = 2_f64.powi(i32::try_from(at).unwrap());
                assert!((0.75 * middle..1.25 * middle).contains(wait), "{waits:?}");
            }
        }
    }

    #[test]
    fn the_service_decides_how_long_within_reason() {
        let now = Instant::now();
        let wait = |seconds| {
            let again = Retries::default().after(now, &refused(429, Some(seconds)), 0);
            again.map(|again| again.delay)
        };
        assert_eq!(wait(7), Some(Duration::from_secs(7)));
        assert_eq!(wait(0), Some(SHORTEST));
        assert_eq!(wait(61), None);
    }

    #[test]
    fn all_waits_together_have_an_end() {
        let mut retries = Retries::default();
        let mut now = Instant::now();
        let begun = now;
        while let Some(again) = retries.after(now, &refused(429, Some(60)), 0) {
            now += again.delay;
        }
        assert!(now - begun <= IN_ALL);
    }

    #[test]
    fn what_does_not_pass_is_not_tried_again() {
        for trouble in [
            refused(402, None),
            refused(401, Some(1)),
            refused(400, None),
        ] {
            assert_eq!(Retries::default().after(Instant::now(), &trouble, 0), None);
        }
    }
}
