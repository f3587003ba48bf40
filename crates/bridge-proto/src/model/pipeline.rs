//! What a plane asks between two tasks of a pipeline, and the answers.

use serde::{Deserialize, Serialize};

use crate::id::AgentId;

/// A question about, or a step of, a pipeline; answered once. Folders are untrusted text until the
/// workspace has resolved them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "pipeline", rename_all = "snake_case")]
pub enum PipelineRequest {
    /// Whether a task has delivered anything.
    CheckOutput {
        /// Whose task; may be absent.
        agent: Option<AgentId>,
        /// Its folder; empty when it was missing.
        folder: String,
    },
    /// Hand what one task delivered to the next.
    Activate {
        /// The one that delivered.
        from: PipelineTask,
        /// The one that goes on.
        to: PipelineTask,
    },
}

/// A task as a pipeline names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineTask {
    /// Who does it; may be absent.
    pub agent: Option<AgentId>,
    /// Its folder; empty when it was missing.
    pub folder: String,
}

/// The answer to a [`PipelineRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "pipeline", rename_all = "snake_case")]
pub enum PipelineReply {
    /// To a check.
    Output {
        /// As received.
        folder: String,
        /// Whether there is anything.
        present: bool,
    },
    /// To a hand-over.
    Activated {
        /// How many files were copied, or why not all could be.
        copied: Result<u64, String>,
    },
}
