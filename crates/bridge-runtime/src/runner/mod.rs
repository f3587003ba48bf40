//! One task at work: its folder, its conversation, its log. A runner is a task of its own; the
//! supervisor tells it what to do through one channel and hears of it through another. It pushes
//! its events itself, so that a full outbox slows this run and nothing else.

mod live;
mod message;
mod remains;
mod tuning;
mod turn;

use std::{
    collections::{BTreeMap, VecDeque},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bridge_proto::{
    RunKey, TaskId, ToolCallId,
    ctrlnode::status_tag,
    model::{Actor, EventBody, Fault, Observed, Outcome, RunEvent, RunKind, ToolState},
};
use bridge_providers::provider::{Asking, Heard, Injection, Steer, TurnEnd};
use bridge_transport::Handle;
use bridge_workspace::journal::RESERVE_BLOCK;
use tokio::sync::{mpsc, oneshot};

use self::{
    live::Live,
    remains::Baseline,
    turn::{prepare, spec},
};
pub(crate) use self::{
    message::{FromRunner, ToRunner},
    turn::{Site, Ticket, Turn, refused},
};
use crate::{
    contents::touched, dispatch::Extent, outgoing::Outgoing, patience::Patience, run_log::RunLog,
    scribe::Scribe,
};

/// The task of a task.
pub(crate) struct Runner {
    pub(crate) task: TaskId,
    pub(crate) link: Handle<Outgoing>,
    pub(crate) scribe: Scribe,
    pub(crate) inbox: mpsc::Receiver<ToRunner>,
    pub(crate) supervisor: mpsc::Sender<FromRunner>,
    pub(crate) send_thinking: bool,
    /// As [`Policy::patience`](crate::Policy::patience).
    pub(crate) patience: Option<Duration>,
}

/// What a running turn keeps beside the conversation.
struct Session {
    turn: Turn,
    log: RunLog,
    number: Option<u32>,
    /// To be published, in order.
    waiting: VecDeque<EventBody>,
    tools: BTreeMap<ToolCallId, Vec<String>>,
    patience: Patience,
    /// Messages the conversation has not answered yet, and whose they are.
    injecting: VecDeque<(RunKey, String)>,
    baseline: Baseline,
    stopping: Option<Extent>,
    reserved: u64,
}

impl Session {
    /// Says something to people, if there is something to say.
    fn say(&mut self, words: Option<String>) {
        if let Some(text) = words {
            self.publish(RunEvent::Status { text });
        }
    }

    /// Lets something be published with the next look at what waits.
    fn publish(&mut self, event: RunEvent) {
        let body = EventBody::Seen(Box::new(Observed::from(event)));
        self.waiting.push_back(body);
    }

    fn track(&mut self, tool: &ToolState) {
        if self.tools.len() < TRACKED_TOOLS || self.tools.contains_key(&tool.id) {
            self.tools.insert(tool.id.clone(), touched(tool));
        }
    }
}

impl Runner {
    /// Runs until it is closed or the supervisor is gone.
    pub(crate) async fn run(mut self) {
        let mut live: Option<Live> = None;
        loop {
            let heard = async {
                match &mut live {
                    Some(live) => live.conversation.heard.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(ToRunner::Turn { turn, asking }) => {
                        self.turn(*turn, asking, &mut live).await;
                    }
                    Some(ToRunner::Tune(tuning)) => {
                        let words = match &mut live {
                            Some(live) => live.tune(&tuning).await,
                            None => None,
                        };
                        tracing::debug!(task = %self.task, ?words, "tuned between turns");
                    }
                    Some(ToRunner::Inject { run, .. }) => {
                        self.tell(FromRunner::Injected { run, taken: false }).await;
                    }
                    Some(ToRunner::Answer(..) | ToRunner::Publish(_) | ToRunner::Interrupt(_)) => {
                        tracing::debug!(task = %self.task, "came after the turn was over");
                    }
                    Some(ToRunner::Close) | None => break,
                },
                heard = heard => match heard {
                    Some(Heard::Gone) | None => {
                        live = None;
                        self.tell(FromRunner::Gone(self.task.clone())).await;
                    }
                    Some(other) => {
                        if let (Heard::Injected(_), Some(live)) = (&other, &mut live) {
                            live.forget_answer();
                        }
                        tracing::debug!(task = %self.task, ?other, "heard between turns");
                    }
                },
            }
        }
        if let Some(live) = live {
            live.close(LAST_CLOSE_LIMIT).await;
        }
    }

    async fn turn(&mut self, turn: Turn, asking: Asking, live: &mut Option<Live>) {
        let run = turn.ticket.run.clone();
        let outcome = self.work(turn, asking, live).await;
        if live.is_none() {
            self.tell(FromRunner::Gone(self.task.clone())).await;
        }
        self.tell(FromRunner::TurnOver { run, outcome }).await;
    }

    async fn work(&mut self, turn: Turn, asking: Asking, live: &mut Option<Live>) -> Outcome {
        if let Some(other) = live.take_if(|live| !live.serves(&turn, asking)) {
            other.close(CLOSE_LIMIT).await;
        }
        let resume = turn.site.dir.session(turn.provider.key());
        let resume = resume.filter(|_| turn.kind != RunKind::Dispatch);
        let remembers = live.is_some() || resume.is_some();
        let prepared = match prepare(turn.clone(), remembers).await {
            Ok(prepared) => prepared,
            Err(reason) => {
                return Outcome::Failed {
                    fault: Fault::Bridge,
                    reason,
                };
            }
        };
        let mut session = Session {
            log: RunLog::new(prepared.log),
            number: prepared.number,
            turn,
            waiting: VecDeque::new(),
            tools: BTreeMap::new(),
            patience: Patience::new(self.patience),
            injecting: VecDeque::new(),
            baseline: Baseline::look(None, true).await,
            stopping: None,
            reserved: RESERVE_BLOCK,
        };
        let mut early = Vec::new();
        if live.is_none() {
            let spec = spec(&session.turn, asking, resume.clone());
            let model = spec.model.clone();
            let provider = Arc::clone(&session.turn.provider);
            let opened = tokio::select! {
                opened = provider.open(spec) => opened,
                () = self.interrupted(&mut early) => return CANCELLED,
            };
            match opened {
                Ok(conversation) => {
                    let directory = session.turn.site.directory();
                    let run = session.turn.ticket.run.clone();
                    if let Some(pid) = conversation.pid
                        && let Err(error) = self.scribe.process(run, pid).await
                    {
                        tracing::warn!(task = %self.task, %error, "the process could not be journalled");
                    }
                    *live = Some(Live::new(conversation, provider, &directory, asking, model));
                }
                Err(error) => return refused(&error),
            }
        }
        let Some(open) = live.as_mut() else {
            return CANCELLED;
        };
        let prompt = if open.begun {
            prepared.bare
        } else {
            prepared.first
        };
        session.baseline = Baseline::look(open.conversation.pid, open.begun).await;
        early.retain(|message| match message {
            ToRunner::Tune(tuning) => {
                session.turn.tuning.update(tuning.clone());
                false
            }
            ToRunner::Turn { .. }
            | ToRunner::Answer(..)
            | ToRunner::Publish(_)
            | ToRunner::Inject { .. }
            | ToRunner::Interrupt(_)
            | ToRunner::Close => true,
        });
        let words = open.tune(&session.turn.tuning.clone()).await;
        session.say(words);
        let ticket = session.turn.ticket.clone();
        self.push(
            &mut session,
            open,
            ticket.outgoing(EventBody::Started {
                conversation: resume,
            }),
        )
        .await;
        let (end, gone) = if session.stopping.is_some() {
            // Stopped before it was asked anything: it is not asked at all.
            let (outcome, answer) = (CANCELLED, String::new());
            (TurnEnd { outcome, answer }, false)
        } else {
            open.begun = true;
            open.steer(Steer::Prompt(prompt)).await;
            for message in early {
                act(Some(message), &mut session, open).await;
            }
            self.listen(&mut session, open).await
        };
        open.forget_messages(session.injecting.len());
        let ends = match session.stopping {
            None => false,
            Some(Extent::Turn) => gone || !session.baseline.is_restored().await,
            // An agent that obeyed may still have commands in the background, and they must not
            // outlive the cancel.
            Some(Extent::Conversation) => true,
        };
        if gone {
            *live = None;
        } else if ends && let Some(stopped) = live.take() {
            tracing::debug!(task = %self.task, "an interrupted conversation is ended");
            stopped.close(CLOSE_LIMIT).await;
        }
        self.finish(session, end).await
    }

    /// Follows the conversation to the end of the turn; true when the process is gone as well.
    async fn listen(&mut self, session: &mut Session, live: &mut Live) -> (TurnEnd, bool) {
        let mut alive = tokio::time::interval(SIGN_OF_LIFE);
        let mut heard_since = true;
        loop {
            while let Some(body) = session.waiting.pop_front() {
                let outgoing = session.turn.ticket.outgoing(body);
                self.push(session, live, outgoing).await;
            }
            tokio::select! {
                biased;
                message = self.inbox.recv() => act(message, session, live).await,
                _ = alive.tick() => if std::mem::take(&mut heard_since) {
                    self.tell(FromRunner::Alive(session.turn.ticket.run.clone())).await;
                },
                heard = live.conversation.heard.recv() => {
                    heard_since |= !is_silence(heard.as_ref());
                    match heard {
                        Some(Heard::Prompted) => session.patience.prompted(instant()),
                        Some(Heard::Seen(seen)) => self.seen(session, live, *seen).await,
                        Some(Heard::Applied(ask)) => {
                            session.patience.applied(instant(), &ask);
                            let run = session.turn.ticket.run.clone();
                            let (closed, told) = oneshot::channel();
                            self.tell(FromRunner::Applied { run, ask, closed }).await;
                            if let Ok(Some(event)) = told.await {
                                session.publish(event);
                            }
                        }
                        Some(Heard::Injected(injection)) => {
                            self.injected(session, live, injection).await;
                        }
                        Some(Heard::Resumable(id)) => {
                            let (dir, key) = (&session.turn.site.dir, live.provider.key());
                            if let Err(error) = dir.save_session(key, &id) {
                                tracing::warn!(task = %self.task, %error, "the conversation cannot be resumed later");
                            }
                        }
                        Some(Heard::TurnOver(end)) => return (end, false),
                        Some(Heard::Gone) | None => {
                            let reason = "the agent ended without a result".into();
                            let outcome = Outcome::Failed { fault: Fault::Agent, reason };
                            return (TurnEnd { outcome, answer: String::new() }, true);
                        }
                    }
                },
                // What was said in time but not read yet counts first.
                () = until(session.patience.deadline()) => {
                    if let Some(outcome) = session.patience.on_timeout(instant()) {
                        let run = session.turn.ticket.run.clone();
                        self.tell(FromRunner::GivenUp { run, outcome }).await;
                    }
                }
            }
        }
    }

    /// The conversation says what became of the message that was said first.
    async fn injected(&mut self, session: &mut Session, live: &mut Live, injection: Injection) {
        if live.forget_answer() {
            return;
        }
        let Some((run, text)) = session.injecting.pop_front() else {
            tracing::warn!(task = %self.task, "an answer to a message nobody sent");
            return;
        };
        let taken = injection == Injection::Taken;
        // First where it is decided: what is abandoned at this moment must not be said twice.
        self.tell(FromRunner::Injected { run, taken }).await;
        if taken {
            let event = RunEvent::Injected { text };
            self.seen(session, live, Observed::from(event)).await;
        }
    }

    async fn seen(&mut self, session: &mut Session, live: &mut Live, mut seen: Observed) {
        session.patience.seen(instant(), &seen.event);
        session.baseline.seen(&seen.event).await;
        let run = session.turn.ticket.run.clone();
        match &mut seen.event {
            RunEvent::Tool(tool) => session.track(tool),
            RunEvent::Ask(ask) => {
                let paths = ask.tool.as_ref().and_then(|tool| session.tools.get(tool));
                let inside = paths.is_some_and(|paths| {
                    session
                        .turn
                        .site
                        .border
                        .holds(paths.iter().map(String::as_str))
                });
                let ask = Box::new(ask.clone());
                session.log.seen(&seen).await;
                let directory = session.turn.site.directory();
                self.tell(FromRunner::Asked {
                    run,
                    ask,
                    inside,
                    directory,
                })
                .await;
                return;
            }
            RunEvent::AskClosed { ask, .. } => {
                self.tell(FromRunner::Withdrawn {
                    run,
                    ask: ask.clone(),
                })
                .await;
            }
            RunEvent::Thinking { delta } if !self.send_thinking => delta.clear(),
            RunEvent::Text { .. }
            | RunEvent::TextReplaced { .. }
            | RunEvent::Thinking { .. }
            | RunEvent::Plan { .. }
            | RunEvent::FileWritten { .. }
            | RunEvent::Model { .. }
            | RunEvent::Mode { .. }
            | RunEvent::Effort { .. }
            | RunEvent::Injected { .. }
            | RunEvent::Usage(_)
            | RunEvent::Retrying(_)
            | RunEvent::Silent { .. }
            | RunEvent::Status { .. }
            | RunEvent::Other { .. } => {}
        }
        session.log.seen(&seen).await;
        let seen = session.turn.site.border.filter(seen);
        let outgoing = session
            .turn
            .ticket
            .outgoing(EventBody::Seen(Box::new(seen)));
        self.push(session, live, outgoing).await;
    }

    /// Pushes one event, still listening to the supervisor while the outbox is full. Once the
    /// turn is interrupted, what would have to wait is given up.
    async fn push(&mut self, session: &mut Session, live: &mut Live, outgoing: Outgoing) {
        let link = self.link.clone();
        let mut pushing = pin!(link.push(outgoing));
        // Most are taken at once; only one that waits is a sign of life.
        let first_sign = tokio::time::Instant::now() + SIGN_OF_LIFE;
        let mut alive = tokio::time::interval_at(first_sign, SIGN_OF_LIFE);
        loop {
            tokio::select! {
                biased;
                pushed = &mut pushing => {
                    if pushed.is_err() {
                        tracing::debug!(task = %self.task, "the link is closed");
                    }
                    break;
                }
                () = std::future::ready(()), if session.stopping.is_some() => break,
                message = self.inbox.recv() => act(message, session, live).await,
                _ = alive.tick() => {
                    self.tell(FromRunner::Alive(session.turn.ticket.run.clone())).await;
                }
            }
        }
        let next = session.turn.ticket.next_number();
        if next + RESERVE_BLOCK / 2 > session.reserved {
            let run = session.turn.ticket.run.clone();
            match self
                .scribe
                .reserve(run, session.reserved + RESERVE_BLOCK)
                .await
            {
                Ok(reserved) => session.reserved = reserved,
                Err(error) => {
                    session.reserved += RESERVE_BLOCK;
                    tracing::warn!(task = %self.task, %error, "event numbers could not be reserved");
                }
            }
        }
    }

    async fn finish(&mut self, mut session: Session, end: TurnEnd) -> Outcome {
        let outcome = match end.outcome {
            Outcome::Completed => status_tag(&end.answer).unwrap_or(Outcome::Completed),
            other @ (Outcome::Failed { .. }
            | Outcome::Blocked { .. }
            | Outcome::Cancelled { .. }) => other,
        };
        session.log.ended(&outcome).await;
        if !end.answer.trim().is_empty() {
            let (dir, number) = (session.turn.site.dir.clone(), session.number);
            let saved = tokio::task::spawn_blocking(move || match number {
                Some(n) => dir.save_follow_up_output_if_missing(n, &end.answer),
                None => dir.save_output_if_missing(&end.answer),
            });
            match saved.await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(task = %self.task, %error, "the answer could not be saved");
                }
                Err(error) => tracing::error!(%error, "saving the answer failed"),
            }
        }
        outcome
    }

    /// Comes back when the turn shall not go on; keeps what has to wait for its beginning.
    async fn interrupted(&mut self, early: &mut Vec<ToRunner>) {
        loop {
            match self.inbox.recv().await {
                Some(ToRunner::Interrupt(_) | ToRunner::Close) | None => return,
                Some(message) => early.push(message),
            }
        }
    }

    async fn tell(&self, message: FromRunner) {
        if self.supervisor.send(message).await.is_err() {
            tracing::debug!(task = %self.task, "the supervisor is gone");
        }
    }
}

/// A word about silence is no sign of life.
fn is_silence(heard: Option<&Heard>) -> bool {
    matches!(heard, Some(Heard::Seen(seen)) if matches!(seen.event, RunEvent::Silent { .. }))
}

async fn act(message: Option<ToRunner>, session: &mut Session, live: &mut Live) {
    match message {
        Some(ToRunner::Answer(ask, answer)) => live.steer(Steer::Answer(ask, answer)).await,
        Some(ToRunner::Publish(event)) => session.publish(event),
        Some(ToRunner::Tune(tuning)) => {
            let words = live.tune(&tuning).await;
            session.say(words);
        }
        Some(ToRunner::Inject { run, text }) => {
            live.steer(Steer::Inject(text.clone())).await;
            session.injecting.push_back((run, text));
        }
        Some(ToRunner::Interrupt(extent)) => stop(extent, session, live).await,
        Some(ToRunner::Close) | None => stop(Extent::Conversation, session, live).await,
        Some(ToRunner::Turn { turn, .. }) => {
            tracing::error!(
                ?turn,
                "two turns of one task at once; the second is dropped"
            );
        }
    }
}

async fn stop(extent: Extent, session: &mut Session, live: &Live) {
    session.patience.stop();
    if session.stopping.is_none() {
        live.steer(Steer::Interrupt).await;
    }
    session.stopping = session.stopping.max(Some(extent));
}

fn instant() -> Instant {
    tokio::time::Instant::now().into_std()
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

const CANCELLED: Outcome = Outcome::Cancelled { by: Actor::Person };

/// How long an agent whose turn was cancelled may take to end by itself, before signals do it.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// How long the end of a conversation with its whole ladder may take.
const LAST_CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How often a busy run says that it is alive; far below any silence limit.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Tool calls whose paths are remembered for permission requests, per run.
const TRACKED_TOOLS: usize = 10_000;
