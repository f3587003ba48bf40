//! A whole bridge in this process: supervisor, workspace, journal and link, with the timings of
//! a test and the agents a test wants.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bridge_proto::ProviderKey;
use bridge_providers::{
    chat::{BaseUrl, ChatProvider, ChatSettings},
    claude::ClaudeProvider,
    codex::CodexProvider,
    copilot::CopilotProvider,
    cursor::CursorProvider,
    custom::{CustomAgent, CustomProvider, Protocol},
    demo::DemoProvider,
    hermes::HermesProvider,
    host::Host,
    openclaw::OpenclawProvider,
    provider::Provider,
};
use bridge_runtime::{
    DropSettings, Outgoing, Policy, Rules, Settings, Stopped, SuperviseError, Supervisor,
    first_greeting,
};
use bridge_transport::{Endpoint, Limits, LinkState, Timings};
use bridge_workspace::{ContentsPolicy, Journal, Watching, Workspace};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::{
    fake_gateway::FakeGateway,
    home::Home,
    program::{beside, ctrlnode},
};

/// What a bridge is started with; every field may be changed before [`Setup::start`].
pub struct Setup<'a> {
    /// Where it lives.
    pub home: &'a Home,
    /// Where it dials.
    pub url: String,
    /// The token it shows.
    pub token: String,
    /// What it allows.
    pub policy: Policy,
    /// What its user decided beforehand.
    pub rules: Rules,
    /// What it may know of the machine.
    pub host: Host,
    /// What may leave it.
    pub contents: ContentsPolicy,
    /// OpenClaw's own folder, where it is here.
    pub openclaw: Option<PathBuf>,
    /// How the workspaces of OpenClaw's agents are watched.
    pub watching: Option<Watching>,
    /// Its agents.
    pub providers: Vec<Arc<dyn Provider>>,
    /// Whether it looks for dropped tasks.
    pub drops: Option<DropSettings>,
    /// How long its agents may plan.
    pub planning: Duration,
    /// Its waits.
    pub timings: Timings,
    /// Its sizes.
    pub limits: Limits,
}

/// A running bridge; ends with the test.
#[derive(Debug)]
pub struct Bridge {
    /// The state of its link.
    pub state: watch::Receiver<LinkState>,
    token: watch::Sender<Option<HeaderValue>>,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<Stopped, SuperviseError>>,
}

impl<'a> Setup<'a> {
    /// A bridge with the demo agent, the fake agent under the key `fake` and the fake Claude Code.
    pub fn new(home: &'a Home, url: String) -> Self {
        let quick = Duration::from_millis(50);
        let timings = Timings {
            first_retry: quick,
            base: quick,
            early_cap: quick,
            late_cap: quick,
            ..Timings::default()
        };
        Self {
            home,
            url,
            token: "test-token".into(),
            policy: Policy::default(),
            rules: Rules::default(),
            host: home.host(&[]),
            contents: ContentsPolicy::default(),
            openclaw: None,
            watching: None,
            providers: vec![demo(home), fake(home, "fake", &["acp"]), claude(home)],
            drops: None,
            planning: Duration::from_secs(60),
            timings,
            limits: Limits::default(),
        }
    }

    /// Starts it; it dials at once.
    ///
    /// # Panics
    /// When the home cannot be used or the URL is no address.
    pub fn start(self) -> Bridge {
        let workspace = Workspace::open(&self.home.workspace(), None).expect("a fresh workspace");
        let workspace = workspace
            .with_policy(self.contents)
            .with_openclaw(self.openclaw.as_deref());
        let journal = Journal::open(&workspace).expect("a fresh journal");
        let settings = Settings {
            policy: self.policy,
            version: "0.0.0-test".into(),
            hostname: "box".into(),
            heartbeat: Duration::from_secs(30),
            rescan: Duration::from_secs(60),
            trusted: Vec::new(),
            rules: self.rules,
            planning: self.planning,
            host: self.host,
            drops: self.drops,
        };
        let token = watch::Sender::new(bearer(&self.token));
        let endpoint = Endpoint::new(&self.url)
            .expect("a loopback address")
            .authorization(token.subscribe())
            .timings(self.timings)
            .limits(self.limits)
            .offer_extension(true)
            .greeting(first_greeting(&settings, &self.providers));
        let link = bridge_transport::connect::<Outgoing>(endpoint);
        let state = link.0.state();
        let supervisor =
            Supervisor::new(Arc::new(workspace), journal, self.providers, link, settings)
                .watching(self.watching);
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(supervisor.run(async {
            // A test that forgot its bridge wants it stopped as well.
            drop(stopped.await);
        }));
        Bridge {
            state,
            token,
            stop,
            running,
        }
    }
}

impl std::fmt::Debug for Setup<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup")
            .field("home", &self.home)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Bridge {
    /// Shows another token from now on.
    pub fn set_token(&self, token: &str) {
        self.token.send_replace(bearer(token));
    }

    /// Waits for a state of the link.
    ///
    /// # Panics
    /// When it does not come within a minute.
    pub async fn state(&mut self, fits: impl FnMut(&LinkState) -> bool) -> LinkState {
        let state = timeout(DEADLINE, self.state.wait_for(fits)).await;
        state
            .expect("the state comes in time")
            .expect("the link lives")
            .clone()
    }

    /// Stops it as a signal would.
    ///
    /// # Panics
    /// When it does not end within a minute, or panicked.
    pub async fn stop(self) -> Stopped {
        drop(self.stop);
        let ended = timeout(DEADLINE, self.running)
            .await
            .expect("the bridge stops in time");
        ended
            .expect("the bridge did not panic")
            .expect("the bridge could run")
    }
}

/// The demo agent that is built into the binary.
pub fn demo(home: &Home) -> Arc<dyn Provider> {
    let args = vec!["demo-agent".into()];
    Arc::new(DemoProvider::new(
        home.host(&[]),
        ctrlnode().to_owned(),
        args,
    ))
}

/// The fake agent as an agent of the Agent Client Protocol, with these arguments.
///
/// # Panics
/// When the key cannot be one.
pub fn fake(home: &Home, key: &str, args: &[&str]) -> Arc<dyn Provider> {
    custom(home, key, &beside("fake_agent").display().to_string(), args)
}

/// The fake agent in another protocol, with these arguments.
///
/// # Panics
/// When the key cannot be one.
pub fn fake_in(home: &Home, key: &str, args: &[&str], protocol: Protocol) -> Arc<dyn Provider> {
    let program = beside("fake_agent").display().to_string();
    Arc::new(described(home, key, &program, args).with_protocol(protocol))
}

/// Any program as an agent of the Agent Client Protocol.
///
/// # Panics
/// When the key cannot be one.
pub fn custom(home: &Home, key: &str, program: &str, args: &[&str]) -> Arc<dyn Provider> {
    Arc::new(described(home, key, program, args))
}

fn described(home: &Home, key: &str, program: &str, args: &[&str]) -> CustomProvider {
    let agent = CustomAgent {
        key: ProviderKey::parse(key).expect("a key"),
        program: program.to_owned(),
        args: args.iter().map(Into::into).collect(),
        env_allow: Vec::new(),
    };
    CustomProvider::new(agent, home.host(&[]))
}

/// A model behind an endpoint at this address, through the agent that is built into the binary.
///
/// # Panics
/// When the key cannot be one or the address is none.
pub fn chat(home: &Home, key: &str, address: &str) -> Arc<dyn Provider> {
    let base = BaseUrl::parse(address).expect("an address");
    chat_with(home, key, ChatSettings::new("The endpoint", base))
}

/// As [`chat`], with settings of one's own.
///
/// # Panics
/// When the key cannot be one.
pub fn chat_with(home: &Home, key: &str, settings: ChatSettings) -> Arc<dyn Provider> {
    Arc::new(ChatProvider::named(
        ProviderKey::parse(key).expect("a key"),
        settings,
        None,
        home.host(&[]),
        ctrlnode().to_owned(),
        vec!["chat-agent".into()],
    ))
}

/// The fake agent as Claude Code.
///
/// # Panics
/// Never: the key is one.
pub fn claude(home: &Home) -> Arc<dyn Provider> {
    let program = beside("fake_agent").display().to_string();
    let host = home.host(&[
        ("CLAUDE_SDK_EXECUTABLE", &program),
        ("ANTHROPIC_API_KEY", "none"),
    ]);
    Arc::new(ClaudeProvider::new(
        ProviderKey::parse("claude").expect("a key"),
        host,
    ))
}

/// The fake agent as Codex.
pub fn codex(home: &Home) -> Arc<dyn Provider> {
    let program = beside("fake_agent").display().to_string();
    Arc::new(CodexProvider::new(
        home.host(&[("CODEX_BIN_PATH", &program)]),
    ))
}

/// The fake agent as GitHub Copilot CLI.
///
/// # Panics
/// When the home cannot be written.
pub fn copilot(home: &Home) -> Arc<dyn Provider> {
    copilot_as(home, &beside("fake_agent"))
}

/// Any program as GitHub Copilot CLI.
///
/// # Panics
/// When the home cannot be written.
pub fn copilot_as(home: &Home, program: &Path) -> Arc<dyn Provider> {
    let token = ("COPILOT_GITHUB_TOKEN", "none");
    let host = first_found(home, "copilot", program, token);
    Arc::new(CopilotProvider::new(host))
}

/// The fake agent as Hermes Agent.
///
/// # Panics
/// When the home cannot be written.
pub fn hermes(home: &Home) -> Arc<dyn Provider> {
    hermes_as(home, &beside("fake_agent"))
}

/// Any program as Hermes Agent.
///
/// # Panics
/// When the home cannot be written.
pub fn hermes_as(home: &Home, program: &Path) -> Arc<dyn Provider> {
    let folder = home.path().join(".hermes");
    fs::create_dir_all(&folder).expect("a home can be written");
    fs::write(folder.join(".env"), "FAKE_API_KEY=none\n").expect("a home can be written");
    let own = ("HERMES_HOME", folder.to_str().expect("a plain path"));
    Arc::new(HermesProvider::new(first_found(
        home, "hermes", program, own,
    )))
}

/// The fake agent as Cursor CLI.
///
/// # Panics
/// When the home cannot be written.
pub fn cursor(home: &Home) -> Arc<dyn Provider> {
    cursor_as(home, &beside("fake_agent"))
}

/// Any program as Cursor CLI.
///
/// # Panics
/// When the home cannot be written.
pub fn cursor_as(home: &Home, program: &Path) -> Arc<dyn Provider> {
    let key = ("CURSOR_API_KEY", "none");
    let host = first_found(home, "cursor-agent", program, key);
    Arc::new(CursorProvider::new(host))
}

/// This program under another name, which the fake agent goes by.
///
/// # Panics
/// When the home cannot be written.
pub fn called(home: &Home, name: &str, program: &Path) -> PathBuf {
    let folder = home.path().join("programs");
    fs::create_dir_all(&folder).expect("a home can be written");
    let link = folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    if link.is_symlink() || link.exists() {
        fs::remove_file(&link).expect("our own file");
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(program, &link).expect("a home can be written");
    #[cfg(not(unix))]
    fs::copy(program, &link).expect("a home can be written");
    link
}

/// A machine on which this program is the first of this name.
fn first_found(home: &Home, name: &str, program: &Path, variable: (&str, &str)) -> Host {
    let has_name = program.file_stem().is_some_and(|stem| stem == name);
    let program = if has_name {
        program.to_owned()
    } else {
        called(home, name, program)
    };
    let folder = program.parent().expect("a program lies in a folder");
    let inherited = env::var_os("PATH").unwrap_or_default();
    let path = std::iter::once(folder.to_owned()).chain(env::split_paths(&inherited));
    let path = env::join_paths(path).expect("folders of a search path");
    let path = path.to_str().expect("a plain path");
    home.host(&[("PATH", path), variable])
}

/// OpenClaw with this gateway.
pub fn openclaw(home: &Home, gateway: &FakeGateway) -> Arc<dyn Provider> {
    let variables = gateway.variables();
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let state = home.path().join("state/openclaw");
    Arc::new(OpenclawProvider::new(home.host(&variables), &state))
}

fn bearer(token: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("Bearer {token}")).ok()
}

/// Generous: a busy machine is no failure.
const DEADLINE: Duration = Duration::from_secs(60);
