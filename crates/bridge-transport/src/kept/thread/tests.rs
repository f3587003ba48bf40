//! What a disk whose syncs hang holds up, and what it does not.

use std::{io, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::*;
use crate::{
    Carrier, Class, DialError, Endpoint, Flushed, Frames, Handle, Inbound, Inbox, Payload, Phase,
    Stored, SyncPolicy, TextFrame, Timings,
    carrier::{Connection, FrameSink, FrameSource, Received, SinkClosed, Target, TrafficMeter},
    driver,
    kept::Keeper,
    link::Spooled,
    spool::{Item, Name, Spool, SpoolConfig, simulation::SimulatedDisk},
};

/// A disk in memory. A sync of records waits until it may go on.
struct Slow {
    disk: SimulatedDisk,
    waits: UnboundedSender<()>,
    go_on: Receiver<()>,
    open: bool,
    /// Gets what is on the disk when nobody has it in use any more.
    left: UnboundedSender<SimulatedDisk>,
}

/// The test's side of a [`Slow`] disk.
struct Gate {
    /// A sync waits.
    waits: UnboundedReceiver<()>,
    /// Lets one go on; without it all of them go on.
    go_on: Option<Sender<()>>,
    left: UnboundedReceiver<SimulatedDisk>,
}

fn slow() -> (Slow, Gate) {
    let (waits, waiting) = unbounded_channel();
    let (go_on, going) = channel();
    let (left, leaving) = unbounded_channel();
    let disk = Slow {
        disk: SimulatedDisk::new(1),
        waits,
        go_on: going,
        open: false,
        left,
    };
    let gate = Gate {
        waits: waiting,
        go_on: Some(go_on),
        left: leaving,
    };
    (disk, gate)
}

impl Gate {
    fn let_one_go_on(&self) {
        self.go_on.as_ref().unwrap().send(()).unwrap();
    }

    /// What is on the disk when the thread has ended, everything being let go on.
    async fn found(mut self) -> Vec<u64> {
        self.go_on = None;
        let disk = self.left.recv().await.unwrap();
        let (mut spool, _) = Spool::open(disk, SpoolConfig::default(), [7; 16]).unwrap();
        let mut found = Vec::new();
        let mut next = spool.first_seq();
        while next < spool.next_seq() {
            for item in spool.read(next, 1 << 20, 1000).unwrap() {
                let Item::Record { seq, .. } = item else {
                    panic!("{item:?}");
                };
                found.push(seq);
                next = seq + 1;
            }
        }
        found
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        // A test that does not look at the disk is over already.
        drop(self.left.send(self.disk.clone()));
    }
}

impl Disk for Slow {
    fn list(&mut self) -> io::Result<Vec<(Name, u64)>> {
        self.disk.list()
    }
    fn create(&mut self, name: Name) -> io::Result<()> {
        self.disk.create(name)
    }
    fn append(&mut self, name: Name, bytes: &[u8]) -> io::Result<usize> {
        self.disk.append(name, bytes)
    }
    fn read_at(&mut self, name: Name, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.read_at(name, offset, into)
    }
    fn truncate(&mut self, name: Name, len: u64) -> io::Result<()> {
        self.disk.truncate(name, len)
    }
    fn sync(&mut self, name: Name) -> io::Result<()> {
        if matches!(name, Name::Segment(_)) {
            self.waits.send(()).map_err(io::Error::other)?;
            self.open = self.open || self.go_on.recv().is_err();
        }
        self.disk.sync(name)
    }
    fn rename(&mut self, from: Name, to: Name) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&mut self, name: Name) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_folder(&mut self) -> io::Result<()> {
        self.disk.sync_folder()
    }
    fn boot(&self) -> Option<[u8; 16]> {
        self.disk.boot()
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Note(Class, String);

impl Payload for Note {
    fn class(&self) -> Class {
        self.0
    }
    fn size(&self) -> usize {
        self.1.len()
    }
    fn absorb(&mut self, next: Self) -> Result<(), Self> {
        Err(next)
    }
    fn seal(&self, _: bool) -> Frames {
        TextFrame::from(self.1.as_str()).into()
    }
}

impl Stored for Note {
    fn store(&self) -> Option<Bytes> {
        Some(self.1.clone().into())
    }
    fn restore(stored: &[u8]) -> Option<Self> {
        Some(durable(std::str::from_utf8(stored).ok()?))
    }
}

fn durable(text: &str) -> Note {
    Note(Class::Durable { stream: 1 }, text.to_owned())
}

fn started(sync: SyncPolicy) -> (Thread<Note>, Spooled<Note>, Gate) {
    let (disk, gate) = slow();
    let (spool, _) = Spool::open(disk, SpoolConfig::default(), [7; 16]).unwrap();
    let (kept, spooled) = Kept::new(spool, sync, 1 << 20).unwrap();
    let thread = Thread::start(Box::new(kept)).ok().unwrap();
    (thread, spooled, gate)
}

fn records(seqs: std::ops::RangeInclusive<u64>) -> Vec<Record> {
    let record = |seq: u64| Record {
        seq,
        stored: seq.to_string().into(),
    };
    seqs.map(record).collect()
}

async fn appended(thread: &mut Thread<Note>) -> Appended {
    match thread.next().await {
        Answer::Appended(appended) => appended,
        other @ (Answer::Read(_) | Answer::Expired(_) | Answer::Ended) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn with_each_nothing_is_there_before_its_sync() {
    let (mut thread, _, mut gate) = started(SyncPolicy::Each);
    thread.append(records(1..=3));
    gate.waits.recv().await.unwrap();
    assert!(thread.next().now_or_never().is_none());
    assert!(thread.is_appending());
    gate.let_one_go_on();
    assert_eq!(appended(&mut thread).await, Appended::Upto(3));
    assert!(!thread.is_appending());
}

#[tokio::test]
async fn with_group_it_is_there_before_and_synced_unasked() {
    let (mut thread, _, mut gate) = started(SyncPolicy::Group(Duration::from_millis(1)));
    thread.append(records(1..=3));
    assert_eq!(appended(&mut thread).await, Appended::Upto(3));
    gate.waits.recv().await.unwrap();
    // Nothing overtakes anything, however long the disk takes.
    thread.append(records(4..=4));
    thread.read(Wanted {
        from: 2,
        upto: 5,
        bytes: 1 << 20,
    });
    gate.let_one_go_on();
    assert_eq!(appended(&mut thread).await, Appended::Upto(4));
    gate.go_on = None;
    let Answer::Read(read) = thread.next().await else {
        panic!("no read");
    };
    let read: Vec<_> = read
        .messages
        .iter()
        .map(|(seq, it)| (*seq, &*it.1))
        .collect();
    assert_eq!(read, [(2, "2"), (3, "3"), (4, "4")]);
}

#[tokio::test]
async fn closing_waits_for_everything_that_was_asked_for() {
    let (mut thread, _, mut gate) = started(SyncPolicy::Each);
    thread.append(records(1..=3));
    thread.trim(1);
    let mut closing = Box::pin(thread.close());
    gate.waits.recv().await.unwrap();
    assert!(closing.as_mut().now_or_never().is_none());
    gate.let_one_go_on();
    closing.await;
    assert_eq!(gate.found().await, [2, 3]);
}

#[test]
fn a_thread_ends_with_its_runtime_and_not_before_what_it_was_asked_for() {
    let (thread, spooled, mut gate) = started(SyncPolicy::Each);
    let runtime = runtime();
    let link = runtime.block_on(async {
        let link = link(thread, spooled).0;
        link.0.push(durable("said")).await.unwrap();
        gate.waits.recv().await.unwrap();
        link
    });
    drop(runtime);
    drop(link);
    assert_eq!(self::runtime().block_on(gate.found()), [1]);
}

#[tokio::test]
async fn a_disk_that_hangs_holds_up_neither_pings_nor_answers_nor_what_the_peer_says() {
    let (thread, spooled, mut gate) = started(SyncPolicy::Each);
    let ((link, mut inbox), mut peer) = link(thread, spooled);
    let Inbound::Opened { conn, .. } = inbox.recv().await.unwrap() else {
        panic!("nothing is opened");
    };
    link.push(durable("first")).await.unwrap();
    gate.waits.recv().await.unwrap();
    link.push(durable("second")).await.unwrap();
    while peer.pings.try_recv().is_ok() {}
    for _ in 0..3 {
        peer.pings.recv().await.unwrap();
    }
    let answer = Note(Class::Reply { conn }, "answer".to_owned());
    link.push(answer).await.unwrap();
    assert_eq!(peer.wrote.recv().await.unwrap(), "answer");
    peer.say.send(Received::Text("asked".into())).unwrap();
    let Inbound::Frame { text, .. } = inbox.recv().await.unwrap() else {
        panic!("nothing is heard");
    };
    assert_eq!(&text[..], b"asked");
    assert_eq!(link.state().borrow().phase, Phase::Online);
    assert!(
        peer.wrote.try_recv().is_err(),
        "nothing goes before its sync"
    );
    gate.go_on = None;
    assert_eq!(peer.wrote.recv().await.unwrap(), "first");
    assert_eq!(peer.wrote.recv().await.unwrap(), "second");
}

#[tokio::test]
async fn a_link_that_ends_leaves_everything_on_its_slow_disk() {
    let (thread, spooled, mut gate) = started(SyncPolicy::Each);
    let ((link, _inbox), _peer) = link(thread, spooled);
    let notes: Vec<_> = (0..5000).map(|n| durable(&n.to_string())).collect();
    link.push_all(notes).await.unwrap();
    gate.waits.recv().await.unwrap();
    let mut ending = Box::pin(link.shutdown(Duration::ZERO));
    // The first batch is on the disk, the others have no number yet.
    let soon = Duration::from_millis(50);
    assert!(timeout(soon, &mut ending).await.is_err());
    gate.go_on = None;
    assert!(matches!(ending.await, Flushed::Left { messages: 5000, .. }));
    assert!(gate.found().await.into_iter().eq(1..=5000));
}

#[tokio::test]
async fn a_link_ends_although_its_disk_hangs() {
    let (thread, spooled, mut gate) = started(SyncPolicy::Each);
    let ((link, _inbox), _peer) = link(thread, spooled);
    link.push(durable("said")).await.unwrap();
    gate.waits.recv().await.unwrap();
    let flushed = link.shutdown(Duration::ZERO).await;
    assert!(matches!(flushed, Flushed::Left { messages: 1, .. }));
    assert!(
        gate.left.try_recv().is_err(),
        "the thread waits for its disk"
    );
    assert_eq!(gate.found().await, [1]);
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

/// The far end of the only connection there is.
struct Peer {
    wrote: UnboundedReceiver<String>,
    pings: UnboundedReceiver<()>,
    say: UnboundedSender<Received>,
}

fn link(thread: Thread<Note>, spooled: Spooled<Note>) -> ((Handle<Note>, Inbox), Peer) {
    let (writes, wrote) = unbounded_channel();
    let (pinged, pings) = unbounded_channel();
    let (say, said) = unbounded_channel();
    let (give, only) = unbounded_channel();
    let sink = Sink {
        writes,
        pinged,
        pong: say.clone(),
    };
    give.send(Connection {
        sink: Box::new(sink),
        source: Box::new(Source(said)),
        extended: false,
        traffic: TrafficMeter::default(),
    })
    .ok()
    .unwrap();
    let timings = Timings {
        ping: Duration::from_millis(5),
        ..Timings::default()
    };
    let endpoint = Endpoint::new("ws://127.0.0.1:1").unwrap().timings(timings);
    let spool = Some((Keeper::Apart(thread), spooled));
    let link = driver::spawn(endpoint, Arc::new(Only(only.into())), spool);
    (link, Peer { wrote, pings, say })
}

/// Gives what it has once.
struct Only(tokio::sync::Mutex<UnboundedReceiver<Connection>>);

#[async_trait]
impl Carrier for Only {
    async fn open(&self, _: &Target) -> Result<Connection, DialError> {
        let connection = self.0.lock().await.recv().await;
        match connection {
            Some(connection) => Ok(connection),
            None => std::future::pending().await,
        }
    }
}

/// Answers pings.
struct Sink {
    writes: UnboundedSender<String>,
    pinged: UnboundedSender<()>,
    pong: UnboundedSender<Received>,
}

#[async_trait]
impl FrameSink for Sink {
    async fn send(&mut self, frames: Vec<TextFrame>) -> Result<(), SinkClosed> {
        for frame in frames {
            let text = frame.as_str().to_owned();
            self.writes.send(text).map_err(|_| SinkClosed)?;
        }
        Ok(())
    }
    async fn ping(&mut self, id: u64) -> Result<(), SinkClosed> {
        self.pinged.send(()).map_err(|_| SinkClosed)?;
        let pong = Received::Pong { id };
        self.pong.send(pong).map_err(|_| SinkClosed)
    }
    async fn close(&mut self, _: u16) {}
}

struct Source(UnboundedReceiver<Received>);

#[async_trait]
impl FrameSource for Source {
    async fn next(&mut self) -> Received {
        match self.0.recv().await {
            Some(received) => received,
            None => std::future::pending().await,
        }
    }
}
