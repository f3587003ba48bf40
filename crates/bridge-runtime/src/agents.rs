//! The agents that live here: what the plane synced, what this machine's own programs name, who was
//! removed.

use std::collections::{BTreeMap, BTreeSet};

use bridge_proto::{
    AgentId, ProviderKey,
    model::{AgentPatch, AgentProfile},
};

/// The table of agents. In memory only: after a restart the plane syncs them again, and what is
/// found here is found again.
#[derive(Debug, Default)]
pub struct Agents {
    known: BTreeMap<AgentId, AgentProfile>,
    found: BTreeMap<AgentId, AgentProfile>,
    /// Whose folder was there at the last look.
    existing: BTreeSet<AgentId>,
    /// What the plane changed about agents that are found, where no file keeps it.
    patches: BTreeMap<AgentId, AgentPatch>,
    tombstones: BTreeSet<AgentId>,
}

/// Why a list of agents was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    /// With the agents of other providers there would be more than [`MAX_AGENTS`].
    #[error("more than {MAX_AGENTS} agents in all")]
    TooMany,
    /// Their texts together would have more than [`MAX_TEXTS`].
    #[error("names and descriptions of all agents have more than {MAX_TEXTS} bytes")]
    TooLarge,
}

impl Agents {
    /// Takes the whole list of one provider. Agents of that provider that are missing from it are
    /// removed and tombstoned, except those found on this machine; an id that comes back in a
    /// later list lives again (decision 23). A list that is refused changes nothing.
    pub fn sync(
        &mut self,
        provider: &ProviderKey,
        list: Vec<AgentProfile>,
    ) -> Result<(), SyncError> {
        let listed: BTreeSet<AgentId> = list.iter().map(|agent| agent.id.clone()).collect();
        let stays =
            |agent: &&AgentProfile| agent.provider != *provider && !listed.contains(&agent.id);
        let others: Vec<&AgentProfile> = self.known.values().filter(stays).collect();
        if others.len() + list.len() > MAX_AGENTS {
            return Err(SyncError::TooMany);
        }
        let texts: usize = others.into_iter().chain(&list).map(weight).sum();
        if texts > MAX_TEXTS {
            return Err(SyncError::TooLarge);
        }
        let gone: Vec<AgentId> = self
            .known
            .values()
            .filter(|agent| agent.provider == *provider)
            .filter(|agent| !listed.contains(&agent.id))
            .map(|agent| agent.id.clone())
            .collect();
        for id in gone {
            self.bury(id);
        }
        for mut agent in list {
            self.tombstones.remove(&agent.id);
            agent.provider = provider.clone();
            // "No explicit model" is written as the provider's own key.
            agent.model = agent
                .model
                .filter(|model| model != provider.as_str() && !model.is_empty());
            if let Some(before) = self.find(&agent.id) {
                if agent.role.is_empty() {
                    agent.role.clone_from(&before.role);
                }
                agent.emoji.clone_from(&before.emoji);
            }
            self.known.insert(agent.id.clone(), agent);
        }
        Ok(())
    }

    /// Takes what this machine's own programs name now, and whose folder is there; whether anything
    /// is different. An agent of the plane wins over one of the same id that was found. A removed
    /// one stays removed, unless it stands in a configuration of its own again: that is the user's
    /// word.
    pub fn on_found(&mut self, list: Vec<AgentProfile>, existing: BTreeSet<AgentId>) -> bool {
        let mut found = BTreeMap::new();
        for mut agent in list {
            if agent.from_filesystem && self.tombstones.contains(&agent.id) {
                continue;
            }
            if let Some(patch) = self.patches.get(&agent.id) {
                apply(patch, &mut agent);
            }
            if found.len() < MAX_AGENTS {
                found.entry(agent.id.clone()).or_insert(agent);
            }
        }
        let changed = self.found != found || self.existing != existing;
        self.found = found;
        self.existing = existing;
        changed
    }

    /// Changes an agent that is here; whether it was changed. Nothing is when its texts would take
    /// more than half a MiB.
    pub fn update(&mut self, id: &AgentId, patch: &AgentPatch) -> bool {
        if let Some(agent) = self.known.get_mut(id) {
            return changed_within_limits(agent, patch);
        }
        let Some(agent) = self.found.get_mut(id) else {
            return false;
        };
        if !changed_within_limits(agent, patch) {
            return false;
        }
        let kept = self.patches.entry(id.clone()).or_default();
        let later = |kept: &mut Option<String>, new: &Option<String>| {
            if new.is_some() {
                kept.clone_from(new);
            }
        };
        later(&mut kept.role, &patch.role);
        later(&mut kept.description, &patch.description);
        if agent.from_filesystem {
            later(&mut kept.name, &patch.name);
            later(&mut kept.model, &patch.model);
            later(&mut kept.workspace, &patch.workspace);
        }
        true
    }

    /// Removes an agent for the life of this process, or until a sync lists it again; whether it
    /// was here.
    pub fn delete(&mut self, id: &AgentId) -> bool {
        let was_here = self.known.contains_key(id) || self.found.contains_key(id);
        self.found.remove(id);
        self.bury(id.clone());
        was_here
    }

    fn bury(&mut self, id: AgentId) {
        self.known.remove(&id);
        self.patches.remove(&id);
        if self
            .found
            .get(&id)
            .is_some_and(|agent| agent.from_filesystem)
        {
            self.found.remove(&id);
        }
        if self.tombstones.len() < MAX_TOMBSTONES {
            self.tombstones.insert(id);
        }
    }

    /// The agent of this id.
    pub fn find(&self, id: &AgentId) -> Option<&AgentProfile> {
        self.known.get(id).or_else(|| self.found.get(id))
    }

    /// Whether a sync or a person at the plane removed this agent.
    pub fn was_removed(&self, id: &AgentId) -> bool {
        self.tombstones.contains(id)
    }

    /// Every agent: those of the plane by id, then those that were found.
    pub fn all(&self) -> impl Iterator<Item = &AgentProfile> {
        let found = self.found.values();
        let found = found.filter(|agent| !self.known.contains_key(&agent.id));
        self.known.values().chain(found)
    }

    /// The agents of a program's own configuration, each with whether its folder is there.
    pub fn configured(&self) -> impl Iterator<Item = (&AgentProfile, bool)> {
        let here = |agent: &AgentProfile| self.existing.contains(&agent.id);
        let found = self.all().filter(|agent| !agent.from_filesystem);
        let found = found.filter(|agent| self.found.contains_key(&agent.id));
        found.map(move |agent| (agent, here(agent)))
    }

    /// The value of the `x-agents` header: as many ids as fit into 4 KiB, because a server that
    /// finds its limit for headers exceeded lets nobody in.
    pub fn header(&self) -> String {
        let mut header = String::new();
        let plain = |id: &&str| id.chars().all(|c| c.is_ascii_graphic() && c != ',');
        for id in self.all().map(|agent| agent.id.as_str()).filter(plain) {
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

fn apply(patch: &AgentPatch, agent: &mut AgentProfile) {
    let set = |into: &mut String, from: &Option<String>| {
        if let Some(text) = from {
            into.clone_from(text);
        }
    };
    set(&mut agent.name, &patch.name);
    set(&mut agent.role, &patch.role);
    set(&mut agent.description, &patch.description);
    let words = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    if let Some(model) = &patch.model {
        agent.model = words(model).filter(|model| model != agent.provider.as_str());
    }
    if let Some(workspace) = &patch.workspace {
        agent.workspace = words(workspace);
    }
}

/// One agent cannot take the room of all; whether the change was made.
fn changed_within_limits(agent: &mut AgentProfile, patch: &AgentPatch) -> bool {
    let mut changed = agent.clone();
    apply(patch, &mut changed);
    let fits = weight(&changed) <= MAX_ONE;
    if fits {
        *agent = changed;
    }
    fits
}

/// Bytes of its texts.
fn weight(agent: &AgentProfile) -> usize {
    let optional = [&agent.model, &agent.workspace];
    let optional: usize = optional.into_iter().flatten().map(String::len).sum();
    let AgentProfile {
        id,
        name,
        role,
        description,
        emoji,
        ..
    } = agent;
    let texts = [id.as_str(), name, role, description, emoji];
    optional + texts.into_iter().map(str::len).sum::<usize>()
}

/// Agents of all providers together; their list is one message.
pub const MAX_AGENTS: usize = 2000;

/// Bytes of all their texts; their list, told every minute, stays far below the limit of a frame.
pub const MAX_TEXTS: usize = 8 << 20;

/// Bytes of the texts of one agent that an update may leave behind.
const MAX_ONE: usize = 512 << 10;

/// Removed agents that are remembered.
const MAX_TOMBSTONES: usize = 10_000;

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
        agents
            .sync(&gemini, vec![agent("a", "gemini"), agent("b", "gemini")])
            .unwrap();
        agents.sync(&demo, vec![agent("c", "demo")]).unwrap();
        agents.sync(&gemini, vec![agent("b", "gemini")]).unwrap();
        assert_eq!(ids(&agents), ["b", "c"]);
        assert!(agents.was_removed(&AgentId::parse("a").unwrap()));
        agents.sync(&gemini, vec![agent("a", "gemini")]).unwrap();
        assert_eq!(ids(&agents), ["a", "c"], "a re-sync lifts the tombstone");
        assert_eq!(agents.header(), "a,c");
    }

    #[test]
    fn the_header_stays_small_however_many_agents_there_are() {
        let mut agents = Agents::default();
        let list = (0..1000).map(|n| agent(&format!("{n:0>100}"), "demo"));
        agents
            .sync(&ProviderKey::parse("demo").unwrap(), list.collect())
            .unwrap();
        let header = agents.header();
        assert!((3900..=4096).contains(&header.len()), "{}", header.len());
        assert!(header.split(',').all(|id| id.len() == 100));
    }

    #[test]
    fn the_provider_key_as_model_means_no_model() {
        let gemini = ProviderKey::parse("gemini").unwrap();
        let mut agents = Agents::default();
        agents.sync(&gemini, vec![agent("a", "gemini")]).unwrap();
        assert_eq!(
            agents.find(&AgentId::parse("a").unwrap()).unwrap().model,
            None
        );
    }

    #[test]
    fn an_agent_that_was_deleted_comes_back_by_a_sync_and_by_nothing_else() {
        let hermes = ProviderKey::parse("hermes").unwrap();
        let local = || AgentProfile {
            from_filesystem: true,
            ..agent("w", "hermes")
        };
        let mut agents = Agents::default();
        assert!(agents.on_found(vec![local()], BTreeSet::new()));
        assert!(
            !agents.on_found(vec![local()], BTreeSet::new()),
            "said once"
        );
        agents.sync(&hermes, vec![agent("x", "hermes")]).unwrap();
        assert_eq!(ids(&agents), ["x", "w"], "found agents are not in the list");
        let w = AgentId::parse("w").unwrap();
        assert!(agents.delete(&w) && !agents.delete(&w));
        agents.on_found(vec![local()], BTreeSet::new());
        assert_eq!(
            ids(&agents),
            ["x"],
            "it is still on the disk, and was deleted"
        );
        agents.sync(&hermes, vec![agent("w", "hermes")]).unwrap();
        assert_eq!(ids(&agents), ["w"]);
        agents.sync(&hermes, Vec::new()).unwrap();
        agents.on_found(vec![local()], BTreeSet::new());
        assert_eq!(ids(&agents), Vec::<&str>::new());
    }

    #[test]
    fn a_configuration_of_its_own_has_the_last_word_about_its_agents() {
        let scout = || agent("scout", "openclaw");
        let mut agents = Agents::default();
        let here = || BTreeSet::from([AgentId::parse("scout").unwrap()]);
        agents.on_found(vec![scout()], here());
        agents.delete(&here().pop_first().unwrap());
        assert_eq!(ids(&agents), Vec::<&str>::new());
        agents.on_found(vec![scout()], here());
        assert_eq!(ids(&agents), ["scout"]);
        let shown: Vec<bool> = agents.configured().map(|(_, here)| here).collect();
        assert_eq!(shown, [true]);
        let gemini = ProviderKey::parse("gemini").unwrap();
        agents
            .sync(&gemini, vec![agent("scout", "gemini")])
            .unwrap();
        let id = here().pop_first().unwrap();
        assert_eq!(
            agents.find(&id).unwrap().provider,
            gemini,
            "the plane's wins"
        );
    }

    #[test]
    fn an_update_changes_what_it_carries_and_survives_the_next_look() {
        let local = || AgentProfile {
            from_filesystem: true,
            ..agent("w", "hermes")
        };
        let w = AgentId::parse("w").unwrap();
        let mut agents = Agents::default();
        let patch = AgentPatch {
            description: Some("Be brief.".into()),
            model: Some("m".into()),
            ..AgentPatch::default()
        };
        assert!(!agents.update(&w, &patch), "nobody of that name");
        agents.on_found(vec![local()], BTreeSet::new());
        assert!(agents.update(&w, &patch));
        agents.on_found(vec![local()], BTreeSet::new());
        let found = agents.find(&w).unwrap();
        assert_eq!(
            (found.name.as_str(), found.model.as_deref()),
            ("w", Some("m"))
        );
        assert_eq!(found.description, "Be brief.");
        let back = AgentPatch {
            model: Some("hermes".into()),
            ..AgentPatch::default()
        };
        agents.update(&w, &back);
        assert_eq!(agents.find(&w).unwrap().model, None, "the key is no model");
    }

    #[test]
    fn a_plane_cannot_fill_the_memory_with_agents() {
        let mut agents = Agents::default();
        let fill = |agents: &mut Agents, key: &str, many: usize, text: usize| {
            let list = (0..many).map(|n| AgentProfile {
                description: "x".repeat(text),
                ..agent(&format!("{key}-{n}"), key)
            });
            agents.sync(&ProviderKey::parse(key).unwrap(), list.collect())
        };
        assert_eq!(fill(&mut agents, "a", 1000, 10), Ok(()));
        assert_eq!(fill(&mut agents, "b", 1000, 10), Ok(()));
        assert_eq!(fill(&mut agents, "c", 1, 10), Err(SyncError::TooMany));
        assert_eq!(
            fill(&mut agents, "b", 10, 1 << 20),
            Err(SyncError::TooLarge)
        );
        assert_eq!(
            agents.all().count(),
            2000,
            "what was refused changed nothing"
        );
        let long = AgentPatch {
            description: Some("x".repeat(1 << 20)),
            ..AgentPatch::default()
        };
        let id = AgentId::parse("a-1").unwrap();
        assert!(!agents.update(&id, &long));
        assert_eq!(agents.find(&id).unwrap().description.len(), 10);
    }
}
