//! What the link adds between a push and the far end, on a stream that is idle otherwise.

use std::{
    net::TcpListener,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bridge_transport::{
    Handle, SyncPolicy, WebSocket, connect_spooled,
    delivery::{Heard, Position, Reader},
};
use futures_util::SinkExt as _;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{
        Message as Words, accept_hdr,
        handshake::server::{Request, Response},
    },
};

use super::{
    endpoint_at,
    message::{self, Message},
    on_one_thread, spool,
    table::{Row, amount},
};
use crate::world::percentile;

/// Messages some milliseconds apart, over a spool whose writes are buffered, beside a raw socket.
pub(super) fn all() -> Vec<Row> {
    let raw = arrivals(|url, sent| {
        on_one_thread(async {
            let (mut socket, _) = connect_async(url).await.expect("the far end listens");
            for n in 0..MESSAGES {
                tokio::time::sleep(APART).await;
                let text = message::text(0, n);
                sent.send(Instant::now()).expect("somebody counts");
                socket
                    .send(Words::text(text))
                    .await
                    .expect("the far end reads");
            }
            socket.close(None).await.expect("the far end reads");
        });
    });
    let link = arrivals(|url, sent| {
        let folder = tempfile::tempdir().expect("a folder can be made");
        on_one_thread(async {
            let endpoint = endpoint_at(url);
            let carrier = Box::new(WebSocket::new(&endpoint));
            let spool = spool(folder.path());
            let connected = connect_spooled(endpoint, carrier, spool, SyncPolicy::Never);
            let (link, _inbox): (Handle<Message>, _) = connected.expect("a fresh spool");
            for n in 0..MESSAGES {
                tokio::time::sleep(APART).await;
                let message = Message::new(0, n);
                sent.send(Instant::now()).expect("somebody counts");
                link.push(message).await.expect("the link is there");
            }
            let _all_were_timed = link.shutdown(Duration::from_secs(5)).await;
        });
    });
    let added = |what, per_cent, most| {
        let [link, raw] = [&link, &raw].map(|times| percentile(times, per_cent));
        Row::time(what, link - raw, "µs", most).beside(raw, "µs")
    };
    let slowest = percentile(&link, 100);
    vec![
        added(
            "added between push and the far end, idle stream, p50",
            50,
            30.0,
        ),
        added(
            "added between push and the far end, idle stream, p99",
            99,
            300.0,
        ),
        Row::told_only("  slowest of all, with the raw part", amount(slowest, "µs")),
    ]
}

/// From when each message was sent to when a thread that does nothing else had it, in microseconds,
/// sorted. The first ones warm up and do not count.
fn arrivals(send: impl FnOnce(&str, mpsc::Sender<Instant>)) -> Vec<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let url = format!("ws://{}/", listener.local_addr().expect("it is bound"));
    let far = thread::spawn(move || heard(&listener));
    let (sent, times) = mpsc::channel();
    send(&url, sent);
    let heard = far.join().expect("the far end ends without trouble");
    let sent: Vec<Instant> = times.into_iter().collect();
    assert_eq!(heard.len(), sent.len(), "every message arrived");
    let pairs = heard.iter().zip(&sent).skip(WARM_UP);
    let took = pairs.map(|(heard, sent)| heard.saturating_duration_since(*sent).as_secs_f64());
    let mut took: Vec<f64> = took.map(|took| took * 1_000_000.0).collect();
    took.sort_by(f64::total_cmp);
    took
}

/// Reads until the other end closes; when each message came.
#[expect(clippy::result_large_err, reason = "the library's callback type")]
fn heard(listener: &TcpListener) -> Vec<Instant> {
    let (stream, _) = listener.accept().expect("somebody dials");
    stream.set_nodelay(true).expect("a socket of ours");
    let mut enveloped = false;
    let answer = |request: &Request, mut response: Response| {
        if let Some(offer) = request.headers().get("x-bridge-extension") {
            enveloped = true;
            let headers = response.headers_mut();
            headers.insert("x-bridge-extension", offer.clone());
        }
        Ok(response)
    };
    let mut socket = accept_hdr(stream, answer).expect("a client of ours");
    let mut reader = Reader::new(Position::default(), 1 << 20);
    if enveloped {
        let resume = Words::text(reader.position().resume());
        socket.send(resume).expect("the link reads");
    }
    let mut heard = Vec::new();
    // An error is the end of the connection.
    while let Ok(frame) = socket.read() {
        let at = Instant::now();
        let Words::Text(text) = frame else { continue };
        match reader.hear(&text) {
            Ok(Heard::Message { texts, upto, .. }) => {
                heard.extend(texts.iter().map(|_| at));
                if let Some(upto) = upto {
                    socket
                        .send(Words::text(upto.ack()))
                        .expect("the link reads");
                }
            }
            Ok(Heard::Gap { .. } | Heard::Nothing | Heard::Resume { .. } | Heard::Ack { .. })
            | Err(_) => {}
        }
    }
    heard
}

const MESSAGES: u32 = 2_000;
const WARM_UP: usize = 200;
const APART: Duration = Duration::from_millis(2);
