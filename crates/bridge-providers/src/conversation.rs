//! Joins a dialogue and a process to a conversation: turns what happens into inputs, and what the
//! dialogue wants into deeds.
//!
//! One task owns both. Everything that waits is bounded: while the owner does not read, standard
//! output is not read either, so the agent waits. What the owner says is heard all the time; once
//! it wants the turn or the process to end, output is read on, and what nobody takes is dropped.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bridge_proto::{
    Timestamp,
    model::{Fault, Outcome, RunEvent},
};
use tokio::{
    sync::{mpsc, watch},
    time,
};

use crate::{
    dialogue::{Dialogue, Exit, Step},
    process::{Child, ChildEvent, Ladder, Launch, Line, spawn},
    provider::{Conversation, Heard, StartError, Steer, TurnEnd},
};

/// Starts the program and lets `dialogue` talk with it. The conversation outlives this call in a
/// task of the present runtime; dropping the [`Conversation`] ends the program with all it
/// started.
///
/// Beyond the contract of [`Dialogue`]: a turn that a dialogue leaves open when the program is
/// gone is closed as failed; so is one whose dialogue panics. An interrupted turn that is not
/// over after 8 s costs the program its life. A program that ends before anything was said to it
/// still gets the first prompt, so that its turn tells why.
pub async fn converse(
    launch: Launch,
    dialogue: Box<dyn Dialogue>,
) -> Result<Conversation, StartError> {
    let child = spawn(launch).await?;
    let pid = Some(child.pid());
    let (tell, heard) = mpsc::channel(HEARD_ROOM);
    let (steer, asked) = mpsc::channel(STEER_ROOM);
    tokio::spawn(Driver::new(child, dialogue).run(tell, asked));
    Ok(Conversation { heard, steer, pid })
}

struct Driver {
    child: Child,
    /// `None` after a panic.
    dialogue: Option<Box<dyn Dialogue>>,
    /// When the dialogue wants to be woken.
    deadline: Option<Instant>,
    /// What the owner has not taken yet.
    outbox: VecDeque<Heard>,
    /// Bytes of output that were read while the outbox was not empty.
    unheard: usize,
    turns: Turns,
    /// When an interrupted turn has to be over.
    interrupted: Option<Instant>,
    ending: Option<Ending>,
    /// The owner is gone.
    alone: bool,
    /// The owner has said something.
    spoken_to: bool,
}

/// Prompts of the owner and how many of them are answered.
#[derive(Default)]
struct Turns {
    open: usize,
    ever: bool,
}

/// The way down a ladder that can still be shortened.
struct Ending {
    ladder: watch::Sender<Ladder>,
    /// `None` once it is done.
    walk: Option<Pin<Box<dyn Future<Output = usize> + Send>>>,
}

impl Driver {
    fn new(child: Child, dialogue: Box<dyn Dialogue>) -> Self {
        Self {
            child,
            dialogue: Some(dialogue),
            deadline: None,
            outbox: VecDeque::new(),
            unheard: 0,
            turns: Turns::default(),
            interrupted: None,
            ending: None,
            alone: false,
            spoken_to: false,
        }
    }

    async fn run(mut self, tell: mpsc::Sender<Heard>, mut asked: mpsc::Receiver<Steer>) {
        self.input(Dialogue::on_start);
        self.talk(&tell, &mut asked).await;
        self.read_the_rest().await;
        if !self.spoken_to && !self.alone {
            // It ended before its owner had said anything. The first prompt is on its way, and
            // the end of its turn tells why.
            if let Ok(Some(steer)) = time::timeout(FIRST_WORD, asked.recv()).await {
                self.on_steer(steer);
            }
        }
        asked.close();
        while let Ok(steer) = asked.try_recv() {
            self.on_steer(steer);
        }
        self.on_end();
        self.child.release().await;
        self.outbox.push_back(Heard::Gone);
        for heard in self.outbox {
            if tell.send(heard).await.is_err() {
                return;
            }
        }
    }

    /// Until the program and all it started are gone.
    async fn talk(&mut self, tell: &mpsc::Sender<Heard>, asked: &mut mpsc::Receiver<Steer>) {
        let mut listening = true;
        while !self.ending.as_ref().is_some_and(Ending::is_done) {
            let reading = self.is_reading();
            tokio::select! {
                steer = asked.recv(), if listening => match steer {
                    Some(steer) => self.on_steer(steer),
                    None => listening = false,
                },
                room = tell.reserve(), if !self.alone && !self.outbox.is_empty() => match room {
                    Ok(room) => self.hand_over(room),
                    Err(_) => self.on_alone(),
                },
                () = tell.closed(), if !self.alone => self.on_alone(),
                () = until(self.deadline) => self.input(Dialogue::on_timeout),
                () = until(self.interrupted) => self.on_interrupt_overdue(),
                survivors = walk(&mut self.ending) => on_ended(survivors),
                event = self.child.next_event(reading) => self.on_child(event),
            }
        }
    }

    /// What the program printed before its end.
    async fn read_the_rest(&mut self) {
        let rest = async {
            while !(self.child.has_exited() && self.child.is_drained()) {
                let event = self.child.next_event(true).await;
                self.on_child(event);
            }
        };
        if time::timeout(DRAIN_LIMIT, rest).await.is_err() {
            tracing::debug!("somebody else holds the output of an agent that ended");
        }
    }

    /// Gives the dialogue one input, and does what it wants.
    fn input(&mut self, give: impl FnOnce(&mut (dyn Dialogue + 'static), Instant)) {
        let Some(mut dialogue) = self.dialogue.take() else {
            return;
        };
        let now = now();
        let outcome = catch_unwind(AssertUnwindSafe(move || {
            give(dialogue.as_mut(), now);
            let mut steps = Vec::new();
            while let Some(step) = dialogue.next_step() {
                steps.push(step);
            }
            let deadline = dialogue.deadline();
            (dialogue, steps, deadline)
        }));
        let Ok((dialogue, steps, deadline)) = outcome else {
            tracing::error!(
                pid = self.child.pid(),
                "a dialogue panicked; its agent is ended"
            );
            self.deadline = None;
            self.end_by(Ladder::usual(now));
            return;
        };
        self.dialogue = Some(dialogue);
        self.deadline = deadline;
        for step in steps {
            self.perform(now, step);
        }
    }

    fn perform(&mut self, now: Instant, step: Step) {
        match step {
            Step::Send(line) => {
                if self.child.send(line).is_err() {
                    tracing::warn!(pid = self.child.pid(), "an agent does not read its input");
                    self.end_by(Ladder::usual(now));
                }
            }
            Step::Emit(mut seen) => {
                self.date(now, &mut seen.event);
                self.outbox.push_back(Heard::Seen(seen));
            }
            Step::Prompted => self.outbox.push_back(Heard::Prompted),
            Step::Resumable(id) => self.outbox.push_back(Heard::Resumable(id)),
            Step::Applied(ask) => self.outbox.push_back(Heard::Applied(ask)),
            Step::Injected(what) => self.outbox.push_back(Heard::Injected(what)),
            Step::TurnOver(end) => self.turn_over(end),
            Step::EndInput => self.child.close_input(),
            Step::CloseInput(patience) => {
                self.child.close_input();
                self.end_by(Ladder::patient(now, patience));
            }
            Step::Terminate(grace) => {
                self.child.close_input();
                self.end_by(Ladder::terminate(now, grace));
            }
        }
    }

    /// Gives a question that the agent answers itself the time at which it does, by the clock of
    /// the wall: dialogues know only how long from now.
    fn date(&self, now: Instant, event: &mut RunEvent) {
        if let RunEvent::Ask(ask) = event
            && let Some(dialogue) = &self.dialogue
            && let Some(at) = dialogue.ask_expires(&ask.id)
        {
            ask.expires = Some(wall_clock(at.saturating_duration_since(now)));
        }
    }

    fn turn_over(&mut self, end: TurnEnd) {
        self.turns.open = self.turns.open.saturating_sub(1);
        self.turns.ever = true;
        self.interrupted = None;
        self.outbox.push_back(Heard::TurnOver(end));
    }

    fn on_steer(&mut self, steer: Steer) {
        self.spoken_to = true;
        match &steer {
            Steer::Prompt(_) => self.turns.open += 1,
            Steer::Interrupt if self.turns.open > 0 => {
                self.interrupted = self.interrupted.or_else(|| Some(now() + INTERRUPT_LIMIT));
            }
            Steer::Inject(_)
            | Steer::Interrupt
            | Steer::Answer(..)
            | Steer::Tune(_)
            | Steer::Close => {}
        }
        self.input(|dialogue, now| dialogue.on_steer(now, steer));
    }

    fn on_child(&mut self, event: ChildEvent) {
        match event {
            ChildEvent::Line(Line::Whole(line)) => {
                if self.make_room_for(line.len()) {
                    self.input(|dialogue, now| dialogue.on_line(now, &line));
                }
            }
            ChildEvent::Line(Line::Oversized { bytes }) => {
                tracing::warn!(bytes, "a line of an agent was too long and is skipped");
                if self.make_room_for(0) {
                    self.input(|dialogue, now| dialogue.on_oversized(now, bytes));
                }
            }
            ChildEvent::Exited => self.end_by(Ladder::usual(now())),
            ChildEvent::Drained => {}
        }
    }

    fn on_interrupt_overdue(&mut self) {
        tracing::warn!(
            pid = self.child.pid(),
            "an agent ignores an interrupt; it is ended"
        );
        self.interrupted = None;
        self.child.close_input();
        self.end_by(Ladder::terminate(now(), INTERRUPT_GRACE));
    }

    /// Nobody listens any more.
    fn on_alone(&mut self) {
        self.alone = true;
        self.outbox.clear();
        self.child.close_input();
        self.end_by(Ladder::usual(now()));
    }

    fn on_end(&mut self) {
        let exit = self.child.exit();
        let panicked = self.dialogue.is_none();
        let (before, told) = (self.turns.open, exit.clone());
        self.input(|dialogue, now| dialogue.on_end(now, told));
        let (fault, reason) = if panicked || self.dialogue.is_none() {
            (
                Fault::Bridge,
                "the bridge failed to understand the agent".to_owned(),
            )
        } else {
            (Fault::Agent, ended_text(&exit))
        };
        let left_open = self.turns.open > 0 && self.turns.open == before;
        let never_told = self.dialogue.is_none() && !self.turns.ever;
        if left_open || never_told {
            let outcome = Outcome::Failed { fault, reason };
            self.turn_over(TurnEnd {
                outcome,
                answer: String::new(),
            });
        }
    }

    fn end_by(&mut self, ladder: Ladder) {
        if let Some(ending) = &self.ending {
            ending
                .ladder
                .send_modify(|present| *present = present.or_sooner(ladder));
            return;
        }
        let (sender, receiver) = watch::channel(ladder);
        if let Some(walk) = self.child.end(receiver) {
            self.ending = Some(Ending {
                ladder: sender,
                walk: Some(Box::pin(walk)),
            });
        }
    }

    fn hand_over(&mut self, room: mpsc::Permit<'_, Heard>) {
        if let Some(heard) = self.outbox.pop_front() {
            room.send(heard);
        }
        if self.outbox.is_empty() {
            self.unheard = 0;
        }
    }

    fn is_reading(&self) -> bool {
        self.outbox.is_empty()
            || self.ending.is_some()
            || (self.interrupted.is_some() && self.unheard < UNHEARD_LIMIT)
    }

    /// Whether one more line may add to what waits for the owner.
    fn make_room_for(&mut self, bytes: usize) -> bool {
        if self.alone {
            return false;
        }
        if !self.outbox.is_empty() {
            self.unheard = self.unheard.saturating_add(bytes + LINE_COST);
        }
        self.unheard < UNHEARD_LIMIT
    }
}

impl Ending {
    fn is_done(&self) -> bool {
        self.walk.is_none()
    }
}

/// Comes back once, when the end that was begun is done.
async fn walk(ending: &mut Option<Ending>) -> usize {
    let Some(walk) = ending.as_mut().and_then(|ending| ending.walk.as_mut()) else {
        return std::future::pending().await;
    };
    let survivors = walk.await;
    if let Some(ending) = ending {
        ending.walk = None;
    }
    survivors
}

fn on_ended(survivors: usize) {
    if survivors > 0 {
        tracing::warn!(survivors, "processes of an agent would not end");
    }
}

fn ended_text(exit: &Exit) -> String {
    let how = match (exit.code, exit.signal) {
        (Some(code), _) => format!("the agent ended with exit code {code}"),
        (None, Some(signal)) => format!("the agent was ended by signal {signal}"),
        (None, None) => "the agent ended".to_owned(),
    };
    match exit.stderr_tail.lines().last() {
        Some(last) => format!("{how}: {last}"),
        None => how,
    }
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

/// What the clock of the wall will show after this time.
fn wall_clock(after: Duration) -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let millis = since.saturating_add(after).as_millis();
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Lines of an agent can be large, so few of them wait in the channel.
const HEARD_ROOM: usize = 32;
const STEER_ROOM: usize = 16;
/// Bytes of output that may be turned into news nobody takes, while the end goes on.
const UNHEARD_LIMIT: usize = 16 * 1024 * 1024;
/// What news costs beside its text.
const LINE_COST: usize = 512;
/// With [`INTERRUPT_GRACE`] and the last wait within the ten seconds of decision 13.
const INTERRUPT_LIMIT: Duration = Duration::from_secs(8);
const INTERRUPT_GRACE: Duration = Duration::from_millis(700);
/// How long the first prompt for a program that ended at once is waited for.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// How long output is waited for when everybody who could print is dead.
const DRAIN_LIMIT: Duration = Duration::from_millis(300);
