//! Turns the world into inputs of the machine, and its actions into the world.
//!
//! One task per link owns the machine, the socket's two halves and the queue towards the inbox.
//! Nothing here decides anything but the order in which ready events are taken.

use std::{collections::VecDeque, future::pending, mem::take, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tracing::{debug, trace, warn};

use crate::{
    address::host_text,
    carrier::{Carrier, Connection, EXTENSION, Received, Target},
    clock::Now,
    config::Endpoint,
    delivery::{Epoch, Position},
    dial::DialError,
    handle::{Flushed, Handle, Request},
    inbound::{ConnId, Inbox},
    jitter::Jitter,
    kept::{Answer, Appended, Keeper},
    link::{Action, Full, Input, Link, Spooled},
    outlet::Outlet,
    payload::{Class, Greeting, Payload},
    socket::{Moved, Op, Socket, Written},
    spoken::Spoken,
    state::LinkState,
};

/// Starts the task of a link.
pub(crate) fn spawn<P: Payload>(
    endpoint: Endpoint,
    carrier: Arc<dyn Carrier>,
    spool: Option<(Keeper<P>, Spooled<P>)>,
) -> (Handle<P>, Inbox) {
    let now = Now::read();
    let link = Link::new(
        endpoint.dialect.clone(),
        endpoint.timings.clone(),
        &endpoint.limits,
        endpoint.greeting.clone(),
        Epoch::fresh(),
        now,
    );
    let (kept, link) = match spool {
        Some((kept, spooled)) => (Some(kept), link.with_spool(spooled)),
        None => (None, link),
    };
    let (requests, incoming) = mpsc::channel(REQUESTS);
    let (state, watched) = watch::channel(LinkState::starting(now.at));
    let (greeting, greetings) = watch::channel(endpoint.greeting.clone());
    let link = link.with_heard(endpoint.heard);
    let (commit, committed) = watch::channel(endpoint.heard.unwrap_or_default());
    let (outlet, inbox) = Outlet::new(endpoint.limits.inbox);
    let driver = Driver {
        link,
        kept,
        jitter: Jitter::from_system(),
        dial: None,
        socket: None,
        waiting: VecDeque::new(),
        drained: Vec::new(),
        abandoned: false,
        until: None,
        stopped: None,
        state,
        outlet,
        credential: endpoint.authorization.clone(),
        greetings,
        committed,
        spoken: Spoken::default(),
        carrier,
        endpoint,
    };
    tokio::spawn(driver.run(incoming));
    (
        Handle {
            requests,
            greeting: Arc::new(greeting),
            state: watched,
            committed: Arc::new(commit),
        },
        inbox,
    )
}

struct Driver<P> {
    link: Link<P>,
    kept: Option<Keeper<P>>,
    jitter: Jitter,
    dial: Option<(ConnId, Boxed<Result<Connection, DialError>>)>,
    socket: Option<Socket>,
    /// Messages that wait for room in the outbox, oldest first, one list per producer.
    waiting: VecDeque<(VecDeque<P>, oneshot::Sender<()>)>,
    drained: Vec<oneshot::Sender<Flushed>>,
    /// No handle is left.
    abandoned: bool,
    /// When the link ends at the latest, once it was asked to.
    until: Option<Instant>,
    stopped: Option<Flushed>,
    state: watch::Sender<LinkState>,
    outlet: Outlet,
    credential: watch::Receiver<Option<HeaderValue>>,
    greetings: watch::Receiver<Greeting>,
    committed: watch::Receiver<Position>,
    spoken: Spoken,
    carrier: Arc<dyn Carrier>,
    endpoint: Endpoint,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What woke the driver.
enum Event<P> {
    Request(Option<Request<P>>),
    Dialled(ConnId, Result<Connection, DialError>),
    Moved(ConnId, Moved),
    Delivered,
    Credential,
    Greeting(Greeting),
    Committed,
    Spool(Answer<P>),
    Deadline,
}

impl<P: Payload> Driver<P> {
    async fn run(mut self, mut requests: mpsc::Receiver<Request<P>>) {
        self.perform_all().await;
        while self.stopped.is_none() {
            let event = self.next_event(&mut requests).await;
            self.on_event(event).await;
            self.admit_waiting().await;
        }
        requests.close();
        self.end_spool().await;
        let flushed = self.stopped.unwrap_or(Flushed::Everything);
        for done in self.drained {
            if done.send(flushed).is_err() {
                trace!("nobody waits for the end of the link");
            }
        }
    }

    /// What waits is still written down.
    async fn end_spool(&mut self) {
        let least = Instant::now() + LAST_WRITES;
        let until = self.until.map_or(least, |at| at.max(least));
        while let Some(kept) = self.kept.as_mut().filter(|kept| kept.is_appending()) {
            let Ok(answer) = timeout_at(until, kept.next()).await else {
                break;
            };
            self.on_spool(answer);
            self.perform_all().await;
        }
        if let Some(kept) = self.kept.take()
            && timeout_at(until, kept.close()).await.is_err()
        {
            warn!("the link ends before its disk; what is not written yet may be lost");
        }
    }

    async fn next_event(&mut self, requests: &mut mpsc::Receiver<Request<P>>) -> Event<P> {
        let deadline = self.link.deadline();
        let read = !self.outlet.is_blocked() && self.link.takes_frames();
        tokio::select! {
            () = until(deadline.map(|(at, _)| at.into())) => {
                trace!(timer = ?deadline.map(|(_, timer)| timer), "deadline");
                Event::Deadline
            }
            (conn, result) = dialled(&mut self.dial) => Event::Dialled(conn, result),
            (conn, moved) = moved(&mut self.socket, read) => Event::Moved(conn, moved),
            () = changed(&mut self.credential) => Event::Credential,
            greeting = greeted(&mut self.greetings) => Event::Greeting(greeting),
            () = changed(&mut self.committed) => Event::Committed,
            () = self.outlet.deliver_next() => Event::Delivered,
            answer = answered(&mut self.kept) => Event::Spool(answer),
            request = requests.recv(), if !self.abandoned => Event::Request(request),
        }
    }

    async fn on_event(&mut self, event: Event<P>) {
        match event {
            Event::Request(Some(Request::Push { payloads, admitted })) => {
                // Dropping `admitted` tells the producer that the link is closed.
                if self.drained.is_empty() {
                    self.on_push(payloads, admitted).await;
                }
            }
            Event::Request(Some(Request::Useless { conn })) => {
                self.input(Input::Useless { conn }).await;
            }
            Event::Request(Some(Request::Drain { limit, done })) => {
                self.drained.push(done);
                self.waiting.clear();
                self.drain(limit).await;
            }
            Event::Request(None) => {
                self.abandoned = true;
                self.drain(GOOD_BYE).await;
            }
            Event::Dialled(conn, result) => self.on_dialled(conn, result).await,
            Event::Moved(conn, Moved::Received(received)) => self.on_received(conn, received).await,
            Event::Moved(conn, Moved::Written(written)) => match written {
                Written::Frames => self.input(Input::Wrote { conn }).await,
                Written::Ping => {}
                Written::Failed => trace!(%conn, "write failed, the source tells why"),
            },
            Event::Delivered => {
                if !self.outlet.is_blocked() {
                    self.input(Input::Reading { reading: true }).await;
                }
            }
            Event::Credential => self.input(Input::CredentialChanged).await,
            Event::Greeting(greeting) => self.input(Input::Greeting(greeting)).await,
            Event::Committed => {
                let upto = *self.committed.borrow_and_update();
                self.input(Input::Committed { upto }).await;
            }
            Event::Spool(answer) => {
                self.on_spool(answer);
                self.perform_all().await;
            }
            Event::Deadline => {
                if let Some(socket) = &self.socket {
                    let traffic = socket.traffic();
                    self.input(Input::Traffic(traffic)).await;
                }
                self.input(Input::Timeout).await;
            }
        }
    }

    async fn drain(&mut self, limit: Duration) {
        let until = Instant::now() + limit;
        self.until = Some(self.until.map_or(until, |at| at.min(until)));
        self.input(Input::Drain { limit }).await;
    }

    async fn on_push(&mut self, mut payloads: VecDeque<P>, admitted: oneshot::Sender<()>) {
        let behind = if self.waiting.is_empty() {
            VecDeque::new()
        } else {
            let patient = payloads.iter().position(is_patient);
            payloads.split_off(patient.unwrap_or(payloads.len()))
        };
        self.offer(&mut payloads).await;
        payloads.extend(behind);
        if payloads.is_empty() {
            confirm(admitted);
            return;
        }
        // Producers that gave up must not pile up behind one that waits.
        self.waiting.retain(|(_, admitted)| !admitted.is_closed());
        self.waiting.push_back((payloads, admitted));
    }

    async fn admit_waiting(&mut self) {
        while let Some((mut payloads, admitted)) = self.waiting.pop_front() {
            if admitted.is_closed() {
                continue;
            }
            self.offer(&mut payloads).await;
            if !payloads.is_empty() {
                self.waiting.push_front((payloads, admitted));
                return;
            }
            confirm(admitted);
        }
    }

    async fn on_dialled(&mut self, conn: ConnId, result: Result<Connection, DialError>) {
        self.dial = None;
        match result {
            Ok(connection) => {
                let extended = connection.extended;
                debug!(%conn, extended, "connected");
                self.socket = Some(Socket::new(conn, connection));
                self.input(Input::Opened { conn, extended }).await;
            }
            Err(error) => {
                let reason = self.spoken.line(&with_causes(&error));
                debug!(%conn, reason, "dial failed");
                let disposition = error.disposition(&self.endpoint.dialect);
                self.input(Input::DialFailed {
                    conn,
                    disposition,
                    reason,
                })
                .await;
            }
        }
    }

    async fn on_received(&mut self, conn: ConnId, received: Received) {
        let input = match received {
            Received::Text(text) => Input::Frame { conn, text },
            Received::Pong { id } => Input::Pong { conn, id },
            Received::Refused(reason) => Input::Refused { conn, reason },
            Received::Closed(reason) => {
                let reason = self.spoken.close(reason);
                debug!(%conn, %reason, "connection ended");
                self.socket = None;
                Input::Closed { conn, reason }
            }
        };
        self.input(input).await;
        if self.outlet.is_blocked() {
            self.input(Input::Reading { reading: false }).await;
        }
    }

    /// Offers messages to the machine; those that have to wait stay in the list.
    async fn offer(&mut self, payloads: &mut VecDeque<P>) {
        let (now, random) = (Now::read(), self.jitter.next());
        let input = Input::Push(take(payloads));
        if let Err(Full(waiting)) = self.link.handle(now, random, input) {
            *payloads = waiting;
        }
        self.perform_all().await;
    }

    async fn input(&mut self, input: Input<P>) {
        self.hear(input);
        self.perform_all().await;
    }

    fn on_spool(&mut self, answer: Answer<P>) {
        match answer {
            Answer::Appended(appended) => self.on_appended(appended),
            Answer::Read(read) => self.hear(Input::Read(read)),
            Answer::Expired(upto) => self.hear(Input::Expired { upto }),
            Answer::Ended => self.lose_spool(),
        }
    }

    fn on_appended(&mut self, appended: Appended) {
        match appended {
            Appended::Nothing => {}
            Appended::Upto(upto) => self.hear(Input::Appended { upto }),
            // What is on the disk alone can still be sent, and gives room with that.
            Appended::Lost if !self.link.is_all_here() => {}
            Appended::Lost => self.lose_spool(),
        }
    }

    fn lose_spool(&mut self) {
        warn!("until the next start events wait in memory alone");
        self.kept = None;
        let epoch = Epoch::fresh();
        self.hear(Input::SpoolLost { epoch });
    }

    /// Gives the machine an input; what it wants done waits.
    fn hear(&mut self, input: Input<P>) {
        let random = self.jitter.next();
        if self.link.handle(Now::read(), random, input).is_err() {
            debug!("a message was refused outside of a push");
        }
    }

    async fn perform_all(&mut self) {
        while let Some(action) = self.link.next_action() {
            self.perform(action).await;
        }
    }

    async fn perform(&mut self, action: Action) {
        match action {
            Action::Dial { conn, headers } => self.dial = Some((conn, self.dial(headers))),
            Action::Write { conn, frames } => {
                trace!(%conn, frames = frames.len(), "write");
                self.on_socket(conn, Op::Frames(frames));
            }
            Action::Append { records } => {
                let kept = self.kept.as_mut();
                if let Some(answer) = kept.and_then(|kept| kept.append(records)) {
                    self.on_spool(answer);
                }
            }
            Action::Read { from, upto, bytes } => {
                let kept = self.kept.as_mut();
                if let Some(answer) = kept.and_then(|kept| kept.read(from, upto, bytes)) {
                    self.on_spool(answer);
                }
            }
            Action::Trim { upto } => {
                if let Some(kept) = &mut self.kept {
                    kept.trim(upto);
                }
            }
            Action::Ping { conn, id } => self.on_socket(conn, Op::Ping(id)),
            Action::HangUp { conn, code } => {
                self.dial.take_if(|(dialling, _)| *dialling == conn);
                let socket = self.socket.take_if(|socket| socket.conn == conn);
                if let Some((code, socket)) = code.zip(socket) {
                    let closing = close(conn, socket, code);
                    // Only the end of the link waits for the answer to its good-bye.
                    if self.link.deadline().is_none() {
                        closing.await;
                    } else {
                        tokio::spawn(closing);
                    }
                }
            }
            Action::Deliver(inbound) => self.outlet.push(inbound),
            Action::State(state) => {
                debug!(phase = ?state.phase, attempt = state.attempt, error = state.last_error, "link");
                self.state.send_replace(state);
            }
            Action::Stopped(flushed) => self.stopped = Some(flushed),
        }
    }

    fn dial(
        &mut self,
        mut headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Boxed<Result<Connection, DialError>> {
        if let Some(mut value) = self.credential.borrow_and_update().clone() {
            self.spoken.on_dial(&value);
            value.set_sensitive(true);
            headers.push((AUTHORIZATION, value));
        }
        if self.endpoint.offer_extension {
            headers.push((EXTENSION, HeaderValue::from_static("1")));
        }
        let target = Target {
            url: self.endpoint.url.clone(),
            headers,
            offer_extension: self.endpoint.offer_extension,
            frame_limit: self.endpoint.limits.frame,
        };
        let limit = self.endpoint.limits.dial;
        let carrier = Arc::clone(&self.carrier);
        debug!(host = host_text(&target.url), "dial");
        Box::pin(async move {
            timeout(limit, carrier.open(&target))
                .await
                .unwrap_or(Err(DialError::TimedOut { after: limit }))
        })
    }

    fn on_socket(&mut self, conn: ConnId, op: Op) {
        if let Some(socket) = self.socket.as_mut().filter(|socket| socket.conn == conn) {
            socket.start(op);
        }
    }
}

async fn close(conn: ConnId, socket: Socket, code: u16) {
    if timeout(GOOD_BYE, socket.close(code)).await.is_err() {
        debug!(%conn, "the peer did not answer the close frame");
    }
}

/// Whether a message waits behind those that wait already.
fn is_patient<P: Payload>(payload: &P) -> bool {
    match payload.class() {
        Class::Durable { .. } | Class::Latest { .. } => false,
        Class::Coalesce { .. } | Class::Paced { .. } | Class::Reply { .. } => true,
    }
}

fn confirm(admitted: oneshot::Sender<()>) {
    if admitted.send(()).is_err() {
        trace!("the producer left after its message was taken");
    }
}

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

async fn dialled(
    dial: &mut Option<(ConnId, Boxed<Result<Connection, DialError>>)>,
) -> (ConnId, Result<Connection, DialError>) {
    match dial {
        Some((conn, opening)) => (*conn, opening.await),
        None => pending().await,
    }
}

async fn moved(socket: &mut Option<Socket>, read: bool) -> (ConnId, Moved) {
    match socket {
        Some(socket) => (socket.conn, socket.moved(read).await),
        None => pending().await,
    }
}

async fn answered<P>(kept: &mut Option<Keeper<P>>) -> Answer<P> {
    match kept {
        Some(kept) => kept.next().await,
        None => pending().await,
    }
}

async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        pending::<()>().await;
    }
}

async fn greeted(receiver: &mut watch::Receiver<Greeting>) -> Greeting {
    changed(receiver).await;
    receiver.borrow_and_update().clone()
}

/// Requests that may be under way to the driver; producers wait for an answer each anyway.
const REQUESTS: usize = 64;
/// How long a peer may take to answer a close frame, and a link without handles to end.
const GOOD_BYE: Duration = Duration::from_secs(1);
/// How long the end of a link waits at least for what has to be written down.
const LAST_WRITES: Duration = Duration::from_secs(1);
