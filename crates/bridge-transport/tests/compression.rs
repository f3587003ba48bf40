//! Batches on the wire: what is packed and how small it gets, and what happens to packed messages
//! that break the rules.

#![expect(
    clippy::unwrap_used,
    reason = "the lint exempts test functions, not their helpers"
)]

use std::time::{Duration, Instant};

use bridge_transport::{
    CloseReason, Compress, Endpoint, FrameRefused, Handle, Inbound, Inbox, Limits, Phase, Text,
    Timings,
    carrier::deflate::{HEADER, Packed, Packer, unpack},
    connect,
    delivery::{Heard, Position, Reader},
};
use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Bytes, Message,
        handshake::server::{ErrorResponse, Request, Response},
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

/// A hub as far as the wire goes.
struct Hub(TcpListener);

/// One connection to it, and what it has heard.
struct Talk {
    socket: WebSocketStream<TcpStream>,
    reader: Reader,
    offered: bool,
    /// Bytes of messages, without the few before each.
    bytes: usize,
    packed: usize,
    plain: usize,
    texts: Vec<String>,
}

impl Hub {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn link(&self, change: impl Fn(Endpoint) -> Endpoint) -> (Handle<Text>, Inbox) {
        let timings = Timings::default().reconnect_within(Duration::from_millis(20));
        let url = format!("ws://{}/ws", self.0.local_addr().unwrap());
        let endpoint = Endpoint::new(&url).unwrap().timings(timings);
        let endpoint = endpoint.offer_extension(true);
        connect(change(endpoint.compress(Compress::Always)))
    }

    /// Accepts the extension, and compression too where it was offered and `agrees`.
    async fn accept(&self, agrees: bool) -> Talk {
        let (stream, _) = self.0.accept().await.unwrap();
        let mut offered = false;
        #[expect(clippy::result_large_err, reason = "the library's callback type")]
        let answer = |request: &Request, mut response: Response| -> Result<_, ErrorResponse> {
            let one = HeaderValue::from_static("1");
            offered = request.headers().get(HEADER) == Some(&one);
            if agrees {
                response.headers_mut().insert(HEADER, one.clone());
            }
            response.headers_mut().insert("x-bridge-extension", one);
            Ok(response)
        };
        let mut socket = accept_hdr_async(stream, answer).await.unwrap();
        let reader = Reader::new(Position::default(), 64 << 20);
        let resume = reader.position().resume();
        socket.send(Message::text(resume)).await.unwrap();
        Talk {
            socket,
            reader,
            offered,
            bytes: 0,
            packed: 0,
            plain: 0,
            texts: Vec::new(),
        }
    }
}

impl Talk {
    /// Reads until it has heard so many messages.
    async fn hear(&mut self, count: usize) {
        while self.texts.len() < count {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => {
                    (self.plain, self.bytes) = (self.plain + 1, self.bytes + text.len());
                    self.take(&text).await;
                }
                Message::Binary(packed) => {
                    (self.packed, self.bytes) = (self.packed + 1, self.bytes + packed.len());
                    for frame in unpack(&packed, 32 << 20).unwrap() {
                        self.take(frame.as_str()).await;
                    }
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other @ (Message::Close(_) | Message::Frame(_)) => panic!("{other:?}"),
            }
        }
    }

    async fn take(&mut self, text: &str) {
        if let Heard::Message { texts, upto, .. } = self.reader.hear(text).unwrap() {
            self.texts.extend(texts.into_iter().map(String::from));
            if let Some(upto) = upto.filter(|upto| upto.last % 100 == 0) {
                self.socket.send(Message::text(upto.ack())).await.unwrap();
            }
        }
    }

    async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }
}

/// What an agent says in one go, about 200 bytes of it.
fn delta(number: usize) -> String {
    const WORDS: [&str; 24] = [
        "the",
        "function",
        "returns",
        "early",
        "when",
        "a",
        "parser",
        "is",
        "empty",
        "so",
        "we",
        "check",
        "its",
        "length",
        "first",
        "and",
        "then",
        "read",
        "`src/lib.rs`",
        "test",
        "error",
        "into",
        "list",
        "of",
    ];
    let mut state = number;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut word = || WORDS[next() % WORDS.len()];
    let said = [word(), word(), word()].join(" ");
    // A name nobody has said before.
    let said = format!("{said} v{:x}", next() & 0xfff_ffff);
    let (second, millis) = (number / 50 % 60, number * 20 % 1000);
    format!(
        "{{\"action\":\"bridge_event\",\"agentId\":\"dev-1\",\"provider\":\"codex\",\"event\":\
         {{\"run\":{{\"task\":\"1a2b3c4d-1111-4222-8333-44445555666{}\",\"attempt\":\"e1\"}},\"n\":{number},\
         \"at\":\"2026-03-14T09:26:{second:02}.{millis:03}Z\",\"body\":{{\"type\":\"seen\",\"event\":\
         {{\"kind\":\"text\",\"block\":\"b1\",\"delta\":\"{said} \"}}}}}}}}",
        number % 4
    )
}

#[tokio::test]
async fn ten_thousand_deltas_are_four_times_smaller_and_arrive_as_they_were() {
    let deltas: Vec<String> = (0..10_000).map(delta).collect();
    let plain: usize = deltas.iter().map(String::len).sum();
    let hub = Hub::start().await;
    let (link, _inbox) = hub.link(|endpoint| endpoint);
    let pushing = tokio::spawn({
        let deltas = deltas.clone();
        async move {
            let texts: Vec<Text> = deltas.into_iter().map(Text).collect();
            link.push_all(texts).await.unwrap();
            link
        }
    });
    let mut talk = hub.accept(true).await;
    assert!(talk.offered);
    talk.hear(deltas.len()).await;
    assert!(talk.texts == deltas, "other texts, or in another order");
    let (bytes, packed) = (talk.bytes, talk.packed);
    println!(
        "{plain} bytes of {} deltas went as {bytes} bytes in {packed} packed messages and {} texts: {} times smaller",
        deltas.len(),
        talk.plain,
        plain / bytes
    );
    assert!(bytes * 4 <= plain, "{plain} bytes became {bytes}");
    drop(pushing.await.unwrap());
}

/// For the one who chooses a level: `--nocapture` shows what a batch costs.
#[test]
fn a_batch_is_packed_and_unpacked_in_a_fraction_of_its_time_on_a_slow_line() {
    let frames: Vec<String> = (0..10_000).map(delta).collect();
    let plain: usize = frames.iter().map(String::len).sum();
    let mut packer = Packer::new();
    let start = Instant::now();
    let mut packed = Vec::new();
    for batch in frames.chunks(256) {
        packed.extend(packer.pack(batch.iter().map(|frame| frame.as_str().into())));
    }
    let packing = start.elapsed();
    let start = Instant::now();
    let mut bytes = 0;
    for message in &packed {
        let Packed::Binary(message) = message else {
            panic!("not packed");
        };
        bytes += message.len();
        unpack(message, 1 << 20).unwrap();
    }
    println!(
        "{plain} bytes: packed to {bytes} in {packing:?}, unpacked in {:?}",
        start.elapsed()
    );
    // Ten megabits a second.
    let on_the_line = Duration::from_micros(u64::try_from(plain).unwrap() * 8 / 10);
    assert!(packing < on_the_line / 2, "{packing:?} of {on_the_line:?}");
}

#[tokio::test]
async fn single_messages_stay_text() {
    let hub = Hub::start().await;
    let (link, _inbox) = hub.link(|endpoint| endpoint);
    let mut talk = hub.accept(true).await;
    for number in 0..20 {
        link.push(Text(delta(number))).await.unwrap();
        talk.hear(number + 1).await;
    }
    assert_eq!(talk.packed, 0);
}

#[tokio::test]
async fn nothing_is_packed_unless_both_ends_agreed() {
    let deltas: Vec<String> = (0..500).map(delta).collect();
    for (offer, agrees) in [
        (Compress::Always, false),
        (Compress::Never, true),
        // This machine is no network.
        (Compress::OverNetworks, true),
    ] {
        let hub = Hub::start().await;
        let (link, mut inbox) = hub.link(|endpoint| endpoint.compress(offer));
        let texts: Vec<Text> = deltas.iter().cloned().map(Text).collect();
        link.push_all(texts).await.unwrap();
        let mut talk = hub.accept(agrees).await;
        assert_eq!(talk.offered, offer == Compress::Always);
        talk.hear(deltas.len()).await;
        assert_eq!(talk.packed, 0);
        // A binary message means nothing there.
        talk.send(Message::binary(vec![3, 0])).await;
        let refused = refused(&mut inbox).await;
        assert_eq!(refused, FrameRefused::Binary { bytes: 2 });
    }
    // Without the extension it is not even offered.
    let hub = Hub::start().await;
    let (_link, _inbox) = hub.link(|endpoint| endpoint.offer_extension(false));
    assert!(!hub.accept(false).await.offered);
}

#[tokio::test]
async fn nothing_is_packed_any_more_where_the_way_took_no_packed_message() {
    let hub = Hub::start().await;
    let (_link, _inbox) = hub.link(|endpoint| endpoint);
    let mut talk = hub.accept(true).await;
    assert!(talk.offered);
    let code = CloseCode::Size;
    let reason = "too long".into();
    talk.send(Message::Close(Some(CloseFrame { code, reason })))
        .await;
    assert!(!hub.accept(true).await.offered);
}

async fn refused(inbox: &mut Inbox) -> FrameRefused {
    loop {
        if let Inbound::Refused { reason, .. } = inbox.recv().await.unwrap() {
            return reason;
        }
    }
}

#[tokio::test]
async fn what_a_hub_packs_arrives_in_its_order_between_texts() {
    let hub = Hub::start().await;
    let (_link, mut inbox) = hub.link(|endpoint| endpoint);
    let mut talk = hub.accept(true).await;
    let commands: Vec<String> = (0..300)
        .map(|number| format!("{{\"action\":\"x\",\"args\":{{\"n\":{number}}}}}"))
        .collect();
    talk.send(Message::text(commands[0].clone())).await;
    let middle = commands[1..299].iter().map(|text| text.as_str().into());
    for message in Packer::new().pack(middle) {
        let Packed::Binary(bytes) = message else {
            panic!("not packed");
        };
        talk.send(Message::Binary(bytes)).await;
    }
    talk.send(Message::text(commands[299].clone())).await;
    let mut heard = Vec::new();
    while heard.len() < commands.len() {
        if let Inbound::Frame { text, .. } = inbox.recv().await.unwrap() {
            heard.push(String::from_utf8(text.to_vec()).unwrap());
        }
    }
    assert_eq!(heard, commands);
}

#[tokio::test]
async fn a_message_that_breaks_the_rules_ends_the_connection_with_its_code() {
    let limits = Limits {
        frame: 1 << 20,
        ..Limits::default()
    };
    let row = |frame: &[u8]| {
        let len = u32::try_from(frame.len()).unwrap();
        Packer::new().deflate(&[&len.to_be_bytes()[..], frame].concat())
    };
    let too_large = FrameRefused::TooLarge {
        bytes: (1 << 20) + 1,
    };
    for (packed, code, told) in [
        (row(&vec![b' '; 64 << 20]), 1009, Some(too_large)),
        (row(b"{\"x\":\"\xff\"}"), 1007, Some(FrameRefused::NotUtf8)),
        (b"no deflate".to_vec(), 1002, None),
        (Vec::new(), 1002, None),
    ] {
        let hub = Hub::start().await;
        let limits = limits.clone();
        let (link, mut inbox) = hub.link(move |endpoint| endpoint.limits(limits.clone()));
        let mut talk = hub.accept(true).await;
        talk.send(Message::Binary(Bytes::from(packed))).await;
        if let Some(told) = told {
            assert_eq!(refused(&mut inbox).await, told);
        }
        let said = loop {
            if let Message::Close(frame) = talk.socket.next().await.unwrap().unwrap() {
                break u16::from(frame.unwrap().code);
            }
        };
        assert_eq!(said, code);
        let closed = loop {
            if let Inbound::Closed { reason, .. } = inbox.recv().await.unwrap() {
                break reason;
            }
        };
        assert!(matches!(closed, CloseReason::Protocol(_)), "{closed:?}");
        // It is not the end of the link.
        drop(talk);
        let _again = hub.accept(true).await;
        let mut states = link.state();
        let online = states.wait_for(|state| state.phase == Phase::Online).await;
        assert!(online.unwrap().last_error.is_some());
    }
}

/// A peer that says nothing more in the middle of a message is no reason to take memory for it.
#[tokio::test]
async fn a_message_over_the_limit_of_the_wire_is_refused_before_it_is_there() {
    let limits = Limits {
        frame: 1000,
        ..Limits::default()
    };
    let hub = Hub::start().await;
    let (_link, mut inbox) = hub.link(move |endpoint| endpoint.limits(limits.clone()));
    let mut talk = hub.accept(true).await;
    // The head of a binary message of 64 KiB less one.
    let head = [0x82, 126, 0xff, 0xff];
    talk.socket.get_mut().write_all(&head).await.unwrap();
    let refused = refused(&mut inbox).await;
    assert_eq!(refused, FrameRefused::TooLarge { bytes: 0xffff });
}
