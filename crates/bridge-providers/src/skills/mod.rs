//! Skills of agents: named instructions a person can call in a prompt. They are listed here and
//! never carried out.
//!
//! Reading order: this file (what can be asked), `folders` (files that stand for skills), `header`
//! (what such a file says of itself).

mod folders;
mod header;

use std::path::PathBuf;

pub use bridge_proto::model::{Skill, SkillScope, SkillSource};
pub(crate) use folders::{commands_in, project_folders, skills_in};

/// For which place skills are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkillQuery {
    /// Where tasks would work; exists.
    pub directory: PathBuf,
    /// It is a repository, whose own skills count.
    pub project: bool,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skills {
    /// By whom.
    pub source: SkillSource,
    /// In order of precedence; names may come twice.
    pub skills: Vec<Skill>,
    /// Codes of what went wrong.
    pub warnings: Vec<String>,
}

impl Skills {
    /// Found in files; the first of a name is the one that counts.
    pub(crate) fn of_files(skills: Vec<Skill>) -> Self {
        Self {
            source: SkillSource::Static,
            skills,
            warnings: Vec::new(),
        }
    }

    /// The program could not be asked.
    pub(crate) fn failed(source: SkillSource, warning: &str) -> Self {
        Self {
            source,
            skills: Vec::new(),
            warnings: vec![warning.to_owned()],
        }
    }
}

/// Looks at files away from the async threads.
pub(crate) async fn in_files(look: impl FnOnce() -> Vec<Skill> + Send + 'static) -> Skills {
    match tokio::task::spawn_blocking(look).await {
        Ok(skills) => Skills::of_files(skills),
        Err(error) => {
            tracing::error!(%error, "looking for skills failed");
            Skills::failed(SkillSource::Static, "discovery_failed")
        }
    }
}

/// A skill that is called by its name behind a sign.
pub(crate) fn skill(name: &str, sign: char, scope: SkillScope) -> Skill {
    Skill {
        id: name.to_owned(),
        name: name.to_owned(),
        description: None,
        argument_hint: None,
        invocation: format!("{sign}{name}"),
        scope,
        user_invocable: true,
        enabled: true,
    }
}

/// Entries of a folder that are looked at, and skills that are taken from all of them.
const MAX_ENTRIES: usize = 1000;
/// Bytes of a file that are read: its header stands at its beginning.
const MAX_HEADER: u64 = 16 * 1024;
