//! What is taken of a connection, and when; what its bridge is told.

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
