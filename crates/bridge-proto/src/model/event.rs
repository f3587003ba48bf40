//! What can happen in a run.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Ask, AskEnd};
use crate::{
    id::{AskId, BlockId, ResumeId, RunKey, ToolCallId},
    time::Timestamp,
};

/// One thing that happened in a run. `n` is strictly increasing within the run; a gap means that
/// neighbouring text increments were merged into the lower number while they waited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Whose event.
    pub run: RunKey,
    /// Its number within the run.
    pub n: u64,
    /// When this machine saw it.
    pub at: Timestamp,
    /// What happened.
    pub body: EventBody,
}

/// The life of a run: queued at most once, started at most once, seen often, and exactly one end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventBody {
    /// Waits for a free place or for its repository.
    Queued {
        /// How many runs are in front of it.
        ahead: u32,
    },
    /// The agent has the prompt.
    Started {
        /// What is needed to resume the conversation, once known.
        conversation: Option<ResumeId>,
    },
    /// The agent said or did something.
    Seen(Box<Observed>),
    /// The end, always the last event of a run.
    Ended {
        /// How it ended.
        outcome: Outcome,
    },
    /// The message of the run was put into another one that was at work; always the last event,
    /// and the agent never got a turn for it.
    Joined {
        /// The attempt of that other run of the task.
        into: String,
    },
    /// The run was never accepted; the last and only event.
    Rejected(Rejection),
}

impl EventBody {
    /// Whether nothing can follow.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Ended { .. } | Self::Joined { .. } | Self::Rejected(_) => true,
            Self::Queued { .. } | Self::Started { .. } | Self::Seen(_) => false,
        }
    }
}

/// Why a run was not accepted. Texts on the wire are the codes of the CTRL NODE reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Rejection {
    /// No agent of this id lives here.
    AgentNotFound,
    /// There was no prompt.
    MissingIntentPayload,
    /// The agent's provider cannot run here.
    ProviderNotActive {
        /// The provider's key.
        provider: String,
    },
    /// The task folder or repository is not allowed.
    PlaceRefused {
        /// What is wrong and what to do.
        reason: String,
    },
}

/// What an agent said, with the agent's own words beside it where there were any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// What it means to us.
    pub event: RunEvent,
    /// The agent's own message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Value>,
}

impl From<RunEvent> for Observed {
    fn from(event: RunEvent) -> Self {
        Self { event, raw: None }
    }
}

/// Everything an agent can say, whichever agent it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RunEvent {
    /// More text of a block of the answer.
    Text {
        /// Which block.
        block: BlockId,
        /// What to append.
        delta: String,
    },
    /// The whole text of a block; replaces what was streamed (an empty text withdraws it).
    TextReplaced {
        /// Which block.
        block: BlockId,
        /// What stands there now.
        text: String,
    },
    /// More of what the model thinks.
    Thinking {
        /// What to append.
        delta: String,
    },
    /// A tool call, whole, each time something about it changed.
    Tool(ToolState),
    /// The agent's to-do list, whole each time.
    Plan {
        /// The items in order.
        items: Vec<PlanItem>,
    },
    /// A file was created or changed by a tool of the agent.
    FileWritten {
        /// As the agent named it.
        path: String,
    },
    /// A person is asked.
    Ask(Ask),
    /// The question is closed.
    AskClosed {
        /// Which question.
        ask: AskId,
        /// How.
        how: AskEnd,
    },
    /// The model that really answers.
    Model {
        /// Its name.
        model: String,
    },
    /// The mode that is really in force.
    Mode {
        /// Its name.
        mode: String,
    },
    /// The thinking effort that is really in force.
    Effort {
        /// Its name, e.g. `high`.
        effort: String,
    },
    /// A person's message that was put into the running turn.
    Injected {
        /// The message.
        text: String,
    },
    /// Tokens and money so far.
    Usage(Usage),
    /// A failed model call is being tried again.
    Retrying(Retry),
    /// Nothing was heard for this long while the agent should be working.
    Silent {
        /// For how long, in seconds.
        seconds: u64,
    },
    /// A sentence about what goes on, for a person.
    Status {
        /// The sentence.
        text: String,
    },
    /// Something without a place in this model; the raw message says it all.
    Other {
        /// The agent's name for it.
        what: String,
    },
}

/// One tool call as far as it is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolState {
    /// The agent's id for the call.
    pub id: ToolCallId,
    /// What a person reads, e.g. `Write hello.txt`.
    pub title: String,
    /// Of which sort it is; in JSON `tool_kind`, because `kind` is the tag of the event around it.
    #[serde(rename = "tool_kind")]
    pub kind: ToolKind,
    /// How far it got.
    pub status: ToolStatus,
    /// What it was called with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// What it gave, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// Files it touches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub locations: Vec<Location>,
    /// Changes it makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diffs: Vec<FileDiff>,
}

/// Sorts of tools, as the Agent Client Protocol names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum ToolKind {
    Read,
    Edit,
    Delete,
    Move,
    Search,
    Execute,
    Think,
    Fetch,
    SwitchMode,
    Other,
}

/// How far a tool call got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// Announced, or waits for a permission.
    Pending,
    /// At work.
    InProgress,
    /// Done.
    Completed,
    /// Gave an error, or was refused.
    Failed,
    /// Stopped with its run.
    Cancelled,
    /// The run ended without a word about it.
    Unknown,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// As the agent named it.
    pub path: String,
    /// Counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDiff {
    /// As the agent named it.
    pub path: String,
    /// Absent for a new file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What stands there afterwards.
    pub new: String,
}

/// One line of a to-do list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanItem {
    /// What is to be done.
    pub text: String,
    /// How far it is.
    pub status: PlanStatus,
}

/// How far a to-do item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum PlanStatus {
    Pending,
    InProgress,
    Completed,
}

/// Tokens and money of this run so far; an estimate of the agent, not a bill.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read by the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens written by the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// A retry that is going on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Which attempt comes next, from 1.
    pub attempt: u32,
    /// When the agent gives up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// How long it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,
    /// Why.
    pub reason: String,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    /// The agent finished.
    Completed,
    /// It cannot be done, or something broke.
    Failed {
        /// Whose fault.
        fault: Fault,
        /// For a person.
        reason: String,
    },
    /// The user can mend it and try again.
    Blocked {
        /// What to mend.
        fix: Fix,
        /// For a person.
        reason: String,
    },
    /// Somebody stopped it.
    Cancelled {
        /// Who.
        by: Actor,
    },
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// This bridge, or the machine it runs on.
    Bridge,
    /// The agent program.
    Agent,
    /// The model or its service.
    Model,
    /// The task asked for something impossible.
    Task,
}

/// What a person has to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fix {
    /// Log in, or replace a key.
    Login,
    /// Buy credit, or wait for the limit to reset.
    Credit,
    /// Install or configure something.
    Setup,
    /// The run took too long or too many turns.
    Limit,
    /// The agent itself says it is blocked.
    Agent,
}

/// Who stopped a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// A person, through a viewer or the plane.
    Person,
    /// The daemon was told to stop.
    Shutdown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::Digest,
        model::{AskKind, Choice, ChoiceKind},
    };

    #[test]
    fn everything_an_agent_can_say_comes_back_from_json_as_it_was() {
        let block = || BlockId::parse("b1").unwrap();
        let ask = || AskId::parse("a1").unwrap();
        let all = [
            RunEvent::Text {
                block: block(),
                delta: "x".into(),
            },
            RunEvent::TextReplaced {
                block: block(),
                text: String::new(),
            },
            RunEvent::Thinking { delta: "x".into() },
            RunEvent::Tool(ToolState {
                id: ToolCallId::parse("c1").unwrap(),
                title: "Write hello.txt".into(),
                kind: ToolKind::Edit,
                status: ToolStatus::InProgress,
                input: Some(serde_json::json!({"path": "hello.txt"})),
                output: None,
                locations: vec![Location {
                    path: "hello.txt".into(),
                    line: Some(1),
                }],
                diffs: vec![FileDiff {
                    path: "hello.txt".into(),
                    old: None,
                    new: "x".into(),
                }],
            }),
            RunEvent::Plan {
                items: vec![PlanItem {
                    text: "x".into(),
                    status: PlanStatus::Pending,
                }],
            },
            RunEvent::FileWritten { path: "x".into() },
            RunEvent::Ask(Ask {
                id: ask(),
                kind: AskKind::Command,
                summary: "run ls".into(),
                options: vec![Choice {
                    id: "1".into(),
                    label: "Yes".into(),
                    kind: ChoiceKind::AllowOnce,
                }],
                digest: Digest::of(&["ls"]),
                tool: Some(ToolCallId::parse("c1").unwrap()),
                expires: Some(Timestamp::from_millis(0)),
                answered: Some("Yes".into()),
                action: None,
            }),
            RunEvent::AskClosed {
                ask: ask(),
                how: AskEnd::Answered {
                    answer: "Yes".into(),
                },
            },
            RunEvent::Model { model: "m".into() },
            RunEvent::Mode { mode: "m".into() },
            RunEvent::Effort { effort: "e".into() },
            RunEvent::Injected { text: "x".into() },
            RunEvent::Usage(Usage {
                input_tokens: Some(1),
                output_tokens: None,
                cost_usd: Some(0.5),
            }),
            RunEvent::Retrying(Retry {
                attempt: 1,
                limit: None,
                delay: Some(Duration::from_millis(1500)),
                reason: "busy".into(),
            }),
            RunEvent::Silent { seconds: 60 },
            RunEvent::Status { text: "x".into() },
            RunEvent::Other { what: "x".into() },
        ];
        for event in all {
            let body = EventBody::Seen(Box::new(Observed {
                event,
                raw: Some(Value::Bool(true)),
            }));
            let text = serde_json::to_string(&body).unwrap();
            assert_eq!(
                serde_json::from_str::<EventBody>(&text).unwrap(),
                body,
                "{text}"
            );
        }
    }
}
