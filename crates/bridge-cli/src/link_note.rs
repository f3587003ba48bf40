//! What a running bridge leaves in its root for `doctor`: how its connection is. A second
//! connection with the same token would take the bridge off its plane, so `doctor` reads this.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bridge_transport::{LinkState, Phase};
use bridge_workspace::lock::Holder;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// How the connection of a bridge is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinkNote {
    /// Who wrote it.
    pid: u32,
    pub(crate) connection: Connection,
    /// Why the last try failed.
    pub(crate) error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Connection {
    /// Nothing is known yet.
    Connecting,
    Online,
    /// It is open, and nothing was heard for too long to say that it works.
    Doubtful,
    /// The last try failed; there will be another one.
    Failed,
    TokenRefused,
}

impl LinkNote {
    /// The note of the bridge that holds this root now; one that another process left is ignored.
    pub(crate) fn of(root: &Path, holder: &Holder) -> Option<Self> {
        let text = fs::read(root.join(FILE)).ok()?;
        let note: Self = serde_json::from_slice(&text).ok()?;
        (note.pid == holder.pid).then_some(note)
    }

    fn about(state: &LinkState) -> Option<Self> {
        let connection = match state.phase {
            Phase::Online => Connection::Online,
            Phase::Doubtful => Connection::Doubtful,
            Phase::AuthRequired => Connection::TokenRefused,
            Phase::Waiting => Connection::Failed,
            Phase::Dialing if state.last_error.is_some() => Connection::Failed,
            Phase::Dialing => Connection::Connecting,
            Phase::Draining | Phase::Stopped => return None,
        };
        let error = state.last_error.clone();
        Some(Self {
            pid: std::process::id(),
            connection,
            error: error.filter(|_| connection != Connection::Online),
        })
    }

    /// Whole or not at all, readable by its user alone.
    fn write(&self, root: &Path) -> io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(root)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.persist(root.join(FILE))?;
        Ok(())
    }
}

/// Keeps the note true while the link lives.
pub(crate) async fn keep(root: PathBuf, mut state: watch::Receiver<LinkState>) {
    let mut before = None;
    loop {
        let now = LinkNote::about(&state.borrow_and_update());
        if let Some(note) = &now
            && now != before
            && let Err(error) = note.write(&root)
        {
            tracing::debug!(%error, "the note for `doctor` could not be written");
        }
        before = now;
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Takes the note away at the end.
pub(crate) fn remove(root: &Path) {
    if let Err(error) = fs::remove_file(root.join(FILE)) {
        tracing::debug!(%error, "the note for `doctor` was not there");
    }
}

const FILE: &str = "link.json";

#[cfg(test)]
mod tests {
    use super::*;

    fn note(pid: u32) -> LinkNote {
        LinkNote {
            pid,
            connection: Connection::Failed,
            error: Some("refused".into()),
        }
    }

    #[test]
    fn a_note_counts_only_while_the_process_that_wrote_it_holds_the_root() {
        let root = tempfile::tempdir().unwrap();
        let holder = |pid| Holder { pid, started: None };
        assert_eq!(LinkNote::of(root.path(), &holder(7)), None);
        note(7).write(root.path()).unwrap();
        assert_eq!(LinkNote::of(root.path(), &holder(7)), Some(note(7)));
        assert_eq!(LinkNote::of(root.path(), &holder(8)), None);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let file = fs::metadata(root.path().join(FILE)).unwrap();
            assert_eq!(file.permissions().mode() & 0o777, 0o600);
        }
        remove(root.path());
        assert_eq!(LinkNote::of(root.path(), &holder(7)), None);
    }
}
