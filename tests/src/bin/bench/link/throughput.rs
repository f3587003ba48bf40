//! Messages a second, beside raw tokio-tungstenite that gets the same messages in the same batches from
//! their producer and sends the same frames to the same far end. Each end has one thread.

use std::{fs::File, io::Write as _, time::Instant};

use bridge_transport::{
    SyncPolicy, connect,
    delivery::{Epoch, Frame, list},
};
use futures_util::SinkExt as _;
use tokio_tungstenite::{
    connect_async_with_config,
    tungstenite::{Message as Words, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

use super::{
    PATIENCE, endpoint,
    far_end::{FarEnd, Ways, processor_time},
    message::{self, Message},
    on_one_thread, spooled,
    table::{Row, amount},
};
use crate::world::seconds;

/// Interleaved, so that what else the machine does hits all of them; the best round of each counts.
pub(super) fn all() -> Vec<Row> {
    let [
        mut raw_plain,
        mut plain,
        mut raw_way,
        mut memory,
        mut buffered,
    ] = [Rate::NONE; 5];
    for _ in 0..ROUNDS {
        raw_plain.take(raw(false));
        plain.take(linked(&Way::Plain));
        raw_way.take(raw(true));
        memory.take(linked(&Way::Memory));
        buffered.take(linked(&Way::Spool(SyncPolicy::Never)));
    }
    let mut rows = Vec::new();
    for (what, seen, raw, least) in [
        ("memory, to a plain far end", plain, raw_plain, 85.0),
        ("memory, with the envelope", memory, raw_way, 85.0),
        ("spool buffered, with the envelope", buffered, raw_way, 60.0),
    ] {
        let what = format!("messages sent, {what}");
        rows.push(Row::share(what, seen.messages, raw.messages, "/s", least));
        for (what, seen, raw) in [
            (
                "  processor time a message, sending end",
                seen.near,
                raw.near,
            ),
            ("  processor time a message, far end", seen.far, raw.far),
        ] {
            rows.push(Row::told_only(what, amount(seen, "ns")).beside(raw, "ns"));
        }
    }
    let (mut synced, mut disk) = (Rate::NONE, 0.0_f64);
    for _ in 0..ROUNDS {
        synced.take(linked(&Way::Spool(SyncPolicy::Each)));
        disk = disk.max(raw_syncs());
    }
    let what = "messages sent, a sync each batch of 1,000";
    rows.push(Row::at_least(what, synced.messages, "/s", 200_000.0).beside(disk, "/s"));
    rows
}

/// Messages a second, and how long the thread of each end was busy with one, in nanoseconds.
#[derive(Clone, Copy)]
struct Rate {
    messages: f64,
    near: f64,
    far: f64,
}

impl Rate {
    const NONE: Self = Self {
        messages: 0.0,
        near: f64::INFINITY,
        far: f64::INFINITY,
    };

    fn take(&mut self, other: Self) {
        self.messages = self.messages.max(other.messages);
        self.near = self.near.min(other.near);
        self.far = self.far.min(other.far);
    }
}

/// When a measurement began.
struct Begun {
    at: Instant,
    near: f64,
    far: f64,
}

impl Begun {
    fn now(far: &FarEnd) -> Self {
        Self {
            at: Instant::now(),
            near: processor_time("thread-self"),
            far: far.busy(),
        }
    }

    /// The far end has so many messages.
    fn done(&self, far: &FarEnd, count: u32) -> Rate {
        let count = f64::from(count);
        Rate {
            messages: count / seconds(self.at.elapsed()),
            near: (processor_time("thread-self") - self.near) / count,
            far: (far.busy() - self.far) / count,
        }
    }
}

enum Way {
    Plain,
    Memory,
    Spool(SyncPolicy),
}

fn linked(way: &Way) -> Rate {
    let envelope = !matches!(way, Way::Plain);
    let far = FarEnd::start(Ways {
        envelope,
        ..Ways::default()
    });
    let folder = tempfile::tempdir().expect("a folder can be made");
    let count = match way {
        Way::Spool(SyncPolicy::Each) => SYNCED,
        Way::Plain | Way::Memory | Way::Spool(_) => MESSAGES,
    };
    on_one_thread(async {
        let endpoint = endpoint(&far);
        let (link, inbox) = match way {
            Way::Plain | Way::Memory => connect(endpoint),
            Way::Spool(sync) => spooled(endpoint, folder.path(), *sync),
        };
        assert!(far.sees(PATIENCE, |seen| seen.opened == 1).await);
        let begun = Begun::now(&far);
        for first in (0..count).step_by(BATCH) {
            let list: Vec<_> = (first..first + STEP).map(|n| Message::new(0, n)).collect();
            link.push_all(list).await.expect("the link is there");
        }
        let wanted = usize::try_from(count).expect("a count");
        assert!(far.sees(PATIENCE, |seen| seen.taken.len() >= wanted).await);
        let rate = begun.done(&far, count);
        drop(inbox);
        rate
    })
}

/// The client that a program without this crate has, at its best.
fn raw(envelope: bool) -> Rate {
    let far = FarEnd::start(Ways {
        envelope,
        ..Ways::default()
    });
    on_one_thread(async {
        let mut request = far.url().into_client_request().expect("an address");
        request
            .headers_mut()
            .insert("x-bridge-extension", "1".parse().expect("a value"));
        let config = WebSocketConfig::default().read_buffer_size(16 << 10);
        let connected = connect_async_with_config(request, Some(config), true).await;
        let (mut socket, _) = connected.expect("the far end listens");
        let begun = Begun::now(&far);
        if envelope {
            let begin = Frame::Begin {
                epoch: Epoch(1),
                next: 1,
            };
            socket
                .feed(Words::text(begin.text()))
                .await
                .expect("the far end reads");
        }
        for first in (0..MESSAGES).step_by(BATCH) {
            // As its producer hands them to the link.
            let texts: Vec<_> = (first..first + STEP).map(|n| message::text(0, n)).collect();
            for (n, mut text) in (first..).zip(texts) {
                if envelope {
                    let (seq, messages) = (u64::from(n) + 1, &list([text.as_str()]));
                    text = Frame::Numbered { seq, messages }.text();
                }
                socket
                    .feed(Words::text(text))
                    .await
                    .expect("the far end reads");
            }
            socket.flush().await.expect("the far end reads");
        }
        let wanted = usize::try_from(MESSAGES).expect("a count");
        assert!(far.sees(PATIENCE, |seen| seen.taken.len() >= wanted).await);
        begun.done(&far, MESSAGES)
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
/// Pushed in one go, which the link writes in one go; the raw client flushes as often.
const BATCH: usize = 1000;
const STEP: u32 = 1000;
/// A message in the spool.
const RECORD: usize = 224;
const ROUNDS: usize = 3;
