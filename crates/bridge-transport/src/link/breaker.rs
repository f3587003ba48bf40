//! What a broken or hostile server may cost.
//!
//! Invariant: over any time no more frames are taken than the burst and the rate allow, and no more
//! useless ones than theirs; a frame that was taken is never dropped. Each text of a message that
//! has several counts as a frame.
//!
//! ```text
//!            over the rate                         useless ones over theirs
//!  reading ────────────────► paused     reading ─────────────────────────────► open: hang up
//!     ▲                        │           ▲                                        │
//!     └── a share came back ───┘           └──────── dialled again, with backoff ───┘
//! ```

use std::{
    hash::{BuildHasher as _, RandomState},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::config::{Limits, Rate};

#[derive(Debug)]
pub(super) struct Breaker {
    frames: Bucket,
    useless: Bucket,
    paused: bool,
    /// Keyed, so that a server cannot make two frames look the same.
    hasher: RandomState,
    /// The last frame of this connection.
    last: Option<u64>,
    /// The last text of a numbered message of this connection.
    last_text: Option<u64>,
    /// Useless frames of this connection.
    count: u64,
}

/// Too many useless frames came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Open {
    /// How many of them were useless on this connection.
    pub(super) useless: u64,
}

impl Breaker {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            frames: Bucket::new(limits.frames, now),
            useless: Bucket::new(limits.useless, now),
            paused: false,
            hasher: RandomState::new(),
            last: None,
            last_text: None,
            count: 0,
        }
    }

    /// A new connection; what the ones before it cost is remembered.
    pub(super) fn on_opened(&mut self) {
        (self.last, self.last_text, self.count) = (None, None, 0);
    }

    /// A text frame came. One that is the same as the one before it is useless.
    pub(super) fn on_frame(&mut self, now: Instant, text: &[u8]) -> Result<(), Open> {
        self.take(now, 1);
        let this = self.hasher.hash_one(text);
        if self.last.replace(this) == Some(this) {
            return self.on_useless(now);
        }
        Ok(())
    }

    /// A frame that was taken is a numbered message of these texts, of which it paid for one. A text
    /// that is the same as the one before it is useless.
    pub(super) fn on_texts(&mut self, now: Instant, texts: &[Bytes]) -> Result<(), Open> {
        let more = texts.len().saturating_sub(1);
        if more > 0 {
            self.take(now, u32::try_from(more).unwrap_or(u32::MAX));
        }
        for text in texts {
            let this = self.hasher.hash_one(text);
            if self.last_text.replace(this) == Some(this) {
                self.on_useless(now)?;
            }
        }
        Ok(())
    }

    /// A frame was refused.
    pub(super) fn on_refused(&mut self, now: Instant) -> Result<(), Open> {
        self.take(now, 1);
        self.on_useless(now)
    }

    /// A frame that was taken turned out to be useless.
    pub(super) fn on_useless(&mut self, now: Instant) -> Result<(), Open> {
        self.count += 1;
        if self.useless.take(now, 1) {
            return Ok(());
        }
        Err(Open {
            useless: self.count,
        })
    }

    /// The last frame that was taken does not count.
    pub(super) fn forgive(&mut self) {
        self.frames.give_back();
    }

    /// Until when nothing is read.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused.then(|| self.frames.back())
    }

    /// Tells whether reading begins again now.
    pub(super) fn on_time(&mut self, now: Instant) -> bool {
        let over = self.paused && self.frames.back() <= now;
        self.paused &= !over;
        over
    }

    fn take(&mut self, now: Instant, count: u32) {
        self.paused |= !self.frames.take(now, count);
    }
}

/// A bucket that fills at a rate up to a burst.
#[derive(Debug)]
struct Bucket {
    /// For how much time it gives one.
    each: Duration,
    /// The time a full one holds.
    holds: Duration,
    /// When it will be full.
    full: Instant,
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Self {
        let each = Duration::from_secs(1) / rate.each_second.max(1);
        Self {
            each,
            holds: each * rate.burst.max(1),
            full: now,
        }
    }

    /// Takes so many out; tells whether they were there.
    fn take(&mut self, now: Instant, count: u32) -> bool {
        let cost = self.each.saturating_mul(count);
        self.full = self.full.max(now) + cost;
        let there = self.full <= now + self.holds;
        if !there {
            // What is not there cannot be owed for long, for a few frames are read ahead; but what
            // came in one of them is paid for.
            self.full = self.full.min(now + self.holds + cost.max(SHARE));
        }
        there
    }

    fn give_back(&mut self) {
        self.full = self.full.checked_sub(self.each).unwrap_or(self.full);
    }

    /// When a share of the rate is there again.
    fn back(&self) -> Instant {
        let but_a_share = self.holds.saturating_sub(SHARE);
        self.full.checked_sub(but_a_share).unwrap_or(self.full)
    }
}

/// Reading begins again with as many frames as come back in this time.
const SHARE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(&Limits::default(), now), now)
    }

    /// As many different frames as it reads in this time, in steps of a millisecond.
    fn flood(breaker: &mut Breaker, from: Instant, millis: u64) -> u64 {
        let mut taken: u64 = 0;
        for at in 0..millis {
            let now = from + Duration::from_millis(at);
            breaker.on_time(now);
            for _ in 0..100 {
                if breaker.paused_until().is_none() {
                    taken += 1;
                    let text = taken.to_string();
                    assert_eq!(breaker.on_frame(now, text.as_bytes()), Ok(()));
                }
            }
        }
        taken
    }

    #[test]
    fn ten_thousand_requests_at_once_are_read_without_a_pause() {
        let (mut breaker, now) = breaker();
        for number in 0..10_000 {
            let text = format!("{{\"requestId\":\"{number}\"}}");
            assert_eq!(breaker.on_frame(now, text.as_bytes()), Ok(()));
        }
        assert_eq!(breaker.paused_until(), None);
    }

    #[test]
    fn over_the_rate_nothing_is_dropped_and_reading_waits() {
        let (mut breaker, now) = breaker();
        let taken = flood(&mut breaker, now, 10_000);
        assert!((38_000..=40_200).contains(&taken), "{taken} in 10 s");
        let later = now + Duration::from_secs(11);
        assert!(breaker.paused_until().is_none_or(|until| until < later));
    }

    #[test]
    fn texts_of_one_message_count_as_frames_do_and_are_paid_for() {
        let (mut breaker, now) = breaker();
        let (mut taken, mut frames): (usize, u32) = (0, 0);
        for at in 0..20_000 {
            let now = now + Duration::from_millis(at);
            breaker.on_time(now);
            if breaker.paused_until().is_none() {
                frames += 1;
                let texts: Vec<Bytes> = (taken..taken + 4096)
                    .map(|it| it.to_string().into())
                    .collect();
                assert_eq!(breaker.on_frame(now, &frames.to_be_bytes()), Ok(()));
                assert_eq!(breaker.on_texts(now, &texts), Ok(()));
                taken += texts.len();
            }
        }
        // The burst, the rate, and the frame that was under way when it was over.
        assert!((56_000..=64_200).contains(&taken), "{taken} in 20 s");
    }

    #[test]
    fn the_same_text_again_and_again_opens_the_circuit_in_whatever_frames_it_comes() {
        let burst = Limits::default().useless.burst as usize;
        let (mut breaker, now) = breaker();
        let same = |count| vec![Bytes::new(); count];
        assert_eq!(breaker.on_texts(now, &same(burst + 1)), Ok(()));
        assert!(breaker.on_texts(now, &same(1)).is_err());
        breaker.on_opened();
        assert_eq!(breaker.on_texts(now, &same(1)), Ok(()));
    }

    #[test]
    fn the_same_frame_again_and_again_opens_the_circuit_and_different_ones_do_not() {
        let (mut breaker, now) = breaker();
        let mut taken = 0;
        while taken < 10_000 && breaker.on_frame(now, b"{\"error\":\"x\"}").is_ok() {
            taken += 1;
        }
        let burst = u64::from(Limits::default().useless.burst);
        assert_eq!(
            taken,
            burst + 1,
            "the first of them is a frame as any other"
        );
        breaker.on_opened();
        assert!(breaker.on_frame(now, b"a").is_ok());
        assert!(breaker.on_refused(now).is_err(), "it is remembered");
        let later = now + Duration::from_secs(60);
        assert_eq!(breaker.on_refused(later), Ok(()));
    }

    #[test]
    fn a_few_useless_frames_a_second_are_lived_with_for_ever() {
        let (mut breaker, now) = breaker();
        for at in 0..100_000 {
            let now = now + Duration::from_millis(at * 20);
            assert_eq!(breaker.on_refused(now), Ok(()));
        }
    }
}
