//! The WebSocket carrier: one task owns the socket, frames go out in batches with one flush.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Sink as _, Stream as _};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        error::{CapacityError, ProtocolError},
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tracing::debug;

use crate::{
    address::is_loopback,
    carrier::{
        Carrier, Connection, FrameSink, FrameSource, Received, SinkClosed, Target, as_socket,
        packing::{Messages, Packing},
        traffic::TrafficMeter,
    },
    config::{Compress, Endpoint, ProxySource},
    dial::{self, DialError},
    inbound::{CloseReason, FrameRefused},
    payload::TextFrame,
    proxy::Stream,
    trust::TlsSettings,
};

/// Carries frames over WebSocket, directly or through a proxy, with TLS for `wss`.
pub struct WebSocket {
    proxy: ProxySource,
    tls: TlsSettings,
    compress: Compress,
    /// Something on the way took no message as long as those of a packed connection. Packing would
    /// put together again what goes in short parts because of that, so it is not offered any more.
    narrow: Arc<AtomicBool>,
}

impl WebSocket {
    /// Prepares a carrier with the proxy and certificate settings of an endpoint.
    pub fn new(endpoint: &Endpoint) -> Self {
        Self {
            proxy: endpoint.proxy.clone(),
            tls: endpoint.tls.clone(),
            compress: endpoint.compress,
            narrow: Arc::default(),
        }
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("proxy", &self.proxy)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Carrier for WebSocket {
    async fn open(&self, target: &Target) -> Result<Connection, DialError> {
        let target = Target {
            url: as_socket(&target.url),
            ..target.clone()
        };
        self.open_metered(&target, TrafficMeter::new()).await
    }
}

impl WebSocket {
    /// Opens a connection whose bytes count on this meter.
    pub(super) async fn open_metered(
        &self,
        target: &Target,
        traffic: TrafficMeter,
    ) -> Result<Connection, DialError> {
        let worth_it = match self.compress {
            Compress::Never => false,
            Compress::OverNetworks => !is_loopback(&target.url),
            Compress::Always => true,
        };
        let wide = !self.narrow.load(Ordering::Relaxed);
        let offer = Packing::offer(worth_it && wide && target.offer_extension);
        let mut target = target.clone();
        target.headers.extend(offer.clone());
        let opened = dial::dial(&target, &self.proxy, &self.tls, &traffic).await?;
        let agreed = |(name, value)| opened.headers.get(name) == Some(&value);
        let packs = opened.extended && offer.is_some_and(agreed);
        let narrow = packs.then(|| Arc::clone(&self.narrow));
        let packing = Packing::new(packs);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(target.frame_limit))
            .max_frame_size(Some(target.frame_limit));
        let socket = WebSocketStream::from_partially_read(
            opened.stream,
            opened.leftover,
            Role::Client,
            Some(config),
        )
        .await;
        let (ops, incoming_ops) = mpsc::channel(1);
        let (out, received) = mpsc::channel(RECEIVED);
        let packing = (packing, target.frame_limit, narrow);
        let task = tokio::spawn(serve(socket, packing, incoming_ops, out));
        let guard = Arc::new(Guard(task.abort_handle()));
        Ok(Connection {
            sink: Box::new(Outgoing {
                ops,
                _guard: Arc::clone(&guard),
            }),
            source: Box::new(Incoming {
                received,
                at_hand: VecDeque::new(),
                _guard: guard,
            }),
            extended: opened.extended,
            traffic,
        })
    }
}

/// Ends the task, and with it the socket, once both halves are dropped.
struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Outgoing {
    ops: mpsc::Sender<Op>,
    _guard: Arc<Guard>,
}

struct Incoming {
    received: mpsc::Receiver<Vec<Received>>,
    /// What came together and is not taken yet.
    at_hand: VecDeque<Received>,
    _guard: Arc<Guard>,
}

/// What the sink asks of the task; the answer comes when the socket has taken all bytes.
struct Op {
    what: What,
    done: oneshot::Sender<()>,
}

enum What {
    Frames(Vec<TextFrame>),
    Control(Message),
}

/// What the socket is busy with.
struct Writing {
    control: Option<Message>,
    messages: Option<Messages>,
    done: oneshot::Sender<()>,
}

impl Writing {
    fn next(&mut self) -> Option<Message> {
        let message = self.control.take();
        message.or_else(|| self.messages.as_mut()?.next())
    }
}

impl Outgoing {
    async fn write(&self, what: What) -> Result<(), SinkClosed> {
        let (done, written) = oneshot::channel();
        self.ops
            .send(Op { what, done })
            .await
            .map_err(|_| SinkClosed)?;
        written.await.map_err(|_| SinkClosed)
    }
}

#[async_trait]
impl FrameSink for Outgoing {
    async fn send(&mut self, frames: Vec<TextFrame>) -> Result<(), SinkClosed> {
        self.write(What::Frames(frames)).await
    }

    async fn ping(&mut self, id: u64) -> Result<(), SinkClosed> {
        let ping = Message::Ping(Bytes::copy_from_slice(&id.to_be_bytes()));
        self.write(What::Control(ping)).await
    }

    async fn close(&mut self, code: u16) {
        let goodbye = goodbye(code.into());
        if self.write(What::Control(goodbye)).await.is_ok() {
            // The task ends when the peer has answered.
            self.ops.closed().await;
        }
    }
}

#[async_trait]
impl FrameSource for Incoming {
    async fn next(&mut self) -> Received {
        loop {
            if let Some(next) = self.at_hand.pop_front() {
                return next;
            }
            let Some(together) = self.received.recv().await else {
                let ended = CloseReason::Lost("socket task ended".to_owned());
                return Received::Closed(ended);
            };
            self.at_hand.extend(together);
        }
    }
}

type Socket = WebSocketStream<Box<dyn Stream>>;

/// Owns the socket until it ends, reading only when there is room for what is read.
async fn serve(
    mut socket: Socket,
    (mut packing, limit, narrow): (Packing, usize, Option<Arc<AtomicBool>>),
    mut ops: mpsc::Receiver<Op>,
    out: mpsc::Sender<Vec<Received>>,
) {
    let mut writing = None;
    let mut room = None;
    // What is there already goes on together: waking the link costs more than a small message.
    let mut gathered = Gathered::default();
    loop {
        let progress = tokio::select! {
            op = ops.recv(), if writing.is_none() => {
                match op {
                    Some(Op { what, done }) => {
                        let (control, messages) = match what {
                            What::Frames(frames) => (None, Some(packing.messages(frames))),
                            What::Control(message) => (Some(message), None),
                        };
                        writing = Some(Writing {
                            control,
                            messages,
                            done,
                        });
                    }
                    None => return,
                }
                continue;
            }
            permit = out.reserve(), if room.is_none() => {
                match permit {
                    Ok(permit) => room = Some(permit),
                    Err(_) => return,
                }
                continue;
            }
            progress = poll_fn(|cx| {
                let reading = if room.is_none() {
                    Reading::Not
                } else if gathered.messages.is_empty() {
                    Reading::Waiting
                } else {
                    Reading::WhatIsThere
                };
                poll(&mut socket, &mut writing, reading, cx)
            }) => progress,
        };
        let received = match progress {
            Progress::Wrote => {
                if let Some(Writing { done, .. }) = writing.take()
                    && done.send(()).is_err()
                {
                    debug!("nobody waits for a finished write");
                }
                continue;
            }
            Progress::NothingThere => {
                if let Some(permit) = room.take() {
                    permit.send(gathered.take());
                }
                continue;
            }
            Progress::Read(Message::Text(text)) => Received::Text(text.into()),
            Progress::Read(Message::Binary(data)) => match packing.frames(&data, limit) {
                None => Received::Refused(FrameRefused::Binary { bytes: data.len() }),
                Some(Ok(frames)) => {
                    let mut frames = frames.into_iter().map(|it| Received::Text(it.0.into()));
                    let Some(last) = frames.next_back() else {
                        continue;
                    };
                    frames.for_each(|frame| gathered.push(frame));
                    last
                }
                Some(Err(broken)) => {
                    say_goodbye(&mut socket, broken.code.into()).await;
                    if let Some(refused) = broken.refused {
                        gathered.push(Received::Refused(refused));
                    }
                    Received::Closed(CloseReason::Protocol(broken.reason))
                }
            },
            Progress::Read(Message::Pong(data)) => match <[u8; 8]>::try_from(data.as_ref()) {
                Ok(id) => Received::Pong {
                    id: u64::from_be_bytes(id),
                },
                Err(_) => continue,
            },
            Progress::Read(Message::Ping(_) | Message::Frame(_)) => continue,
            Progress::Read(Message::Close(frame)) => {
                settle(&mut socket).await;
                let too_big = frame.as_ref().is_some_and(|it| it.code == CloseCode::Size);
                if let Some(narrow) = narrow.as_ref().filter(|_| too_big) {
                    narrow.store(true, Ordering::Relaxed);
                }
                Received::Closed(code_of(frame))
            }
            Progress::Failed(error) => {
                let (refused, reason) = end(&mut socket, error).await;
                if let Some(refused) = refused {
                    gathered.push(Received::Refused(refused));
                }
                Received::Closed(reason)
            }
        };
        let over = matches!(received, Received::Closed(_));
        gathered.push(received);
        if !over && !gathered.is_full() {
            continue;
        }
        match room.take() {
            Some(permit) => permit.send(gathered.take()),
            None => {
                if out.send(gathered.take()).await.is_err() {
                    return;
                }
            }
        }
        if over {
            return;
        }
    }
}

/// What was read and is not handed on yet.
#[derive(Default)]
struct Gathered {
    messages: Vec<Received>,
    bytes: usize,
}

impl Gathered {
    fn push(&mut self, received: Received) {
        self.bytes += match &received {
            Received::Text(text) => text.len(),
            Received::Pong { .. } | Received::Refused(_) | Received::Closed(_) => 0,
        };
        self.messages.push(received);
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= MOST_GATHERED || self.bytes >= MOST_GATHERED_BYTES
    }

    fn take(&mut self) -> Vec<Received> {
        self.bytes = 0;
        std::mem::take(&mut self.messages)
    }
}

/// Whether the socket is read.
#[derive(Clone, Copy)]
enum Reading {
    Not,
    Waiting,
    WhatIsThere,
}

enum Progress {
    Wrote,
    NothingThere,
    Read(Message),
    Failed(Error),
}

/// Moves both directions as far as they go. All state lives outside, so it may be dropped.
fn poll(
    socket: &mut Socket,
    writing: &mut Option<Writing>,
    reading: Reading,
    cx: &mut Context<'_>,
) -> Poll<Progress> {
    if let Some(writing) = writing
        && let Poll::Ready(result) = poll_write(socket, writing, cx)
    {
        return Poll::Ready(match result {
            Ok(()) => Progress::Wrote,
            Err(error) => Progress::Failed(error),
        });
    }
    if matches!(reading, Reading::Not) {
        return Poll::Pending;
    }
    match Pin::new(socket).poll_next(cx) {
        Poll::Ready(Some(Ok(message))) => Poll::Ready(Progress::Read(message)),
        Poll::Ready(Some(Err(error))) => Poll::Ready(Progress::Failed(error)),
        Poll::Ready(None) => Poll::Ready(Progress::Failed(Error::ConnectionClosed)),
        Poll::Pending => match reading {
            Reading::WhatIsThere => Poll::Ready(Progress::NothingThere),
            Reading::Not | Reading::Waiting => Poll::Pending,
        },
    }
}

fn poll_write(
    mut socket: &mut Socket,
    writing: &mut Writing,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Error>> {
    loop {
        ready!(Pin::new(&mut socket).poll_ready(cx))?;
        match writing.next() {
            Some(message) => Pin::new(&mut socket).start_send(message)?,
            None => break,
        }
    }
    Pin::new(&mut socket).poll_flush(cx)
}

/// Finds out why the socket failed, and says good-bye where the peer broke a rule.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "which kinds of errors there are depends on features that other crates ask for"
)]
async fn end(socket: &mut Socket, error: Error) -> (Option<FrameRefused>, CloseReason) {
    let reason = error.to_string();
    match error {
        Error::Capacity(CapacityError::MessageTooLong { size, .. }) => {
            say_goodbye(socket, CloseCode::Size).await;
            (
                Some(FrameRefused::TooLarge { bytes: size }),
                CloseReason::Protocol(reason),
            )
        }
        Error::Utf8(_) => {
            say_goodbye(socket, CloseCode::Invalid).await;
            let reason = "text is not UTF-8".to_owned();
            (Some(FrameRefused::NotUtf8), CloseReason::Protocol(reason))
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            (None, CloseReason::Lost(reason))
        }
        Error::Protocol(_) => {
            say_goodbye(socket, CloseCode::Protocol).await;
            (None, CloseReason::Protocol(reason))
        }
        // A failed write says less than the close frame that may still be there to be read.
        Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed => (
            None,
            last_words(socket)
                .await
                .unwrap_or(CloseReason::Lost(reason)),
        ),
        _ => (None, CloseReason::Lost(reason)),
    }
}

async fn last_words(socket: &mut Socket) -> Option<CloseReason> {
    let reading = async {
        loop {
            match poll_fn(|cx| Pin::new(&mut *socket).poll_next(cx)).await? {
                Ok(Message::Close(frame)) => return Some(code_of(frame)),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    };
    timeout(PATIENCE, reading).await.ok().flatten()
}

/// Lets the answer to the peer's close frame out.
async fn settle(socket: &mut Socket) {
    let flushing = poll_fn(|cx| Pin::new(&mut *socket).poll_flush(cx));
    match timeout(PATIENCE, flushing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "the answer to a close frame was not sent"),
        Err(_) => debug!("the answer to a close frame was not taken"),
    }
}

async fn say_goodbye(socket: &mut Socket, code: CloseCode) {
    if Pin::new(&mut *socket).start_send(goodbye(code)).is_ok() {
        settle(socket).await;
    }
}

fn goodbye(code: CloseCode) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: "".into(),
    }))
}

fn code_of(frame: Option<CloseFrame>) -> CloseReason {
    let (code, reason) = frame.map_or((NO_CODE, String::new()), |frame| {
        (frame.code.into(), frame.reason.as_str().to_owned())
    });
    CloseReason::Code { code, reason }
}

/// Allocated at once for every connection.
const READ_BUFFER: usize = 16 << 10;
/// Lists read ahead of the link; small, because each may end with a message as large as the frame
/// limit.
const RECEIVED: usize = 1;
/// Messages in such a list.
const MOST_GATHERED: usize = 64;
/// Bytes in such a list, before its last message.
const MOST_GATHERED_BYTES: usize = 16 << 10;
/// How long the end of a connection may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Stands for a close frame without a code.
const NO_CODE: u16 = 1005;
