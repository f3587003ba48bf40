//! A program without a protocol: it gets one prompt, its standard output is the answer, its exit
//! code says how it went.
//!
//! ```text
//!            Prompt                        exit 0
//!  waiting ──────────► working ────────────────────────────► over: completed
//!                        │  │   another exit                 over: failed, with its complaints
//!                        │  └── Interrupt ──► ending ──────► over: cancelled
//!                        └── a further prompt is refused: one process, one prompt
//! ```

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bridge_proto::{
    BlockId,
    model::{Actor, Fault, Outcome, RunEvent},
};

use crate::{
    dialogue::{Dialogue, Exit, Step},
    plain::{sentence, tail},
    provider::{Injection, Steer, TurnEnd},
};

/// How the program gets its prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PromptBy {
    /// On its standard input, which is closed behind it.
    #[default]
    Input,
    /// As its last argument, which everybody on this machine can see; its input is closed.
    Argument,
}

/// One run of such a program.
#[derive(Debug)]
pub struct ExecDialogue {
    name: String,
    by: PromptBy,
    /// Put before the prompt.
    instructions: String,
    block: BlockId,
    state: State,
    /// What it said before it was asked.
    early: Vec<String>,
    answer: String,
    /// Prompts that will not be read.
    refused: usize,
    /// When it was started or last said something.
    heard: Option<Instant>,
    silences: u32,
    steps: VecDeque<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Working,
    Cancelled,
    Over,
}

impl ExecDialogue {
    /// A program that was not asked yet. `name` is what a person reads.
    ///
    /// # Panics
    /// Never: the name of the one block is a valid one.
    pub fn new(name: &str, by: PromptBy, instructions: &str) -> Self {
        Self {
            name: name.to_owned(),
            by,
            instructions: instructions.trim().to_owned(),
            block: BlockId::parse("t1-b1").expect("the name is short and plain"),
            state: State::Waiting,
            early: Vec::new(),
            answer: String::new(),
            refused: 0,
            heard: None,
            silences: 0,
            steps: VecDeque::new(),
        }
    }

    /// The whole text the program is to get.
    pub(super) fn whole(&self, prompt: &str) -> String {
        if self.instructions.is_empty() {
            prompt.to_owned()
        } else {
            format!("{}\n\n{prompt}", self.instructions)
        }
    }

    fn begin(&mut self, now: Instant, prompt: &str) {
        self.state = State::Working;
        self.heard = Some(now);
        match self.by {
            PromptBy::Input => {
                let whole = self.whole(prompt);
                self.steps.push_back(Step::Send(whole));
            }
            PromptBy::Argument => {}
        }
        self.steps.push_back(Step::EndInput);
        self.steps.push_back(Step::Prompted);
        for line in std::mem::take(&mut self.early) {
            self.say(line);
        }
    }

    fn say(&mut self, line: String) {
        self.answer.push_str(&line);
        if self.answer.len() > 2 * ANSWER_BYTES {
            self.answer = tail(&self.answer, ANSWER_BYTES).to_owned();
        }
        let block = self.block.clone();
        self.emit(RunEvent::Text { block, delta: line });
    }

    fn emit(&mut self, event: RunEvent) {
        self.steps.push_back(Step::Emit(Box::new(event.into())));
    }

    fn over(&mut self, outcome: Outcome, answer: String) {
        self.steps
            .push_back(Step::TurnOver(TurnEnd { outcome, answer }));
    }

    /// What the end of the program means.
    fn outcome(&self, exit: &Exit) -> Outcome {
        let how = match (exit.code, exit.signal) {
            (Some(0), _) => return Outcome::Completed,
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no exit code".to_owned(),
        };
        let complaints: Vec<&str> = exit.stderr_tail.lines().rev().take(COMPLAINTS).collect();
        let said: Vec<&str> = complaints.into_iter().rev().collect();
        let said = sentence(&said.join(" / "), REASON_CHARS);
        let name = &self.name;
        let reason = if said.is_empty() {
            format!("{name} ended with {how}")
        } else {
            format!("{name} ended with {how}: {said}")
        };
        Outcome::Failed {
            fault: Fault::Agent,
            reason,
        }
    }

    fn refusal(&self) -> Outcome {
        Outcome::Failed {
            fault: Fault::Bridge,
            reason: format!("{} takes one prompt only", self.name),
        }
    }
}

impl Dialogue for ExecDialogue {
    fn on_start(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    fn on_line(&mut self, now: Instant, line: &[u8]) {
        self.heard = Some(now);
        self.silences = 0;
        let line = format!("{}\n", without_escapes(&String::from_utf8_lossy(line)));
        match self.state {
            State::Waiting => {
                let kept: usize = self.early.iter().map(String::len).sum();
                if kept + line.len() <= EARLY_BYTES {
                    self.early.push(line);
                }
            }
            State::Working => self.say(line),
            State::Cancelled | State::Over => {}
        }
    }

    fn on_oversized(&mut self, now: Instant, bytes: u64) {
        self.heard = Some(now);
        let name = &self.name;
        let text = format!("a line of {bytes} bytes from {name} was skipped, it is over the limit");
        self.emit(RunEvent::Status { text });
    }

    fn on_steer(&mut self, now: Instant, steer: Steer) {
        match (steer, self.state) {
            (Steer::Prompt(prompt), State::Waiting) => self.begin(now, &prompt),
            (Steer::Prompt(_), State::Working | State::Cancelled) => self.refused += 1,
            (Steer::Prompt(_), State::Over) => self.over(self.refusal(), String::new()),
            (Steer::Interrupt, State::Working) => {
                self.state = State::Cancelled;
                self.steps.push_back(Step::Terminate(OBEY));
            }
            (Steer::Close, State::Waiting) => self.steps.push_back(Step::CloseInput(CLOSE)),
            (Steer::Inject(_), _) => self.steps.push_back(Step::Injected(Injection::Refused)),
            (Steer::Tune(_), _) => {
                let text = format!("{} has nothing that could be set", self.name);
                self.emit(RunEvent::Status { text });
            }
            (
                Steer::Interrupt | Steer::Close,
                State::Waiting | State::Working | State::Cancelled | State::Over,
            )
            | (Steer::Answer(..), _) => {}
        }
    }

    fn on_end(&mut self, _now: Instant, exit: Exit) {
        let outcome = match self.state {
            State::Working => Some(self.outcome(&exit)),
            State::Cancelled => Some(Outcome::Cancelled { by: Actor::Person }),
            State::Waiting | State::Over => None,
        };
        self.state = State::Over;
        if let Some(outcome) = outcome {
            let answer = tail(&std::mem::take(&mut self.answer), ANSWER_BYTES).to_owned();
            self.over(outcome, answer);
        }
        for _ in 0..std::mem::take(&mut self.refused) {
            self.over(self.refusal(), String::new());
        }
    }

    fn on_timeout(&mut self, now: Instant) {
        if let (Some(due), Some(heard)) = (self.deadline(), self.heard)
            && due <= now
        {
            let seconds = now.saturating_duration_since(heard).as_secs();
            self.silences = u32::try_from(seconds / SILENCE.as_secs()).unwrap_or(u32::MAX - 1);
            self.emit(RunEvent::Silent { seconds });
        }
    }

    fn next_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Working => Some(self.heard? + SILENCE * (self.silences + 1)),
            State::Waiting | State::Cancelled | State::Over => None,
        }
    }
}

/// A line without what steers a terminal; tabs stay.
fn without_escapes(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            match chars.next() {
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                Some(']') => while chars.next().is_some_and(|c| c != '\u{7}' && c != '\u{1b}') {},
                Some(_) | None => {}
            }
        } else if c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    out
}

/// Between SIGTERM and SIGKILL.
const OBEY: Duration = Duration::from_secs(2);
const CLOSE: Duration = Duration::from_secs(1);
/// A person shall see that nothing comes.
const SILENCE: Duration = Duration::from_secs(60);
/// Of the answer as a whole; every line has been passed on before.
const ANSWER_BYTES: usize = 4 << 20;
/// Of what is said before the prompt.
const EARLY_BYTES: usize = 64 << 10;
/// Lines of complaints in a reason.
const COMPLAINTS: usize = 3;
const REASON_CHARS: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(dialogue: &mut ExecDialogue) -> Vec<Step> {
        std::iter::from_fn(|| dialogue.next_step()).collect()
    }

    fn asked(by: PromptBy) -> (ExecDialogue, Instant) {
        let now = Instant::now();
        let mut dialogue = ExecDialogue::new("tool", by, " be brief ");
        dialogue.on_start(now);
        dialogue.on_steer(now, Steer::Prompt("do it".into()));
        (dialogue, now)
    }

    fn exit(code: i32, stderr: &str) -> Exit {
        Exit {
            code: Some(code),
            signal: None,
            stderr_tail: stderr.into(),
        }
    }

    fn ends(steps: &[Step]) -> Vec<&TurnEnd> {
        let mut ends = Vec::new();
        for step in steps {
            if let Step::TurnOver(end) = step {
                ends.push(end);
            }
        }
        ends
    }

    #[test]
    fn the_prompt_goes_in_and_the_input_is_closed() {
        let (mut dialogue, _) = asked(PromptBy::Input);
        let send = Step::Send("be brief\n\ndo it".into());
        let wanted = [send, Step::EndInput, Step::Prompted];
        assert_eq!(steps(&mut dialogue), wanted);
        let (mut dialogue, _) = asked(PromptBy::Argument);
        assert_eq!(steps(&mut dialogue), [Step::EndInput, Step::Prompted]);
    }

    #[test]
    fn lines_are_the_answer_and_the_exit_code_its_end() {
        let (mut dialogue, now) = asked(PromptBy::Input);
        steps(&mut dialogue);
        dialogue.on_line(now, b"\x1b[31mred\x1b[0m\tcaf\xe9\x07");
        dialogue.on_line(now, b"");
        dialogue.on_end(now, exit(0, "only a warning"));
        let steps = steps(&mut dialogue);
        let wanted = TurnEnd {
            outcome: Outcome::Completed,
            answer: "red\tcaf\u{fffd}\n\n".into(),
        };
        assert_eq!(ends(&steps), [&wanted]);
        assert_eq!(steps.len(), 3);
    }

    #[test]
    fn another_exit_code_is_a_failure_with_the_last_complaints() {
        let (mut dialogue, now) = asked(PromptBy::Input);
        dialogue.on_end(now, exit(7, "one\ntwo\nthree\nfour\n"));
        let steps = steps(&mut dialogue);
        let wanted = Outcome::Failed {
            fault: Fault::Agent,
            reason: "tool ended with exit code 7: two / three / four".into(),
        };
        assert_eq!(ends(&steps)[0].outcome, wanted);
    }

    #[test]
    fn a_cancel_is_one_whatever_the_program_answers() {
        let (mut dialogue, now) = asked(PromptBy::Input);
        steps(&mut dialogue);
        dialogue.on_steer(now, Steer::Interrupt);
        dialogue.on_steer(now, Steer::Interrupt);
        assert_eq!(steps(&mut dialogue), [Step::Terminate(OBEY)]);
        dialogue.on_line(now, b"late words");
        dialogue.on_end(now, exit(0, ""));
        let steps = steps(&mut dialogue);
        assert_eq!(steps.len(), 1);
        let wanted = Outcome::Cancelled { by: Actor::Person };
        assert_eq!(ends(&steps)[0].outcome, wanted);
    }

    #[test]
    fn every_prompt_gets_one_end_and_only_the_first_is_read() {
        let (mut dialogue, now) = asked(PromptBy::Input);
        dialogue.on_steer(now, Steer::Prompt("and this".into()));
        dialogue.on_end(now, exit(0, ""));
        dialogue.on_steer(now, Steer::Prompt("and that".into()));
        let steps = steps(&mut dialogue);
        let ends = ends(&steps);
        assert_eq!(ends.len(), 3);
        assert!(
            ends[1..]
                .iter()
                .all(|end| end.outcome == dialogue.refusal())
        );
    }

    #[test]
    fn what_is_said_before_the_prompt_belongs_to_the_answer() {
        let now = Instant::now();
        let mut dialogue = ExecDialogue::new("tool", PromptBy::Input, "");
        dialogue.on_start(now);
        dialogue.on_line(now, b"Welcome");
        for _ in 0..100 {
            dialogue.on_line(now, &[b'x'; 10_000]);
        }
        assert_eq!(steps(&mut dialogue), []);
        dialogue.on_steer(now, Steer::Prompt("go".into()));
        dialogue.on_end(now, exit(0, ""));
        let steps = steps(&mut dialogue);
        let answer = &ends(&steps)[0].answer;
        assert!(answer.starts_with("Welcome\n") && answer.len() <= EARLY_BYTES);
    }

    #[test]
    fn silence_is_told_once_a_minute() {
        let (mut dialogue, now) = asked(PromptBy::Input);
        steps(&mut dialogue);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(dialogue.deadline(), Some(at(60)));
        dialogue.on_timeout(at(59));
        dialogue.on_timeout(at(60));
        assert_eq!(dialogue.deadline(), Some(at(120)));
        assert_eq!(steps(&mut dialogue).len(), 1);
        dialogue.on_line(at(70), b"x");
        assert_eq!(dialogue.deadline(), Some(at(130)));
    }

    #[test]
    fn an_endless_answer_keeps_its_end() {
        let (mut dialogue, now) = asked(PromptBy::Input);
        for _ in 0..1200 {
            dialogue.on_line(now, &[b'x'; 16_000]);
        }
        dialogue.on_line(now, b"STATUS");
        dialogue.on_end(now, exit(0, ""));
        let steps = steps(&mut dialogue);
        let answer = &ends(&steps)[0].answer;
        assert!(answer.len() <= ANSWER_BYTES && answer.ends_with("STATUS\n"));
    }
}
