//! Paths proven to stay beneath an open folder: parsed into components, then resolved from the
//! folder's handle. No text is ever compared with a prefix.
//!
//! Two steps, two types. [`ContainedPath`] is the text, parsed: it has no way up and no root of its
//! own. [`Folder`] is an open directory: [`Folder::resolve`] follows links as far as they stay
//! inside and gives the real path; every other call walks one component at a time and follows no
//! link at all, so that nothing can be swapped between the check and the use.

mod folder;
mod listing;
mod path;
mod resolve;
mod tree;

pub use folder::{Child, ContainError, Folder, MAX_CHILDREN};
pub(crate) use listing::EntryKind;
pub use path::{ContainedPath, MAX_DEPTH, MAX_PATH_BYTES, PathFault};
pub use tree::{MAX_TREE_DEPTH, MAX_TREE_ENTRIES, TreeError};
