//! Secrets of viewers and bridges: made here, hashed here, and the throttle for login codes.
//!
//! Secrets have 192 random bits, so a plain SHA-256 cannot be searched and needs no salt.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bridge_proto::Secret;
use sha2::{Digest as _, Sha256};

use crate::{error::HubError, store::TokenHash};

/// A new random secret behind a prefix that secret scanners can recognise.
pub(crate) fn new_secret(prefix: &str) -> Result<Secret, HubError> {
    let mut bytes = [0_u8; 24];
    getrandom::fill(&mut bytes).map_err(|_| HubError::NoEntropy)?;
    Ok(Secret::new(&format!(
        "{prefix}{}",
        URL_SAFE_NO_PAD.encode(bytes)
    )))
}

/// What is kept of a secret.
pub(crate) fn hash(secret: &Secret) -> TokenHash {
    TokenHash(Sha256::digest(secret.expose().as_bytes()).into())
}

/// Counts login attempts: a burst, then one more per [`REFILL`]. A success gives its place back.
#[derive(Debug)]
pub(crate) struct Throttle {
    used: u32,
    since: Instant,
}

impl Throttle {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            used: 0,
            since: now,
        }
    }

    /// Takes a place, or says how long to wait for one.
    pub(crate) fn on_attempt(&mut self, now: Instant) -> Result<(), Duration> {
        while self.used > 0 && now.duration_since(self.since) >= REFILL {
            self.used -= 1;
            self.since += REFILL;
        }
        if self.used == 0 {
            self.since = now;
        }
        if self.used >= BURST {
            return Err(REFILL.saturating_sub(now.duration_since(self.since)));
        }
        self.used += 1;
        Ok(())
    }

    /// Whether all its places are free again.
    fn is_idle(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= REFILL * self.used
    }

    /// The attempt was a good one.
    pub(crate) fn on_success(&mut self) {
        self.used = self.used.saturating_sub(1);
    }
}

/// Where attempts come from, as far as one party can be told from another: an address, or a network
/// of IPv6, of which one party has many addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source(IpAddr);

impl Source {
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// A [`Throttle`] for each source, so that nobody uses up the attempts of others.
#[derive(Debug, Default)]
pub(crate) struct Throttles {
    of: HashMap<Source, Throttle>,
}

impl Throttles {
    pub(crate) fn on_attempt(&mut self, now: Instant, from: Source) -> Result<(), Duration> {
        if !self.of.contains_key(&from) && self.of.len() >= MAX_SOURCES {
            self.of.retain(|_, throttle| !throttle.is_idle(now));
        }
        if !self.of.contains_key(&from) && self.of.len() >= MAX_SOURCES {
            let oldest = self.of.iter().min_by_key(|(_, throttle)| throttle.since);
            if let Some(oldest) = oldest.map(|(source, _)| *source) {
                self.of.remove(&oldest);
            }
        }
        let throttle = self.of.entry(from).or_insert_with(|| Throttle::new(now));
        throttle.on_attempt(now)
    }

    pub(crate) fn on_success(&mut self, from: Source) {
        if let Some(throttle) = self.of.get_mut(&from) {
            throttle.on_success();
        }
    }
}

/// Sources that are remembered at a time.
const MAX_SOURCES: usize = 1024;

/// A person mistypes a few times; a program tries for ever.
const BURST: u32 = 10;
/// Keeps the database and the log quiet under attack; guessing is hopeless anyway.
const REFILL: Duration = Duration::from_secs(6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_codes_are_slowed_down_after_a_burst_and_good_ones_are_not_counted() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        for _ in 0..100 {
            throttle.on_attempt(start).unwrap();
            throttle.on_success();
        }
        for _ in 0..BURST {
            throttle.on_attempt(start).unwrap();
        }
        let wait = throttle
            .on_attempt(start + Duration::from_secs(2))
            .unwrap_err();
        assert_eq!(wait, Duration::from_secs(4));
        throttle.on_attempt(start + Duration::from_secs(6)).unwrap();
        throttle
            .on_attempt(start + Duration::from_secs(6))
            .unwrap_err();
    }

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn nobody_uses_up_the_attempts_of_another_and_what_is_remembered_is_bounded() {
        let now = Instant::now();
        let mut throttles = Throttles::default();
        let (one, other) = (source("192.0.2.1"), source("192.0.2.2"));
        for _ in 0..BURST {
            throttles.on_attempt(now, one).unwrap();
        }
        throttles.on_attempt(now, one).unwrap_err();
        throttles.on_attempt(now, other).unwrap();
        for n in 0..10_000_u32 {
            let from = Source::of(IpAddr::from(n.to_be_bytes()));
            throttles.on_attempt(now, from).unwrap();
        }
        assert!(throttles.of.len() <= MAX_SOURCES);
        let later = now + REFILL;
        throttles.on_attempt(later, source("192.0.2.3")).unwrap();
        assert!(throttles.of.len() <= 2, "the idle ones are forgotten");
    }

    #[test]
    fn a_source_is_an_address_or_a_network_of_many() {
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }

    #[test]
    fn secrets_differ_and_only_their_hash_is_comparable() {
        let (one, two) = (new_secret("x_").unwrap(), new_secret("x_").unwrap());
        assert_ne!(hash(&one), hash(&two));
        assert_eq!(hash(&one), hash(&one.clone()));
        assert!(one.expose().starts_with("x_") && one.expose().len() == 34);
    }
}
