//! What this machine allows, decided here and nowhere else (decisions 11, 12, 18, 19).

use std::time::Duration;

use bridge_providers::provider::Asking;

/// The settings every decision is made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Runs at work at the same time; further ones wait, first in first out. At least 1.
    pub parallel: usize,
    /// A run without any sign of life for this long is stopped and reported as blocked.
    pub silence: Duration,
    /// An agent whose model does not answer for this long is stopped and its run reported as
    /// failed; `None`: it is waited for as long as it says that it tries. Tools at work and open
    /// questions do not count.
    pub patience: Option<Duration>,
    /// An agent process stays this long after a turn, for a quick follow-up.
    pub idle: Duration,
    /// At most so many idle processes; the one idle longest is closed first.
    pub idle_processes: usize,
    /// Changes of files inside the place of the run.
    pub edits: EditRule,
    /// Commands, and everything else an agent asks for.
    pub commands: CommandRule,
    /// How long a question stays open on a plane that cannot say whether a person looks at it.
    pub ask_wait: Duration,
    /// Whether an agent's thinking leaves the machine.
    pub send_thinking: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            parallel: 4,
            silence: Duration::from_secs(30 * 60),
            patience: Some(Duration::from_secs(5 * 60)),
            idle: Duration::from_secs(5 * 60),
            idle_processes: 4,
            edits: EditRule::Allow,
            commands: CommandRule::AskViewer,
            ask_wait: Duration::from_secs(10 * 60),
            send_thinking: true,
        }
    }
}

impl Policy {
    /// Whether an agent that asks before it runs a command gets an answer of a person.
    pub fn asking(&self, viewer: bool) -> Asking {
        match self.commands {
            CommandRule::Ask => Asking::Answered,
            CommandRule::AskViewer if viewer => Asking::Answered,
            CommandRule::AskViewer | CommandRule::Deny => Asking::Unanswered,
            CommandRule::Allow => Asking::Unneeded,
        }
    }
}

/// What happens when an agent wants to change a file inside the place of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EditRule {
    /// Allowed without a question: the user pointed the task at this place.
    Allow,
    /// A person is asked.
    Ask,
}

/// What happens when an agent wants to run a command or act outside its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandRule {
    /// Asked where a viewer can answer (our hub), denied elsewhere.
    AskViewer,
    /// Asked everywhere; without an answer in time it is denied.
    Ask,
    /// Allowed without a question.
    Allow,
    /// Denied without a question.
    Deny,
}
