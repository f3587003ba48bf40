//! The task that owns who is connected: turns messages into inputs of the machine and its effects
//! into frames, rows and answers.

use bridge_proto::{
    BridgeId, TaskId,
    model::{Answer, Ask},
};
use tokio::sync::{oneshot, watch};

use crate::{
    error::HubError,
    prepare::Draft,
    store::{BridgeRecord, RunRecord, TokenHash},
    view::{Attachment, FileContent, Files, Machine, TaskView},
};

type Answered<T> = oneshot::Sender<Result<T, HubError>>;

/// What the owner is told.
pub(crate) enum Message {
    Machines { reply: oneshot::Sender<Vec<Machine>> },
    Watch { task: TaskId, reply: oneshot::Sender<watch::Receiver<u64>> },
    Create { draft: Draft, run: RunRecord, attachments: Vec<Attachment>, reply: Answered<()> },
    FollowUp { task: Box<TaskView>, run: RunRecord, attachments: Vec<Attachment>, reply: Answered<()> },
    Cancel { bridge: BridgeId, task: TaskId, reply: Answered<()> },
    Answer { bridge: BridgeId, task: TaskId, ask: Box<Ask>, answer: Answer, reply: Answered<()> },
    Files { task: Box<TaskView>, reply: Answered<Files> },
    ReadFile { task: Box<TaskView>, path: String, reply: Answered<FileContent> },
    Pair { bridge: BridgeRecord, token: TokenHash, reply: Answered<()> },
    Unpair { bridge: BridgeId, reply: Answered<()> },
    LoginAttempt { reply: Answered<()> },
    LoginSucceeded,
}
