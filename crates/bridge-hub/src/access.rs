//! Secrets of viewers and bridges: made here, hashed here, and the throttle for login codes.
//!
//! Secrets have 192 random bits, so a plain SHA-256 cannot be searched and needs no salt.

use std::time::{Duration, Instant};

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

    /// The attempt was a good one.
    pub(crate) fn on_success(&mut self) {
        self.used = self.used.saturating_sub(1);
    }
}

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

    #[test]
    fn secrets_differ_and_only_their_hash_is_comparable() {
        let (one, two) = (new_secret("x_").unwrap(), new_secret("x_").unwrap());
        assert_ne!(hash(&one), hash(&two));
        assert_eq!(hash(&one), hash(&one.clone()));
        assert!(one.expose().starts_with("x_") && one.expose().len() == 34);
    }
}
