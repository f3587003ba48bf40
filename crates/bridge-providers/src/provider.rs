//! What every agent can be asked, whichever program it is: the [`Provider`] trait and the
//! [`Conversation`] it opens.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
pub use bridge_proto::model::Choosing;
use bridge_proto::{
    AgentId, AskId, ProviderKey, ResumeId, RunKey,
    model::{AgentPatch, AgentProfile, Answer, Health, Observed, Outcome, ToolCall, Tuning},
};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::{
    process::AllowList,
    remote::{CallFault, ConfigFault, DirectAnswer, DirectCall},
    skills::{SkillQuery, Skills},
};

/// One agent program this machine may have.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Its key on the wire, e.g. `claude`.
    fn key(&self) -> &ProviderKey;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// The variables of this machine its program gets to see.
    fn sees(&self) -> AllowList {
        AllowList::base()
    }

    /// Looks for the program and its credentials; file look-ups only, starts nothing, no network.
    fn find(&self) -> Found;

    /// Asks the program itself (version, login), ending it after `limit`.
    async fn probe(&self, limit: Duration) -> Health;

    /// The models it offers, the default first; may start the program, never calls a model.
    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError>;

    /// The agents that the program's own configuration names, at most 200; looks at files only.
    fn own_agents(&self) -> Vec<AgentProfile> {
        Vec::new()
    }

    /// Changes an agent in the program's own configuration; whether it was changed there. Reads
    /// and writes files. Most programs have no such configuration: then nothing happens.
    fn edit_agent(&self, _: &AgentEdit) -> Result<bool, EditError> {
        Ok(false)
    }

    /// The skills a prompt can call there; may start the program, never calls a model and never
    /// carries a skill out.
    async fn skills(&self, _: SkillQuery, _: Duration) -> Skills {
        Skills::default()
    }

    /// The calls of its tools that a plane's request leads to: the first is made, each further one
    /// only if the one before it was refused because its session cannot be seen. Looks at files
    /// only. Most programs have no tools that could be called: then nobody is here.
    fn tool_calls(&self, _: &ToolCall) -> Result<Vec<DirectCall>, CallFault> {
        Err(CallFault::NotHere)
    }

    /// Makes one call of [`Self::tool_calls`], within its limit. Whether it may be made was decided
    /// before.
    async fn call_tool(&self, _: &DirectCall) -> Result<DirectAnswer, CallFault> {
        Err(CallFault::NotHere)
    }

    /// Puts a whole new text in place of the program's own configuration, if it changes only what a
    /// plane may; whether anything changed. Reads and writes files.
    fn replace_config(&self, _: &str) -> Result<bool, ConfigFault> {
        Err(ConfigFault::NotHere)
    }

    /// Starts the program for one conversation. The first prompt is sent through
    /// [`Conversation::steer`].
    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError>;
}

/// What a provider can do; the table in `docs/providers.md` is made of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Abilities {
    /// A conversation can be continued by a new process.
    pub resume: bool,
    /// A second prompt can be sent to the same process after a turn.
    pub follow_up: bool,
    /// A message can be put into a turn that is running ([`Steer::Inject`]).
    pub inject: bool,
    /// It asks before it acts, and waits for the answer.
    pub permissions: bool,
    /// It puts questions to a person that are not about permission.
    pub questions: bool,
    /// When its model can be chosen, by [`RunSpec::model`] and [`Steer::Tune`].
    pub model: Choosing,
    /// When its mode can be chosen; at the start means by a [`Steer::Tune`] before the first prompt.
    pub mode: Choosing,
    /// When its thinking effort can be chosen; as with the mode.
    pub effort: Choosing,
    /// It says how many tokens were used.
    pub usage: bool,
    /// It says what they cost.
    pub cost: bool,
    /// It can look at image files.
    pub images: bool,
    /// The version of the real program it was run with; `None` if it was built from documents.
    pub ran_with: Option<&'static str>,
    /// Advertised only to planes that accepted the extension (decision 16).
    pub hub_only: bool,
    /// A second key for the same program that only the plain wire needs.
    pub plain_only: bool,
}

/// What look-ups on disk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Whether a task could be started, as far as files can tell.
    pub health: Health,
    /// The program.
    pub program: Option<PathBuf>,
}

/// A change of one agent in the configuration of its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentEdit {
    /// It becomes different.
    Update {
        /// Which.
        agent: AgentId,
        /// What about it; only name, model and workspace are kept by programs.
        patch: AgentPatch,
        /// Whether it is made where the configuration does not name it yet.
        create: bool,
    },
    /// It is named no longer.
    Remove {
        /// Which.
        agent: AgentId,
    },
}

/// Why an agent's configuration was left as it is.
#[derive(Debug, Error)]
pub enum EditError {
    /// It could not be read.
    #[error("{} could not be read", file.display())]
    Read {
        /// Which file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// What stands in it could not be kept as it is: it has comments, or is broken.
    #[error("{} is not plain JSON and would not survive a change: {why}", file.display())]
    NotPlain {
        /// Which file.
        file: PathBuf,
        /// What is in the way.
        why: String,
    },
    /// It could not be written; what was there still is.
    #[error("{} could not be written", file.display())]
    Write {
        /// Which file.
        file: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
}

/// Everything needed to start one conversation.
#[derive(Debug, Clone)]
pub struct RunSpec {
    /// Which run, for the environment marker `CTRLNODE_RUN`.
    pub run: RunKey,
    /// Who it is for: the program's own agent of this id does it, if there is one
    /// ([`Provider::own_agents`]).
    pub agent: Option<AgentId>,
    /// The working directory; exists.
    pub directory: PathBuf,
    /// Further folders the agent may use.
    pub extra_directories: Vec<PathBuf>,
    /// `None`: the agent's own default.
    pub model: Option<String>,
    /// Whether somebody can be asked before the agent acts.
    pub asking: Asking,
    /// Standing instructions (role, description), or empty.
    pub instructions: String,
    /// Continue this conversation instead of beginning one.
    pub resume: Option<ResumeId>,
    /// Whether the directory's own agent settings (hooks, servers) may be in force.
    pub trusted: bool,
    /// Folder for temporary files of the agent.
    pub temp: Option<PathBuf>,
}

/// Whether an agent may expect an answer when it asks before it acts. Agents that have a sandbox of
/// their own choose by it what they do unasked (decision 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Asking {
    /// A person or a rule answers: ask before commands.
    #[default]
    Answered,
    /// Nobody would answer: do what the sandbox allows and leave the rest.
    Unanswered,
    /// Commands are allowed by the user's own rule: no question is needed inside the sandbox.
    Unneeded,
    /// Only a plan is wanted: nothing may be changed, and every question is answered with no.
    ReadOnly,
}

/// A conversation that goes on. Dropping it ends the process with all it started.
#[derive(Debug)]
pub struct Conversation {
    /// What is heard, in order; ends after [`Heard::Gone`].
    pub heard: mpsc::Receiver<Heard>,
    /// What may be said at any time.
    pub steer: mpsc::Sender<Steer>,
    /// The process id of the agent, for the journal.
    pub pid: Option<u32>,
}

/// What a conversation tells its owner.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// The conversation can be resumed under this id from now on.
    Resumable(ResumeId),
    /// The agent has the prompt of the turn that begins now: until here it was started, or its
    /// conversation opened, and from here on its model is waited for. Said again when the prompt
    /// had to be.
    Prompted,
    /// The agent said or did something.
    Seen(Box<Observed>),
    /// The agent took the answer to this question.
    Applied(AskId),
    /// What became of a [`Steer::Inject`], in the order they were said.
    Injected(Injection),
    /// A turn is over; the process waits for the next prompt.
    TurnOver(TurnEnd),
    /// The process is gone with all it started. Always the last; if a turn was running, a
    /// [`Heard::TurnOver`] comes before it.
    Gone,
}

/// What became of a message for a running turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Injection {
    /// The agent has it and reads it in this turn. Said before the [`Heard::TurnOver`] of that
    /// turn: whoever has not heard it by then may say the message another way.
    Taken,
    /// There was no turn to put it into, or this agent cannot: nothing was said to it. May be said
    /// after the end of the turn that was meant.
    Refused,
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnEnd {
    /// How.
    pub outcome: Outcome,
    /// The whole answer text of the turn, where status tags are looked for.
    pub answer: String,
}

/// What the owner may say to a conversation.
#[derive(Debug, Clone, PartialEq)]
pub enum Steer {
    /// Begin a turn. While one runs it waits its turn.
    Prompt(String),
    /// Put a message into the turn that runs; no further [`Heard::TurnOver`] comes of it. It is
    /// answered by one [`Heard::Injected`], whatever happens.
    Inject(String),
    /// Answer an open question.
    Answer(AskId, Answer),
    /// End the turn: the protocol's own cancel first, then the ladder (decision 13). A
    /// [`Heard::TurnOver`] with `Outcome::Cancelled` follows, at most 10 s later.
    Interrupt,
    /// Change settings of the conversation. What is really in force then is told by
    /// [`RunEvent::Model`](bridge_proto::model::RunEvent::Model), `Mode` and `Effort`.
    Tune(Tuning),
    /// End the process in good order when no turn runs.
    Close,
}

/// Why a conversation could not be opened.
#[derive(Debug, Error)]
pub enum StartError {
    /// The program is not here.
    #[error("{program} was not found; {hint}")]
    Missing {
        /// What was looked for.
        program: String,
        /// What to do.
        hint: String,
    },
    /// It needs a login or key.
    #[error("{provider} is not logged in; {hint}")]
    LoginNeeded {
        /// Whose login.
        provider: String,
        /// What to do.
        hint: String,
    },
    /// The folder brings settings of its own for this agent that would be in force unasked, and
    /// nobody said that it can be trusted.
    #[error(
        "{provider} would run what {} says; mark the repository as trusted, or take the file away",
        brings.display()
    )]
    NotTrusted {
        /// Who.
        provider: String,
        /// Which file.
        brings: PathBuf,
    },
    /// It could be started in no other way than one that asks nobody before it acts, and nobody
    /// said that it may.
    #[error("{provider} would act without asking anybody; {hint}")]
    Unasked {
        /// Who.
        provider: String,
        /// What to do.
        hint: String,
    },
    /// The system would not start it.
    #[error("{program} could not be started")]
    Spawn {
        /// What was started.
        program: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The working directory is not there.
    #[error("the working directory {directory} does not exist")]
    NoDirectory {
        /// Which.
        directory: PathBuf,
    },
}

/// Why models could not be listed.
#[derive(Debug, Error)]
pub enum ListError {
    /// The program could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It did not answer in time, or not with a list.
    #[error("no model list from {provider}: {reason}")]
    NoAnswer {
        /// Whose list.
        provider: String,
        /// What came instead.
        reason: String,
    },
}
