//! One link at work: the requests of a bridge on one side, its connection with the hub on the other.
//!
//! The connection is told by [`talk`](crate::endpoint::connection::talk), as that of a WebSocket is.
//! Nothing waits here without a bound: a bridge that says more than the hub takes is answered with
//! the number of the last line that was taken, and one that fetches nothing fills its room.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, future::pending, mem, time::Duration};

use axum::{
    body::Bytes,
    extract::ws::{Message as Frame, Utf8Bytes},
};
use bridge_transport::carrier::line::{Batch, Line};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::flow::{Flow, OutOfStep, Told};

/// What a request asks of a link.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Take these lines; answered with the number of the last one that is taken.
    Say { batch: Batch, reply: Answer<u64> },
    /// Tell what comes after a number, when there is something, or nothing after a while.
    Tell {
        after: u64,
        reader: Reader,
        wait: Duration,
        reply: Answer<(Reader, Told)>,
    },
    /// End the connection with this code.
    End { code: u16 },
}

/// Who reads. A link is read by one at a time, the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A new request: the bridge has everything up to the number it names.
    New,
    /// The same one goes on.
    Again(u64),
}

pub(crate) type Answer<T> = oneshot::Sender<Result<T, NoLink>>;

/// Why a link does not do what it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoLink {
    /// It has ended, or never was.
    #[error("this link has ended")]
    Ended,
    /// A newer request reads it.
    #[error("a newer request reads this link")]
    ReadElsewhere,
    /// Its numbers do not fit.
    #[error(transparent)]
    OutOfStep(#[from] OutOfStep),
}

/// The connection's ends of the two directions.
pub(crate) struct Wires {
    /// What the bridge says, as the connection reads it.
    pub(crate) said: Said,
    /// What the connection writes.
    pub(crate) written: mpsc::Receiver<Frame>,
}

/// Serves a link until it has ended and its end was told, or nobody asks any more. `farewell` becomes
/// true once the end is on its way to the bridge; that it arrived is known only later, or never.
pub(crate) async fn serve(
    mut asks: mpsc::Receiver<Ask>,
    wires: Wires,
    farewell: watch::Sender<bool>,
) {
    let Wires { said, mut written } = wires;
    let mut session = Session {
        flow: Flow::default(),
        saying: VecDeque::new(),
        speaker: None,
        listener: None,
        reader: 0,
        told: 0,
        ending: None,
        let_go: Instant::now() + IDLE,
    };
    let mut said = Some(said);
    let mut over = false;
    while !(over && session.flow.is_empty() && session.listener.is_none()) {
        if over && session.told == session.flow.last() {
            farewell.send_if_modified(|said| !mem::replace(said, true));
        }
        let deadline = session.deadline();
        let (has_to_say, has_room) = (session.has_to_say(), session.flow.has_room());
        let event = tokio::select! {
            ask = asks.recv() => Event::Asked(ask),
            permit = reserve(said.clone()), if has_to_say => Event::Room(permit),
            frame = written.recv(), if !over && has_room => Event::Written(frame),
            () = session.unread() => Event::Unread,
            () = sleep_until(deadline) => Event::Time,
        };
        match event {
            Event::Asked(Some(ask)) => session.on_ask(ask, said.is_some(), over),
            Event::Asked(None) => return,
            Event::Room(Some(permit)) => {
                let Some(frame) = session.take() else {
                    continue;
                };
                if matches!(frame, Frame::Close(_)) {
                    said = None;
                }
                permit.send(Ok(frame));
            }
            // The connection does not listen any more.
            Event::Room(None) => {
                said = None;
                session.on_deaf();
            }
            Event::Written(Some(frame)) => session.on_written(frame),
            Event::Written(None) => {
                over = true;
                said = None;
                session.on_over();
            }
            Event::Unread => session.on_unread(),
            Event::Time => {
                if session.on_time(over) {
                    if over {
                        return;
                    }
                    // The connection reads its end, and with it this link ends.
                    said = None;
                }
            }
        }
    }
}

type Said = mpsc::Sender<Result<Frame, axum::Error>>;

/// What woke a link.
enum Event {
    Asked(Option<Ask>),
    Room(Option<mpsc::OwnedPermit<Result<Frame, axum::Error>>>),
    Written(Option<Frame>),
    Unread,
    Time,
}

/// Waits until the connection takes something; `None` when it never will.
async fn reserve(said: Option<Said>) -> Option<mpsc::OwnedPermit<Result<Frame, axum::Error>>> {
    said?.reserve_owned().await.ok()
}

struct Session {
    flow: Flow,
    /// New lines that the connection has not taken yet.
    saying: VecDeque<Line>,
    /// Who waits for that, and how long.
    speaker: Option<(Answer<u64>, Instant)>,
    listener: Option<Listener>,
    /// The newest reader.
    reader: u64,
    /// The last line that a reader was given.
    told: u64,
    /// The code with which the bridge ends the connection, once it has said all.
    ending: Option<u16>,
    /// When nobody has asked for too long.
    let_go: Instant,
}

/// Who waits for something to be told.
struct Listener {
    after: u64,
    reply: Answer<(Reader, Told)>,
    until: Instant,
}

impl Session {
    fn on_ask(&mut self, ask: Ask, listens: bool, over: bool) {
        match ask {
            Ask::Say { batch, reply } => {
                if !listens {
                    return answer(reply, Err(NoLink::Ended));
                }
                self.let_go = Instant::now() + IDLE;
                match self.flow.fresh(batch) {
                    Ok(fresh) => {
                        // The same lines are in both: a newer request stands for an older one.
                        self.saying = fresh;
                        let until = Instant::now() + TAKING;
                        if let Some((older, _)) = self.speaker.replace((reply, until)) {
                            answer(older, Ok(self.flow.heard()));
                        }
                        self.settle_speaker();
                    }
                    Err(error) => answer(reply, Err(error.into())),
                }
            }
            Ask::Tell {
                after,
                reader,
                wait,
                reply,
            } => {
                match reader {
                    Reader::New => {
                        // One that asks for what is gone takes the link from nobody.
                        let known = self.flow.on_arrived(after);
                        if let Err(error) = known.and_then(|()| self.flow.after(after)) {
                            return answer(reply, Err(error.into()));
                        }
                        self.reader += 1;
                        if !over {
                            self.let_go = Instant::now() + IDLE;
                        }
                    }
                    Reader::Again(reader) if reader == self.reader => {}
                    Reader::Again(_) => return answer(reply, Err(NoLink::ReadElsewhere)),
                }
                let until = Instant::now() + wait;
                let newer = Listener {
                    after,
                    reply,
                    until,
                };
                if let Some(older) = self.listener.replace(newer) {
                    answer(older.reply, Err(NoLink::ReadElsewhere));
                }
                self.settle_listener(over);
            }
            Ask::End { code } => self.ending = Some(code),
        }
    }

    fn has_to_say(&self) -> bool {
        !self.saying.is_empty() || self.ending.is_some()
    }

    /// The next thing that the connection hears.
    fn take(&mut self) -> Option<Frame> {
        let Some(line) = self.saying.pop_front() else {
            let code = self.ending?;
            return Some(Frame::Close(Some(close(code, String::new()))));
        };
        self.flow.on_taken();
        let frame = match line {
            Line::Text(frame) => {
                let text = Utf8Bytes::try_from(Bytes::from(frame));
                Frame::Text(text.expect("a text frame is UTF-8"))
            }
            Line::Ping { id } => {
                // Who fetches nothing does not wait for an answer.
                if self.flow.has_room() {
                    self.flow.tell(&Line::Pong { id });
                    self.settle_listener(false);
                }
                Frame::Ping(Bytes::new())
            }
            Line::Pong { .. } => Frame::Pong(Bytes::new()),
            Line::Close { code, reason } => {
                self.saying.clear();
                Frame::Close(Some(close(code, reason)))
            }
        };
        self.settle_speaker();
        Some(frame)
    }

    fn on_written(&mut self, frame: Frame) {
        match frame {
            Frame::Text(text) => self.flow.tell(&Line::Text(text.as_str().into())),
            Frame::Close(frame) => {
                let (code, reason) = frame.map_or((NO_CODE, String::new()), |frame| {
                    (frame.code, frame.reason.as_str().to_owned())
                });
                self.flow.tell(&Line::Close { code, reason });
            }
            // Readers are kept awake by themselves.
            Frame::Ping(_) | Frame::Pong(_) | Frame::Binary(_) => return,
        }
        self.settle_listener(false);
    }

    fn on_deaf(&mut self) {
        self.saying.clear();
        self.ending = None;
        if let Some((reply, _)) = self.speaker.take() {
            answer(reply, Err(NoLink::Ended));
        }
    }

    fn on_over(&mut self) {
        self.on_deaf();
        self.let_go = Instant::now() + LINGER;
        self.settle_listener(true);
    }

    fn settle_speaker(&mut self) {
        if self.saying.is_empty()
            && let Some((reply, _)) = self.speaker.take()
        {
            answer(reply, Ok(self.flow.heard()));
        }
    }

    fn settle_listener(&mut self, over: bool) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        let reader = Reader::Again(self.reader);
        let told = match self.flow.after(listener.after) {
            Err(error) => Err(error.into()),
            Ok(told) if !told.lines.is_empty() => {
                let last = listener.after + told.lines.len() as u64;
                if listener.reply.send(Ok((reader, told))).is_ok() {
                    self.told = self.told.max(last);
                }
                return;
            }
            Ok(_) if over => Err(NoLink::Ended),
            Ok(told) if listener.until <= Instant::now() => Ok((reader, told)),
            Ok(_) => {
                self.listener = Some(listener);
                return;
            }
        };
        answer(listener.reply, told);
    }

    /// Waits until the reader has gone away without an answer.
    async fn unread(&mut self) {
        match &mut self.listener {
            Some(listener) => listener.reply.closed().await,
            None => pending().await,
        }
    }

    /// Nobody reads: unless somebody comes soon, the bridge is gone.
    fn on_unread(&mut self) {
        self.listener = None;
        self.let_go = self.let_go.min(Instant::now() + UNREAD);
    }

    fn deadline(&self) -> Instant {
        let speaker = self.speaker.as_ref().map(|(_, until)| *until);
        let listener = self.listener.as_ref().map(|it| it.until);
        let waits = [speaker, listener].into_iter().flatten();
        waits.fold(self.let_go, Instant::min)
    }

    /// Whether nobody has asked for too long.
    fn on_time(&mut self, over: bool) -> bool {
        let now = Instant::now();
        if let Some((reply, _)) = self.speaker.take_if(|(_, until)| *until <= now) {
            answer(reply, Ok(self.flow.heard()));
        }
        self.settle_listener(over);
        let forgotten = self.let_go <= now;
        if forgotten {
            self.let_go = now + LINGER;
        }
        forgotten
    }
}

fn close(code: u16, reason: String) -> axum::extract::ws::CloseFrame {
    axum::extract::ws::CloseFrame {
        code,
        reason: reason.into(),
    }
}

fn answer<T>(reply: Answer<T>, value: Result<T, NoLink>) {
    if reply.send(value).is_err() {
        tracing::trace!("the request of a link is gone");
    }
}

/// How long a bridge may ask for nothing.
pub(crate) const IDLE: Duration = Duration::from_secs(45);
/// How long a bridge may leave its link unread after a reader went away.
const UNREAD: Duration = Duration::from_secs(15);
/// How long a request waits for its lines to be taken, before it is told how far they are.
const TAKING: Duration = Duration::from_secs(10);
/// How long the end of a link can be asked for.
const LINGER: Duration = Duration::from_secs(10);
/// Stands for a close frame without a code.
const NO_CODE: u16 = 1005;
