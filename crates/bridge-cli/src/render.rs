//! Events of a task as a person reads them in a terminal: the answer on standard output, what
//! the agent does on standard error.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Instant,
};

use bridge_hub::StoredEvent;
use bridge_proto::model::{AskEnd, EventBody, Outcome, Rejection, RunEvent, ToolStatus};

use crate::report::Exit;

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
    finished_tools: std::collections::HashSet<String>,
    /// The short id of the task, and whether answers can be typed here.
    task: Option<(String, bool)>,
    /// Questions that wait for an answer.
    asks: std::collections::HashSet<String>,
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
            finished_tools: std::collections::HashSet::new(),
            task: None,
            asks: std::collections::HashSet::new(),
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
        let line = if self.is_asking() {
            "waiting for your answer".to_owned()
        } else {
            progress(self.started.elapsed().as_secs(), self.tools)
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

    /// Prints one event; the exit code when the run is over.
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
                return Ok(Some(exit));
            }
            EventBody::Rejected(why) => {
                self.note(&format!("rejected: {}", rejection(why)))?;
                return Ok(Some(Exit::TaskFailed));
            }
        }
        Ok(None)
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
            RunEvent::Ask(ask) => {
                self.note(&format!("asks: {}", ask.summary))?;
                for (place, option) in ask.options.iter().enumerate() {
                    self.note(&format!("  {}. {}", place + 1, option.label))?;
                }
                self.asks.insert(ask.id.to_string());
                self.note(&how_to_answer(self.task.as_ref()))
            }
            RunEvent::AskClosed { ask, how } => {
                self.asks.remove(ask.as_str());
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
            RunEvent::Injected { text } => self.note(&format!("you: {text}")),
            RunEvent::Thinking { .. }
            | RunEvent::TextReplaced { .. }
            | RunEvent::Plan { .. }
            | RunEvent::Effort { .. }
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
    let elsewhere = format!("`ctrlnode task answer {id} <number>`, or on the page");
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

/// Without what could move the cursor or change the terminal: an agent's text is not trusted.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control() || *c == '\n' || *c == '\t')
        .collect()
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
    fn a_question_names_the_command_that_answers_it() {
        let elsewhere = how_to_answer(Some(&("99e14bf3".into(), false)));
        assert!(elsewhere.contains("`ctrlnode task answer 99e14bf3 <number>`"));
        assert!(!elsewhere.contains("type"));
        let here = how_to_answer(Some(&("99e14bf3".into(), true)));
        assert!(here.contains("type a number and Enter"), "{here}");
    }

    #[test]
    fn text_of_an_agent_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2J\u{7}b\n\tc"), "a[2Jb\n\tc");
    }
}
