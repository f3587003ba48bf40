//! A conversation that is open: with whom, where and how it was opened, and how it ends.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bridge_proto::model::{Choosing, Tuning};
use bridge_providers::provider::{Asking, Conversation, Heard, Provider, Steer};

use super::{tuning::Changes, turn::Turn};

/// One open conversation of a task.
pub(super) struct Live {
    pub(super) conversation: Conversation,
    pub(super) provider: Arc<dyn Provider>,
    directory: PathBuf,
    /// What the agent was told about questions when it was started.
    asking: Asking,
    /// What it was asked to be set to.
    asked: Tuning,
    /// The first prompt has been sent.
    pub(super) begun: bool,
    /// Messages of earlier turns whose answers are still to come; they were decided without.
    unanswered: usize,
}

impl Live {
    pub(super) fn new(
        conversation: Conversation,
        provider: Arc<dyn Provider>,
        directory: &Path,
        asking: Asking,
        model: Option<String>,
    ) -> Self {
        let choosable = provider.abilities().model != Choosing::Never;
        Self {
            conversation,
            provider,
            directory: directory.to_owned(),
            asking,
            asked: Tuning {
                model: model.filter(|_| choosable),
                ..Tuning::default()
            },
            begun: false,
            unanswered: 0,
        }
    }

    /// The turn of these messages is over; what is still said about them does not count.
    pub(super) fn forget_messages(&mut self, count: usize) {
        self.unanswered += count;
    }

    /// Whether the next answer is about such a message.
    pub(super) fn forget_answer(&mut self) -> bool {
        let late = self.unanswered > 0;
        self.unanswered = self.unanswered.saturating_sub(1);
        late
    }

    /// Whether a turn can go on in this conversation. One that was opened when nobody could be
    /// asked, or the other way round, is opened anew where nothing is forgotten by that: an agent
    /// with a sandbox chose by it what it does unasked. So is one that takes a wanted setting only
    /// at its start.
    pub(super) fn serves(&self, turn: &Turn, asking: Asking) -> bool {
        let place = self.directory == turn.site.directory();
        let program = self.provider.key() == turn.provider.key();
        let set = self.changes(&turn.tuning).at_start.is_empty() && self.asking == asking;
        place && program && (set || !self.provider.abilities().resume)
    }

    /// What the conversation would have to be told for these settings.
    fn changes(&self, wanted: &Tuning) -> Changes {
        Changes::between(&self.asked, wanted, self.provider.abilities(), self.begun)
    }

    /// Tells the conversation what it does not know of these settings; gives what a person has to
    /// know about the rest.
    pub(super) async fn tune(&mut self, wanted: &Tuning) -> Option<String> {
        let changes = self.changes(wanted);
        let words = changes.words();
        if !changes.now.is_empty() {
            self.asked.update(changes.now.clone());
            self.steer(Steer::Tune(changes.now)).await;
        }
        words
    }

    /// Tells the agent something.
    pub(super) async fn steer(&self, what: Steer) {
        if self.conversation.steer.send(what).await.is_err() {
            tracing::debug!("the conversation is over");
        }
    }

    /// Ends the conversation with all it started. A later follow-up resumes by id.
    pub(super) async fn close(mut self, limit: Duration) {
        self.steer(Steer::Close).await;
        let gone = async {
            while let Some(heard) = self.conversation.heard.recv().await {
                if heard == Heard::Gone {
                    break;
                }
            }
        };
        if tokio::time::timeout(limit, gone).await.is_err() {
            tracing::debug!("the agent does not end by itself; it is ended");
        }
    }
}
