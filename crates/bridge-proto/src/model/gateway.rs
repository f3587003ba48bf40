//! What a plane may ask of OpenClaw past any run, where the user allows it, and the answers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::id::{AgentId, TaskId};

/// A request for OpenClaw itself. Everything in it is untrusted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "gateway", rename_all = "snake_case")]
pub enum GatewayRequest {
    /// Replace its configuration.
    Configure {
        /// The whole new text; `None` when it was missing.
        content: Option<String>,
    },
    /// Call one tool of its gateway.
    Call(Box<ToolCall>),
}

/// One tool of the gateway, to be called once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Why.
    pub purpose: CallPurpose,
    /// Whose tool; `None` when none was named, or by what is no name.
    pub agent: Option<AgentId>,
    /// As it was named; empty when none was. A greeting needs none.
    pub tool: String,
    /// The arguments; empty where there are none.
    pub args: Map<String, Value>,
    /// What stands beside the arguments: a message, or arguments as text.
    pub content: Option<String>,
    /// The task it belongs to.
    pub task: Option<TaskId>,
}

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallPurpose {
    /// The tool that was named (`invoke_tool`).
    Tool,
    /// A message to the agent's main session (`init_ping`).
    Greeting,
}

/// What is said of a [`GatewayRequest`], in this order: at most one [`Self::Over`], at most one
/// [`Self::Said`], then one of the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "gateway", rename_all = "snake_case")]
pub enum GatewayReply {
    /// The task of the call has ended. Our own hub is not told: it knows its tasks by their runs.
    Over {
        /// Which.
        task: TaskId,
        /// How.
        end: CallEnd,
    },
    /// What the agent answered, for people.
    Said {
        /// The task of the call.
        task: Option<TaskId>,
        /// Its words.
        message: String,
    },
    /// What came of a call.
    Called {
        /// Why it was made.
        purpose: CallPurpose,
        /// The gateway's name of the tool; `None` before that was known.
        tool: Option<String>,
        /// The task of the call.
        task: Option<TaskId>,
        /// The gateway's whole answer, or an error code or text.
        result: Result<String, String>,
    },
    /// Whether the configuration is the new one.
    Configured {
        /// `None` when it is; else a code or text.
        error: Option<String>,
    },
}

/// How the task of a call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "snake_case")]
pub enum CallEnd {
    /// The agent's words say that it is completed.
    Completed,
    /// The gateway refused the call.
    Refused {
        /// A person can mend it, by a login.
        blocked: bool,
        /// As in the result.
        reason: String,
    },
    /// The call could not be made or its answer not be read.
    Broken {
        /// As in the result.
        reason: String,
    },
}

impl GatewayRequest {
    /// As the wire names it.
    pub fn action(&self) -> &'static str {
        match self {
            Self::Configure { .. } => "sync_config",
            Self::Call(call) => match call.purpose {
                CallPurpose::Tool => "invoke_tool",
                CallPurpose::Greeting => "init_ping",
            },
        }
    }
}
