//! Where the spool of a link is worked on: by its driver, or by a thread of its own.

use std::future::pending;

use tokio::time::sleep_until;

use super::{Answer, Kept, SyncPolicy, Wanted, thread::Thread};
use crate::{
    link::{Record, Spooled},
    payload::Stored,
    spool::{Folder, Spool, SpoolError},
};

/// A spool in use by a link. One append and one read are under way at a time.
pub(crate) enum Keeper<P> {
    /// Answers at once, and holds up the link meanwhile: for what takes microseconds.
    Here(Box<Kept<P, Folder>>),
    /// Answers later.
    Apart(Thread<P>),
}

impl<P> Keeper<P> {
    /// Takes over a spool; gives the first so many bytes of what it holds.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    pub(crate) fn new(
        spool: Spool<Folder>,
        sync: SyncPolicy,
        bytes: usize,
    ) -> Result<(Self, Spooled<P>), SpoolError>
    where
        P: Stored,
    {
        let (kept, spooled) = Kept::new(spool, sync, bytes)?;
        let kept = Box::new(kept);
        let keeper = match sync {
            SyncPolicy::Never => Self::Here(kept),
            SyncPolicy::Group(_) | SyncPolicy::Each => {
                Thread::start(kept).map_or_else(Self::Here, Self::Apart)
            }
        };
        Ok((keeper, spooled))
    }

    /// Writes records down; an answer may come at once.
    pub(crate) fn append(&mut self, records: Vec<Record>) -> Option<Answer<P>> {
        match self {
            Self::Here(kept) => Some(Answer::Appended(kept.append(records))),
            Self::Apart(thread) => {
                thread.append(records);
                None
            }
        }
    }

    /// Reads what is on the disk from a number on and before another, until about so many bytes are
    /// together; an answer may come at once.
    pub(crate) fn read(&mut self, from: u64, upto: u64, bytes: usize) -> Option<Answer<P>> {
        let wanted = Wanted { from, upto, bytes };
        match self {
            Self::Here(kept) => kept.read(wanted).map(Answer::Read),
            Self::Apart(thread) => {
                thread.read(wanted);
                None
            }
        }
    }

    /// Nothing up to this number is needed any more.
    pub(crate) fn trim(&mut self, upto: u64) {
        match self {
            Self::Here(kept) => kept.trim(upto),
            Self::Apart(thread) => thread.trim(upto),
        }
    }

    /// Waits for an answer that did not come at once, and does what is due meanwhile.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Answer<P> {
        match self {
            Self::Here(kept) => loop {
                match kept.deadline() {
                    Some(at) => sleep_until(at.into()).await,
                    None => pending().await,
                }
                if let Some(answer) = kept.on_time() {
                    return answer;
                }
            },
            Self::Apart(thread) => thread.next().await,
        }
    }

    /// Whether it is still told what became of an append.
    pub(crate) fn is_appending(&self) -> bool {
        match self {
            Self::Here(_) => false,
            Self::Apart(thread) => thread.is_appending(),
        }
    }

    /// Ends in order. What is dropped while it waits ends by itself.
    pub(crate) async fn close(self) {
        match self {
            Self::Here(kept) => kept.close(),
            Self::Apart(thread) => thread.close().await,
        }
    }
}
