//! What a TLS handshake is held to: who may answer, and who we say we are.

use std::{fmt, path::PathBuf, str::FromStr};

/// Settings of TLS. All files are PEM and read anew at every dial, so that what was renewed counts
/// from the next connection on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsSettings {
    /// A file with certificate authorities trusted in addition to the platform's.
    pub roots: Option<PathBuf>,
    /// What the peer is shown when it asks who is there.
    pub identity: Option<Identity>,
    /// The keys the peer may have; any for an empty list.
    pub pins: Vec<Fingerprint>,
    /// Whether a pinned key is enough: then neither authority nor name nor dates of the
    /// certificate count. Without pins nobody is trusted.
    pub pins_alone: bool,
}

/// A client certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, followed by those between it and its authority.
    pub certificates: PathBuf,
    /// The private key, not encrypted; may be the same file.
    pub key: PathBuf,
}

/// The SHA-256 of a public key as it stands in a certificate (its `SubjectPublicKeyInfo`). It stays
/// the same when a certificate is renewed with its key.
///
/// Written as `sha256:` and 64 hexadecimal digits; read without the prefix and with colons between
/// the digits too, as other tools print them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Self, NotAFingerprint> {
        let text = text.trim();
        let digits = match text.split_at_checked(PREFIX.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
            Some(_) | None => text,
        };
        let mut digits = digits.chars().filter(|digit| *digit != ':');
        let mut digit = || digits.next()?.to_digit(16)?.try_into().ok();
        let mut bytes = [0_u8; 32];
        for byte in &mut bytes {
            let high: u8 = digit().ok_or(NotAFingerprint)?;
            *byte = high << 4 | digit().ok_or(NotAFingerprint)?;
        }
        match digits.next() {
            None => Ok(Self(bytes)),
            Some(_) => Err(NotAFingerprint),
        }
    }
}

/// A text that is no [`Fingerprint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is sha256: and 64 hexadecimal digits")]
pub struct NotAFingerprint;

const PREFIX: &str = "sha256:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_tools_print_it_and_nothing_else_is_one() {
        let digits = "00ff".repeat(16);
        let colons: Vec<&str> = ["00", "FF"].repeat(16);
        let expected = Fingerprint(std::array::from_fn(|at| if at % 2 == 0 { 0 } else { 255 }));
        for good in [
            digits.clone(),
            format!(" sha256:{digits}\n"),
            format!("SHA256:{}", colons.join(":")),
            expected.to_string(),
        ] {
            assert_eq!(good.parse(), Ok(expected), "{good}");
        }
        for bad in [
            String::new(),
            "sha256:".to_owned(),
            format!("sha1:{digits}"),
            format!("{digits}0"),
            "gg".repeat(32),
            "é".repeat(64),
        ] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(NotAFingerprint), "{bad}");
        }
    }
}
