//! opencode: how it is found, which provider of models it would use, and how it is started so that
//! it asks before it acts and answers nobody but us.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use bridge_proto::{ProviderKey, model::Health};
use serde_json::Value;

use crate::{
    acp::{AcpDialogue, AcpQuirks, AcpStart, ToolQuirks},
    conversation::converse,
    host::Host,
    process::{AllowList, Environment, Launch, run_to_end},
    program::{ProgramWords, outside_of_runs, probed, read_small, with_temp},
    provider::{
        Abilities, Choosing, Conversation, Found, ListError, Provider, RunSpec, StartError,
    },
};

/// opencode as the user installed and configured it.
///
/// Without any configuration it would send prompts, and with them the user's files, to a hosted
/// free model. It is therefore refused unless a model or a login was chosen: in its own
/// configuration, in its login file, or by [`OpencodeProvider::with_model`] or the task.
#[derive(Debug, Clone)]
pub struct OpencodeProvider {
    key: ProviderKey,
    host: Host,
    model: Option<String>,
    variables: Vec<String>,
}

impl OpencodeProvider {
    /// Its key everywhere.
    pub const KEY: &str = "opencode";

    /// The program that `host` has.
    pub fn new(host: Host) -> Self {
        let key = ProviderKey::parse(Self::KEY).expect("the key is short and plain");
        Self {
            key,
            host,
            model: None,
            variables: Vec::new(),
        }
    }

    /// The model, as `provider/model`, for tasks that name none.
    #[must_use]
    pub fn with_model(mut self, model: String) -> Self {
        self.model = Some(model);
        self
    }

    /// Further variables it may see: the keys of the providers of models it is to use, e.g.
    /// `OPENROUTER_API_KEY`. Keys of other agents are kept from it unless they are named here.
    #[must_use]
    pub fn with_variables(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.variables.extend(names);
        self
    }

    fn program(&self) -> Option<PathBuf> {
        let own = self.host.home().map(|home| home.join(".opencode/bin"));
        self.host
            .find_program(&["opencode"], &own.into_iter().collect::<Vec<_>>())
    }

    /// Whether somebody chose where prompts go.
    fn has_choice(&self) -> bool {
        self.model.is_some() || self.configures(Chosen::ModelOrProvider) || self.has_login("")
    }

    fn configures(&self, what: Chosen) -> bool {
        let content = self
            .host
            .value("OPENCODE_CONFIG_CONTENT")
            .map(str::to_owned);
        let files = self
            .config_files()
            .into_iter()
            .filter_map(|file| read_small(&file));
        content
            .into_iter()
            .chain(files)
            .any(|config| names(&config, what))
    }

    fn config_files(&self) -> Vec<PathBuf> {
        let home = self.host.home();
        let folders = [
            self.host.value("OPENCODE_CONFIG_DIR").map(PathBuf::from),
            self.folder("XDG_CONFIG_HOME", home, ".config"),
        ];
        let named = self.host.value("OPENCODE_CONFIG").map(PathBuf::from);
        let in_folders = folders.into_iter().flatten().flat_map(|folder| {
            ["opencode.json", "opencode.jsonc", "config.json"].map(|name| folder.join(name))
        });
        named.into_iter().chain(in_folders).collect()
    }

    /// Whether there is a login for a provider whose name contains this. Names of logins only; the
    /// values are never looked at.
    fn has_login(&self, provider: &str) -> bool {
        let folder = self.folder("XDG_DATA_HOME", self.host.home(), ".local/share");
        let text = folder.and_then(|folder| read_small(&folder.join("auth.json")));
        let value = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let logins = value.as_ref().and_then(Value::as_object);
        logins.is_some_and(|logins| logins.keys().any(|name| name.contains(provider)))
    }

    fn folder(&self, variable: &str, home: Option<&Path>, usual: &str) -> Option<PathBuf> {
        let base = self.host.value(variable).map(PathBuf::from);
        Some(base.or_else(|| Some(home?.join(usual)))?.join("opencode"))
    }

    fn environment(&self) -> Environment {
        self.host
            .environment(&self.sees())
            .set("OPENCODE_DISABLE_AUTOUPDATE", "1")
            .set("OPENCODE_PERMISSION", PERMISSION)
    }
}

#[async_trait]
impl Provider for OpencodeProvider {
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
            effort: Choosing::AnyTime,
            usage: true,
            cost: true,
            images: true,
            ran_with: Some("1.18.33"),
            hub_only: true,
            ..Abilities::default()
        }
    }

    fn sees(&self) -> AllowList {
        AllowList::base().with(VARIABLES).with(&self.variables)
    }

    fn find(&self) -> Found {
        WORDS.found(self.program(), self.has_choice())
    }

    async fn probe(&self, limit: Duration) -> Health {
        probed(self.find(), self.environment(), limit).await
    }

    /// `opencode models`, from its cache: no network.
    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError> {
        let env = self.environment();
        let env = env.set("OPENCODE_DISABLE_MODELS_FETCH", "1");
        let launch = outside_of_runs(WORDS.here(self.program())?, &["models"], env);
        let failed = |reason| ListError::NoAnswer {
            provider: WORDS.name.into(),
            reason,
        };
        let output = run_to_end(launch, limit, MODELS_BYTES)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let listed = text
            .lines()
            .map(str::trim)
            .filter(|line| is_model(line))
            .map(str::to_owned);
        let own = self.model.clone();
        let mut models: Vec<_> = own.iter().cloned().chain(listed).collect();
        models.truncate(MAX_MODELS);
        if let Some(own) = &own {
            let mut first = true;
            models.retain(|model| model != own || std::mem::take(&mut first));
        }
        if models.is_empty() {
            Err(failed("it lists none".into()))
        } else {
            Ok(models)
        }
    }

    async fn open(&self, mut spec: RunSpec) -> Result<Conversation, StartError> {
        spec.model = spec.model.or_else(|| self.model.clone());
        let chosen = spec.model.is_some() || self.has_choice();
        let program = WORDS.ready(self.program(), chosen)?;
        let password = random_hex().map_err(|source| StartError::Spawn {
            program: program.clone(),
            source,
        })?;
        // It opens an HTTP server on loopback that would answer anybody on this machine.
        let mut env = with_temp(self.environment(), spec.temp.as_deref())
            .set("OPENCODE_SERVER_PASSWORD", password);
        if !spec.trusted {
            env = env.set("OPENCODE_DISABLE_PROJECT_CONFIG", "1");
        }
        let launch = Launch {
            program,
            args: vec!["acp".into()],
            directory: spec.directory.clone(),
            env,
            run: Some(spec.run.clone()),
        };
        let mut quirks = quirks();
        if self.configures(Chosen::Model) || self.has_login("opencode") {
            quirks.refused_default = None;
        }
        converse(
            launch,
            Box::new(AcpDialogue::new(AcpStart::of(&spec), quirks)),
        )
        .await
    }
}

/// opencode keeps to the protocol. What it must not do is to answer with a hosted model of its own
/// that nobody chose.
pub fn quirks() -> AcpQuirks {
    AcpQuirks {
        model_or_nothing: true,
        refused_default: Some("opencode/".into()),
        tools: ToolQuirks {
            todos_in_input: true,
            ..ToolQuirks::default()
        },
        ..AcpQuirks::plain(WORDS.name, WORDS.login)
    }
}

/// What a configuration is looked through for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chosen {
    Model,
    ModelOrProvider,
}

/// Whether a configuration, which may hold comments, names it.
fn names(config: &str, what: Chosen) -> bool {
    match serde_json::from_str::<Value>(config) {
        Ok(value) => {
            let model = value
                .get("model")
                .and_then(Value::as_str)
                .is_some_and(|m| !m.is_empty());
            let provider = value.get("provider").and_then(Value::as_object);
            let provider = provider.is_some_and(|provider| !provider.is_empty());
            model || (what == Chosen::ModelOrProvider && provider)
        }
        Err(_) => config
            .lines()
            .map(str::trim)
            .any(|line| line.starts_with("\"model\"")),
    }
}

fn is_model(line: &str) -> bool {
    line.contains('/') && line.len() < 200 && !line.contains(char::is_whitespace)
}

fn random_hex() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").map_err(std::io::Error::other)?;
    }
    Ok(text)
}

const WORDS: ProgramWords = ProgramWords {
    name: "opencode",
    program: "opencode",
    install: "install opencode (`npm install -g opencode-ai`)",
    login: "run `opencode auth login`, or set `model` in its configuration",
};
/// Without it edits and commands inside the directory would run unasked.
const PERMISSION: &str = r#"{"edit":"ask","bash":"ask","webfetch":"ask"}"#;
const VARIABLES: [&str; 7] = [
    "OPENCODE_API_KEY",
    "OPENCODE_CONFIG",
    "OPENCODE_CONFIG_CONTENT",
    "OPENCODE_CONFIG_DIR",
    "OPENCODE_DISABLE_LSP_DOWNLOAD",
    "OPENCODE_DISABLE_MODELS_FETCH",
    "OPENCODE_MODELS_URL",
];
const MODELS_BYTES: usize = 1 << 20;
const MAX_MODELS: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_other_keys_only_when_they_are_named_and_always_asks() {
        let vars = [
            ("OPENROUTER_API_KEY", "k"),
            ("OPENCODE_PERMISSION", "{\"edit\":\"allow\"}"),
        ];
        let host = Host::new(vars.map(|(name, value)| (name.into(), value.into())));
        let plain = OpencodeProvider::new(host.clone()).environment();
        assert_eq!(plain.value("OPENROUTER_API_KEY"), None);
        assert_eq!(
            plain.value("OPENCODE_PERMISSION"),
            Some(PERMISSION.as_ref())
        );
        let named = OpencodeProvider::new(host).with_variables(["OPENROUTER_API_KEY".to_owned()]);
        assert_eq!(
            named.environment().value("OPENROUTER_API_KEY"),
            Some("k".as_ref())
        );
    }

    #[test]
    fn its_server_gets_another_password_each_time() {
        let (one, two) = (random_hex().unwrap(), random_hex().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, two);
    }
}
