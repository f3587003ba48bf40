//! A conversation that is open: with whom, where and how it was opened, and how it ends.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bridge_providers::provider::{Asking, Conversation, Heard, Provider, Steer};

use super::turn::Turn;

/// One open conversation of a task.
pub(super) struct Live {
    pub(super) conversation: Conversation,
    pub(super) provider: Arc<dyn Provider>,
    directory: PathBuf,
    /// What the agent was told about questions when it was started.
    asking: Asking,
    /// The first prompt has been sent.
    pub(super) begun: bool,
}

impl Live {
    pub(super) fn new(
        conversation: Conversation,
        provider: Arc<dyn Provider>,
        directory: &Path,
        asking: Asking,
    ) -> Self {
        Self {
            conversation,
            provider,
            directory: directory.to_owned(),
            asking,
            begun: false,
        }
    }

    /// Whether a turn can go on in this conversation. One that was opened when nobody could be
    /// asked, or the other way round, is opened anew where nothing is forgotten by that: an agent
    /// with a sandbox chose by it what it does unasked.
    pub(super) fn serves(&self, turn: &Turn, asking: Asking) -> bool {
        let place = self.directory == turn.site.directory();
        let program = self.provider.key() == turn.provider.key();
        place && program && (self.asking == asking || !self.provider.abilities().resume)
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
