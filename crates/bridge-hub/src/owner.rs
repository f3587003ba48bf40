//! The task that owns who is connected: turns messages into inputs of the machine and its effects
//! into frames, rows and answers.
//!
//! What has to be stored goes through the `backlog`. A bridge that does not read what it is sent is
//! hung up on; nobody else waits for it.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bridge_proto::{
    BridgeId, TaskId,
    ctrlnode::plane::FromBridge,
    model::{Answer, Ask, GitReply, GitRequest, Reply, Request, Tuning, When},
};
use bridge_transport::delivery::{Position, Writer};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    access::{Source, Throttles},
    backlog::Backlog,
    clock::now,
    commands::Numbering,
    devices::Devices,
    error::HubError,
    prepare::Draft,
    questions::Waiter,
    state::{ConnId, Effect, HangUp, HubState, Input, Now},
    store::{BridgeRecord, RunRecord, Store, StoreError, TokenHash},
    view::{Applies, Attachment, FileContent, Files, Machine, TaskView, Told},
};

pub(crate) type Answered<T> = oneshot::Sender<Result<T, HubError>>;

/// What the owner is told.
pub(crate) enum Message {
    // by bridges
    Opened {
        bridge: BridgeId,
        extended: bool,
        line: Line,
        reply: oneshot::Sender<ConnId>,
    },
    Said {
        conn: ConnId,
        /// `None` when it could not be read, or will never come.
        message: Option<FromBridge>,
        /// Where the stream of the bridge stands once this is kept, if it has a number.
        upto: Option<Position>,
    },
    /// It takes the hub's stream with numbers, from here on.
    Resume {
        conn: ConnId,
        from: Position,
    },
    /// It has everything of the hub's stream up to this number.
    Acknowledged {
        conn: ConnId,
        seq: u64,
    },
    Closed {
        conn: ConnId,
        /// Something on the way takes no frames as long as those that were sent.
        narrow: bool,
    },
    // by viewers
    Machines {
        reply: oneshot::Sender<Vec<Machine>>,
    },
    Watch {
        task: TaskId,
        reply: oneshot::Sender<watch::Receiver<u64>>,
    },
    Create {
        draft: Draft,
        run: RunRecord,
        attachments: Vec<Attachment>,
        reply: Answered<()>,
    },
    FollowUp {
        task: Box<TaskView>,
        run: RunRecord,
        attachments: Vec<Attachment>,
        when: When,
        reply: Answered<()>,
    },
    Cancel {
        bridge: BridgeId,
        task: TaskId,
        reply: Answered<Told>,
    },
    Interrupt {
        task: Box<TaskView>,
        reply: Answered<()>,
    },
    Tune {
        task: Box<TaskView>,
        tuning: Tuning,
        reply: Answered<Applies>,
    },
    Answer {
        bridge: BridgeId,
        task: TaskId,
        ask: Box<Ask>,
        answer: Answer,
        reply: Answered<()>,
    },
    Files {
        task: Box<TaskView>,
        reply: Answered<Files>,
    },
    ReadFile {
        task: Box<TaskView>,
        path: String,
        reply: Answered<FileContent>,
    },
    Git {
        task: Box<TaskView>,
        request: GitRequest,
        reply: Answered<GitReply>,
    },
    DeleteFile {
        task: Box<TaskView>,
        path: String,
        reply: Answered<()>,
    },
    AskMachine {
        machine: BridgeId,
        request: Box<Request>,
        reply: Answered<Reply>,
    },
    Pair {
        bridge: BridgeRecord,
        token: TokenHash,
        reply: Answered<()>,
    },
    Unpair {
        bridge: BridgeId,
        reply: Answered<()>,
    },
    LoginAttempt {
        from: Source,
        reply: Answered<()>,
    },
    LoginSucceeded {
        from: Source,
    },
    Devices {
        ask: DeviceQuestion,
    },
    // by the server
    Stop {
        done: oneshot::Sender<()>,
    },
}

/// A question about the machines that wait to be let in; answers by itself.
pub(crate) type DeviceQuestion = Box<dyn FnOnce(&mut Devices) + Send>;

/// The owner's end of a connection. Dropped, it hangs up.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) out: mpsc::Sender<Outgoing>,
    /// From where on the bridge is read, once it may be.
    pub(crate) listen: watch::Sender<Option<Position>>,
}

/// What a connection is told.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// As it is.
    Frame(String),
    /// The bridge takes numbers, from where this writer stands.
    Resumed(Box<Writer<Arc<str>>>),
    /// Under the next number.
    Numbered {
        stream: u64,
        frame: Arc<str>,
    },
    /// What the bridge has need not be kept any more.
    Acknowledged {
        seq: u64,
    },
    Close(HangUp),
}

/// The owner; [`Owner::run`] is its life.
pub(crate) struct Owner {
    pub(crate) state: HubState,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) waiters: HashMap<String, Waiter>,
    pub(crate) connections: HashMap<ConnId, Line>,
    /// Of those that take numbers.
    pub(crate) numberings: HashMap<ConnId, Numbering>,
    /// How often the way to a machine was too narrow for a frame.
    pub(crate) narrowed: HashMap<BridgeId, u32>,
    last_conn: u64,
    watched: HashMap<TaskId, watch::Sender<u64>>,
    changes: watch::Sender<u64>,
    logins: Throttles,
    devices: Devices,
    pub(crate) backlog: Backlog,
    retention: Duration,
}

impl Owner {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        paired: Vec<BridgeRecord>,
        lost_after: Duration,
        retention: Duration,
        changes: watch::Sender<u64>,
        storable: watch::Sender<bool>,
    ) -> Self {
        Self {
            state: HubState::new(lost_after, paired)
                .counting_from(u64::try_from(now().as_millis()).unwrap_or_default()),
            store,
            waiters: HashMap::new(),
            connections: HashMap::new(),
            numberings: HashMap::new(),
            narrowed: HashMap::new(),
            last_conn: 0,
            watched: HashMap::new(),
            changes,
            logins: Throttles::default(),
            devices: Devices::default(),
            backlog: Backlog::new(storable),
            retention,
        }
    }

    /// Serves until it is told to stop, or every handle is gone.
    pub(crate) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut round = Vec::with_capacity(ROUND);
        let mut cleaning = tokio::time::interval(CLEANING);
        cleaning.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let deadline = self.state.deadline().map(|(at, _)| at);
            let deadline = deadline.into_iter().chain(self.backlog.retry_at()).min();
            tokio::select! {
                count = inbox.recv_many(&mut round, ROUND) => {
                    if count == 0 {
                        break;
                    }
                    for message in round.drain(..) {
                        if let Message::Stop { done } = message {
                            self.stop().await;
                            if done.send(()).is_err() {
                                tracing::debug!("nobody waits for the hub to stop");
                            }
                            return;
                        }
                        self.on(message).await;
                    }
                    self.keep().await;
                }
                () = until(deadline) => {
                    self.input(Input::Timeout).await;
                    self.keep().await;
                }
                _ = cleaning.tick() => self.clean().await,
            }
        }
        self.stop().await;
    }

    async fn on(&mut self, message: Message) {
        match message {
            Message::Opened {
                bridge,
                extended,
                line,
                reply,
            } => {
                self.last_conn += 1;
                let conn = ConnId(self.last_conn);
                if reply.send(conn).is_err() {
                    return; // the socket is gone already
                }
                self.connections.insert(conn, line);
                self.input(Input::Opened {
                    conn,
                    bridge,
                    extended,
                })
                .await;
            }
            Message::Said {
                conn,
                message,
                upto,
            } => {
                let bridge = self.state.bridge_of(conn);
                if let Some(message) = message {
                    self.input(Input::Said { conn, message }).await;
                }
                if let (Some(bridge), Some(upto)) = (bridge, upto) {
                    self.backlog.add_position(bridge, conn, upto);
                }
            }
            Message::Resume { conn, from } => self.input(Input::Resume { conn, from }).await,
            Message::Acknowledged { conn, seq } => self.on_ack(conn, seq).await,
            Message::Closed { conn, narrow } => {
                self.connections.remove(&conn);
                self.forget_numbers(conn, narrow);
                self.input(Input::Closed { conn }).await;
            }
            Message::Machines { reply } => answer(reply, self.state.machines()),
            Message::Watch { task, reply } => {
                let sender = self
                    .watched
                    .entry(task)
                    .or_insert_with(|| watch::Sender::new(0));
                answer(reply, sender.subscribe());
            }
            Message::Create {
                draft,
                run,
                attachments,
                reply,
            } => {
                let done = self.create(draft, run, attachments).await;
                answer(reply, done);
            }
            Message::FollowUp {
                task,
                run,
                attachments,
                when,
                reply,
            } => {
                let done = self.follow_up(*task, run, attachments, when).await;
                answer(reply, done);
            }
            Message::Cancel {
                bridge,
                task,
                reply,
            } => {
                let done = self.cancel(&bridge, task).await;
                answer(reply, done);
            }
            Message::Interrupt { task, reply } => {
                let done = self.interrupt(&task).await;
                answer(reply, done);
            }
            Message::Tune {
                task,
                tuning,
                reply,
            } => {
                let done = self.tune(&task, tuning).await;
                answer(reply, done);
            }
            Message::Answer {
                bridge,
                task,
                ask,
                answer: given,
                reply,
            } => {
                let done = self.answer(&bridge, task, *ask, given).await;
                answer(reply, done);
            }
            Message::Files { task, reply } => self.ask_files(&task, reply),
            Message::ReadFile { task, path, reply } => self.ask_file(&task, &path, reply),
            Message::Git {
                task,
                request,
                reply,
            } => self.ask_git(&task, request, reply),
            Message::DeleteFile { task, path, reply } => {
                self.ask_delete(&task, &path, reply).await;
            }
            Message::AskMachine {
                machine,
                request,
                reply,
            } => self.ask_anything(&machine, *request, reply),
            Message::Pair {
                bridge,
                token,
                reply,
            } => {
                let done = self.store.add_bridge(bridge.clone(), token).await;
                if done.is_ok() {
                    self.input(Input::Paired(bridge)).await;
                }
                answer(reply, done.map_err(HubError::from));
            }
            Message::Unpair { bridge, reply } => {
                let done = self.unpair(bridge).await;
                answer(reply, done);
            }
            Message::LoginAttempt { from, reply } => {
                let place = self.logins.on_attempt(Instant::now(), from);
                answer(
                    reply,
                    place.map_err(|wait| HubError::TooManyLogins { wait }),
                );
            }
            Message::LoginSucceeded { from } => self.logins.on_success(from),
            Message::Devices { ask } => ask(&mut self.devices),
            Message::Stop { .. } => {} // taken out before
        }
    }

    async fn unpair(&mut self, bridge: BridgeId) -> Result<(), HubError> {
        self.keep().await;
        let Some(tasks) = self.store.revoke_bridge(&bridge, now()).await? else {
            return Err(HubError::UnknownMachine { id: bridge });
        };
        self.input(Input::Unpaired(bridge)).await;
        for task in &tasks {
            self.wake(task);
        }
        Ok(())
    }

    /// One input, and everything that follows from it.
    pub(crate) async fn input(&mut self, input: Input) {
        let effects = self.state.handle(clocks(), input);
        self.carry_out(effects).await;
    }

    pub(crate) async fn carry_out(&mut self, effects: Vec<Effect>) {
        let mut todo = effects;
        while !todo.is_empty() {
            let mut next = Vec::new();
            for effect in todo {
                next.extend(self.effect(effect).await);
            }
            todo = next;
        }
    }

    async fn effect(&mut self, effect: Effect) -> Vec<Effect> {
        match effect {
            Effect::Append { bridge, events } => self.backlog.add_events(bridge, events),
            Effect::Send { conn, frame } => self.send(conn, frame),
            Effect::HangUp { conn, why } => self.hang_up(conn, why),
            Effect::Listen { conn } => {
                self.keep().await;
                self.listen(conn).await;
            }
            Effect::LoadRuns { conn, bridge } => {
                self.keep().await;
                match self.store.live_runs(&bridge).await {
                    Ok(mut runs) => {
                        // One that is still on its way under its number has not to be asked about.
                        runs.retain(|run| {
                            !self.backlog.ends_run(&run.key) && !self.is_on_its_way(conn, &run.key)
                        });
                        return self.state.handle(clocks(), Input::Runs { conn, runs });
                    }
                    Err(error) => report("read the live runs", &error),
                }
            }
            Effect::GoOn { conn, bridge, from } => return self.go_on(conn, bridge, from).await,
            Effect::End { run, outcome } => self.end(run, outcome).await,
            Effect::Resend { conn, run } => self.resend(conn, run).await,
            Effect::Remember(record) => {
                if let Err(error) = self.store.seen_bridge(record).await {
                    report("remember a machine", &error);
                }
            }
            Effect::Settle { request, answer } => {
                if let Some(waiter) = self.waiters.remove(&request) {
                    waiter.settle(answer);
                }
            }
            Effect::Changed => self.tick(),
        }
        Vec::new()
    }

    /// Begins to read a connection, from what is kept of its bridge. What waits for a store that
    /// fails comes again, and is known then.
    async fn listen(&mut self, conn: ConnId) {
        let Some(bridge) = self.state.bridge_of(conn) else {
            return;
        };
        let position = match self.store.position(&bridge).await {
            Ok(position) => position,
            Err(error) => {
                report("read up to where a machine was heard", &error);
                return self.hang_up(conn, HangUp::NotKept);
            }
        };
        if self.state.is_extended(conn) {
            self.send(conn, position.resume());
        }
        if let Some(line) = self.connections.get(&conn) {
            line.listen.send_replace(Some(position));
        }
    }

    /// Never waits: a connection with a full queue is hung up on.
    pub(crate) fn send(&mut self, conn: ConnId, frame: String) {
        self.hand_over(conn, Outgoing::Frame(frame));
    }

    pub(crate) fn hand_over(&mut self, conn: ConnId, what: Outgoing) {
        let Some(line) = self.connections.get(&conn) else {
            return;
        };
        match line.out.try_send(what) {
            // Of a closed one, `Closed` is on the way.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => self.hang_up(conn, HangUp::TooSlow),
        }
    }

    /// Dropping the line ends the connection even if the words do not fit.
    pub(crate) fn hang_up(&mut self, conn: ConnId, why: HangUp) {
        self.numberings.remove(&conn);
        if let Some(line) = self.connections.remove(&conn)
            && line.out.try_send(Outgoing::Close(why)).is_err()
        {
            tracing::debug!(?why, "closed without a word");
        }
    }

    pub(crate) fn wake(&mut self, task: &TaskId) {
        if let Some(watched) = self.watched.get(task) {
            if watched.receiver_count() == 0 {
                self.watched.remove(task);
            } else {
                watched.send_modify(|marks| *marks += 1);
            }
        }
    }

    pub(crate) fn tick(&mut self) {
        self.changes.send_modify(|marks| *marks += 1);
    }

    async fn clean(&mut self) {
        let keep = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        let before = now().as_millis().saturating_sub(keep);
        match self
            .store
            .forget_before(bridge_proto::Timestamp::from_millis(before))
            .await
        {
            Ok(0) => {}
            Ok(gone) => {
                tracing::info!(tasks = gone, "old tasks removed");
                self.tick();
            }
            Err(error) => report("remove old tasks", &error),
        }
        let watched: Vec<TaskId> = self.watched.keys().cloned().collect();
        for task in watched {
            let unread = self
                .watched
                .get(&task)
                .is_some_and(|one| one.receiver_count() == 0);
            let gone = matches!(self.store.task(&task).await, Ok(None));
            if unread || gone {
                self.watched.remove(&task);
            }
        }
    }

    async fn stop(&mut self) {
        self.input(Input::Stop).await;
        self.keep_at_last().await;
    }
}

/// Both clocks.
pub(crate) fn clocks() -> Now {
    Now {
        instant: Instant::now(),
        wall: now(),
    }
}

/// A viewer that went away does not want its answer.
pub(crate) fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::debug!("nobody waits for this answer");
    }
}

pub(crate) fn report(what: &str, error: &StoreError) {
    tracing::error!(error = error as &dyn std::error::Error, "failed to {what}");
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Messages handled, and events committed, in one go.
const ROUND: usize = 64;
/// How often old tasks are looked for; the first time at the start.
const CLEANING: Duration = Duration::from_secs(3600);
