//! Turns the world into inputs of the machine, and its actions into the world.
//!
//! One task per link owns the machine, the socket's two halves and the queue towards the inbox.
//! Nothing here decides anything but the order in which ready events are taken.

use std::{collections::VecDeque, future::pending, pin::Pin, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use tokio::{
    sync::{
        OwnedSemaphorePermit, Semaphore,
        mpsc::{self, UnboundedSender},
        oneshot, watch,
    },
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, trace};

use crate::{
    carrier::{Carrier, Connection, FrameSink, FrameSource, Received, Target, TrafficMeter},
    clock::Now,
    config::{Endpoint, host_text},
    dial::DialError,
    handle::{Flushed, Handle, Request},
    inbound::{ConnId, Inbound, Inbox},
    jitter::Jitter,
    link::{Action, Full, Input, Link},
    payload::{Class, Greeting, Payload, TextFrame},
    state::LinkState,
};

/// Starts the task of a link.
pub(crate) fn spawn<P: Payload>(
    endpoint: Endpoint,
    carrier: Arc<dyn Carrier>,
) -> (Handle<P>, Inbox) {
    let now = Now::read();
    let link = Link::new(
        endpoint.dialect.clone(),
        endpoint.timings.clone(),
        &endpoint.limits,
        endpoint.greeting.clone(),
        now,
    );
    let (requests, incoming) = mpsc::channel(REQUESTS);
    let (state, watched) = watch::channel(LinkState::starting(now.at));
    let (greeting, greetings) = watch::channel(endpoint.greeting.clone());
    let (inbox, receiver) = mpsc::unbounded_channel();
    let room = u32::try_from(endpoint.limits.inbox / UNIT)
        .unwrap_or(u32::MAX)
        .max(1);
    let driver = Driver {
        link,
        jitter: Jitter::from_system(),
        dial: None,
        socket: None,
        waiting: VecDeque::new(),
        drained: Vec::new(),
        stopped: None,
        state,
        outlet: Outlet {
            inbox,
            budget: Arc::new(Semaphore::new(room as usize)),
            room,
            queue: VecDeque::new(),
        },
        credential: endpoint.authorization.clone(),
        greetings,
        carrier,
        endpoint,
    };
    tokio::spawn(driver.run(incoming));
    (
        Handle {
            requests,
            greeting: Arc::new(greeting),
            state: watched,
        },
        Inbox { receiver },
    )
}

struct Driver<P> {
    link: Link<P>,
    jitter: Jitter,
    dial: Option<(ConnId, Boxed<Result<Connection, DialError>>)>,
    socket: Option<Socket>,
    /// Messages that wait for room in the outbox, oldest first, one per producer.
    waiting: VecDeque<(P, oneshot::Sender<()>)>,
    drained: Vec<oneshot::Sender<Flushed>>,
    stopped: Option<Flushed>,
    state: watch::Sender<LinkState>,
    outlet: Outlet,
    credential: watch::Receiver<Option<HeaderValue>>,
    greetings: watch::Receiver<Greeting>,
    carrier: Arc<dyn Carrier>,
    endpoint: Endpoint,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What woke the driver.
enum Event<P> {
    Request(Option<Request<P>>),
    Dialled(ConnId, Result<Connection, DialError>),
    Received(ConnId, Received),
    Written(ConnId, Box<dyn FrameSink>, Written),
    Room(OwnedSemaphorePermit),
    Credential,
    Greeting(Greeting),
    Deadline,
}

/// What the sink was doing, once it did.
enum Written {
    Frames,
    Ping,
    Failed,
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
        self.outlet.flush();
        let flushed = self.stopped.unwrap_or(Flushed::Everything);
        for done in self.drained {
            if done.send(flushed).is_err() {
                trace!("nobody waits for the end of the link");
            }
        }
    }

    async fn next_event(&mut self, requests: &mut mpsc::Receiver<Request<P>>) -> Event<P> {
        let deadline = self.link.deadline();
        let delivery = self.outlet.cost();
        tokio::select! {
            () = until(deadline.map(|(at, _)| at.into())) => {
                trace!(timer = ?deadline.map(|(_, timer)| timer), "deadline");
                Event::Deadline
            }
            (conn, result) = dialled(&mut self.dial) => Event::Dialled(conn, result),
            event = moved(&mut self.socket, delivery.is_none()) => event,
            () = changed(&mut self.credential) => Event::Credential,
            greeting = greeted(&mut self.greetings) => Event::Greeting(greeting),
            permit = room(&self.outlet.budget, delivery) => Event::Room(permit),
            request = requests.recv() => Event::Request(request),
        }
    }

    async fn on_event(&mut self, event: Event<P>) {
        match event {
            Event::Request(Some(Request::Push { payload, admitted })) => {
                // Dropping `admitted` tells the producer that the link is closed.
                if self.drained.is_empty() {
                    self.on_push(payload, admitted).await;
                }
            }
            Event::Request(Some(Request::Drain { limit, done })) => {
                self.drained.push(done);
                self.waiting.clear();
                self.input(Input::Drain { limit }).await;
            }
            Event::Request(None) => {
                self.input(Input::Drain {
                    limit: Duration::ZERO,
                })
                .await;
            }
            Event::Dialled(conn, result) => self.on_dialled(conn, result).await,
            Event::Received(conn, received) => self.on_received(conn, received).await,
            Event::Written(conn, sink, written) => self.on_written(conn, sink, written).await,
            Event::Room(permit) => {
                self.outlet.deliver(permit);
                self.outlet.flush();
                if self.outlet.queue.is_empty() {
                    self.input(Input::Reading { reading: true }).await;
                }
            }
            Event::Credential => self.input(Input::CredentialChanged).await,
            Event::Greeting(greeting) => self.input(Input::Greeting(greeting)).await,
            Event::Deadline => {
                if let Some(socket) = &self.socket {
                    let traffic = socket.traffic.read();
                    self.input(Input::Traffic(traffic)).await;
                }
                self.input(Input::Timeout).await;
            }
        }
    }

    async fn on_push(&mut self, payload: P, admitted: oneshot::Sender<()>) {
        let patient = match payload.class() {
            Class::Durable { .. } | Class::Latest { .. } => false,
            Class::Coalesce { .. } | Class::Reply { .. } => true,
        };
        let payload = if patient && !self.waiting.is_empty() {
            payload
        } else if let Some(payload) = self.offer(payload).await {
            payload
        } else {
            confirm(admitted);
            return;
        };
        // Producers that gave up must not pile up behind one that waits.
        self.waiting.retain(|(_, admitted)| !admitted.is_closed());
        self.waiting.push_back((payload, admitted));
    }

    async fn admit_waiting(&mut self) {
        while let Some((payload, admitted)) = self.waiting.pop_front() {
            if admitted.is_closed() {
                continue;
            }
            if let Some(payload) = self.offer(payload).await {
                self.waiting.push_front((payload, admitted));
                return;
            }
            confirm(admitted);
        }
    }

    async fn on_dialled(&mut self, conn: ConnId, result: Result<Connection, DialError>) {
        self.dial = None;
        match result {
            Ok(Connection {
                sink,
                source,
                extended,
                traffic,
            }) => {
                debug!(%conn, extended, "connected");
                self.socket = Some(Socket::new(conn, sink, source, traffic));
                self.input(Input::Opened { conn, extended }).await;
            }
            Err(error) => {
                let reason = with_causes(&error);
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
                debug!(%conn, %reason, "connection ended");
                self.socket = None;
                Input::Closed { conn, reason }
            }
        };
        self.input(input).await;
        if !self.outlet.queue.is_empty() {
            self.input(Input::Reading { reading: false }).await;
        }
    }

    async fn on_written(&mut self, conn: ConnId, sink: Box<dyn FrameSink>, written: Written) {
        if let Some(socket) = self.socket.as_mut().filter(|socket| socket.conn == conn) {
            socket.on_idle(sink, matches!(written, Written::Failed));
        }
        match written {
            Written::Frames => self.input(Input::Wrote { conn }).await,
            Written::Ping => {}
            Written::Failed => trace!(%conn, "write failed, the source tells why"),
        }
    }

    /// Offers a message to the machine; returns it when it has to wait.
    async fn offer(&mut self, payload: P) -> Option<P> {
        let random = self.jitter.next();
        let result = self.link.handle(Now::read(), random, Input::Push(payload));
        self.perform_all().await;
        result.err().map(|Full(payload)| payload)
    }

    async fn input(&mut self, input: Input<P>) {
        let random = self.jitter.next();
        if self.link.handle(Now::read(), random, input).is_err() {
            debug!("a message was refused outside of a push");
        }
        self.perform_all().await;
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
            Action::Ping { conn, id } => self.on_socket(conn, Op::Ping(id)),
            Action::HangUp { conn, code } => {
                self.dial.take_if(|(dialling, _)| *dialling == conn);
                let socket = self.socket.take_if(|socket| socket.conn == conn);
                if let Some((code, socket)) = code.zip(socket)
                    && timeout(GOOD_BYE, socket.close(code)).await.is_err()
                {
                    debug!(%conn, "the peer did not answer the close frame");
                }
            }
            Action::Deliver(inbound) => {
                self.outlet.queue.push_back(inbound);
                self.outlet.flush();
            }
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

/// One connection: its source, and its sink or what the sink is busy with.
struct Socket {
    conn: ConnId,
    source: Box<dyn FrameSource>,
    sink: Option<Box<dyn FrameSink>>,
    busy: Option<Boxed<(Box<dyn FrameSink>, Written)>>,
    /// At most one write and one ping.
    queue: VecDeque<Op>,
    traffic: TrafficMeter,
}

enum Op {
    Frames(Vec<TextFrame>),
    Ping(u64),
}

impl Socket {
    fn new(
        conn: ConnId,
        sink: Box<dyn FrameSink>,
        source: Box<dyn FrameSource>,
        traffic: TrafficMeter,
    ) -> Self {
        Self {
            conn,
            source,
            sink: Some(sink),
            busy: None,
            queue: VecDeque::new(),
            traffic,
        }
    }

    fn start(&mut self, op: Op) {
        let Some(mut sink) = self.sink.take() else {
            let is_ping = |op: &Op| matches!(op, Op::Ping(_));
            if !(is_ping(&op) && self.queue.iter().any(is_ping)) {
                self.queue.push_back(op);
            }
            return;
        };
        self.busy = Some(Box::pin(async move {
            let (result, written) = match op {
                Op::Frames(frames) => (sink.send(frames).await, Written::Frames),
                Op::Ping(id) => (sink.ping(id).await, Written::Ping),
            };
            (
                sink,
                if result.is_ok() {
                    written
                } else {
                    Written::Failed
                },
            )
        }));
    }

    /// Says good-bye once the sink is free.
    async fn close(mut self, code: u16) {
        let sink = match self.busy.take() {
            Some(busy) => Some(busy.await.0),
            None => self.sink.take(),
        };
        if let Some(mut sink) = sink {
            sink.close(code).await;
        }
    }

    /// The sink is back; after a failure nothing more is written.
    fn on_idle(&mut self, sink: Box<dyn FrameSink>, failed: bool) {
        self.busy = None;
        if failed {
            self.queue.clear();
            return;
        }
        self.sink = Some(sink);
        if let Some(op) = self.queue.pop_front() {
            self.start(op);
        }
    }
}

/// The way to the inbox: what waits for room there, and the room itself.
struct Outlet {
    inbox: UnboundedSender<(Inbound, OwnedSemaphorePermit)>,
    budget: Arc<Semaphore>,
    room: u32,
    queue: VecDeque<Inbound>,
}

impl Outlet {
    /// Returns the room the next delivery needs, if there is one.
    fn cost(&self) -> Option<u32> {
        self.queue
            .front()
            .map(|inbound| cost(inbound).min(self.room))
    }

    fn deliver(&mut self, permit: OwnedSemaphorePermit) {
        if let Some(inbound) = self.queue.pop_front()
            && self.inbox.send((inbound, permit)).is_err()
        {
            trace!("nobody reads the inbox");
        }
    }

    /// Delivers what there is room for.
    fn flush(&mut self) {
        while let Some(cost) = self.cost()
            && let Ok(permit) = Arc::clone(&self.budget).try_acquire_many_owned(cost)
        {
            self.deliver(permit);
        }
    }
}

fn cost(inbound: &Inbound) -> u32 {
    match inbound {
        Inbound::Frame { text, .. } => u32::try_from(text.len() / UNIT).unwrap_or(u32::MAX).max(1),
        Inbound::Opened { .. } | Inbound::Refused { .. } | Inbound::Closed { .. } => 1,
    }
}

fn confirm(admitted: oneshot::Sender<()>) {
    if admitted.send(()).is_err() {
        trace!("the producer left after its message was taken");
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
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

/// Waits for the socket: the end of a write or, if `read`, something received.
async fn moved<P>(socket: &mut Option<Socket>, read: bool) -> Event<P> {
    let Some(Socket {
        conn, source, busy, ..
    }) = socket
    else {
        return pending().await;
    };
    let write = async {
        match busy {
            Some(writing) => writing.await,
            None => pending().await,
        }
    };
    tokio::select! {
        (sink, written) = write => Event::Written(*conn, sink, written),
        received = source.next(), if read => Event::Received(*conn, received),
    }
}

async fn room(budget: &Arc<Semaphore>, cost: Option<u32>) -> OwnedSemaphorePermit {
    let Some(cost) = cost else {
        return pending().await;
    };
    match Arc::clone(budget).acquire_many_owned(cost).await {
        Ok(permit) => permit,
        Err(_) => pending().await,
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

const EXTENSION: HeaderName = HeaderName::from_static("x-bridge-extension");
/// Requests that may be under way to the driver; producers wait for an answer each anyway.
const REQUESTS: usize = 64;
/// The inbox counts in units of this many bytes.
const UNIT: usize = 1024;
/// How long a peer may take to answer a close frame.
const GOOD_BYE: Duration = Duration::from_secs(1);
