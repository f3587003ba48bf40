//! Joins a dialogue and a gateway to a conversation: turns what happens into inputs, and what the
//! dialogue wants into deeds. What `conversation.rs` is for programs, this is for the one agent
//! that is not a program of ours.
//!
//! One task owns both. While the owner does not read, the socket is not read either, so the
//! gateway waits. Hanging up does not stop a run: whatever ends the conversation while one works,
//! it is aborted first.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    time::{Duration, Instant},
};

use bridge_proto::model::{Actor, Fault, Outcome};
use tokio::{sync::mpsc, time};

use super::{
    dialogue::{Act, Lost, OpenclawDialogue, Work},
    door::Door,
    logbook::Entry,
    socket::Socket,
};
use crate::provider::{Heard, Steer, TurnEnd};

/// What is left to do when the driver comes back.
pub(super) enum Left {
    Nothing,
    /// The gateway speaks another protocol; these prompts wait.
    Fallback(Vec<String>),
}

/// The rules of a conversation, as the driver sees them.
pub(super) trait Rules: Send {
    /// Something happened.
    fn on(&mut self, now: Instant, input: Input);
    /// The next thing to do, oldest first.
    fn next_act(&mut self) -> Option<Act>;
    /// When to say that the time has come, if nothing else happens before.
    fn deadline(&self) -> Option<Instant>;
}

/// What can happen.
pub(super) enum Input {
    Start,
    Open,
    Text(String),
    Lost(Lost),
    Steer(Steer),
    Timeout,
    /// As [`Input::Timeout`], while the owner took no news and so nothing was read.
    Unread,
}

impl Rules for OpenclawDialogue {
    fn on(&mut self, now: Instant, input: Input) {
        match input {
            Input::Start => self.on_start(),
            Input::Open => self.on_open(now),
            Input::Text(text) => self.on_text(now, &text),
            Input::Lost(lost) => self.on_lost(now, &lost),
            Input::Steer(steer) => self.on_steer(now, steer),
            Input::Timeout => self.on_timeout(now),
            Input::Unread => self.on_unread(now),
        }
    }

    fn next_act(&mut self) -> Option<Act> {
        Self::next_act(self)
    }

    fn deadline(&self) -> Option<Instant> {
        Self::deadline(self)
    }
}

/// Lets `rules` talk with the gateway behind `door` until one of them has enough.
///
/// Beyond the contract of the dialogue: a turn that it leaves open is closed as failed; so is one
/// whose dialogue panics. An interrupted turn that is not over after 8 s is cancelled and its run
/// aborted on a connection of its own, because the first may be what is broken.
pub(super) async fn drive(
    door: Door,
    rules: Box<dyn Rules>,
    tell: &mpsc::Sender<Heard>,
    asked: &mut mpsc::Receiver<Steer>,
) -> Left {
    Driver {
        door,
        rules: Some(rules),
        deadline: None,
        line: Line::Down,
        work: None,
        entry: None,
        outbox: VecDeque::new(),
        unheard: 0,
        open: 0,
        interrupted: None,
        alone: false,
        spoken_to: false,
        ended: None,
    }
    .run(tell, asked)
    .await
}

struct Driver {
    door: Door,
    /// `None` after a panic.
    rules: Option<Box<dyn Rules>>,
    /// When they want to be woken.
    deadline: Option<Instant>,
    line: Line,
    /// What has to be aborted if the conversation ends now.
    work: Option<Work>,
    /// Where that is written down.
    entry: Option<Entry>,
    /// What the owner has not taken yet.
    outbox: VecDeque<Heard>,
    /// Bytes that were read while the outbox was not empty.
    unheard: usize,
    /// Prompts without an answer.
    open: usize,
    /// When an interrupted turn has to be over.
    interrupted: Option<Instant>,
    /// The owner is gone.
    alone: bool,
    /// The owner has said something.
    spoken_to: bool,
    ended: Option<Left>,
}

enum Line {
    Down,
    Dialling(Pin<Box<dyn Future<Output = Result<Socket, Lost>> + Send>>),
    Up(Socket),
}

/// What happened on the line.
enum Moved {
    Open(Socket),
    Text(String),
    Lost(Lost),
}

impl Driver {
    async fn run(mut self, tell: &mpsc::Sender<Heard>, asked: &mut mpsc::Receiver<Steer>) -> Left {
        self.input(Input::Start).await;
        self.talk(tell, asked).await;
        if matches!(self.ended, Some(Left::Fallback(_))) {
            return self.ended.unwrap_or(Left::Nothing);
        }
        self.farewell().await;
        if !self.spoken_to && !self.alone {
            // It ended before its owner had said anything. The first prompt is on its way, and
            // the end of its turn tells why.
            if let Ok(Some(steer)) = time::timeout(FIRST_WORD, asked.recv()).await {
                self.on_steer(steer).await;
            }
        }
        asked.close();
        while let Ok(steer) = asked.try_recv() {
            self.on_steer(steer).await;
        }
        self.close_turns();
        self.outbox.push_back(Heard::Gone);
        for heard in self.outbox {
            if tell.send(heard).await.is_err() {
                break;
            }
        }
        Left::Nothing
    }

    /// Until the conversation is over.
    async fn talk(&mut self, tell: &mpsc::Sender<Heard>, asked: &mut mpsc::Receiver<Steer>) {
        let mut listening = true;
        while self.ended.is_none() {
            let reading = self.is_reading();
            tokio::select! {
                steer = asked.recv(), if listening => match steer {
                    Some(steer) => self.on_steer(steer).await,
                    None => listening = false,
                },
                room = tell.reserve(), if !self.outbox.is_empty() => match room {
                    Ok(room) => self.hand_over(room),
                    Err(_) => self.on_alone(),
                },
                () = tell.closed() => self.on_alone(),
                () = until(self.deadline) => {
                    let input = if reading { Input::Timeout } else { Input::Unread };
                    self.input(input).await;
                }
                () = until(self.interrupted) => self.on_interrupt_overdue(),
                moved = moved(&mut self.line, reading) => self.on_moved(moved).await,
            }
        }
    }

    /// Tells the rules what happened, and does what they want.
    async fn input(&mut self, input: Input) {
        let Some(mut rules) = self.rules.take() else {
            return;
        };
        let now = now();
        let outcome = catch_unwind(AssertUnwindSafe(move || {
            rules.on(now, input);
            let mut acts = Vec::new();
            while let Some(act) = rules.next_act() {
                acts.push(act);
            }
            let deadline = rules.deadline();
            (rules, acts, deadline)
        }));
        let Ok((rules, acts, deadline)) = outcome else {
            tracing::error!("a dialogue with OpenClaw panicked; its run is aborted");
            self.deadline = None;
            self.ended = Some(Left::Nothing);
            return;
        };
        self.rules = Some(rules);
        self.deadline = deadline;
        for act in acts {
            self.perform(act).await;
        }
    }

    async fn perform(&mut self, act: Act) {
        match act {
            Act::Dial => {
                let dialling = Socket::dial(self.door.address());
                self.line = Line::Dialling(Box::pin(dialling));
            }
            Act::Greet(line) => self.send(line.expose().to_owned()),
            Act::Send(line) => self.send(line),
            Act::Tell(heard) => self.say(heard),
            Act::Keep(grant) => self.door.keep(grant).await,
            Act::Guard(work) => {
                Door::strike(self.entry.take()).await;
                if let Some(work) = &work {
                    self.entry = self.door.enter(work).await;
                }
                self.work = work;
            }
            Act::Fallback(prompts) => self.ended = Some(Left::Fallback(prompts)),
            Act::HangUp => self.ended = Some(Left::Nothing),
        }
    }

    fn send(&mut self, line: String) {
        let sent = match &self.line {
            Line::Up(socket) => socket.send(line),
            Line::Down | Line::Dialling(_) => Ok(()),
        };
        if let Err(lost) = sent {
            // Told to the dialogue as every other loss, once it has said all it wanted to say.
            let told = async move { Err(lost) };
            self.line = Line::Dialling(Box::pin(told));
        }
    }

    fn say(&mut self, heard: Heard) {
        if let Heard::TurnOver(_) = &heard {
            self.open = self.open.saturating_sub(1);
            self.interrupted = None;
        }
        self.outbox.push_back(heard);
    }

    async fn on_steer(&mut self, steer: Steer) {
        self.spoken_to = true;
        match &steer {
            Steer::Prompt(_) => self.open += 1,
            Steer::Interrupt if self.open > 0 => {
                self.interrupted = self.interrupted.or_else(|| Some(now() + INTERRUPT_LIMIT));
            }
            Steer::Inject(_)
            | Steer::Interrupt
            | Steer::Answer(..)
            | Steer::Tune(_)
            | Steer::Close => {}
        }
        self.input(Input::Steer(steer)).await;
    }

    async fn on_moved(&mut self, moved: Moved) {
        match moved {
            Moved::Open(socket) => {
                self.line = Line::Up(socket);
                self.input(Input::Open).await;
            }
            Moved::Text(text) => {
                if !self.outbox.is_empty() {
                    self.unheard = self.unheard.saturating_add(text.len() + TEXT_COST);
                }
                self.input(Input::Text(text)).await;
            }
            Moved::Lost(lost) => {
                self.line = Line::Down;
                self.input(Input::Lost(lost)).await;
            }
        }
    }

    fn on_interrupt_overdue(&mut self) {
        tracing::warn!("OpenClaw does not stop a run; it is left");
        self.interrupted = None;
        if self.open > 0 {
            let outcome = Outcome::Cancelled { by: Actor::Person };
            self.say(turn_over(outcome));
        }
        self.ended = Some(Left::Nothing);
    }

    /// Nobody listens any more.
    fn on_alone(&mut self) {
        self.alone = true;
        self.outbox.clear();
        self.ended = Some(Left::Nothing);
    }

    /// Stops what still works at the gateway.
    async fn farewell(&mut self) {
        self.line = Line::Down;
        let Some(work) = self.work.take() else { return };
        match self.door.abort(&work, FAREWELL).await {
            Ok(()) => Door::strike(self.entry.take()).await,
            // The entry stays, so that it is tried again by the next bridge.
            Err(error) => {
                tracing::warn!(%error, run = work.run, "a run of OpenClaw could not be stopped");
            }
        }
    }

    /// What the rules have left open.
    fn close_turns(&mut self) {
        let (fault, reason) = if self.rules.is_none() {
            (
                Fault::Bridge,
                "the bridge failed to understand OpenClaw".to_owned(),
            )
        } else {
            (
                Fault::Agent,
                "the conversation with OpenClaw ended before its answer".to_owned(),
            )
        };
        for _ in 0..std::mem::take(&mut self.open) {
            let reason = reason.clone();
            self.outbox
                .push_back(turn_over(Outcome::Failed { fault, reason }));
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

    /// An owner that is slow slows the gateway down, except when it waits for a turn to stop.
    fn is_reading(&self) -> bool {
        self.outbox.is_empty() || (self.interrupted.is_some() && self.unheard < UNHEARD_LIMIT)
    }
}

/// Comes back when something happened on the line. Cancel safe.
async fn moved(line: &mut Line, reading: bool) -> Moved {
    match line {
        Line::Down => std::future::pending().await,
        Line::Dialling(dialling) => match dialling.as_mut().await {
            Ok(socket) => Moved::Open(socket),
            Err(lost) => Moved::Lost(lost),
        },
        Line::Up(_) if !reading => std::future::pending().await,
        Line::Up(socket) => match socket.next().await {
            Ok(text) => Moved::Text(text),
            Err(lost) => Moved::Lost(lost),
        },
    }
}

fn turn_over(outcome: Outcome) -> Heard {
    Heard::TurnOver(TurnEnd {
        outcome,
        answer: String::new(),
    })
}

fn now() -> Instant {
    time::Instant::now().into_std()
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Bytes that may be turned into news nobody takes, while a turn is stopped.
const UNHEARD_LIMIT: usize = 16 << 20;
/// What news costs beside its text.
const TEXT_COST: usize = 512;
/// With [`FAREWELL`] within the ten seconds of decision 13.
const INTERRUPT_LIMIT: Duration = Duration::from_secs(8);
/// How long the abort of a run that nobody waits for any more may take.
const FAREWELL: Duration = Duration::from_millis(1500);
/// How long the first prompt for a conversation that ended at once is waited for.
const FIRST_WORD: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use bridge_proto::model::RunEvent;

    use super::{super::config::Gateway, *};

    /// Rules that do one thing and then break, or never do anything.
    struct Poor {
        acts: Vec<Act>,
        panics: bool,
    }

    impl Rules for Poor {
        fn on(&mut self, _: Instant, input: Input) {
            let breaks = self.panics && matches!(input, Input::Steer(_));
            assert!(!breaks, "these rules are broken");
        }

        fn next_act(&mut self) -> Option<Act> {
            self.acts.pop()
        }

        fn deadline(&self) -> Option<Instant> {
            None
        }
    }

    struct Talk {
        steer: mpsc::Sender<Steer>,
        heard: mpsc::Receiver<Heard>,
        driving: tokio::task::JoinHandle<()>,
    }

    /// A door behind which nobody is.
    fn talk(rules: Poor) -> Talk {
        let (steer, mut asked) = mpsc::channel(4);
        let (tell, heard) = mpsc::channel(4);
        let gateway = Gateway {
            url: "ws://127.0.0.1:1".parse().unwrap(),
            secret: None,
            open: true,
            chat_completions: None,
            workspaces: Vec::new(),
        };
        let nowhere = std::path::Path::new("/nowhere");
        let door = Door::new(gateway, None, nowhere, super::super::door::Key::default());
        let driving = tokio::spawn(async move {
            drive(door, Box::new(rules), &tell, &mut asked).await;
        });
        Talk {
            steer,
            heard,
            driving,
        }
    }

    async fn outcome(heard: &mut mpsc::Receiver<Heard>) -> Outcome {
        let Some(Heard::TurnOver(end)) = heard.recv().await else {
            panic!("a turn is over first")
        };
        assert_eq!(heard.recv().await, Some(Heard::Gone));
        assert_eq!(heard.recv().await, None);
        end.outcome
    }

    #[tokio::test]
    async fn rules_that_panic_fail_their_turn_and_nothing_else() {
        let mut talk = talk(Poor {
            acts: Vec::new(),
            panics: true,
        });
        talk.steer.send(Steer::Prompt("go".into())).await.unwrap();
        let outcome = outcome(&mut talk.heard).await;
        let fault = Fault::Bridge;
        assert!(matches!(outcome, Outcome::Failed { fault: is, .. } if is == fault));
        talk.driving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_interrupt_that_leads_to_nothing_is_a_cancel_within_ten_seconds() {
        let mut talk = talk(Poor {
            acts: Vec::new(),
            panics: false,
        });
        talk.steer.send(Steer::Prompt("go".into())).await.unwrap();
        let asked = time::Instant::now();
        talk.steer.send(Steer::Interrupt).await.unwrap();
        let by = Actor::Person;
        assert_eq!(outcome(&mut talk.heard).await, Outcome::Cancelled { by });
        assert!(asked.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn what_is_left_open_is_failed_and_the_last_word_is_gone() {
        let status = RunEvent::Status { text: "bye".into() };
        let said = Heard::Seen(Box::new(status.into()));
        let mut talk = talk(Poor {
            acts: vec![Act::HangUp, Act::Tell(said.clone())],
            panics: false,
        });
        talk.steer.send(Steer::Prompt("go".into())).await.unwrap();
        assert_eq!(talk.heard.recv().await, Some(said));
        let outcome = outcome(&mut talk.heard).await;
        assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    }
}
