//! The thread of a spool whose disk may be slow. It ends with the link.

#[cfg(test)]
mod tests;

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::Builder,
    time::Instant,
};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{trace, warn};

use super::{Answer, Appended, Kept, Wanted};
use crate::{link::Record, spool::Disk};

/// The link's end of the thread. Dropping it ends the thread behind what it was asked for.
pub(crate) struct Thread<P> {
    /// One append, one read, and acknowledgements of what is on the disk: no more than there are
    /// messages in memory.
    asks: Sender<Ask>,
    answers: UnboundedReceiver<Answer<P>>,
    appending: bool,
}

/// What the thread is asked for.
enum Ask {
    Append(Vec<Record>),
    Read(Wanted),
    Trim(u64),
    Close,
}

impl<P: Send + 'static> Thread<P> {
    /// Starts the thread; gives the spool back where the system has none to spare.
    pub(super) fn start<D: Disk + Send + 'static>(
        kept: Box<Kept<P, D>>,
    ) -> Result<Self, Box<Kept<P, D>>> {
        let (asks, asked) = channel();
        let (answer, answers) = unbounded_channel();
        let (give, given) = channel::<Box<Kept<P, D>>>();
        let work = move || {
            if let Ok(kept) = given.recv() {
                work(*kept, &asked, &answer);
            }
        };
        if let Err(error) = Builder::new().name("spool".to_owned()).spawn(work) {
            let error = &error as &dyn std::error::Error;
            warn!(
                error,
                "no thread for the spool; the link waits for its disk"
            );
            return Err(kept);
        }
        give.send(kept).map_err(|unsent| unsent.0)?;
        Ok(Self {
            asks,
            answers,
            appending: false,
        })
    }
}

impl<P> Thread<P> {
    pub(super) fn append(&mut self, records: Vec<Record>) {
        self.appending = true;
        self.ask(Ask::Append(records));
    }

    pub(super) fn read(&self, wanted: Wanted) {
        self.ask(Ask::Read(wanted));
    }

    pub(super) fn trim(&self, upto: u64) {
        self.ask(Ask::Trim(upto));
    }

    fn ask(&self, ask: Ask) {
        if self.asks.send(ask).is_err() {
            trace!("the thread of the spool has ended");
        }
    }

    /// Waits for an answer.
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Answer<P> {
        let answer = self.answers.recv().await.unwrap_or(Answer::Ended);
        if matches!(answer, Answer::Appended(_)) {
            self.appending = false;
        }
        answer
    }

    pub(super) fn is_appending(&self) -> bool {
        self.appending
    }

    /// Ends in order, behind everything it was asked for.
    pub(super) async fn close(mut self) {
        self.ask(Ask::Close);
        while self.answers.recv().await.is_some() {}
    }
}

/// Does what is asked for, in order, and what is due, until it is closed or nobody asks any more.
fn work<P, D: Disk>(
    mut kept: Kept<P, D>,
    asks: &Receiver<Ask>,
    answers: &UnboundedSender<Answer<P>>,
) {
    loop {
        let answer = match next(asks, kept.deadline()) {
            Ok(Ask::Append(records)) => Some(Answer::Appended(kept.append(records))),
            Ok(Ask::Read(wanted)) => kept.read(wanted).map(Answer::Read),
            Ok(Ask::Trim(upto)) => {
                kept.trim(upto);
                None
            }
            Ok(Ask::Close) => return kept.close(),
            Err(RecvTimeoutError::Timeout) => kept.on_time(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let answer = match answer {
            // Nothing to tell: it was a sync, or is tried again.
            None | Some(Answer::Appended(Appended::Nothing)) => continue,
            Some(answer) => answer,
        };
        if answers.send(answer).is_err() {
            trace!("nobody waits for the spool");
        }
    }
}

/// What is due comes before what is asked for.
fn next(asks: &Receiver<Ask>, deadline: Option<Instant>) -> Result<Ask, RecvTimeoutError> {
    let Some(at) = deadline else {
        return asks.recv().map_err(RecvTimeoutError::from);
    };
    match at.saturating_duration_since(Instant::now()) {
        left if left.is_zero() => Err(RecvTimeoutError::Timeout),
        left => asks.recv_timeout(left),
    }
}
