//! The link over real sockets, where the server floods it and the network dies in one direction.

#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, not their helpers"
)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bridge_transport::{
    CloseReason, Endpoint, Handle, Inbound, Inbox, Phase, Text, Timings, connect,
};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    time::timeout,
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

type Socket = WebSocketStream<TcpStream>;

/// Short waits, so that a dead network is noticed within a test.
fn endpoint(address: SocketAddr) -> Endpoint {
    let timings = Timings {
        ping: Duration::from_millis(100),
        silence: Duration::from_millis(500),
        ..Timings::default()
    };
    let url = format!("ws://{address}/ws");
    Endpoint::new(&url)
        .unwrap()
        .timings(timings.reconnect_within(Duration::from_millis(20)))
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn accept(listener: &TcpListener) -> Socket {
    let (stream, _) = listener.accept().await.unwrap();
    accept_async(stream).await.unwrap()
}

/// Sends the same frame on every connection as fast as it is taken.
async fn flood(listener: TcpListener, frame: Message) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut socket) = accept_async(stream).await else {
            continue;
        };
        while socket.send(frame.clone()).await.is_ok() {}
    }
}

#[tokio::test]
async fn a_server_that_repeats_a_useless_frame_is_left_and_costs_no_more_than_was_agreed() {
    for frame in [Message::text("{\"error\":\"x\"}"), Message::binary(vec![1])] {
        let (listener, address) = listener().await;
        let server = tokio::spawn(flood(listener, frame));
        let (link, mut inbox) = connect::<Text>(endpoint(address));
        let began = Instant::now();
        let (mut frames, mut closes, mut slowest) = (0, 0, Duration::ZERO);
        while began.elapsed() < Duration::from_secs(2) {
            let asked = Instant::now();
            link.push(Text("still here".to_owned())).await.unwrap();
            slowest = slowest.max(asked.elapsed());
            while asked.elapsed() < Duration::from_millis(50) {
                match timeout(Duration::from_millis(5), inbox.recv()).await {
                    Ok(Some(Inbound::Frame { .. } | Inbound::Refused { .. })) => frames += 1,
                    Ok(Some(Inbound::Closed {
                        reason: CloseReason::Flooded { .. },
                        ..
                    })) => closes += 1,
                    Ok(Some(Inbound::Opened { .. } | Inbound::Closed { .. })) | Err(_) => {}
                    Ok(other) => panic!("{other:?}"),
                }
            }
        }
        server.abort();
        // The burst, what comes back in the time, and the first of each connection.
        let most = 2000 + 100 * (began.elapsed().as_secs() + 1) + 2 * (closes + 1);
        assert!(
            closes > 0 && frames <= most,
            "{frames} frames, {closes} closes"
        );
        assert!(
            slowest < Duration::from_millis(500),
            "a push took {slowest:?}"
        );
        let error = link.state().borrow().last_error.clone().unwrap();
        assert!(error.contains("useless frames"), "{error}");
    }
}

#[tokio::test]
async fn frames_that_the_embedder_cannot_use_count_as_well() {
    let (listener, address) = listener().await;
    let (link, mut inbox) = connect::<Text>(endpoint(address));
    let mut socket = accept(&listener).await;
    let nonsense = async {
        for number in 0.. {
            let sent = socket.send(Message::text(format!("nonsense {number}")));
            if sent.await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        loop {
            match inbox.recv().await.unwrap() {
                Inbound::Frame { conn, .. } => link.useless(conn).await.unwrap(),
                Inbound::Closed { reason, .. } => return reason,
                Inbound::Opened { .. }
                | Inbound::Refused { .. }
                | Inbound::Gap { .. }
                | Inbound::Missed { .. } => {}
            }
        }
    };
    let (reason, ()) = tokio::join!(reading, nonsense);
    assert!(matches!(reason, CloseReason::Flooded { useless } if useless > 2000));
}

/// A way through to a server, each direction of which can be made to swallow what it is given.
struct Path {
    address: SocketAddr,
    out: watch::Sender<bool>,
    back: watch::Sender<bool>,
    /// Bytes that came back.
    returned: Arc<AtomicUsize>,
}

impl Path {
    async fn to(server: SocketAddr) -> Self {
        let (listener, address) = listener().await;
        let (out, out_works) = watch::channel(true);
        let (back, back_works) = watch::channel(true);
        let returned = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&returned);
        tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = TcpStream::connect(server).await.unwrap().into_split();
                let none = Arc::default();
                tokio::spawn(carry(near_in, far_out, out_works.clone(), none));
                let counted = Arc::clone(&counted);
                tokio::spawn(carry(far_in, near_out, back_works.clone(), counted));
            }
        });
        Self {
            address,
            out,
            back,
            returned,
        }
    }
}

async fn carry(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    works: watch::Receiver<bool>,
    carried: Arc<AtomicUsize>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let works = *works.borrow();
        if works {
            carried.fetch_add(read, Ordering::Relaxed);
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }
}

/// What the server has read; it says something every few milliseconds meanwhile.
async fn talkative(listener: TcpListener, read: watch::Sender<Vec<String>>) {
    loop {
        let mut socket = accept(&listener).await;
        let mut number = 0;
        loop {
            let chatter = tokio::time::sleep(Duration::from_millis(20));
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        read.send_modify(|read| read.push(text.as_str().to_owned()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => break,
                },
                () = chatter => {
                    number += 1;
                    if socket.send(Message::text(format!("tick {number}"))).await.is_err() {
                        break;
                    }
                }
            }
        }
    }
}

async fn closed(inbox: &mut Inbox) -> CloseReason {
    loop {
        if let Inbound::Closed { reason, .. } = inbox.recv().await.unwrap() {
            return reason;
        }
    }
}

async fn reaches(link: &Handle<Text>, phase: Phase) {
    let mut state = link.state();
    state.wait_for(|state| state.phase == phase).await.unwrap();
}

/// Up, and known to answer pings.
async fn through(path: &Path) -> (Handle<Text>, Inbox) {
    let (link, inbox) = connect(endpoint(path.address));
    let mut state = link.state();
    let answered = state.wait_for(|state| state.round_trip.is_some());
    answered.await.unwrap();
    (link, inbox)
}

#[tokio::test]
async fn a_path_whose_way_out_is_dead_is_left_although_the_server_goes_on_talking() {
    let (listener, server) = listener().await;
    let path = Path::to(server).await;
    let (read, mut heard) = watch::channel(Vec::new());
    tokio::spawn(talkative(listener, read));
    let (link, mut inbox) = through(&path).await;
    path.out.send_replace(false);
    let began = Instant::now();
    link.push(Text("the end".to_owned())).await.unwrap();
    reaches(&link, Phase::Doubtful).await;
    let before = path.returned.load(Ordering::Relaxed);
    let limit = Duration::from_millis(1500);
    assert_eq!(closed(&mut inbox).await, CloseReason::Unanswered(limit));
    assert!(path.returned.load(Ordering::Relaxed) > before, "it talked");
    assert!(began.elapsed() >= limit);
    path.out.send_replace(true);
    heard.wait_for(|read| read == &["the end"]).await.unwrap();
}

#[tokio::test]
async fn a_path_whose_way_back_is_dead_is_left_and_what_was_not_proven_goes_again() {
    let (listener, server) = listener().await;
    let path = Path::to(server).await;
    let (read, mut heard) = watch::channel(Vec::new());
    tokio::spawn(talkative(listener, read));
    let (link, mut inbox) = through(&path).await;
    path.back.send_replace(false);
    link.push(Text("the end".to_owned())).await.unwrap();
    heard.wait_for(|read| read.len() == 1).await.unwrap();
    let silence = Duration::from_millis(500);
    assert_eq!(closed(&mut inbox).await, CloseReason::Silent(silence));
    path.back.send_replace(true);
    let twice = ["the end", "the end"];
    heard.wait_for(|read| read == &twice).await.unwrap();
    reaches(&link, Phase::Online).await;
}

#[tokio::test]
async fn a_terminal_message_that_died_in_the_buffers_of_the_network_arrives_all_the_same() {
    let (listener, server) = listener().await;
    let path = Path::to(server).await;
    let (read, mut heard) = watch::channel(Vec::new());
    let serving = tokio::spawn(async move {
        // The first connection is read up to the greeting of the network, and then reset.
        let first = accept(&listener).await;
        (first, listener)
    });
    let (link, _inbox) = connect(endpoint(path.address));
    let (first, listener) = serving.await.unwrap();
    path.out.send_replace(false);
    link.push(Text("the end".to_owned())).await.unwrap();
    tokio::task::yield_now().await;
    drop(first);
    reaches(&link, Phase::Waiting).await;
    path.out.send_replace(true);
    tokio::spawn(talkative(listener, read));
    heard.wait_for(|read| read == &["the end"]).await.unwrap();
}
