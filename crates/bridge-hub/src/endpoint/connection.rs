//! One connection of a bridge, from when it was let in to its end, whatever carries it.
//!
//! With the extension whole events are taken, in the envelope of `bridge_transport::delivery`. A
//! frame that cannot be read is counted and dropped; the connection goes on, unless that happens all
//! the time. A bridge that is silent for a minute is dropped. What had arrived when a connection
//! ended is still taken.

use std::{convert::Infallible, pin::pin, time::Duration};

use axum::extract::ws::Message as Frame;
use bridge_proto::{
    BridgeId,
    ctrlnode::{
        MAX_FRAME_BYTES,
        plane::{self, FromBridge},
    },
};
use bridge_transport::delivery::{Heard, Position, Reader};
use futures_util::{Sink, Stream, StreamExt as _};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

use super::outflow;
use crate::{
    hub::Hub,
    owner::{Line, Message, Outgoing},
    state::{ConnId, HangUp},
    useless::{TooMany, Useless},
};

/// The life of a connection. When it cannot be written any more, because the socket failed or the
/// hub hung up, what has reached this machine by then is still read.
pub(crate) async fn talk(
    hub: &Hub,
    bridge: BridgeId,
    extended: bool,
    sink: impl Sink<Frame> + Unpin,
    stream: impl Stream<Item = Result<Frame, axum::Error>> + Unpin,
) {
    let (out, outgoing) = mpsc::channel(OUTGOING);
    let (listen, listening) = watch::channel(None);
    let (reply, conn) = oneshot::channel();
    let last_word = out.downgrade();
    let opened = Message::Opened {
        bridge: bridge.clone(),
        extended,
        line: Line { out, listen },
        reply,
    };
    if hub.tell(opened).await.is_err() {
        return;
    }
    let Ok(conn) = conn.await else { return };
    tracing::info!(machine = %bridge, extended, "bridge connected");
    let (ending, ended) = oneshot::channel::<Infallible>();
    let mut reading = pin!(read(hub, conn, extended, stream, listening.clone(), ended));
    let mut writing = pin!(write_until_hung_up(sink, outgoing, listening));
    let (why, narrow) = tokio::select! {
        end = &mut reading => {
            if let Some(why) = end.hang_up {
                hang_up(&last_word, why, writing).await;
            }
            (end.why, end.narrow)
        }
        why = &mut writing => {
            drop(ending);
            let end = timeout(LAST_WORDS, reading).await;
            let end = end.unwrap_or_else(|_| "more than there is time for".into());
            tracing::debug!(machine = %bridge, end = end.why, "what had arrived was read");
            (why, end.narrow)
        }
    };
    tracing::info!(machine = %bridge, why, "bridge disconnected");
    if hub.tell(Message::Closed { conn, narrow }).await.is_err() {
        tracing::debug!("the hub has stopped");
    }
}

/// Why nothing is read any more.
struct End {
    why: &'static str,
    /// What the bridge should hear of it.
    hang_up: Option<HangUp>,
    /// Something on the way takes no frames as long as those that were sent.
    narrow: bool,
}

impl From<&'static str> for End {
    fn from(why: &'static str) -> Self {
        Self {
            why,
            hang_up: None,
            narrow: false,
        }
    }
}

impl From<TooMany> for End {
    fn from(TooMany: TooMany) -> Self {
        Self {
            why: "said too much that is of no use",
            hang_up: Some(HangUp::Useless),
            narrow: false,
        }
    }
}

/// Tells a bridge why it is let go, if it takes that at once.
async fn hang_up(
    out: &mpsc::WeakSender<Outgoing>,
    why: HangUp,
    writing: impl Future<Output = &'static str>,
) {
    let saying = async {
        if let Some(out) = out.upgrade()
            && out.send(Outgoing::Close(why)).await.is_err()
        {
            tracing::debug!("a connection was hung up on before");
        }
    };
    let said = async { tokio::join!(saying, writing) };
    if timeout(outflow::CLOSING, said).await.is_err() {
        tracing::debug!(?why, "a bridge was let go without a word");
    }
}

/// Reads from the moment it is listened to; only for a moment more from when it has `ended`.
async fn read(
    hub: &Hub,
    conn: ConnId,
    extended: bool,
    mut stream: impl Stream<Item = Result<Frame, axum::Error>> + Unpin,
    mut listening: watch::Receiver<Option<Position>>,
    mut ended: oneshot::Receiver<Infallible>,
) -> End {
    let position = match listening.wait_for(Option::is_some).await {
        Ok(position) => position.unwrap_or_default(),
        Err(_) => return "let go".into(),
    };
    let mut ear = Ear {
        hub,
        conn,
        reader: extended.then(|| Reader::new(position, PARTS)),
        storable: hub.storable.clone(),
        useless: Useless::new(Instant::now()),
    };
    let mut last_bytes: Option<usize> = None;
    loop {
        let patience = if last_bytes.is_some() { LULL } else { SILENCE };
        let next = tokio::select! {
            next = timeout(patience, stream.next()) => next,
            _ = &mut ended, if last_bytes.is_none() => {
                last_bytes = Some(LAST_BYTES);
                continue;
            }
        };
        let frame = match next {
            Err(_) => return "silent".into(),
            Ok(None) => return "closed".into(),
            Ok(Some(Err(error))) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "socket failed");
                return "broken".into();
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Ping(_) | Frame::Pong(_) => continue,
            Frame::Close(words) => {
                return End {
                    narrow: words.is_some_and(|words| words.code == TOO_BIG),
                    ..End::from("closed by the bridge")
                };
            }
            Frame::Binary(bytes) => {
                match ear.useless.next(Instant::now()) {
                    Ok(Some(useless)) => {
                        tracing::warn!(bytes = bytes.len(), useless, "binary frame dropped");
                    }
                    Ok(None) => {}
                    Err(too_many) => return too_many.into(),
                }
                continue;
            }
        };
        if let Some(left) = &mut last_bytes {
            match left.checked_sub(text.len()) {
                Some(rest) => *left = rest,
                None => return "too much was left to read".into(),
            }
        }
        if let Err(end) = ear.hear(&text).await {
            return end;
        }
    }
}

/// What is read on one connection, on its way to the owner.
struct Ear<'a> {
    hub: &'a Hub,
    conn: ConnId,
    /// With the envelope.
    reader: Option<Reader>,
    storable: watch::Receiver<bool>,
    useless: Useless,
}

impl Ear<'_> {
    /// Takes a frame; an error ends the connection.
    async fn hear(&mut self, text: &str) -> Result<(), End> {
        let Some(reader) = &mut self.reader else {
            return self.say(text, None).await;
        };
        match reader.hear(text) {
            Ok(Heard::Message { texts, upto, .. }) => {
                let last = texts.len().saturating_sub(1);
                if texts.is_empty() {
                    return self.tell(None, upto).await;
                }
                for (index, text) in texts.iter().enumerate() {
                    self.say(text, upto.filter(|_| index == last)).await?;
                }
                Ok(())
            }
            Ok(Heard::Gap { gap, upto }) => {
                tracing::warn!(
                    conn = self.conn.0,
                    from = gap.from,
                    to = gap.to,
                    why = gap.why_in_brief(),
                    "messages of a machine will never come"
                );
                self.tell(None, Some(upto)).await
            }
            Ok(Heard::Nothing) => Ok(()),
            Ok(Heard::Resume { epoch, last }) => {
                let conn = self.conn;
                let from = Position { epoch, last };
                self.pass(Message::Resume { conn, from }).await
            }
            Ok(Heard::Ack { seq }) => {
                let conn = self.conn;
                self.pass(Message::Acknowledged { conn, seq }).await
            }
            Err(error) => {
                tracing::warn!(%error, "a bridge broke the rules of the envelope");
                Err(End {
                    hang_up: Some(HangUp::OutOfTurn),
                    ..End::from("broke the rules of the envelope")
                })
            }
        }
    }

    async fn say(&mut self, text: &str, upto: Option<Position>) -> Result<(), End> {
        match plane::decode(text.as_bytes()) {
            Ok(message) => {
                // The agents are held up in the end, and nothing is lost.
                if is_stored(&message) && self.storable.wait_for(|it| *it).await.is_err() {
                    return Err(STOPPED.into());
                }
                self.tell(Some(message), upto).await
            }
            Err(error) => {
                if let Some(useless) = self.useless.next(Instant::now())? {
                    tracing::warn!(%error, useless, "unreadable frame dropped");
                }
                match upto {
                    Some(_) => self.tell(None, upto).await,
                    None => Ok(()),
                }
            }
        }
    }

    async fn tell(&self, message: Option<FromBridge>, upto: Option<Position>) -> Result<(), End> {
        let conn = self.conn;
        let said = Message::Said {
            conn,
            message,
            upto,
        };
        self.pass(said).await
    }

    async fn pass(&self, message: Message) -> Result<(), End> {
        self.hub.tell(message).await.map_err(|_| STOPPED.into())
    }
}

/// Whether the store has to take it.
fn is_stored(message: &FromBridge) -> bool {
    match message {
        FromBridge::Event { .. } | FromBridge::Run(_) => true,
        FromBridge::Handshake(_)
        | FromBridge::Notice(_)
        | FromBridge::Reply { .. }
        | FromBridge::Unknown { .. } => false,
    }
}

/// Once the hub has hung up, what is left to write has a second for it: a peer that is gone takes
/// nothing any more, and a newer connection of it may be waiting.
async fn write_until_hung_up(
    sink: impl Sink<Frame> + Unpin,
    outgoing: mpsc::Receiver<Outgoing>,
    mut listening: watch::Receiver<Option<Position>>,
) -> &'static str {
    let mut writing = pin!(outflow::write(sink, outgoing));
    let hung_up = async { while listening.changed().await.is_ok() {} };
    tokio::select! {
        why = &mut writing => why,
        () = hung_up => {
            let last = timeout(outflow::CLOSING, writing).await;
            last.unwrap_or("closed without a word")
        }
    }
}

/// Frames that wait for one bridge.
const OUTGOING: usize = 256;
/// Three pings without an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// For what has reached this machine when the connection ends: all of it, the time between two
/// frames that were there already, and how much.
const LAST_WORDS: Duration = Duration::from_secs(5);
const LULL: Duration = Duration::from_millis(250);
const LAST_BYTES: usize = 2 * MAX_FRAME_BYTES;
/// What messages in parts may hold together.
const PARTS: usize = 2 * MAX_FRAME_BYTES;
/// A message is too big.
const TOO_BIG: u16 = 1009;
const STOPPED: &str = "the hub has stopped";

#[cfg(test)]
mod tests;
