//! How long a frame may be for a plain peer, as far as its pongs and its closes with 1009 tell.
//!
//! Invariant: what is known to fit is shorter than what is known to be too long. A close names no
//! frame; but where frames up to a length were unproven, one of that length would be refused.

use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(super) struct Width {
    /// The longest frame that is proven to have arrived.
    fits: u32,
    /// The shortest that is known to be refused, and when that was learnt.
    refuses: Option<(u32, Instant)>,
}

impl Width {
    /// Whether a frame of this length is known to be none too long.
    pub(super) fn is_good(&self, length: u32) -> bool {
        length <= self.fits
    }

    /// Whether a frame of this length is known to be too long.
    #[inline]
    pub(super) fn is_too_long(&self, length: u32) -> bool {
        self.refuses.is_some_and(|(refused, _)| length >= refused)
    }

    /// A frame of this length has arrived.
    #[inline]
    pub(super) fn on_proven(&mut self, length: u32) {
        self.fits = self.fits.max(length);
        if self.is_too_long(length) {
            self.refuses = None;
        }
    }

    /// The peer refused a frame of at most this length.
    pub(super) fn on_refused(&mut self, now: Instant, length: u32) {
        if self.is_good(length) {
            // Another peer takes less, or the length is no reason.
            self.fits = 0;
        } else if self.refuses.is_none_or(|(refused, _)| length <= refused) {
            self.refuses = Some((length, now));
        }
    }

    /// The peer refused a frame of at most this length, and which one is not known.
    pub(super) fn on_suspicion(&mut self, length: u32) {
        if self.is_good(length) {
            self.fits = 0;
        }
    }

    /// A gateway can be set up anew: what was refused long ago is tried again.
    pub(super) fn forget(&mut self, now: Instant) {
        self.refuses.take_if(|(_, at)| *at + REMEMBERED <= now);
    }
}

const REMEMBERED: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_peer_never_contradicts_itself() {
        let (mut width, begun) = (Width::default(), Instant::now());
        assert!(!width.is_good(1) && !width.is_too_long(u32::MAX));
        width.on_proven(100);
        width.on_refused(begun, 300);
        assert!(width.is_good(100) && !width.is_good(101));
        assert!(width.is_too_long(300) && !width.is_too_long(299));
        width.on_refused(begun, 400);
        assert!(width.is_too_long(300), "the shortest counts");
        width.on_refused(begun, 200);
        assert!(width.is_too_long(200));
        width.on_proven(250);
        assert!(width.is_good(250) && !width.is_too_long(300));
        width.on_refused(begun, 250);
        assert!(
            !width.is_good(1) && !width.is_too_long(250),
            "one of both is wrong"
        );
    }

    #[test]
    fn what_was_refused_is_tried_again_in_the_end() {
        let (mut width, begun) = (Width::default(), Instant::now());
        width.on_refused(begun, 300);
        width.forget(begun + REMEMBERED / 2);
        assert!(width.is_too_long(300));
        width.forget(begun + REMEMBERED);
        assert!(!width.is_too_long(300));
    }
}
