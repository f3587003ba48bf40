//! The machine's side of a device login: when to ask again, and when to give up. Pure; the network
//! and the clock are `command/login.rs`.

use std::time::{Duration, Instant};

use bridge_proto::{
    Secret,
    ctrlnode::device::{DeviceGrant, Polled},
};
use thiserror::Error;

/// A login that waits for its person.
#[derive(Debug)]
pub(crate) struct DeviceLogin {
    interval: Duration,
    until: Instant,
    /// The last question had no answer.
    lost: bool,
}

/// What came of a question.
#[derive(Debug)]
pub(crate) enum Heard {
    /// An answer.
    Said(Polled),
    /// None: the network, or whoever is at the other end of it.
    Lost(String),
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Ask again.
    Ask {
        after: Duration,
        /// Something a person should know now.
        note: Option<String>,
    },
    /// The machine is let in.
    Done(Secret),
    /// It will not be.
    Failed(LoginError),
}

/// Why there is no token.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum LoginError {
    #[error("the request was denied")]
    Denied,
    #[error("nobody allowed it in time")]
    Expired,
    #[error("the control plane answered with status {status}, which is no answer to a login")]
    Odd { status: u16 },
}

impl DeviceLogin {
    /// Begins now.
    pub(crate) fn new(now: Instant, grant: &DeviceGrant) -> Self {
        Self {
            interval: grant.interval,
            until: now + grant.expires,
            lost: false,
        }
    }

    /// Before the first question.
    pub(crate) fn wait(&self) -> Duration {
        self.interval
    }

    /// The codes stay good through a moment without network, and through trouble of the plane: only
    /// an answer ends the login before its time.
    pub(crate) fn on_answer(&mut self, now: Instant, heard: Heard) -> Next {
        let note = match heard {
            Heard::Said(Polled::Token(token)) => return Next::Done(token),
            Heard::Said(Polled::Denied) => return Next::Failed(LoginError::Denied),
            Heard::Said(Polled::Expired) => return Next::Failed(LoginError::Expired),
            Heard::Said(Polled::Odd { status }) if status < 500 => {
                return Next::Failed(LoginError::Odd { status });
            }
            Heard::Said(Polled::Odd { status }) => self.trouble(format!("status {status}")),
            Heard::Lost(why) => self.trouble(why),
            Heard::Said(Polled::Pending) => {
                self.lost = false;
                None
            }
            Heard::Said(Polled::SlowDown) => {
                self.lost = false;
                self.interval = (self.interval + SLOWER).min(SLOWEST);
                None
            }
        };
        if now + self.interval >= self.until {
            return Next::Failed(LoginError::Expired);
        }
        Next::Ask {
            after: self.interval,
            note,
        }
    }

    /// Said once for as long as it lasts.
    fn trouble(&mut self, why: String) -> Option<String> {
        let first = !self.lost;
        self.lost = true;
        first.then_some(why)
    }
}

/// For each time the plane says that it is asked too often.
const SLOWER: Duration = Duration::from_secs(5);
const SLOWEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn login(now: Instant) -> DeviceLogin {
        let grant = DeviceGrant {
            device_code: Secret::new("d"),
            user_code: "BCDF-GHJK".into(),
            verification_uri: "https://a.example/bridge/activate".into(),
            expires: Duration::from_secs(100),
            interval: Duration::from_secs(5),
        };
        DeviceLogin::new(now, &grant)
    }

    fn ask(seconds: u64, note: Option<&str>) -> Next {
        Next::Ask {
            after: Duration::from_secs(seconds),
            note: note.map(str::to_owned),
        }
    }

    #[test]
    fn it_waits_goes_slower_when_told_to_and_ends_with_the_token() {
        let now = Instant::now();
        let mut login = login(now);
        assert_eq!(login.wait(), Duration::from_secs(5));
        assert_eq!(
            login.on_answer(now, Heard::Said(Polled::Pending)),
            ask(5, None)
        );
        assert_eq!(
            login.on_answer(now, Heard::Said(Polled::SlowDown)),
            ask(10, None)
        );
        assert_eq!(
            login.on_answer(now, Heard::Said(Polled::Pending)),
            ask(10, None)
        );
        for _ in 0..20 {
            login.on_answer(now, Heard::Said(Polled::SlowDown));
        }
        assert_eq!(login.wait(), SLOWEST);
        let token = Secret::new("t");
        let done = login.on_answer(now, Heard::Said(Polled::Token(token.clone())));
        assert_eq!(done, Next::Done(token));
    }

    #[test]
    fn a_moment_without_network_does_not_end_it_and_is_told_once() {
        let now = Instant::now();
        let mut login = login(now);
        let lost = || Heard::Lost("no route".into());
        assert_eq!(login.on_answer(now, lost()), ask(5, Some("no route")));
        assert_eq!(login.on_answer(now, lost()), ask(5, None));
        let busy = Heard::Said(Polled::Odd { status: 503 });
        assert_eq!(login.on_answer(now, busy), ask(5, None));
        assert_eq!(
            login.on_answer(now, Heard::Said(Polled::Pending)),
            ask(5, None)
        );
        assert_eq!(login.on_answer(now, lost()), ask(5, Some("no route")));
        let late = now + Duration::from_secs(95);
        assert_eq!(
            login.on_answer(late, lost()),
            Next::Failed(LoginError::Expired)
        );
    }

    #[test]
    fn an_answer_that_says_no_ends_it() {
        let now = Instant::now();
        for (said, error) in [
            (Polled::Denied, LoginError::Denied),
            (Polled::Expired, LoginError::Expired),
            (Polled::Odd { status: 404 }, LoginError::Odd { status: 404 }),
            (Polled::Odd { status: 200 }, LoginError::Odd { status: 200 }),
        ] {
            let next = login(now).on_answer(now, Heard::Said(said));
            assert_eq!(next, Next::Failed(error));
        }
    }
}
