//! What providers have in common about a program: what look-ups and a look at its version mean, its
//! settings files, a start outside of any run, and where it puts temporary files.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use bridge_proto::model::{Health, HealthReason};

use crate::{
    plain::sentence,
    process::{Environment, Launch, run_to_end},
    provider::{Found, StartError},
};

/// An agent's program in words for people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProgramWords {
    /// Whose program it is.
    pub(crate) name: &'static str,
    /// What it is called on disk.
    pub(crate) program: &'static str,
    /// What to do when it is not here.
    pub(crate) install: &'static str,
    /// What to do when it would not be let in.
    pub(crate) login: &'static str,
}

impl ProgramWords {
    /// What look-ups on disk mean.
    pub(crate) fn found(&self, program: Option<PathBuf>, is_logged_in: bool) -> Found {
        let health = match (&program, is_logged_in) {
            (None, _) => missing(self.install),
            (Some(_), true) => healthy(),
            (Some(_), false) => login_needed(self.login),
        };
        Found { health, program }
    }

    /// The program, if it is here.
    pub(crate) fn here(&self, program: Option<PathBuf>) -> Result<PathBuf, StartError> {
        program.ok_or_else(|| StartError::Missing {
            program: self.program.to_owned(),
            hint: self.install.to_owned(),
        })
    }

    /// The program, if it could run a task.
    pub(crate) fn ready(
        &self,
        program: Option<PathBuf>,
        is_logged_in: bool,
    ) -> Result<PathBuf, StartError> {
        let program = self.here(program)?;
        if is_logged_in {
            Ok(program)
        } else {
            Err(StartError::LoginNeeded {
                provider: self.name.to_owned(),
                hint: self.login.to_owned(),
            })
        }
    }
}

/// A task could be started.
pub(crate) fn healthy() -> Health {
    Health {
        available: true,
        reason: None,
        version: None,
        hint: None,
    }
}

/// The program is not here.
pub(crate) fn missing(hint: &str) -> Health {
    unavailable(HealthReason::BinaryMissing, hint)
}

/// It is here and would not be let in.
pub(crate) fn login_needed(hint: &str) -> Health {
    unavailable(HealthReason::AuthRequired, hint)
}

/// It is known where it is, and nobody answers there.
pub(crate) fn unreachable(hint: &str) -> Health {
    unavailable(HealthReason::ServiceUnreachable, hint)
}

fn unavailable(reason: HealthReason, hint: &str) -> Health {
    Health {
        available: false,
        reason: Some(reason),
        version: None,
        hint: Some(hint.to_owned()),
    }
}

/// A start outside of any run, in a folder that belongs to nobody.
pub(crate) fn outside_of_runs(program: PathBuf, args: &[&str], env: Environment) -> Launch {
    Launch {
        program,
        args: args.iter().map(OsString::from).collect(),
        directory: std::env::temp_dir(),
        env,
        run: None,
    }
}

/// Adds what `--version` says to what look-ups found. A program that cannot say its version
/// cannot work either.
pub(crate) async fn with_version(found: Health, launch: Launch, limit: Duration) -> Health {
    let name = launch.program.display().to_string();
    match run_to_end(launch, limit, VERSION_BYTES).await {
        Ok(output) if output.code == Some(0) => Health {
            version: version_of(&output.stdout),
            ..found
        },
        Ok(output) => {
            let said = sentence(&output.stderr_tail, 200);
            missing(&format!(
                "`{name} --version` fails ({said}); install it again"
            ))
        }
        Err(error) => missing(&format!("`{name} --version` does not work: {error}")),
    }
}

/// What look-ups found, with what `--version` says.
pub(crate) async fn probed(found: Found, env: Environment, limit: Duration) -> Health {
    let Some(program) = found.program else {
        return found.health;
    };
    let launch = outside_of_runs(program, &["--version"], env);
    with_version(found.health, launch, limit).await
}

/// The temporary folder of the run, for programs that leave conversations in theirs.
pub(crate) fn with_temp(env: Environment, temp: Option<&Path>) -> Environment {
    match temp {
        Some(temp) => env.set("TMPDIR", temp).set("TEMP", temp).set("TMP", temp),
        None => env,
    }
}

/// The text of a settings file; `None` if it is not there, too big or not text.
pub(crate) fn read_small(file: &Path) -> Option<String> {
    let small = fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() < MAX_FILE);
    if small {
        fs::read_to_string(file).ok()
    } else {
        None
    }
}

/// The first word of the output that looks like a version.
fn version_of(stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stdout);
    let mut words = text
        .split_whitespace()
        .map(|word| word.trim_start_matches('v').trim_end_matches('.'));
    let word = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    Some(sentence(word, 50))
}

const VERSION_BYTES: usize = 4096;
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_among_words() {
        assert_eq!(version_of(b"0.61.0\n").as_deref(), Some("0.61.0"));
        assert_eq!(
            version_of(b"agent v1.2.3 (stable)").as_deref(),
            Some("1.2.3")
        );
        assert_eq!(
            version_of(b"GitHub Copilot CLI 1.0.102.\nRun 'copilot update'.").as_deref(),
            Some("1.0.102")
        );
        assert_eq!(version_of(b"hello"), None);
    }
}
