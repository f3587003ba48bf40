//! The agents that live here: what the plane synced, who was removed, who works.

use std::collections::{BTreeMap, BTreeSet};

use bridge_proto::{AgentId, ProviderKey, model::AgentProfile};

/// The table of agents. In memory only: after a restart the plane syncs them again.
#[derive(Debug, Default)]
pub struct Agents {
    known: BTreeMap<AgentId, AgentProfile>,
    tombstones: BTreeSet<AgentId>,
}

impl Agents {
    /// Takes the whole list of one provider. Agents of that provider that are missing from it are
    /// removed and tombstoned, except those found on this machine; an id that comes back in a
    /// later list lives again (decision 23).
    pub fn sync(&mut self, provider: &ProviderKey, list: Vec<AgentProfile>) {
        let listed: BTreeSet<AgentId> = list.iter().map(|agent| agent.id.clone()).collect();
        let gone: Vec<AgentId> = self
            .known
            .values()
            .filter(|agent| agent.provider == *provider && !agent.from_filesystem)
            .filter(|agent| !listed.contains(&agent.id))
            .map(|agent| agent.id.clone())
            .collect();
        for id in gone {
            self.known.remove(&id);
            self.tombstones.insert(id);
        }
        for mut agent in list {
            self.tombstones.remove(&agent.id);
            agent.provider = provider.clone();
            // "No explicit model" is written as the provider's own key.
            agent.model = agent
                .model
                .filter(|model| model != provider.as_str() && !model.is_empty());
            if let Some(before) = self.known.get(&agent.id) {
                if agent.role.is_empty() {
                    agent.role.clone_from(&before.role);
                }
                agent.emoji.clone_from(&before.emoji);
            }
            self.known.insert(agent.id.clone(), agent);
        }
    }

    /// The agent of this id.
    pub fn find(&self, id: &AgentId) -> Option<&AgentProfile> {
        self.known.get(id)
    }

    /// Whether a sync removed this agent.
    pub fn was_removed(&self, id: &AgentId) -> bool {
        self.tombstones.contains(id)
    }

    /// Every agent, by id.
    pub fn all(&self) -> impl Iterator<Item = &AgentProfile> {
        self.known.values()
    }

    /// The value of the `x-agents` header: as many ids as fit into 4 KiB, because a server that
    /// finds its limit for headers exceeded lets nobody in.
    pub fn header(&self) -> String {
        let mut header = String::new();
        let plain = |id: &&str| id.chars().all(|c| c.is_ascii_graphic() && c != ',');
        for id in self.known.keys().map(AgentId::as_str).filter(plain) {
            if header.len() + id.len() >= HEADER_BYTES {
                break;
            }
            if !header.is_empty() {
                header.push(',');
            }
            header.push_str(id);
        }
        header
    }
}

/// Half of the smallest limit for all headers that is in use.
const HEADER_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(id: &str, provider: &str) -> AgentProfile {
        AgentProfile {
            id: AgentId::parse(id).unwrap(),
            name: id.into(),
            provider: ProviderKey::parse(provider).unwrap(),
            model: Some(provider.into()),
            workspace: None,
            role: String::new(),
            description: String::new(),
            emoji: String::new(),
            from_filesystem: false,
        }
    }

    fn ids(agents: &Agents) -> Vec<&str> {
        agents.all().map(|agent| agent.id.as_str()).collect()
    }

    #[test]
    fn a_sync_replaces_the_agents_of_its_provider_only() {
        let (gemini, demo) = (
            ProviderKey::parse("gemini").unwrap(),
            ProviderKey::parse("demo").unwrap(),
        );
        let mut agents = Agents::default();
        agents.sync(&gemini, vec![agent("a", "gemini"), agent("b", "gemini")]);
        agents.sync(&demo, vec![agent("c", "demo")]);
        agents.sync(&gemini, vec![agent("b", "gemini")]);
        assert_eq!(ids(&agents), ["b", "c"]);
        assert!(agents.was_removed(&AgentId::parse("a").unwrap()));
        agents.sync(&gemini, vec![agent("a", "gemini")]);
        assert_eq!(ids(&agents), ["a", "c"], "a re-sync lifts the tombstone");
        assert_eq!(agents.header(), "a,c");
    }

    #[test]
    fn the_header_stays_small_however_many_agents_there_are() {
        let mut agents = Agents::default();
        let list = (0..1000).map(|n| agent(&format!("{n:0>100}"), "demo"));
        agents.sync(&ProviderKey::parse("demo").unwrap(), list.collect());
        let header = agents.header();
        assert!((3900..=4096).contains(&header.len()), "{}", header.len());
        assert!(header.split(',').all(|id| id.len() == 100));
    }

    #[test]
    fn the_provider_key_as_model_means_no_model() {
        let gemini = ProviderKey::parse("gemini").unwrap();
        let mut agents = Agents::default();
        agents.sync(&gemini, vec![agent("a", "gemini")]);
        assert_eq!(
            agents.find(&AgentId::parse("a").unwrap()).unwrap().model,
            None
        );
    }
}
