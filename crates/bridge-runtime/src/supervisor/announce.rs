//! What the machine says of itself, and the looks at the machine behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bridge_proto::{
    AgentId, ProviderKey,
    ctrlnode::{Profile, encode_notice},
    model::{
        AgentProfile, AgentStatus, Can, Health, HealthReason, Heartbeat, Hello, Notice,
        ProviderReport,
    },
};
use bridge_providers::provider::{Abilities, Provider};
use bridge_transport::{Greeting, TextFrame};
use bridge_workspace::Workspace;
use http::{HeaderName, HeaderValue};
use serde_json::json;

use super::{Daemon, Scan, Settings};
use crate::{clock::now, homes::residents, manifest::PlaneWords, outgoing::Outgoing};

/// What announcements need and never changes.
#[derive(Debug)]
pub(super) struct Announcer {
    /// With a leading `v`, as the wire wants it.
    version: String,
    hostname: String,
    root: String,
}

impl Announcer {
    pub(super) fn new(settings: &Settings, workspace: &Arc<Workspace>) -> Self {
        Self {
            version: wire_version(settings),
            hostname: settings.hostname.clone(),
            root: workspace.root().display().to_string(),
        }
    }
}

/// The greeting of the first connection, from file look-ups alone (decision 5). The supervisor
/// keeps it current afterwards.
pub fn first_greeting(settings: &Settings, providers: &[Arc<dyn Provider>]) -> Greeting {
    let available = providers
        .iter()
        .filter(|provider| provider.find().health.available);
    let agents = own_agents(providers.iter());
    let agents: Vec<_> = agents
        .into_iter()
        .filter(|agent| !agent.from_filesystem)
        .collect();
    let hello = Hello {
        version: wire_version(settings),
        providers: Vec::new(),
        hostname: settings.hostname.clone(),
        existing: existing(&agents).into_iter().collect(),
        agents,
    };
    greeting(&hello, "", available, &PlaneWords::default())
}

fn greeting<'a>(
    hello: &Hello,
    agents: &str,
    available: impl Iterator<Item = &'a Arc<dyn Provider>>,
    words: &PlaneWords,
) -> Greeting {
    let header = |name, value: &str| {
        let value = HeaderValue::from_str(value).ok()?;
        Some((HeaderName::from_static(name), value))
    };
    let headers = [
        header("x-bridge-version", &hello.version),
        header("x-agents", agents),
    ];
    let available: Vec<_> = available.collect();
    let frames = |profile| -> Vec<TextFrame> {
        let shown = available
            .iter()
            .filter(|provider| is_shown(provider.abilities(), profile));
        let shown: Vec<_> = shown.map(|provider| provider.key().clone()).collect();
        let providers = match profile {
            Profile::Plain => words.narrowed(shown, |key| key),
            Profile::Extended => shown,
        };
        let hello = Hello {
            providers,
            ..hello.clone()
        };
        let frames = encode_notice(&Notice::Hello(hello), profile);
        frames.into_iter().map(TextFrame::from).collect()
    };
    Greeting {
        headers: headers.into_iter().flatten().collect(),
        frames: frames(Profile::Plain),
        extended_frames: Some(frames(Profile::Extended)),
    }
}

/// The agents that programs on this machine name in their own configuration.
fn own_agents<'a>(providers: impl Iterator<Item = &'a Arc<dyn Provider>>) -> Vec<AgentProfile> {
    providers
        .flat_map(|provider| provider.own_agents())
        .collect()
}

fn existing(agents: &[AgentProfile]) -> BTreeSet<AgentId> {
    let here = |agent: &&AgentProfile| {
        let folder = agent.workspace.as_deref();
        folder.is_some_and(|folder| Path::new(folder).is_dir())
    };
    agents
        .iter()
        .filter(here)
        .map(|agent| agent.id.clone())
        .collect()
}

/// Some providers are for one sort of plane only (decision 16).
fn is_shown(abilities: Abilities, profile: Profile) -> bool {
    match profile {
        Profile::Plain => !abilities.hub_only,
        Profile::Extended => !abilities.plain_only,
    }
}

/// What our hub has to know of an agent's abilities, to offer it to people.
fn can(abilities: Abilities) -> Can {
    Can {
        inject: abilities.inject,
        model: abilities.model,
        mode: abilities.mode,
        effort: abilities.effort,
    }
}

fn wire_version(settings: &Settings) -> String {
    format!("v{}", settings.version)
}

impl Scan {
    /// Looks who lives here; reads files.
    pub(super) fn of_agents(providers: &[Arc<dyn Provider>]) -> Self {
        let agents = own_agents(providers.iter());
        let existing = existing(&agents);
        Self::Agents(agents, existing)
    }
}

impl Daemon {
    /// Refreshes the greeting of the next connection.
    pub(super) fn greet(&self) {
        let configured: Vec<_> = self.agents.configured().collect();
        let here = configured.iter().filter(|(_, here)| *here);
        let hello = Hello {
            version: self.announcer.version.clone(),
            providers: Vec::new(),
            hostname: self.announcer.hostname.clone(),
            existing: here.map(|(agent, _)| agent.id.clone()).collect(),
            agents: configured
                .into_iter()
                .map(|(agent, _)| agent.clone())
                .collect(),
        };
        let available = self.providers.values();
        let available = available.filter(|provider| self.health.is_available(provider.key()));
        self.link.greet(greeting(
            &hello,
            &self.agents.header(),
            available,
            &self.words,
        ));
    }

    /// Keeps what this plane may know of.
    fn shown<V>(&self, mut map: BTreeMap<ProviderKey, V>) -> BTreeMap<ProviderKey, V> {
        let profile = match self.viewer {
            Some(true) => Profile::Extended,
            Some(false) => Profile::Plain,
            // Every connection is told everything when it opens.
            None => return BTreeMap::new(),
        };
        map.retain(|key, _| {
            let provider = self.providers.get(key);
            provider.is_some_and(|provider| is_shown(provider.abilities(), profile))
        });
        match profile {
            Profile::Extended => map,
            Profile::Plain => {
                let left = self
                    .words
                    .narrowed(map.into_iter().collect(), |(key, _)| key);
                left.into_iter().collect()
            }
        }
    }

    pub(super) async fn announce_agents(&self, with_version: bool) {
        self.residents.send_replace(residents(self.agents.all()));
        let agents: Vec<_> = self.agents.all().cloned().collect();
        if agents.is_empty() {
            return;
        }
        let root = self.announcer.root.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let exists = |workspace: Option<&str>| Path::new(workspace.unwrap_or(&root)).is_dir();
            let existing = agents
                .iter()
                .filter(|agent| exists(agent.workspace.as_deref()))
                .map(|agent| agent.id.clone())
                .collect();
            (agents, existing)
        });
        let Ok((agents, existing)) = looked.await else {
            return;
        };
        let notice = Notice::Agents {
            version: with_version.then(|| self.announcer.version.clone()),
            agents,
            default_workspace: self.announcer.root.clone(),
            existing,
            hostname: self.announcer.hostname.clone(),
        };
        self.push(Outgoing::notice(notice)).await;
    }

    /// What is known of every provider.
    fn reports(&self) -> BTreeMap<ProviderKey, ProviderReport> {
        let report = |(key, health): (ProviderKey, Health)| {
            let provider = self.providers.get(&key);
            let report = ProviderReport {
                health,
                can: provider.map(|provider| can(provider.abilities())),
                trouble: self.health.trouble(&key).cloned(),
            };
            (key, report)
        };
        self.health.report().into_iter().map(report).collect()
    }

    /// Something about a provider has changed: for the plane, and for programs of this machine.
    pub(super) async fn health_changed(&self) {
        self.announce_health().await;
        let status = json!({
            "pid": std::process::id(),
            "at": now(),
            "providers": self.reports(),
        });
        let workspace = Arc::clone(&self.workspace);
        let written = tokio::task::spawn_blocking(move || {
            workspace.write_status(status.to_string().as_bytes())
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the status file cannot be written"),
            Err(error) => tracing::error!(%error, "writing the status file failed"),
        }
    }

    pub(super) async fn announce_health(&self) {
        let health = self.shown(self.reports());
        if !health.is_empty() {
            self.push(Outgoing::notice(Notice::ProviderHealth { health }))
                .await;
        }
    }

    /// The models of every provider: by its own word, or else by the plane's.
    fn offered(&self) -> BTreeMap<ProviderKey, Vec<String>> {
        let available = self.providers.keys();
        let available = available.filter(|key| self.health.is_available(key));
        let models = available.filter_map(|key| {
            let own = self.models.get(key).filter(|own| !own.is_empty());
            Some((key.clone(), own.or_else(|| self.words.models(key))?.clone()))
        });
        models.collect()
    }

    pub(super) async fn announce_models(&self) {
        let mut models = self.shown(self.offered());
        models.retain(|_, list| !list.is_empty());
        if !models.is_empty() {
            self.push(Outgoing::notice(Notice::AvailableModels { models }))
                .await;
        }
    }

    /// Says who works. While nothing is connected there is nobody to tell.
    pub(super) async fn heartbeat(&self) {
        let mut agents: BTreeMap<_, _> = self
            .agents
            .all()
            .map(|agent| (agent.id.clone(), AgentStatus::Idle))
            .collect();
        for ticket in self.tickets.values() {
            if let Some(status) = agents.get_mut(&ticket.facts.agent) {
                *status = AgentStatus::Running;
            }
        }
        for (agent, status) in &mut agents {
            if self.stirring.stirs(agent) {
                *status = AgentStatus::Running;
            }
        }
        if agents.is_empty() {
            return;
        }
        let heartbeat = Heartbeat {
            agents: agents.into_iter().collect(),
            at: now(),
        };
        self.push(Outgoing::notice(Notice::Heartbeat(heartbeat)))
            .await;
    }

    /// Looks for the programs, away from the loop; the result comes back as a [`Scan`].
    pub(super) fn look_around(&self) {
        let providers: Vec<_> = self.providers.values().cloned().collect();
        let scans = self.scans.clone();
        tokio::spawn(async move {
            let found = tokio::task::spawn_blocking(move || {
                let found = providers
                    .iter()
                    .map(|provider| (provider.key().clone(), provider.find().health))
                    .collect::<BTreeMap<ProviderKey, Health>>();
                [Scan::Found(found), Scan::of_agents(&providers)]
            });
            match found.await {
                Ok(found) => {
                    for scan in found {
                        if scans.send(scan).await.is_err() {
                            tracing::debug!("stopped meanwhile");
                        }
                    }
                }
                Err(error) => tracing::error!(%error, "looking for agents failed"),
            }
        });
    }

    pub(super) async fn on_scan(&mut self, scan: Scan) {
        let before = self.health.report();
        match scan {
            Scan::Found(found) => {
                let to_probe = self.health.on_scan(found);
                let providers = to_probe
                    .iter()
                    .filter_map(|key| self.providers.get(key))
                    .cloned()
                    .collect();
                self.probe(providers);
            }
            Scan::Agents(agents, existing) => {
                if self.agents.on_found(agents, existing) {
                    self.agents_changed().await;
                }
            }
            Scan::Probed(key, health) => self.health.on_probe(key, health),
            Scan::Planned(planned) => self.on_planned(*planned).await,
            Scan::Models(key, models) => {
                if self.models.get(&key) != Some(&models) {
                    self.models.insert(key, models);
                    self.announce_models().await;
                }
            }
        }
        if self.health.report() != before {
            self.greet();
            self.health_changed().await;
            self.announce_models().await;
        }
    }

    /// Asks the programs themselves, one after the other, so that a start of the daemon does not
    /// start them all at once.
    fn probe(&self, providers: Vec<Arc<dyn Provider>>) {
        let scans = self.scans.clone();
        tokio::spawn(async move {
            let mut reachable = Vec::new();
            for provider in &providers {
                let health = provider.probe(PROBE_LIMIT).await;
                if health.reason != Some(HealthReason::ServiceUnreachable) {
                    reachable.push(provider);
                }
                if scans
                    .send(Scan::Probed(provider.key().clone(), health))
                    .await
                    .is_err()
                {
                    return;
                }
            }
            for provider in reachable {
                match provider.models(MODELS_LIMIT).await {
                    Ok(models) => {
                        let scan = Scan::Models(provider.key().clone(), models);
                        if scans.send(scan).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::debug!(%error, "no model list"),
                }
            }
        });
    }
}

/// A version and a login state take a second; a cold start several.
const PROBE_LIMIT: Duration = Duration::from_secs(15);

/// Claude Code needs 18 s for its list when it has a key and no route to its API.
const MODELS_LIMIT: Duration = Duration::from_secs(30);
