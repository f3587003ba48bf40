//! A connection made of HTTP requests: a link on our hub, which one task says to and another reads.
//!
//! Every line has a number in its direction. What was not answered is said again under the same
//! numbers, over a new connection where the old one is gone, so a link outlives its connections; it
//! is given up when it cannot be reached for [`REVIVING`], or the hub says that it has ended.

use std::{collections::VecDeque, future::pending, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri, header};
use serde::Deserialize;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use super::{
    Connection, FrameSink, FrameSource, Received, SinkClosed, Target, as_socket,
    http::{Answer, Http, Question},
    line::{Batch, Line},
    traffic::TrafficMeter,
    way::Way,
};
use crate::{
    address,
    dial::DialError,
    driver::with_causes,
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

/// How long something is tried again before it is given up.
pub(super) struct Patience {
    since: Option<Instant>,
    wait: Duration,
}

impl Patience {
    pub(super) fn new() -> Self {
        Self {
            since: None,
            wait: FIRST_WAIT,
        }
    }

    /// The other end answered.
    pub(super) fn on_good(&mut self) {
        *self = Self::new();
    }

    /// Waits before the next attempt; the end of the link when that would be of no use any more.
    pub(super) async fn on_broken(&mut self, error: &DialError) -> Result<(), CloseReason> {
        self.wait_within(REVIVING, self.wait, with_causes(error))
            .await?;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Ok(())
    }

    /// Either of both, for a request that was answered or not.
    pub(super) async fn on_failed(&mut self, error: &DialError) -> Result<(), CloseReason> {
        if let DialError::Refused {
            status,
            retry_after,
            body: _,
        } = error
        {
            self.on_status(*status, *retry_after).await
        } else {
            self.on_broken(error).await
        }
    }

    /// Judges an answer that is not the one that was hoped for, and waits where that is of use.
    pub(super) async fn on_refused(&mut self, answer: &Answer) -> Result<(), CloseReason> {
        self.on_status(answer.status, answer.retry_after()).await
    }

    async fn on_status(
        &mut self,
        status: u16,
        retry_after: Option<Duration>,
    ) -> Result<(), CloseReason> {
        let why = format!("the server answers with status {status}");
        match status {
            429 | 503 => {
                let wait = retry_after.unwrap_or(LONGEST_WAIT);
                self.wait_within(BUSY, wait, why).await
            }
            500..=599 => {
                self.wait_within(REVIVING, self.wait, why).await?;
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
                Ok(())
            }
            _ => Err(CloseReason::Lost(why)),
        }
    }

    async fn wait_within(
        &mut self,
        limit: Duration,
        wait: Duration,
        why: String,
    ) -> Result<(), CloseReason> {
        let at = Instant::now() + wait;
        if at >= *self.since.get_or_insert_with(Instant::now) + limit {
            return Err(CloseReason::Lost(why));
        }
        debug!(why, "a request of a link is made again");
        sleep_until(at).await;
        Ok(())
    }
}

/// Says what the sink is given, and what the reader has.
struct Mouth {
    http: Http,
    session: Arc<Session>,
    /// The number of the next line.
    next: u64,
    /// How many lines go together; fewer when the way is too narrow for them.
    lines: usize,
    arrived: watch::Receiver<Arrived>,
    reader_tells: bool,
    /// How far the hub knows.
    told: Arrived,
}

/// What the sink asks of the task.
enum Op {
    Say {
        lines: VecDeque<Line>,
        done: oneshot::Sender<()>,
    },
    End {
        code: u16,
        done: oneshot::Sender<()>,
    },
}

impl Mouth {
    async fn serve(mut self, mut ops: mpsc::Receiver<Op>) -> Result<(), CloseReason> {
        loop {
            let op = tokio::select! {
                op = ops.recv() => op,
                () = much_to_tell(&mut self.arrived, self.told, self.reader_tells) => {
                    self.say(VecDeque::new()).await?;
                    continue;
                }
            };
            let done = match op {
                Some(Op::Say { lines, done }) => {
                    let lines = lines.iter().map(Line::encode).collect();
                    self.say(lines).await?;
                    done
                }
                Some(Op::End { code, done }) => {
                    self.end(code).await;
                    done
                }
                None => return Ok(()),
            };
            if done.send(()).is_err() {
                debug!("nobody waits for a finished write");
            }
        }
    }

    /// Says all lines, or at least how far the reader is.
    async fn say(&mut self, mut lines: VecDeque<String>) -> Result<(), CloseReason> {
        let mut patience = Patience::new();
        loop {
            let count = self.together(&lines);
            let arrived = *self.arrived.borrow_and_update();
            let some = lines.iter().take(count).map(String::as_str);
            let body = Batch::encode(self.next, arrived.lines, some);
            let question = self.session.question(Method::POST, "", body.into());
            let answer = match self.http.ask(&question).await {
                Ok(answer) => answer,
                Err(error) => {
                    patience.on_broken(&error).await?;
                    continue;
                }
            };
            // Whoever answers is there, even if it takes nothing now.
            self.session.traffic.on_sent();
            match answer.status {
                200 => {}
                413 if count > 1 => {
                    self.lines = count / 2;
                    continue;
                }
                413 => {
                    return Err(CloseReason::Code {
                        code: TOO_BIG,
                        reason: "the way is too narrow for a message".to_owned(),
                    });
                }
                _ => {
                    patience.on_refused(&answer).await?;
                    continue;
                }
            }
            let heard = match answer.whole(SMALL).await {
                Ok(body) => serde_json::from_slice::<Heard>(&body),
                Err(error) => {
                    patience.on_broken(&error).await?;
                    continue;
                }
            };
            let taken = heard
                .ok()
                .and_then(|heard| (heard.heard + 1).checked_sub(self.next));
            let taken = taken.and_then(|taken| usize::try_from(taken).ok());
            let Some(taken) = taken.filter(|taken| *taken <= count) else {
                let reason = "the server counts other lines".to_owned();
                return Err(CloseReason::Protocol(reason));
            };
            patience.on_good();
            self.told = arrived;
            self.next += taken as u64;
            lines.drain(..taken);
            if lines.is_empty() {
                return Ok(());
            }
            if taken == 0 {
                sleep(FIRST_WAIT).await;
            }
        }
    }

    /// How many lines go in the next request.
    fn together(&self, lines: &VecDeque<String>) -> usize {
        let mut bytes = 0;
        let fit = lines.iter().take(self.lines).take_while(|line| {
            bytes += line.len();
            bytes <= self.session.limits.bytes
        });
        fit.count().max(1).min(lines.len())
    }

    /// Ends the link; what becomes of that is of no interest.
    async fn end(&mut self, code: u16) {
        let query = format!("?code={code}");
        let question = self.session.question(Method::DELETE, &query, Bytes::new());
        if let Err(error) = self.http.ask(&question).await {
            debug!(%error, "a link could not be ended");
        }
    }
}

/// The answer to a batch: the number of the last line that was taken.
#[derive(Deserialize)]
struct Heard {
    heard: u64,
}

/// Waits until the hub should hear what has arrived, because it keeps that.
async fn much_to_tell(arrived: &mut watch::Receiver<Arrived>, told: Arrived, by_reader: bool) {
    let much = |arrived: &Arrived| {
        arrived.lines - told.lines >= UNTOLD_LINES || arrived.bytes - told.bytes >= UNTOLD_BYTES
    };
    if by_reader || arrived.wait_for(much).await.is_err() {
        pending::<()>().await;
    }
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
/// How long a link may not be reached.
const REVIVING: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long a server may say that it is busy.
const BUSY: Duration = Duration::from_secs(30);
/// After so many lines or bytes that were read the hub is told so; it keeps twice as many at least.
const UNTOLD_LINES: u64 = 64;
const UNTOLD_BYTES: u64 = 128 << 10;
/// How long the reader has to say why a link ended that the writer could not say to.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A message is too big.
const TOO_BIG: u16 = 1009;
