//! Which tree of files a request is about: what it names, which providers are here, and where the
//! agents live. Pure but for the list of agents, which the supervisor keeps up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use bridge_proto::{
    AgentId, ProviderKey,
    model::{AgentProfile, FileRoot, FileScope},
};
use bridge_workspace::Tree;
use tokio::sync::watch;

/// The agents that file requests may name, by id.
pub(crate) type Residents = Arc<BTreeMap<AgentId, Resident>>;

/// Where an agent belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resident {
    provider: ProviderKey,
    workspace: Option<String>,
}

impl Resident {
    /// Where it works, if it is one of OpenClaw's.
    pub(crate) fn openclaw_workspace(&self) -> Option<&str> {
        let workspace = self.workspace.as_deref();
        workspace.filter(|_| is_openclaw(&self.provider))
    }
}

/// The agents as file requests see them.
pub(crate) fn residents<'a>(agents: impl Iterator<Item = &'a AgentProfile>) -> Residents {
    let resident = |agent: &AgentProfile| Resident {
        provider: agent.provider.clone(),
        workspace: agent.workspace.clone(),
    };
    Arc::new(
        agents
            .map(|agent| (agent.id.clone(), resident(agent)))
            .collect(),
    )
}

/// What the choice of a tree depends on.
#[derive(Debug)]
pub(crate) struct Homes {
    /// The providers of this daemon.
    pub(crate) providers: BTreeSet<ProviderKey>,
    /// Whether OpenClaw's own folder is here.
    pub(crate) openclaw: bool,
    /// Who lives here.
    pub(crate) residents: watch::Receiver<Residents>,
}

impl Homes {
    /// The first that fits: the base where it is asked for; the root of the provider that is named,
    /// and of the first one here when that is none of this daemon's; the task tree where it is
    /// asked for; the root of the agent's owner; the first root there is.
    pub(crate) fn tree_of(&self, scope: &FileScope) -> Option<Tree> {
        let residents = self.residents.borrow().clone();
        let agent = scope.agent.as_ref().and_then(|id| residents.get(id));
        let tasks = match scope.root {
            FileRoot::Base => return Some(Tree::Base),
            FileRoot::Ctrlnode => true,
            FileRoot::Owner => false,
        };
        match (&scope.provider, agent) {
            (Some(provider), _) if self.is_here(provider) => root(provider, tasks, agent),
            (Some(_), _) => {
                let task_tree = tasks.then_some(Tree::Ctrlnode);
                self.first_root(tasks, agent).or(task_tree)
            }
            (None, _) if tasks => Some(Tree::Ctrlnode),
            (None, Some(owned)) if self.is_here(&owned.provider) => {
                let own = root(&owned.provider, tasks, agent);
                own.or_else(|| self.any_root(tasks, agent))
            }
            (None, _) => self.any_root(tasks, agent),
        }
    }

    fn is_here(&self, provider: &ProviderKey) -> bool {
        self.providers.contains(provider) && (self.openclaw || !is_openclaw(provider))
    }

    /// Of the first provider, which is OpenClaw where it is here; it may have none.
    fn first_root(&self, tasks: bool, agent: Option<&Resident>) -> Option<Tree> {
        let openclaw = self.providers.iter().find(|key| is_openclaw(key));
        match openclaw.filter(|key| self.is_here(key)) {
            Some(openclaw) => root(openclaw, tasks, agent),
            None => self.other_root(),
        }
    }

    /// Of the first provider that has one.
    fn any_root(&self, tasks: bool, agent: Option<&Resident>) -> Option<Tree> {
        self.first_root(tasks, agent).or_else(|| self.other_root())
    }

    fn other_root(&self) -> Option<Tree> {
        let others = self.providers.iter().any(|key| !is_openclaw(key));
        others.then_some(Tree::Ctrlnode)
    }
}

/// The root of a provider that is here.
fn root(provider: &ProviderKey, tasks: bool, agent: Option<&Resident>) -> Option<Tree> {
    if !is_openclaw(provider) {
        return Some(Tree::Ctrlnode);
    }
    if tasks {
        return Some(Tree::OpenclawTasks);
    }
    let agent = agent.filter(|agent| is_openclaw(&agent.provider));
    let workspace = agent.and_then(|agent| agent.workspace.as_deref());
    workspace.map(|path| Tree::OpenclawAgent(PathBuf::from(path)))
}

fn is_openclaw(provider: &ProviderKey) -> bool {
    provider.as_str() == "openclaw"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> ProviderKey {
        ProviderKey::parse(text).unwrap()
    }

    fn homes(providers: &[&str], openclaw: bool) -> Homes {
        let resident = |id: &str, provider: &str, workspace: Option<&str>| {
            let resident = Resident {
                provider: key(provider),
                workspace: workspace.map(Into::into),
            };
            (AgentId::parse(id).unwrap(), resident)
        };
        let residents = BTreeMap::from([
            resident("claw", "openclaw", Some("/claw/workspace")),
            resident("bare", "openclaw", None),
            resident("dev", "gemini", Some("/home/dev/web")),
        ]);
        Homes {
            providers: providers.iter().map(|text| key(text)).collect(),
            openclaw,
            residents: watch::channel(Arc::new(residents)).1,
        }
    }

    fn scope(root: FileRoot, provider: Option<&str>, agent: Option<&str>) -> FileScope {
        FileScope {
            root,
            agent: agent.map(|id| AgentId::parse(id).unwrap()),
            provider: provider.map(key),
        }
    }

    fn claw() -> Tree {
        Tree::OpenclawAgent("/claw/workspace".into())
    }

    #[test]
    fn the_base_is_the_base_whatever_else_is_named() {
        for homes in [homes(&["gemini", "openclaw"], true), homes(&[], false)] {
            let asked = scope(FileRoot::Base, Some("openclaw"), Some("claw"));
            assert_eq!(homes.tree_of(&asked), Some(Tree::Base));
        }
    }

    #[test]
    fn a_provider_that_is_here_has_the_word() {
        let homes = homes(&["gemini", "openclaw"], true);
        for (root, provider, agent, tree) in [
            (FileRoot::Ctrlnode, "gemini", "claw", Some(Tree::Ctrlnode)),
            (FileRoot::Owner, "gemini", "claw", Some(Tree::Ctrlnode)),
            (
                FileRoot::Ctrlnode,
                "openclaw",
                "claw",
                Some(Tree::OpenclawTasks),
            ),
            (FileRoot::Owner, "openclaw", "claw", Some(claw())),
            (FileRoot::Owner, "openclaw", "bare", None),
            (FileRoot::Owner, "openclaw", "dev", None),
            (FileRoot::Owner, "openclaw", "nobody", None),
        ] {
            let asked = scope(root, Some(provider), Some(agent));
            assert_eq!(homes.tree_of(&asked), tree, "{asked:?}");
        }
    }

    #[test]
    fn instead_of_a_provider_that_is_not_here_the_first_one_is_asked() {
        let with = homes(&["gemini", "openclaw"], true);
        let without = homes(&["gemini", "openclaw"], false);
        let nobody = homes(&[], false);
        for (homes, root, agent, tree) in [
            (&with, FileRoot::Ctrlnode, "claw", Some(Tree::OpenclawTasks)),
            (&with, FileRoot::Owner, "claw", Some(claw())),
            (&with, FileRoot::Owner, "dev", None),
            (&without, FileRoot::Ctrlnode, "claw", Some(Tree::Ctrlnode)),
            (&without, FileRoot::Owner, "claw", Some(Tree::Ctrlnode)),
            (&nobody, FileRoot::Ctrlnode, "claw", Some(Tree::Ctrlnode)),
            (&nobody, FileRoot::Owner, "claw", None),
        ] {
            let asked = scope(root, Some("hermes"), Some(agent));
            assert_eq!(homes.tree_of(&asked), tree, "{homes:?} {asked:?}");
        }
        let asked = scope(FileRoot::Owner, Some("openclaw"), Some("claw"));
        assert_eq!(without.tree_of(&asked), Some(Tree::Ctrlnode));
    }

    #[test]
    fn without_a_provider_the_task_tree_or_the_owner_of_the_agent_is_meant() {
        let with = homes(&["gemini", "openclaw"], true);
        let nobody = homes(&[], false);
        for (homes, root, agent, tree) in [
            (
                &with,
                FileRoot::Ctrlnode,
                Some("claw"),
                Some(Tree::Ctrlnode),
            ),
            (&with, FileRoot::Owner, Some("claw"), Some(claw())),
            (&with, FileRoot::Owner, Some("dev"), Some(Tree::Ctrlnode)),
            (&with, FileRoot::Owner, Some("bare"), Some(Tree::Ctrlnode)),
            (&with, FileRoot::Owner, None, Some(Tree::Ctrlnode)),
            (&nobody, FileRoot::Owner, None, None),
        ] {
            let asked = scope(root, None, agent);
            assert_eq!(homes.tree_of(&asked), tree, "{homes:?} {asked:?}");
        }
    }
}
