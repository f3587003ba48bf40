//! Which files count, and which value wins. Pure over a view of the disk.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use bridge_proto::Secret;

use super::text::{Files, Look, parse};

/// The places that decide where files are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The user's home folder.
    pub home: Option<PathBuf>,
    /// The workspace: a flag, or `BASE_PATH` of the process environment. `None`: the one the first
    /// file names, else home.
    pub base: Option<PathBuf>,
    /// The current folder.
    pub current: PathBuf,
}

impl Places {
    /// A path as people write it: `~` is the home folder, where there is one.
    pub fn path(&self, text: &str) -> PathBuf {
        match (&self.home, Path::new(text).strip_prefix("~")) {
            (Some(home), Ok(below)) => home.join(below),
            (_, Ok(_) | Err(_)) => text.into(),
        }
    }
}

/// Which of the known places a file is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// `~/.ctrlnode/.env`; `setup` and `login` write here.
    Home,
    /// `<workspace>/.ctrlnode/.env`.
    Workspace,
    /// `./.env`.
    Current,
    /// `~/.env`.
    PlainHome,
}

impl Origin {
    /// Whether its `PAIRING_TOKEN`, `SAAS_URL` and `BASE_PATH` win over the process environment.
    pub fn overrides_environment(self) -> bool {
        match self {
            Self::Home => true,
            Self::Workspace | Self::Current | Self::PlainHome => false,
        }
    }

    /// Whether this program writes there itself, in this version or an earlier one.
    pub fn is_written_here(self) -> bool {
        match self {
            Self::Home | Self::Workspace => true,
            Self::Current | Self::PlainHome => false,
        }
    }

    /// Whether only its user writes there. A workspace and a current folder are where agents work,
    /// and the files of a project come from whoever wrote it.
    fn is_the_users_own(self) -> bool {
        match self {
            Self::Home | Self::PlainHome => true,
            Self::Workspace | Self::Current => false,
        }
    }
}

/// One file that is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// Where it is.
    pub path: PathBuf,
    /// In which of the known places.
    pub origin: Origin,
    values: Vec<(String, Secret)>,
}

impl EnvFile {
    /// The value of a key; the last line that sets it counts.
    pub fn get(&self, key: &str) -> Option<&Secret> {
        self.values
            .iter()
            .rev()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// All keys in order of their lines.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(key, _)| key.as_str())
    }
}

/// Something a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// A file that would be used cannot be read.
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Others can read the file, and it has a token.
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// Token and URL come from the `.env` of the current folder or of a workspace.
    FromProject {
        /// Which file.
        path: PathBuf,
    },
    /// Token and URL of this file are not used: it is not the user's, or others can write it.
    NotTrusted {
        /// Which file.
        path: PathBuf,
    },
    /// These keys of a file in a workspace or the current folder are not used: they would say what
    /// is started on this machine, what agents may do, or where prompts and keys are sent.
    NotHere {
        /// Which file.
        path: PathBuf,
        /// Which keys, in order of their lines.
        keys: Vec<String>,
    },
    /// The URL of this file is not used: the token does not come from it.
    UrlWithoutToken {
        /// Which file.
        path: PathBuf,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, reason } => {
                write!(f, "{} cannot be read: {reason}", path.display())
            }
            Self::Exposed { path } => write!(
                f,
                "{} holds a token and can be read by others: chmod 600 it",
                path.display()
            ),
            Self::FromProject { path } => {
                write!(
                    f,
                    "token and URL come from {}, where agents or the authors of a project may write",
                    path.display()
                )
            }
            Self::NotTrusted { path } => write!(
                f,
                "token and URL of {} are ignored: it must belong to you and be writable only by you",
                path.display()
            ),
            Self::NotHere { path, keys } => write!(
                f,
                "{} of {} ignored: what decides about programs, permissions or addresses counts in ~/.ctrlnode/.env only",
                keys.join(", "),
                path.display()
            ),
            Self::UrlWithoutToken { path } => {
                write!(
                    f,
                    "the URL of {} is ignored: the token does not come from it",
                    path.display()
                )
            }
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The files in use, the strongest first.
    pub files: Vec<EnvFile>,
    /// What a person should look at.
    pub warnings: Vec<Warning>,
    /// Everywhere that was looked, in order, and whether something was there.
    pub looked: Vec<(PathBuf, bool)>,
    /// Which of `files` gives token and URL.
    pairing: Option<usize>,
}

/// Token and URL of a control plane, from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairing {
    /// Its URL; `None`: the default.
    pub url: Option<String>,
    /// The token; `None`: not paired.
    pub token: Option<Secret>,
    /// The file the token comes from; `None`: the process environment, or there is none.
    pub file: Option<PathBuf>,
}

/// Finds the files that count. Pure over `files`.
pub fn discover(files: &dyn Files, places: &Places) -> Discovery {
    let mut found = Discovery::default();
    let canonical = places
        .home
        .as_ref()
        .map(|home| home.join(".ctrlnode").join(".env"));
    if let Some(path) = canonical.clone() {
        found.take(files, path, Origin::Home);
    }
    let named = found
        .files
        .first()
        .and_then(|file| file.get(BASE))
        .map(|base| places.path(base.expose()));
    if let Some(base) = places
        .base
        .clone()
        .or(named)
        .or_else(|| places.home.clone())
    {
        let path = base.join(".ctrlnode").join(".env");
        if canonical.as_ref() != Some(&path) {
            found.take(files, path, Origin::Workspace);
        }
    }
    if found.files.is_empty() {
        found.take(files, places.current.join(".env"), Origin::Current);
    }
    if found.files.is_empty()
        && let Some(home) = &places.home
        && *home != places.current
    {
        found.take(files, home.join(".env"), Origin::PlainHome);
    }
    found.choose_pairing();
    found
}

impl Discovery {
    /// The value of a key: `~/.ctrlnode/.env` wins over the process environment for `BASE_PATH`; for all other keys the environment wins over every file. Empty counts as
    /// unset. For token and URL ask [`Discovery::pairing`].
    pub fn value(&self, key: &str, environment: Option<&str>) -> Option<Secret> {
        let from_file = || {
            self.files.iter().find_map(|file| {
                let value = file.get(key).filter(|value| !value.is_empty())?;
                Some((file.origin, value.clone()))
            })
        };
        let environment = environment
            .map(Secret::new)
            .filter(|value| !value.is_empty());
        match (from_file(), environment) {
            (Some((origin, value)), _) if key == BASE && origin.overrides_environment() => {
                Some(value)
            }
            (_, Some(value)) => Some(value),
            (found, None) => found.map(|(_, value)| value),
        }
    }

    /// Token and URL. `~/.ctrlnode/.env` with a token wins over the process environment, the
    /// environment over the other files. The URL of a file is used only with its own token;
    /// where the file has none, the environment's is. Without any token the URL of
    /// `~/.ctrlnode/.env` counts.
    pub fn pairing(&self, token: Option<&str>, url: Option<&str>) -> Pairing {
        let token = token.map(Secret::new).filter(|token| !token.is_empty());
        let url = url
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .map(str::to_owned);
        let file = self.pairing.and_then(|index| self.files.get(index));
        match file {
            Some(file) if token.is_none() || file.origin.overrides_environment() => Pairing {
                url: set_value(file, URL)
                    .map(|url| url.expose().to_owned())
                    .or(url),
                token: set_value(file, TOKEN).cloned(),
                file: Some(file.path.clone()),
            },
            Some(_) | None => Pairing {
                // Of a machine that is not paired (any more) the user's own file says where it is
                // to be paired.
                url: url.or_else(|| self.own_url().filter(|_| token.is_none())),
                token,
                file: None,
            },
        }
    }

    /// The URL that the user's own file names.
    pub fn own_url(&self) -> Option<String> {
        let own = self.files.iter().find(|file| file.origin == Origin::Home)?;
        Some(set_value(own, URL)?.expose().to_owned())
    }

    fn take(&mut self, files: &dyn Files, path: PathBuf, origin: Origin) {
        let look = files.look(&path);
        self.looked.push((path.clone(), look != Look::Absent));
        match look {
            Look::Absent => {}
            Look::Unreadable(reason) => self.warnings.push(Warning::Unreadable { path, reason }),
            Look::File {
                text,
                mine,
                writable_by_others,
                readable_by_others,
            } => {
                let mut values = parse(&text);
                if !origin.is_the_users_own() {
                    let kept = |(key, _): &(String, Secret)| a_project_may_set(key);
                    let (kept, dropped) = values.into_iter().partition(kept);
                    values = kept;
                    let keys: Vec<String> = dropped
                        .into_iter()
                        .filter(|(key, _)| concerns_us(key))
                        .map(|(key, _)| key)
                        .collect();
                    if !keys.is_empty() {
                        let path = path.clone();
                        self.warnings.push(Warning::NotHere { path, keys });
                    }
                }
                let pairs = |key: &str| key == TOKEN || key == URL;
                let sets = values
                    .iter()
                    .any(|(key, value)| pairs(key) && !value.is_empty());
                let trusted = mine && !writable_by_others;
                if !origin.is_the_users_own() && sets && !trusted {
                    values.retain(|(key, _)| !pairs(key));
                    self.warnings
                        .push(Warning::NotTrusted { path: path.clone() });
                }
                let file = EnvFile {
                    path,
                    origin,
                    values,
                };
                if readable_by_others && set_value(&file, TOKEN).is_some() {
                    self.warnings.push(Warning::Exposed {
                        path: file.path.clone(),
                    });
                }
                self.files.push(file);
            }
        }
    }

    fn choose_pairing(&mut self) {
        self.pairing = self
            .files
            .iter()
            .position(|file| set_value(file, TOKEN).is_some());
        for (index, file) in self.files.iter().enumerate() {
            let path = file.path.clone();
            if self.pairing == Some(index) {
                if !file.origin.is_the_users_own() {
                    self.warnings.push(Warning::FromProject { path });
                }
            } else if set_value(file, URL).is_some()
                && (file.origin != Origin::Home || self.pairing.is_some())
            {
                self.warnings.push(Warning::UrlWithoutToken { path });
            }
        }
    }
}

/// Whether a key may come from a file that somebody else than the user may have written: the
/// pairing, which has rules of its own, and how long things last. Everything else says what is
/// started on this machine, what agents may do, where they work, whose account is used, or where
/// prompts and keys are sent.
fn a_project_may_set(key: &str) -> bool {
    [
        TOKEN,
        URL,
        "LOG_THINKING",
        "CTRLNODE_PARALLEL",
        "CTRLNODE_ASK_MINUTES",
        "CTRLNODE_MODEL_PATIENCE_SECONDS",
        "TASK_TIMEOUT_MINUTES",
        "HEARTBEAT_MS",
        "RECONNECT_MS",
        "CONNECTION_TIMEOUT_MS",
        "POLL_CONFIG_MS",
        "GRAPH_GENERATION_TIMEOUT_SECONDS",
    ]
    .contains(&key)
}

/// Whether a key is one of this program or its agents, and not of the project the file belongs to.
fn concerns_us(key: &str) -> bool {
    let names = [
        BASE,
        "ANTHROPIC_",
        "OPENAI_",
        "CURSOR_",
        "GEMINI_",
        "GOOGLE_",
        "COPILOT_",
        "CTRLNODE_",
        "CLAUDE_",
        "CODEX_",
        "HERMES_",
        "OPENCLAW_",
        "OPENROUTER_",
        "OLLAMA_",
        "SSL_CERT_FILE",
    ];
    names.iter().any(|name| key.starts_with(name))
}

fn set_value<'a>(file: &'a EnvFile, key: &str) -> Option<&'a Secret> {
    file.get(key).filter(|value| !value.is_empty())
}

const TOKEN: &str = "PAIRING_TOKEN";
const URL: &str = "SAAS_URL";
const BASE: &str = "BASE_PATH";
