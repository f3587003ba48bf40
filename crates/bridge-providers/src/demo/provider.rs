//! The demo agent as a provider: this binary, started like any other agent.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bridge_proto::{ProviderKey, model::Health};

use super::agent::MODELS;
use crate::{
    acp::{AcpDialogue, AcpQuirks, AcpStart},
    conversation::converse,
    host::Host,
    process::{AllowList, Launch},
    provider::{
        Abilities, Choosing, Conversation, Found, ListError, Provider, RunSpec, StartError,
    },
};

/// Starts `program args…`, which must call [`super::run`] on its standard input and output.
#[derive(Debug, Clone)]
pub struct DemoProvider {
    key: ProviderKey,
    program: PathBuf,
    args: Vec<OsString>,
    state: Option<PathBuf>,
    host: Host,
}

impl DemoProvider {
    /// Its key everywhere.
    pub const KEY: &str = "demo";

    /// The demo agent that `program` with `args` becomes, usually this binary.
    ///
    /// # Panics
    /// Never: the key is a valid one.
    pub fn new(host: Host, program: PathBuf, args: Vec<OsString>) -> Self {
        let key = ProviderKey::parse(Self::KEY).expect("the key is short and plain");
        Self {
            key,
            program,
            args,
            state: None,
            host,
        }
    }

    /// Where its conversations are remembered, so that they can be continued after a restart.
    /// Without it they are remembered in the temporary folder of each run, if there is one.
    #[must_use]
    pub fn with_state(mut self, folder: PathBuf) -> Self {
        self.state = Some(folder);
        self
    }
}

#[async_trait]
impl Provider for DemoProvider {
    fn key(&self) -> &ProviderKey {
        &self.key
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            follow_up: true,
            permissions: true,
            model: Choosing::AnyTime,
            hub_only: true,
            ..Abilities::default()
        }
    }

    fn find(&self) -> Found {
        let health = Health {
            available: true,
            reason: None,
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            hint: None,
        };
        Found {
            health,
            program: Some(self.program.clone()),
        }
    }

    async fn probe(&self, _limit: Duration) -> Health {
        self.find().health
    }

    async fn models(&self, _limit: Duration) -> Result<Vec<String>, ListError> {
        Ok(MODELS.map(str::to_owned).to_vec())
    }

    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        let mut env = self.host.environment(&AllowList::base());
        if let Some(folder) = self.state.as_ref().or(spec.temp.as_ref()) {
            env = env.set("CTRLNODE_DEMO_STATE", folder);
        }
        if let Some(temp) = &spec.temp {
            env = env.set("TMPDIR", temp);
        }
        let launch = Launch {
            program: self.program.clone(),
            args: self.args.clone(),
            directory: spec.directory.clone(),
            env,
            run: Some(spec.run.clone()),
        };
        let quirks = AcpQuirks::plain("The demo agent", "it needs none");
        converse(
            launch,
            Box::new(AcpDialogue::new(AcpStart::of(&spec), quirks)),
        )
        .await
    }
}
