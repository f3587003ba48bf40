//! The user's own agents, from a file. It names programs that are started as the user, so it
//! counts only where nobody else could have written it, and is never read from a workspace, where
//! agents write (decision 22).

mod parse;

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

pub(crate) use self::parse::{AgentKind, NamedAgent};
use self::parse::{WrongAgent, parse};

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AgentsFile {
    /// Where it was looked for; `None`: there is no home folder.
    pub(crate) path: Option<PathBuf>,
    /// Whether it was there.
    pub(crate) found: bool,
    /// The agents in the order of the file.
    pub(crate) agents: Vec<NamedAgent>,
}

/// Why the file cannot be used.
#[derive(Debug, Error)]
pub(crate) enum AgentsFileError {
    /// It was named and is not there.
    #[error("{path} does not exist")]
    Missing { path: PathBuf },
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Somebody else could have written it.
    #[error("{path} {what}")]
    NotTrusted { path: PathBuf, what: &'static str },
    /// Something in it is wrong.
    #[error("{path}, line {line}: {what}")]
    Wrong {
        path: PathBuf,
        line: usize,
        what: WrongAgent,
    },
}

impl AgentsFileError {
    /// What to do.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Missing { .. } => {
                "CTRLNODE_AGENTS_FILE names it; create it, or unset the variable"
            }
            Self::Unreadable { .. } => "it must be a file that you can read",
            Self::NotTrusted { .. } => {
                "it names programs to start, so only you may write it: `chmod go-w` the file and \
                 its folder, `chown` them to you"
            }
            Self::Wrong { .. } => "docs/operating.md describes the file",
        }
    }
}

/// Reads the file. `named` is the path the user gave; otherwise it is
/// `<home>/.ctrlnode/agents.toml`, which need not be there. `built_in` are names nobody may use.
pub(crate) fn load(
    named: Option<&Path>,
    home: Option<&Path>,
    built_in: &[&str],
) -> Result<AgentsFile, AgentsFileError> {
    let usual = home.map(|home| home.join(".ctrlnode").join("agents.toml"));
    let Some(path) = named.map(Path::to_owned).or(usual) else {
        return Ok(AgentsFile::default());
    };
    let text = match read(&path) {
        Ok(text) => text,
        Err(AgentsFileError::Missing { .. }) if named.is_none() => {
            return Ok(AgentsFile {
                path: Some(path),
                ..AgentsFile::default()
            });
        }
        Err(error) => return Err(error),
    };
    let agents = parse(&text, built_in).map_err(|(line, what)| AgentsFileError::Wrong {
        path: path.clone(),
        line,
        what,
    })?;
    Ok(AgentsFile {
        path: Some(path),
        found: true,
        agents,
    })
}

fn read(path: &Path) -> Result<String, AgentsFileError> {
    let unreadable = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            AgentsFileError::Missing {
                path: path.to_owned(),
            }
        } else {
            AgentsFileError::Unreadable {
                path: path.to_owned(),
                source,
            }
        }
    };
    let not_trusted = |what| AgentsFileError::NotTrusted {
        path: path.to_owned(),
        what,
    };
    // A pipe would be waited for.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if let Some(what) = written_by_others(&meta) {
        return Err(not_trusted(what));
    }
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        let meta = std::fs::metadata(folder).map_err(unreadable)?;
        if written_by_others(&meta).is_some() {
            return Err(not_trusted("lies in a folder that others can write"));
        }
    }
    let mut text = String::new();
    file.take(FILE_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(unreadable(io::Error::other("it is larger than 1 MiB")));
    }
    Ok(text)
}

/// Why a file or folder may be somebody else's work; root may do everything anyway.
#[cfg(unix)]
fn written_by_others(meta: &std::fs::Metadata) -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt as _;

    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        Some("belongs to somebody else")
    } else if meta.mode() & 0o022 != 0 {
        Some("can be written by others")
    } else {
        None
    }
}

#[cfg(not(unix))]
fn written_by_others(_meta: &std::fs::Metadata) -> Option<&'static str> {
    None
}

const FILE_BYTES: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT_IN: &[&str] = &["claude", "demo"];
    const ONE: &str = "[[agent]]\nname = \"mine\"\nprotocol = \"acp\"\ncommand = \"x\"\n";

    #[cfg(unix)]
    #[test]
    fn a_file_others_could_have_written_is_refused() {
        use std::{fs, os::unix::fs::PermissionsExt as _};

        let home = tempfile::TempDir::new().unwrap();
        let folder = home.path().join(".ctrlnode");
        let file = folder.join("agents.toml");
        let load = || load(None, Some(home.path()), BUILT_IN);
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert!(!load().unwrap().found, "it need not be there");
        fs::create_dir(&folder).unwrap();
        mode(&folder, 0o755);
        fs::write(&file, ONE).unwrap();
        mode(&file, 0o644);
        assert_eq!(load().unwrap().agents.len(), 1);
        for bad in [0o664, 0o646, 0o666] {
            mode(&file, bad);
            let error = load().unwrap_err();
            assert!(
                error.to_string().ends_with("can be written by others"),
                "{error}"
            );
            assert!(error.hint().contains("chmod"));
        }
        mode(&file, 0o600);
        mode(&folder, 0o777);
        let error = load().unwrap_err();
        assert!(error.to_string().contains("folder"), "{error}");
    }

    #[test]
    fn a_file_that_was_named_must_be_there_and_be_one() {
        let home = tempfile::TempDir::new().unwrap();
        let gone = home.path().join("gone.toml");
        let error = load(Some(&gone), None, BUILT_IN).unwrap_err();
        assert!(matches!(error, AgentsFileError::Missing { .. }), "{error}");
        let error = load(Some(home.path()), None, BUILT_IN).unwrap_err();
        assert!(
            matches!(error, AgentsFileError::Unreadable { .. }),
            "{error}"
        );
        assert_eq!(load(None, None, BUILT_IN).unwrap(), AgentsFile::default());
    }
}
