//! What viewers see: machines, tasks, runs, files and tokens; written as JSON by the API, and read
//! back by programs that use it.

use std::collections::BTreeMap;

use bridge_proto::{
    AgentId, BridgeId, ProviderKey, Secret, TaskFolder, TaskId, Timestamp,
    model::{
        AgentProfile, AgentStatus, Ask, Can, Event, FileEntry, Health, ProviderReport, RunKind,
        Trouble, Tuning,
    },
};
use serde::{Deserialize, Serialize};

/// One machine, on line or not, whose pairing token is valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Given when the pairing token was made; never changes.
    pub id: BridgeId,
    /// The name of the pairing token.
    pub name: String,
    /// What the machine calls itself; `None` until it was here once.
    pub hostname: Option<String>,
    /// Whether commands can reach it now.
    pub online: bool,
    /// Since when it is on line, or off line; when never seen, since the token was made.
    pub since: Timestamp,
    /// Version of its bridge, with a leading `v`; `None` until it was here once.
    pub version: Option<String>,
    /// Whether it speaks the extension (whole events, exact asks).
    pub extended: bool,
    /// What it can run. Empty while off line.
    pub providers: BTreeMap<ProviderKey, ProviderReport>,
    /// Which models the providers offer, as far as known. Empty while off line.
    pub models: BTreeMap<ProviderKey, Vec<String>>,
    /// Its agents, by id. Empty while off line.
    pub agents: Vec<AgentView>,
}

/// One agent of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentView {
    /// Who it is.
    pub profile: AgentProfile,
    /// Whether it works now.
    pub status: AgentStatus,
    /// Whether its provider can run; assumed available until the machine said otherwise.
    pub health: Health,
    /// What can be done while it works; `None` when the machine did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can: Option<Can>,
    /// The last run of its provider that ended badly, unless one ended well after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

/// How far a task or a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    /// Sent to its machine, not started yet.
    Queued,
    /// An agent works on it.
    Running,
    /// An agent waits for a person's answer.
    Waiting,
    /// Done.
    Completed,
    /// Broken; the reason says how.
    Failed,
    /// A person can mend what is in the way and try again.
    Blocked,
    /// Somebody stopped it.
    Cancelled,
    /// The machine did not accept it.
    Rejected,
    /// Its message was read in the run that was at work; of runs only.
    Joined,
}

impl TaskStatus {
    /// Whether something may still happen.
    pub fn is_live(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Waiting => true,
            Self::Completed
            | Self::Failed
            | Self::Blocked
            | Self::Cancelled
            | Self::Rejected
            | Self::Joined => false,
        }
    }

    /// The word used in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Blocked => "blocked",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Joined => "joined",
        }
    }
}

/// One line of the list of tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSummary {
    /// Which task.
    pub id: TaskId,
    /// The beginning of its first prompt, one line.
    pub title: String,
    /// Who works on it.
    pub agent: AgentId,
    /// Which program serves that agent.
    pub provider: ProviderKey,
    /// On which machine.
    pub machine: BridgeId,
    /// The machine's name.
    pub machine_name: String,
    /// How far it is: of the live run, else of the latest one.
    pub status: TaskStatus,
    /// Why it ended so; `None` while live and when completed.
    pub reason: Option<String>,
    /// When it was made, by the hub's clock.
    pub created: Timestamp,
    /// When something last happened, by the hub's clock.
    pub updated: Timestamp,
}

/// One task with everything but its events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// The line of the list.
    pub summary: TaskSummary,
    /// Where it works.
    pub mode: Mode,
    /// Its folder below `CTRLNODE_ROOT` of the machine.
    pub folder: TaskFolder,
    /// What its conversation was asked to be set to; what is absent is the agent's own.
    pub tuning: Tuning,
    /// What was asked, oldest first; an event belongs to the run whose `attempt` it carries.
    pub runs: Vec<RunView>,
    /// Questions that wait for an answer, oldest first.
    pub open_asks: Vec<Ask>,
    /// The number of the newest event; 0: none yet.
    pub last_seq: u64,
}

impl TaskView {
    /// The repository it works in, in work-directory mode.
    pub fn repo_path(&self) -> Option<&str> {
        match &self.mode {
            Mode::Output => None,
            Mode::Repository { path } => Some(path),
        }
    }

    /// Whether it goes on although a person wants it stopped.
    pub fn is_stopping(&self) -> bool {
        self.runs.iter().any(|run| run.stopping)
    }
}

/// A question that waits for an answer, with the task it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAsk {
    /// Whose question.
    pub task: TaskId,
    /// The task's title.
    pub title: String,
    /// Who asks.
    pub agent: AgentId,
    /// The name of its machine.
    pub machine_name: String,
    /// The question.
    pub ask: Ask,
}

/// One run of a task: the first prompt, or a follow-up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunView {
    /// Tells the runs of a task apart.
    pub attempt: String,
    /// What made it.
    pub kind: RunKind,
    /// What the person wrote.
    pub prompt: String,
    /// Names of the files sent along.
    pub attachments: Vec<String>,
    /// How far it is.
    pub status: TaskStatus,
    /// Why it ended so.
    pub reason: Option<String>,
    /// When it was asked for, by the hub's clock.
    pub created: Timestamp,
    /// When it ended, by the hub's clock.
    pub ended: Option<Timestamp>,
    /// Whether a person wants it stopped and it has not ended.
    #[serde(default)]
    pub stopping: bool,
}

/// An event in the hub's order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Counted from 1 within the task, without gaps; the id of the server-sent event.
    pub seq: u64,
    /// What happened.
    pub event: Event,
}

/// Where a task works.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Mode {
    /// In a folder of its own.
    #[default]
    Output,
    /// In a repository of the machine.
    Repository {
        /// Absolute path on that machine; the bridge decides whether it is allowed.
        path: String,
    },
}

/// A task to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Which machine shall do it.
    pub machine: BridgeId,
    /// Which of its agents.
    pub agent: AgentId,
    /// What to do; not blank, at most [`MAX_PROMPT_BYTES`].
    pub prompt: String,
    /// Where.
    pub mode: Mode,
    /// Files for its `input/` folder.
    pub attachments: Vec<Attachment>,
    /// Other settings than the agent's own; each at most 200 printable characters.
    pub tuning: Tuning,
}

/// When changed settings of a conversation are in force. What really is comes as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Applies {
    /// In the run at work, as soon as the agent takes them.
    Now,
    /// In the task's next run.
    NextRun,
}

/// When a machine hears of a wish that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It is connected: the word is on its way.
    Now,
    /// It is not: the word goes first thing when it comes back.
    OnReturn,
}

/// A file that goes along with a prompt.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// A bare file name: no separators, not hidden, at most 200 bytes.
    pub name: String,
    /// Its content; all files of one prompt together at most [`MAX_ATTACHMENT_BYTES`].
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment")
            .field("name", &self.name)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// The result files of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Paths are relative to the task's `output/` folder.
    pub entries: Vec<FileEntry>,
    /// Whether there are more than the machine lists.
    pub truncated: bool,
}

/// One result file.
#[derive(Clone, PartialEq, Eq)]
pub struct FileContent {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// By its extension, as the machine named it.
    pub content_type: String,
}

impl std::fmt::Debug for FileContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileContent")
            .field("bytes", &self.bytes.len())
            .field("content_type", &self.content_type)
            .finish()
    }
}

/// A freshly made token; the text is shown once and kept nowhere.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// For the list and for revoking; of a pairing token, the machine's id.
    pub id: String,
    /// The text.
    pub secret: Secret,
}

/// A token as it is listed: never its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// For revoking.
    pub id: String,
    /// What the user called it.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used, to the minute; `None`: never.
    pub used: Option<Timestamp>,
}

/// Longest prompt or follow-up, in bytes.
pub const MAX_PROMPT_BYTES: usize = 1024 * 1024;

/// All attachments of one prompt together, in bytes.
pub const MAX_ATTACHMENT_BYTES: usize = 20 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use bridge_proto::{
        AskId, Digest, RunKey,
        model::{AskKind, EventBody, Outcome, Rejection},
    };
    use serde::de::DeserializeOwned;

    use super::*;

    fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *value, "{text}");
    }

    #[test]
    fn what_the_api_writes_can_be_read_back() {
        let at = Timestamp::from_millis(1_773_480_413_589);
        let task = TaskId::parse("t1").unwrap();
        let provider = ProviderKey::parse("demo").unwrap();
        let agent = AgentId::parse("demo").unwrap();
        let health = Health {
            available: true,
            reason: None,
            version: None,
            hint: None,
        };
        let can = Can {
            inject: true,
            ..Can::default()
        };
        let trouble = Trouble {
            at,
            reason: "no credit".into(),
            todo: None,
        };
        comes_back(&Machine {
            id: BridgeId::parse("b1").unwrap(),
            name: "box".into(),
            hostname: None,
            online: true,
            since: at,
            version: Some("v1.0.0".into()),
            extended: true,
            providers: BTreeMap::from([(
                provider.clone(),
                ProviderReport {
                    health: health.clone(),
                    can: Some(can),
                    trouble: Some(trouble.clone()),
                },
            )]),
            models: BTreeMap::from([(provider.clone(), vec!["fast".into()])]),
            agents: vec![AgentView {
                profile: AgentProfile {
                    id: agent.clone(),
                    name: "Demo".into(),
                    provider: provider.clone(),
                    model: None,
                    workspace: None,
                    role: String::new(),
                    description: String::new(),
                    emoji: String::new(),
                    from_filesystem: false,
                },
                status: AgentStatus::Idle,
                health,
                can: Some(can),
                trouble: Some(trouble),
            }],
        });
        comes_back(&TaskView {
            summary: TaskSummary {
                id: task.clone(),
                title: "write a haiku".into(),
                agent,
                provider,
                machine: BridgeId::parse("b1").unwrap(),
                machine_name: "box".into(),
                status: TaskStatus::Waiting,
                reason: None,
                created: at,
                updated: at,
            },
            mode: Mode::Repository {
                path: "/code/web".into(),
            },
            folder: TaskFolder::parse("tasks/hub/x").unwrap(),
            tuning: Tuning {
                effort: Some("high".into()),
                ..Tuning::default()
            },
            runs: vec![RunView {
                attempt: "r1".into(),
                kind: RunKind::Dispatch,
                prompt: "write a haiku".into(),
                attachments: vec!["a.txt".into()],
                status: TaskStatus::Waiting,
                reason: None,
                created: at,
                ended: None,
                stopping: false,
            }],
            open_asks: vec![Ask {
                id: AskId::parse("q1").unwrap(),
                kind: AskKind::Edit,
                summary: "write".into(),
                options: Vec::new(),
                digest: Digest::of(&["x"]),
                tool: None,
                expires: None,
                answered: None,
                action: None,
            }],
            last_seq: 7,
        });
        for body in [
            EventBody::Queued { ahead: 2 },
            EventBody::Started { conversation: None },
            EventBody::Ended {
                outcome: Outcome::Completed,
            },
            EventBody::Rejected(Rejection::PlaceRefused { reason: "x".into() }),
        ] {
            let run = RunKey {
                task: task.clone(),
                attempt: "r1".into(),
            };
            comes_back(&StoredEvent {
                seq: 1,
                event: Event {
                    run,
                    n: 0,
                    at,
                    body,
                },
            });
        }
        comes_back(&TokenView {
            id: "x".into(),
            name: "phone".into(),
            created: at,
            used: Some(at),
        });
    }
}
