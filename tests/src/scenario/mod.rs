//! Scripted integration tests: a TOML file starts a fake plane or a hub with a real bridge, then
//! sends, expects, cuts, kills and starts again. `tests/scenarios/README.md` documents the format.
//!
//! Reading order: [`script`] (what a file says), [`subset`] (what fits an expectation),
//! `stage` (what is running), `act` (one step), `call` (one request to the hub).

mod act;
mod call;
pub mod script;
mod stage;
pub mod subset;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use script::{Other, Script, Start};
use stage::Stage;
use thiserror::Error;

/// Why a scenario failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// The file cannot be read.
    #[error("{file} cannot be read: {source}")]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no scenario.
    #[error("{file} is no scenario: {source}")]
    NoScenario {
        /// Which.
        file: PathBuf,
        /// What is wrong with it, with its line.
        source: Box<toml::de::Error>,
    },
    /// A step did not do what it should.
    #[error("{file} with {other:?}: step {number} ({step}) failed: {why}")]
    Step {
        /// Which file.
        file: PathBuf,
        /// Played with this other end.
        other: Other,
        /// Which step, counted from 1.
        number: usize,
        /// What it should do.
        step: String,
        /// What happened instead.
        why: Complaint,
    },
}

/// What happened instead of a step, with what was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// In one line.
    pub what: String,
    /// What helps to understand it: frames, output.
    pub told: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.told.is_empty() {
            Ok(())
        } else {
            write!(f, "\n{}", self.told)
        }
    }
}

/// The scenarios in these files and folders, by name.
///
/// # Errors
/// When one of them is not there.
pub fn files(named: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for path in named {
        if !path.is_dir() {
            fs::metadata(path)?;
            all.push(path.clone());
            continue;
        }
        for entry in fs::read_dir(path)? {
            let file = entry?.path();
            if file
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                all.push(file);
            }
        }
    }
    all.sort();
    Ok(all)
}

/// Plays one scenario from its beginning to its end; everything it started ends with it.
///
/// # Errors
/// The first step that did not do what it should.
pub async fn play(file: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(file).map_err(|source| Failure::Unreadable {
        file: file.to_owned(),
        source,
    })?;
    let script: Script = toml::from_str(&text).map_err(|source| Failure::NoScenario {
        file: file.to_owned(),
        source: Box::new(source),
    })?;
    let Start { plane, also, .. } = &script.start;
    for other in std::iter::once(plane).chain(also) {
        play_with(file, &script, *other).await?;
    }
    Ok(())
}

async fn play_with(file: &Path, script: &Script, other: Other) -> Result<(), Failure> {
    let mut stage = Stage::set(&script.start, other).await;
    for (index, step) in script.step.iter().enumerate() {
        if let Err(why) = act::act(&mut stage, step).await {
            let step = step.to_string();
            return Err(Failure::Step {
                file: file.to_owned(),
                other,
                number: index + 1,
                step,
                why,
            });
        }
    }
    Ok(())
}
