//! The run journal behind one thread: every write is on disk before it is confirmed, and a command
//! that is on disk is one the hub may forget.

use std::thread;

use bridge_proto::{RunKey, Timestamp, model::Outcome};
use bridge_transport::Handle;
use bridge_workspace::{CommandId, Journal, JournalError, RunEntry};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{numbers::position, outgoing::Outgoing};

/// A handle to the thread that owns the journal. The thread ends with the last handle.
#[derive(Debug, Clone)]
pub(crate) struct Scribe {
    requests: mpsc::Sender<Request>,
}

/// Why something is not in the journal.
#[derive(Debug, Error)]
pub(crate) enum ScribeError {
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the journal thread has ended")]
    Gone,
}

enum Wanted {
    Record(Box<RunEntry>, Option<CommandId>),
    Done(CommandId),
    Passed(CommandId),
    Process(RunKey, u32),
    Join(RunKey, String),
    Settle,
    Reserve(RunKey, u64),
    Close {
        run: RunKey,
        outcome: Outcome,
        n: u64,
        at: Timestamp,
    },
}

struct Request {
    wanted: Wanted,
    done: oneshot::Sender<Result<u64, JournalError>>,
}

impl Scribe {
    /// Starts the thread. What is carried out is committed on the link.
    pub(crate) fn start(journal: Journal, link: Handle<Outgoing>) -> std::io::Result<Self> {
        let (requests, inbox) = mpsc::channel(64);
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || write(journal, &link, inbox))?;
        Ok(Self { requests })
    }

    /// Writes an accepted run down; nothing of it may start before (decision 14). With it the
    /// command that asked for it is carried out.
    pub(crate) async fn record(
        &self,
        entry: RunEntry,
        command: Option<CommandId>,
    ) -> Result<(), ScribeError> {
        let wanted = Wanted::Record(Box::new(entry), command);
        self.ask(wanted).await.map(drop)
    }

    /// A command was carried out, if it has a number. One that cannot be written down is not
    /// committed until it can.
    pub(crate) async fn done(&self, command: Option<CommandId>) {
        if let Some(command) = command
            && let Err(error) = self.ask(Wanted::Done(command)).await
        {
            tracing::warn!(?command, %error, "a command that was carried out could not be journalled");
        }
    }

    /// Nothing up to this command is waited for.
    pub(crate) async fn passed(&self, upto: CommandId) {
        if let Err(error) = self.ask(Wanted::Passed(upto)).await {
            tracing::warn!(?upto, %error, "commands that will never come could not be journalled");
        }
    }

    /// Notes the process that serves the run, for finding it after a crash.
    pub(crate) async fn process(&self, run: RunKey, pid: u32) -> Result<(), ScribeError> {
        self.ask(Wanted::Process(run, pid)).await.map(drop)
    }

    /// Notes that the message of the run was put into another run, before its end is written.
    pub(crate) async fn join(&self, run: RunKey, into: String) -> Result<(), ScribeError> {
        self.ask(Wanted::Join(run, into)).await.map(drop)
    }

    /// Writes what could not be written before, if there is something.
    pub(crate) async fn settle(&self) -> Result<(), ScribeError> {
        self.ask(Wanted::Settle).await.map(drop)
    }

    /// Promises that an event of the run may have this number; gives the bound now promised.
    pub(crate) async fn reserve(&self, run: RunKey, n: u64) -> Result<u64, ScribeError> {
        self.ask(Wanted::Reserve(run, n)).await
    }

    /// Writes down how the run ended, with number and time of its last event.
    pub(crate) async fn close(
        &self,
        run: RunKey,
        outcome: Outcome,
        n: u64,
        at: Timestamp,
    ) -> Result<(), ScribeError> {
        self.ask(Wanted::Close {
            run,
            outcome,
            n,
            at,
        })
        .await
        .map(drop)
    }

    async fn ask(&self, wanted: Wanted) -> Result<u64, ScribeError> {
        let (done, answer) = oneshot::channel();
        self.requests
            .send(Request { wanted, done })
            .await
            .map_err(|_| ScribeError::Gone)?;
        Ok(answer.await.map_err(|_| ScribeError::Gone)??)
    }
}

fn write(mut journal: Journal, link: &Handle<Outgoing>, mut inbox: mpsc::Receiver<Request>) {
    let mut told = journal.kept();
    while let Some(Request { wanted, done }) = inbox.blocking_recv() {
        let result = match wanted {
            Wanted::Record(entry, command) => {
                let recorded = journal.record_for(&entry, command);
                recorded.map(|()| entry.reserved)
            }
            Wanted::Done(command) => journal.done(command).map(|()| 0),
            Wanted::Passed(upto) => journal.passed(upto).map(|()| 0),
            Wanted::Reserve(run, n) => journal.reserve(&run, n),
            Wanted::Settle => {
                journal.settle();
                Ok(0)
            }
            Wanted::Close {
                run,
                outcome,
                n,
                at,
            } => journal.close(&run, &outcome, n, at).map(|()| n),
            Wanted::Process(run, pid) => change(&mut journal, run, |entry| entry.pid = Some(pid)),
            Wanted::Join(run, into) => change(&mut journal, run, |entry| entry.joined = Some(into)),
        };
        let kept = journal.kept();
        if let Some(upto) = kept.filter(|_| kept != told) {
            link.commit(position(upto));
            told = kept;
        }
        if done.send(result).is_err() {
            tracing::debug!("nobody waited for a journal entry");
        }
    }
}

fn change(
    journal: &mut Journal,
    run: RunKey,
    how: impl FnOnce(&mut RunEntry),
) -> Result<u64, JournalError> {
    let open = journal.open_runs().find(|entry| entry.run == run).cloned();
    let Some(mut entry) = open else {
        return Err(JournalError::Unknown { run });
    };
    how(&mut entry);
    journal.record(&entry).map(|()| 0)
}
