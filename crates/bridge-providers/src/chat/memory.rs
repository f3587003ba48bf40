//! What is remembered of a conversation, so that another process can continue it: one file per
//! session, readable for the user alone, in a folder that is given; none without one.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::history::History;

/// The file of one session.
#[derive(Debug)]
pub(super) struct Memory {
    file: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    history: History,
}

impl Memory {
    /// Begins a session and gives it an id that no other has.
    pub(super) fn begin(folder: Option<&Path>) -> io::Result<(String, Self)> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let id = format!("chat-{:032x}", u128::from_ne_bytes(random));
        let memory = Self {
            file: folder.map(|folder| path_of(folder, &id)),
        };
        memory.save(&History::default())?;
        Ok((id, memory))
    }

    /// Finds a session again; `None` if there is none of this name, or nothing readable.
    pub(super) fn find(folder: &Path, id: &str) -> Option<(Self, History)> {
        let plain = id.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        if !plain || id.len() > 64 {
            return None;
        }
        let path = path_of(folder, id);
        let mut bytes = Vec::new();
        fs::File::open(&path)
            .ok()?
            .take(FILE_BYTES)
            .read_to_end(&mut bytes)
            .ok()?;
        let saved: Saved = serde_json::from_slice(&bytes).ok()?;
        (saved.version == VERSION).then_some((Self { file: Some(path) }, saved.history))
    }

    /// Remembers the whole of it: afterwards the old or the new state is there.
    pub(super) fn save(&self, history: &History) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        let saved = Saved {
            version: VERSION,
            history: history.clone(),
        };
        let text = serde_json::to_vec(&saved)?;
        let temporary = file.with_extension("tmp");
        let mut out = private(&temporary)?;
        out.write_all(&text)?;
        drop(out);
        fs::rename(&temporary, file)
    }
}

#[cfg(unix)]
fn private(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(not(unix))]
fn private(path: &Path) -> io::Result<fs::File> {
    fs::File::create(path)
}

fn path_of(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}.json"))
}

const VERSION: u32 = 1;
/// Histories are kept far below this.
const FILE_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::chat::history::Message;

    #[test]
    fn a_session_is_found_again_as_it_was() {
        let folder = TempDir::new().unwrap();
        let (id, memory) = Memory::begin(Some(folder.path())).unwrap();
        let mut history = History::default();
        history.push(Message::User { text: "hi".into() });
        memory.save(&history).unwrap();
        assert_eq!(Memory::find(folder.path(), &id).unwrap().1, history);
        let (other, _) = Memory::begin(Some(folder.path())).unwrap();
        assert_ne!(other, id);
        assert_eq!(Memory::begin(None).unwrap().1.file, None);
    }

    #[test]
    fn nothing_outside_the_folder_and_nothing_spoiled_is_a_session() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("bad.json"), "{").unwrap();
        fs::write(
            folder.path().join("old.json"),
            r#"{"version":0,"history":{"messages":[]}}"#,
        )
        .unwrap();
        for id in ["bad", "old", "gone", "../bad", "", "a/b", &"x".repeat(65)] {
            assert!(Memory::find(folder.path(), id).is_none(), "{id}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn others_cannot_read_it() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = TempDir::new().unwrap();
        let (id, _) = Memory::begin(Some(folder.path())).unwrap();
        let meta = fs::metadata(path_of(folder.path(), &id)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }
}
