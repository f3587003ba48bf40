//! What was configured about TLS: authorities, a client certificate, pinned keys.

use std::path::PathBuf;

use bridge_transport::{Fingerprint, Identity, NotAFingerprint, TlsSettings};

use crate::report::{Exit, Problem};

/// Reads the settings; `value` gives the text of a variable and `path` the file it names.
pub(crate) fn read(
    value: impl Fn(&str) -> Option<String>,
    path: impl Fn(&str) -> PathBuf,
) -> Result<TlsSettings, Problem> {
    let file = |key: &str| value(key).map(|name| path(&name));
    let pins = value(PIN).unwrap_or_default();
    let pins: Vec<Fingerprint> = pins
        .split([',', ' '])
        .filter(|pin| !pin.is_empty())
        .map(str::parse)
        .collect::<Result<_, NotAFingerprint>>()
        .map_err(|error| {
            wrong(format!("{PIN} cannot be used"))
                .because(error)
                .hint("docs/security.md has the openssl line that makes a pin of a certificate")
        })?;
    let pins_alone = value(PIN_ALONE).is_some_and(|value| value == "1");
    if pins_alone && pins.is_empty() {
        let problem = wrong(format!("{PIN_ALONE} is set, and no key is pinned"));
        return Err(problem.hint(format!("set {PIN}; {HOW}")));
    }
    let identity = match (file(CERTIFICATE), file(KEY)) {
        (Some(certificates), Some(key)) => Some(Identity { certificates, key }),
        // One file may have both.
        (Some(both), None) => Some(Identity {
            key: both.clone(),
            certificates: both,
        }),
        (None, Some(_)) => {
            let problem = wrong(format!("{KEY} is set without a certificate"));
            return Err(problem.hint(format!("name the file of the certificate in {CERTIFICATE}")));
        }
        (None, None) => None,
    };
    Ok(TlsSettings {
        roots: file(ROOTS),
        identity,
        pins,
        pins_alone,
    })
}

/// The files that are named and are not there, each as one line. A plane in the clear has no use for
/// them, the next one may.
pub(crate) fn not_there(tls: &TlsSettings) -> Vec<String> {
    let identity = tls.identity.as_ref();
    let certificates = identity.map(|identity| &identity.certificates);
    let key = identity.map(|identity| &identity.key);
    let key = key.filter(|key| certificates != Some(key));
    let named = [
        (ROOTS, tls.roots.as_ref()),
        (CERTIFICATE, certificates),
        (KEY, key),
    ];
    let missing = named.into_iter().filter_map(|(name, file)| {
        let file = file.filter(|file| !file.exists())?;
        Some(format!("{name}: {} is not there", file.display()))
    });
    missing.collect()
}

fn wrong(message: String) -> Problem {
    Problem::new(message).exit(Exit::NotConfigured)
}

const ROOTS: &str = "SSL_CERT_FILE";
const CERTIFICATE: &str = "CTRLNODE_TLS_CERT_FILE";
pub(crate) const KEY: &str = "CTRLNODE_TLS_KEY_FILE";
const PIN: &str = "CTRLNODE_TLS_PIN";
const PIN_ALONE: &str = "CTRLNODE_TLS_PIN_ALONE";
const HOW: &str =
    "`ctrlnode doctor` shows the key of the control plane when none of the pinned ones is that";

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(set: &[(&str, &str)]) -> Result<TlsSettings, Problem> {
        let value = |key: &str| {
            let found = set.iter().find(|(name, _)| *name == key)?;
            Some(found.1.to_owned())
        };
        read(value, |name| PathBuf::from("/home/me").join(name))
    }

    #[test]
    fn all_of_it_is_read_and_one_file_may_have_certificate_and_key() {
        assert_eq!(settings(&[]).unwrap(), TlsSettings::default());
        let (one, other) = ("11".repeat(32), "22".repeat(32));
        let pins = format!("sha256:{one}, {other}");
        let read = settings(&[
            (ROOTS, "ca.pem"),
            (CERTIFICATE, "me.pem"),
            (PIN, &pins),
            (PIN_ALONE, "1"),
        ]);
        let file = |name: &str| PathBuf::from("/home/me").join(name);
        let expected = TlsSettings {
            roots: Some(file("ca.pem")),
            identity: Some(Identity {
                certificates: file("me.pem"),
                key: file("me.pem"),
            }),
            pins: vec![Fingerprint([0x11; 32]), Fingerprint([0x22; 32])],
            pins_alone: true,
        };
        assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn files_that_are_not_there_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (here, gone) = (folder.path().join("a.pem"), folder.path().join("b.pem"));
        std::fs::write(&here, "").unwrap();
        let tls = |certificates: &PathBuf, key: &PathBuf| TlsSettings {
            roots: Some(here.clone()),
            identity: Some(Identity {
                certificates: certificates.clone(),
                key: key.clone(),
            }),
            ..TlsSettings::default()
        };
        let said = |name: &str| vec![format!("{name}: {} is not there", gone.display())];
        assert_eq!(not_there(&tls(&here, &here)), [""; 0]);
        assert_eq!(not_there(&tls(&gone, &gone)), said(CERTIFICATE));
        assert_eq!(not_there(&tls(&here, &gone)), said(KEY));
    }

    #[test]
    fn a_pin_that_is_none_is_told_where_to_get_one() {
        let report = settings(&[(PIN, "sha256:zz")]).unwrap_err().report();
        assert!(report.contains("openssl"), "{report}");
    }

    #[test]
    fn what_would_be_less_secure_than_it_looks_is_refused() {
        for wrong in [
            vec![(PIN, "sha256:12")],
            vec![(PIN_ALONE, "1")],
            vec![(PIN, " , "), (PIN_ALONE, "1")],
            vec![(KEY, "key.pem")],
        ] {
            assert!(settings(&wrong).is_err(), "{wrong:?}");
        }
    }
}
