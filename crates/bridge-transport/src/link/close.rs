//! What the end of a connection means: a rule table, one preset per dialect.
//!
//! Invariant: every refusal and every close code has exactly one verdict, and only a refusal that
//! a rule names ever blames the credential.

use std::time::Duration;

use crate::inbound::CloseReason;

/// The rules of one dialect; the first that fits decides, anything unnamed is transient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseRules {
    /// The rules, in order.
    pub rules: Vec<CloseRule>,
    /// A refusal names the credential when its body has one of these words, in any case.
    pub credential_words: Vec<String>,
    /// The text before a number of seconds in the reason of a close frame, by which a server says
    /// when to come back.
    pub hint_prefix: Option<String>,
}

impl CloseRules {
    /// Returns the rules of the CTRL NODE control plane.
    pub fn ctrlnode() -> Self {
        let rule = |signal, stage, verdict| CloseRule {
            signal,
            stage,
            verdict,
        };
        Self {
            rules: vec![
                rule(Signal::Code(1008), Stage::Any, Verdict::CredentialRefused),
                rule(
                    Signal::Code(1002),
                    Stage::BeforeFirstFrame,
                    Verdict::CredentialRefused,
                ),
                rule(
                    Signal::CredentialNamed,
                    Stage::Any,
                    Verdict::CredentialRefused,
                ),
                rule(
                    Signal::Unrecognised,
                    Stage::Any,
                    Verdict::TransientFor(DOUBT),
                ),
            ],
            credential_words: vec!["token".to_owned()],
            hint_prefix: Some("retry-after=".to_owned()),
        }
    }

    /// Tells what the end of a connection means.
    ///
    /// `heard_frame` says whether a good frame had arrived on it.
    pub(crate) fn of_close(&self, reason: &CloseReason, heard_frame: bool) -> Verdict {
        let code = match reason {
            CloseReason::Code { code, reason } => {
                if let Some(wait) = self.hint(reason) {
                    return Verdict::RetryAfter(wait);
                }
                *code
            }
            CloseReason::Protocol(_)
            | CloseReason::Lost(_)
            | CloseReason::Silent(_)
            | CloseReason::Unanswered(_)
            | CloseReason::Flooded { .. }
            | CloseReason::Stalled(_)
            | CloseReason::Slept
            | CloseReason::ShutDown => 1006,
        };
        self.verdict(Signal::Code(code), heard_frame)
    }

    /// Tells what a refused upgrade with status 401 or 403 means.
    pub(crate) fn of_refusal(&self, body: &str) -> Verdict {
        let signal = if self.names_credential(body) {
            Signal::CredentialNamed
        } else {
            Signal::Unrecognised
        };
        self.verdict(signal, false)
    }

    fn verdict(&self, signal: Signal, heard_frame: bool) -> Verdict {
        let fits = |rule: &&CloseRule| {
            rule.signal == signal
                && match rule.stage {
                    Stage::Any => true,
                    Stage::BeforeFirstFrame => !heard_frame,
                }
        };
        self.rules
            .iter()
            .find(fits)
            .map_or(Verdict::Transient, |rule| rule.verdict)
    }

    /// A web page is never a control plane's answer: the login page of a proxy may well speak of
    /// tokens.
    fn names_credential(&self, body: &str) -> bool {
        let body = body.trim_start().to_lowercase();
        !body.starts_with('<')
            && self
                .credential_words
                .iter()
                .any(|word| body.contains(&word.to_lowercase()))
    }

    fn hint(&self, reason: &str) -> Option<Duration> {
        let prefix = self.hint_prefix.as_deref()?;
        let (_, rest) = reason.split_once(prefix)?;
        let digits: String = rest
            .chars()
            .take_while(char::is_ascii_digit)
            .take(9)
            .collect();
        digits.parse().ok().map(Duration::from_secs)
    }
}

/// One rule: what is seen, when, and what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloseRule {
    /// What is seen.
    pub signal: Signal,
    /// When it has to be seen.
    pub stage: Stage,
    /// What it means.
    pub verdict: Verdict,
}

/// What is seen at the end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A close code; 1006 stands for a connection lost without one.
    Code(u16),
    /// An upgrade refused with 401 or 403 by a body that names the credential.
    CredentialNamed,
    /// An upgrade refused with 401 or 403 by something else, a proxy for example.
    Unrecognised,
}

/// When a signal has to be seen for a rule to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// At any time.
    Any,
    /// Before the first good frame of the connection.
    BeforeFirstFrame,
}

/// What the end of a connection means for the next dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Trouble that passes: dial again soon.
    Transient,
    /// Trouble that passes, unless it lasts longer than this: then dial slowly.
    TransientFor(Duration),
    /// The credential was refused: dial slowly, or at once when it changes.
    CredentialRefused,
    /// The peer said when to come back.
    RetryAfter(Duration),
}

/// How long something that is not the control plane may refuse before it is asked slowly: long
/// enough for a person to log in to a hotel's network.
const DOUBT: Duration = Duration::from_secs(180);

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16, reason: &str, heard_frame: bool) -> Verdict {
        let reason = CloseReason::Code {
            code,
            reason: reason.to_owned(),
        };
        CloseRules::ctrlnode().of_close(&reason, heard_frame)
    }

    #[test]
    fn blames_the_credential_only_for_codes_that_say_so() {
        assert_eq!(closed(1008, "", false), Verdict::CredentialRefused);
        assert_eq!(closed(1008, "policy", true), Verdict::CredentialRefused);
        assert_eq!(closed(1002, "", false), Verdict::CredentialRefused);
        assert_eq!(closed(1002, "", true), Verdict::Transient);
        for code in [1000, 1001, 1003, 1006, 1009, 1011, 1012, 1013, 4000, 4999] {
            assert_eq!(closed(code, "", false), Verdict::Transient, "{code}");
        }
        let lost = CloseReason::Lost("reset".to_owned());
        assert_eq!(
            CloseRules::ctrlnode().of_close(&lost, false),
            Verdict::Transient
        );
    }

    #[test]
    fn blames_the_credential_only_for_bodies_that_name_it() {
        let rules = CloseRules::ctrlnode();
        let refused = Verdict::CredentialRefused;
        assert_eq!(
            rules.of_refusal(r#"{"error":"Invalid pairing token"}"#),
            refused
        );
        assert_eq!(rules.of_refusal("TOKEN_EXPIRED"), refused);
        let doubtful = Verdict::TransientFor(DOUBT);
        assert_eq!(rules.of_refusal(""), doubtful);
        assert_eq!(rules.of_refusal("access denied by gateway"), doubtful);
        assert_eq!(
            rules.of_refusal("  <html><input name=csrf_token></html>"),
            doubtful
        );
    }

    #[test]
    fn follows_the_hint_in_a_close_reason() {
        let wait = Verdict::RetryAfter(Duration::from_secs(40));
        assert_eq!(closed(1013, "busy; retry-after=40s", true), wait);
        assert_eq!(closed(1013, "retry-after=soon", true), Verdict::Transient);
    }
}
