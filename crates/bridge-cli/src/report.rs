//! What people are told when something does not work: the message, what to do, the exit code.

use std::process::ExitCode;

use bridge_hub::StartError as HubStartError;
use thiserror::Error;

/// Exit codes of the binary; documented in `docs/operating.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    TaskFailed = 3,
    TaskBlocked = 4,
    TaskCancelled = 5,
    NoHub = 6,
    NotConfigured = 7,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A problem as a person reads it.
#[derive(Debug, Error)]
#[error("{message}")]
pub(crate) struct Problem {
    message: String,
    hint: Option<String>,
    exit: Exit,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit: Exit::Failed,
            source: None,
        }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    pub(crate) fn because(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Standard output cannot be written. A closed pipe is no problem: the reader has enough.
    pub(crate) fn output(error: std::io::Error) -> Self {
        let closed = error.kind() == std::io::ErrorKind::BrokenPipe;
        let exit = if closed { Exit::Done } else { Exit::Failed };
        Self::new("the output could not be written")
            .exit(exit)
            .because(error)
    }

    /// The message with its chain of causes, on one line.
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }

    /// What to do.
    pub(crate) fn what_to_do(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub(crate) fn code(&self) -> Exit {
        self.exit
    }

    /// The whole report: message, chain of causes, hint.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("error: {}", self.message);
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}\n  because: {error}");
            cause = error.source();
        }
        if let Some(hint) = &self.hint {
            text = format!("{text}\nhint: {hint}");
        }
        text
    }
}

impl From<HubStartError> for Problem {
    fn from(error: HubStartError) -> Self {
        let hint = match &error {
            HubStartError::NotLoopback { .. } => {
                "use a 127.0.0.1 address behind a reverse proxy, or say --expose"
            }
            HubStartError::LinesNotLoopback { .. } => {
                "lines are not encrypted: use a 127.0.0.1 address at the end of a tunnel, or say --expose"
            }
            HubStartError::Bind { .. } => "is another hub running? choose another port",
            HubStartError::BadOrigin { .. } => {
                "write it as https://host or https://host:port, without a path"
            }
            HubStartError::Store(_) => "check that the state folder is yours and the disk not full",
        };
        Self::new("the hub did not start").hint(hint).because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_message_causes_and_hint_once_each() {
        let cause = std::io::Error::other("disk full");
        let problem = Problem::new("the file was not written")
            .hint("free some space")
            .because(cause);
        assert_eq!(
            problem.report(),
            "error: the file was not written\n  because: disk full\nhint: free some space"
        );
    }
}
