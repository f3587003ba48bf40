//! Runs at work, written down before they begin. Killing a bridge does not stop what works at the
//! gateway, and no process carries its marker; the next bridge finds it here (decision 14).
//!
//! Every entry is a file that its bridge holds locked. A lock ends with its process, so an entry
//! that can be locked is one that nobody looks after. Where there are no such locks nothing is
//! found.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bridge_proto::Digest;
use serde::{Deserialize, Serialize};

use super::dialogue::Work;

/// The folder of entries.
#[derive(Debug, Clone)]
pub(super) struct Logbook {
    folder: PathBuf,
}

/// One run that is looked after. Dropping it leaves the file for others to find.
#[derive(Debug)]
pub(super) struct Entry {
    path: PathBuf,
    _lock: fs::File,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    gateway: String,
    session: String,
    run: String,
}

impl Logbook {
    pub(super) fn new(state: &Path) -> Self {
        Self {
            folder: state.join("openclaw-runs"),
        }
    }

    /// Writes a run down.
    pub(super) fn enter(&self, gateway: &str, work: &Work) -> io::Result<Entry> {
        fs::create_dir_all(&self.folder)?;
        let name = Digest::of(&[gateway, &work.session, &work.run]);
        let path = self.folder.join(format!("{}.json", name.as_str()));
        let mut options = fs::OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        if let Err(error) = lock(&file) {
            fs::remove_file(&path)?;
            return Err(error);
        }
        let stored = Stored {
            gateway: gateway.to_owned(),
            session: work.session.clone(),
            run: work.run.clone(),
        };
        let text = serde_json::to_vec(&stored).map_err(io::Error::other)?;
        fs::write(&path, text)?;
        Ok(Entry { path, _lock: file })
    }

    /// The runs at this gateway that nobody looks after any more; from now on the caller does.
    pub(super) fn strays(&self, gateway: &str) -> Vec<(Work, Entry)> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let paths = entries.flatten().map(|entry| entry.path());
        paths
            .take(MAX_ENTRIES)
            .filter_map(|path| stray(path, gateway))
            .collect()
    }
}

impl Entry {
    /// The run is over.
    pub(super) fn strike(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn stray(path: PathBuf, gateway: &str) -> Option<(Work, Entry)> {
    let file = fs::OpenOptions::new().write(true).open(&path).ok()?;
    lock(&file).ok()?;
    let text = fs::read_to_string(&path).ok()?;
    let stored: Stored = serde_json::from_str(&text).ok()?;
    let entry = Entry { path, _lock: file };
    let work = Work {
        session: stored.session,
        run: stored.run,
    };
    (stored.gateway == gateway).then_some((work, entry))
}

/// Locks the file for this process, or fails at once.
#[cfg(unix)]
fn lock(file: &fs::File) -> io::Result<()> {
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    Ok(rustix::fs::flock(file, exclusive)?)
}

/// There is nothing to find without locks, so nothing is locked.
#[cfg(not(unix))]
fn lock(_: &fs::File) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Most entries looked at.
const MAX_ENTRIES: usize = 1000;

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn work(run: &str) -> Work {
        Work {
            session: "agent:main:task:t".into(),
            run: run.into(),
        }
    }

    #[test]
    fn what_is_looked_after_is_no_stray_and_what_was_left_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let logbook = Logbook::new(folder.path());
        assert!(logbook.strays("ws://a").is_empty());
        let held = logbook.enter("ws://a", &work("held")).unwrap();
        // What a killed process leaves: the file without its lock.
        drop(logbook.enter("ws://a", &work("left")).unwrap());
        drop(logbook.enter("ws://b", &work("elsewhere")).unwrap());
        let mut strays = logbook.strays("ws://a");
        assert_eq!(strays.len(), 1, "{strays:?}");
        let (found, entry) = strays.remove(0);
        assert_eq!(found, work("left"));
        assert!(logbook.strays("ws://a").is_empty(), "somebody has it");
        entry.strike().unwrap();
        held.strike().unwrap();
        assert_eq!(logbook.strays("ws://b").len(), 1);
    }

    #[test]
    fn damaged_entries_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let logbook = Logbook::new(folder.path());
        let own = folder.path().join("openclaw-runs");
        fs::create_dir(&own).unwrap();
        for (name, text) in [("a.json", ""), ("b.json", "{"), ("c.json", "[1]")] {
            fs::write(own.join(name), text).unwrap();
        }
        assert!(logbook.strays("ws://a").is_empty());
    }
}
