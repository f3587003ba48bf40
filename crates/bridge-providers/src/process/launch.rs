//! What is to be started, and why it could not be.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use bridge_proto::RunKey;

use super::{child::Child, environment::Environment, spawner};
use crate::provider::StartError;

/// A program to be started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The file to execute; absolute.
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

/// Starts the program on the spawning thread. It ends with everything it started when the
/// [`Child`] is dropped.
///
/// Must be called within a Tokio runtime that drives IO and time.
pub(crate) async fn spawn(launch: Launch) -> Result<Child, StartError> {
    let (program, directory) = (launch.program.clone(), launch.directory.clone());
    spawner::spawn(launch)
        .await
        .map_err(|source| start_error(&program, &directory, source))
}

fn start_error(program: &Path, directory: &Path, source: io::Error) -> StartError {
    if !directory.is_dir() {
        return StartError::NoDirectory {
            directory: directory.to_owned(),
        };
    }
    if source.kind() == io::ErrorKind::NotFound && !program.exists() {
        return StartError::Missing {
            program: program.display().to_string(),
            hint: "install it, or name its place in the settings".into(),
        };
    }
    StartError::Spawn {
        program: program.to_owned(),
        source,
    }
}
