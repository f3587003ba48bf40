//! Events of a task as a person reads them in a terminal: the answer on standard output, what
//! the agent does on standard error.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, IsTerminal as _, Write as _},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bridge_hub::StoredEvent;
use bridge_proto::{
    AskId, Timestamp,
    model::{AskEnd, EventBody, Outcome, Rejection, RunEvent, ToolStatus},
};

use crate::{invocation, report::Exit};

/// Prints events in order; keeps what is needed for line ends and replaced text.
#[derive(Debug)]
pub(crate) struct Renderer {
    json: bool,
    colours: bool,
    /// Where a line can be written over: standard error is a terminal.
    terminal: bool,
    started: Instant,
    progress: bool,
    tools: usize,
    open_line: bool,
    thinking: bool,
    finished_tools: HashSet<String>,
    /// The run whose end is waited for; `None`: any.
    run: Option<String>,
    /// How the other runs ended meanwhile.
    ended: HashMap<String, Exit>,
    /// The short id of the task, and whether answers can be typed here.
    task: Option<(String, bool)>,
    /// The questions that wait for a person, and when they are decided without one.
    asks: BTreeMap<AskId, Option<Timestamp>>,
}

impl Renderer {
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stderr().is_terminal();
        Self {
            json,
            colours: terminal && std::env::var_os("NO_COLOR").is_none(),
            terminal,
            started: Instant::now(),
            progress: false,
            tools: 0,
            open_line: false,
            thinking: false,
            finished_tools: HashSet::new(),
            run: None,
            ended: HashMap::new(),
            task: None,
            asks: BTreeMap::new(),
        }
    }

    /// For one run of a task, or the one its message is read in.
    pub(crate) fn of(run: &str, json: bool) -> Self {
        Self {
            run: Some(run.to_owned()),
            ..Self::new(json)
        }
    }

    /// Which task this is, and whether its questions can be answered by typing.
    pub(crate) fn answered_by(&mut self, task: &str, typing: bool) {
        self.task = Some((task.chars().take(8).collect(), typing && !self.json));
    }

    /// Whether the task waits for a person.
    pub(crate) fn is_asking(&self) -> bool {
        !self.asks.is_empty()
    }

    /// The question that waits for a person, if it is one.
    pub(crate) fn only_ask(&self) -> Option<&AskId> {
        let mut asks = self.asks.keys();
        asks.next().filter(|_| asks.next().is_none())
    }

    /// Prints what a person asked for, above what came of it.
    pub(crate) fn prompt(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            self.note(&format!("you: {line}"))?;
        }
        Ok(())
    }

    /// Says on the terminal's last line that the agent is at work; to be called now and then.
    pub(crate) fn tick(&mut self) -> io::Result<()> {
        if self.json || !self.terminal || self.open_line {
            return Ok(());
        }
        // Whoever types an answer keeps the line.
        let typing = self.task.as_ref().is_some_and(|(_, typing)| *typing);
        if self.is_asking() && typing {
            return Ok(());
        }
        let line = match self.asks.values().flatten().min() {
            Some(at) => format!(
                "waiting for your answer; decided without you {}",
                in_a_while(*at)
            ),
            None if self.is_asking() => "waiting for your answer".to_owned(),
            None => progress(self.started.elapsed().as_secs(), self.tools),
        };
        self.progress = true;
        write!(io::stderr(), "\r\u{1b}[2K· {line}")?;
        io::stderr().flush()
    }

    /// Takes the progress line away, so that something can be printed.
    fn clear(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.progress) {
            write!(io::stderr(), "\r\u{1b}[2K")?;
        }
        Ok(())
    }

    /// Prints one event; the exit code when the run that is waited for is over.
    pub(crate) fn event(&mut self, stored: &StoredEvent) -> io::Result<Option<Exit>> {
        if self.json {
            let line = serde_json::to_string(stored).map_err(io::Error::other)?;
            writeln!(io::stdout(), "{line}")?;
        }
        match &stored.event.body {
            EventBody::Queued { ahead } => self.note(&format!("waiting behind {ahead} other"))?,
            EventBody::Started { .. } => {}
            EventBody::Seen(seen) => self.seen(&seen.event)?,
            EventBody::Ended { outcome } => {
                let (exit, line) = ending(outcome);
                self.note(&line)?;
                return Ok(self.over(&stored.event.run.attempt, exit));
            }
            EventBody::Joined { into } => {
                if self.run.as_ref() == Some(&stored.event.run.attempt) {
                    self.run = Some(into.clone());
                    return Ok(self.ended.get(into).copied());
                }
            }
            EventBody::Rejected(why) => {
                self.note(&format!("rejected: {}", rejection(why)))?;
                return Ok(self.over(&stored.event.run.attempt, Exit::TaskFailed));
            }
        }
        Ok(None)
    }

    /// A run has ended; the exit code if it is the one that is waited for.
    fn over(&mut self, attempt: &str, exit: Exit) -> Option<Exit> {
        // One run of a task is at work at a time, and its questions end with it.
        self.asks.clear();
        if self.run.as_ref().is_none_or(|run| run == attempt) {
            return Some(exit);
        }
        self.ended.insert(attempt.to_owned(), exit);
        None
    }

    fn seen(&mut self, event: &RunEvent) -> io::Result<()> {
        match event {
            RunEvent::Text { delta, .. } => self.text(delta),
            RunEvent::Thinking { delta } if !self.thinking && !delta.trim().is_empty() => {
                self.thinking = true;
                self.note("thinking …")
            }
            RunEvent::TextReplaced { text, .. } if text.is_empty() => {
                self.note("(the text above was withdrawn)")
            }
            RunEvent::Tool(tool) => {
                let over = match tool.status {
                    ToolStatus::Completed => "✓",
                    ToolStatus::Failed => "✗",
                    ToolStatus::Cancelled | ToolStatus::Unknown => "–",
                    ToolStatus::Pending | ToolStatus::InProgress => return Ok(()),
                };
                if self.finished_tools.insert(tool.id.to_string()) {
                    self.tools += 1;
                    self.note(&format!("{over} {}", tool.title))?;
                }
                Ok(())
            }
            RunEvent::FileWritten { path } => self.note(&format!("wrote {path}")),
            RunEvent::Ask(ask) if ask.answered.is_some() => {
                self.asks.remove(&ask.id);
                let answer = ask.answered.as_deref().unwrap_or_default();
                self.note(&format!("answer sent: {answer}; waiting for the agent"))
            }
            RunEvent::Ask(ask) => {
                self.asks.insert(ask.id.clone(), ask.expires);
                self.note(&format!("asks: {}", ask.summary))?;
                for (place, option) in ask.options.iter().enumerate() {
                    self.note(&format!("  {}. {}", place + 1, option.label))?;
                }
                if let Some(at) = ask.expires {
                    self.note(&format!("decided without you {}", in_a_while(at)))?;
                }
                self.note(&how_to_answer(self.task.as_ref()))
            }
            RunEvent::AskClosed { ask, how } => {
                self.asks.remove(ask);
                match how {
                    AskEnd::Answered { answer } => self.note(&format!("answered: {answer}")),
                    AskEnd::ByPolicy { rule } => self.note(&format!("decided by {rule}")),
                    AskEnd::Expired => self.note("nobody answered in time"),
                    AskEnd::Withdrawn => Ok(()),
                }
            }
            RunEvent::Retrying(retry) => self.note(&format!(
                "trying again ({}): {}",
                retry.attempt, retry.reason
            )),
            RunEvent::Silent { seconds } => self.note(&format!("silent for {seconds} s")),
            RunEvent::Status { text } => self.note(text),
            RunEvent::Model { model } => self.note(&format!("model {model}")),
            RunEvent::Mode { mode } => self.note(&format!("mode {mode}")),
            RunEvent::Effort { effort } => self.note(&format!("thinking effort {effort}")),
            RunEvent::Injected { text } => self.note(&format!("you: {text}")),
            RunEvent::Thinking { .. }
            | RunEvent::TextReplaced { .. }
            | RunEvent::Plan { .. }
            | RunEvent::Usage(_)
            | RunEvent::Other { .. } => Ok(()),
        }
    }

    fn text(&mut self, delta: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        self.clear()?;
        self.thinking = false;
        self.open_line = !delta.ends_with('\n');
        let mut out = io::stdout();
        out.write_all(plain(delta).as_bytes())?;
        out.flush()
    }

    fn note(&mut self, line: &str) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        self.clear()?;
        if std::mem::take(&mut self.open_line) {
            writeln!(io::stdout())?;
        }
        let line = plain(line);
        if self.colours {
            writeln!(io::stderr(), "\u{1b}[2m· {line}\u{1b}[0m")
        } else {
            writeln!(io::stderr(), "· {line}")
        }
    }
}

/// What a person can do about a question, here or elsewhere.
fn how_to_answer(task: Option<&(String, bool)>) -> String {
    let id = task.map_or("<task>", |(id, _)| id.as_str());
    let task_command = invocation::task();
    let elsewhere = format!("`{task_command} answer {id} <number>`, or on the page");
    match task {
        Some((_, true)) => {
            format!("waiting for your answer: type a number and Enter, or {elsewhere}")
        }
        Some((_, false)) | None => format!("waiting for your answer: {elsewhere}"),
    }
}

fn progress(seconds: u64, tools: usize) -> String {
    let time = if seconds < 60 {
        format!("{seconds} s")
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    };
    match tools {
        0 => format!("working, {time}"),
        1 => format!("working, {time}, 1 tool used"),
        many => format!("working, {time}, {many} tools used"),
    }
}

/// How long it is until then, for a person: `in 42 s`, `in 3 min`, `now`.
pub(crate) fn in_a_while(at: Timestamp) -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
    until(at.as_millis().saturating_sub(now))
}

fn until(millis: i64) -> String {
    match millis.max(0).unsigned_abs().div_ceil(1000) {
        0 => "now".to_owned(),
        seconds @ 1..=90 => format!("in {seconds} s"),
        seconds => format!("in {} min", seconds.div_ceil(60)),
    }
}

/// Without what could move the cursor, change the terminal, or show letters in another order than
/// they stand: an agent's text is not trusted.
pub(crate) fn plain(text: &str) -> String {
    let steers = |c: &char| c.is_control() && *c != '\n' && *c != '\t';
    text.chars()
        .filter(|c| !steers(c) && !turns_direction(*c))
        .collect()
}

/// Marks, embeddings, overrides and isolates of the bidirectional algorithm. Right-to-left scripts
/// do not need them.
fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn rejection(why: &Rejection) -> String {
    match why {
        Rejection::AgentNotFound => "no agent of this name lives there".into(),
        Rejection::MissingIntentPayload => "there was no prompt".into(),
        Rejection::ProviderNotActive { provider } => format!("{provider} cannot run there"),
        Rejection::PlaceRefused { reason } => reason.clone(),
    }
}

fn ending(outcome: &Outcome) -> (Exit, String) {
    match outcome {
        Outcome::Completed => (Exit::Done, "completed".into()),
        Outcome::Failed { reason, .. } => (Exit::TaskFailed, format!("failed: {reason}")),
        Outcome::Blocked { reason, .. } => (Exit::TaskBlocked, format!("blocked: {reason}")),
        Outcome::Cancelled { .. } => (Exit::TaskCancelled, "cancelled".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_progress_line_counts_time_and_tools() {
        assert_eq!(progress(9, 0), "working, 9 s");
        assert_eq!(progress(75, 1), "working, 1 min 15 s, 1 tool used");
        assert_eq!(progress(120, 3), "working, 2 min 0 s, 3 tools used");
    }

    #[test]
    fn a_message_that_was_read_in_another_run_ends_with_that_run() {
        let event = |attempt: &str, body| StoredEvent {
            seq: 1,
            event: bridge_proto::model::Event {
                run: bridge_proto::RunKey {
                    task: bridge_proto::TaskId::parse("t").unwrap(),
                    attempt: attempt.into(),
                },
                n: 0,
                at: Timestamp::from_millis(0),
                body,
            },
        };
        let ended = |attempt| {
            let outcome = Outcome::Completed;
            event(attempt, EventBody::Ended { outcome })
        };
        let joined = event("b", EventBody::Joined { into: "a".into() });
        for early in [true, false] {
            let mut events = [ended("a"), joined.clone()];
            if !early {
                events.reverse();
            }
            let mut renderer = Renderer::of("b", true);
            let exits = events.map(|event| renderer.event(&event).unwrap());
            assert_eq!(exits, [None, Some(Exit::Done)], "early {early}");
        }
        let mut renderer = Renderer::of("b", true);
        assert_eq!(renderer.event(&ended("a")).unwrap(), None, "another run");
    }

    #[test]
    fn what_is_left_of_a_question_is_told_in_seconds_then_in_minutes() {
        let told = [-5, 0, 1, 42_000, 90_000, 90_001, 3_600_000].map(until);
        let expected = [
            "now",
            "now",
            "in 1 s",
            "in 42 s",
            "in 90 s",
            "in 2 min",
            "in 60 min",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_question_names_the_command_that_answers_it() {
        let elsewhere = how_to_answer(Some(&("99e14bf3".into(), false)));
        assert!(elsewhere.contains(" task answer 99e14bf3 <number>`"));
        assert!(!elsewhere.contains("type"));
        let here = how_to_answer(Some(&("99e14bf3".into(), true)));
        assert!(here.contains("type a number and Enter"), "{here}");
    }

    #[test]
    fn text_of_an_agent_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2J\u{7}b\n\tc"), "a[2Jb\n\tc");
    }

    #[test]
    fn text_of_an_agent_is_shown_in_the_order_in_which_it_stands() {
        let turned = "rm \u{202e}txt.\u{202c}\u{2066}a\u{2067}b\u{2068}c\u{2069}\u{200e}\u{200f}";
        assert_eq!(plain(turned), "rm txt.abc");
        let others = "\u{61c}\u{202a}\u{202b}\u{202d}";
        assert_eq!(plain(others), "");
        // Neighbours of theirs, and letters of every direction, stay.
        let kept = "\u{2029}\u{202f}\u{2065}\u{206a}\u{200d} שלום مرحبا";
        assert_eq!(plain(kept), kept);
    }
}
