//! One pure state machine per agent protocol.
//!
//! Contract: hand in one input (`on_*`), then drain [`Dialogue::next_step`] to `None`, then wait
//! for the next input or for [`Dialogue::deadline`]. A dialogue owns no process, reads no clock
//! and touches no file; recorded and mutated transcripts drive it directly.

use std::time::{Duration, Instant};

use bridge_proto::{AskId, ResumeId, model::Observed};

use crate::provider::{Injection, Steer, TurnEnd};

/// The rules of one agent protocol.
pub trait Dialogue: Send {
    /// The process has just been started.
    fn on_start(&mut self, now: Instant);
    /// One line of its standard output, without the line end. May be anything.
    fn on_line(&mut self, now: Instant, line: &[u8]);
    /// A line longer than the limit was skipped.
    fn on_oversized(&mut self, now: Instant, bytes: u64);
    /// The owner says something.
    fn on_steer(&mut self, now: Instant, steer: Steer);
    /// The process has ended; nothing can be sent any more.
    fn on_end(&mut self, now: Instant, exit: Exit);
    /// The deadline has passed.
    fn on_timeout(&mut self, now: Instant);
    /// The next thing to do, oldest first.
    fn next_step(&mut self) -> Option<Step>;
    /// When to call [`Dialogue::on_timeout`], if nothing else happens before.
    fn deadline(&self) -> Option<Instant>;
    /// When the agent answers this open question itself, if it does not wait for ever. Asked once
    /// for each question, behind the steps that raise it.
    fn ask_expires(&self, _ask: &AskId) -> Option<Instant> {
        None
    }
}

/// What a dialogue wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Write this line (without line end) to the program.
    Send(String),
    /// The prompt of the turn that begins has just been sent; goes with each that is.
    Prompted,
    /// Tell the owner.
    Emit(Box<Observed>),
    /// The conversation can be resumed under this id.
    Resumable(ResumeId),
    /// The agent took the answer to this question.
    Applied(AskId),
    /// What became of a [`Steer::Inject`].
    Injected(Injection),
    /// A turn is over.
    TurnOver(TurnEnd),
    /// Close the program's standard input, which it reads to the end before it works. It is given
    /// all the time it needs.
    EndInput,
    /// Close the program's standard input and let it end by itself within this time, then go on
    /// as with [`Step::Terminate`].
    CloseInput(Duration),
    /// End the process and all it started: SIGTERM, this long to obey, then SIGKILL.
    Terminate(Duration),
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, if it had one.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last lines of its standard error, shortened.
    pub stderr_tail: String,
}
