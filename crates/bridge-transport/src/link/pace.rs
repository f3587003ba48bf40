//! When the next increment of a stream may be written.
//!
//! Invariant: an increment is told to wait only while less than the gap has passed since one of
//! its stream was written, so the first after a pause never waits and none waits longer.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

#[derive(Debug)]
pub(super) struct Pace {
    gap: Duration,
    /// When an increment of a stream was last written; only those within the gap.
    written: HashMap<u64, Instant>,
}

impl Pace {
    pub(super) fn new(gap: Duration) -> Self {
        Self {
            gap,
            written: HashMap::new(),
        }
    }

    /// Returns until when an increment of the stream has to wait; `None` if it may go.
    pub(super) fn waits(&self, stream: u64, now: Instant) -> Option<Instant> {
        let until = *self.written.get(&stream)? + self.gap;
        (now < until).then_some(until)
    }

    /// An increment of the stream was written.
    pub(super) fn on_written(&mut self, stream: u64, now: Instant) {
        let gap = self.gap;
        self.written.retain(|_, at| now < *at + gap);
        self.written.insert(stream, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_at_once_and_the_next_when_the_gap_has_passed() {
        let mut pace = Pace::new(Duration::from_millis(30));
        let begun = Instant::now();
        let at = |millis| begun + Duration::from_millis(millis);
        assert_eq!(pace.waits(1, at(0)), None);
        pace.on_written(1, at(0));
        assert_eq!(pace.waits(1, at(0)), Some(at(30)));
        assert_eq!(pace.waits(1, at(29)), Some(at(30)));
        assert_eq!(pace.waits(1, at(30)), None);
        assert_eq!(pace.waits(2, at(1)), None);
    }

    #[test]
    fn streams_that_fell_silent_are_forgotten() {
        let mut pace = Pace::new(Duration::from_millis(30));
        let begun = Instant::now();
        for stream in 0..1000 {
            pace.on_written(stream, begun + Duration::from_millis(stream));
        }
        assert_eq!(pace.written.len(), 30);
    }
}
