//! Runs that came from a folder: who does them, who watches, and what their folder is told.

use std::{collections::HashMap, time::Duration};

use bridge_proto::{
    AgentId, RunKey,
    ctrlnode::RunFacts,
    model::{AgentProfile, EventBody, Outcome, Rejection, Source},
};
use bridge_workspace::{DropBox, EndedRun, RunEntry, Workspace};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use super::Daemon;
use crate::drops::{AT_ONCE, DropNews, DropSettings, DropWord};

/// The two ends of what is said about them.
pub(super) type Words = (mpsc::Sender<DropWord>, mpsc::Receiver<DropWord>);

/// A run that is handed on has two words: that it is at work, and its end.
pub(super) fn words() -> Words {
    mpsc::channel(2 * AT_ONCE)
}

impl Daemon {
    /// How runs from folders ended that no runner of this process will end.
    pub(super) fn ended_of(
        &self,
        interrupted: Vec<RunKey>,
        mut before: HashMap<RunKey, Outcome>,
    ) -> HashMap<RunKey, Outcome> {
        for run in interrupted {
            if let Some((EventBody::Ended { outcome }, _)) = self.ends.get(&run) {
                before.insert(run, outcome.clone());
            }
        }
        before
    }

    /// The agent that was asked for. A folder may also name a provider, which needs no plane to
    /// have made an agent of it.
    pub(super) fn agent_for(&self, agent: &AgentId, source: Source) -> Option<AgentProfile> {
        let known = self.agents.find(agent).cloned();
        known.or_else(|| {
            let from_here = source == Source::Folder;
            let provider = self.providers.get(agent.as_str()).filter(|_| from_here)?;
            Some(AgentProfile {
                id: agent.clone(),
                name: agent.to_string(),
                provider: provider.key().clone(),
                model: None,
                workspace: None,
                role: String::new(),
                description: String::new(),
                emoji: String::new(),
                from_filesystem: false,
            })
        })
    }

    /// Whether somebody sees what this run asks: our hub knows nothing of runs from folders.
    pub(super) fn is_watched(&self, facts: &RunFacts) -> bool {
        self.viewer == Some(true) && facts.origin.source != Source::Folder
    }

    pub(super) fn tell_folder(&self, run: &RunKey, facts: &RunFacts, news: DropNews) {
        let Some(drops) = self.drops.as_ref() else {
            return;
        };
        if facts.origin.source != Source::Folder {
            return;
        }
        let run = run.clone();
        if let Err(error) = drops.try_send(DropWord { run, news }) {
            tracing::error!(%error, "a dropped task is not told what became of it");
        }
    }

    /// A rejection in words for the person who wrote the task.
    pub(super) fn rejection_of_a_folder(&self, agent: &AgentId, rejection: &Rejection) -> DropNews {
        let (reason, may_mend) = match rejection {
            Rejection::AgentNotFound => {
                let agents = self.agents.all().map(|agent| agent.id.to_string());
                let mut here: Vec<String> = agents.take(MOST_NAMED).collect();
                here.extend(self.providers.keys().map(ToString::to_string));
                here.sort_unstable();
                here.dedup();
                let here = here.join(", ");
                let reason = format!(
                    "no agent is called {agent} here, only {here}; this is tried again every minute"
                );
                (reason, true)
            }
            Rejection::MissingIntentPayload => ("the task is empty".to_owned(), false),
            Rejection::ProviderNotActive { provider } => {
                let reason = format!(
                    "the agent {agent} needs {provider}, which this bridge does not run; this is \
                     tried again every minute"
                );
                (reason, true)
            }
            Rejection::PlaceRefused { reason } => (reason.clone(), false),
        };
        DropNews::Rejected { reason, may_mend }
    }
}

/// The dropped tasks, where they are looked for.
pub(super) fn open(
    workspace: &Workspace,
    settings: Option<&DropSettings>,
) -> Option<(DropBox, DropSettings)> {
    let settings = settings?.clone();
    match workspace.drop_box() {
        Ok(drops) => Some((drops, settings)),
        Err(error) => {
            tracing::error!(%error, "dropped tasks are not looked for");
            None
        }
    }
}

/// Those of these runs that came from a folder.
pub(super) fn from_folders(runs: &[RunEntry]) -> Vec<RunKey> {
    let of_folders = runs
        .iter()
        .filter(|entry| entry.origin.source == Source::Folder);
    of_folders.map(|entry| entry.run.clone()).collect()
}

/// Waits until the folders of the last runs were told.
pub(super) async fn last_words(porter: Option<JoinHandle<()>>) {
    let Some(mut porter) = porter else {
        return;
    };
    match timeout(LAST_WORDS, &mut porter).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "looking after dropped tasks failed"),
        Err(_) => porter.abort(),
    }
}

/// How runs of folders ended before this start.
pub(super) fn ended_before<'a>(
    ended: impl Iterator<Item = &'a EndedRun>,
) -> HashMap<RunKey, Outcome> {
    ended
        .filter(|ended| ended.entry.origin.source == Source::Folder)
        .map(|ended| (ended.entry.run.clone(), ended.outcome.clone()))
        .collect()
}

/// So many agents are named to somebody who named one that is not here.
const MOST_NAMED: usize = 50;
/// How long the folders of the last runs may take.
const LAST_WORDS: Duration = Duration::from_secs(5);
