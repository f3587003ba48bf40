//! Messages a second, beside raw tokio-tungstenite that sends the same frames in the same batches to
//! the same far end. Each end has one thread.

use std::{fs::File, io::Write as _, path::Path, time::Instant};

use bridge_transport::{
    Endpoint, Handle, Inbox, WebSocket, connect, connect_spooled,
    delivery::{Epoch, Frame, list},
    SyncPolicy,
};
use futures_util::SinkExt as _;
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{Message as Words, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

use super::{
    PATIENCE, endpoint,
    far_end::{FarEnd, Ways},
    message::{self, Message},
    on_one_thread, spool,
    table::Row,
};
use crate::world::seconds;

/// Interleaved, so that what else the machine does hits all of them; the best round of each counts.
pub(super) fn all() -> Vec<Row> {
    let mut best = Rates::default();
    for _ in 0..ROUNDS {
        best.take(&dbg!(Rates {
            raw_plain: dbg!(raw(false)),
            plain: dbg!(linked(Way::Plain)),
            raw: dbg!(raw(true)),
            memory: dbg!(linked(Way::Memory)),
            buffered: dbg!(linked(Way::Spool(SyncPolicy::Never))),
        }));
    }
    let (synced, disk) = (0..ROUNDS)
        .map(|_| (linked(Way::Spool(SyncPolicy::Each)), raw_syncs()))
        .fold((0.0, 0.0), |best: (f64, f64), next| (best.0.max(next.0), best.1.max(next.1)));
    vec![
        Row::share("memory, a plain far end", best.plain, best.raw_plain, "/s", 85.0),
        Row::share("memory, the envelope", best.memory, best.raw, "/s", 85.0),
        Row::share("spool buffered, the envelope", best.buffered, best.raw, "/s", 60.0),
        Row::at_least("spool with a sync each batch of 1,000", synced, "/s", 200_000.0)
            .beside(disk, "/s"),
    ]
}

#[derive(Default,Debug)]
struct Rates {
    raw_plain: f64,
    plain: f64,
    raw: f64,
    memory: f64,
    buffered: f64,
}

impl Rates {
    fn take(&mut self, other: &Self) {
        self.raw_plain = self.raw_plain.max(other.raw_plain);
        self.plain = self.plain.max(other.plain);
        self.raw = self.raw.max(other.raw);
        self.memory = self.memory.max(other.memory);
        self.buffered = self.buffered.max(other.buffered);
    }
}

enum Way {
    Plain,
    Memory,
    Spool(SyncPolicy),
}

fn linked(way: Way) -> f64 {
    let envelope = !matches!(way, Way::Plain);
    let far = FarEnd::start(Ways { envelope, ..Ways::default() });
    let folder = tempfile::tempdir().expect("a folder can be made");
    let count = match way {
        Way::Spool(SyncPolicy::Each) => SYNCED,
        Way::Plain | Way::Memory | Way::Spool(_) => MESSAGES,
    };
    on_one_thread(async {
        let endpoint = endpoint(&far);
        let (link, inbox) = match way {
            Way::Plain | Way::Memory => connect(endpoint),
            Way::Spool(sync) => spooled(endpoint, folder.path(), sync),
        };
        assert!(far.sees(PATIENCE, |seen| seen.opened == 1).await);
        let begun = Instant::now();
        for first in (0..count).step_by(BATCH) {
            let list: Vec<_> = (first..first + STEP).map(|n| Message::new(0, n)).collect();
            link.push_all(list).await.expect("the link is there");
        }
        let wanted = usize::try_from(count).expect("a count");
        assert!(far.sees(PATIENCE, |seen| seen.taken.len() >= wanted).await);
        let rate = f64::from(count) / seconds(begun.elapsed());
        drop(inbox);
        rate
    })
}

fn spooled(endpoint: Endpoint, folder: &Path, sync: SyncPolicy) -> (Handle<Message>, Inbox) {
    let carrier = Box::new(WebSocket::new(&endpoint));
    connect_spooled(endpoint, carrier, spool(folder), sync).expect("a fresh spool can be read")
}

/// The client that a program without this crate has, at its best.
fn raw(envelope: bool) -> f64 {
    let far = FarEnd::start(Ways { envelope, ..Ways::default() });
    on_one_thread(async {
        let mut request = far.url().into_client_request().expect("an address");
        request.headers_mut().insert("x-bridge-extension", "1".parse().expect("a value"));
        let config = WebSocketConfig::default().read_buffer_size(16 << 10);
        let connected = connect_async_with_config(request, Some(config), true).await;
        let (mut socket, _) = connected.expect("the far end listens");
        let begun = Instant::now();
        if envelope {
            let begin = Frame::Begin { epoch: Epoch(1), next: 1 };
            socket.feed(Words::text(begin.text())).await.expect("the far end reads");
        }
        for n in 0..MESSAGES {
            let mut text = message::text(0, n);
            if envelope {
                let (seq, messages) = (u64::from(n) + 1, &list([text.as_str()]));
                text = Frame::Numbered { seq, messages }.text();
            }
            socket.feed(Words::text(text)).await.expect("the far end reads");
            if n % WRITTEN_TOGETHER == WRITTEN_TOGETHER - 1 {
                socket.flush().await.expect("the far end reads");
            }
        }
        socket.flush().await.expect("the far end reads");
        let wanted = usize::try_from(MESSAGES).expect("a count");
        assert!(far.sees(PATIENCE, |seen| seen.taken.len() >= wanted).await);
        f64::from(MESSAGES) / seconds(begun.elapsed())
    })
}

/// The same bytes in one file, with a sync each batch.
fn raw_syncs() -> f64 {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut file = File::create(folder.path().join("raw")).expect("a file can be made");
    let bytes = vec![b'x'; RECORD * BATCH];
    let begun = Instant::now();
    for _ in (0..SYNCED).step_by(BATCH) {
        file.write_all(&bytes).expect("the disk has room");
        file.sync_data().expect("the disk can be synced");
    }
    f64::from(SYNCED) / seconds(begun.elapsed())
}

const MESSAGES: u32 = 1_000_000;
const SYNCED: u32 = 200_000;
/// Pushed in one go.
const BATCH: usize = 1000;
const STEP: u32 = 1000;
/// What the link writes at a time.
const WRITTEN_TOGETHER: u32 = 256;
/// A message in the spool.
const RECORD: usize = 224;
const ROUNDS: usize = 3;
