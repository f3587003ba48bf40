//! Random numbers for spreading retries; not for secrets.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    time::Duration,
};

/// Splitmix64: small, fast, good enough to spread load, repeatable from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Jitter(u64);

impl Jitter {
    /// Starts a repeatable sequence.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Starts a sequence nobody else has.
    pub(crate) fn from_system() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Scales a duration by a random number's place in its range: uniform in `0..bound`.
pub(crate) fn below(bound: Duration, random: u64) -> Duration {
    let nanos = (u128::from(random) * bound.as_nanos()) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Spreads a duration by a fifth either way.
pub(crate) fn about(middle: Duration, random: u64) -> Duration {
    middle * 4 / 5 + below(middle * 2 / 5, random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_over_the_whole_range_and_never_beyond() {
        let second = Duration::from_secs(1);
        assert_eq!(below(second, 0), Duration::ZERO);
        assert!(below(second, u64::MAX) < second);
        assert_eq!(about(second, 0), Duration::from_millis(800));
        assert!(about(second, u64::MAX) <= Duration::from_millis(1200));
        let mut jitter = Jitter::seeded(1);
        let low = (0..1000)
            .filter(|_| below(second, jitter.next()) < second / 2)
            .count();
        assert!((400..600).contains(&low), "{low} of 1000 in the lower half");
    }
}
