//! What tests of the place and of files in it begin with.

use tempfile::TempDir;

use super::{place::Place, tools::Deed};

/// An empty place, while its folder is held.
pub(super) fn place() -> (TempDir, Place) {
    let folder = TempDir::new().expect("a place for temporary files");
    let place = Place::open(folder.path(), &[]).expect("a folder that is there");
    (folder, place)
}

/// A file to be written.
pub(super) fn write(path: &str, content: &str) -> Deed {
    Deed::Write {
        path: path.into(),
        content: content.into(),
    }
}
