//! Why the hub did not do what was asked, with a stable code and a hint for each case.

use std::time::Duration;

use bridge_proto::{AgentId, AskId, BridgeId, TaskId};
use thiserror::Error;

use crate::{
    store::StoreError,
    view::{MAX_ATTACHMENT_BYTES, MAX_PROMPT_BYTES},
};

/// Why a request of a viewer failed.
#[derive(Debug, Error)]
pub enum HubError {
    /// No such machine, or its token was revoked.
    #[error("no machine has the id {id}")]
    UnknownMachine {
        /// As asked for.
        id: BridgeId,
    },
    /// The machine is not connected, or went away before it answered.
    #[error("the machine {name} is not connected")]
    MachineOffline {
        /// Its name.
        name: String,
    },
    /// The machine does not acknowledge what it was sent before.
    #[error("the machine {name} has not taken what it was sent before")]
    MachineBehind {
        /// Its name.
        name: String,
    },
    /// The machine has no such agent.
    #[error("the machine {machine} has no agent {agent}")]
    UnknownAgent {
        /// As asked for.
        agent: AgentId,
        /// The machine's name.
        machine: String,
    },
    /// No machine that is on line can run the agent.
    #[error("no machine on line has the agent {agent}{}", known.iter().fold(String::new(), |all, why| all + "; " + why))]
    NoMachineHas {
        /// As asked for.
        agent: AgentId,
        /// What the machines say of it, one text each.
        known: Vec<String>,
    },
    /// The agent is on several machines, and none was named.
    #[error("several machines have this agent: {}", machines.join(", "))]
    SeveralMachines {
        /// Their names.
        machines: Vec<String>,
    },
    /// No such task.
    #[error("no task has the id {id}")]
    UnknownTask {
        /// As asked for.
        id: TaskId,
    },
    /// No such token.
    #[error("no token has the id {id}")]
    UnknownToken {
        /// As asked for.
        id: String,
    },
    /// The prompt is blank.
    #[error("the prompt is empty")]
    EmptyPrompt,
    /// The prompt is too long.
    #[error("the prompt has {bytes} bytes, the limit is {MAX_PROMPT_BYTES}")]
    PromptTooLong {
        /// Its size.
        bytes: usize,
    },
    /// An attachment's name cannot be a file name.
    #[error("the attachment name {name:?} is not a plain file name")]
    BadAttachmentName {
        /// As sent, shortened.
        name: String,
    },
    /// The attachments are too large.
    #[error("the attachments have {bytes} bytes, the limit is {MAX_ATTACHMENT_BYTES}")]
    AttachmentsTooLarge {
        /// All together.
        bytes: usize,
    },
    /// A name, path or model is malformed.
    #[error("{what} is not acceptable: {reason}")]
    Malformed {
        /// Which value.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Nothing of the task runs or waits.
    #[error("the task has already ended")]
    TaskEnded,
    /// No turn of the task is at work.
    #[error("no turn of the task is at work")]
    NothingWorks,
    /// The machine's bridge, or the agent there, has no way to do it.
    #[error("the agent on {machine} cannot {what}")]
    NotSupported {
        /// The machine's name.
        machine: String,
        /// What was wanted, behind "cannot".
        what: &'static str,
    },
    /// The question is not open (any more).
    #[error("the question {ask} is not open")]
    AskClosed {
        /// Which.
        ask: AskId,
    },
    /// Somebody answered it before; the agent has yet to take that answer.
    #[error("the question {ask} has been answered already")]
    AskAnswered {
        /// Which.
        ask: AskId,
    },
    /// The question is another one than the viewer saw.
    #[error("the question has changed since it was shown")]
    AskChanged,
    /// The answer is none of the options.
    #[error("{option:?} is not one of the options")]
    UnknownOption {
        /// As sent, shortened.
        option: String,
    },
    /// The machine did not answer in time.
    #[error("the machine did not answer within {} s", waited.as_secs())]
    NoReply {
        /// The limit.
        waited: Duration,
    },
    /// There is no such result file, or the machine's contents policy keeps it.
    #[error("the machine does not give this file: {code}")]
    FileRefused {
        /// The machine's code.
        code: String,
    },
    /// Git on the machine did not do what was asked.
    #[error("git on the machine: {reason}")]
    GitRefused {
        /// The machine's code, or what git said.
        reason: String,
    },
    /// The file is too large for the wire.
    #[error("the file has {bytes} bytes, more than the machine sends")]
    FileTooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Too many wrong login codes.
    #[error("too many login attempts, wait {} s", wait.as_secs())]
    TooManyLogins {
        /// Until the next try.
        wait: Duration,
    },
    /// The login code is wrong, used or too old.
    #[error("the login code is not valid (any more)")]
    LoginRefused,
    /// Another machine has the name that a new one should get.
    #[error("another machine is called {name}")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// No machine shows this code, or not any more.
    #[error("no machine waits with this code")]
    UnknownDevice,
    /// The database failed.
    #[error("the hub's database failed")]
    Store(#[from] StoreError),
    /// The system gave no random bytes.
    #[error("the system gave no random numbers")]
    NoEntropy,
    /// The hub is shutting down.
    #[error("the hub is shutting down")]
    Stopping,
}

impl HubError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownMachine { .. } => "unknown_machine",
            Self::MachineOffline { .. } => "machine_offline",
            Self::MachineBehind { .. } => "machine_behind",
            Self::UnknownAgent { .. } | Self::NoMachineHas { .. } => "unknown_agent",
            Self::SeveralMachines { .. } => "several_machines",
            Self::UnknownTask { .. } => "unknown_task",
            Self::UnknownToken { .. } => "unknown_token",
            Self::EmptyPrompt => "empty_prompt",
            Self::PromptTooLong { .. } => "prompt_too_long",
            Self::BadAttachmentName { .. } => "bad_attachment_name",
            Self::AttachmentsTooLarge { .. } => "attachments_too_large",
            Self::Malformed { .. } => "malformed",
            Self::TaskEnded => "task_ended",
            Self::NothingWorks => "nothing_works",
            Self::NotSupported { .. } => "not_supported",
            Self::AskClosed { .. } => "ask_closed",
            Self::AskAnswered { .. } => "ask_answered",
            Self::AskChanged => "ask_changed",
            Self::UnknownOption { .. } => "unknown_option",
            Self::NoReply { .. } => "no_reply",
            Self::FileRefused { .. } => "file_refused",
            Self::GitRefused { .. } => "git_refused",
            Self::FileTooLarge { .. } => "file_too_large",
            Self::TooManyLogins { .. } => "too_many_logins",
            Self::LoginRefused => "login_refused",
            Self::NameTaken { .. } => "name_taken",
            Self::UnknownDevice => "unknown_device",
            Self::Store(_) => "store",
            Self::NoEntropy => "no_entropy",
            Self::Stopping => "stopping",
        }
    }

    /// What a person can do, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::UnknownMachine { .. } => Some("list the machines to see their ids"),
            Self::MachineOffline { .. } => {
                Some("start the bridge on that machine and see `ctrlnode doctor` there")
            }
            Self::UnknownAgent { .. } => Some("list the agents of the machine to see their ids"),
            Self::NoMachineHas { .. } => {
                Some("run `ctrlnode doctor` on the machine to see what is missing there")
            }
            Self::SeveralMachines { .. } => {
                Some("name one: --machine on the command line, `machine` in a request")
            }
            Self::UnknownTask { .. } => {
                Some("list the tasks; old ones are removed by the retention setting")
            }
            Self::UnknownToken { .. } => Some("list the tokens to see their ids"),
            Self::PromptTooLong { .. } => Some("attach long texts as files"),
            Self::BadAttachmentName { .. } => Some("rename the file"),
            Self::AttachmentsTooLarge { .. } => Some("send fewer or smaller files"),
            Self::TaskEnded => Some("send a follow-up to go on"),
            Self::NothingWorks => Some("send a follow-up, or cancel what waits"),
            Self::NotSupported { .. } => {
                Some("see what the agent can do in docs/providers.md; an old bridge can be updated")
            }
            Self::AskClosed { .. } | Self::AskChanged => Some("reload the task"),
            Self::AskAnswered { .. } => Some("the agent has yet to take that answer"),
            Self::NoReply { .. } | Self::MachineBehind { .. } => Some("try again"),
            Self::FileRefused { .. } => {
                Some("the file may be missing, or the contents policy of the machine keeps it")
            }
            Self::GitRefused { .. } => {
                Some("the contents policy of the machine may keep it; see docs/security.md")
            }
            Self::FileTooLarge { .. } => Some("copy it from the machine itself"),
            Self::LoginRefused => {
                Some("make a new code with `ctrlnode hub login` where the hub runs")
            }
            Self::NameTaken { .. } => Some("give this one another name, or remove the other first"),
            Self::UnknownDevice => Some("run `ctrlnode login` on the machine again"),
            Self::Store(_) => Some("see the hub's log; the disk may be full"),
            Self::EmptyPrompt
            | Self::Malformed { .. }
            | Self::UnknownOption { .. }
            | Self::TooManyLogins { .. }
            | Self::NoEntropy
            | Self::Stopping => None,
        }
    }

    /// The HTTP status that says whose fault it is.
    pub fn status(&self) -> u16 {
        match self {
            Self::UnknownMachine { .. }
            | Self::UnknownAgent { .. }
            | Self::NoMachineHas { .. }
            | Self::UnknownTask { .. }
            | Self::UnknownToken { .. }
            | Self::UnknownDevice
            | Self::FileRefused { .. } => 404,
            Self::MachineOffline { .. }
            | Self::TaskEnded
            | Self::NameTaken { .. }
            | Self::NothingWorks
            | Self::NotSupported { .. }
            | Self::GitRefused { .. }
            | Self::AskClosed { .. }
            | Self::AskAnswered { .. }
            | Self::AskChanged => 409,
            Self::EmptyPrompt
            | Self::BadAttachmentName { .. }
            | Self::Malformed { .. }
            | Self::SeveralMachines { .. }
            | Self::UnknownOption { .. } => 400,
            Self::PromptTooLong { .. }
            | Self::AttachmentsTooLarge { .. }
            | Self::FileTooLarge { .. } => 413,
            Self::LoginRefused => 401,
            Self::TooManyLogins { .. } => 429,
            Self::NoReply { .. } => 504,
            Self::Store(_) | Self::NoEntropy => 500,
            Self::Stopping | Self::MachineBehind { .. } => 503,
        }
    }
}
