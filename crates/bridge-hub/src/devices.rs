//! Machines that want in and have no token yet: each shows a code, and waits until a person allows
//! or denies it. Pure; time and secrets are handed in. In memory only: after a restart a machine
//! begins anew.
//!
//! ```text
//!  begin ─► waiting ─ decide ─► allowed ─ poll ─► told, again and again ─ used or 2 min ─► gone
//!              │         └────► denied ── poll ─► told, again and again ───────── 2 min ─► gone
//!              └ 10 min ─► gone
//! ```
//!
//! An answer may get lost on its way, so it can be asked for once more; the token stays the same.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bridge_proto::{BridgeId, Secret, ctrlnode::device::DeviceRequest};

use crate::{
    access::{Source, Throttles},
    store::TokenHash,
};

/// The machines that wait.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    waiting: HashMap<TokenHash, Device>,
    begun: Throttles,
    guessed: Throttles,
}

#[derive(Debug)]
struct Device {
    /// As the person types it, without its hyphen.
    user_code: String,
    request: DeviceRequest,
    from: Source,
    until: Instant,
    /// When it may ask again.
    next_poll: Instant,
    decision: Option<Decision>,
}

/// What the person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow(Allowed),
    Deny,
}

/// What a machine gets that is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Who it will be.
    pub(crate) id: BridgeId,
    /// What it is called.
    pub(crate) name: String,
    pub(crate) token: Secret,
    /// The machine of this name that it takes the place of.
    pub(crate) replaces: Option<BridgeId>,
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
    /// A machine begins; `user_code` is spelled with [`LETTERS`]. The error is how long to wait.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        from: Source,
        code: TokenHash,
        user_code: String,
        request: DeviceRequest,
    ) -> Result<(), Duration> {
        self.forget_old(now);
        self.begun.on_attempt(now, from)?;
        let taken = |device: &Device| device.user_code == user_code;
        if self.waiting.values().any(taken) || !self.has_room() {
            return Err(INTERVAL);
        }
        let device = Device {
            user_code,
            request,
            from,
            until: now + LIFE,
            next_poll: now,
            decision: None,
        };
        self.waiting.insert(code, device);
        Ok(())
    }

    /// Whether one more may wait. Where many wait, the oldest of whom most come from makes room.
    fn has_room(&mut self) -> bool {
        if self.waiting.len() < MAX_WAITING {
            return true;
        }
        let mut crowds: HashMap<Source, usize> = HashMap::new();
        for device in self.waiting.values() {
            *crowds.entry(device.from).or_default() += 1;
        }
        let crowd = crowds.into_iter().max_by_key(|(_, count)| *count);
        let Some((from, _)) = crowd.filter(|(_, count)| *count > 1) else {
            return false;
        };
        let of_crowd = self
            .waiting
            .iter()
            .filter(|(_, device)| device.from == from);
        let oldest = of_crowd.min_by_key(|(_, device)| device.until);
        oldest
            .map(|(code, _)| *code)
            .is_some_and(|code| self.forget(&code))
    }

    /// The machine behind a code that was typed by somebody from there.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        from: Source,
        typed: &str,
    ) -> Result<DeviceRequest, CodeFault> {
        self.find(now, from, typed)
            .map(|device| device.request.clone())
    }

    /// The person decides, once.
    pub(crate) fn decide(
        &mut self,
        now: Instant,
        from: Source,
        typed: &str,
        decision: Decision,
    ) -> Result<(), CodeFault> {
        self.find(now, from, typed)?.decision = Some(decision);
        Ok(())
    }

    /// The machine asks. What was decided is said from the first time on for [`REPEATABLE`].
    pub(crate) fn poll(&mut self, now: Instant, code: &TokenHash) -> Standing {
        self.forget_old(now);
        let Some(device) = self.waiting.get_mut(code) else {
            return Standing::Unknown;
        };
        if device.next_poll > now {
            return Standing::TooSoon;
        }
        device.next_poll = now + SOONEST;
        match &device.decision {
            None => Standing::Waiting,
            Some(decision) => {
                device.until = device.until.min(now + REPEATABLE);
                Standing::Decided(decision.clone())
            }
        }
    }

    /// The machine has come with its token, or must not: nothing more is said to it here. Gives
    /// whether it was known.
    pub(crate) fn forget(&mut self, code: &TokenHash) -> bool {
        self.waiting.remove(code).is_some()
    }

    fn find(&mut self, now: Instant, from: Source, typed: &str) -> Result<&mut Device, CodeFault> {
        self.forget_old(now);
        let too_many = |wait| CodeFault::TooMany { wait };
        self.guessed.on_attempt(now, from).map_err(too_many)?;
        let typed = plain(typed);
        let open = |device: &&mut Device| device.decision.is_none() && device.user_code == typed;
        let found = self.waiting.values_mut().find(open);
        let found = found.ok_or(CodeFault::Unknown)?;
        self.guessed.on_success(from);
        Ok(found)
    }

    fn forget_old(&mut self, now: Instant) {
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
/// For how long a machine may ask again what it was told: an answer that was lost on its way, or a
/// disk that was full for a moment.
const REPEATABLE: Duration = Duration::from_secs(120);
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

    fn from(n: u8) -> Source {
        Source::of([192, 0, 2, n].into())
    }

    fn allow() -> Decision {
        Decision::Allow(Allowed {
            id: BridgeId::parse("b").unwrap(),
            name: "box".into(),
            token: Secret::new("t"),
            replaces: None,
        })
    }

    fn one() -> (Devices, Instant) {
        let (mut devices, now) = (Devices::default(), Instant::now());
        let user = "BCDFGHJK".to_owned();
        devices
            .begin(now, from(1), code(1), user, request())
            .unwrap();
        (devices, now)
    }

    #[test]
    fn a_machine_that_was_allowed_is_told_until_it_has_used_its_token() {
        let (mut devices, mut now) = one();
        assert_eq!(devices.poll(now, &code(1)), Standing::Waiting);
        assert_eq!(devices.poll(now, &code(1)), Standing::TooSoon);
        assert_eq!(devices.look(now, from(9), " bcdf-ghjk "), Ok(request()));
        devices.decide(now, from(9), "BCDFGHJK", allow()).unwrap();
        let twice = devices.decide(now, from(9), "BCDFGHJK", Decision::Deny);
        assert_eq!(twice, Err(CodeFault::Unknown), "once");
        for _ in 0..3 {
            now += INTERVAL;
            assert_eq!(devices.poll(now, &code(1)), Standing::Decided(allow()));
        }
        assert!(devices.forget(&code(1)));
        now += INTERVAL;
        assert_eq!(devices.poll(now, &code(1)), Standing::Unknown);
    }

    #[test]
    fn an_answer_can_be_asked_for_again_for_a_short_while() {
        for decision in [allow(), Decision::Deny] {
            let (mut devices, now) = one();
            devices
                .decide(now, from(9), "BCDFGHJK", decision.clone())
                .unwrap();
            // Nobody came for it yet: it waits as long as the code is good.
            let late = now + LIFE / 2;
            assert_eq!(
                devices.poll(late, &code(1)),
                Standing::Decided(decision.clone())
            );
            let again = late + REPEATABLE / 2;
            assert_eq!(devices.poll(again, &code(1)), Standing::Decided(decision));
            assert_eq!(devices.poll(late + REPEATABLE, &code(1)), Standing::Unknown);
        }
    }

    #[test]
    fn codes_expire() {
        let (mut devices, now) = one();
        let late = now + LIFE;
        let looked = devices.look(late, from(9), "BCDFGHJK");
        assert_eq!(looked, Err(CodeFault::Unknown));
        assert_eq!(devices.poll(late, &code(1)), Standing::Unknown);
    }

    fn letters(n: u8) -> String {
        user_code(&[n % 20, n / 20, 0, 0, 0, 0, 0, 0]).unwrap()
    }

    #[test]
    fn guessing_and_flooding_are_slowed_down_for_whoever_does_it() {
        let (mut devices, now) = one();
        let guess =
            |devices: &mut Devices, n: u32| devices.look(now, from(2), &format!("XX{n:06}"));
        let wrong = (0..100).filter(|n| guess(&mut devices, *n) == Err(CodeFault::Unknown));
        assert_eq!(wrong.count(), 10);
        let good = devices.look(now, from(2), "BCDFGHJK");
        assert!(matches!(good, Err(CodeFault::TooMany { .. })), "{good:?}");
        assert_eq!(devices.look(now, from(9), "BCDFGHJK"), Ok(request()));
        let begin = |devices: &mut Devices, source, n: u8| {
            devices.begin(now, source, code(n), letters(n), request())
        };
        let begun = (2..=250).filter(|n| begin(&mut devices, from(2), *n).is_ok());
        assert_eq!(begun.count(), 10);
        assert_eq!(begin(&mut devices, from(3), 251), Ok(()));
    }

    #[test]
    fn a_crowd_from_one_place_leaves_room_for_a_machine_from_another() {
        let (mut devices, start) = one();
        for n in 2..=100 {
            let device = Device {
                user_code: letters(n),
                request: request(),
                from: from(2),
                until: start + LIFE,
                next_poll: start,
                decision: None,
            };
            devices.waiting.insert(code(n), device);
        }
        assert_eq!(devices.waiting.len(), MAX_WAITING);
        let begun = devices.begin(start, from(3), code(200), letters(200), request());
        assert_eq!(begun, Ok(()));
        assert_eq!(
            devices.poll(start, &code(1)),
            Standing::Waiting,
            "of another place"
        );
        assert_eq!(devices.waiting.len(), MAX_WAITING);
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
