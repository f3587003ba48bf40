//! The half of a link that says: batches of lines by `POST`, as many together as the way takes.

use std::{collections::VecDeque, future::pending, sync::Arc};

use bytes::Bytes;
use http::Method;
use serde::Deserialize;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep,
};
use tracing::debug;

use super::{
    Arrived, SMALL, Session,
    patience::{FIRST_WAIT, Patience},
};
use crate::{
    carrier::{
        http::Http,
        line::{Batch, Line},
    },
    inbound::CloseReason,
};

/// Says what the sink is given, and what the reader has.
pub(super) struct Mouth {
    pub(super) http: Http,
    pub(super) session: Arc<Session>,
    /// The number of the next line.
    pub(super) next: u64,
    /// How many lines go together; fewer when the way is too narrow for them.
    pub(super) lines: usize,
    pub(super) arrived: watch::Receiver<Arrived>,
    pub(super) reader_tells: bool,
    /// How far the hub knows.
    pub(super) told: Arrived,
}

/// What the sink asks of the task.
pub(super) enum Op {
    Say {
        lines: VecDeque<Line>,
        done: oneshot::Sender<()>,
    },
    End {
        code: u16,
        done: oneshot::Sender<()>,
    },
}

impl Mouth {
    pub(super) async fn serve(mut self, mut ops: mpsc::Receiver<Op>) -> Result<(), CloseReason> {
        loop {
            let op = tokio::select! {
                op = ops.recv() => op,
                () = much_to_tell(&mut self.arrived, self.told, self.reader_tells) => {
                    self.say(VecDeque::new()).await?;
                    continue;
                }
            };
            let done = match op {
                Some(Op::Say { lines, done }) => {
                    let lines = lines.iter().map(Line::encode).collect();
                    self.say(lines).await?;
                    done
                }
                Some(Op::End { code, done }) => {
                    self.end(code).await;
                    done
                }
                None => return Ok(()),
            };
            if done.send(()).is_err() {
                debug!("nobody waits for a finished write");
            }
        }
    }

    /// Says all lines, or at least how far the reader is.
    async fn say(&mut self, mut lines: VecDeque<String>) -> Result<(), CloseReason> {
        let mut patience = Patience::new();
        loop {
            let count = self.together(&lines);
            let arrived = *self.arrived.borrow_and_update();
            let some = lines.iter().take(count).map(String::as_str);
            let body = Batch::encode(self.next, arrived.lines, some);
            let question = self.session.question(Method::POST, "", body.into());
            let answer = match self.http.ask(&question).await {
                Ok(answer) => answer,
                Err(error) => {
                    patience.on_broken(&error).await?;
                    continue;
                }
            };
            // Whoever answers is there, even if it takes nothing now.
            self.session.traffic.on_sent();
            match answer.status {
                200 => {}
                413 if count > 1 => {
                    self.lines = count / 2;
                    continue;
                }
                413 => {
                    return Err(CloseReason::Code {
                        code: TOO_BIG,
                        reason: "the way is too narrow for a message".to_owned(),
                    });
                }
                _ => {
                    patience.on_refused(&answer).await?;
                    continue;
                }
            }
            let heard = match answer.whole(SMALL).await {
                Ok(body) => serde_json::from_slice::<Heard>(&body),
                Err(error) => {
                    patience.on_broken(&error).await?;
                    continue;
                }
            };
            let taken = heard
                .ok()
                .and_then(|heard| heard.heard.checked_add(1)?.checked_sub(self.next));
            let taken = taken.and_then(|taken| usize::try_from(taken).ok());
            let Some(taken) = taken.filter(|taken| *taken <= count) else {
                let reason = "the server counts other lines".to_owned();
                return Err(CloseReason::Protocol(reason));
            };
            patience.on_good();
            self.told = arrived;
            self.next += taken as u64;
            lines.drain(..taken);
            if lines.is_empty() {
                return Ok(());
            }
            if taken == 0 {
                sleep(FIRST_WAIT).await;
            }
        }
    }

    /// How many lines go in the next request.
    fn together(&self, lines: &VecDeque<String>) -> usize {
        let mut bytes = 0;
        let fit = lines.iter().take(self.lines).take_while(|line| {
            bytes += line.len();
            bytes <= self.session.limits.bytes
        });
        fit.count().max(1).min(lines.len())
    }

    /// Ends the link; what becomes of that is of no interest.
    async fn end(&mut self, code: u16) {
        let query = format!("?code={code}");
        let question = self.session.question(Method::DELETE, &query, Bytes::new());
        if let Err(error) = self.http.ask(&question).await {
            debug!(%error, "a link could not be ended");
        }
    }
}

/// The answer to a batch: the number of the last line that was taken.
#[derive(Deserialize)]
struct Heard {
    heard: u64,
}

/// Waits until the hub should hear what has arrived, because it keeps that.
async fn much_to_tell(arrived: &mut watch::Receiver<Arrived>, told: Arrived, by_reader: bool) {
    let much = |arrived: &Arrived| {
        arrived.lines - told.lines >= UNTOLD_LINES || arrived.bytes - told.bytes >= UNTOLD_BYTES
    };
    if by_reader || arrived.wait_for(much).await.is_err() {
        pending::<()>().await;
    }
}

/// After so many lines or bytes that were read the hub is told so; it keeps twice as many at least.
const UNTOLD_LINES: u64 = 64;
const UNTOLD_BYTES: u64 = 128 << 10;
/// A message is too big.
const TOO_BIG: u16 = 1009;
