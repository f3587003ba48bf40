//! A stage for programs: a folder, scripts, and a dialogue that speaks in plain lines.

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use bridge_proto::{
    RunKey, TaskId,
    model::{Actor, Fault, Observed, Outcome, RunEvent},
};
use bridge_providers::{
    conversation::converse,
    dialogue::{Dialogue, Exit, Step},
    process::{AllowList, Environment, Launch},
    provider::{Conversation, Heard, Steer, TurnEnd},
};
use tokio::sync::mpsc;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a script in it, and a pipe that shows who lives.
pub(crate) struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let stage = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            stage.pipe(),
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        )
        .unwrap();
        stage
    }

    fn pipe(&self) -> PathBuf {
        self.folder.path().join("lives")
    }

    /// A shell that runs the script; `$LIVES` names the pipe.
    pub(crate) fn launch(&self, script: &str) -> Launch {
        let host = std::env::vars_os();
        Launch {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            directory: self.folder.path().to_owned(),
            env: Environment::from_host(host, &AllowList::base()).set("LIVES", self.pipe()),
            run: Some(self.run()),
        }
    }

    pub(crate) fn run(&self) -> RunKey {
        let attempt = self.folder.path().display().to_string();
        RunKey {
            task: TaskId::parse("task").unwrap(),
            attempt,
        }
    }

    pub(crate) async fn converse(&self, script: &str, dialogue: Plain) -> Talk {
        Talk(
            converse(self.launch(script), Box::new(dialogue))
                .await
                .unwrap(),
        )
    }

    /// Comes back when everybody who opened the pipe is dead.
    pub(crate) fn everybody_gone(&self) -> impl Future<Output = ()> + use<> {
        let lives = self.lives();
        async { lives.end().await }
    }

    /// What is written to the pipe, from now on.
    pub(crate) fn lives(&self) -> Lives {
        let pipe = self.pipe();
        let (sender, lines) = mpsc::unbounded_channel();
        thread::spawn(move || {
            for line in BufReader::new(File::open(pipe).unwrap()).lines() {
                sender.send(line.unwrap()).unwrap();
            }
        });
        Lives(lines)
    }
}

/// The lines of a pipe; they end when everybody who can write is dead.
pub(crate) struct Lives(mpsc::UnboundedReceiver<String>);

impl Lives {
    pub(crate) async fn line(&mut self) -> Option<String> {
        soon(self.0.recv()).await
    }

    pub(crate) async fn end(mut self) {
        while self.line().await.is_some() {}
    }
}

/// Waits for something that must happen.
pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event)
        .await
        .expect("it happens")
}

/// The owner's side of a conversation.
pub(crate) struct Talk(pub(crate) Conversation);

impl Talk {
    pub(crate) async fn say(&self, steer: Steer) {
        soon(self.0.steer.send(steer)).await.unwrap();
    }

    pub(crate) async fn prompt(&self, text: &str) {
        self.say(Steer::Prompt(text.into())).await;
    }

    pub(crate) async fn next(&mut self) -> Option<Heard> {
        soon(self.0.heard.recv()).await
    }

    /// Waits until the agent says this; what it says before does not matter.
    pub(crate) async fn until_said(&mut self, text: &str) {
        while let Some(heard) = self.next().await {
            if heard == said(text) {
                return;
            }
        }
        panic!("the agent never said {text}");
    }

    /// Everything up to the end of the conversation.
    pub(crate) async fn rest(&mut self) -> Vec<Heard> {
        let mut all = Vec::new();
        while let Some(heard) = self.next().await {
            all.push(heard);
        }
        all
    }
}

/// Every line of the program, in a form that shows all bytes.
pub(crate) fn said(text: &str) -> Heard {
    Heard::Seen(Box::new(seen(text)))
}

fn seen(text: &str) -> Observed {
    RunEvent::Status { text: text.into() }.into()
}

pub(crate) fn over(outcome: Outcome) -> Heard {
    Heard::TurnOver(TurnEnd {
        outcome,
        answer: String::new(),
    })
}

pub(crate) fn cancelled() -> Heard {
    over(Outcome::Cancelled { by: Actor::Person })
}

pub(crate) fn failed(fault: Fault, reason: &str) -> Heard {
    over(Outcome::Failed {
        fault,
        reason: reason.into(),
    })
}

/// A protocol of plain lines: a prompt is one line, every line of the program is told, `done`
/// ends the turn and `boom` makes the dialogue panic.
pub(crate) struct Plain {
    steps: VecDeque<Step>,
    turn: bool,
    cancelled: bool,
    on_interrupt: Option<Step>,
    forgetful: bool,
}

impl Plain {
    pub(crate) fn new() -> Self {
        Self {
            steps: VecDeque::new(),
            turn: false,
            cancelled: false,
            on_interrupt: Some(Step::Terminate(Duration::from_millis(200))),
            forgetful: false,
        }
    }

    /// Does nothing when it is interrupted.
    pub(crate) fn deaf() -> Self {
        Self {
            on_interrupt: None,
            ..Self::new()
        }
    }

    /// Does not close the turn when the program ends.
    pub(crate) fn forgetful() -> Self {
        Self {
            forgetful: true,
            ..Self::new()
        }
    }

    fn turn_over(&mut self, outcome: Outcome) {
        self.turn = false;
        self.steps.push_back(Step::TurnOver(TurnEnd {
            outcome,
            answer: String::new(),
        }));
    }

    fn tell(&mut self, text: &str) {
        self.steps.push_back(Step::Emit(Box::new(seen(text))));
    }
}

impl Dialogue for Plain {
    fn on_start(&mut self, _: Instant) {}

    fn on_line(&mut self, _: Instant, line: &[u8]) {
        match line {
            b"boom" => panic!("this is what a mistake looks like"),
            b"done" => self.turn_over(Outcome::Completed),
            other => self.tell(&other.escape_ascii().to_string()),
        }
    }

    fn on_oversized(&mut self, _: Instant, bytes: u64) {
        self.tell(&format!("{bytes} bytes skipped"));
    }

    fn on_steer(&mut self, _: Instant, steer: Steer) {
        match steer {
            Steer::Prompt(text) => {
                self.turn = true;
                self.steps.push_back(Step::Send(text));
            }
            Steer::Interrupt => {
                self.cancelled = true;
                self.steps.extend(self.on_interrupt.clone());
            }
            Steer::Close => self
                .steps
                .push_back(Step::CloseInput(Duration::from_secs(5))),
            Steer::Inject(_) | Steer::Answer(..) | Steer::Tune(_) => {}
        }
    }

    fn on_end(&mut self, _: Instant, exit: Exit) {
        if self.forgetful || !self.turn {
            return;
        }
        let outcome = if self.cancelled {
            Outcome::Cancelled { by: Actor::Person }
        } else {
            let Exit {
                code,
                signal,
                stderr_tail,
            } = exit;
            let reason = format!("code {code:?} signal {signal:?}: {stderr_tail}");
            Outcome::Failed {
                fault: Fault::Agent,
                reason,
            }
        };
        self.turn_over(outcome);
    }

    fn on_timeout(&mut self, _: Instant) {}

    fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        None
    }
}
