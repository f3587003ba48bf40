//! The folder of `up` and `hub serve`: where the hub keeps its data, and the note by which
//! `ctrlnode task …` finds a running hub on this machine.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use bridge_proto::Secret;
use serde::{Deserialize, Serialize};

use crate::{
    invocation,
    reach::Reach,
    report::{Exit, Problem},
};

/// One state folder. Never holds or touches the pairing of this machine.
#[derive(Debug, Clone)]
pub(crate) struct StateFolder(PathBuf);

/// What a running hub leaves behind for the command line, readable by its user alone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Note {
    pub(crate) address: String,
    /// Under which origin others reach it, where one was named.
    #[serde(default)]
    pub(crate) public: Option<String>,
    pub(crate) token_id: String,
    token: String,
}

/// The pairing of the bridge that `up` starts with its own hub.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OwnPairing {
    pub(crate) id: String,
    token: String,
}

impl Note {
    pub(crate) fn new(reach: &Reach, token_id: String, token: &Secret) -> Self {
        Self {
            address: reach.local().to_owned(),
            public: reach.public().map(str::to_owned),
            token_id,
            token: token.expose().to_owned(),
        }
    }

    pub(crate) fn token(&self) -> Secret {
        Secret::new(&self.token)
    }
}

impl OwnPairing {
    pub(crate) fn new(id: String, token: &Secret) -> Self {
        Self {
            id,
            token: token.expose().to_owned(),
        }
    }

    pub(crate) fn token(&self) -> Secret {
        Secret::new(&self.token)
    }
}

impl StateFolder {
    /// The folder that was named, or the user's usual one.
    pub(crate) fn locate(named: Option<&Path>) -> Result<Self, Problem> {
        if let Some(folder) = named {
            return Ok(Self(folder.to_owned()));
        }
        let folder = usual().ok_or_else(|| {
            Problem::new("there is no home folder to keep the hub's data in")
                .hint("name a folder with --state")
                .exit(Exit::NotConfigured)
        })?;
        Ok(Self(folder.join(HUB)))
    }

    /// The hub's database.
    pub(crate) fn hub_data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// `CTRLNODE_ROOT` of the bridge that `up` starts.
    pub(crate) fn bridge_root(&self) -> PathBuf {
        self.0.join("bridge")
    }

    /// What nobody but its user may see: the folder, and what a hub keeps in it. Named one by one
    /// as well, because the root of a bridge may be this very folder, and that one is open.
    pub(crate) fn own_places(&self) -> Vec<PathBuf> {
        let data = self.hub_data();
        let files = [LOCK, NOTE, PAIRING].map(|name| self.0.join(name));
        [self.0.clone(), data].into_iter().chain(files).collect()
    }

    /// The note of a running hub, if one left it.
    pub(crate) fn note(&self) -> Option<Note> {
        let text = fs::read_to_string(self.0.join(NOTE)).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(crate) fn write_note(&self, note: &Note) -> Result<(), Problem> {
        self.write_private(NOTE, note)
    }

    /// Takes the note away, so that nobody looks for a hub that has ended.
    pub(crate) fn remove_note(&self) {
        if let Err(error) = fs::remove_file(self.0.join(NOTE)) {
            tracing::debug!(%error, "the hub's note was not there");
        }
    }

    pub(crate) fn own_pairing(&self) -> Option<OwnPairing> {
        let text = fs::read_to_string(self.0.join(PAIRING)).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(crate) fn write_own_pairing(&self, pairing: &OwnPairing) -> Result<(), Problem> {
        self.write_private(PAIRING, pairing)
    }

    /// Makes the folder, for its user alone.
    pub(crate) fn create(&self) -> Result<(), Problem> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder
            .create(&self.0)
            .map_err(|error| self.unwritable(error))
    }

    /// Makes the folder and takes it for one hub; the lock ends with the value or the process.
    pub(crate) fn lock(&self) -> Result<StateLock, Problem> {
        self.create()?;
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let file = options
            .open(self.0.join(LOCK))
            .map_err(|error| self.unwritable(error))?;
        #[cfg(unix)]
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| self.is_taken().because(error))?;
        Ok(StateLock { _file: file })
    }

    /// Another hub has the folder. Where it is, if it left word of that.
    fn is_taken(&self) -> Problem {
        let Some(note) = self.note() else {
            let folder = self.0.display();
            return Problem::new(format!("another hub uses the state folder {folder}"))
                .hint("stop it, or give this one a folder of its own with --state");
        };
        let elsewhere = usual().map(|usual| usual.join(HUB)) != Some(self.0.clone());
        let option = invocation::with_state(elsewhere.then_some(&*self.0));
        let hub = invocation::again("hub");
        let page = note.public.unwrap_or(note.address);
        Problem::new(format!("a hub runs here already, its page is at {page}")).hint(format!(
            "`{hub} login{option}` prints an address that logs you in; a second hub needs a folder of its own, named with --state"
        ))
    }

    /// Whole or not at all, readable by its user alone.
    fn write_private(&self, name: &str, value: &impl Serialize) -> Result<(), Problem> {
        self.create()?;
        let text = serde_json::to_vec_pretty(value)
            .map_err(|error| Problem::new("a state file cannot be written").because(error))?;
        let mut file =
            tempfile::NamedTempFile::new_in(&self.0).map_err(|error| self.unwritable(error))?;
        file.write_all(&text)
            .map_err(|error| self.unwritable(error))?;
        file.persist(self.0.join(name))
            .map_err(|error| self.unwritable(error.error))?;
        Ok(())
    }

    fn unwritable(&self, error: std::io::Error) -> Problem {
        Problem::new(format!(
            "the state folder {} cannot be written",
            self.0.display()
        ))
        .hint("name another one with --state")
        .because(error)
    }
}

/// Where adapters of agents keep what makes this machine known to them, whichever hub or plane it
/// works for: the user's usual folder, or one below the workspace where there is no home.
pub(crate) fn of_agents(workspace: &Path) -> PathBuf {
    let folder = usual().unwrap_or_else(|| workspace.join(".ctrlnode"));
    folder.join("agents")
}

/// The user's usual folder for what is kept between starts.
pub(crate) fn usual() -> Option<PathBuf> {
    let project = directories::ProjectDirs::from("", "", "ctrlnode")?;
    let folder = project
        .state_dir()
        .unwrap_or_else(|| project.data_local_dir());
    Some(folder.to_owned())
}

/// A state folder that is taken.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: fs::File,
}

/// In the user's usual folder.
const HUB: &str = "hub";
const LOCK: &str = "hub.lock";
const NOTE: &str = "hub.json";
const PAIRING: &str = "pairing.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_private_and_comes_back() {
        let home = tempfile::tempdir().unwrap();
        let state = StateFolder::locate(Some(&home.path().join("s"))).unwrap();
        assert!(state.note().is_none());
        let note = Note::new(
            &Reach::new("http://127.0.0.1:1", None),
            "id".into(),
            &Secret::new("t"),
        );
        state.write_note(&note).unwrap();
        assert_eq!(state.note().unwrap().token(), Secret::new("t"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(state.0.join(NOTE))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        state.remove_note();
        assert!(state.note().is_none());
    }
}
