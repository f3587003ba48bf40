//! What a running bridge tells other programs of this machine: one small file below
//! `CTRLNODE_ROOT`. What is in it is the daemon's affair.

use std::{fs::File, io::Read as _, path::Path};

use crate::{contained::ContainError, lock, root::Workspace, task_dir::literal};

impl Workspace {
    /// Replaces the file, whole or not at all. It need not survive a power cut.
    pub fn write_status(&self, content: &[u8]) -> Result<(), ContainError> {
        self.root.replace(&literal(FILE), content, false)
    }
}

/// What the bridge that works in this `CTRLNODE_ROOT` last wrote; `None` when none does, or it has
/// written nothing of at most 1 MiB.
pub fn read(root: &Path) -> Option<Vec<u8>> {
    lock::holder(root)?;
    let mut content = Vec::new();
    let file = File::open(root.join(FILE)).ok()?;
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut content).ok()?;
    (read as u64 <= MAX_BYTES).then_some(content)
}

const FILE: &str = "status.json";

/// Far more than the state of all agents there are.
const MAX_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_bridge_is_read_while_it_works_and_not_later() {
        let base = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(base.path(), None).unwrap();
        let root = workspace.root().to_owned();
        assert_eq!(read(&root), None);
        for content in [&b"{\"a\":1}"[..], b"{}"] {
            workspace.write_status(content).unwrap();
            assert_eq!(read(&root).as_deref(), Some(content));
        }
        drop(workspace);
        assert_eq!(read(&root), None);
    }
}
