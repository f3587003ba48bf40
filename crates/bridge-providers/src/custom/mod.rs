//! Any command the user names, in whichever of three protocols it speaks: the Agent Client
//! Protocol, Claude Code's stream-json, or none at all (`exec`: a prompt in, text out).

mod exec;
mod late;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bridge_proto::{ProviderKey, model::Health};
pub use exec::{ExecDialogue, PromptBy};

use crate::{
    acp::{AcpDialogue, AcpQuirks, AcpStart, list_models},
    claude::{ClaudeDialogue, arguments},
    conversation::converse,
    host::Host,
    process::{AllowList, Environment, Launch},
    program::{healthy, missing, outside_of_runs, with_temp},
    provider::{
        Abilities, Choosing, Conversation, Found, ListError, Provider, RunSpec, StartError,
    },
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

/// What a command speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The Agent Client Protocol on its standard input and output.
    #[default]
    Acp,
    /// Claude Code's stream-json: it is started with Claude Code's own options behind its
    /// arguments, so a wrapper around `claude` works as `claude` does.
    ClaudeStreamJson,
    /// None: it gets one prompt, prints its answer and ends. It asks for nothing, so whatever it
    /// does is done unasked.
    Exec(PromptBy),
}

/// A command the user named. Whether it is logged in is only known once it is asked to work.
#[derive(Debug, Clone)]
pub struct CustomProvider {
    agent: CustomAgent,
    protocol: Protocol,
    model: Option<String>,
    login_hint: String,
    host: Host,
}

impl CustomProvider {
    /// The agent as the user described it, on `host`; it speaks the Agent Client Protocol.
    pub fn new(agent: CustomAgent, host: Host) -> Self {
        Self {
            agent,
            protocol: Protocol::default(),
            model: None,
            login_hint: "log in with the agent's own program".into(),
            host,
        }
    }

    /// It speaks this instead.
    #[must_use]
    pub fn with_protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// The model for tasks that name none. An agent of [`Protocol::Exec`] has no say in it.
    #[must_use]
    pub fn with_model(mut self, model: String) -> Self {
        self.model = Some(model);
        self
    }

    /// What to do when an agent of [`Protocol::Acp`] wants a login.
    #[must_use]
    pub fn with_login_hint(mut self, hint: String) -> Self {
        self.login_hint = hint;
        self
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
        self.host.environment(&self.sees())
    }

    fn quirks(&self) -> AcpQuirks {
        AcpQuirks::plain(self.agent.key.as_str(), &self.login_hint)
    }
}

#[async_trait]
impl Provider for CustomProvider {
    fn key(&self) -> &ProviderKey {
        &self.agent.key
    }

    fn abilities(&self) -> Abilities {
        let talks = Abilities {
            resume: true,
            follow_up: true,
            permissions: true,
            hub_only: true,
            ..Abilities::default()
        };
        match self.protocol {
            Protocol::Acp => talks,
            Protocol::ClaudeStreamJson => Abilities {
                inject: true,
                questions: true,
                model: Choosing::AnyTime,
                mode: Choosing::AnyTime,
                effort: Choosing::AnyTime,
                usage: true,
                cost: true,
                ..talks
            },
            Protocol::Exec(_) => Abilities {
                hub_only: true,
                ..Abilities::default()
            },
        }
    }

    fn sees(&self) -> AllowList {
        AllowList::base().with(&self.agent.env_allow)
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
        match self.protocol {
            Protocol::Acp => {}
            Protocol::ClaudeStreamJson | Protocol::Exec(_) => {
                return Err(ListError::NoAnswer {
                    provider: self.agent.key.as_str().to_owned(),
                    reason: "its protocol has no question for it".into(),
                });
            }
        }
        let mut launch = outside_of_runs(self.ready()?, &[], self.environment());
        launch.args.clone_from(&self.agent.args);
        list_models(launch, self.quirks(), limit).await
    }

    async fn open(&self, mut spec: RunSpec) -> Result<Conversation, StartError> {
        spec.model = spec.model.or_else(|| self.model.clone());
        let mut launch = Launch {
            program: self.ready()?,
            args: self.agent.args.clone(),
            directory: spec.directory.clone(),
            env: with_temp(self.environment(), spec.temp.as_deref()),
            run: Some(spec.run.clone()),
        };
        match self.protocol {
            Protocol::Acp => {
                let dialogue = AcpDialogue::new(AcpStart::of(&spec), self.quirks());
                converse(launch, Box::new(dialogue)).await
            }
            Protocol::ClaudeStreamJson => {
                launch.args.extend(arguments(&spec));
                let seed = spec.run.marker();
                let dialogue = ClaudeDialogue::new(&seed, spec.resume.is_some());
                converse(launch, Box::new(dialogue)).await
            }
            Protocol::Exec(by) => {
                let name = self.agent.key.as_str();
                let dialogue = ExecDialogue::new(name, by, &spec.instructions);
                match by {
                    PromptBy::Input => converse(launch, Box::new(dialogue)).await,
                    PromptBy::Argument => Ok(late::converse(launch, dialogue)),
                }
            }
        }
    }
}
