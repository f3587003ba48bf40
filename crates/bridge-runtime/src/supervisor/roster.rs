//! Single agents: what the plane changes about them, in the table and in the configuration of their
//! program, and what it wants to know of them.

use bridge_proto::{
    AgentId,
    model::{AgentPatch, CapabilityQuery, Origin},
};
use bridge_providers::provider::AgentEdit;
use bridge_transport::ConnId;
use tokio::sync::mpsc::error::TrySendError;

use super::{Daemon, commands::with_causes};
use crate::capabilities::{SkillQuestion, refuse};

impl Daemon {
    pub(super) async fn on_update(&mut self, agent: AgentId, patch: AgentPatch) {
        let known = self.agents.find(&agent).is_some();
        if known && !self.agents.update(&agent, &patch) {
            tracing::warn!(%agent, "a change with too much text was not made");
            return;
        }
        // An agent the plane made for a program with a configuration may be made there as well.
        let edit = AgentEdit::Update {
            agent: agent.clone(),
            patch,
            create: known,
        };
        let edited = self.edit(&agent, edit).await;
        if known || edited {
            self.agents_changed().await;
        }
    }

    pub(super) async fn on_delete(&mut self, agent: AgentId) {
        // Found before the agent is forgotten: who it belongs to says whose file it may stand in.
        let edit = AgentEdit::Remove {
            agent: agent.clone(),
        };
        let edited = self.edit(&agent, edit).await;
        if self.agents.delete(&agent) || edited {
            tracing::info!(%agent, "agent removed");
            self.agents_changed().await;
        }
    }

    /// In the configuration of the agent's own program; of an agent that is not known, in each that
    /// names it. Whether anything was changed there.
    async fn edit(&self, agent: &AgentId, edit: AgentEdit) -> bool {
        let known = self.agents.find(agent).map(|agent| &agent.provider);
        let providers: Vec<_> = match known {
            Some(key) => self.providers.get(key).cloned().into_iter().collect(),
            None => self.providers.values().cloned().collect(),
        };
        let edited = tokio::task::spawn_blocking(move || {
            let mut changed = false;
            for provider in providers {
                match provider.edit_agent(&edit) {
                    Ok(done) => changed |= done,
                    Err(error) => {
                        let error = with_causes(&error);
                        tracing::warn!(provider = %provider.key(), error, "an agent's configuration stays as it is");
                    }
                }
            }
            changed
        });
        let edited = edited.await.unwrap_or_else(|error| {
            tracing::error!(%error, "changing an agent's configuration failed");
            false
        });
        if edited {
            // What stands there now may be more than was asked for.
            self.look_around();
        }
        edited
    }

    /// Handed on at once; the answer comes when it is known.
    pub(super) fn on_skills_asked(&mut self, query: CapabilityQuery, origin: Origin, conn: ConnId) {
        let agent = query.agent.as_deref();
        let agent = agent.and_then(|agent| AgentId::parse(agent).ok());
        let agent = agent.and_then(|agent| self.agents.find(&agent));
        let provider = agent.and_then(|agent| self.providers.get(&agent.provider));
        let question = SkillQuestion {
            provider: provider.cloned(),
            query,
            origin,
            conn,
        };
        match self.desk.try_send(question) {
            Ok(()) => {}
            Err(TrySendError::Full(question) | TrySendError::Closed(question)) => {
                let link = self.link.clone();
                self.closing
                    .spawn(async move { refuse(&question, &link).await });
            }
        }
    }

    pub(super) async fn agents_changed(&mut self) {
        self.greet();
        self.announce_agents(true).await;
        self.heartbeat().await;
    }
}
