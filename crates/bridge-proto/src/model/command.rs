//! What can be asked of this machine.

use serde::{Deserialize, Serialize};

use super::{
    AgentChange, Answer, CapabilityQuery, GatewayRequest, GitRequest, ModelManifest,
    PipelineRequest, PlanGraph, Request,
};
use crate::id::{AgentId, AskId, Digest, RunKey, TaskFolder, TaskId};

/// One thing asked, whoever asked it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// Where it came from and how to answer.
    pub origin: Origin,
    /// What is asked.
    pub body: CommandBody,
}

/// Where a command came from, and what its dialect needs to answer it. Journalled with the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Which door it came through.
    pub source: Source,
    /// Opaque to everyone but the dialect that made it.
    pub reply: ReplyToken,
}

/// The doors a command can come through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A control plane that speaks the plain wire.
    Plane,
    /// Our own hub (the extension was accepted).
    Hub,
    /// This machine's own command line.
    Local,
    /// A watched folder.
    Folder,
}

/// What a dialect needs to answer a command: JSON of the dialect's own making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ReplyToken(pub String);

/// The things that can be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum CommandBody {
    /// Start a run.
    Start(Box<StartRun>),
    /// Go on with a task's conversation.
    FollowUp(Box<FollowUp>),
    /// Stop what runs or waits for this task.
    Cancel {
        /// Whose run.
        task: TaskId,
    },
    /// End the turn that works for this task and keep its conversation, where the agent allows
    /// it. What waits for the task goes on.
    Interrupt {
        /// Whose turn.
        task: TaskId,
    },
    /// Answer an open question or permission request.
    Answer {
        /// Whose question.
        task: TaskId,
        /// Which question; `None` on the plain wire, where one is open at a time.
        ask: Option<AskId>,
        /// What the viewer saw; must match when given.
        digest: Option<Digest>,
        /// The answer.
        answer: Answer,
    },
    /// Say what became of a run: its end again, or whether it is known here. Our own hub asks this
    /// before it gives up a run.
    Check {
        /// Which run.
        run: RunKey,
        /// Who was to do it.
        agent: AgentId,
    },
    /// Change settings of a live conversation.
    Tune {
        /// Whose conversation.
        task: TaskId,
        /// Which.
        tuning: Tuning,
    },
    /// The plane's list of agents changed.
    Agents(AgentChange),
    /// The plane's list of models (`model_manifest`); never answered.
    Models(ModelManifest),
    /// Plan a pipeline; answered with progress and one result.
    Plan(Box<PlanGraph>),
    /// A question about an agent's skills; answered once.
    Capabilities(CapabilityQuery),
    /// A question about files that is answered once.
    Request(Request),
    /// A question about, or a change of, a git repository.
    Git(GitRequest),
    /// A question about, or a step of, a pipeline.
    Pipeline(PipelineRequest),
    /// A request for OpenClaw itself.
    Gateway(GatewayRequest),
    /// An action this version does not know; counted and logged (decision 24).
    Unknown {
        /// The action as received, shortened.
        kind: String,
    },
}

/// Settings of a conversation; what is `None` is not touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tuning {
    /// The wanted model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The wanted mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The wanted thinking effort, e.g. `low` or `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
}

impl Tuning {
    /// Whether it touches nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes over what `newer` touches.
    pub fn update(&mut self, newer: Self) {
        let Self {
            model,
            mode,
            effort,
        } = newer;
        self.model = model.or_else(|| self.model.take());
        self.mode = mode.or_else(|| self.mode.take());
        self.effort = effort.or_else(|| self.effort.take());
    }
}

/// A run to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StartRun {
    /// Which run this is; the same key is never started twice.
    pub run: RunKey,
    /// Who shall do it.
    pub agent: AgentId,
    /// What to do; blank is rejected by the runtime with `MISSING_INTENT_PAYLOAD`.
    pub prompt: String,
    /// Where to work.
    pub place: Place,
    /// Summary file below `CTRLNODE_ROOT` that the agent shall write in work-directory mode.
    pub task_log: Option<String>,
    /// What the conversation shall be set to; what is absent is the agent's own.
    pub tuning: Tuning,
}

/// A further message to a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FollowUp {
    /// Which run this is.
    pub run: RunKey,
    /// Who shall do it.
    pub agent: AgentId,
    /// The message.
    pub message: String,
    /// Where to work; the plane repeats it with every follow-up.
    pub place: Place,
    /// Whether it is prepared as a follow-up (saved, numbered) or passed on unchanged.
    pub kind: RunKind,
    /// Files of the repository the person pointed at.
    pub focus_files: Vec<String>,
    /// When it shall be read.
    pub when: When,
    /// What the conversation shall be set to; what is absent stays as it is.
    pub tuning: Tuning,
}

/// When a further message shall be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// In a run of its own, behind what works and waits.
    #[default]
    After,
    /// In the turn that works, if one does and its agent can read it there; else as
    /// [`When::After`]. Either the run of the message ends with
    /// [`EventBody::Joined`](super::EventBody::Joined), or it is a run like any other.
    Now,
}

/// Which action made the run; the terminal frames repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// `dispatch_task`.
    Dispatch,
    /// `followup`: saved in the task folder, numbered, answered in its own file.
    FollowUp,
    /// `agent_command`: passed to the agent unchanged.
    AgentCommand,
}

/// Where a run works. Both paths are untrusted text until the workspace has resolved them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum Place {
    /// Output mode: the task folder is the working directory. `None`: `tasks/<task id>`.
    Output {
        /// Relative to `CTRLNODE_ROOT`.
        folder: Option<TaskFolder>,
    },
    /// Work-directory mode: the repository is the working directory; log and metadata stay in
    /// the task folder.
    Repository {
        /// Absolute path on this machine.
        path: String,
        /// Relative to `CTRLNODE_ROOT`.
        folder: Option<TaskFolder>,
    },
}

impl Place {
    /// The task folder the plane named, in either mode.
    pub fn folder(&self) -> Option<&TaskFolder> {
        match self {
            Self::Output { folder } | Self::Repository { folder, .. } => folder.as_ref(),
        }
    }
}
