//! A whole bridge in this process: supervisor, workspace, journal and link, with the timings of
//! a test and the agents a test wants.

use std::{sync::Arc, time::Duration};

use bridge_proto::ProviderKey;
use bridge_providers::{
    claude::ClaudeProvider,
    custom::{CustomAgent, CustomProvider},
    demo::DemoProvider,
    provider::Provider,
};
use bridge_runtime::{
    Outgoing, Policy, Rules, Settings, Stopped, SuperviseError, Supervisor, first_greeting,
};
use bridge_transport::{Endpoint, Limits, LinkState, Timings};
use bridge_workspace::{ContentsPolicy, Journal, Workspace};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::{
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
    /// What may leave it.
    pub contents: ContentsPolicy,
    /// Its agents.
    pub providers: Vec<Arc<dyn Provider>>,
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
            contents: ContentsPolicy::default(),
            providers: vec![demo(home), fake(home, "fake", &["acp"]), claude(home)],
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
        let workspace = workspace.with_policy(self.contents);
        let journal = Journal::open(&workspace).expect("a fresh journal");
        let settings = Settings {
            policy: self.policy,
            version: "0.0.0-test".into(),
            hostname: "box".into(),
            heartbeat: Duration::from_secs(30),
            rescan: Duration::from_secs(60),
            trusted: Vec::new(),
            rules: self.rules,
        };
        let token = watch::Sender::new(bearer(&self.token));
        let endpoint = Endpoint::new(self.url.parse().expect("an address"))
            .expect("a loopback address")
            .authorization(token.subscribe())
            .timings(self.timings)
            .limits(self.limits)
            .offer_extension(true)
            .greeting(first_greeting(&settings, &self.providers));
        let link = bridge_transport::connect::<Outgoing>(endpoint);
        let state = link.0.state();
        let supervisor =
            Supervisor::new(Arc::new(workspace), journal, self.providers, link, settings);
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

/// Any program as an agent of the Agent Client Protocol.
///
/// # Panics
/// When the key cannot be one.
pub fn custom(home: &Home, key: &str, program: &str, args: &[&str]) -> Arc<dyn Provider> {
    let agent = CustomAgent {
        key: ProviderKey::parse(key).expect("a key"),
        program: program.to_owned(),
        args: args.iter().map(Into::into).collect(),
        env_allow: Vec::new(),
    };
    Arc::new(CustomProvider::new(agent, home.host(&[])))
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

fn bearer(token: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("Bearer {token}")).ok()
}

/// Generous: a busy machine is no failure.
const DEADLINE: Duration = Duration::from_secs(60);
