//! When to dial again.
//!
//! Invariant: waits grow with every failure of an outage and start over only after a healthy
//! connection, a wake-up or a new credential; a server's hint wins over the curve, unless it is
//! shorter than the first retry.

use std::time::{Duration, Instant};

use crate::{
    config::Timings,
    jitter::{about, below},
    link::close::Verdict,
};

#[derive(Debug)]
pub(super) struct Backoff {
    timings: Timings,
    outage: Option<Instant>,
    retries: u32,
    slow_retries: u32,
    doubtful_since: Option<Instant>,
}

/// How long to wait, and whether a new credential would help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) delay: Duration,
    pub(super) for_credential: bool,
}

impl Backoff {
    pub(super) fn new(timings: Timings) -> Self {
        Self {
            timings,
            outage: None,
            retries: 0,
            slow_retries: 0,
            doubtful_since: None,
        }
    }

    /// Says how long to wait after a failed dial or a lost connection.
    pub(super) fn on_trouble(&mut self, now: Instant, random: u64, verdict: Verdict) -> Wait {
        let began = *self.outage.get_or_insert(now);
        let early = now.duration_since(began) < EARLY;
        let (delay, for_credential) = match verdict {
            Verdict::Transient => {
                self.doubtful_since = None;
                (self.quick(early, random), false)
            }
            Verdict::TransientFor(doubt) => {
                let since = *self.doubtful_since.get_or_insert(now);
                if now.duration_since(since) < doubt {
                    (self.quick(early, random), false)
                } else {
                    (self.slow(random), false)
                }
            }
            Verdict::CredentialRefused => (self.slow(random), true),
            // "At once" is no plan for a server in trouble; it would be dialled in a tight loop.
            Verdict::RetryAfter(hint) if hint < self.timings.first_retry => {
                (self.quick(early, random).max(hint), false)
            }
            Verdict::RetryAfter(hint) => {
                let hint = hint.min(self.timings.hint_cap);
                (hint + below(hint / 10, random), false)
            }
        };
        Wait {
            delay,
            for_credential,
        }
    }

    /// The outage is over.
    pub(super) fn on_healthy(&mut self) {
        *self = Self::new(self.timings.clone());
    }

    /// Waiting made no sense any more; the network may take a moment to come back.
    pub(super) fn on_wake(&mut self) {
        self.outage = None;
        self.retries = 0;
    }

    /// The reason for being slow is gone.
    pub(super) fn on_credential(&mut self) {
        self.slow_retries = 0;
        self.doubtful_since = None;
    }

    fn quick(&mut self, early: bool, random: u64) -> Duration {
        let bound = if self.retries == 0 {
            self.timings.first_retry
        } else {
            let cap = if early {
                self.timings.early_cap
            } else {
                self.timings.late_cap
            };
            doubled(self.timings.base, self.retries).min(cap)
        };
        self.retries = self.retries.saturating_add(1);
        below(bound, random)
    }

    fn slow(&mut self, random: u64) -> Duration {
        let middle = doubled(self.timings.slow_first, self.slow_retries).min(self.timings.slow_cap);
        self.slow_retries = self.slow_retries.saturating_add(1);
        about(middle, random)
    }
}

fn doubled(base: Duration, times: u32) -> Duration {
    base.saturating_mul(2_u32.saturating_pow(times.min(20)))
}

/// The part of an outage in which somebody is likely to watch.
const EARLY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: u64 = u64::MAX;

    fn start() -> (Backoff, Instant) {
        (Backoff::new(Timings::default()), Instant::now())
    }

    /// Whole seconds, rounded up.
    fn secs(wait: Wait) -> u128 {
        wait.delay.as_millis().div_ceil(1000)
    }

    #[test]
    fn retries_quickly_at_first_and_calmly_after_a_minute() {
        let (mut backoff, now) = start();
        let mut bounds = Vec::new();
        for _ in 0..6 {
            bounds.push(secs(backoff.on_trouble(now, MOST, Verdict::Transient)));
        }
        assert_eq!(bounds, [1, 1, 2, 4, 4, 4]);
        let later = now + Duration::from_secs(61);
        assert_eq!(
            secs(backoff.on_trouble(later, MOST, Verdict::Transient)),
            30
        );
        assert_eq!(
            backoff.on_trouble(later, 0, Verdict::Transient).delay,
            Duration::ZERO
        );
    }

    #[test]
    fn a_bound_on_reconnects_holds_for_the_first_minute() {
        let bound = Duration::from_millis(200);
        let mut backoff = Backoff::new(Timings::default().reconnect_within(bound));
        let now = Instant::now();
        for _ in 0..20 {
            assert!(backoff.on_trouble(now, MOST, Verdict::Transient).delay <= bound);
        }
    }

    #[test]
    fn starts_over_only_after_health() {
        let (mut backoff, now) = start();
        for _ in 0..9 {
            backoff.on_trouble(now, MOST, Verdict::Transient);
        }
        let late = now + Duration::from_secs(100);
        assert_eq!(secs(backoff.on_trouble(late, MOST, Verdict::Transient)), 30);
        backoff.on_healthy();
        assert!(backoff.on_trouble(late, MOST, Verdict::Transient).delay <= Duration::from_secs(1));
    }

    #[test]
    fn a_refused_credential_is_slow_and_grows_to_ten_minutes() {
        let (mut backoff, now) = start();
        let middle = 1 << 63;
        let mut waits = Vec::new();
        for _ in 0..7 {
            let wait = backoff.on_trouble(now, middle, Verdict::CredentialRefused);
            assert!(wait.for_credential);
            waits.push(wait.delay.as_secs());
        }
        assert_eq!(waits, [30, 60, 120, 240, 480, 600, 600]);
        backoff.on_credential();
        let wait = backoff.on_trouble(now, middle, Verdict::CredentialRefused);
        assert_eq!(wait.delay.as_secs(), 30);
    }

    #[test]
    fn doubts_turn_slow_after_their_time() {
        let (mut backoff, now) = start();
        let doubt = Verdict::TransientFor(Duration::from_secs(180));
        assert!(secs(backoff.on_trouble(now, MOST, doubt)) <= 1);
        let later = now + Duration::from_secs(179);
        assert!(secs(backoff.on_trouble(later, 0, doubt)) < 1);
        let slow = now + Duration::from_secs(181);
        assert_eq!(
            backoff.on_trouble(slow, 0, doubt).delay,
            Duration::from_secs(24)
        );
    }

    #[test]
    fn a_hint_of_the_server_wins_within_its_limit() {
        let (mut backoff, now) = start();
        let hint = Verdict::RetryAfter(Duration::from_secs(40));
        assert_eq!(
            backoff.on_trouble(now, 0, hint).delay,
            Duration::from_secs(40)
        );
        let forever = Verdict::RetryAfter(Duration::from_secs(1 << 40));
        assert_eq!(
            backoff.on_trouble(now, 0, forever).delay,
            Duration::from_secs(300)
        );
    }

    #[test]
    fn a_server_that_says_at_once_is_not_dialled_in_a_tight_loop() {
        let (mut backoff, now) = start();
        let at_once = Verdict::RetryAfter(Duration::ZERO);
        let bounds: Vec<_> = (0..6)
            .map(|_| secs(backoff.on_trouble(now, MOST, at_once)))
            .collect();
        assert_eq!(bounds, [1, 1, 2, 4, 4, 4]);
    }
}
