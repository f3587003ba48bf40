//! `/ws/bridge`: the door for machines.
//!
//! A bridge shows its pairing token as `Authorization: Bearer`. A token that is not accepted is
//! answered with 401 and a body that says so. `x-bridge-extension: 1` is accepted by answering with
//! the same header; only then whole events are taken, in the envelope of `bridge_transport::delivery`, and
//! only then `x-bridge-deflate: 1` is accepted too. A frame that cannot be read is counted and
//! dropped; the connection goes on, unless that happens all the time. A bridge that is silent for a
//! minute is dropped. What had arrived when a connection ended is still taken.

use std::{convert::Infallible, pin::pin, time::Duration};

use axum::{
    Extension, Json,
    extract::{
        State,
        ws::{Message as Frame, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse as _, Response},
};
use bridge_proto::{
    BridgeId,
    ctrlnode::{
        MAX_FRAME_BYTES,
        plane::{self, FromBridge},
    },
};
use bridge_transport::{
    carrier::deflate,
    delivery::{Heard, Position, Reader},
};
use futures_util::{Sink, Stream, StreamExt as _};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

use super::{failure, outflow};
use crate::{
    access,
    guard::bearer,
    hub::Hub,
    listener::Visitor,
    owner::{Line, Message, Outgoing},
    packed::Packed,
    state::{ConnId, HangUp},
    store::TokenHash,
    useless::{TooMany, Useless},
};

/// `GET /ws/bridge`.
pub(crate) async fn connect(
    State(hub): State<Hub>,
    visitor: Option<Extension<Visitor>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let (bridge, _) = match let_in(&hub, visitor.map(|Extension(it)| it), &headers).await {
        Ok(found) => found,
        Err(refused) => return refused,
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let extended = headers.get(EXTENSION).is_some_and(|offer| offer == "1");
    let packed = extended && headers.get(PACKED).is_some_and(|offer| offer == "1");
    let mut response = upgrade
        .max_frame_size(MAX_FRAME_BYTES)
        .max_message_size(MAX_FRAME_BYTES)
        .on_upgrade(move |socket| {
            serve(
                hub,
                bridge,
                extended,
                Packed::new(socket, packed, MAX_FRAME_BYTES),
            )
        });
    if packed {
        response
            .headers_mut()
            .insert(PACKED, HeaderValue::from_static("1"));
    }
    if extended {
        response
            .headers_mut()
            .insert(EXTENSION, HeaderValue::from_static("1"));
    }
    response
}

/// The bridge that shows its token, and what is kept of the token; or the refusal.
pub(crate) async fn let_in(
    hub: &Hub,
    visitor: Option<Visitor>,
    headers: &HeaderMap,
) -> Result<(BridgeId, TokenHash), Response> {
    let Some(token) = bearer(headers) else {
        return Err(not_accepted("no pairing token was sent"));
    };
    let token = access::hash(&token);
    let bridge = match hub.store.bridge_by_token(token).await {
        Ok(Some(bridge)) => bridge.id,
        Ok(None) => {
            tracing::warn!("a bridge with an unknown pairing token was refused");
            return Err(not_accepted("it is wrong or was revoked"));
        }
        Err(error) => return Err(failure::response(&error.into())),
    };
    if let Some(visitor) = visitor {
        visitor.welcome();
    }
    Ok((bridge, token))
}

pub(crate) fn not_accepted(why: &str) -> Response {
    let body = json!({
        "error": format!("pairing token not accepted: {why}"),
        "hint": "make a new pairing token on the hub and set it up on this machine",
    });
    (StatusCode::UNAUTHORIZED, Json(body)).into_response()
}

async fn serve(hub: Hub, bridge: BridgeId, extended: bool, socket: Packed<WebSocket>) {
    let (sink, stream) = socket.split();
    talk(&hub, bridge, extended, sink, stream).await;
}

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
    let why = tokio::select! {
        end = &mut reading => {
            if let Some(why) = end.hang_up {
                hang_up(&last_word, why, writing).await;
            }
            end.why
        }
        why = &mut writing => {
            drop(ending);
            let end = timeout(LAST_WORDS, reading).await;
            let end = end.map_or("more than there is time for", |end| end.why);
            tracing::debug!(machine = %bridge, end, "what had arrived was read");
            why
        }
    };
    tracing::info!(machine = %bridge, why, "bridge disconnected");
    if hub.tell(Message::Closed { conn }).await.is_err() {
        tracing::debug!("the hub has stopped");
    }
}

/// Why nothing is read any more.
struct End {
    why: &'static str,
    /// What the bridge should hear of it.
    hang_up: Option<HangUp>,
}

impl From<&'static str> for End {
    fn from(why: &'static str) -> Self {
        let hang_up = None;
        Self { why, hang_up }
    }
}

impl From<TooMany> for End {
    fn from(TooMany: TooMany) -> Self {
        Self {
            why: "said too much that is of no use",
            hang_up: Some(HangUp::Useless),
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
            Frame::Close(_) => return "closed by the bridge".into(),
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
                Err("broke the rules of the envelope".into())
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

pub(crate) const EXTENSION: HeaderName = HeaderName::from_static("x-bridge-extension");
const PACKED: HeaderName = HeaderName::from_static(deflate::HEADER);
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
const STOPPED: &str = "the hub has stopped";

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::body::Bytes;
    use bridge_proto::Timestamp;
    use futures_util::{sink, stream};

    use super::*;
    use crate::store::SqliteStore;

    /// A connection whose messages the test gets in place of the owner.
    struct World {
        _folder: tempfile::TempDir,
        hub: Hub,
        owner: mpsc::Receiver<Message>,
        storing: watch::Sender<bool>,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(folder.path(), Timestamp::from_millis(0)).unwrap();
            let (inbox, owner) = mpsc::channel(64);
            let (storing, storable) = watch::channel(true);
            let hub = Hub {
                owner: inbox,
                store: Arc::new(store),
                changes: watch::channel(0).1,
                storable,
                public: None,
            };
            Self {
                _folder: folder,
                hub,
                owner,
                storing,
            }
        }

        async fn opened(&mut self) -> Line {
            match self.owner.recv().await {
                Some(Message::Opened { line, reply, .. }) => {
                    reply.send(ConnId(1)).unwrap();
                    line
                }
                _ => panic!("not opened"),
            }
        }

        /// The actions it said until it was closed.
        async fn said(&mut self) -> Vec<String> {
            let mut said = Vec::new();
            loop {
                match self.owner.recv().await {
                    Some(Message::Said { message, .. }) => said.extend(message.as_ref().map(name)),
                    Some(Message::Closed { .. }) => return said,
                    _ => panic!("something else"),
                }
            }
        }
    }

    fn name(message: &FromBridge) -> String {
        match message {
            FromBridge::Unknown { kind } => kind.clone(),
            FromBridge::Run(run) => run.task.to_string(),
            FromBridge::Handshake(_)
            | FromBridge::Notice(_)
            | FromBridge::Event { .. }
            | FromBridge::Reply { .. } => panic!("{message:?}"),
        }
    }

    fn frame(action: &str) -> Frame {
        Frame::Text(format!("{{\"action\":\"{action}\"}}").into())
    }

    fn broken() -> impl Sink<Frame, Error = ()> + Unpin {
        Box::pin(sink::unfold((), |(), _: Frame| async { Err(()) }))
    }

    #[tokio::test]
    async fn what_had_arrived_when_a_write_failed_is_still_taken() {
        let mut world = World::new();
        let arrived = ["one", "two", "three"].map(|action| Ok(frame(action)));
        let stream = Box::pin(stream::iter(arrived).chain(stream::pending()));
        let hub = world.hub.clone();
        let bridge = BridgeId::parse("b").unwrap();
        let talking = tokio::spawn(async move { talk(&hub, bridge, true, broken(), stream).await });
        let line = world.opened().await;
        line.out.send(Outgoing::Frame("x".into())).await.unwrap();
        line.out.closed().await;
        line.listen.send_replace(Some(Position::default()));
        assert_eq!(world.said().await, ["one", "two", "three"]);
        talking.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_was_hung_up_on_says_what_it_has_and_no_more_than_that() {
        let mut world = World::new();
        let (more, coming) = mpsc::channel(4);
        let coming = Box::pin(stream::unfold(coming, |mut coming| async {
            Some((coming.recv().await?, coming))
        }));
        let hub = world.hub.clone();
        let bridge = BridgeId::parse("b").unwrap();
        let sink = Box::pin(sink::drain());
        let talking = tokio::spawn(async move { talk(&hub, bridge, true, sink, coming).await });
        let line = world.opened().await;
        line.listen.send_replace(Some(Position::default()));
        more.send(Ok(frame("one"))).await.unwrap();
        drop(line);
        assert_eq!(world.said().await, ["one"]);
        talking.await.unwrap();
        drop(more);
    }

    #[tokio::test]
    async fn nobody_reads_a_connection_before_its_turn() {
        let mut world = World::new();
        let stream = Box::pin(stream::iter([Ok(frame("one"))]).chain(stream::pending()));
        let hub = world.hub.clone();
        let bridge = BridgeId::parse("b").unwrap();
        let sink = Box::pin(sink::drain());
        let talking = tokio::spawn(async move { talk(&hub, bridge, true, sink, stream).await });
        drop(world.opened().await);
        assert_eq!(world.said().await, Vec::<String>::new());
        talking.await.unwrap();
    }

    /// What a bridge is told that says this.
    async fn told(said: impl Iterator<Item = Frame> + Send + 'static) -> Option<Frame> {
        let mut world = World::new();
        let (writing, mut written) = mpsc::channel(4);
        let stream = Box::pin(stream::iter(said.map(Ok)).chain(stream::pending()));
        let hub = world.hub.clone();
        let bridge = BridgeId::parse("b").unwrap();
        let sink = crate::links::sink_of(writing);
        let talking = tokio::spawn(async move { talk(&hub, bridge, true, sink, stream).await });
        let line = world.opened().await;
        line.listen.send_replace(Some(Position::default()));
        let told = async { written.recv().await };
        let (told, _) = tokio::join!(told, world.said());
        talking.await.unwrap();
        told
    }

    #[tokio::test]
    async fn a_bridge_that_says_nothing_of_use_is_told_so_and_let_go() {
        let begin = format!(
            "{{\"delivery\":\"begin\",\"epoch\":\"{:032x}\",\"next\":1}}",
            7
        );
        let texts = vec!["\"\""; 4_096].join(",");
        let one = format!("{{\"seq\":1,\"messages\":[{texts}]}}");
        let two = format!("{{\"seq\":2,\"messages\":[{texts}]}}");
        for said in [
            vec![Frame::Binary(Bytes::new()); 10_000],
            vec![Frame::Text("nothing".into()); 10_000],
            vec![
                Frame::Text(begin.into()),
                Frame::Text(one.into()),
                Frame::Text(two.into()),
            ],
        ] {
            let Some(Frame::Close(Some(close))) = told(said.into_iter()).await else {
                panic!("not let go");
            };
            assert_eq!(close.code, 1008);
            assert!(close.reason.contains("retry-after="), "{}", close.reason);
        }
    }

    #[tokio::test]
    async fn events_wait_in_the_connection_while_they_cannot_be_stored() {
        let mut world = World::new();
        let activity = r#"{"action":"agent_activity","taskId":"t","delta":"x"}"#;
        let said = [
            Ok(frame("one")),
            Ok(Frame::Text(activity.into())),
            Ok(frame("two")),
        ];
        let stream = Box::pin(stream::iter(said));
        world.storing.send_replace(false);
        let hub = world.hub.clone();
        let bridge = BridgeId::parse("b").unwrap();
        let sink = Box::pin(sink::drain());
        let talking = tokio::spawn(async move { talk(&hub, bridge, true, sink, stream).await });
        let line = world.opened().await;
        line.listen.send_replace(Some(Position::default()));
        let Some(Message::Said {
            message: Some(message),
            ..
        }) = world.owner.recv().await
        else {
            panic!("nothing said");
        };
        assert_eq!(name(&message), "one");
        tokio::task::yield_now().await;
        assert!(world.owner.try_recv().is_err());
        world.storing.send_replace(true);
        assert_eq!(world.said().await, ["t", "two"]);
        talking.await.unwrap();
    }
}
