//! What supervisor and runner tell each other.

use std::path::PathBuf;

use bridge_proto::{
    AskId, RunKey, TaskId,
    model::{Answer, Ask, Outcome, RunEvent, Tuning},
};
use bridge_providers::provider::Asking;
use tokio::sync::oneshot;

use super::turn::Turn;
use crate::dispatch::Extent;

/// What the supervisor tells a runner.
#[derive(Debug)]
pub(crate) enum ToRunner {
    /// Do this turn; never sent while another is running.
    Turn {
        turn: Box<Turn>,
        /// As it is now: while the run waited in the queue, a viewer may have come or gone.
        asking: Asking,
    },
    /// Tell the agent the answer to its question.
    Answer(AskId, Answer),
    /// Publish this about the running turn.
    Publish(RunEvent),
    /// Put the message of this run into the running turn; answered by [`FromRunner::Injected`], or
    /// by the end of the turn.
    Inject { run: RunKey, text: String },
    /// End the running turn.
    Interrupt(Extent),
    /// Change settings of the conversation.
    Tune(Tuning),
    /// Close the conversation and end.
    Close,
}

/// What a runner tells the supervisor.
#[derive(Debug)]
pub(crate) enum FromRunner {
    /// A sign of life.
    Alive(RunKey),
    /// The agent asks; not published yet.
    Asked {
        run: RunKey,
        ask: Box<Ask>,
        inside: bool,
        /// Where relative paths of the action begin.
        directory: PathBuf,
    },
    /// Whether the running turn has the message of this run; published before.
    Injected { run: RunKey, taken: bool },
    /// The model is not waited for any longer; the turn goes on until it is stopped.
    GivenUp { run: RunKey, outcome: Outcome },
    /// The agent withdrew its question; published.
    Withdrawn { run: RunKey, ask: AskId },
    /// The agent took the answer. The runner waits for what is to be said about it, so that it is
    /// said before the end of the turn.
    Applied {
        run: RunKey,
        ask: AskId,
        closed: oneshot::Sender<Option<RunEvent>>,
    },
    /// The turn is over; everything before it has been pushed.
    TurnOver { run: RunKey, outcome: Outcome },
    /// There is no conversation any more.
    Gone(TaskId),
}
