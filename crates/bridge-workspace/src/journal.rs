//! The run journal: what must be known after a crash. One append-only file of checked lines;
//! what one looks like is in `line`.
//!
//! A line is on the disk (`fdatasync`) before the call that wrote it returns. A torn or damaged
//! line is skipped and counted; what stands before and behind it holds. The file is rewritten with
//! only what is still needed when it is opened and whenever it has grown.

mod line;

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, Read as _, Write as _},
};

use bridge_proto::{
    AgentId, ProviderKey, RunKey, Timestamp,
    model::{Origin, Outcome, RunKind},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::line::MAX_LINE_BYTES;
use self::line::{Line, LineRef, done, encode, parse};
use crate::{
    contained::{ContainError, ContainedPath, Folder},
    executed::{CommandId, Executed},
    root::Workspace,
    task_dir::literal,
};

/// One accepted run with everything its terminal frames need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEntry {
    /// Which run.
    pub run: RunKey,
    /// Who does it.
    pub agent: AgentId,
    /// Which program serves the agent.
    pub provider: ProviderKey,
    /// Which action made it.
    pub kind: RunKind,
    /// Where it came from and how to answer.
    pub origin: Origin,
    /// When it was accepted.
    pub started: Timestamp,
    /// The agent's process, once started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The value of `CTRLNODE_RUN` in its processes.
    pub marker: String,
    /// Its task folder, relative to `CTRLNODE_ROOT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// The repository it works in, absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// No event of the run has a greater number than this; see [`Journal::reserve`].
    pub reserved: u64,
    /// The attempt of the run that its message was put into, if it never was a run of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<String>,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// What it was.
    pub entry: RunEntry,
    /// How it ended.
    pub outcome: Outcome,
    /// The number of its terminal event.
    pub n: u64,
    /// When.
    pub at: Timestamp,
}

/// What the journal knows of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState<'a> {
    /// It is queued or at work, or was when the daemon died.
    Running(&'a RunEntry),
    /// It has ended; its terminal frames can be sent again.
    Ended(&'a EndedRun),
}

/// Why the journal cannot be used. A run that cannot be recorded must not be started.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Its folder or file cannot be used.
    #[error("the journal cannot be opened")]
    Open(#[source] ContainError),
    /// The line could not be written, or not made durable.
    #[error("the journal cannot be written")]
    Write(#[source] io::Error),
    /// The entry is larger than [`MAX_LINE_BYTES`].
    #[error("the journal entry has {bytes} bytes, the limit is {MAX_LINE_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The run has ended before.
    #[error("the run {run} has ended")]
    Ended {
        /// Which run.
        run: RunKey,
    },
    /// The run was never recorded.
    #[error("the run {run} is not in the journal")]
    Unknown {
        /// Which run.
        run: RunKey,
    },
}

/// The journal. It belongs to one task; the workspace lock keeps other processes away.
#[derive(Debug)]
pub struct Journal {
    folder: Folder,
    /// `None` until the next write opens it.
    file: Option<File>,
    open: BTreeMap<RunKey, RunEntry>,
    ended: VecDeque<EndedRun>,
    executed: Executed,
    skipped: u64,
    appended: usize,
    /// The last write failed: the next line starts with a newline of its own.
    ragged: bool,
    /// An end or a command is known here that the file does not have.
    behind: bool,
}

impl Journal {
    /// Opens the journal of the workspace and reads what was there.
    pub fn open(workspace: &Workspace) -> Result<Self, JournalError> {
        let folder = workspace
            .root
            .create_folder(&literal("journal"))
            .map_err(JournalError::Open)?;
        Self::open_in(folder)
    }

    fn open_in(folder: Folder) -> Result<Self, JournalError> {
        let path = file_path();
        let mut text = Vec::new();
        match folder.read(&path) {
            Ok(file) => {
                file.take(MAX_FILE_BYTES)
                    .read_to_end(&mut text)
                    .map_err(JournalError::Write)?;
            }
            Err(ContainError::Missing { .. }) => {}
            Err(error) => return Err(JournalError::Open(error)),
        }
        let file = folder.append(&path).map_err(JournalError::Open)?;
        let mut journal = Self {
            folder,
            file: Some(file),
            open: BTreeMap::new(),
            ended: VecDeque::new(),
            executed: Executed::default(),
            skipped: 0,
            appended: 0,
            ragged: text.last().is_some_and(|byte| *byte != b'\n'),
            behind: false,
        };
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            journal.appended += 1;
            match parse(line) {
                Some(line) => journal.replay(line),
                None => journal.skipped += 1,
            }
        }
        if journal.skipped > 0 {
            tracing::warn!(
                skipped = journal.skipped,
                "the run journal had damaged lines"
            );
        }
        if journal.appended > journal.live_lines() || journal.ragged {
            journal.compact_or_go_on();
        } else if let Err(error) = journal.folder.sync() {
            tracing::warn!(%error, "the journal's folder cannot be flushed");
        }
        Ok(journal)
    }

    /// Writes the entry of an accepted run, or its changed entry. After `Ok` it survives a power
    /// cut. Call it before the agent starts, and again when the process id is known.
    pub fn record(&mut self, entry: &RunEntry) -> Result<(), JournalError> {
        self.record_for(entry, None)
    }

    /// As [`record`](Self::record), and in the same write that the command which asked for the run
    /// was carried out: it is never begun without being known, nor known without the run.
    pub fn record_for(
        &mut self,
        entry: &RunEntry,
        command: Option<CommandId>,
    ) -> Result<(), JournalError> {
        if self.ended.iter().any(|ended| ended.entry.run == entry.run) {
            return Err(JournalError::Ended {
                run: entry.run.clone(),
            });
        }
        let done = command.map(done);
        self.append(std::iter::once(LineRef::Run(entry)).chain(done))?;
        self.open.insert(entry.run.clone(), entry.clone());
        if let Some(command) = command {
            self.executed.insert(command);
        }
        self.compact_when_grown();
        self.settle();
        Ok(())
    }

    /// Writes that a command was carried out; doing it again changes nothing. After `Ok` it survives
    /// a power cut; after [`JournalError::Write`] it is known until the process ends, and written as
    /// soon as writing works again.
    pub fn done(&mut self, command: CommandId) -> Result<(), JournalError> {
        if self.executed.contains(command) {
            return Ok(());
        }
        let written = self.append([done(command)]);
        self.executed.insert(command);
        self.settle_after(written)
    }

    /// Writes that no command up to this one is waited for, as [`done`](Self::done) does.
    pub fn passed(&mut self, upto: CommandId) -> Result<(), JournalError> {
        let CommandId { numbering, seq } = upto;
        let written = self.append([LineRef::Passed { numbering, seq }]);
        self.executed.pass(upto);
        self.settle_after(written)
    }

    /// The commands that were carried out.
    pub fn executed(&self) -> &Executed {
        &self.executed
    }

    /// Up to where they are on the disk; `None` while something known is not.
    pub fn kept(&self) -> Option<CommandId> {
        self.executed.upto().filter(|_| !self.behind)
    }

    fn settle_after(&mut self, written: Result<(), JournalError>) -> Result<(), JournalError> {
        if let Err(error) = written {
            self.behind = true;
            return Err(error);
        }
        self.compact_when_grown();
        self.settle();
        Ok(())
    }

    /// Writes the ends that could not be written when they came, if there are any and it is
    /// possible now. Whatever is written next does the same.
    pub fn settle(&mut self) {
        if self.behind {
            self.compact_or_go_on();
        }
    }

    /// Makes sure that an event may carry number `n`: numbers are reserved in blocks of
    /// [`RESERVE_BLOCK`], so that this is one write for that many events. After a crash the
    /// terminal event takes `reserved + 1`. Gives the new bound.
    pub fn reserve(&mut self, run: &RunKey, n: u64) -> Result<u64, JournalError> {
        let Some(entry) = self.open.get(run) else {
            return Err(JournalError::Unknown { run: run.clone() });
        };
        if n <= entry.reserved {
            return Ok(entry.reserved);
        }
        let blocks = n.div_ceil(RESERVE_BLOCK);
        let entry = RunEntry {
            reserved: blocks.saturating_mul(RESERVE_BLOCK),
            ..entry.clone()
        };
        self.record(&entry)?;
        Ok(entry.reserved)
    }

    /// Writes how a run ended, with the number and the time of its terminal event. Ending a run
    /// again changes nothing. After `Ok` it survives a power cut; after [`JournalError::Write`] it
    /// is known until the process ends, and written as soon as writing works again.
    pub fn close(
        &mut self,
        run: &RunKey,
        outcome: &Outcome,
        n: u64,
        at: Timestamp,
    ) -> Result<(), JournalError> {
        if !self.open.contains_key(run) {
            return match self.find(run) {
                Some(_) => Ok(()),
                None => Err(JournalError::Unknown { run: run.clone() }),
            };
        }
        let written = self.append([LineRef::End {
            run,
            outcome,
            n,
            at,
        }]);
        if let Err(error @ JournalError::TooLarge { .. }) = written {
            return Err(error);
        }
        self.end(run, outcome.clone(), n, at);
        self.settle_after(written)
    }

    /// Runs without an end, by key; after a start these were interrupted.
    pub fn open_runs(&self) -> impl Iterator<Item = &RunEntry> {
        self.open.values()
    }

    /// The last [`KEPT_ENDED`] ended runs, oldest first.
    pub fn ended_runs(&self) -> impl Iterator<Item = &EndedRun> {
        self.ended.iter()
    }

    /// What is known of a run. Of ended runs the last [`KEPT_ENDED`] are known.
    pub fn find(&self, run: &RunKey) -> Option<RunState<'_>> {
        if let Some(entry) = self.open.get(run) {
            return Some(RunState::Running(entry));
        }
        self.ended
            .iter()
            .rev()
            .find(|ended| ended.entry.run == *run)
            .map(RunState::Ended)
    }

    /// How many damaged lines were skipped when it was opened.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn replay(&mut self, line: Line) {
        match line {
            Line::Run(entry) => {
                self.open.insert(entry.run.clone(), entry);
            }
            Line::End {
                run,
                outcome,
                n,
                at,
            } => {
                if !self.end(&run, outcome, n, at) {
                    self.skipped += 1;
                }
            }
            Line::Done { numbering, seq } => self.executed.insert(CommandId { numbering, seq }),
            Line::Passed { numbering, seq } => self.executed.pass(CommandId { numbering, seq }),
        }
    }

    fn end(&mut self, run: &RunKey, outcome: Outcome, n: u64, at: Timestamp) -> bool {
        let Some(entry) = self.open.remove(run) else {
            return false;
        };
        self.ended.push_back(EndedRun {
            entry,
            outcome,
            n,
            at,
        });
        if self.ended.len() > KEPT_ENDED {
            self.ended.pop_front();
        }
        true
    }

    /// One write for all of them, in their order.
    fn append<'a>(
        &mut self,
        lines: impl IntoIterator<Item = LineRef<'a>>,
    ) -> Result<(), JournalError> {
        let mut bytes = if self.ragged { vec![b'\n'] } else { Vec::new() };
        let mut count = 0;
        for line in lines {
            encode(&line, &mut bytes)?;
            count += 1;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(
                self.folder
                    .append(&file_path())
                    .map_err(JournalError::Open)?,
            ),
        };
        let written = file.write_all(&bytes).and_then(|()| file.sync_data());
        // What is half written stays; the line after it must not be drawn in.
        self.ragged = written.is_err();
        written.map_err(JournalError::Write)?;
        self.appended += count;
        Ok(())
    }

    fn live_lines(&self) -> usize {
        let commands = self.executed.upto().iter().count() + self.executed.above().count();
        self.open.len() + 2 * self.ended.len() + commands
    }

    fn compact_when_grown(&mut self) {
        if self.appended > self.live_lines() * 2 + SPARE_LINES {
            self.compact_or_go_on();
        }
    }

    /// A journal that cannot be rewritten still works; it is only longer than it must be.
    fn compact_or_go_on(&mut self) {
        if let Err(error) = self.compact() {
            tracing::warn!(%error, "the run journal cannot be rewritten");
            // The next attempt comes after as many lines again.
            self.appended = self.live_lines();
        }
    }

    fn compact(&mut self) -> Result<(), JournalError> {
        let mut bytes = Vec::new();
        for EndedRun {
            entry,
            outcome,
            n,
            at,
        } in &self.ended
        {
            encode(&LineRef::Run(entry), &mut bytes)?;
            encode(
                &LineRef::End {
                    run: &entry.run,
                    outcome,
                    n: *n,
                    at: *at,
                },
                &mut bytes,
            )?;
        }
        for entry in self.open.values() {
            encode(&LineRef::Run(entry), &mut bytes)?;
        }
        if let Some(CommandId { numbering, seq }) = self.executed.upto() {
            encode(&LineRef::Passed { numbering, seq }, &mut bytes)?;
        }
        for command in self.executed.above() {
            encode(&done(command), &mut bytes)?;
        }
        self.folder
            .replace(&file_path(), &bytes, true)
            .map_err(JournalError::Open)?;
        self.file = None;
        self.appended = self.live_lines();
        self.ragged = false;
        self.behind = false;
        Ok(())
    }
}

fn file_path() -> ContainedPath {
    literal("runs.jsonl")
}

/// How many ended runs are kept, for answering a run that arrives again.
pub const KEPT_ENDED: usize = 1000;

/// How many event numbers are reserved at a time.
pub const RESERVE_BLOCK: u64 = 1000;

/// What is read of a file at most; a journal that was rewritten in time stays far below.
const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;

/// Lines that are no longer needed but may stay until the next rewriting.
const SPARE_LINES: usize = 1000;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;
