//! The control plane's list of models as it was last told, for the next start: one small file below
//! `CTRLNODE_ROOT`. What is in it is the daemon's affair.

use std::{fs::File, io::Read as _, path::Path};

use crate::{contained::ContainError, root::Workspace, task_dir::literal};

impl Workspace {
    /// Replaces the file, whole or not at all. It need not survive a power cut.
    pub fn write_model_manifest(&self, content: &[u8]) -> Result<(), ContainError> {
        self.root.replace(&literal(FILE), content, false)
    }
}

/// What was last written below this `CTRLNODE_ROOT`; `None` if that is nothing, or more than 1 MiB.
pub fn read(root: &Path) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let path = root.join(FILE);
    // A pipe in its place would be waited for.
    let file = path.is_file().then(|| File::open(path).ok())??;
    let read = file.take(MAX_BYTES + 1).read_to_end(&mut content).ok()?;
    (read as u64 <= MAX_BYTES).then_some(content)
}

const FILE: &str = "model-manifest.json";

/// A few times what fits into a manifest that is taken.
const MAX_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again_and_what_is_too_big_is_not() {
        let base = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(base.path(), None).unwrap();
        assert_eq!(read(workspace.root()), None);
        workspace.write_model_manifest(b"{}").unwrap();
        assert_eq!(read(workspace.root()).as_deref(), Some(&b"{}"[..]));
        let big = vec![b' '; 1024 * 1024 + 1];
        workspace.write_model_manifest(&big).unwrap();
        assert_eq!(read(workspace.root()), None);
    }
}
