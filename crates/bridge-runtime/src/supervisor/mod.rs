//! The daemon: commands and reports of the runners become inputs of the pure machines, their effects
//! become messages to runners and to the link. Owns no decision of its own. It is put together here;
//! its loop is in `drive`.

mod announce;
mod commands;
mod drive;
mod dropping;
mod effects;
mod gateway;
mod planning;
mod reports;
mod restart;
mod roster;
mod side;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bridge_proto::{
    AgentId, ProviderKey, RunKey, TaskId,
    model::{AgentProfile, EventBody, Health},
};
use bridge_providers::{host::Host, provider::Provider};
use bridge_transport::{ConnId, Handle, Inbox, Rarely};
use bridge_workspace::{Journal, RunEntry, Watching, Workspace};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::{AbortHandle, JoinSet},
};

pub use self::announce::first_greeting;
use self::{announce::Announcer, drive::Inputs, planning::Planned};
use crate::{
    agents::Agents,
    approvals::Approvals,
    capabilities::{SkillDesk, SkillQuestion},
    dispatch::Dispatch,
    drops::{DropSettings, DropWord, porter::Porter},
    ends::Ends,
    gateway::Finished,
    git::{Desk, Limits, Tools},
    health::HealthBoard,
    homes::{Homes, Residents},
    intake::Intake,
    manifest::{PlaneWords, SideWord},
    outgoing::Outgoing,
    plans::Plans,
    policy::Policy,
    rules::Rules,
    runner::{FromRunner, Ticket, ToRunner, Turn},
    scribe::Scribe,
    serving::Serving,
    stirring::Stirring,
    unwritten::Unwritten,
    watching,
};

/// What the daemon is told once, at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What this machine allows.
    pub policy: Policy,
    /// The bridge's version, without a leading `v`.
    pub version: String,
    /// Host name of this machine.
    pub hostname: String,
    /// Between two heartbeats; default 30 s.
    pub heartbeat: Duration,
    /// Between two look-ups of agents and programs; default 60 s.
    pub rescan: Duration,
    /// Repositories whose own agent settings may be in force, canonical paths.
    pub trusted: Vec<PathBuf>,
    /// What the user decided beforehand about single actions.
    pub rules: Rules,
    /// How long an agent may plan a pipeline.
    pub planning: Duration,
    /// Where git is, and the variables it may see.
    pub host: Host,
    /// Whether dropped tasks are looked for, and who does them.
    pub drops: Option<DropSettings>,
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Every run had its end, no process was left, and everything was sent.
    pub clean: bool,
}

/// Why the daemon could not run.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The journal's thread could not be started.
    #[error("the journal thread could not be started")]
    Journal(#[source] std::io::Error),
}

/// The daemon: everything it needs is handed in.
pub struct Supervisor {
    workspace: Arc<Workspace>,
    journal: Journal,
    providers: BTreeMap<ProviderKey, Arc<dyn Provider>>,
    link: Handle<Outgoing>,
    inbox: Inbox,
    settings: Settings,
    side: Option<mpsc::Receiver<SideWord>>,
    watching: Option<Watching>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor")
            .field("providers", &self.providers.keys())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// Puts the parts together; starts nothing.
    pub fn new(
        workspace: Arc<Workspace>,
        journal: Journal,
        providers: Vec<Arc<dyn Provider>>,
        link: (Handle<Outgoing>, Inbox),
        settings: Settings,
    ) -> Self {
        let providers = providers
            .into_iter()
            .map(|provider| (provider.key().clone(), provider))
            .collect();
        let (link, inbox) = link;
        Self {
            workspace,
            journal,
            providers,
            link,
            inbox,
            settings,
            side: None,
            watching: None,
        }
    }

    /// Also watches the workspaces of OpenClaw's agents.
    #[must_use]
    pub fn watching(mut self, how: Option<Watching>) -> Self {
        self.watching = how;
        self
    }

    /// Also listens to what is heard over the side channel.
    #[must_use]
    pub fn hearing(mut self, side: mpsc::Receiver<SideWord>) -> Self {
        self.side = Some(side);
        self
    }

    /// Runs until `stop` resolves, then takes no new work, stops what runs, sends what is left
    /// (at most 5 s) and leaves no process behind.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Stopped, SuperviseError> {
        let Self {
            workspace,
            journal,
            providers,
            link,
            inbox,
            settings,
            side,
            watching,
        } = self;
        let interrupted: Vec<RunEntry> = journal.open_runs().cloned().collect();
        let ended_before = dropping::ended_before(journal.ended_runs());
        let mut ends = Ends::default();
        for ended in journal.ended_runs() {
            let end = match ended.entry.joined.clone() {
                Some(into) => EventBody::Joined { into },
                None => EventBody::Ended {
                    outcome: ended.outcome.clone(),
                },
            };
            ends.insert(ended.entry.run.clone(), end, ended.n);
        }
        let executed = journal.executed().clone();
        let scribe = Scribe::start(journal, link.clone()).map_err(SuperviseError::Journal)?;
        let (taken, commands) = mpsc::channel(64);
        let trusted: Arc<[PathBuf]> = settings.trusted.clone().into();
        let tools = Tools {
            workspace: Arc::clone(&workspace),
            host: settings.host.clone(),
            trusted: Arc::clone(&trusted),
            limits: Limits::default(),
        };
        let (residents, living_here) = watch::channel(Residents::default());
        let (stirring, stirred) = mpsc::channel(64);
        let watch = watching.and_then(|how| {
            let (workspace, link) = (Arc::clone(&workspace), link.clone());
            watching::start(workspace, how, link, residents.subscribe(), stirring)
        });
        let drops = dropping::open(&workspace, settings.drops.as_ref());
        let drop_box = drops.as_ref().map(|(drops, _)| drops.clone());
        let (words, words_of_folders) = dropping::words();
        let intake = Intake {
            inbox,
            link: link.clone(),
            workspace: Arc::clone(&workspace),
            trusted: Arc::clone(&trusted),
            supervisor: taken.clone(),
            unwritten: Unwritten::default(),
            git: Desk::start(tools, link.clone()),
            homes: Homes {
                providers: providers.keys().cloned().collect(),
                openclaw: workspace.has_openclaw(),
                residents: living_here,
            },
            serving: Serving::start(
                Arc::clone(&workspace),
                link.clone(),
                scribe.clone(),
                drop_box.clone(),
            ),
            scribe: scribe.clone(),
            executed,
            watch,
            drops: drop_box,
        };
        let intake = tokio::spawn(intake.run());
        let (reports, from_runners) = mpsc::channel(256);
        let (scans, from_scans) = mpsc::channel(16);
        let (called, from_calls) = mpsc::channel(16);
        let mut daemon = Daemon {
            dispatch: Dispatch::new(settings.policy),
            approvals: Approvals::default(),
            agents: Agents::default(),
            residents,
            health: HealthBoard::default(),
            models: BTreeMap::new(),
            words: PlaneWords::default(),
            desk: SkillDesk::start(Arc::clone(&workspace), link.clone()),
            announcer: Announcer::new(&settings, &workspace),
            tickets: BTreeMap::new(),
            ends,
            runners: BTreeMap::new(),
            closing: JoinSet::new(),
            viewer: None,
            plans: Plans::default(),
            current: None,
            planners: Arc::new(Semaphore::new(PLANNERS)),
            places: Arc::new(Semaphore::new(PLANS)),
            stopping: watch::Sender::new(false),
            calls: Arc::new(Semaphore::new(CALLS)),
            called,
            unwanted: Rarely::default(),
            stirring: Stirring::default(),
            drops: drops.is_some().then_some(words),
            providers,
            link: link.clone(),
            scribe,
            reports,
            scans,
            settings,
            workspace,
        };
        let from_folders = dropping::from_folders(&interrupted);
        daemon.report_interrupted(interrupted).await;
        daemon.recall_manifest().await;
        let porter = drops.map(|(drops, settings)| Porter {
            drops,
            settings,
            workspace: Arc::clone(&daemon.workspace),
            trusted,
            supervisor: taken,
            words: words_of_folders,
            held: HashMap::new(),
            ended: daemon.ended_of(from_folders, ended_before),
            stopping: daemon.stopping.subscribe(),
            told_too_many: false,
        });
        let porter = porter.map(|porter| tokio::spawn(porter.run()));
        let inputs = Inputs {
            commands,
            reports: from_runners,
            scans: from_scans,
            called: from_calls,
            stirred,
            side,
        };
        daemon.drive(inputs, stop).await;
        let left = daemon.close_everything().await;
        daemon.settle_journal().await;
        daemon.drops = None;
        dropping::last_words(porter).await;
        let online = link.state().borrow().phase.is_open();
        let flushed = link
            .shutdown(if online { FLUSH } else { FLUSH_OFFLINE })
            .await;
        intake.abort();
        let clean = left && flushed == bridge_transport::Flushed::Everything;
        Ok(Stopped { clean })
    }
}

/// What a look at the machine found.
enum Scan {
    Found(BTreeMap<ProviderKey, Health>),
    /// The agents that programs name, and whose folder is there.
    Agents(Vec<AgentProfile>, BTreeSet<AgentId>),
    Probed(ProviderKey, Health),
    Models(ProviderKey, Vec<String>),
    Planned(Box<Planned>),
}

struct RunnerRef {
    inbox: mpsc::Sender<ToRunner>,
    abort: AbortHandle,
}

struct Daemon {
    dispatch: Dispatch<Box<Turn>>,
    approvals: Approvals,
    agents: Agents,
    /// The same for file requests.
    residents: watch::Sender<Residents>,
    health: HealthBoard,
    models: BTreeMap<ProviderKey, Vec<String>>,
    words: PlaneWords,
    desk: mpsc::Sender<SkillQuestion>,
    announcer: Announcer,
    tickets: BTreeMap<RunKey, Ticket>,
    ends: Ends,
    runners: BTreeMap<TaskId, RunnerRef>,
    closing: JoinSet<()>,
    /// Whether our hub is (or last was) on the other end; `None` before the first connection.
    viewer: Option<bool>,
    plans: Plans,
    /// The newest connection.
    current: Option<ConnId>,
    /// Places for those who plan.
    planners: Arc<Semaphore>,
    /// Places for plans that are wanted, those at work among them.
    places: Arc<Semaphore>,
    /// Tells them that the daemon stops.
    stopping: watch::Sender<bool>,
    /// Places for calls of single tools.
    calls: Arc<Semaphore>,
    called: mpsc::Sender<Finished>,
    /// Requests for OpenClaw that the user does not want.
    unwanted: Rarely,
    stirring: Stirring,
    /// Tells folders what became of the tasks in them.
    drops: Option<mpsc::Sender<DropWord>>,
    providers: BTreeMap<ProviderKey, Arc<dyn Provider>>,
    link: Handle<Outgoing>,
    scribe: Scribe,
    reports: mpsc::Sender<FromRunner>,
    scans: mpsc::Sender<Scan>,
    settings: Settings,
    workspace: Arc<Workspace>,
}

impl Daemon {
    async fn settle_journal(&self) {
        if let Err(error) = self.scribe.settle().await {
            tracing::debug!(%error, "the journal is gone");
        }
    }
}

/// Plans made at the same time.
const PLANNERS: usize = 2;
/// Plans wanted at the same time.
const PLANS: usize = 64;
/// Calls of single tools at the same time; further ones are refused.
const CALLS: usize = 16;
/// How long a stop waits for the network to take what is left.
const FLUSH: Duration = Duration::from_secs(5);

/// The same when there is no network at that moment.
const FLUSH_OFFLINE: Duration = Duration::from_secs(1);
