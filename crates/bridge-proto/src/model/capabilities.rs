//! What an agent brings along beside itself: its skills, as a person can call them.

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// Which agent's skills are wanted, and for which sort of task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityQuery {
    /// As the message spelled it, for the answer; `None` if it named nobody.
    pub agent: Option<String>,
    /// For tasks of this sort.
    pub mode: TaskMode,
    /// The repository, untrusted; counts in [`TaskMode::Repo`] only.
    pub repository: Option<String>,
}

/// Where a task works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskMode {
    /// In a folder of its own.
    Output,
    /// In a repository.
    Repo,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Who was asked; `unknown` when the agent has no provider here.
    pub provider: String,
    /// As the query spelled it.
    pub agent: Option<String>,
    /// As in the query.
    pub mode: TaskMode,
    /// At most 200, no two of one name.
    pub skills: Vec<Skill>,
    /// How they were found.
    pub discovery: Discovery,
}

/// One skill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Skill {
    /// Unique in its list.
    pub id: String,
    /// At most 120 characters.
    pub name: String,
    /// At most 300 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What may be written behind it; at most 120 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument_hint: Option<String>,
    /// How a prompt calls it, e.g. `/review` or `$review`.
    pub invocation: String,
    /// Where it comes from.
    pub scope: SkillScope,
    /// Whether a person may call it.
    pub user_invocable: bool,
    /// Whether it is switched on.
    pub enabled: bool,
}

/// Where a skill comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum SkillScope {
    Project,
    User,
    Plugin,
    Managed,
    Builtin,
}

/// How skills were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// By whom.
    pub skills: SkillSource,
    /// Codes of what went wrong, e.g. `claude_discovery_timeout`.
    pub warnings: Vec<String>,
    /// When.
    pub observed_at: Timestamp,
}

/// Who told of skills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SkillSource {
    /// The program itself.
    Live,
    /// Files on the disk.
    Static,
    /// Nobody: the program has none, or cannot be asked.
    #[default]
    Unsupported,
}
