//! Hermes Agent: how it is found, whether a provider of models is configured, how it is started,
//! and what it does differently from other agents of the protocol.

mod profiles;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bridge_proto::{
    AgentId, ProviderKey,
    model::{AgentProfile, Health, ToolKind},
};
use serde_json::Value;

use crate::{
    acp::{
        AcpDialogue, AcpQuirks, AcpStart, AskQuirks, Beginning, ReloadQuirks, TextQuirks,
        ToolQuirks, TurnQuirks, list_models,
    },
    conversation::converse,
    host::Host,
    plain::sentence,
    process::{AllowList, Environment, Launch, run_to_end},
    program::{ProgramWords, missing, outside_of_runs, read_small, with_temp, with_version},
    provider::{
        Abilities, Choosing, Conversation, Found, ListError, Provider, RunSpec, StartError,
    },
};

/// Hermes Agent as the user installed and configured it.
///
/// The keys of its providers of models stand in its own folder (`~/.hermes/.env`); those in the
/// environment belong to other agents and are kept from it.
#[derive(Debug, Clone)]
pub struct HermesProvider {
    key: ProviderKey,
    host: Host,
}

impl HermesProvider {
    /// Its key everywhere.
    pub const KEY: &str = "hermes";

    /// The program that `host` has.
    pub fn new(host: Host) -> Self {
        let key = ProviderKey::parse(Self::KEY).expect("the key is short and plain");
        Self { key, host }
    }

    fn program(&self) -> Option<PathBuf> {
        let own = self.folder();
        let own = own.map(|folder| folder.join("hermes-agent/venv/bin"));
        self.host
            .find_program(&["hermes"], &own.into_iter().collect::<Vec<_>>())
    }

    /// The folder with its settings, credentials and conversations.
    fn folder(&self) -> Option<PathBuf> {
        let named = self.host.value("HERMES_HOME").map(PathBuf::from);
        named.or_else(|| {
            if cfg!(windows) {
                let local = self.host.value("LOCALAPPDATA")?;
                return Some(Path::new(local).join("hermes"));
            }
            Some(self.host.home()?.join(".hermes"))
        })
    }

    /// Whether a provider of models is configured, as far as names in files tell. A wrong yes ends
    /// the first task with Hermes' own words for it, a wrong no would keep it from working.
    fn is_configured(&self) -> bool {
        self.folder().is_some_and(|folder| is_configured(&folder))
    }

    /// The home a run is done in: that of the agent's profile, or else the usual one.
    fn home_of(&self, agent: Option<&AgentId>) -> Option<PathBuf> {
        let folder = self.folder()?;
        let own = agent.and_then(|agent| profiles::of(&folder, agent));
        Some(own.unwrap_or(folder))
    }

    fn environment(&self) -> Environment {
        self.host.environment(&self.sees())
    }

    /// The program, if it could run a task in this home.
    fn ready(&self, home: Option<&Path>) -> Result<PathBuf, StartError> {
        WORDS.ready(self.program(), home.is_some_and(is_configured))
    }

    /// Whether the part of it that speaks the protocol was installed with it.
    async fn check(&self, program: PathBuf, limit: Duration) -> Result<(), Health> {
        let launch = outside_of_runs(program, &["acp", "--check"], self.environment());
        let said = match run_to_end(launch, limit, CHECK_BYTES).await {
            Ok(output) if output.code == Some(0) => return Ok(()),
            Ok(output) => sentence(&output.stderr_tail, 200),
            Err(error) => error.to_string(),
        };
        Err(missing(&format!("{EXTRA}; `hermes acp --check`: {said}")))
    }
}

#[async_trait]
impl Provider for HermesProvider {
    fn key(&self) -> &ProviderKey {
        &self.key
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            follow_up: true,
            permissions: true,
            model: Choosing::AnyTime,
            mode: Choosing::AnyTime,
            usage: true,
            images: true,
            ran_with: Some("0.19.0"),
            ..Abilities::default()
        }
    }

    fn sees(&self) -> AllowList {
        AllowList::base().with(VARIABLES)
    }

    fn find(&self) -> Found {
        WORDS.found(self.program(), self.is_configured())
    }

    /// Its `--version` would look for updates; the version of the part we talk to does not.
    async fn probe(&self, limit: Duration) -> Health {
        let Found { health, program } = self.find();
        let Some(program) = program else {
            return health;
        };
        let begun = Instant::now();
        if let Err(broken) = self.check(program.clone(), limit).await {
            return broken;
        }
        let left = limit.saturating_sub(begun.elapsed());
        let launch = outside_of_runs(program, &["acp", "--version"], self.environment());
        with_version(health, launch, left).await
    }

    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError> {
        let program = self.ready(self.folder().as_deref())?;
        let launch = outside_of_runs(program, &["acp"], self.environment());
        list_models(launch, quirks(), limit).await
    }

    fn own_agents(&self) -> Vec<AgentProfile> {
        let folder = self.folder();
        folder.map_or_else(Vec::new, |folder| profiles::own_agents(&folder, &self.key))
    }

    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        let home = self.home_of(spec.agent.as_ref());
        let mut env = with_temp(self.environment(), spec.temp.as_deref());
        if let Some(home) = home
            .as_ref()
            .filter(|home| self.folder().as_ref() != Some(home))
        {
            env = env.set("HERMES_HOME", home);
        }
        let launch = Launch {
            program: self.ready(home.as_deref())?,
            args: vec!["acp".into()],
            directory: spec.directory.clone(),
            env,
            run: Some(spec.run.clone()),
        };
        let dialogue = AcpDialogue::new(AcpStart::of(&spec), quirks());
        converse(launch, Box::new(dialogue)).await
    }
}

/// What Hermes does differently. Slash commands and prompts that wait behind others are the only
/// good answers it gives without `usage`, and it gets neither from us.
pub fn quirks() -> AcpQuirks {
    AcpQuirks {
        text: TextQuirks {
            failed: &[
                Beginning::Status("HTTP "),
                Beginning::Words("API call failed"),
                Beginning::Words("Error:"),
            ],
            failed_alone: &[Beginning::Words("⚠️ No reply:")],
            ..TextQuirks::default()
        },
        turn: TurnQuirks {
            before_slash: Some("This is a message and not a command: "),
            usage_of_all: true,
            usage_or_failed: true,
            wedged_by_cancel: true,
        },
        reload: ReloadQuirks {
            by_load_only: true,
            empty_is_unknown: true,
            ..ReloadQuirks::default()
        },
        tools: ToolQuirks {
            silent: &[ToolKind::Read, ToolKind::Edit],
            ..ToolQuirks::default()
        },
        asks: AskQuirks {
            lifetime: Some(Duration::from_secs(60)),
            own_ids: true,
            ..AskQuirks::default()
        },
        ..AcpQuirks::plain(WORDS.name, WORDS.login)
    }
}

fn is_configured(home: &Path) -> bool {
    let text = |name: &str| read_small(&home.join(name)).unwrap_or_default();
    names_a_provider(&text("config.yaml"))
        || names_a_key(&text(".env"))
        || names_a_login(&text("auth.json"))
}

/// Whether the settings (YAML) say where models come from.
fn names_a_provider(settings: &str) -> bool {
    settings.lines().any(|line| {
        let setting = line.trim_start_matches([' ', '-', '{']);
        ["provider:", "base_url:", "api_key:"]
            .iter()
            .filter_map(|name| setting.strip_prefix(name))
            .any(|value| !matches!(value.trim(), "" | "''" | "\"\"" | "null" | "~"))
    })
}

/// Whether a file of variables has a key; only names are looked at.
fn names_a_key(variables: &str) -> bool {
    variables.lines().any(|line| {
        let line = line.trim().trim_start_matches("export ");
        line.split_once('=').is_some_and(|(name, value)| {
            let key = name.ends_with("_API_KEY") || name.ends_with("_TOKEN");
            key && !name.starts_with('#') && !value.trim_matches(['"', '\'', ' ']).is_empty()
        })
    })
}

/// Whether its login file has a provider; only names are looked at.
fn names_a_login(logins: &str) -> bool {
    let Ok(logins) = serde_json::from_str::<Value>(logins) else {
        return false;
    };
    let some = |name: &str| {
        let providers = logins.get(name).and_then(Value::as_object);
        providers.is_some_and(|providers| !providers.is_empty())
    };
    let active = logins.get("active_provider").and_then(Value::as_str);
    active.is_some_and(|name| !name.is_empty()) || some("providers") || some("credential_pool")
}

const WORDS: ProgramWords = ProgramWords {
    name: "Hermes",
    program: "hermes",
    install: "install Hermes Agent (`pip install 'hermes-agent[acp]'`)",
    login: "run `hermes model` and choose a provider",
};
const EXTRA: &str = "install its part for other programs (`pip install 'hermes-agent[acp]'`)";
/// Where its files are and what it uses by default; never what allows everything
/// (`HERMES_YOLO_MODE`).
const VARIABLES: [&str; 4] = [
    "HERMES_HOME",
    "HERMES_INFERENCE_MODEL",
    "HERMES_PROFILE",
    "HERMES_TIMEZONE",
];
const CHECK_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_where_its_files_are_and_no_key_of_another_agent() {
        let vars = [
            ("HERMES_HOME", "/h"),
            ("HERMES_YOLO_MODE", "1"),
            ("OPENROUTER_API_KEY", "another's"),
            ("ANTHROPIC_API_KEY", "another's"),
            ("PAIRING_TOKEN", "the bridge's"),
        ];
        let host = Host::new(vars.map(|(name, value)| (name.into(), value.into())));
        let env = HermesProvider::new(host).environment();
        assert_eq!(env.value("HERMES_HOME"), Some("/h".as_ref()));
        for (name, _) in &vars[1..] {
            assert_eq!(env.value(name), None, "{name}");
        }
    }

    #[test]
    fn an_agent_with_a_profile_works_in_it_and_any_other_in_the_usual_home() {
        let home = tempfile::tempdir().unwrap();
        let profile = home.path().join("profiles/Writer");
        std::fs::create_dir_all(&profile).unwrap();
        let folder = home.path().to_str().unwrap();
        let host = Host::new([("HERMES_HOME".into(), folder.into())]);
        let provider = HermesProvider::new(host);
        let of = |agent: &str| {
            let agent = AgentId::parse(agent).unwrap();
            provider.home_of(Some(&agent)).unwrap()
        };
        assert_eq!(of("writer"), profile);
        assert_eq!(of("somebody"), home.path());
        assert_eq!(of("../profiles/Writer"), home.path());
        assert_eq!(provider.home_of(None).unwrap(), home.path());
        let error = provider.ready(Some(&profile)).unwrap_err();
        assert!(matches!(
            error,
            StartError::Missing { .. } | StartError::LoginNeeded { .. }
        ));
    }

    #[test]
    fn a_provider_of_models_is_told_by_names_and_not_by_values() {
        assert!(names_a_provider("model:\n  provider: custom\n"));
        assert!(names_a_provider("model: x\nbase_url: http://h/v1"));
        assert!(!names_a_provider("model:\n  provider: ''\n# api_key: x\n"));
        assert!(names_a_key("# mine\nexport OPENROUTER_API_KEY=k\n"));
        assert!(!names_a_key(
            "OPENROUTER_API_KEY=\n# NOUS_API_KEY=k\nEDITOR=vi"
        ));
        assert!(names_a_login(r#"{"active_provider": "nous"}"#));
        assert!(names_a_login(r#"{"providers": {"nous": {}}}"#));
        assert!(!names_a_login(
            r#"{"active_provider": null, "providers": {}}"#
        ));
        assert!(!names_a_login("not json"));
    }
}
