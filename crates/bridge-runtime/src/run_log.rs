//! The task log of one run: text gathered into blocks, written away from the async threads.

use bridge_proto::{
    Timestamp,
    model::{Observed, Outcome, RunEvent},
};
use bridge_workspace::TaskLog;

use crate::clock::now;

/// Gathers what happens and appends it block by block. A log that cannot be written never stops
/// a run: it is reported once and tried again with the next block.
#[derive(Debug)]
pub(crate) struct RunLog {
    log: Option<TaskLog>,
    gathering: Option<(&'static str, Timestamp, String)>,
    failing: bool,
}

impl RunLog {
    /// Starts on the file.
    pub(crate) fn new(log: TaskLog) -> Self {
        Self {
            log: Some(log),
            gathering: None,
            failing: false,
        }
    }

    /// Notes what was seen.
    pub(crate) async fn seen(&mut self, seen: &Observed) {
        match &seen.event {
            RunEvent::Text { delta, .. } => self.gather("TEXT", delta).await,
            RunEvent::Thinking { delta } => self.gather("THINKING", delta).await,
            RunEvent::Tool(tool) => {
                let line = format!("{} [{:?}]", tool.title, tool.status);
                self.block("TOOL", line).await;
            }
            RunEvent::FileWritten { path } => self.block("FILE_WRITTEN", path.clone()).await,
            RunEvent::Retrying(retry) => self.block("RETRY", retry.reason.clone()).await,
            RunEvent::Ask(ask) => self.block("ASKED", ask.summary.clone()).await,
            RunEvent::AskClosed { how, .. } => self.block("ANSWERED", format!("{how:?}")).await,
            RunEvent::Injected { text } => self.block("MESSAGE", text.clone()).await,
            RunEvent::Model { model } => self.block("MODEL", model.clone()).await,
            RunEvent::TextReplaced { .. }
            | RunEvent::Plan { .. }
            | RunEvent::Mode { .. }
            | RunEvent::Effort { .. }
            | RunEvent::Usage(_)
            | RunEvent::Silent { .. }
            | RunEvent::Status { .. }
            | RunEvent::Other { .. } => {}
        }
    }

    /// Notes the end and writes what is still gathered.
    pub(crate) async fn ended(&mut self, outcome: &Outcome) {
        let line = match outcome {
            Outcome::Completed => "completed".into(),
            Outcome::Failed { reason, .. } => format!("failed: {reason}"),
            Outcome::Blocked { reason, .. } => format!("blocked: {reason}"),
            Outcome::Cancelled { .. } => "cancelled".into(),
        };
        self.block("END", line).await;
    }

    async fn gather(&mut self, kind: &'static str, text: &str) {
        if let Some((same, _, gathered)) = &mut self.gathering
            && *same == kind
            && gathered.len() + text.len() < BLOCK_BYTES
        {
            gathered.push_str(text);
            return;
        }
        self.flush().await;
        self.gathering = Some((kind, now(), text.to_owned()));
    }

    async fn block(&mut self, kind: &'static str, text: String) {
        self.flush().await;
        self.write(kind, now(), text).await;
    }

    async fn flush(&mut self) {
        if let Some((kind, at, text)) = self.gathering.take() {
            self.write(kind, at, text).await;
        }
    }

    async fn write(&mut self, kind: &'static str, at: Timestamp, text: String) {
        let Some(mut log) = self.log.take() else {
            return;
        };
        let written = tokio::task::spawn_blocking(move || {
            let result = log.append(at, kind, &text);
            (log, result)
        });
        match written.await {
            Ok((log, result)) => {
                if let Err(error) = &result
                    && !self.failing
                {
                    tracing::warn!(%error, "the task log cannot be written; the run goes on");
                }
                self.failing = result.is_err();
                self.log = Some(log);
            }
            Err(error) => tracing::error!(%error, "the task log writer failed"),
        }
    }
}

/// About what one block of the log holds (8000 characters, as the web app expects).
const BLOCK_BYTES: usize = 8000;
