//! GitHub Copilot CLI: how it is found behind npm's loader, whether it is logged in, how it is
//! started, and what it does differently from other agents of the protocol.

mod skills;

use std::{
    env::consts::{ARCH, OS},
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use bridge_proto::{ProviderKey, model::Health};
use serde_json::Value;

use crate::{
    acp::{AcpDialogue, AcpQuirks, AcpStart, Beginning, TextQuirks, TurnQuirks},
    conversation::converse,
    find::find_program,
    host::Host,
    process::{AllowList, Environment, Launch, run_to_end},
    program::{ProgramWords, probed, read_small, with_temp},
    provider::{
        Abilities, Choosing, Conversation, Found, ListError, Provider, RunSpec, StartError,
    },
    skills::{SkillQuery, SkillSource, Skills},
    trust::brought,
};

/// GitHub Copilot CLI as the user installed it and is logged in with.
///
/// `GH_TOKEN` and `GITHUB_TOKEN` are kept from it: they would outrank the user's login, and where
/// a daemon runs they belong to something else more often than not. A token that is meant for
/// Copilot goes into `COPILOT_GITHUB_TOKEN`.
#[derive(Debug, Clone)]
pub struct CopilotProvider {
    key: ProviderKey,
    host: Host,
}

impl CopilotProvider {
    /// Its key everywhere.
    pub const KEY: &str = "copilot";

    /// The program that `host` has.
    pub fn new(host: Host) -> Self {
        let key = ProviderKey::parse(Self::KEY).expect("the key is short and plain");
        Self { key, host }
    }

    fn program(&self) -> Option<PathBuf> {
        let found = self.host.find_program(&["copilot"], &[])?;
        Some(native(&found).unwrap_or(found))
    }

    /// The folder with its settings, credentials and conversations.
    fn folder(&self) -> Option<PathBuf> {
        let named = self.host.value("COPILOT_HOME").map(PathBuf::from);
        named.or_else(|| Some(self.host.home()?.join(".copilot")))
    }

    /// As far as files and names of variables tell. A keychain is not asked: whoever logged in
    /// stands in the settings too.
    fn is_logged_in(&self) -> bool {
        self.has_own_models() || self.has_token() || self.has_login() || self.has_gh_login()
    }

    /// A provider of models that the user pays for needs no account.
    fn has_own_models(&self) -> bool {
        self.host.value("COPILOT_PROVIDER_BASE_URL").is_some() && self.own_model().is_some()
    }

    fn own_model(&self) -> Option<&str> {
        let named = self.host.value("COPILOT_MODEL");
        named.or_else(|| self.host.value("COPILOT_PROVIDER_MODEL_ID"))
    }

    /// Classic tokens are refused by it.
    fn has_token(&self) -> bool {
        let token = self.host.value("COPILOT_GITHUB_TOKEN");
        token.is_some_and(|token| !token.starts_with("ghp_"))
    }

    fn has_login(&self) -> bool {
        let file = self.folder().map(|folder| folder.join("config.json"));
        let text = file.and_then(|file| read_small(&file));
        let config = text.and_then(|text| without_comment_lines(&text));
        config.is_some_and(|config| {
            let users = config.get("loggedInUsers").and_then(Value::as_array);
            let last = config.get("lastLoggedInUser");
            users.is_some_and(|users| !users.is_empty()) || last.is_some_and(|last| !last.is_null())
        })
    }

    /// It uses what the `gh` program is logged in with.
    fn has_gh_login(&self) -> bool {
        let named = self.host.value("GH_CONFIG_DIR").map(PathBuf::from);
        let base = self.host.value("XDG_CONFIG_HOME").map(PathBuf::from);
        let folder = named.or_else(|| {
            let base = base.or_else(|| Some(self.host.home()?.join(".config")))?;
            Some(base.join("gh"))
        });
        let hosts = folder.and_then(|folder| read_small(&folder.join("hosts.yml")));
        hosts.is_some_and(|hosts| {
            hosts
                .lines()
                .any(|line| !line.starts_with([' ', '#', '-']) && line.trim_end().ends_with(':'))
        })
    }

    fn environment(&self) -> Environment {
        // Without it another version than the one that was found may be fetched and run.
        self.host
            .environment(&self.sees())
            .set("COPILOT_AUTO_UPDATE", "false")
    }

    /// The program, if it could run a task.
    fn ready(&self) -> Result<PathBuf, StartError> {
        WORDS.ready(self.program(), self.is_logged_in())
    }
}

#[async_trait]
impl Provider for CopilotProvider {
    fn key(&self) -> &ProviderKey {
        &self.key
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            follow_up: true,
            permissions: true,
            model: Choosing::AtStart,
            mode: Choosing::AnyTime,
            usage: true,
            images: true,
            ran_with: Some("1.0.102"),
            ..Abilities::default()
        }
    }

    fn sees(&self) -> AllowList {
        AllowList::base().with(VARIABLES)
    }

    fn find(&self) -> Found {
        WORDS.found(self.program(), self.is_logged_in())
    }

    async fn probe(&self, limit: Duration) -> Health {
        probed(self.find(), self.environment(), limit).await
    }

    /// It tells none, whatever it is asked: the one the user set, if there is one.
    async fn models(&self, _limit: Duration) -> Result<Vec<String>, ListError> {
        self.ready()?;
        let own = self.own_model().map(str::to_owned);
        own.map(|model| vec![model])
            .ok_or_else(|| ListError::NoAnswer {
                provider: WORDS.name.into(),
                reason: "it lists none; a task may name one".into(),
            })
    }

    /// Asked in the folder itself only where the folder brings nothing that would run unasked.
    async fn skills(&self, query: SkillQuery, limit: Duration) -> Skills {
        let Some(program) = self.program() else {
            return Skills::failed(SkillSource::Unsupported, "copilot_cli_binary_missing");
        };
        let hostile = brought(&query.directory, &[HOOKS]).is_some();
        let launch = Launch {
            program,
            args: ["skill", "list", "--json"].map(Into::into).to_vec(),
            directory: if query.project && !hostile {
                query.directory
            } else {
                std::env::temp_dir()
            },
            env: self.environment(),
            run: None,
        };
        skills::of(run_to_end(launch, limit.min(SKILLS_LIMIT), SKILLS_BYTES).await)
    }

    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        if !spec.trusted
            && let Some(brings) = brought(&spec.directory, &[HOOKS])
        {
            return Err(StartError::NotTrusted {
                provider: WORDS.name.into(),
                brings,
            });
        }
        let mut args: Vec<OsString> = vec!["--acp".into()];
        if let Some(model) = &spec.model {
            args.push(format!("--model={model}").into());
        }
        let launch = Launch {
            program: self.ready()?,
            args,
            directory: spec.directory.clone(),
            env: with_temp(self.environment(), spec.temp.as_deref()),
            run: Some(spec.run.clone()),
        };
        let dialogue = AcpDialogue::new(AcpStart::of(&spec), quirks());
        converse(launch, Box::new(dialogue)).await
    }
}

/// What GitHub Copilot CLI does differently. Its models cannot be chosen in a session: it answers
/// well and does nothing.
pub fn quirks() -> AcpQuirks {
    AcpQuirks {
        model_at_launch: true,
        text: TextQuirks {
            remark: Some("Info: "),
            retrying: Some("Retrying..."),
            failed: FAILED,
            failed_alone: FAILED,
        },
        turn: TurnQuirks {
            usage_of_all: true,
            ..TurnQuirks::default()
        },
        ..AcpQuirks::plain(WORDS.name, WORDS.login)
    }
}

/// The native program behind npm's loader, which is a Node process that only waits for it and
/// keeps signals from it. `None` when `found` is no loader, or its program is not where npm puts
/// it.
fn native(found: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(found).ok()?;
    let folder = real.parent()?;
    let inside = |folder: &Path| folder.join("node_modules").join("@github");
    let scopes = if real.file_name().is_some_and(|name| name == "npm-loader.js") {
        vec![folder.parent()?.to_owned(), inside(folder)]
    } else {
        // On Windows npm leaves a script beside the packages.
        let scope = inside(folder);
        vec![scope.clone(), inside(&scope.join("copilot"))]
    };
    let arch = match ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let systems: &[&str] = match OS {
        "linux" => &["linux", "linuxmusl"],
        "macos" => &["darwin"],
        "windows" => &["win32"],
        _ => &[],
    };
    let programs = scopes.iter().flat_map(|scope| {
        let package = move |system| scope.join(format!("copilot-{system}-{arch}"));
        systems.iter().map(package)
    });
    let names: Vec<String> = programs
        .map(|package| package.join("copilot").display().to_string())
        .collect();
    find_program(&names, &[], None)
}

/// Its settings have lines of comment.
fn without_comment_lines(text: &str) -> Option<Value> {
    let lines = text.lines();
    let lines: Vec<&str> = lines
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    serde_json::from_str(&lines.join("\n")).ok()
}

const WORDS: ProgramWords = ProgramWords {
    name: "GitHub Copilot",
    program: "copilot",
    install: "install GitHub Copilot CLI (`npm install -g @github/copilot`)",
    login: "run `copilot login`, or set COPILOT_GITHUB_TOKEN",
};
/// For its list of skills.
const SKILLS_LIMIT: Duration = Duration::from_secs(5);
const SKILLS_BYTES: usize = 1 << 20;
/// What stands there is run unasked, whoever brought it and whatever is set.
const HOOKS: &str = ".github/hooks";
const FAILED: &[Beginning] = &[Beginning::Words("Error: ")];
/// Its own credentials, where they are sent, and where its files are; never what allows everything
/// (`COPILOT_ALLOW_ALL`).
const VARIABLES: [&str; 20] = [
    "COPILOT_GH_HOST",
    "COPILOT_GITHUB_TOKEN",
    "COPILOT_HOME",
    "COPILOT_MODEL",
    "COPILOT_OFFLINE",
    "COPILOT_PROVIDER_API_KEY",
    "COPILOT_PROVIDER_API_KEY_COMMAND",
    "COPILOT_PROVIDER_AZURE_API_VERSION",
    "COPILOT_PROVIDER_BASE_URL",
    "COPILOT_PROVIDER_BEARER_TOKEN",
    "COPILOT_PROVIDER_HEADERS",
    "COPILOT_PROVIDER_MAX_OUTPUT_TOKENS",
    "COPILOT_PROVIDER_MAX_PROMPT_TOKENS",
    "COPILOT_PROVIDER_MODEL_ID",
    "COPILOT_PROVIDER_TRANSPORT",
    "COPILOT_PROVIDER_TYPE",
    "COPILOT_PROVIDER_WIRE_API",
    "COPILOT_PROVIDER_WIRE_MODEL",
    "GH_CONFIG_DIR",
    "GH_HOST",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_its_own_token_and_models_and_never_a_general_token_of_github() {
        let vars = [
            ("COPILOT_GITHUB_TOKEN", "own"),
            ("COPILOT_PROVIDER_API_KEY", "own too"),
            ("GITHUB_TOKEN", "the bridge's"),
            ("GH_TOKEN", "the bridge's"),
            ("COPILOT_ALLOW_ALL", "true"),
            ("COPILOT_AUTO_UPDATE", "true"),
        ];
        let host = Host::new(vars.map(|(name, value)| (name.into(), value.into())));
        let env = CopilotProvider::new(host).environment();
        let value = |name: &str| env.value(name).and_then(|value| value.to_str());
        assert_eq!(value("COPILOT_GITHUB_TOKEN"), Some("own"));
        assert_eq!(value("COPILOT_PROVIDER_API_KEY"), Some("own too"));
        assert_eq!(value("COPILOT_AUTO_UPDATE"), Some("false"));
        for name in ["GITHUB_TOKEN", "GH_TOKEN", "COPILOT_ALLOW_ALL"] {
            assert_eq!(value(name), None, "{name}");
        }
    }
}
