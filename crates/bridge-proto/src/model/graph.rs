//! Plans of pipelines.

use serde::{Deserialize, Serialize};

use crate::{
    id::{AgentId, TaskId},
    time::Timestamp,
};

/// A plan wanted of an agent that must change nothing for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanGraph {
    /// Who shall plan.
    pub agent: AgentId,
    /// What for; empty when the message named nothing.
    pub prompt: String,
    /// A task of the asker's, echoed in the result.
    pub task: Option<TaskId>,
}

/// How far a plan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphPhase {
    /// It was asked for.
    Accepted,
    /// The agent works on it.
    Planning,
    /// There is a plan.
    Completed,
    /// There is none.
    Failed,
}

/// What is said of a plan that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PlanReply {
    /// How far it is; the result follows.
    Progress {
        /// How far.
        phase: GraphPhase,
        /// A short sentence for people.
        message: String,
        /// When.
        at: Timestamp,
    },
    /// How it ended.
    Result {
        /// As the request named it.
        task: Option<TaskId>,
        /// The document as text, or an error code with or without text behind it.
        result: Result<String, String>,
    },
}
