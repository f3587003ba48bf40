//! A connection made of HTTP requests: a link on our hub, which one task says to and another reads.
//!
//! Every line has a number in its direction. What was not answered is said again under the same
//! numbers, over a new connection where the old one is gone, so a link outlives its connections; it
//! is given up when it cannot be reached for [some time](patience), or the hub says that it has ended.

mod mouth;
mod patience;

use std::{collections::VecDeque, future::pending, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
    time::{Instant, sleep_until},
};
use tracing::debug;

use self::mouth::{Mouth, Op};
pub(super) use self::patience::Patience;
use super::{
    Connection, FrameSink, FrameSource, Received, SinkClosed, Target, as_socket,
    http::{Http, Question},
    line::Line,
    traffic::TrafficMeter,
    way::Way,
};
use crate::{
    address,
    dial::DialError,
    inbound::{CloseReason, FrameRefused},
    payload::TextFrame,
};

/// A link that the hub has opened.
pub(super) struct Session {
    pub(super) way: Way,
    /// The address of the link, `ws` or `wss`.
    pub(super) url: Uri,
    /// The credential it was opened with.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) frame_limit: usize,
    pub(super) extended: bool,
    limits: Limits,
    traffic: TrafficMeter,
}

/// What the hub said of a new link.
#[derive(Deserialize)]
struct Opened {
    link: String,
    extended: bool,
    limits: Limits,
}

/// What a batch may hold, but for one line that is longer.
#[derive(Debug, Clone, Copy, Deserialize)]
struct Limits {
    lines: usize,
    bytes: usize,
}

impl Session {
    /// Asks the hub for a link.
    pub(super) async fn open(way: &Way, target: &Target) -> Result<Self, DialError> {
        let traffic = TrafficMeter::new();
        let door = target.url.path().trim_end_matches('/');
        let path = format!("{door}/link");
        let url = address::with(&as_socket(&target.url), None, Some(&path));
        let mut http = Http::new(way.clone(), url.clone(), traffic.clone());
        let question = Question {
            method: Method::POST,
            path: path.clone(),
            headers: target.headers.clone(),
            body: Bytes::new(),
        };
        let answer = http.ask(&question).await?;
        if answer.status != 201 {
            return Err(answer.into_refusal().await);
        }
        let body = answer.whole(SMALL).await?;
        let opened: Opened = serde_json::from_slice(&body).map_err(|_| NOT_A_LINK)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let good = (1..=128).contains(&opened.link.len()) && opened.link.bytes().all(is_name);
        if !good || opened.limits.lines == 0 || opened.limits.bytes == 0 {
            return Err(NOT_A_LINK);
        }
        let url = address::with(&url, None, Some(&format!("{path}/{}", opened.link)));
        let is_credential = |(name, _): &&(HeaderName, HeaderValue)| *name == header::AUTHORIZATION;
        Ok(Self {
            way: way.clone(),
            url,
            headers: target
                .headers
                .iter()
                .filter(is_credential)
                .cloned()
                .collect(),
            frame_limit: target.frame_limit,
            extended: target.offer_extension && opened.extended,
            limits: opened.limits,
            traffic,
        })
    }

    /// A connection of which only what arrives counts as traffic of the link.
    pub(super) fn reading(&self) -> Http {
        Http::new(self.way.clone(), self.url.clone(), self.traffic.receiving())
    }

    /// The meter of a connection that only reads.
    pub(super) fn receiving(&self) -> TrafficMeter {
        self.traffic.receiving()
    }

    /// The longest line that is read: a frame that does not go as it is grows by its escapes.
    pub(super) fn longest_line(&self) -> usize {
        self.frame_limit.saturating_mul(6).saturating_add(SMALL)
    }

    pub(super) fn question(&self, method: Method, below: &str, body: Bytes) -> Question {
        Question {
            method,
            path: format!("{}{below}", self.url.path()),
            headers: self.headers.clone(),
            body,
        }
    }

    /// Puts a connection together. `acknowledges` tells whether the reader itself says what it has.
    pub(super) fn connect<R, F>(self: Arc<Self>, acknowledges: bool, read: R) -> Connection
    where
        R: FnOnce(Arc<Self>, Ear) -> F,
        F: Future<Output = CloseReason> + Send + 'static,
    {
        let (ops, incoming_ops) = mpsc::channel(1);
        let (out, received) = mpsc::channel(1);
        let (arrived, has_arrived) = watch::channel(Arrived::default());
        let (fail, failed) = oneshot::channel();
        let ear = Ear {
            after: 0,
            out: out.clone(),
            arrived,
            limit: self.frame_limit,
        };
        let reading = read(Arc::clone(&self), ear);
        let reader = tokio::spawn(async move {
            let reason = reading.await;
            if out.send(vec![Received::Closed(reason)]).await.is_err() {
                debug!("nobody waits for the end of a link");
            }
        });
        let traffic = self.traffic.clone();
        let extended = self.extended;
        let mouth = Mouth {
            http: Http::new(self.way.clone(), self.url.clone(), traffic.sending()),
            lines: self.limits.lines,
            session: self,
            next: 1,
            arrived: has_arrived,
            reader_tells: acknowledges,
            told: Arrived::default(),
        };
        let writer = tokio::spawn(async move {
            if let Err(reason) = mouth.serve(incoming_ops).await
                && fail.send(reason).is_err()
            {
                debug!("nobody waits for the end of a link");
            }
        });
        let guard = Arc::new(Guard([reader.abort_handle(), writer.abort_handle()]));
        Connection {
            sink: Box::new(Outgoing {
                ops,
                _guard: Arc::clone(&guard),
            }),
            source: Box::new(Incoming {
                received,
                at_hand: VecDeque::new(),
                failed: Some(failed),
                given_up: None,
                _guard: guard,
            }),
            extended,
            traffic,
        }
    }
}

/// Ends the tasks of a link once both halves of its connection are dropped.
struct Guard([AbortHandle; 2]);

impl Drop for Guard {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// How far a direction was read.
#[derive(Debug, Clone, Copy, Default)]
struct Arrived {
    lines: u64,
    bytes: u64,
}

/// Takes what a reader has read, in order and once.
pub(super) struct Ear {
    after: u64,
    out: mpsc::Sender<Vec<Received>>,
    arrived: watch::Sender<Arrived>,
    limit: usize,
}

impl Ear {
    /// The number of the last line that arrived.
    pub(super) fn after(&self) -> u64 {
        self.after
    }

    /// Takes lines of which the first has this number; waits until there is room for them.
    ///
    /// An error is the end of the connection.
    pub(super) async fn hear(&mut self, first: u64, lines: Vec<Line>) -> Result<(), CloseReason> {
        let due = self.after + 1;
        let known = due.checked_sub(first).ok_or_else(hole)?;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let mut together = Vec::with_capacity(lines.len());
        let mut end = None;
        let mut bytes = 0;
        for line in lines.into_iter().skip(known) {
            self.after += 1;
            match line {
                Line::Text(frame) if frame.len() > self.limit => {
                    let size = frame.len();
                    together.push(Received::Refused(FrameRefused::TooLarge { bytes: size }));
                    let reason = format!("frame of {size} bytes is over the limit");
                    end = Some(CloseReason::Protocol(reason));
                }
                Line::Text(frame) => {
                    bytes += frame.len() as u64;
                    together.push(Received::Text(frame.into()));
                }
                Line::Pong { id } => together.push(Received::Pong { id }),
                // The hub judges a link by its requests.
                Line::Ping { .. } => {}
                Line::Close { code, reason } => end = Some(CloseReason::Code { code, reason }),
            }
            if end.is_some() {
                break;
            }
        }
        if !together.is_empty() && self.out.send(together).await.is_err() {
            return Err(CloseReason::Lost("nobody reads".to_owned()));
        }
        let lines = self.after;
        self.arrived.send_modify(|arrived| {
            arrived.lines = lines;
            arrived.bytes += bytes;
        });
        match end {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
}

fn hole() -> CloseReason {
    CloseReason::Protocol("lines are missing".to_owned())
}

struct Outgoing {
    ops: mpsc::Sender<Op>,
    _guard: Arc<Guard>,
}

impl Outgoing {
    async fn say(&self, lines: VecDeque<Line>) -> Result<(), SinkClosed> {
        let (done, said) = oneshot::channel();
        let op = Op::Say { lines, done };
        self.ops.send(op).await.map_err(|_| SinkClosed)?;
        said.await.map_err(|_| SinkClosed)
    }
}

#[async_trait]
impl FrameSink for Outgoing {
    async fn send(&mut self, frames: Vec<TextFrame>) -> Result<(), SinkClosed> {
        if frames.is_empty() {
            return Ok(());
        }
        self.say(frames.into_iter().map(Line::Text).collect()).await
    }

    async fn ping(&mut self, id: u64) -> Result<(), SinkClosed> {
        self.say(VecDeque::from([Line::Ping { id }])).await
    }

    async fn close(&mut self, code: u16) {
        let (done, ended) = oneshot::channel();
        let sent = self.ops.send(Op::End { code, done }).await;
        if sent.is_err() || ended.await.is_err() {
            debug!("the link had ended before");
        }
    }
}

struct Incoming {
    received: mpsc::Receiver<Vec<Received>>,
    /// What came together and is not taken yet.
    at_hand: VecDeque<Received>,
    /// The writer's reason to end.
    failed: Option<oneshot::Receiver<CloseReason>>,
    /// The same, and when it counts: what the reader knows is better, if it comes soon.
    given_up: Option<(CloseReason, Instant)>,
    _guard: Arc<Guard>,
}

#[async_trait]
impl FrameSource for Incoming {
    async fn next(&mut self) -> Received {
        loop {
            if let Some(next) = self.at_hand.pop_front() {
                return next;
            }
            tokio::select! {
                biased;
                together = self.received.recv() => {
                    let Some(together) = together else {
                        let ended = CloseReason::Lost("the tasks of a link ended".to_owned());
                        return Received::Closed(ended);
                    };
                    self.at_hand.extend(together);
                }
                reason = failure(&mut self.failed) => {
                    self.given_up = Some((reason, Instant::now() + LAST_WORDS));
                }
                reason = given_up(self.given_up.as_ref()) => return Received::Closed(reason),
            }
        }
    }
}

/// The reason of the writer, once.
async fn failure(failed: &mut Option<oneshot::Receiver<CloseReason>>) -> CloseReason {
    let Some(receiver) = failed else {
        return pending().await;
    };
    let reason = receiver.await;
    *failed = None;
    match reason {
        Ok(reason) => reason,
        // It was not a failure.
        Err(_) => pending().await,
    }
}

async fn given_up(reason: Option<&(CloseReason, Instant)>) -> CloseReason {
    match reason {
        Some((reason, at)) => {
            sleep_until(*at).await;
            reason.clone()
        }
        None => pending().await,
    }
}

const NOT_A_LINK: DialError = DialError::NotOurs {
    reason: "it opens no links",
};
/// Answers that are a few words long.
const SMALL: usize = 16 << 10;
/// How long the reader has to say why a link ended that the writer could not say to.
const LAST_WORDS: Duration = Duration::from_secs(1);
