//! Endpoints as providers: which ones this machine knows of, and how the agent for one is started.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bridge_proto::{ProviderKey, model::Health};

use super::{
    run::{REFUSED, UNREACHABLE},
    settings::{Api, BaseUrl, ChatSettings, MAX_TURNS},
};
use crate::{
    acp::{AcpDialogue, AcpQuirks, AcpStart},
    conversation::converse,
    host::Host,
    plain::sentence,
    process::{AllowList, Environment, Launch, Output, run_to_end},
    program::{healthy, login_needed, missing, unreachable, with_temp},
    provider::{
        Abilities, Choosing, Conversation, Found, ListError, Provider, RunSpec, StartError,
    },
};

/// Starts `program args…`, which must call [`super::run()`] on its standard input and output; a
/// further argument `check` or `models` names another job than serving.
#[derive(Debug, Clone)]
pub struct ChatProvider {
    key: ProviderKey,
    program: PathBuf,
    args: Vec<OsString>,
    host: Host,
    endpoint: Result<ChatSettings, Flaw>,
    access: Access,
    abilities: Abilities,
    /// For a person, when it is not there.
    absent: String,
    /// For a person, when it wants a login; `None`: follows from the rest.
    login: Option<String>,
}

/// How it is known that the endpoint is there and may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Access {
    /// A variable names it, or its program is here.
    Ollama,
    /// It has been named in the settings; the variable with its key, if it wants one.
    Named(Option<String>),
}

/// What is wrong with the settings of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Flaw(String);

impl ChatProvider {
    /// The key of Ollama.
    pub const OLLAMA: &str = "ollama";
    /// The key of OpenRouter.
    pub const OPENROUTER: &str = "openrouter";

    /// Ollama, by the variables `OLLAMA_*` of `host`: models on this machine or another one.
    ///
    /// # Panics
    /// Never: the key is a valid one.
    pub fn ollama(host: Host, program: PathBuf, args: Vec<OsString>) -> Self {
        let named = host.value("OLLAMA_HOST").unwrap_or("localhost");
        let endpoint = BaseUrl::parse_ollama_host(named)
            .map_err(|error| Flaw(format!("OLLAMA_HOST cannot be used: {error}")))
            .map(|base| {
                let minutes = number(&host, "OLLAMA_TASK_TIMEOUT_MINUTES").unwrap_or(25);
                let limit = Duration::from_secs(60 * u64::from(minutes.clamp(1, 10_080)));
                ChatSettings {
                    api: Api::Ollama,
                    model: host.value("OLLAMA_DEFAULT_MODEL").map(str::to_owned),
                    allowed: list(&host, "OLLAMA_ALLOWED_MODELS"),
                    allowed_in: "OLLAMA_ALLOWED_MODELS".into(),
                    max_turns: turns(&host, "OLLAMA_MAX_TURNS"),
                    context_tokens: Some(number(&host, "OLLAMA_NUM_CTX").unwrap_or(32_768)),
                    turn_limit: limit,
                    // A large model is loaded, and a long prompt read, without a word.
                    quiet_limit: limit,
                    ..ChatSettings::new("Ollama", base)
                }
            });
        Self {
            key: ProviderKey::parse(Self::OLLAMA).expect("the key is short and plain"),
            program,
            args,
            host,
            endpoint,
            access: Access::Ollama,
            abilities: ABILITIES,
            absent: "install Ollama, or set OLLAMA_HOST to where it runs".into(),
            login: None,
        }
    }

    /// OpenRouter, by the variables `OPENROUTER_*` of `host`.
    ///
    /// # Panics
    /// Never: the key is a valid one.
    pub fn openrouter(host: Host, program: PathBuf, args: Vec<OsString>) -> Self {
        let named = host.value("OPENROUTER_API_BASE");
        let endpoint = BaseUrl::parse(named.unwrap_or("https://openrouter.ai/api"))
            .map_err(|error| Flaw(format!("OPENROUTER_API_BASE cannot be used: {error}")))
            .map(|base| ChatSettings {
                model: Some(
                    host.value("OPENROUTER_DEFAULT_MODEL")
                        .unwrap_or("anthropic/claude-sonnet-4.5")
                        .to_owned(),
                ),
                allowed: list(&host, "OPENROUTER_ALLOWED_MODELS"),
                allowed_in: "OPENROUTER_ALLOWED_MODELS".into(),
                max_turns: turns(&host, "OPENROUTER_MAX_TURNS"),
                max_tokens: Some(number(&host, "OPENROUTER_MAX_TOKENS_PER_TURN").unwrap_or(8000)),
                ..ChatSettings::new("OpenRouter", base)
            });
        Self {
            key: ProviderKey::parse(Self::OPENROUTER).expect("the key is short and plain"),
            program,
            args,
            host,
            endpoint,
            access: Access::Named(Some("OPENROUTER_API_KEY".into())),
            abilities: Abilities {
                cost: true,
                ..ABILITIES
            },
            absent: "set OPENROUTER_API_KEY".into(),
            login: None,
        }
    }

    /// An endpoint the user named. `key_variable` holds its key, if it wants one.
    pub fn named(
        key: ProviderKey,
        settings: ChatSettings,
        key_variable: Option<String>,
        host: Host,
        program: PathBuf,
        args: Vec<OsString>,
    ) -> Self {
        let absent = match &key_variable {
            Some(variable) => format!("set {variable} to its key"),
            None => String::new(),
        };
        Self {
            key,
            program,
            args,
            host,
            endpoint: Ok(settings),
            access: Access::Named(key_variable),
            abilities: Abilities {
                cost: true,
                hub_only: true,
                ..ABILITIES
            },
            absent,
            login: None,
        }
    }

    /// What to do when it wants a login or another key.
    #[must_use]
    pub fn with_login_hint(mut self, hint: String) -> Self {
        self.login = Some(hint);
        self
    }

    /// Refuses to send a key in clear text to another machine, unless that is allowed.
    #[must_use]
    pub fn with_clear_text(mut self, allowed: bool) -> Self {
        let keyed = self.key_value().is_some();
        if let Ok(settings) = &self.endpoint
            && settings.base.is_clear_text()
            && keyed
            && !allowed
        {
            self.endpoint = Err(Flaw(format!(
                "{} would get the key in clear text; use https://, or set \
                 CTRLNODE_ALLOW_PLAIN=1 on a network you trust",
                settings.base
            )));
        }
        self
    }

    fn key_value(&self) -> Option<&str> {
        match &self.access {
            Access::Ollama | Access::Named(None) => None,
            Access::Named(Some(variable)) => self.host.value(variable),
        }
    }

    /// The program that runs the models, where it is one of this machine.
    fn server(&self) -> Option<PathBuf> {
        match self.access {
            Access::Ollama => self.host.find_program(&["ollama"], &[]),
            Access::Named(_) => None,
        }
    }

    fn health(&self, server: Option<&PathBuf>) -> Health {
        let known = match &self.access {
            Access::Ollama => {
                let named = ["OLLAMA_HOST", "OLLAMA_DEFAULT_MODEL"];
                server.is_some() || named.iter().any(|name| self.host.value(name).is_some())
            }
            Access::Named(variable) => variable.is_none() || self.key_value().is_some(),
        };
        match (known, &self.access, &self.endpoint) {
            (false, Access::Ollama, _) => missing(&self.absent),
            (false, Access::Named(_), _) => login_needed(&self.absent),
            (true, _, Err(Flaw(what))) => login_needed(what),
            (true, _, Ok(_)) => healthy(),
        }
    }

    fn environment(&self, settings: &ChatSettings) -> Environment {
        let env = self
            .host
            .environment(&AllowList::base())
            .set(ChatSettings::VARIABLE, settings.written());
        match self.key_value() {
            Some(key) => env.set(ChatSettings::KEY_VARIABLE, key),
            None => env,
        }
    }

    fn ready(&self) -> Result<&ChatSettings, StartError> {
        let name = || self.key.as_str().to_owned();
        let settings = self
            .endpoint
            .as_ref()
            .map_err(|Flaw(what)| StartError::Missing {
                program: name(),
                hint: what.clone(),
            })?;
        let keyless = matches!(self.access, Access::Named(Some(_))) && self.key_value().is_none();
        if keyless {
            return Err(StartError::LoginNeeded {
                provider: settings.name.clone(),
                hint: self.absent.clone(),
            });
        }
        Ok(settings)
    }

    /// Lets the agent do one of its other jobs.
    async fn ask(
        &self,
        settings: &ChatSettings,
        job: &str,
        limit: Duration,
    ) -> Result<Output, String> {
        let mut args = self.args.clone();
        args.push(job.into());
        let launch = Launch {
            program: self.program.clone(),
            args,
            directory: std::env::temp_dir(),
            env: self.environment(settings),
            run: None,
        };
        run_to_end(launch, limit, LIST_BYTES)
            .await
            .map_err(|error| error.to_string())
    }

    fn hint(&self, settings: &ChatSettings, said: &str) -> String {
        let said = sentence(said, 300);
        match (&self.access, settings.base.is_loopback()) {
            (Access::Ollama, true) => format!("{said}; start it with `ollama serve`"),
            (Access::Ollama | Access::Named(_), _) => said,
        }
    }
}

#[async_trait]
impl Provider for ChatProvider {
    fn key(&self) -> &ProviderKey {
        &self.key
    }

    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn find(&self) -> Found {
        let server = self.server();
        Found {
            health: self.health(server.as_ref()),
            program: server,
        }
    }

    /// Asks the endpoint, once.
    async fn probe(&self, limit: Duration) -> Health {
        let found = self.find().health;
        let Ok(settings) = self.ready() else {
            return found;
        };
        if !found.available {
            return found;
        }
        let said = match self.ask(settings, "check", limit).await {
            Ok(output) if output.code == Some(0) => {
                let version = sentence(&String::from_utf8_lossy(&output.stdout), 50);
                return Health {
                    version: Some(version).filter(|version| !version.is_empty()),
                    ..found
                };
            }
            Ok(output) if output.code == Some(REFUSED.into()) => {
                let said = sentence(&output.stderr_tail, 200);
                return login_needed(&format!("{} ({said})", self.login_hint()));
            }
            Ok(output) if output.code == Some(UNREACHABLE.into()) => output.stderr_tail,
            Ok(output) => format!("the look at it failed: {}", output.stderr_tail),
            Err(error) => error,
        };
        unreachable(&self.hint(settings, &said))
    }

    /// The default model first. Asks the endpoint, no model.
    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError> {
        let settings = self.ready()?;
        let failed = |reason| ListError::NoAnswer {
            provider: settings.name.clone(),
            reason,
        };
        let output = self.ask(settings, "models", limit).await.map_err(failed)?;
        if output.code != Some(0) {
            return Err(failed(sentence(&output.stderr_tail, 300)));
        }
        let listed = String::from_utf8_lossy(&output.stdout);
        let mut models: Vec<String> = listed.lines().map(str::to_owned).collect();
        let default = settings.model.as_deref();
        models.sort_by_key(|model| default.is_none_or(|default| !settings.is_same(default, model)));
        if models.is_empty() {
            models.extend(settings.allowed.iter().cloned());
        }
        // Gateways take more names than they list; what Ollama does not list, it has not got.
        if let (Some(default), Api::OpenAi) = (default, settings.api)
            && settings.allows(default)
            && !models.iter().any(|model| model == default)
        {
            models.insert(0, default.to_owned());
        }
        if models.is_empty() {
            return Err(failed("it lists none".into()));
        }
        Ok(models)
    }

    async fn open(&self, mut spec: RunSpec) -> Result<Conversation, StartError> {
        let mut settings = self.ready()?.clone();
        settings.model = spec.model.take().or(settings.model);
        settings.state.clone_from(&spec.temp);
        let quirks = AcpQuirks {
            model_at_launch: true,
            ..AcpQuirks::plain(&settings.name, &self.login_hint())
        };
        let launch = Launch {
            program: self.program.clone(),
            args: self.args.clone(),
            directory: spec.directory.clone(),
            env: with_temp(self.environment(&settings), spec.temp.as_deref()),
            run: Some(spec.run.clone()),
        };
        converse(
            launch,
            Box::new(AcpDialogue::new(AcpStart::of(&spec), quirks)),
        )
        .await
    }
}

impl ChatProvider {
    fn login_hint(&self) -> String {
        if let Some(hint) = &self.login {
            return hint.clone();
        }
        match &self.access {
            Access::Named(Some(variable)) => format!("set {variable} to a key it accepts"),
            Access::Named(None) | Access::Ollama => {
                "it wants a key; name the variable with it".to_owned()
            }
        }
    }
}

/// A whole number of the environment; anything else counts as unset, with a warning.
fn number(host: &Host, name: &str) -> Option<u32> {
    let value = host.value(name)?;
    let number = value.trim().parse().ok();
    if number.is_none() {
        tracing::warn!(name, "is not a whole number and not used");
    }
    number
}

fn turns(host: &Host, name: &str) -> u32 {
    number(host, name).unwrap_or(MAX_TURNS).clamp(1, 1000)
}

/// Names with commas between them.
fn list(host: &Host, name: &str) -> Vec<String> {
    let value = host.value(name).unwrap_or_default();
    let names = value.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// What the loop can do with every endpoint.
const ABILITIES: Abilities = Abilities {
    resume: true,
    follow_up: true,
    inject: false,
    permissions: true,
    questions: false,
    model: Choosing::AnyTime,
    mode: Choosing::Never,
    effort: Choosing::Never,
    usage: true,
    cost: false,
    images: false,
    ran_with: None,
    hub_only: false,
    plain_only: false,
};
/// A list of a gateway has some hundred names.
const LIST_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use bridge_proto::model::HealthReason;

    use super::*;

    fn host(vars: &[(&str, &str)]) -> Host {
        Host::new(vars.iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn ollama(vars: &[(&str, &str)]) -> ChatProvider {
        ChatProvider::ollama(host(vars), "/bin/x".into(), Vec::new())
    }

    fn openrouter(vars: &[(&str, &str)]) -> ChatProvider {
        ChatProvider::openrouter(host(vars), "/bin/x".into(), Vec::new())
    }

    fn reason(provider: &ChatProvider) -> Option<HealthReason> {
        provider.health(None).reason
    }

    #[test]
    fn ollama_is_there_when_a_variable_names_it() {
        assert_eq!(reason(&ollama(&[])), Some(HealthReason::BinaryMissing));
        for name in ["OLLAMA_HOST", "OLLAMA_DEFAULT_MODEL"] {
            assert_eq!(reason(&ollama(&[(name, "x")])), None, "{name}");
        }
        let bad = ollama(&[("OLLAMA_HOST", "ftp://x")]);
        assert!(bad.health(None).hint.unwrap().contains("OLLAMA_HOST"));
        assert!(bad.ready().is_err());
    }

    #[test]
    fn every_variable_of_ollama_is_honoured() {
        let provider = ollama(&[
            ("OLLAMA_HOST", "0.0.0.0"),
            ("OLLAMA_DEFAULT_MODEL", "qwen"),
            ("OLLAMA_ALLOWED_MODELS", "qwen, llama ,"),
            ("OLLAMA_MAX_TURNS", "7"),
            ("OLLAMA_NUM_CTX", "4096"),
            ("OLLAMA_TASK_TIMEOUT_MINUTES", "3"),
        ]);
        let settings = provider.ready().unwrap();
        assert_eq!(settings.base.to_string(), "http://localhost:11434");
        assert_eq!(settings.model.as_deref(), Some("qwen"));
        assert_eq!(settings.allowed, ["qwen", "llama"]);
        assert_eq!(
            (settings.max_turns, settings.context_tokens),
            (7, Some(4096))
        );
        assert_eq!(settings.turn_limit, Duration::from_secs(180));
        let defaults = ollama(&[("OLLAMA_MAX_TURNS", "many")]);
        let defaults = defaults.ready().unwrap();
        assert_eq!(
            (defaults.max_turns, defaults.context_tokens),
            (20, Some(32_768))
        );
        assert_eq!(defaults.turn_limit, Duration::from_secs(25 * 60));
    }

    #[test]
    fn every_variable_of_openrouter_is_honoured() {
        assert_eq!(reason(&openrouter(&[])), Some(HealthReason::AuthRequired));
        let provider = openrouter(&[
            ("OPENROUTER_API_KEY", "k"),
            ("OPENROUTER_API_BASE", "https://proxy.example.org/or/v1/"),
            ("OPENROUTER_DEFAULT_MODEL", "a/b"),
            ("OPENROUTER_ALLOWED_MODELS", "a/b,c/d"),
            ("OPENROUTER_MAX_TURNS", "5"),
            ("OPENROUTER_MAX_TOKENS_PER_TURN", "100"),
        ]);
        assert_eq!(reason(&provider), None);
        let settings = provider.ready().unwrap();
        assert_eq!(settings.base.to_string(), "https://proxy.example.org/or");
        assert_eq!(settings.model.as_deref(), Some("a/b"));
        assert_eq!(settings.allowed, ["a/b", "c/d"]);
        assert_eq!((settings.max_turns, settings.max_tokens), (5, Some(100)));
        let defaults = openrouter(&[("OPENROUTER_API_KEY", "k")]);
        let defaults = defaults.ready().unwrap();
        assert_eq!(defaults.base.to_string(), "https://openrouter.ai/api");
        assert_eq!(
            defaults.model.as_deref(),
            Some("anthropic/claude-sonnet-4.5")
        );
        assert_eq!((defaults.max_turns, defaults.max_tokens), (20, Some(8000)));
    }

    #[test]
    fn the_key_reaches_the_environment_of_the_agent_and_nothing_else() {
        let provider = openrouter(&[("OPENROUTER_API_KEY", "hush"), ("OPENAI_API_KEY", "other")]);
        let settings = provider.ready().unwrap();
        let env = provider.environment(settings);
        assert_eq!(env.value(ChatSettings::KEY_VARIABLE), Some("hush".as_ref()));
        assert_eq!(env.value("OPENAI_API_KEY"), None);
        assert_eq!(env.value("OPENROUTER_API_KEY"), None);
        assert!(!settings.written().contains("hush"));
        assert!(!format!("{provider:?}").contains("hush"));
    }

    #[test]
    fn a_key_does_not_travel_in_clear_text_unless_that_is_allowed() {
        let vars = [
            ("OPENROUTER_API_KEY", "hush"),
            ("OPENROUTER_API_BASE", "http://gateway.example.org"),
        ];
        let refused = openrouter(&vars).with_clear_text(false);
        assert!(refused.ready().is_err());
        let hint = refused.health(None).hint.unwrap();
        assert!(
            hint.contains("clear text") && !hint.contains("hush"),
            "{hint}"
        );
        assert!(openrouter(&vars).with_clear_text(true).ready().is_ok());
        let local = [vars[0], ("OPENROUTER_API_BASE", "http://127.0.0.1:9")];
        assert!(openrouter(&local).with_clear_text(false).ready().is_ok());
        let keyless = ollama(&[("OLLAMA_HOST", "gpu-box")]);
        assert!(keyless.with_clear_text(false).ready().is_ok());
    }
}
