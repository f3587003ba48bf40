//! The demo agent on a thread, joined to the pure dialogue by pipes in memory.

use std::{
    collections::VecDeque,
    io::{BufRead as _, BufReader, PipeWriter, Write as _},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bridge_proto::{
    AskId,
    model::{Answer, Ask, Observed, Outcome, RunEvent},
};
use bridge_providers::{
    acp::{AcpDialogue, AcpQuirks, AcpStart},
    demo::{self, DemoEnd, DemoSettings},
    dialogue::{Dialogue as _, Exit, Step},
    provider::{Steer, TurnEnd},
};

/// A conversation with the demo agent.
pub(crate) struct Talk {
    dialogue: AcpDialogue,
    input: Option<PipeWriter>,
    lines: Receiver<Vec<u8>>,
    agent: Option<JoinHandle<std::io::Result<DemoEnd>>>,
    pending: VecDeque<Step>,
    /// Everything seen so far.
    pub(crate) seen: Vec<Observed>,
    /// What had to be done to end the process.
    pub(crate) endings: Vec<Step>,
    /// The id to continue by.
    pub(crate) resumable: Option<String>,
    /// Answers the agent took.
    pub(crate) applied: Vec<AskId>,
    /// How the agent ended, once it has.
    pub(crate) end: Option<DemoEnd>,
}

impl Talk {
    /// Starts the agent.
    pub(crate) fn start(start: AcpStart, settings: DemoSettings) -> Self {
        let (agent_in, input) = std::io::pipe().unwrap();
        let (output, agent_out) = std::io::pipe().unwrap();
        let agent =
            thread::spawn(move || demo::run(BufReader::new(agent_in), agent_out, &settings));
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                while line.last().is_some_and(|byte| *byte == b'\n') {
                    line.pop();
                }
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        let mut dialogue = AcpDialogue::new(start, AcpQuirks::plain("Demo", "none needed"));
        dialogue.on_start(Instant::now());
        Self {
            dialogue,
            input: Some(input),
            lines,
            agent: Some(agent),
            pending: VecDeque::new(),
            seen: Vec::new(),
            endings: Vec::new(),
            resumable: None,
            applied: Vec::new(),
            end: None,
        }
    }

    /// Says something to the dialogue.
    pub(crate) fn steer(&mut self, steer: Steer) {
        self.dialogue.on_steer(Instant::now(), steer);
    }

    /// Sends a prompt and waits for the end of its turn.
    pub(crate) fn turn(&mut self, prompt: &str) -> TurnEnd {
        self.steer(Steer::Prompt(prompt.to_owned()));
        self.turn_over()
    }

    /// Waits for the end of a turn.
    pub(crate) fn turn_over(&mut self) -> TurnEnd {
        loop {
            if let Step::TurnOver(end) = self.step() {
                return end;
            }
        }
    }

    /// Waits for the next event that `wanted` picks.
    pub(crate) fn wait_for<T>(&mut self, wanted: impl Fn(&RunEvent) -> Option<T>) -> T {
        loop {
            if let Step::Emit(seen) = self.step()
                && let Some(found) = wanted(&seen.event)
            {
                return found;
            }
        }
    }

    /// Waits for a question.
    pub(crate) fn ask(&mut self) -> Ask {
        self.wait_for(|event| match event {
            RunEvent::Ask(ask) => Some(ask.clone()),
            _ => None,
        })
    }

    /// Answers a question by the kind of the option.
    pub(crate) fn answer(&mut self, ask: &Ask, option: &str) {
        self.steer(Steer::Answer(
            ask.id.clone(),
            Answer::Choose {
                option: option.to_owned(),
            },
        ));
    }

    /// Goes on until the process has ended and nothing is left to be told.
    pub(crate) fn finish(&mut self) {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(step) = self.take() {
                self.note(&step);
            } else if self.end.is_some() {
                return;
            } else {
                self.listen(give_up);
            }
        }
    }

    /// The next step, after it has been done.
    pub(crate) fn step(&mut self) -> Step {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if let Some(step) = self.take() {
                self.note(&step);
                return step;
            }
            self.listen(give_up);
        }
    }

    /// Waits for one line, the deadline or the end.
    fn listen(&mut self, give_up: Instant) {
        assert!(Instant::now() < give_up, "nothing happens");
        let due = self.dialogue.deadline().unwrap_or(give_up).min(give_up);
        let left = due.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => self.dialogue.on_line(Instant::now(), &line),
            Err(RecvTimeoutError::Timeout) => self.dialogue.on_timeout(Instant::now()),
            Err(RecvTimeoutError::Disconnected) => self.ended(),
        }
    }

    /// The events of one kind as a list.
    pub(crate) fn events<T>(&self, wanted: impl Fn(&RunEvent) -> Option<T>) -> Vec<T> {
        self.seen
            .iter()
            .filter_map(|seen| wanted(&seen.event))
            .collect()
    }

    /// How many pieces of text came.
    pub(crate) fn deltas(&self) -> usize {
        self.events(|event| matches!(event, RunEvent::Text { .. }).then_some(()))
            .len()
    }

    fn take(&mut self) -> Option<Step> {
        while let Some(step) = self.dialogue.next_step() {
            self.pending.push_back(step);
        }
        self.pending.pop_front()
    }

    fn note(&mut self, step: &Step) {
        match step {
            Step::Send(line) => {
                if let Some(input) = &mut self.input {
                    // The agent may just have ended; that is told in its own way.
                    drop(writeln!(input, "{line}"));
                }
            }
            Step::Emit(seen) => self.seen.push((**seen).clone()),
            Step::Resumable(id) => self.resumable = Some(id.as_str().to_owned()),
            Step::Applied(ask) => self.applied.push(ask.clone()),
            Step::Prompted | Step::TurnOver(_) | Step::Injected(_) | Step::EndInput => {}
            Step::CloseInput(_) | Step::Terminate(_) => {
                self.endings.push(step.clone());
                self.input = None;
            }
        }
    }

    fn ended(&mut self) {
        let end = self
            .agent
            .take()
            .expect("ends once")
            .join()
            .unwrap()
            .unwrap();
        self.end = Some(end);
        self.input = None;
        let exit = Exit {
            code: Some(i32::from(end.exit_code())),
            signal: None,
            stderr_tail: String::new(),
        };
        self.dialogue.on_end(Instant::now(), exit);
    }
}

/// Whether an outcome is a cancel.
pub(crate) fn is_cancelled(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Cancelled { .. })
}

/// No test takes this long unless something hangs.
const PATIENCE: Duration = Duration::from_secs(60);
