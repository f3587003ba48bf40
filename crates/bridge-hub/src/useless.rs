//! What somebody who sends nothing of use may cost: a few lines in the log, then the connection.
//! Pure.

use std::time::Duration;

use bridge_transport::Rarely;
use tokio::time::Instant;

/// The useless frames of one connection.
#[derive(Debug)]
pub(crate) struct Useless {
    seen: Rarely,
    /// When as many as at first are taken again.
    calm: Instant,
}

/// More of them came than are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Useless {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            seen: Rarely::default(),
            calm: now,
        }
    }

    /// One more came; the count, if it is worth a line in the log.
    pub(crate) fn next(&mut self, now: Instant) -> Result<Option<u64>, TooMany> {
        let told = self.seen.count();
        self.calm = self.calm.max(now) + EACH;
        if self.calm > now + EACH * AT_ONCE {
            return Err(TooMany);
        }
        Ok(told)
    }
}

/// A hundred a second are lived with,
const EACH: Duration = Duration::from_millis(10);
/// and so many at once: more than one message can hold, so that none ends every connection it is
/// sent on.
const AT_ONCE: u32 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_too_much_and_a_few_every_second_are_lived_with_for_ever() {
        let begun = Instant::now();
        let mut useless = Useless::new(begun);
        let taken = (0..1_000_000).take_while(|_| useless.next(begun).is_ok());
        assert_eq!(taken.count(), 5_000);

        let mut useless = Useless::new(begun);
        for at in 0..100_000 {
            let now = begun + Duration::from_millis(at * 20);
            assert!(useless.next(now).is_ok());
        }
    }
}
