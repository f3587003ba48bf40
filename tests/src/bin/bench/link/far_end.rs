//! The far end of a link: speaks the envelope where it is offered, commits what it has heard in one
//! go, and acknowledges after that. It can be cut, go away, fall silent and ask.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc as blocking},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bridge_transport::{
    carrier::deflate,
    delivery::{Heard, Position, Reader},
};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};

use super::{message, on_one_thread};

/// A far end in a thread of its own. Dropping it ends it.
#[derive(Debug)]
pub(super) struct FarEnd {
    address: SocketAddr,
    manner: watch::Sender<Manner>,
    ledger: watch::Receiver<Ledger>,
    /// As the kernel names its thread.
    task: String,
    thread: Option<JoinHandle<()>>,
}

/// How it is at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Manner {
    /// It listens and reads.
    #[default]
    Here,
    /// Nobody listens, and what was open is closed.
    Away,
    /// It keeps what is open and neither reads nor writes.
    Deaf,
    Ended,
}

/// What it is from the beginning.
#[derive(Debug, Clone, Default)]
pub(super) struct Ways {
    /// Takes the envelope where it is offered.
    pub(super) envelope: bool,
    /// Cuts connections.
    pub(super) cuts: Option<Cuts>,
    /// Asks on every connection, so often.
    pub(super) asks: Option<Duration>,
    /// Keeps texts that are neither messages nor answers.
    pub(super) keeps: bool,
}

impl Ways {
    /// With the envelope, and no more.
    pub(super) fn enveloped() -> Self {
        let envelope = true;
        Self {
            envelope,
            ..Self::default()
        }
    }
}

/// Connections end after a random number of messages, before their commit or after it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cuts {
    pub(super) left: u32,
    pub(super) random: Random,
}

/// What it has committed, and what it saw besides.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    position: Position,
    /// Stream and number of each message, in the order they were taken.
    pub(super) taken: Vec<(u32, u32)>,
    /// Numbers of the envelope it was told will never come.
    pub(super) gaps: u64,
    /// Texts that were neither messages nor answers, and those that were kept.
    pub(super) others: u64,
    pub(super) texts: Vec<String>,
    /// Frames that broke the rules of the envelope.
    pub(super) broken: u64,
    /// Connections so far, and when the last one was open.
    pub(super) opened: u64,
    pub(super) opened_at: Option<Instant>,
    /// How often it cut one.
    pub(super) cut: u32,
    /// How long each answer took.
    pub(super) answers: Vec<Duration>,
}

impl FarEnd {
    /// Starts it on a free port of loopback.
    pub(super) fn start(ways: Ways) -> Self {
        let (manner, orders) = watch::channel(Manner::default());
        let (note, ledger) = watch::channel(Ledger::default());
        let (tell, told) = blocking::channel();
        let thread = std::thread::Builder::new().name("far end".to_owned());
        let thread = thread.spawn(move || {
            on_one_thread(async {
                let listener = TcpListener::bind("127.0.0.1:0").await;
                let listener = listener.expect("loopback has a free port");
                let address = listener.local_addr().expect("it is bound");
                let task = std::fs::read_link("/proc/thread-self");
                let task = task.expect("the kernel tells of a living thread");
                let task = task.to_string_lossy().into_owned();
                tell.send((address, task)).expect("the starter waits");
                serve(listener, address, ways, orders, Arc::new(note)).await;
            });
        });
        let thread = thread.expect("there is room for a thread");
        let (address, task) = told.recv().expect("the far end starts");
        Self {
            address,
            task,
            manner,
            ledger,
            thread: Some(thread),
        }
    }

    pub(super) fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The processor time it has had, in nanoseconds.
    pub(super) fn busy(&self) -> f64 {
        processor_time(&self.task)
    }

    pub(super) fn be(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    /// What it has committed so far.
    pub(super) fn ledger(&self) -> watch::Ref<'_, Ledger> {
        self.ledger.borrow()
    }

    /// Waits until the ledger is as wanted; tells whether it came to that within the limit.
    pub(super) async fn sees(&self, limit: Duration, wanted: impl FnMut(&Ledger) -> bool) -> bool {
        let mut ledger = self.ledger.clone();
        let seen = timeout(limit, ledger.wait_for(wanted)).await;
        seen.is_ok_and(|seen| seen.is_ok())
    }
}

impl Drop for FarEnd {
    fn drop(&mut self) {
        self.manner.send_replace(Manner::Ended);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the far end ends without trouble");
        }
    }
}

/// The processor time a thread has had, in nanoseconds.
pub(super) fn processor_time(thread: &str) -> f64 {
    let told = std::fs::read_to_string(format!("/proc/{thread}/schedstat"));
    let told = told.expect("the kernel tells of a living thread");
    let first = told
        .split_whitespace()
        .next()
        .and_then(|it| it.parse().ok());
    first.expect("the kernel begins with it")
}

/// Draws the same numbers for the same seed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number below that.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

type Note = Arc<watch::Sender<Ledger>>;

async fn serve(
    first: TcpListener,
    address: SocketAddr,
    mut ways: Ways,
    mut orders: watch::Receiver<Manner>,
    note: Note,
) {
    let mut listener = Some(first);
    loop {
        let manner = *orders.borrow_and_update();
        match manner {
            Manner::Ended => return,
            Manner::Away => listener = None,
            Manner::Here | Manner::Deaf => {
                if listener.is_none() {
                    let again = TcpListener::bind(address).await;
                    listener = Some(again.expect("nobody else took the port"));
                }
            }
        }
        let accepting = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = orders.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            accepted = accepting => {
                let (stream, _) = accepted.expect("there are sockets left");
                let cut = ways.cuts.as_mut().and_then(Cuts::next);
                let connection = Connection {
                    ways: ways.clone(),
                    cut,
                    orders: orders.clone(),
                    note: Arc::clone(&note),
                };
                tokio::spawn(connection.serve(stream));
            }
        }
    }
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// So many messages are heard before.
    after: u64,
    /// They are committed before.
    commits: bool,
    /// And acknowledged.
    acknowledges: bool,
}

impl Cuts {
    fn next(&mut self) -> Option<Cut> {
        self.left = self.left.checked_sub(1)?;
        let after = self.random.below(600);
        let commits = self.random.below(2) == 0;
        let acknowledges = self.random.below(2) == 0;
        Some(Cut {
            after,
            commits,
            acknowledges,
        })
    }
}

struct Connection {
    ways: Ways,
    cut: Option<Cut>,
    orders: watch::Receiver<Manner>,
    note: Note,
}

/// What was heard and is not committed.
#[derive(Default)]
struct Heap {
    position: Option<Position>,
    taken: Vec<(u32, u32)>,
    answers: Vec<Duration>,
    gaps: u64,
    others: u64,
    keeps: bool,
    texts: Vec<String>,
    broken: u64,
}

impl Connection {
    #[expect(clippy::result_large_err, reason = "the library's callback type")]
    async fn serve(mut self, stream: TcpStream) {
        stream.set_nodelay(true).expect("a socket of ours");
        let mut enveloped = false;
        let accepts = self.ways.envelope;
        let answer = |request: &Request, mut response: Response| {
            for agreed in [EXTENSION, deflate::HEADER] {
                if let Some(offer) = request.headers().get(agreed).filter(|_| accepts) {
                    enveloped = true;
                    response.headers_mut().insert(agreed, offer.clone());
                }
            }
            Ok(response)
        };
        // A bridge that was killed while it dialled is no trouble of ours.
        let Ok(socket) = accept_hdr_async(stream, answer).await else {
            return;
        };
        self.note.send_modify(|ledger| {
            ledger.opened += 1;
            ledger.opened_at = Some(Instant::now());
        });
        // An error is the end of the connection, whoever ended it.
        drop(self.talk(socket, enveloped).await);
    }

    async fn talk(
        &mut self,
        mut socket: WebSocketStream<TcpStream>,
        enveloped: bool,
    ) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        let position = self.note.borrow().position;
        let mut reader = enveloped.then(|| Reader::new(position, MOST_PARTS));
        if let Some(reader) = &reader {
            let resume = reader.position().resume();
            socket.send(Message::text(resume)).await?;
        }
        let mut asking = interval(self.ways.asks.unwrap_or(Duration::MAX / 4));
        asking.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (begun, mut heard) = (Instant::now(), 0);
        loop {
            let manner = *self.orders.borrow_and_update();
            match manner {
                Manner::Here => {}
                Manner::Deaf => {
                    if self.orders.changed().await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                Manner::Away | Manner::Ended => return Ok(()),
            }
            let mut next = tokio::select! {
                changed = self.orders.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                _ = asking.tick(), if self.ways.asks.is_some() => {
                    let asked = begun.elapsed().as_micros();
                    socket.send(Message::text(format!("{{\"ask\":\"{asked}\"}}"))).await?;
                    continue;
                }
                next = socket.next() => next,
            };
            // What is there already is committed together.
            let mut heap = Heap {
                keeps: self.ways.keeps,
                ..Heap::default()
            };
            let mut over = false;
            loop {
                match next {
                    Some(Ok(Message::Text(text))) => heap.hear(&mut reader, &text, begun),
                    Some(Ok(Message::Binary(packed))) => {
                        match deflate::unpack(&packed, MOST_PARTS) {
                            Ok(frames) => {
                                for frame in frames {
                                    heap.hear(&mut reader, frame.as_str(), begun);
                                }
                            }
                            Err(_) => heap.broken += 1,
                        }
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                    Some(Ok(Message::Close(_)) | Err(_)) | None => {
                        over = true;
                        break;
                    }
                }
                let so_far = heard + number(heap.taken.len());
                let cut = self.cut.is_some_and(|cut| so_far >= cut.after);
                if cut || heap.taken.len() >= MOST_TOGETHER {
                    break;
                }
                match socket.next().now_or_never() {
                    Some(more) => next = more,
                    None => break,
                }
            }
            heard += number(heap.taken.len());
            let cut = self.cut.filter(|cut| heard >= cut.after);
            if cut.is_none_or(|cut| cut.commits) {
                let position = heap.position;
                self.commit(heap);
                if let Some(position) = position
                    && cut.is_none_or(|cut| cut.acknowledges)
                {
                    socket.send(Message::text(position.ack())).await?;
                }
            }
            if cut.is_some() {
                self.note.send_modify(|ledger| ledger.cut += 1);
                return Ok(());
            }
            if over {
                // The answer to a close frame goes out.
                return socket.flush().await;
            }
        }
    }

    fn commit(&self, heap: Heap) {
        self.note.send_modify(|ledger| {
            if let Some(position) = heap.position {
                ledger.position = position;
            }
            ledger.taken.extend(heap.taken);
            ledger.answers.extend(heap.answers);
            ledger.gaps += heap.gaps;
            ledger.others += heap.others;
            ledger.texts.extend(heap.texts);
            ledger.broken += heap.broken;
        });
    }
}

impl Heap {
    fn hear(&mut self, reader: &mut Option<Reader>, text: &str, begun: Instant) {
        let Some(reader) = reader else {
            self.take(text, begun);
            return;
        };
        match reader.hear(text) {
            Ok(Heard::Message { texts, upto, .. }) => {
                for text in &texts {
                    self.take(text, begun);
                }
                self.position = upto.or(self.position);
            }
            Ok(Heard::Gap { gap, upto }) => {
                self.gaps += gap.to - gap.from + 1;
                self.position = Some(upto);
            }
            Ok(Heard::Nothing) => {}
            Ok(Heard::Resume { .. } | Heard::Ack { .. }) | Err(_) => self.broken += 1,
        }
    }

    fn take(&mut self, text: &str, begun: Instant) {
        if let Some(message) = message::read(text) {
            self.taken.push(message);
        } else if let Some(asked) = message::asked(text) {
            self.answers.push(begun.elapsed().saturating_sub(asked));
        } else {
            self.others += 1;
            if self.keeps {
                self.texts.push(text.to_owned());
            }
        }
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).expect("a count")
}

const EXTENSION: &str = "x-bridge-extension";
/// What messages in parts may hold.
const MOST_PARTS: usize = 64 << 20;
/// Messages of one commit.
const MOST_TOGETHER: usize = 1000;
