//! What a peer says, made fit to be shown and logged: without our credential, without characters
//! that change what a reader sees, and bounded.

use http::HeaderValue;

use crate::inbound::CloseReason;

/// Knows what must not be repeated.
#[derive(Default)]
pub(crate) struct Spoken {
    /// The credentials of the last dials, the newest last; a peer may repeat an older one late.
    secrets: Vec<String>,
}

impl Spoken {
    /// A credential goes to the peer.
    pub(crate) fn on_dial(&mut self, credential: &HeaderValue) {
        let Ok(value) = credential.to_str() else {
            return;
        };
        // The scheme in front of a token is no secret.
        let secret = value.split_ascii_whitespace().next_back();
        let Some(secret) = secret.filter(|secret| !self.secrets.iter().any(|old| old == secret))
        else {
            return;
        };
        if self.secrets.len() == REMEMBERED {
            self.secrets.remove(0);
        }
        self.secrets.push(secret.to_owned());
    }

    /// The reason with what the peer put into it made fit.
    pub(crate) fn close(&self, reason: CloseReason) -> CloseReason {
        match reason {
            CloseReason::Code { code, reason } => CloseReason::Code {
                code,
                reason: self.masked(&reason),
            },
            CloseReason::Lost(text) => CloseReason::Lost(self.line(&text)),
            CloseReason::Protocol(text) => CloseReason::Protocol(self.line(&text)),
            own @ (CloseReason::Silent(_)
            | CloseReason::Unanswered(_)
            | CloseReason::Flooded { .. }
            | CloseReason::Stalled(_)
            | CloseReason::Slept
            | CloseReason::ShutDown) => own,
        }
    }

    /// One line of at most [`MAX_SHOWN`] characters.
    pub(crate) fn line(&self, text: &str) -> String {
        let masked = self.masked(text);
        let mut shown = String::with_capacity(masked.len());
        for c in masked.chars() {
            match c {
                '"' | '\'' | '\\' => shown.push(c),
                other => shown.extend(other.escape_debug()),
            }
        }
        shown.chars().take(MAX_SHOWN).collect()
    }

    /// Bounded, and every piece of a credential that could be told from an ordinary word taken out.
    fn masked(&self, text: &str) -> String {
        let bounded: String = text.chars().take(MAX_SHOWN).collect();
        let mut left = String::with_capacity(bounded.len());
        let mut rest = bounded.as_str();
        while let Some(next) = rest.chars().next() {
            let known = self.secrets.iter().map(|secret| shared(rest, secret));
            let known = known.max().unwrap_or_default();
            if known >= SHORTEST {
                left.push_str(MASK);
                rest = rest.get(known..).unwrap_or_default();
            } else {
                left.push(next);
                rest = rest.get(next.len_utf8()..).unwrap_or_default();
            }
        }
        left
    }
}

/// How many bytes at the beginning of the text stand in the secret too.
fn shared(text: &str, secret: &str) -> usize {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let known = |end: &usize| text.get(..*end).is_some_and(|piece| secret.contains(piece));
    ends.take_while(known).last().unwrap_or_default()
}

/// Stands for what was taken out.
const MASK: &str = "[token]";

/// Shorter pieces of a credential, and shorter credentials, are ordinary words.
const SHORTEST: usize = 8;

/// Most characters of a peer that are shown.
const MAX_SHOWN: usize = 300;

/// Credentials change seldom.
const REMEMBERED: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(tokens: &[&str]) -> Spoken {
        let mut spoken = Spoken::default();
        for token in tokens {
            spoken.on_dial(&HeaderValue::try_from(format!("Bearer {token}")).unwrap());
        }
        spoken
    }

    #[test]
    fn a_credential_is_not_repeated_whole_or_in_part() {
        let spoken = spoken(&["old-0123456789", "ctrlb_abcdefghijklmnop"]);
        for (said, shown) in [
            ("no ctrlb_abcdefghijklmnop here", "no [token] here"),
            ("no old-0123456789", "no [token]"),
            // A close frame is cut at 123 bytes.
            ("cut: ctrlb_abcdef", "cut: [token]"),
            ("the end of it is ijklmnop", "the end of it is [token]"),
            ("unknown token", "unknown token"),
            ("", ""),
        ] {
            let reason = CloseReason::Code {
                code: 1008,
                reason: said.into(),
            };
            let CloseReason::Code { reason, .. } = spoken.close(reason) else {
                panic!("another reason");
            };
            assert_eq!(reason, shown);
            assert_eq!(spoken.line(said), shown);
        }
    }

    #[test]
    fn what_could_be_an_ordinary_word_stays() {
        assert_eq!(spoken(&["test"]).line("a test"), "a test");
        assert_eq!(spoken(&[]).line("as it is"), "as it is");
    }

    #[test]
    fn what_is_said_is_one_bounded_line_without_marks() {
        let line = spoken(&[]).line("a\nb\u{1b}[2J\u{202e}c \"it's\"");
        assert_eq!(line, "a\\nb\\u{1b}[2J\\u{202e}c \"it's\"");
        assert_eq!(spoken(&[]).line(&"é\n".repeat(9999)).chars().count(), 300);
    }

    #[test]
    fn only_the_last_credentials_are_remembered() {
        let tokens: Vec<String> = (0..20).map(|n| format!("token-number-{n:04}")).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        let spoken = spoken(&tokens);
        assert_eq!(spoken.secrets.len(), 4);
        assert_eq!(spoken.line("token-number-0019"), "[token]");
    }
}
