//! Agents, and what the machine says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    id::{AgentId, ProviderKey},
    time::Timestamp,
};

/// One agent as the plane knows it: a name and instructions on top of a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentProfile {
    /// Normalised.
    pub id: AgentId,
    /// What a person reads.
    pub name: String,
    /// Which program serves it.
    pub provider: ProviderKey,
    /// `None`: the provider's default. On the wire the provider key stands for that.
    pub model: Option<String>,
    /// Absolute; `None`: `CTRLNODE_ROOT`.
    pub workspace: Option<String>,
    /// Its role, or empty.
    pub role: String,
    /// Its instructions, or empty.
    pub description: String,
    /// Decoration, or empty.
    pub emoji: String,
    /// Found on this machine, not made by the plane.
    pub from_filesystem: bool,
}

/// The plane's agents changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentChange {
    /// The whole list of one provider (`sync_<provider>_agents`).
    Sync {
        /// Whose list.
        provider: ProviderKey,
        /// The list, or why it could not be read (sent back in the ack).
        agents: Result<Vec<AgentProfile>, String>,
    },
    /// Some properties of one agent (`update_agent_config`).
    Update {
        /// Which.
        agent: AgentId,
        /// What becomes different.
        patch: AgentPatch,
    },
    /// One agent is to be gone (`delete_agent_config`).
    Delete {
        /// Which.
        agent: AgentId,
    },
}

/// What becomes different about an agent; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentPatch {
    /// What a person reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Empty: the provider's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Empty: `CTRLNODE_ROOT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Its role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Its instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Whether an agent works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum AgentStatus {
    Idle,
    Running,
}

/// Whether a provider can run here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Whether a task could be started.
    pub available: bool,
    /// Why not; `None` when available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<HealthReason>,
    /// What `--version` said, when it was asked. Not on the plain wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What to do, for a person. Not on the plain wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Why a provider cannot run; the codes of the CTRL NODE wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum HealthReason {
    BinaryMissing,
    AuthRequired,
    ServiceUnreachable,
}

/// One provider as a machine reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderReport {
    /// Whether it can run.
    #[serde(flatten)]
    pub health: Health,
    /// What can be done while one of its conversations goes on; `None` from a machine that cannot
    /// say. Not on the plain wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can: Option<Can>,
    /// Its last run that ended badly, unless one ended well after it. Not on the plain wire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

impl From<Health> for ProviderReport {
    fn from(health: Health) -> Self {
        Self {
            health,
            can: None,
            trouble: None,
        }
    }
}

/// What can be done while a conversation goes on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Can {
    /// A message can be put into a turn that is at work.
    pub inject: bool,
    /// When its model can be chosen.
    pub model: Choosing,
    /// When its mode can be chosen.
    pub mode: Choosing,
    /// When its thinking effort can be chosen.
    pub effort: Choosing,
}

/// When a setting of a conversation can be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choosing {
    /// Not at all, or not by us.
    #[default]
    Never,
    /// When the conversation begins.
    AtStart,
    /// At the start and later.
    AnyTime,
}

/// A run that ended badly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When.
    pub at: Timestamp,
    /// Why, for a person; at most 2000 characters.
    pub reason: String,
    /// What to do about it, where there is something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

/// What the machine says of itself, unasked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notice {
    /// The first frame of every connection.
    Hello(Hello),
    /// Every 30 s and on every change.
    Heartbeat(Heartbeat),
    /// The whole list of agents; replaces the one before.
    Agents {
        /// Sent by the periodic scan, left out by a sync.
        version: Option<String>,
        /// Every agent with what the wire wants to know beside it.
        agents: Vec<AgentProfile>,
        /// `CTRLNODE_ROOT`, for agents without a workspace.
        default_workspace: String,
        /// Ids whose workspace directory exists.
        existing: Vec<AgentId>,
        /// Host name of this machine.
        hostname: String,
    },
    /// Which providers can run; only what changed, after the first.
    ProviderHealth {
        /// By provider.
        health: BTreeMap<ProviderKey, ProviderReport>,
    },
    /// Which models they offer.
    AvailableModels {
        /// By provider.
        models: BTreeMap<ProviderKey, Vec<String>>,
    },
    /// A file in the workspace of an agent of OpenClaw is new or different.
    FileChanged {
        /// Whose workspace.
        agent: AgentId,
        /// Relative to it, with `/`.
        path: String,
        /// What happened to it.
        change: FileChange,
        /// Its text; `None` when it is none, is too long, or must not leave the machine.
        content: Option<String>,
    },
}

/// What happened to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChange {
    /// It is new.
    Add,
    /// It is different.
    Change,
}

/// The greeting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// With a leading `v`, as the wire wants it.
    pub version: String,
    /// Provider keys that can run here, in order.
    pub providers: Vec<ProviderKey>,
    /// Host name of this machine. Not in the plain handshake.
    pub hostname: String,
    /// The agents that OpenClaw's own configuration names, each with its workspace.
    pub agents: Vec<AgentProfile>,
    /// Those of them whose workspace directory exists.
    pub existing: Vec<AgentId>,
}

/// Who works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Every known agent.
    pub agents: Vec<(AgentId, AgentStatus)>,
    /// When.
    pub at: Timestamp,
}
