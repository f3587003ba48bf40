//! What may be read, written, listed and worked in: protected places (never), the contents policy
//! (what may leave this machine) and the bridge's own files. Pure: real absolute paths in, a
//! verdict out.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which file contents may leave this machine. Streamed answer text is not file content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentsPolicy {
    /// None; nothing is listed either.
    Never,
    /// Only those of the task folders, with their `input/`, `output/` and logs.
    #[default]
    TaskOutputs,
    /// All below `BASE_PATH` but the protected places.
    Workspace,
}

impl ContentsPolicy {
    /// As written in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::TaskOutputs => "task-outputs",
            Self::Workspace => "workspace",
        }
    }
}

impl fmt::Display for ContentsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no contents policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is none of never, task-outputs, workspace")]
pub struct UnknownPolicy(pub String);

impl FromStr for ContentsPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        [Self::Never, Self::TaskOutputs, Self::Workspace]
            .into_iter()
            .find(|policy| policy.as_str().eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| UnknownPolicy(text.chars().take(40).collect()))
    }
}

/// Why a place is kept from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Kept {
    /// Neither in `BASE_PATH` nor in `CTRLNODE_ROOT`.
    #[error("it lies outside of the workspace")]
    Outside,
    /// Keys, logins, browser profiles, and for writes what would run by itself.
    #[error("it is a protected place ({0})")]
    Protected(&'static str),
    /// Files of the bridge itself.
    #[error("it belongs to the bridge itself")]
    Internal,
    /// The contents policy.
    #[error("the contents policy {0} keeps it")]
    Policy(ContentsPolicy),
}

/// Decides by real, absolute paths (links resolved).
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) base: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) policy: ContentsPolicy,
}

impl Guard {
    /// May the content of this file leave the machine?
    pub(crate) fn may_leave(&self, path: &Path) -> Result<(), Kept> {
        let place = self.place(path)?;
        protected(path, READ)?;
        match self.policy {
            ContentsPolicy::Never => Err(Kept::Policy(self.policy)),
            ContentsPolicy::TaskOutputs if !place.is_task_file() => Err(Kept::Policy(self.policy)),
            ContentsPolicy::TaskOutputs | ContentsPolicy::Workspace => place.not_internal(),
        }
    }

    /// May its name appear in a listing? Folders on the way to what may leave are shown.
    pub(crate) fn may_list(&self, path: &Path, is_dir: bool) -> bool {
        if self.may_leave(path).is_ok() {
            return true;
        }
        let on_the_way = match self.place(path) {
            Ok(Place::Root(rest)) => rest.is_empty() || rest == ["tasks"],
            Ok(Place::Base) => self.root.starts_with(path),
            Err(_) => false,
        };
        is_dir && on_the_way && self.policy != ContentsPolicy::Never
    }

    /// May the other side create or change this file?
    pub(crate) fn may_write(&self, path: &Path) -> Result<(), Kept> {
        let place = self.place(path)?;
        protected(path, READ)?;
        protected(path, WRITE)?;
        match place {
            Place::Root(rest) if rest.len() < 2 => Err(Kept::Internal),
            Place::Root(_) => place.not_internal(),
            Place::Base if self.policy == ContentsPolicy::Workspace => Ok(()),
            Place::Base => Err(Kept::Policy(self.policy)),
        }
    }

    /// May an agent be started in this folder?
    pub(crate) fn may_work_in(&self, path: &Path) -> Result<(), Kept> {
        match self.place(path)? {
            // The root may hold the base when the state is kept elsewhere.
            Place::Root(_) if !self.base.starts_with(&self.root) => return Err(Kept::Internal),
            Place::Root(_) | Place::Base => {}
        }
        if !path.starts_with(&self.base) {
            return Err(Kept::Outside);
        }
        protected(path, READ)?;
        // Not all of WRITE: agents keep work trees of their own below their settings.
        protected(path, &[(".git", "git internals")])
    }

    /// May the objects of a repository be here? They are read to be shown.
    pub(crate) fn may_hold_objects(&self, path: &Path) -> Result<(), Kept> {
        match self.place(path)? {
            Place::Root(_) if !self.base.starts_with(&self.root) => return Err(Kept::Internal),
            Place::Root(_) | Place::Base => {}
        }
        if !path.starts_with(&self.base) {
            return Err(Kept::Outside);
        }
        protected(path, READ)
    }

    /// What a protected place is, if it is one.
    pub(crate) fn protects(path: &Path) -> Option<&'static str> {
        match protected(path, READ) {
            Err(Kept::Protected(what)) => Some(what),
            Ok(()) | Err(Kept::Outside | Kept::Internal | Kept::Policy(_)) => None,
        }
    }

    /// May this path below `CTRLNODE_ROOT` be a task folder?
    pub(crate) fn may_be_task_folder(parts: &[String]) -> Result<(), Kept> {
        let parts: Vec<String> = parts.iter().map(|part| part.to_ascii_lowercase()).collect();
        if parts.len() < 2 {
            return Err(Kept::Internal);
        }
        Place::Root(parts).not_internal()
    }

    fn place(&self, path: &Path) -> Result<Place, Kept> {
        if let Ok(rest) = path.strip_prefix(&self.root) {
            return Ok(Place::Root(lower(rest)));
        }
        if path.starts_with(&self.base) {
            Ok(Place::Base)
        } else {
            Err(Kept::Outside)
        }
    }
}

enum Place {
    /// Below `CTRLNODE_ROOT`, with the components in lower case.
    Root(Vec<String>),
    /// Elsewhere below `BASE_PATH`.
    Base,
}

impl Place {
    fn is_task_file(&self) -> bool {
        match self {
            Self::Root(rest) => {
                let deliveries = || {
                    rest.iter()
                        .skip(1)
                        .any(|part| part == "input" || part == "output")
                };
                rest.len() >= 2 && (rest[0] == "tasks" || deliveries())
            }
            Self::Base => false,
        }
    }

    fn not_internal(&self) -> Result<(), Kept> {
        match self {
            Self::Root(rest) => match rest.first() {
                Some(first) if first.starts_with('.') || INTERNAL.contains(&first.as_str()) => {
                    Err(Kept::Internal)
                }
                // Agents keep their conversations in it, and with them any file they have read.
                Some(_) if rest.iter().any(|part| part == TEMP) => Err(Kept::Internal),
                Some(_) | None => Ok(()),
            },
            Self::Base => Ok(()),
        }
    }
}

fn lower(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_string_lossy().to_ascii_lowercase()),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => None,
        })
        .collect()
}

/// Whole components in a row, anywhere in the path, without regard to case.
fn protected(path: &Path, rules: &[(&str, &'static str)]) -> Result<(), Kept> {
    let parts = lower(path);
    for (places, what) in rules {
        let wanted: Vec<&str> = places.split('/').collect();
        if parts.windows(wanted.len()).any(|window| window == wanted) {
            return Err(Kept::Protected(what));
        }
    }
    let extension = parts
        .last()
        .and_then(|name| name.rsplit_once('.'))
        .map(|(_, last)| last);
    match extension {
        Some(extension) if KEY_FILES.contains(&extension) => Err(Kept::Protected("a key store")),
        Some(_) | None => Ok(()),
    }
}

/// The folder for temporary files of an agent, in each task folder.
pub(crate) const TEMP: &str = ".tmp";

/// Entries of `CTRLNODE_ROOT` that are the bridge's own.
const INTERNAL: &[&str] = &[
    "bridge.lock",
    "cli-token",
    "hub",
    "hub.db",
    "hub.db-shm",
    "hub.db-wal",
    "journal",
    "spool",
];

/// Extensions of key stores.
const KEY_FILES: &[&str] = &["jks", "kdbx", "keystore", "p12", "pfx"];

/// Never read, never written, never worked in. Lower case.
const READ: &[(&str, &str)] = &[
    (".ssh", "keys of ssh"),
    ("id_rsa", "keys of ssh"),
    ("id_ed25519", "keys of ssh"),
    ("id_ecdsa", "keys of ssh"),
    ("id_dsa", "keys of ssh"),
    (".gnupg", "keys of gpg"),
    (".aws", "a cloud login"),
    (".azure", "a cloud login"),
    (".config/gcloud", "a cloud login"),
    (".config/gh", "a login"),
    (".config/github-copilot", "a login"),
    (".kube", "a cluster login"),
    (".docker/config.json", "a login"),
    (".netrc", "logins"),
    ("_netrc", "logins"),
    (".git-credentials", "logins"),
    (".pypirc", "a login"),
    (".npmrc", "a login"),
    (".pgpass", "a database login"),
    (".my.cnf", "a database login"),
    (".vault-token", "a login"),
    (".config/rclone", "a cloud login"),
    (".terraform.d/credentials.tfrc.json", "a cloud login"),
    (".m2/settings.xml", "a login"),
    (".cargo/credentials", "a login"),
    (".cargo/credentials.toml", "a login"),
    (".password-store", "passwords"),
    (".local/share/keyrings", "a key store"),
    (".local/share/kwalletd", "a key store"),
    (".pki", "a key store"),
    ("library/keychains", "a key store"),
    ("appdata/local/microsoft/credentials", "a key store"),
    ("appdata/roaming/microsoft/credentials", "a key store"),
    ("appdata/roaming/microsoft/protect", "a key store"),
    (".mozilla", "a browser profile"),
    (".thunderbird", "a mail profile"),
    (".config/google-chrome", "a browser profile"),
    (".config/chromium", "a browser profile"),
    (".config/bravesoftware", "a browser profile"),
    (".config/microsoft-edge", "a browser profile"),
    (".config/vivaldi", "a browser profile"),
    (".config/opera", "a browser profile"),
    ("library/safari", "a browser profile"),
    ("library/cookies", "a browser profile"),
    (
        "library/application support/google/chrome",
        "a browser profile",
    ),
    ("library/application support/firefox", "a browser profile"),
    (
        "library/application support/bravesoftware",
        "a browser profile",
    ),
    (
        "library/application support/microsoft edge",
        "a browser profile",
    ),
    ("appdata/local/google/chrome/user data", "a browser profile"),
    (
        "appdata/local/microsoft/edge/user data",
        "a browser profile",
    ),
    ("appdata/roaming/mozilla", "a browser profile"),
    (".ctrlnode/.env", "the pairing token"),
    (".claude/.credentials.json", "an agent's login"),
    (".claude.json", "an agent's login"),
    (".codex/auth.json", "an agent's login"),
    (".gemini/oauth_creds.json", "an agent's login"),
    (".gemini/google_accounts.json", "an agent's login"),
    (".gemini/.env", "an agent's login"),
    (".copilot/config.json", "an agent's login"),
    (".config/cursor/auth.json", "an agent's login"),
    (".local/share/opencode/auth.json", "an agent's login"),
    (".hermes/.env", "an agent's login"),
    (".hermes/auth.json", "an agent's login"),
    (".openclaw/openclaw.json", "an agent's login"),
    (".openclaw/credentials", "an agent's login"),
];

/// Read when the policy allows, never written: what runs by itself later. Lower case.
const WRITE: &[(&str, &str)] = &[
    (".ctrlnode/rules.toml", "the rules of this machine"),
    (".git", "git internals"),
    (".gitconfig", "git settings"),
    (".config/git", "git settings"),
    (".bashrc", "a shell start file"),
    (".bash_profile", "a shell start file"),
    (".bash_login", "a shell start file"),
    (".bash_logout", "a shell start file"),
    (".profile", "a shell start file"),
    (".zshrc", "a shell start file"),
    (".zshenv", "a shell start file"),
    (".zprofile", "a shell start file"),
    (".zlogin", "a shell start file"),
    (".config/fish", "a shell start file"),
    (".config/autostart", "an autostart folder"),
    (".config/systemd", "an autostart folder"),
    ("library/launchagents", "an autostart folder"),
    ("start menu/programs/startup", "an autostart folder"),
    (".claude", "agent settings"),
    (".codex", "agent settings"),
    (".gemini", "agent settings"),
    (".copilot", "agent settings"),
    (".cursor", "agent settings"),
    (".opencode", "agent settings"),
    (".config/opencode", "agent settings"),
    (".hermes", "agent settings"),
    (".openclaw", "agent settings"),
];
