//! What a plane may ask of a program past any conversation, where the user allows it: one call of a
//! tool, and a whole new configuration. Only OpenClaw has either.

use std::time::Duration;

use bridge_proto::model::{Action, AskKind};
use serde_json::Value;
use thiserror::Error;

/// One call as it would be made; nothing has happened yet.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectCall {
    /// The program's own name of the tool.
    pub tool: String,
    /// Which sort of action it is, for the policy of this machine.
    pub kind: AskKind,
    /// The exact action, for the rules of this machine.
    pub action: Action,
    /// Its answer is what an agent says, and no content of a file.
    pub talks: bool,
    /// What the program is sent.
    pub body: Value,
    /// How long its answer is waited for.
    pub limit: Duration,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectAnswer {
    /// All of it, at most 1 MiB.
    pub raw: String,
    /// The part that is for people, if any.
    pub message: Option<String>,
}

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallFault {
    /// The program has no tools that can be called, or is not on this machine.
    #[error("there is nobody whose tools could be called")]
    NotHere,
    /// No tool was named.
    #[error("no tool was named")]
    NoTool,
    /// The program refused it.
    #[error("it answered with status {status}")]
    Refused {
        /// Of its answer.
        status: u16,
        /// The beginning of its answer.
        text: String,
        /// The session that was meant cannot be seen from here; another way may lead to the agent.
        unseen: bool,
    },
    /// It could not be made, or the answer could not be read.
    #[error("{0}")]
    Broken(String),
}

/// Why a configuration was left as it is.
#[derive(Debug, Error)]
pub enum ConfigFault {
    /// There is none on this machine.
    #[error("there is no configuration on this machine")]
    NotHere,
    /// The new one is empty.
    #[error("there is no new configuration")]
    Missing,
    /// The new one is none.
    #[error("the new configuration cannot be used: {0}")]
    Unusable(String),
    /// What is there cannot be read, so nobody knows what would change.
    #[error("the present configuration cannot be read, so it is not replaced: {0}")]
    Unreadable(String),
    /// It would change what only this machine decides.
    #[error("{0} is for the user of this machine to change")]
    Kept(String),
    /// The system said no; what was there still is.
    #[error("the configuration could not be written")]
    Write(#[source] std::io::Error),
}
