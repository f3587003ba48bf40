//! Environment files: where they are looked for, what is taken from which, and how one is changed
//! without losing a line.
//!
//! Looked at in this order: `~/.ctrlnode/.env` and `<workspace>/.ctrlnode/.env`, both when both
//! exist; only when neither does, `./.env`, else `~/.env`. The first file that sets a key wins.
//! The pairing token and the URL are taken together from the first file that has a token. A
//! `./.env` may come with somebody's project: its token and URL count only when the file belongs
//! to the user and nobody else can write it, and then with a warning.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use bridge_proto::Secret;
use thiserror::Error;

use crate::sys;

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

/// A view of the disk, so that discovery itself touches none.
pub trait Files {
    /// Looks at one file.
    fn look(&self, path: &Path) -> Look;
}

/// What is at a path.
#[derive(Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Absent,
    /// Something that cannot be read, and why.
    Unreadable(String),
    /// A file.
    File {
        /// Its content.
        text: String,
        /// It belongs to the user of this process.
        mine: bool,
        /// Group or others may write it.
        writable_by_others: bool,
        /// Group or others may read it.
        readable_by_others: bool,
    },
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Unreadable(_) => "Unreadable",
            Self::File { .. } => "File(***)",
        })
    }
}

/// The real disk. Links are followed; owner and permissions are those of the file itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn look(&self, path: &Path) -> Look {
        match read_file(path) {
            Ok((text, ownership)) => Look::File {
                text,
                mine: ownership.mine,
                writable_by_others: ownership.writable_by_others,
                readable_by_others: ownership.readable_by_others,
            },
            Err(error) if is_absent(&error) => Look::Absent,
            Err(error) => Look::Unreadable(error.to_string()),
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
            Self::Home | Self::Workspace => true,
            Self::Current | Self::PlainHome => false,
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
    /// Token and URL come from the `.env` of the current folder.
    FromCurrentFolder {
        /// Which file.
        path: PathBuf,
    },
    /// Token and URL of this file are not used: it is not the user's, or others can write it.
    NotTrusted {
        /// Which file.
        path: PathBuf,
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
            Self::FromCurrentFolder { path } => {
                write!(
                    f,
                    "token and URL come from {} of the current folder",
                    path.display()
                )
            }
            Self::NotTrusted { path } => write!(
                f,
                "token and URL of {} are ignored: it must belong to you and be writable only by you",
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
        .map(|base| base.expose().into());
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
    /// The value of a key: a file in `.ctrlnode` wins over the process environment for
    /// `BASE_PATH`; for all other keys the environment wins over every file. Empty counts as
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

    /// Token and URL. A file in `.ctrlnode` that has a token wins over the process environment,
    /// the environment over the other files. The URL of a file is used only with its own token;
    /// where the file has none, the environment's is.
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
                url,
                token,
                file: None,
            },
        }
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
                let pairs = |key: &str| key == TOKEN || key == URL;
                let sets = values
                    .iter()
                    .any(|(key, value)| pairs(key) && !value.is_empty());
                let trusted = mine && !writable_by_others;
                if origin == Origin::Current && sets && !trusted {
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
                if file.origin == Origin::Current {
                    self.warnings.push(Warning::FromCurrentFolder { path });
                }
            } else if set_value(file, URL).is_some() {
                self.warnings.push(Warning::UrlWithoutToken { path });
            }
        }
    }
}

fn set_value<'a>(file: &'a EnvFile, key: &str) -> Option<&'a Secret> {
    file.get(key).filter(|value| !value.is_empty())
}

/// Reads `KEY=VALUE` lines. Blank lines, lines that start with `#` and lines without `=` are
/// skipped; key and value are trimmed; one pair of matching quotes around the value is removed.
pub fn parse(text: &str) -> Vec<(String, Secret)> {
    text.trim_start_matches('\u{feff}')
        .lines()
        .filter_map(split_line)
        .map(|(key, value)| (key.to_owned(), Secret::new(value)))
        .collect()
}

fn split_line(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let unquoted = ['"', '\''].iter().find_map(|quote| {
        value
            .strip_prefix(*quote)
            .and_then(|value| value.strip_suffix(*quote))
    });
    (!key.is_empty()).then(|| (key, unquoted.unwrap_or(value)))
}

/// Why an environment file was not changed. The old content is untouched.
#[derive(Debug, Error)]
pub enum SetError {
    /// The key is not of the form `[A-Z_][A-Z0-9_]*`.
    #[error("{key:?} is no name of a variable")]
    Key {
        /// The key.
        key: String,
    },
    /// The value has more than one line, or a control character.
    #[error("the value of {key} has a control character")]
    Value {
        /// The key.
        key: String,
    },
    /// The file or its folder is a symbolic link; none is followed.
    #[error("{path} is a symbolic link")]
    Link {
        /// Which path.
        path: PathBuf,
    },
    /// The file or its folder cannot be used.
    #[error("{path} cannot be changed")]
    Io {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Sets keys in the file and creates it when missing. An empty value leaves the old one. All other
/// lines stay as they are. Afterwards the file can be read by the user alone, and holds either the
/// old or the new content whatever happens meanwhile.
pub fn set(path: &Path, values: &[(&str, &str)]) -> Result<(), SetError> {
    for (key, value) in values {
        check(key, value)?;
    }
    let io = |source| SetError::Io {
        path: path.to_owned(),
        source,
    };
    let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Err(io(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the path has no folder",
        )));
    };
    for path in [folder, path] {
        if path.is_symlink() {
            return Err(SetError::Link {
                path: path.to_owned(),
            });
        }
    }
    sys::create_private_dirs(folder).map_err(io)?;
    let old = match read_file(path) {
        Ok((text, _)) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(io(error)),
    };
    // A new temporary file can be read by the user alone, and keeps that when renamed.
    let mut file = tempfile::Builder::new()
        .prefix(".env.")
        .tempfile_in(folder)
        .map_err(io)?;
    file.write_all(merge(&old, values).as_bytes()).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    sync_folder(folder).map_err(io)
}

fn check(key: &str, value: &str) -> Result<(), SetError> {
    let starts = key
        .bytes()
        .next()
        .is_some_and(|b| b.is_ascii_uppercase() || b == b'_');
    let fits = key
        .bytes()
        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if !(starts && fits) {
        return Err(SetError::Key {
            key: key.chars().take(80).collect(),
        });
    }
    if value.chars().any(char::is_control) {
        return Err(SetError::Value {
            key: key.to_owned(),
        });
    }
    Ok(())
}

/// The new content: each key's last line is replaced in its place, its earlier lines go, new keys
/// come at the end, everything else stays to the byte.
fn merge(old: &str, values: &[(&str, &str)]) -> String {
    let mut lines: Vec<Option<String>> = old
        .split_inclusive('\n')
        .map(|line| Some(line.to_owned()))
        .collect();
    for (key, value) in values.iter().filter(|(_, value)| !value.trim().is_empty()) {
        let mut line = Some(format!("{key}={}\n", quoted(value.trim())));
        for slot in lines.iter_mut().rev() {
            let same = slot
                .as_deref()
                .and_then(split_line)
                .is_some_and(|(name, _)| name == *key);
            if same {
                *slot = line.take();
            }
        }
        if let Some(line) = line {
            if let Some(last) = lines.iter_mut().rev().find_map(Option::as_mut)
                && !last.ends_with('\n')
            {
                last.push('\n');
            }
            lines.push(Some(line));
        }
    }
    lines.into_iter().flatten().collect()
}

/// A value that would lose its own quotes gets another pair.
fn quoted(value: &str) -> String {
    let own = |quote| value.len() >= 2 && value.starts_with(quote) && value.ends_with(quote);
    if own('"') || own('\'') {
        format!("\"{value}\"")
    } else {
        value.to_owned()
    }
}

fn read_file(path: &Path) -> io::Result<(String, sys::Ownership)> {
    // Metadata first: opening a pipe would wait for its writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let file = File::open(path)?;
    let ownership = sys::ownership(&file)?;
    let mut text = String::new();
    if file.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64 > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 1 MiB",
        ));
    }
    Ok((text, ownership))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

const TOKEN: &str = "PAIRING_TOKEN";
const URL: &str = "SAAS_URL";
const BASE: &str = "BASE_PATH";

/// Far more than settings ever need.
const MAX_BYTES: u64 = 1024 * 1024;
