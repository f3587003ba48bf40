//! An agent that notes how each of its conversations was opened, and is another one in all else.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bridge_proto::{ProviderKey, model::Health};
use bridge_providers::provider::{
    Abilities, Conversation, Found, ListError, Provider, RunSpec, StartError,
};
use tokio::sync::watch;

/// The agent with its notes.
pub struct Recorder {
    agent: Arc<dyn Provider>,
    opened: watch::Sender<Vec<RunSpec>>,
}

impl Recorder {
    /// Beside this agent.
    pub fn of(agent: Arc<dyn Provider>) -> Arc<Self> {
        let opened = watch::Sender::default();
        Arc::new(Self { agent, opened })
    }

    /// How its conversations were opened so far, in order.
    pub fn opened(&self) -> Vec<RunSpec> {
        self.opened.borrow().clone()
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("agent", self.agent.key())
            .field("opened", &self.opened.borrow().len())
            .finish()
    }
}

#[async_trait]
impl Provider for Recorder {
    fn key(&self) -> &ProviderKey {
        self.agent.key()
    }

    fn abilities(&self) -> Abilities {
        self.agent.abilities()
    }

    fn find(&self) -> Found {
        self.agent.find()
    }

    async fn probe(&self, limit: Duration) -> Health {
        self.agent.probe(limit).await
    }

    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError> {
        self.agent.models(limit).await
    }

    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        self.opened.send_modify(|opened| opened.push(spec.clone()));
        self.agent.open(spec).await
    }
}
