//! What is to be started.

use std::{ffi::OsString, path::PathBuf};

use bridge_proto::RunKey;

use super::environment::Environment;

/// A program to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The file to execute.
    pub program: PathBuf,
    /// Its arguments, without its own name.
    pub args: Vec<OsString>,
    /// Its working directory; must exist.
    pub directory: PathBuf,
    /// All variables it sees, apart from the markers that are set for it.
    pub env: Environment,
    /// For which run it works; sets `CTRLNODE_RUN`, by which strays are found after a crash.
    pub run: Option<RunKey>,
}
