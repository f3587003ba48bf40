//! The link over a real spool and real sockets: more waiting than memory may hold, and a folder that
//! goes away.
#![cfg(feature = "spool")]
#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, not their helpers"
)]

use std::{collections::VecDeque, fs, path::Path, time::Duration};

use bridge_transport::{
    Bytes, Class, Endpoint, Flushed, FrameRefused, Frames, Handle, Inbound, Inbox, Payload,
    ProxySource, Stored, SyncPolicy, Text, TextFrame, Timings, WebSocket, connect_spooled,
    delivery::{Heard, MOST_TEXTS, Position, Reader},
    spool::{Folder, Spool, SpoolConfig},
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};

fn link<P: Stored>(plane: &TcpListener, folder: &Path, extended: bool) -> (Handle<P>, Inbox) {
    let config = SpoolConfig::default();
    link_within(config, SyncPolicy::Never, plane, folder, extended)
}

fn link_within<P: Stored>(
    config: SpoolConfig,
    sync: SyncPolicy,
    plane: &TcpListener,
    folder: &Path,
    extended: bool,
) -> (Handle<P>, Inbox) {
    let address = plane.local_addr().unwrap();
    let url = format!("ws://{address}/ws");
    let timings = Timings::default().reconnect_within(Duration::from_millis(20));
    let endpoint = Endpoint::new(&url).unwrap().timings(timings);
    let endpoint = endpoint.proxy(ProxySource::None).offer_extension(extended);
    let folder = Folder::open(folder).unwrap();
    let (spool, _) = Spool::open(folder, config, [7; 16]).unwrap();
    let carrier = Box::new(WebSocket::new(&endpoint));
    connect_spooled(endpoint, carrier, spool, sync).unwrap()
}

#[expect(clippy::result_large_err, reason = "the library's callback type")]
async fn accept(plane: &TcpListener) -> WebSocketStream<TcpStream> {
    loop {
        let (stream, _) = plane.accept().await.unwrap();
        let accepted = accept_hdr_async(stream, |request: &Request, mut response: Response| {
            if let Some(offer) = request.headers().get("x-bridge-extension") {
                let headers = response.headers_mut();
                headers.insert("x-bridge-extension", offer.clone());
            }
            Ok(response)
        });
        // A dial of a link that has ended meanwhile may still be there.
        if let Ok(socket) = accepted.await {
            return socket;
        }
    }
}

/// Stores what it reads from a position on until so many messages are there, acknowledging each
/// frame.
async fn store(plane: &TcpListener, position: &mut Position, messages: usize) -> Vec<String> {
    let mut socket = accept(plane).await;
    let mut reader = Reader::new(*position, 64 << 20);
    // A link that has ended meanwhile may have come as far as this.
    while (socket.send(Message::text(position.resume())).await).is_err() {
        socket = accept(plane).await;
    }
    let mut stored = Vec::new();
    while stored.len() < messages {
        let Message::Text(frame) = socket.next().await.unwrap().unwrap() else {
            continue;
        };
        match reader.hear(frame.as_str()).unwrap() {
            Heard::Message { texts, upto, .. } => {
                stored.extend(texts.into_iter().map(std::borrow::Cow::into_owned));
                *position = upto.unwrap_or(*position);
                socket.send(Message::text(position.ack())).await.unwrap();
            }
            Heard::Nothing => {}
            other @ (Heard::Gap { .. } | Heard::Resume { .. } | Heard::Ack { .. }) => {
                panic!("{other:?}")
            }
        }
    }
    // The acknowledgements have to be read before the connection ends.
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    stored
}

/// A message of so many texts.
struct Many(usize);

impl Payload for Many {
    fn class(&self) -> Class {
        Class::Durable { stream: 0 }
    }
    fn size(&self) -> usize {
        self.0
    }
    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        Err(next)
    }
    fn seal(&self, _: bool) -> Frames {
        (0..self.0).map(|_| TextFrame::from("{}")).collect()
    }
}

impl Stored for Many {
    fn store(&self) -> Option<Bytes> {
        Some(self.0.to_string().into())
    }
    fn restore(stored: &[u8]) -> Option<Self> {
        std::str::from_utf8(stored).ok()?.parse().ok().map(Self)
    }
}

#[tokio::test]
async fn a_message_of_more_texts_than_any_peer_takes_is_told_and_holds_up_nothing() {
    let place = tempfile::tempdir().unwrap();
    let plane = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (handle, mut inbox) = link(&plane, &place.path().join("spool"), true);
    let all = [Many(MOST_TEXTS + 1), Many(3)];
    handle.push_all(all).await.unwrap();
    let arrived = store(&plane, &mut Position::default(), 3).await;
    assert_eq!(arrived, ["{}"; 3]);
    let reason = loop {
        if let Inbound::Refused { reason, .. } = inbox.recv().await.unwrap() {
            break reason;
        }
    };
    let texts = MOST_TEXTS + 1;
    assert_eq!(reason, FrameRefused::TooManyToSend { texts });
}

fn texts(numbers: std::ops::Range<usize>) -> VecDeque<Text> {
    let padding = "x".repeat(190);
    numbers.map(|n| Text(format!("{n:06} {padding}"))).collect()
}

fn segments(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).unwrap();
    let sizes = files.map(|file| {
        let file = file.unwrap();
        let segment = file.path().extension().is_some_and(|it| it == "seg");
        if segment {
            file.metadata().unwrap().len()
        } else {
            0
        }
    });
    sizes.sum()
}

#[tokio::test]
async fn a_hundred_thousand_messages_wait_on_the_disk_and_arrive_in_order() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let plane = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (handle, _inbox) = link(&plane, &folder, true);
    for chunk in 0..100 {
        // Twenty megabytes and more: no producer waits, although there is no connection.
        handle
            .push_all(texts(chunk * 1000..(chunk + 1) * 1000))
            .await
            .unwrap();
    }
    assert!(segments(&folder) > 20_000_000);
    let mut position = Position::default();
    let mut arrived = store(&plane, &mut position, 30_000).await;
    arrived.extend(store(&plane, &mut position, 100_000 - arrived.len()).await);
    let expected: Vec<String> = texts(0..100_000).into_iter().map(|text| text.0).collect();
    assert!(
        arrived == expected,
        "something is lost, doubled or out of order"
    );
    let flushed = handle.shutdown(Duration::from_secs(10)).await;
    assert_eq!(flushed, Flushed::Everything);
    assert!(segments(&folder) < 2 << 20, "the disk is given back");
}

#[tokio::test]
async fn a_peer_of_the_published_wire_gets_what_waited_on_the_disk_in_order() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let plane = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (handle, _inbox) = link(&plane, &folder, false);
    handle.push_all(texts(0..20_000)).await.unwrap();
    let mut socket = accept(&plane).await;
    handle.push_all(texts(20_000..20_010)).await.unwrap();
    let mut arrived = Vec::new();
    while arrived.len() < 20_010 {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            arrived.push(text.as_str().to_owned());
        }
    }
    let expected: Vec<String> = texts(0..20_010).into_iter().map(|text| text.0).collect();
    assert!(
        arrived == expected,
        "something is lost, doubled or out of order"
    );
}

#[tokio::test]
async fn a_link_that_ends_leaves_what_waits_to_the_next_one() {
    leaves_what_waits(SyncPolicy::Never).await;
}

#[tokio::test]
async fn a_link_whose_spool_has_a_thread_leaves_what_waits_to_the_next_one() {
    leaves_what_waits(SyncPolicy::Group(Duration::from_millis(20))).await;
    leaves_what_waits(SyncPolicy::Each).await;
}

async fn leaves_what_waits(sync: SyncPolicy) {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let plane = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let start = || link_within(SpoolConfig::default(), sync, &plane, &folder, true);
    let (handle, inbox) = start();
    handle.push_all(texts(0..20_000)).await.unwrap();
    let left = handle.shutdown(Duration::ZERO).await;
    assert!(
        matches!(
            left,
            Flushed::Left {
                messages: 20_000,
                ..
            }
        ),
        "{left:?}"
    );
    drop(inbox);
    let (handle, _inbox) = start();
    handle.push_all(texts(20_000..20_001)).await.unwrap();
    let arrived = store(&plane, &mut Position::default(), 20_001).await;
    let expected: Vec<String> = texts(0..20_001).into_iter().map(|text| text.0).collect();
    assert!(
        arrived == expected,
        "something is lost, doubled or out of order"
    );
}

#[tokio::test]
async fn what_a_full_disk_does_not_take_waits_and_nothing_is_overtaken() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let plane = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let small = SpoolConfig {
        max_bytes: 4 << 20,
        ..SpoolConfig::default()
    };
    let (handle, _inbox) = link_within(small, SyncPolicy::Never, &plane, &folder, true);
    handle.push_all(texts(0..30_000)).await.unwrap();
    assert!(segments(&folder) <= 4 << 20);
    let arrived = store(&plane, &mut Position::default(), 30_000).await;
    let expected: Vec<String> = texts(0..30_000).into_iter().map(|text| text.0).collect();
    assert!(
        arrived == expected,
        "something is lost, doubled or out of order"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn of_a_folder_that_is_removed_only_what_was_on_it_alone_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("spool");
    let plane = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (handle, _inbox) = link(&plane, &folder, true);
    handle.push_all(texts(0..30_000)).await.unwrap();
    fs::remove_dir_all(&folder).unwrap();
    let mut socket = accept(&plane).await;
    let mut reader = Reader::new(Position::default(), 64 << 20);
    socket
        .send(Message::text(Position::default().resume()))
        .await
        .unwrap();
    let (mut arrived, mut missing) = (0, 0);
    while arrived + missing < 30_000 {
        let Message::Text(frame) = socket.next().await.unwrap().unwrap() else {
            continue;
        };
        match reader.hear(frame.as_str()).unwrap() {
            Heard::Message { texts, upto, .. } => {
                arrived += texts.len() as u64;
                let ack = upto.unwrap().ack();
                socket.send(Message::text(ack)).await.unwrap();
            }
            Heard::Gap { gap, upto } => {
                missing += gap.to - gap.from + 1;
                socket.send(Message::text(upto.ack())).await.unwrap();
            }
            Heard::Nothing => {}
            other @ (Heard::Resume { .. } | Heard::Ack { .. }) => panic!("{other:?}"),
        }
    }
    assert!(arrived > 1000, "what was in memory arrives: {arrived}");
}
