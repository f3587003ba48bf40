//! Any command the user names that speaks the Agent Client Protocol.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bridge_proto::{ProviderKey, model::Health};

use crate::{
    acp::{AcpDialogue, AcpQuirks, AcpStart, list_models},
    conversation::converse,
    host::Host,
    process::{AllowList, Environment, Launch},
    program::{healthy, missing, with_temp},
    provider::{Abilities, Conversation, Found, ListError, Provider, RunSpec, StartError},
};

/// What the user says of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomAgent {
    /// Its key everywhere.
    pub key: ProviderKey,
    /// An absolute path, or a name to be looked for in `PATH` and the usual places.
    pub program: String,
    /// What makes it speak the protocol, e.g. `--acp`.
    pub args: Vec<OsString>,
    /// Variables it may see beside those every program needs, e.g. its API key.
    pub env_allow: Vec<String>,
}

/// A command the user named. Whether it is logged in is only known once it is asked to work.
#[derive(Debug, Clone)]
pub struct CustomProvider {
    agent: CustomAgent,
    host: Host,
}

impl CustomProvider {
    /// The agent as the user described it, on `host`.
    pub fn new(agent: CustomAgent, host: Host) -> Self {
        Self { agent, host }
    }

    fn program(&self) -> Option<PathBuf> {
        self.host.find_program(&[&self.agent.program], &[])
    }

    fn ready(&self) -> Result<PathBuf, StartError> {
        self.program().ok_or_else(|| StartError::Missing {
            program: self.agent.program.clone(),
            hint: self.hint(),
        })
    }

    fn hint(&self) -> String {
        format!(
            "give the absolute path of `{}` in the settings",
            self.agent.program
        )
    }

    fn environment(&self) -> Environment {
        self.host
            .environment(&AllowList::base().with(&self.agent.env_allow))
    }

    fn quirks(&self) -> AcpQuirks {
        AcpQuirks::plain(
            self.agent.key.as_str(),
            "log in with the agent's own program",
        )
    }
}

#[async_trait]
impl Provider for CustomProvider {
    fn key(&self) -> &ProviderKey {
        &self.agent.key
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            follow_up: true,
            permissions: true,
            hub_only: true,
            ..Abilities::default()
        }
    }

    fn find(&self) -> Found {
        let program = self.program();
        let health = if program.is_some() {
            healthy()
        } else {
            missing(&self.hint())
        };
        Found { health, program }
    }

    /// As [`Provider::find`]: what such a command answers to other arguments is not known.
    async fn probe(&self, _limit: Duration) -> Health {
        self.find().health
    }

    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError> {
        let launch = Launch {
            program: self.ready()?,
            args: self.agent.args.clone(),
            directory: std::env::temp_dir(),
            env: self.environment(),
            run: None,
        };
        list_models(launch, self.quirks(), limit).await
    }

    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        let launch = Launch {
            program: self.ready()?,
            args: self.agent.args.clone(),
            directory: spec.directory.clone(),
            env: with_temp(self.environment(), spec.temp.as_deref()),
            run: Some(spec.run.clone()),
        };
        let dialogue = AcpDialogue::new(AcpStart::of(&spec), self.quirks());
        converse(launch, Box::new(dialogue)).await
    }
}
