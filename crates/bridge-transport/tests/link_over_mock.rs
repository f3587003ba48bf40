//! The driver against a carrier made of channels, in virtual time.

#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, not their helpers"
)]

use std::{pin::pin, time::Duration};

use async_trait::async_trait;
use bridge_transport::{
    Carrier, Class, CloseReason, DialError, Endpoint, Flushed, Frames, Greeting, Handle, Inbound,
    Inbox, Limits, LinkState, Payload, Phase, TextFrame,
    carrier::{Connection, FrameSink, FrameSource, Received, SinkClosed, Target, TrafficMeter},
    connect_over,
};
use http::HeaderValue;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};

#[derive(Debug, PartialEq)]
struct Note(Class, String);

impl Payload for Note {
    fn class(&self) -> Class {
        self.0
    }
    fn size(&self) -> usize {
        self.1.len()
    }
    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        self.1.push_str(&next.1);
        Ok(())
    }
    fn seal(&self, _extended: bool) -> Frames {
        TextFrame::from(self.1.as_str()).into()
    }
}

fn durable(text: &str) -> Note {
    Note(Class::Durable { stream: 1 }, text.to_owned())
}

fn text(text: &str) -> Note {
    Note(Class::Coalesce { stream: 1 }, text.to_owned())
}

/// Hands every dial to the test.
struct Script(mpsc::UnboundedSender<Dial>);

struct Dial {
    target: Target,
    answer: oneshot::Sender<Result<Connection, DialError>>,
}

#[async_trait]
impl Carrier for Script {
    async fn open(&self, target: &Target) -> Result<Connection, DialError> {
        let (answer, answered) = oneshot::channel();
        self.0
            .send(Dial {
                target: target.clone(),
                answer,
            })
            .unwrap();
        answered.await.expect("the test answers every dial")
    }
}

/// The other side of a connection.
struct Peer {
    writes: mpsc::UnboundedReceiver<Write>,
    say: mpsc::UnboundedSender<Received>,
}

enum Write {
    Frames(Vec<String>, oneshot::Sender<()>),
    Close(u16),
}

/// Takes writes, and answers pings if there is somebody who does.
struct Sink(
    mpsc::UnboundedSender<Write>,
    Option<mpsc::UnboundedSender<Received>>,
);
struct Source(mpsc::UnboundedReceiver<Received>);

#[async_trait]
impl FrameSink for Sink {
    async fn send(&mut self, frames: Vec<TextFrame>) -> Result<(), SinkClosed> {
        let (taken, done) = oneshot::channel();
        let frames = frames
            .iter()
            .map(|frame| frame.as_str().to_owned())
            .collect();
        self.0
            .send(Write::Frames(frames, taken))
            .map_err(|_| SinkClosed)?;
        done.await.map_err(|_| SinkClosed)
    }
    async fn ping(&mut self, id: u64) -> Result<(), SinkClosed> {
        match &self.1 {
            Some(say) => say.send(Received::Pong { id }).map_err(|_| SinkClosed),
            None => Ok(()),
        }
    }
    async fn close(&mut self, code: u16) {
        self.0.send(Write::Close(code)).unwrap();
    }
}

#[async_trait]
impl FrameSource for Source {
    async fn next(&mut self) -> Received {
        match self.0.recv().await {
            Some(received) => received,
            None => std::future::pending().await,
        }
    }
}

impl Dial {
    fn accept(self) -> Peer {
        self.accept_as(true)
    }

    /// Accepts as a peer that never answers a ping.
    fn accept_mute(self) -> Peer {
        self.accept_as(false)
    }

    fn accept_as(self, answers_pings: bool) -> Peer {
        let (sink, writes) = mpsc::unbounded_channel();
        let (say, source) = mpsc::unbounded_channel();
        let pongs = answers_pings.then(|| say.clone());
        let connection = Connection {
            sink: Box::new(Sink(sink, pongs)),
            source: Box::new(Source(source)),
            extended: false,
            traffic: TrafficMeter::new(),
        };
        assert!(
            self.answer.send(Ok(connection)).is_ok(),
            "the link still dials"
        );
        Peer { writes, say }
    }

    fn refuse(self, status: u16, body: &str) {
        let refused = DialError::Refused {
            status,
            retry_after: None,
            body: body.to_owned(),
        };
        assert!(
            self.answer.send(Err(refused)).is_ok(),
            "the link still dials"
        );
    }

    fn token(&self) -> Option<&str> {
        let (_, value) = self
            .target
            .headers
            .iter()
            .find(|(name, _)| name == "authorization")?;
        assert!(value.is_sensitive());
        value.to_str().ok()
    }
}

impl Peer {
    /// Takes one write from the link.
    async fn read(&mut self) -> Vec<String> {
        match self.writes.recv().await {
            Some(Write::Frames(frames, taken)) => {
                taken.send(()).unwrap();
                frames
            }
            Some(Write::Close(code)) => vec![format!("close {code}")],
            None => vec!["gone".to_owned()],
        }
    }
}

struct Bench {
    link: Handle<Note>,
    inbox: Inbox,
    dials: mpsc::UnboundedReceiver<Dial>,
    credential: watch::Sender<Option<HeaderValue>>,
}

fn start(limits: Limits) -> Bench {
    let (credential, authorization) = watch::channel(Some(HeaderValue::from_static("old")));
    let endpoint = Endpoint::new("ws://127.0.0.1:9")
        .unwrap()
        .authorization(authorization)
        .greeting(Greeting {
            frames: vec!["hello".into()],
            ..Greeting::default()
        })
        .limits(limits);
    let (dials_in, dials) = mpsc::unbounded_channel();
    let (link, inbox) = connect_over(endpoint, Box::new(Script(dials_in)));
    Bench {
        link,
        inbox,
        dials,
        credential,
    }
}

impl Bench {
    async fn dial(&mut self) -> Dial {
        self.dials.recv().await.expect("the link dials")
    }

    async fn connected(&mut self) -> Peer {
        let mut peer = self.dial().await.accept();
        assert_eq!(peer.read().await, ["hello"]);
        peer
    }

    async fn reaches(&self, phase: Phase) {
        self.link
            .state()
            .wait_for(|state| state.phase == phase)
            .await
            .unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_token_is_used_within_a_second_of_auth_required() {
    let mut bench = start(Limits::default());
    let dial = bench.dial().await;
    assert_eq!(dial.token(), Some("old"));
    dial.refuse(401, "invalid token");
    bench.reaches(Phase::AuthRequired).await;
    let began = Instant::now();
    bench
        .credential
        .send_replace(Some(HeaderValue::from_static("new")));
    let dial = bench.dial().await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(dial.token(), Some("new"));
    dial.accept();
    bench.reaches(Phase::Online).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_tried_again_slowly_and_for_ever() {
    let mut bench = start(Limits::default());
    bench.dial().await.refuse(403, "token revoked");
    for (least, most) in [
        (24, 36),
        (48, 72),
        (96, 144),
        (192, 288),
        (384, 576),
        (480, 720),
    ] {
        let began = Instant::now();
        bench.dial().await.refuse(403, "token revoked");
        let waited = began.elapsed();
        let range = Duration::from_secs(least)..=Duration::from_secs(most);
        assert!(range.contains(&waited), "{waited:?} is not in {range:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_producer_waits_while_the_outbox_is_full() {
    let mut bench = start(Limits {
        outbox: 10,
        ..Limits::default()
    });
    let dial = bench.dial().await;
    bench.link.push(text("0123456789")).await.unwrap();
    let mut waiting = pin!(
        bench
            .link
            .push(Note(Class::Coalesce { stream: 2 }, "more".into()))
    );
    let minute = Duration::from_secs(60);
    assert!(
        timeout(Duration::from_secs(5), waiting.as_mut())
            .await
            .is_err()
    );
    timeout(minute, bench.link.push(durable("terminal")))
        .await
        .unwrap()
        .unwrap();
    let mut peer = dial.accept();
    assert_eq!(peer.read().await, ["hello"]);
    assert_eq!(peer.read().await, ["0123456789", "terminal"]);
    waiting.await.unwrap();
    assert_eq!(peer.read().await, ["more"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_waits_for_room_in_its_own_order_and_holds_up_no_terminal_message() {
    let mut bench = start(Limits {
        outbox: 10,
        ..Limits::default()
    });
    let dial = bench.dial().await;
    let of = |stream| Class::Coalesce { stream };
    let list = [
        Note(of(1), "first".into()),
        Note(of(2), "sec".into()),
        Note(of(3), "waits".into()),
        Note(of(4), "last".into()),
    ];
    let mut waiting = pin!(bench.link.push_all(list));
    let short = Duration::from_secs(1);
    assert!(timeout(short, waiting.as_mut()).await.is_err());
    let mut behind = pin!(bench.link.push(Note(of(5), "behind".into())));
    assert!(timeout(short, behind.as_mut()).await.is_err());
    bench.link.push(durable("!")).await.unwrap();
    let mut peer = dial.accept();
    assert_eq!(peer.read().await, ["hello"]);
    assert_eq!(peer.read().await, ["first", "sec", "!"]);
    waiting.await.unwrap();
    assert_eq!(peer.read().await, ["waits", "last"]);
    behind.await.unwrap();
    assert_eq!(peer.read().await, ["behind"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_given_up_while_waiting_is_not_sent() {
    let mut bench = start(Limits {
        outbox: 4,
        ..Limits::default()
    });
    let dial = bench.dial().await;
    bench.link.push(text("full")).await.unwrap();
    let given_up = timeout(Duration::from_secs(1), bench.link.push(text("never"))).await;
    assert!(given_up.is_err());
    let mut peer = dial.accept();
    assert_eq!(peer.read().await, ["hello"]);
    assert_eq!(peer.read().await, ["full"]);
    bench.link.push(durable("end")).await.unwrap();
    assert_eq!(peer.read().await, ["end"]);
}

#[tokio::test(start_paused = true)]
async fn text_is_merged_while_a_write_is_under_way() {
    let mut bench = start(Limits::default());
    let mut peer = bench.dial().await.accept();
    for part in ["to", "get", "her"] {
        bench.link.push(text(part)).await.unwrap();
    }
    bench.link.push(durable("end")).await.unwrap();
    assert_eq!(peer.read().await, ["hello"]);
    assert_eq!(peer.read().await, ["together", "end"]);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_write_is_given_up_and_repeated_on_the_next_connection() {
    let mut bench = start(Limits::default());
    let mut stalled = bench.connected().await;
    bench.link.push(durable("precious")).await.unwrap();
    let held = stalled.writes.recv().await;
    let began = Instant::now();
    let mut peer = bench.connected().await;
    assert!(began.elapsed() >= Duration::from_secs(25));
    assert_eq!(peer.read().await, ["precious"]);
    drop(held);
    let mut ends = Vec::new();
    while ends.len() < 3 {
        ends.push(bench.inbox.recv().await.unwrap());
    }
    let stalled = CloseReason::Stalled(Duration::from_secs(25));
    assert!(
        matches!(&ends[1], Inbound::Closed { reason, .. } if *reason == stalled),
        "{ends:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_takes_too_long_is_given_up() {
    let mut bench = start(Limits::default());
    let began = Instant::now();
    let first = bench.dial().await;
    bench.reaches(Phase::Waiting).await;
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    let error = bench.link.state().borrow().last_error.clone();
    assert_eq!(error.as_deref(), Some("no answer within 10s"));
    assert!(first.answer.is_closed());
    bench.connected().await;
}

#[tokio::test(start_paused = true)]
async fn an_embedder_that_does_not_read_only_slows_the_peer() {
    let mut bench = start(Limits {
        inbox: 2048,
        ..Limits::default()
    });
    let peer = bench.connected().await;
    for _ in 0..20 {
        let frame = Received::Text(vec![b'x'; 1024].into());
        peer.say.send(frame).unwrap();
    }
    let minutes = Duration::from_secs(600);
    let disturbed = timeout(minutes, bench.dials.recv()).await;
    assert!(disturbed.is_err(), "dialled again");
    // The answers to the pings are not read either.
    assert_eq!(bench.link.state().borrow().phase, Phase::Doubtful);
    let mut frames = 0;
    while frames < 20 {
        if let Some(Inbound::Frame { .. }) = bench.inbox.recv().await {
            frames += 1;
        }
    }
    bench.reaches(Phase::Online).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_sends_what_waits_and_says_good_bye() {
    let mut bench = start(Limits::default());
    let mut peer = bench.connected().await;
    bench.link.push(durable("last")).await.unwrap();
    let other = bench.link.clone();
    let flushed = tokio::spawn(bench.link.shutdown(Duration::from_secs(5)));
    assert_eq!(peer.read().await, ["last"]);
    assert_eq!(peer.read().await, ["close 1000"]);
    assert_eq!(flushed.await.unwrap(), Flushed::Everything);
    assert!(other.push(durable("too late")).await.is_err());
    assert_eq!(other.state().borrow().phase, Phase::Stopped);
    let mut last = None;
    while let Some(inbound) = bench.inbox.recv().await {
        last = Some(inbound);
    }
    assert!(matches!(
        last,
        Some(Inbound::Closed {
            reason: CloseReason::ShutDown,
            ..
        })
    ));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_holds_up_no_shutdown() {
    let mut bench = start(Limits::default());
    let mut peer = bench.dial().await.accept_mute();
    assert_eq!(peer.read().await, ["hello"]);
    bench.link.push(durable("last")).await.unwrap();
    assert_eq!(peer.read().await, ["last"]);
    let began = Instant::now();
    let flushed = tokio::spawn(bench.link.shutdown(Duration::from_secs(60)));
    assert_eq!(peer.read().await, ["close 1000"]);
    assert_eq!(flushed.await.unwrap(), Flushed::Everything);
    assert!(began.elapsed() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_terminal_message_that_was_written_and_not_proven_is_sent_again() {
    let mut bench = start(Limits::default());
    let mut first = bench.dial().await.accept_mute();
    assert_eq!(first.read().await, ["hello"]);
    bench.link.push(text("gone")).await.unwrap();
    assert_eq!(first.read().await, ["gone"]);
    bench.link.push(durable("precious")).await.unwrap();
    assert_eq!(first.read().await, ["precious"]);
    let reset = CloseReason::Lost("reset".to_owned());
    first.say.send(Received::Closed(reset.clone())).unwrap();
    let mut second = bench.connected().await;
    assert_eq!(second.read().await, ["precious"]);
    // Proven now: the next connection does not get it.
    let round_trip = |state: &LinkState| state.round_trip.is_some();
    bench.link.state().wait_for(round_trip).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    second.say.send(Received::Closed(reset)).unwrap();
    let mut third = bench.connected().await;
    bench.link.push(durable("next")).await.unwrap();
    assert_eq!(third.read().await, ["next"]);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_connection_is_called_connected_only_as_long_as_it_is_proven() {
    let mut bench = start(Limits::default());
    let mut peer = bench.dial().await.accept_mute();
    assert_eq!(peer.read().await, ["hello"]);
    bench.reaches(Phase::Online).await;
    let began = Instant::now();
    bench.reaches(Phase::Doubtful).await;
    assert_eq!(began.elapsed(), Duration::from_secs(25));
    let frame = Received::Text("{}".into());
    peer.say.send(frame).unwrap();
    bench.reaches(Phase::Online).await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_counts_what_it_could_not_send() {
    let mut bench = start(Limits::default());
    bench.dial().await.refuse(401, "bad token");
    bench.link.push(durable("lost")).await.unwrap();
    let began = Instant::now();
    let flushed = bench.link.shutdown(Duration::from_secs(5)).await;
    assert_eq!(
        flushed,
        Flushed::Left {
            messages: 1,
            bytes: 4
        }
    );
    assert_eq!(began.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn the_link_ends_with_its_last_handle() {
    let mut bench = start(Limits::default());
    let mut peer = bench.connected().await;
    drop(bench.link);
    assert_eq!(peer.read().await, ["close 1000"]);
    while bench.inbox.recv().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn a_new_greeting_is_used_from_the_next_dial_on() {
    let mut bench = start(Limits::default());
    let peer = bench.connected().await;
    let headers = vec![("x-agents".parse().unwrap(), HeaderValue::from_static("a,b"))];
    let frames = vec!["hello again".into()];
    bench.link.greet(Greeting {
        headers,
        frames,
        extended_frames: None,
    });
    peer.say
        .send(Received::Closed(CloseReason::Lost("reset".to_owned())))
        .unwrap();
    let dial = bench.dial().await;
    assert!(
        dial.target
            .headers
            .iter()
            .any(|(name, value)| name == "x-agents" && value == "a,b")
    );
    assert_eq!(dial.accept().read().await, ["hello again"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_says_at_the_end_never_repeats_the_token() {
    let mut bench = start(Limits::default());
    let token = HeaderValue::from_static("Bearer ctrlb_0123456789");
    bench.credential.send_replace(Some(token));
    let peer = bench.connected().await;
    let state = bench.link.state();
    assert!(matches!(
        bench.inbox.recv().await,
        Some(Inbound::Opened { .. })
    ));
    // The token of the next dial is another one by then.
    bench
        .credential
        .send_replace(Some(HeaderValue::from_static("Bearer another-one")));
    let said = CloseReason::Code {
        code: 1008,
        reason: "ctrlb_0123456789 is\nunknown".to_owned(),
    };
    peer.say.send(Received::Closed(said)).unwrap();
    let closed = bench.inbox.recv().await;
    let Some(Inbound::Closed { reason, .. }) = closed else {
        panic!("{closed:?}");
    };
    let shown = "closed by the peer with code 1008: [token] is\\nunknown";
    assert_eq!(reason.to_string(), shown);
    bench.dial().await;
    assert_eq!(state.borrow().last_error.as_deref(), Some(shown));
}

#[tokio::test(start_paused = true)]
async fn why_a_dial_failed_is_one_bounded_line() {
    let mut bench = start(Limits::default());
    let dial = bench.dial().await;
    let refused = DialError::Proxy {
        proxy: "proxy:1".to_owned(),
        reason: "\u{1b}[2J\u{202e}".repeat(1000),
    };
    assert!(dial.answer.send(Err(refused)).is_ok());
    bench.reaches(Phase::Waiting).await;
    let state = bench.link.state();
    let told = state.borrow().last_error.clone().unwrap();
    assert!(told.len() <= 300 && !told.contains(['\u{1b}', '\u{202e}']));
}
