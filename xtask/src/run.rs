//! Starting the tools of the chores and telling what happens.

use std::{env, ffi::OsStr, fmt, io, path::PathBuf, process::Command};

/// Why a chore failed, for a person.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

pub(crate) type Done<T = ()> = Result<T, Failure>;

/// A line for the person who runs the chore.
#[expect(
    clippy::print_stderr,
    reason = "a chore speaks on stderr; its tools own stdout"
)]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.clone(), PathBuf::from)
}

/// A command in the root of the workspace.
#[expect(
    clippy::disallowed_methods,
    reason = "chores start tools; the ban is for the product"
)]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The cargo that runs this chore.
pub(crate) fn cargo() -> Command {
    command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs it, showing what it is; fails when it fails.
pub(crate) fn pass(command: &mut Command) -> Done {
    let shown = shown(command);
    say(&format!("$ {shown}"));
    let status = command
        .status()
        .map_err(|error| Failure(format!("{shown}: {error}")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure(format!("{shown}: {status}")))
    }
}

/// Runs it quietly and gives its standard output.
pub(crate) fn read(command: &mut Command) -> Done<String> {
    let shown = shown(command);
    let output = command
        .output()
        .map_err(|error| Failure(format!("{shown}: {error}")))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure(format!("{shown}: {}\n{why}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
