//! One daemon per workspace: a lock file that the system releases when its holder dies.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::sys;

/// Who holds a workspace, as written in its lock file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// When the process started, in the system's own unit; tells a reused id from the holder.
    pub started: Option<u64>,
}

impl Holder {
    fn me() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            started: sys::process_start(pid),
        }
    }

    /// Whether the process that wrote this still lives, given when the process that has its id
    /// now started (`None`: no such process).
    fn lives(&self, now_started: Option<u64>) -> bool {
        now_started.is_some() && self.started == now_started
    }
}

/// Who works in the workspace of this `CTRLNODE_ROOT` now, if anybody does and the system tells
/// when processes started. Only looks; takes and changes nothing.
pub fn holder(root: &Path) -> Option<Holder> {
    let mut text = Vec::new();
    let file = File::open(root.join(FILE)).ok()?;
    file.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    parse(&text).filter(|holder| holder.lives(sys::process_start(holder.pid)))
}

/// What came of trying to lock.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It is ours until dropped.
    Taken(Lock),
    /// Another process has it.
    Held(Option<Holder>),
}

/// The lock; dropping it, or dying, releases it.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
}

impl Lock {
    pub(crate) fn take(path: &Path) -> io::Result<Attempt> {
        match sys::take_lock(path) {
            Ok(Some(file)) => Self::sign(file),
            Ok(None) => Ok(Attempt::Held(
                std::fs::read(path).ok().and_then(|text| parse(&text)),
            )),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Self::take_by_name(path),
            Err(error) => Err(error),
        }
    }

    /// Where the file system knows no locks, the holder named in the file decides.
    fn take_by_name(path: &Path) -> io::Result<Attempt> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut text = Vec::new();
        (&file).take(MAX_BYTES).read_to_end(&mut text)?;
        match parse(&text) {
            Some(holder) if holder.lives(sys::process_start(holder.pid)) => {
                Ok(Attempt::Held(Some(holder)))
            }
            Some(_) | None => Self::sign(file),
        }
    }

    fn sign(mut file: File) -> io::Result<Attempt> {
        let text = serde_json::to_string(&Holder::me()).map_err(io::Error::other)?;
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        Ok(Attempt::Taken(Self { file }))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Err(error) = self.file.set_len(0) {
            tracing::debug!(%error, "the lock file keeps an old holder's name");
        }
        // Closing is not enough: a child that is between fork and exec still shares the handle.
        sys::release_lock(&self.file);
    }
}

fn parse(text: &[u8]) -> Option<Holder> {
    serde_json::from_slice(text).ok()
}

/// The lock file, below `CTRLNODE_ROOT`.
pub(crate) const FILE: &str = "bridge.lock";

/// More than a lock file ever holds.
const MAX_BYTES: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_process_id_is_not_the_holder() {
        let holder = Holder {
            pid: 7,
            started: Some(100),
        };
        assert!(holder.lives(Some(100)));
        assert!(!holder.lives(Some(101)));
        assert!(!holder.lives(None));
    }

    #[test]
    fn without_locks_a_dead_holder_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bridge.lock");
        std::fs::write(&path, r#"{"pid":4294967295,"started":1}"#).unwrap();
        let Attempt::Taken(lock) = Lock::take_by_name(&path).unwrap() else {
            panic!("a dead holder keeps the lock");
        };
        if sys::process_start(std::process::id()).is_some() {
            assert!(matches!(
                Lock::take_by_name(&path).unwrap(),
                Attempt::Held(Some(_))
            ));
        }
        drop(lock);
        assert!(matches!(
            Lock::take_by_name(&path).unwrap(),
            Attempt::Taken(_)
        ));
    }

    #[test]
    fn a_broken_lock_file_does_not_lock_anybody_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bridge.lock");
        std::fs::write(&path, b"\xff\xffnot json").unwrap();
        assert!(matches!(Lock::take(&path).unwrap(), Attempt::Taken(_)));
    }
}
