//! Who this bridge is to the gateway: a key of its own, and what the gateway gave it for later.
//! Kept in one file that only its user can read.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bridge_proto::Secret;
use ring::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A key pair with the name the gateway knows it by.
pub struct DeviceKey {
    pair: Ed25519KeyPair,
    id: String,
    public: String,
}

/// What the gateway gave a device that it let in: instead of the shared secret, for these scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Shown instead of the shared secret.
    pub token: Secret,
    /// What it is good for.
    pub scopes: Vec<String>,
}

/// The seed is not one.
#[derive(Debug, Error)]
#[error("the stored device key cannot be used")]
pub struct BadKey;

impl DeviceKey {
    /// The key that grows from a seed.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, BadKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BadKey)?;
        let public = pair.public_key().as_ref();
        let id = hex(digest(&SHA256, public).as_ref());
        let public = URL_SAFE_NO_PAD.encode(public);
        Ok(Self { pair, id, public })
    }

    /// SHA-256 of the public key, in hex.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key, base64url.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The signature of a text, base64url. The same text gives the same signature.
    pub fn sign(&self, text: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.pair.sign(text.as_bytes()))
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Bytes as lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// The file with the key and the grants.
#[derive(Debug, Clone)]
pub(super) struct Keyring {
    file: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    seed: String,
    grants: BTreeMap<String, StoredGrant>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredGrant {
    token: String,
    scopes: Vec<String>,
}

impl Keyring {
    pub(super) fn new(state: &Path) -> Self {
        Self {
            file: state.join("openclaw-device.json"),
        }
    }

    /// The key of this bridge; made when there is none. Reads and writes files.
    pub(super) fn key(&self) -> io::Result<DeviceKey> {
        let bad = |error: BadKey| io::Error::new(io::ErrorKind::InvalidData, error);
        if let Some(stored) = self.read()? {
            return DeviceKey::from_seed(&seed_of(&stored)?).map_err(bad);
        }
        let mut seed = [0_u8; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let key = DeviceKey::from_seed(&seed).map_err(bad)?;
        self.write(&Stored {
            seed: URL_SAFE_NO_PAD.encode(seed),
            grants: BTreeMap::new(),
        })?;
        Ok(key)
    }

    /// What the gateway at this address gave.
    pub(super) fn grant(&self, gateway: &str) -> io::Result<Option<Grant>> {
        let found = self
            .read()?
            .and_then(|mut stored| stored.grants.remove(gateway));
        Ok(found.map(|grant| Grant {
            token: Secret::new(&grant.token),
            scopes: grant.scopes,
        }))
    }

    /// Keeps what the gateway gave, or forgets it.
    pub(super) fn keep(&self, gateway: &str, grant: Option<&Grant>) -> io::Result<()> {
        let Some(mut stored) = self.read()? else {
            return Ok(());
        };
        match grant {
            Some(grant) => {
                let kept = StoredGrant {
                    token: grant.token.expose().to_owned(),
                    scopes: grant.scopes.clone(),
                };
                stored.grants.insert(gateway.to_owned(), kept);
                while stored.grants.len() > MAX_GRANTS {
                    stored.grants.pop_first();
                }
            }
            None => {
                stored.grants.remove(gateway);
            }
        }
        self.write(&stored)
    }

    fn read(&self) -> io::Result<Option<Stored>> {
        match fs::read_to_string(&self.file) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is damaged")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whole or not at all, and from its first byte on for its user alone.
    fn write(&self, stored: &Stored) -> io::Result<()> {
        let text = serde_json::to_vec(stored).map_err(io::Error::other)?;
        let folder = self.file.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(folder)?;
        let mut number = [0_u8; 8];
        getrandom::fill(&mut number).map_err(io::Error::other)?;
        let name = format!(".openclaw-device-{}", u64::from_ne_bytes(number));
        let draft = folder.join(name);
        let written = write_private(&draft, &text).and_then(|()| fs::rename(&draft, &self.file));
        if written.is_err() {
            // What could not be made whole is not left behind; the first error is the one to tell.
            drop(fs::remove_file(&draft));
        }
        written
    }
}

fn seed_of(stored: &Stored) -> io::Result<[u8; 32]> {
    let bytes = URL_SAFE_NO_PAD.decode(&stored.seed).unwrap_or_default();
    <[u8; 32]>::try_from(bytes.as_slice())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, BadKey))
}

/// A new file that only its user can read; on the disk when it returns.
pub(super) fn write_private(file: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::Write as _;

    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(file)?;
    file.write_all(text)?;
    file.sync_all()
}

/// Gateways remembered at once.
const MAX_GRANTS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stays_and_grants_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring::new(&folder.path().join("state"));
        assert_eq!(keyring.grant("ws://a").unwrap(), None);
        let id = keyring.key().unwrap().id().to_owned();
        let grant = Grant {
            token: Secret::new("given"),
            scopes: vec!["operator.read".into()],
        };
        keyring.keep("ws://a", Some(&grant)).unwrap();
        assert_eq!(keyring.grant("ws://a").unwrap(), Some(grant));
        assert_eq!(keyring.grant("ws://b").unwrap(), None);
        keyring.keep("ws://a", None).unwrap();
        assert_eq!(keyring.grant("ws://a").unwrap(), None);
        assert_eq!(keyring.key().unwrap().id(), id);
    }

    #[cfg(unix)]
    #[test]
    fn only_its_user_can_read_the_file() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let keyring = Keyring::new(folder.path());
        keyring.key().unwrap();
        let file = folder.path().join("openclaw-device.json");
        let mode = fs::metadata(file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 1, "nothing is left beside it");
    }

    #[test]
    fn a_damaged_file_is_an_error_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("openclaw-device.json");
        fs::write(&file, "{").unwrap();
        assert!(Keyring::new(folder.path()).key().is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "{");
    }

    #[test]
    fn nothing_of_the_key_is_printed() {
        let key = DeviceKey::from_seed(&[7; 32]).unwrap();
        let shown = format!("{key:?}");
        assert!(
            shown.contains(key.id()) && !shown.contains("pair"),
            "{shown}"
        );
    }
}
