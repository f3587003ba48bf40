//! Machines that want in and have no token yet: each shows a code, and waits until a person allows
//! or denies it. Pure; time and secrets are handed in. In memory only: after a restart a machine
//! begins anew.
//!
//! ```text
//!  begin ─► waiting ─ decide ─► allowed ─ poll ─► given, once
//!              │         └────► denied ── poll ─► said, once
//!              └ 10 min ─► gone
//! ```

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bridge_proto::ctrlnode::device::DeviceRequest;

use crate::{access::Throttle, store::TokenHash};

/// The machines that wait.
#[derive(Debug)]
pub(crate) struct Devices {
    waiting: HashMap<TokenHash, Device>,
    begun: Throttle,
    guessed: Throttle,
}

#[derive(Debug)]
struct Device {
    /// As the person types it, without its hyphen.
    user_code: String,
    request: DeviceRequest,
    until: Instant,
    /// When it may ask again.
    next_poll: Instant,
    decision: Option<Decision>,
}

/// What the person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It gets a token under this name.
    Allow {
        /// What the machine is called.
        name: String,
    },
    Deny,
}

/// What a machine that asks is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    Waiting,
    TooSoon,
    Decided(Decision),
    Unknown,
}

/// Why a code leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeFault {
    Unknown,
    TooMany { wait: Duration },
}

impl Devices {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            waiting: HashMap::new(),
            begun: Throttle::new(now),
            guessed: Throttle::new(now),
        }
    }

    /// A machine begins; `user_code` is spelled with [`LETTERS`]. The error is how long to wait.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        code: TokenHash,
        user_code: String,
        request: DeviceRequest,
    ) -> Result<(), Duration> {
        self.forget(now);
        self.begun.on_attempt(now)?;
        let taken = |device: &Device| device.user_code == user_code;
        if self.waiting.len() >= MAX_WAITING || self.waiting.values().any(taken) {
            return Err(INTERVAL);
        }
        let device = Device {
            user_code,
            request,
            until: now + LIFE,
            next_poll: now,
            decision: None,
        };
        self.waiting.insert(code, device);
        Ok(())
    }

    /// The machine behind a code that was typed.
    pub(crate) fn look(&mut self, now: Instant, typed: &str) -> Result<DeviceRequest, CodeFault> {
        self.find(now, typed).map(|device| device.request.clone())
    }

    /// The person decides, once.
    pub(crate) fn decide(
        &mut self,
        now: Instant,
        typed: &str,
        decision: Decision,
    ) -> Result<(), CodeFault> {
        self.find(now, typed)?.decision = Some(decision);
        Ok(())
    }

    /// The machine asks. What was decided is said once, and then forgotten.
    pub(crate) fn poll(&mut self, now: Instant, code: &TokenHash) -> Standing {
        self.forget(now);
        let Some(device) = self.waiting.get_mut(code) else {
            return Standing::Unknown;
        };
        if device.next_poll > now {
            return Standing::TooSoon;
        }
        device.next_poll = now + SOONEST;
        match device.decision.take() {
            None => Standing::Waiting,
            Some(decision) => {
                self.waiting.remove(code);
                Standing::Decided(decision)
            }
        }
    }

    fn find(&mut self, now: Instant, typed: &str) -> Result<&mut Device, CodeFault> {
        self.forget(now);
        let too_many = |wait| CodeFault::TooMany { wait };
        self.guessed.on_attempt(now).map_err(too_many)?;
        let typed = plain(typed);
        let open = |device: &&mut Device| device.decision.is_none() && device.user_code == typed;
        let found = self.waiting.values_mut().find(open);
        let found = found.ok_or(CodeFault::Unknown)?;
        self.guessed.on_success();
        Ok(found)
    }

    fn forget(&mut self, now: Instant) {
        self.waiting.retain(|_, device| device.until > now);
    }
}

/// What was typed, as codes are kept.
fn plain(typed: &str) -> String {
    let letters = typed.chars().filter(char::is_ascii_alphanumeric);
    letters
        .take(CODE_LETTERS + 1)
        .map(|c| c.to_ascii_uppercase())
        .collect()
}

/// A code from random bytes. Each letter takes the place of a byte; bytes that would favour some
/// letters are left out, so there must be more of them than letters.
pub(crate) fn user_code(random: &[u8]) -> Option<String> {
    let count = LETTERS.len();
    let fair = 256 - 256 % count;
    let fair = random
        .iter()
        .map(|byte| usize::from(*byte))
        .filter(|byte| *byte < fair);
    let code: String = fair
        .filter_map(|byte| LETTERS.get(byte % count))
        .map(|letter| char::from(*letter))
        .take(CODE_LETTERS)
        .collect();
    (code.len() == CODE_LETTERS).then_some(code)
}

/// As a person reads it.
pub(crate) fn shown(code: &str) -> String {
    let (one, other): (String, String) = (
        code.chars().take(CODE_LETTERS / 2).collect(),
        code.chars().skip(CODE_LETTERS / 2).collect(),
    );
    format!("{one}-{other}")
}

/// Consonants that are told apart when read aloud: no code spells a word.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// 20^8 codes, ten tries a minute, ten minutes, at most a hundred that would be good.
const CODE_LETTERS: usize = 8;
const MAX_WAITING: usize = 100;
/// How long a machine waits for its person.
pub(crate) const LIFE: Duration = Duration::from_secs(600);
/// Between two questions of a machine.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// A machine's timer may be early by a second.
const SOONEST: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> DeviceRequest {
        DeviceRequest {
            hostname: "box".into(),
            platform: "linux".into(),
            bridge_version: "v1".into(),
        }
    }

    fn code(n: u8) -> TokenHash {
        TokenHash([n; 32])
    }

    fn allow() -> Decision {
        Decision::Allow { name: "box".into() }
    }

    #[test]
    fn a_machine_that_was_allowed_is_told_once() {
        let mut now = Instant::now();
        let mut devices = Devices::new(now);
        devices
            .begin(now, code(1), "BCDFGHJK".into(), request())
            .unwrap();
        assert_eq!(devices.poll(now, &code(1)), Standing::Waiting);
        assert_eq!(devices.poll(now, &code(1)), Standing::TooSoon);
        assert_eq!(devices.look(now, " bcdf-ghjk "), Ok(request()));
        devices.decide(now, "BCDFGHJK", allow()).unwrap();
        let twice = devices.decide(now, "BCDFGHJK", Decision::Deny);
        assert_eq!(twice, Err(CodeFault::Unknown), "once");
        now += INTERVAL;
        assert_eq!(devices.poll(now, &code(1)), Standing::Decided(allow()));
        assert_eq!(devices.poll(now, &code(1)), Standing::Unknown);
    }

    #[test]
    fn codes_expire_and_a_denial_is_said() {
        let start = Instant::now();
        let mut devices = Devices::new(start);
        for n in [1, 2] {
            let user = format!("BCDFGHJ{}", ["K", "L"][usize::from(n) - 1]);
            devices.begin(start, code(n), user, request()).unwrap();
        }
        devices.decide(start, "BCDFGHJK", Decision::Deny).unwrap();
        assert_eq!(
            devices.poll(start, &code(1)),
            Standing::Decided(Decision::Deny)
        );
        let late = start + LIFE;
        assert_eq!(devices.look(late, "BCDFGHJL"), Err(CodeFault::Unknown));
        assert_eq!(devices.poll(late, &code(2)), Standing::Unknown);
    }

    #[test]
    fn guessing_and_flooding_are_slowed_down() {
        let now = Instant::now();
        let mut devices = Devices::new(now);
        devices
            .begin(now, code(1), "BCDFGHJK".into(), request())
            .unwrap();
        let guess = |devices: &mut Devices, n: u32| devices.look(now, &format!("XXXX{n:04}"));
        let wrong = (0..100).filter(|n| guess(&mut devices, *n) == Err(CodeFault::Unknown));
        assert_eq!(wrong.count(), 10);
        let good = devices.look(now, "BCDFGHJK");
        assert!(matches!(good, Err(CodeFault::TooMany { .. })), "{good:?}");
        let begun = (2..=250).filter(|n| {
            let user = user_code(&[*n; 8]).unwrap_or_default();
            devices.begin(now, code(*n), user, request()).is_ok()
        });
        assert!(begun.count() < 10);
    }

    #[test]
    fn codes_use_every_letter_alike_and_bytes_that_would_not_are_left_out() {
        assert_eq!(
            user_code(&[0, 19, 20, 239, 240, 255, 1, 2, 3, 4]).as_deref(),
            Some("BZBZCDFG")
        );
        assert_eq!(user_code(&[240; 64]), None);
        assert_eq!(shown("BCDFGHJK"), "BCDF-GHJK");
    }
}
