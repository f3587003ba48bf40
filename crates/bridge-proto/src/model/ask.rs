//! Questions an agent puts to a person, and their answers.

use serde::{Deserialize, Serialize};

use crate::{
    id::{AskId, Digest, ToolCallId},
    time::Timestamp,
};

/// One open question, whole each time something about it changed. `digest` covers the exact action, so that a person who answers late cannot
/// allow something else than what was shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Unique within the run.
    pub id: AskId,
    /// Of which sort; in JSON `ask_kind`, because `kind` is the tag of the event around it.
    #[serde(rename = "ask_kind")]
    pub kind: AskKind,
    /// Made on this machine from the action itself.
    pub summary: String,
    /// What can be chosen; empty for free text.
    pub options: Vec<Choice>,
    /// Of the exact action.
    pub digest: Digest,
    /// The tool call that waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<ToolCallId>,
    /// When it is answered without a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// What a person answered, while the agent has yet to take it. Never set by an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<String>,
    /// What exactly would be done, for the rules of this machine. Never leaves it.
    #[serde(skip)]
    pub action: Option<Box<Action>>,
}

/// The action behind a permission request, as the agent itself will carry it out: nothing in it
/// is shortened, made readable or guessed. What is not known for certain is absent, and no rule
/// allows what is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Action {
    /// The agent's own name for the tool.
    pub tool: Option<String>,
    /// The command line as a shell would get it.
    pub command: Option<String>,
    /// Every path that is touched, as the agent named it; empty when not all of them are known.
    pub paths: Vec<String>,
}

/// Sorts of questions; policy decides by them (decision 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskKind {
    /// May a file be created, changed or deleted?
    Edit,
    /// May a command be run?
    Command,
    /// May something else be done (fetch, read outside, …)?
    Other,
    /// A question that is not about permission.
    Question,
}

/// One thing to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Sent back to the agent.
    pub id: String,
    /// What a person reads.
    pub label: String,
    /// What it means.
    pub kind: ChoiceKind,
}

/// What a choice means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChoiceKind {
    /// Yes, this time.
    AllowOnce,
    /// Yes, and do not ask again in this conversation.
    AllowAlways,
    /// No, this time.
    RejectOnce,
    /// No, and do not ask again in this conversation.
    RejectAlways,
    /// One of the answers of a question.
    Plain,
}

/// An answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// One of the options, by its id.
    Choose {
        /// The option's id.
        option: String,
    },
    /// Words; for a permission, matched against number and label of the options first.
    Text {
        /// The words.
        text: String,
    },
    /// No, with a reason the agent may read.
    Deny {
        /// The reason.
        reason: String,
    },
}

/// How a question was closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum AskEnd {
    /// The agent took an answer.
    Answered {
        /// The label of the option, or the words.
        answer: String,
    },
    /// Decided on this machine without a person.
    ByPolicy {
        /// Which rule.
        rule: String,
    },
    /// Nobody answered in time.
    Expired,
    /// The agent or a cancel withdrew it.
    Withdrawn,
}
