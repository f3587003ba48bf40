//! Puts a bridge together: settings become workspace, providers, link and supervisor.

use std::{
    env,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bridge_proto::{ProviderKey, Secret};
use bridge_providers::{
    chat::{ChatProvider, ChatSettings},
    claude::ClaudeProvider,
    codex::CodexProvider,
    copilot::CopilotProvider,
    cursor::CursorProvider,
    custom::{CustomAgent, CustomProvider},
    demo::DemoProvider,
    gemini::GeminiProvider,
    hermes::HermesProvider,
    openclaw::{self, OpenclawProvider},
    opencode::OpencodeProvider,
    provider::Provider,
};
use bridge_runtime::{
    Outgoing, Settings as DaemonSettings, SideWord, Supervisor, first_greeting, heard,
};
use bridge_transport::{
    Carrier, CarrierKind, Endpoint, EndpointError, LinkState, Phase, SyncPolicy, Timings,
    carrier::{self, watched::Watched},
    delivery::Epoch,
    spool::{Folder, Spool, SpoolConfig},
};
use bridge_workspace::{Journal, OpenError, Workspace, env_file};
use http::HeaderValue;
use tokio::sync::{mpsc, watch};
use url::Url;

use crate::{
    agents_file::{AgentKind, NamedAgent},
    protected,
    recording::Recorder,
    report::{Exit, Problem},
    settings::{Settings, places, variable},
    shown_address::shown,
    side_channel::SideChannel,
    state::{self, StateFolder},
};

/// A bridge that is ready to run.
#[derive(Debug)]
pub(crate) struct Bridge {
    pub(crate) supervisor: Supervisor,
    pub(crate) state: watch::Receiver<LinkState>,
    /// `CTRLNODE_ROOT`.
    pub(crate) root: PathBuf,
}

/// Which plane, and with what.
pub(crate) struct Plane {
    pub(crate) url: String,
    pub(crate) token: watch::Receiver<Secret>,
}

/// Assembles a bridge. `up` is the state folder of the hub in the same process, with
/// `CTRLNODE_ROOT` in it; without one that is `<workspace>/.ctrlnode`. `record` sees every frame. Must be called on a tokio runtime; the link dials at once.
pub(crate) fn assemble(
    settings: &Settings,
    up: Option<&StateFolder>,
    plane: Plane,
    record: Option<Arc<Recorder>>,
) -> Result<Bridge, Problem> {
    settings.check_workspace()?;
    let root = up.map(StateFolder::bridge_root);
    let workspace = Workspace::open(&settings.base, root.as_deref()).map_err(cannot_open)?;
    let openclaw = openclaw::own_folder(&settings.host);
    let workspace = workspace
        .with_policy(settings.contents)
        .with_protected(&protected::places(settings, up))
        .with_openclaw(openclaw.as_deref());
    let root = workspace.root().to_owned();
    let journal = Journal::open(&workspace).map_err(|error| {
        Problem::new("the run journal cannot be used")
            .hint("check that the workspace is yours and the disk is not full")
            .because(error)
    })?;
    let providers = providers(settings)?;
    let daemon = DaemonSettings {
        policy: settings.policy,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname(),
        heartbeat: settings.heartbeat,
        rescan: settings.rescan,
        trusted: settings.trusted.clone(),
        rules: settings.rules.clone(),
        planning: settings.planning,
        host: settings.host.clone(),
        drops: settings.watch_tasks.then(|| settings.drops.clone()),
    };
    let address = plane.url.clone();
    let endpoint = endpoint(settings, plane)?
        .heard(heard(&journal))
        .greeting(first_greeting(&daemon, &providers));
    let carrier = carrier::of(&endpoint);
    let carrier: Box<dyn Carrier> = match record {
        None => carrier,
        Some(recorder) => Box::new(Watched::new(Arc::from(carrier), recorder)),
    };
    let link = if let Some(config) = settings.spool {
        let spool = spool(&root, config)?;
        bridge_transport::connect_spooled::<Outgoing>(endpoint, carrier, spool, SyncPolicy::Never)
            .map_err(no_spool)?
    } else {
        bridge_transport::connect_over(endpoint, carrier)
    };
    let state = link.0.state();
    let mut supervisor = Supervisor::new(Arc::new(workspace), journal, providers, link, daemon);
    supervisor = supervisor.watching(settings.watching);
    if let Some(words) = side_channel(settings, &address, &root) {
        supervisor = supervisor.hearing(words);
    }
    Ok(Bridge {
        supervisor,
        state,
        root,
    })
}

/// Where events wait until the other end has them. The journal has made the folder around it.
fn spool(root: &Path, config: SpoolConfig) -> Result<Spool<Folder>, Problem> {
    let folder = Folder::open(root.join("journal").join("spool")).map_err(no_spool)?;
    let fresh = Epoch::fresh().0.to_be_bytes();
    let (spool, found) = Spool::open(folder, config, fresh).map_err(no_spool)?;
    tracing::debug!(?found, "spool");
    Ok(spool)
}

fn no_spool(error: impl std::error::Error + Send + Sync + 'static) -> Problem {
    Problem::new("events cannot be kept on the disk")
        .hint("mend what is said above, or set CTRLNODE_SPOOL=off to keep them in memory alone")
        .because(error)
}

/// What the plane says over HTTP, asked in the background; it is done without where that fails.
fn side_channel(settings: &Settings, plane: &str, root: &Path) -> Option<mpsc::Receiver<SideWord>> {
    if !settings.side_channel {
        return None;
    }
    match SideChannel::new(plane, settings.allow_plain, &settings.tls) {
        Ok(channel) => {
            let (words, heard) = mpsc::channel(4);
            tokio::spawn(channel.listen(root.to_owned(), words));
            Some(heard)
        }
        Err(error) => {
            tracing::debug!(%error, "the side channel cannot be used");
            None
        }
    }
}

/// Every agent this binary can drive, installed or not.
pub(crate) fn providers(settings: &Settings) -> Result<Vec<Arc<dyn Provider>>, Problem> {
    let host = &settings.host;
    let this = env::current_exe()
        .map_err(|error| Problem::new("this program cannot find itself").because(error))?;
    let key = |text: &str| {
        ProviderKey::parse(text).map_err(|error| {
            Problem::new(format!("{text} cannot be an agent's name"))
                .because(error)
                .exit(Exit::NotConfigured)
        })
    };
    let mut all: Vec<Arc<dyn Provider>> = vec![
        Arc::new(DemoProvider::new(
            host.clone(),
            this.clone(),
            vec!["demo-agent".into()],
        )),
        Arc::new(ClaudeProvider::new(key("claude")?, host.clone())),
        Arc::new(ClaudeProvider::new(key("claude-sdk")?, host.clone())),
        Arc::new(CopilotProvider::new(host.clone())),
        Arc::new(CursorProvider::new(host.clone())),
        Arc::new(GeminiProvider::new(host.clone())),
        Arc::new(CodexProvider::new(host.clone())),
        Arc::new(HermesProvider::new(host.clone())),
        Arc::new(OpencodeProvider::new(host.clone())),
        Arc::new(
            ChatProvider::ollama(host.clone(), this.clone(), vec!["chat-agent".into()])
                .with_clear_text(settings.allow_plain),
        ),
        Arc::new(
            ChatProvider::openrouter(host.clone(), this.clone(), vec!["chat-agent".into()])
                .with_clear_text(settings.allow_plain),
        ),
        Arc::new(OpenclawProvider::new(
            host.clone(),
            &state::of_agents(&settings.base),
        )),
    ];
    for agent in &settings.agents_file.agents {
        all.push(named(agent, settings, &this));
    }
    for (name, words) in &settings.agents {
        let key = key(name)?;
        if BUILT_IN.contains(&key.as_str()) || all.iter().any(|other| *other.key() == key) {
            return Err(Problem::new(format!(
                "an agent named {name} is built in or in the file of your own agents"
            ))
            .hint("give the variable CTRLNODE_AGENT_… another name")
            .exit(Exit::NotConfigured));
        }
        let (program, args) = words.split_first().ok_or_else(|| {
            Problem::new(format!("the agent {name} has no command")).exit(Exit::NotConfigured)
        })?;
        let agent = CustomAgent {
            key,
            program: program.into(),
            args: args.iter().map(Into::into).collect(),
            env_allow: Vec::new(),
        };
        all.push(Arc::new(CustomProvider::new(agent, host.clone())));
    }
    Ok(all)
}

/// An agent of the user's own file. `this` is this binary.
fn named(agent: &NamedAgent, settings: &Settings, this: &Path) -> Arc<dyn Provider> {
    let host = settings.host.clone();
    match &agent.kind {
        AgentKind::Command {
            program,
            args,
            variables,
            protocol,
            model,
        } => {
            let custom = CustomAgent {
                key: agent.key.clone(),
                program: program.clone(),
                args: args.iter().map(Into::into).collect(),
                env_allow: variables.clone(),
            };
            let mut provider = CustomProvider::new(custom, host).with_protocol(*protocol);
            if let Some(model) = model {
                provider = provider.with_model(model.clone());
            }
            if let Some(hint) = &agent.login_hint {
                provider = provider.with_login_hint(hint.clone());
            }
            Arc::new(provider)
        }
        AgentKind::Chat {
            base,
            key_variable,
            model,
            allowed,
            max_turns,
        } => {
            let mut chat = ChatSettings::new(agent.key.as_str(), base.clone());
            chat.model.clone_from(model);
            chat.allowed.clone_from(allowed);
            chat.allowed_in = format!("allowed_models of {}", agent.key);
            chat.max_turns = max_turns.unwrap_or(chat.max_turns);
            let (key, variable) = (agent.key.clone(), key_variable.clone());
            let args = vec!["chat-agent".into()];
            let mut provider =
                ChatProvider::named(key, chat, variable, host, this.to_owned(), args)
                    .with_clear_text(settings.allow_plain);
            if let Some(hint) = &agent.login_hint {
                provider = provider.with_login_hint(hint.clone());
            }
            Arc::new(provider)
        }
    }
}

/// Where to dial and how.
pub(crate) fn endpoint(settings: &Settings, plane: Plane) -> Result<Endpoint, Problem> {
    let url = plane_url(&plane.url)?;
    let made = if settings.allow_plain {
        Endpoint::allow_plain(url.as_str())
    } else {
        Endpoint::new(url.as_str())
    };
    let endpoint = made.and_then(|endpoint| match settings.carrier {
        Some(kind) => endpoint.carriers([kind]),
        None if matches!(endpoint.url.scheme_str(), Some("ws" | "wss")) => {
            endpoint.carriers(CarrierKind::of_http())
        }
        None => Ok(endpoint),
    });
    let endpoint = endpoint.map_err(|error| {
        Problem::new("the address of the control plane cannot be used")
            .hint(how_to_write(&error))
            .because(error)
            .exit(Exit::NotConfigured)
    })?;
    let (sender, receiver) = watch::channel(header(&plane.token.borrow()));
    let mut tokens = plane.token;
    tokio::spawn(async move {
        while tokens.changed().await.is_ok() {
            let value = header(&tokens.borrow_and_update());
            if sender.send(value).is_err() {
                break;
            }
        }
    });
    let mut timings = Timings::default();
    if let Some(bound) = settings.reconnect {
        timings = timings.reconnect_within(bound);
    }
    let mut limits = endpoint.limits.clone();
    limits.dial = settings.dial;
    Ok(endpoint
        .authorization(receiver)
        .timings(timings)
        .limits(limits)
        .tls(settings.tls.clone())
        .compress(settings.compress)
        .offer_extension(true))
}

/// What to do about an address of a control plane that cannot be used.
pub(crate) fn how_to_write(error: &EndpointError) -> &'static str {
    match error {
        EndpointError::ClearText { .. } => {
            "use wss:// or tls://, or set CTRLNODE_ALLOW_PLAIN=1 on a network that encrypts by itself"
        }
        EndpointError::Carriers { .. } => "set CTRLNODE_CARRIER=auto, or another address",
        EndpointError::NoPort => "name the port, for example tcp://127.0.0.1:7434",
        EndpointError::Address { .. }
        | EndpointError::Scheme { .. }
        | EndpointError::NoHost
        | EndpointError::Credentials
        | EndpointError::Token => "write it as wss://host/ws/bridge",
    }
}

/// Reads the token again whenever the plane refuses it, so that a new pairing is used at once.
pub(crate) fn follow_token(tokens: watch::Sender<Secret>, mut state: watch::Receiver<LinkState>) {
    let sender = tokens;
    tokio::spawn(async move {
        loop {
            let refused = |state: &LinkState| state.phase == Phase::AuthRequired;
            if state.wait_for(refused).await.is_err() {
                return;
            }
            let found = tokio::task::spawn_blocking(|| {
                let discovery = env_file::discover(&env_file::Disk, &places(None));
                let token = variable("PAIRING_TOKEN");
                discovery
                    .pairing(token.as_deref(), variable("SAAS_URL").as_deref())
                    .token
            });
            if let Ok(Some(token)) = found.await
                && sender.send_if_modified(|known| {
                    let changed = *known != token;
                    *known = token;
                    changed
                })
            {
                tracing::info!("a new pairing token was found");
            }
            tokio::select! {
                () = tokio::time::sleep(TOKEN_POLL) => {}
                () = sender.closed() => return,
            }
        }
    });
}

fn plane_url(text: &str) -> Result<Url, Problem> {
    Url::parse(text).map_err(|error| {
        Problem::new(format!("{} is not an address", shown(text)))
            .hint("write it as wss://host/ws/bridge")
            .because(error)
            .exit(Exit::NotConfigured)
    })
}

/// The value of the authorization header; `None` for a token that cannot stand in one.
fn header(token: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
    value.set_sensitive(true);
    (!token.is_empty()).then_some(value)
}

pub(crate) fn hostname() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

fn cannot_open(error: OpenError) -> Problem {
    let hint = match &error {
        OpenError::Locked { .. } => "one bridge runs per workspace; stop the other one first",
        OpenError::Folder { .. } | OpenError::Lock { .. } => {
            "check that the workspace exists, is yours and the disk is not full"
        }
    };
    Problem::new("the workspace cannot be used")
        .hint(hint)
        .because(error)
}

/// Names that agents of the user cannot have: those this binary drives, and those of the published
/// wire.
pub(crate) const BUILT_IN: [&str; 12] = [
    "claude",
    "claude-sdk",
    "codex",
    "copilot",
    "cursor",
    "demo",
    "gemini",
    "hermes",
    "ollama",
    "openclaw",
    "opencode",
    "openrouter",
];
/// A changed token is used within a second.
const TOKEN_POLL: Duration = Duration::from_millis(500);
