//! Gemini CLI: how it is found, whether it is logged in, how it is started, and what it does
//! differently from other agents of the protocol.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bridge_proto::{ProviderKey, ResumeId, Timestamp, model::Health};
use serde_json::Value;

use crate::{
    acp::{AcpDialogue, AcpQuirks, AcpStart, list_models},
    conversation::converse,
    host::Host,
    process::{AllowList, Environment, Launch},
    program::{ProgramWords, outside_of_runs, probed, read_small, with_temp},
    provider::{
        Abilities, Choosing, Conversation, Found, ListError, Provider, RunSpec, StartError,
    },
    skills::{SkillQuery, SkillScope, Skills, commands_in, in_files},
};

/// Gemini CLI as the user installed it and is logged in with.
#[derive(Debug, Clone)]
pub struct GeminiProvider {
    key: ProviderKey,
    host: Host,
}

impl GeminiProvider {
    /// Its key everywhere.
    pub const KEY: &str = "gemini";

    /// The program that `host` has.
    pub fn new(host: Host) -> Self {
        let key = ProviderKey::parse(Self::KEY).expect("the key is short and plain");
        Self { key, host }
    }

    fn program(&self) -> Option<PathBuf> {
        self.host.find_program(&["gemini"], &[])
    }

    /// The folder with its settings, credentials and conversations.
    fn folder(&self) -> Option<PathBuf> {
        let home = self.host.value("GEMINI_CLI_HOME").map(PathBuf::from);
        Some(
            home.or_else(|| self.host.home().map(Path::to_owned))?
                .join(".gemini"),
        )
    }

    /// Whether it would start without asking for a login. It must never be started when it would:
    /// it asks on standard output and takes what we send for the answer. A chosen way of logging
    /// in wins over variables.
    fn is_logged_in(&self) -> bool {
        let folder = self.folder();
        let settings = folder
            .as_ref()
            .and_then(|folder| read_small(&folder.join("settings.json")));
        match settings.as_deref().and_then(selected_login).as_deref() {
            Some("oauth-personal") => folder.is_some_and(|folder| self.has_google_login(&folder)),
            // Fails in plain words when its key is gone, which may be in a keychain.
            Some(_) => true,
            None => self.has_variables() || self.has_env_file(),
        }
    }

    fn has_google_login(&self, folder: &Path) -> bool {
        let encrypted = self.host.is_on("GEMINI_FORCE_ENCRYPTED_FILE_STORAGE");
        folder.join("oauth_creds.json").is_file() || encrypted
    }

    fn has_variables(&self) -> bool {
        let set = |name: &str| self.host.value(name).is_some();
        let vertex = self.host.is_on("GOOGLE_GENAI_USE_VERTEXAI")
            && (set("GOOGLE_CLOUD_PROJECT") || set("GOOGLE_API_KEY"));
        vertex
            || self.host.is_on("GOOGLE_GENAI_USE_GCA")
            || set("GEMINI_API_KEY")
            || set("GOOGLE_GEMINI_BASE_URL")
    }

    /// A key in one of the files it reads in every folder; only the name is looked for.
    fn has_env_file(&self) -> bool {
        let files = [
            self.folder().map(|folder| folder.join(".env")),
            self.host.home().map(|home| home.join(".env")),
        ];
        files
            .into_iter()
            .flatten()
            .filter_map(|file| read_small(&file))
            .any(|text| {
                text.lines().any(|line| {
                    let line = line.trim();
                    line.strip_prefix("export ")
                        .unwrap_or(line)
                        .starts_with("GEMINI_API_KEY=")
                })
            })
    }

    fn environment(&self) -> Environment {
        // Without it the program starts itself again, and the parent swallows signals.
        self.host
            .environment(&self.sees())
            .set("GEMINI_CLI_NO_RELAUNCH", "1")
    }

    /// The program, if it could run a task.
    fn ready(&self) -> Result<PathBuf, StartError> {
        WORDS.ready(self.program(), self.is_logged_in())
    }

    /// How long continuing this conversation has to wait: within the clock minute in which its
    /// file was begun the program would overwrite it.
    fn hold(&self, id: &ResumeId, now: Timestamp) -> Option<Duration> {
        let text = now.to_string();
        let minute = text.get(..16)?.replace(':', "-");
        let begin = format!("session-{minute}-");
        let short: String = id.as_str().chars().take(8).collect();
        let projects = fs::read_dir(self.folder()?.join("tmp")).ok()?;
        let mut names = projects
            .flatten()
            .filter_map(|project| fs::read_dir(project.path().join("chats")).ok())
            .flat_map(Iterator::flatten)
            .filter_map(|file| file.file_name().into_string().ok());
        names.find(|name| name.starts_with(&begin) && name.contains(&short))?;
        let passed = u64::try_from(now.as_millis().rem_euclid(60_000)).ok()?;
        Some(Duration::from_millis(60_000 - passed) + Duration::from_secs(1))
    }
}

#[async_trait]
impl Provider for GeminiProvider {
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
            ran_with: Some("0.61.0"),
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

    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError> {
        let launch = outside_of_runs(self.ready()?, &["--acp"], self.environment());
        list_models(launch, quirks(), limit).await
    }

    async fn skills(&self, query: SkillQuery, _: Duration) -> Skills {
        let own = self.folder().map(|folder| folder.join("commands"));
        in_files(move || {
            let mut skills = Vec::new();
            if query.project {
                let project =
                    commands_in(&query.directory, ".gemini/commands", SkillScope::Project);
                skills.extend(project);
            }
            if let Some(own) = own {
                skills.extend(commands_in(&own, "", SkillScope::User));
            }
            skills
        })
        .await
    }

    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        let mut args: Vec<OsString> = vec!["--acp".into()];
        if let Some(model) = &spec.model {
            args.push(format!("--model={model}").into());
        }
        let mut env = with_temp(self.environment(), spec.temp.as_deref());
        if spec.trusted {
            env = env.set("GEMINI_CLI_TRUST_WORKSPACE", "true");
        }
        let launch = Launch {
            program: self.ready()?,
            args,
            directory: spec.directory.clone(),
            env,
            run: Some(spec.run.clone()),
        };
        let mut start = AcpStart::of(&spec);
        start.hold_resume = spec.resume.as_ref().and_then(|id| self.hold(id, now()));
        converse(launch, Box::new(AcpDialogue::new(start, quirks()))).await
    }
}

/// What Gemini CLI does differently. It must never be sent `authenticate`: that rewrites the
/// user's settings, or asks for a login on standard output.
pub fn quirks() -> AcpQuirks {
    AcpQuirks {
        login_prompts: vec![
            "Please visit the following URL".into(),
            "Enter the authorization code".into(),
        ],
        login_exit_codes: vec![41],
        mode_chunk: Some("[MODE_UPDATE] ".into()),
        model_at_launch: true,
        ..AcpQuirks::plain(WORDS.name, WORDS.login)
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// `security.auth.selectedType` of the settings, which may hold comments.
fn selected_login(settings: &str) -> Option<String> {
    if let Ok(value) = serde_json::from_str::<Value>(settings) {
        let selected = value.pointer("/security/auth/selectedType")?.as_str()?;
        return Some(selected.to_owned());
    }
    let after = settings.split_once("\"selectedType\"")?.1.trim_start();
    let after = after.strip_prefix(':')?.trim_start().strip_prefix('"')?;
    Some(after.split_once('"')?.0.to_owned())
}

const WORDS: ProgramWords = ProgramWords {
    name: "Gemini CLI",
    program: "gemini",
    install: "install Gemini CLI (`npm install -g @google/gemini-cli`)",
    login: "run `gemini` once and log in, or set GEMINI_API_KEY",
};
/// Its own credentials, where they are sent, and where its files are.
const VARIABLES: [&str; 13] = [
    "GEMINI_API_KEY",
    "GEMINI_CLI_HOME",
    "GEMINI_FORCE_ENCRYPTED_FILE_STORAGE",
    "GEMINI_MODEL",
    "GOOGLE_API_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_LOCATION",
    "GOOGLE_CLOUD_PROJECT",
    "GOOGLE_GEMINI_BASE_URL",
    "GOOGLE_GENAI_API_VERSION",
    "GOOGLE_GENAI_USE_GCA",
    "GOOGLE_GENAI_USE_VERTEXAI",
    "GOOGLE_VERTEX_BASE_URL",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(vars: &[(&str, &str)]) -> GeminiProvider {
        GeminiProvider::new(Host::new(
            vars.iter().map(|(name, value)| (name.into(), value.into())),
        ))
    }

    #[test]
    fn it_sees_its_own_key_and_no_other() {
        let env = provider(&[
            ("GEMINI_API_KEY", "own"),
            ("ANTHROPIC_API_KEY", "another's"),
            ("PAIRING_TOKEN", "the bridge's"),
            ("GEMINI_CLI_TRUST_WORKSPACE", "true"),
        ])
        .environment();
        assert_eq!(env.value("GEMINI_API_KEY"), Some("own".as_ref()));
        for name in [
            "ANTHROPIC_API_KEY",
            "PAIRING_TOKEN",
            "GEMINI_CLI_TRUST_WORKSPACE",
        ] {
            assert_eq!(env.value(name), None, "{name}");
        }
    }

    #[test]
    fn continuing_a_conversation_waits_for_the_end_of_the_minute_its_file_was_begun_in() {
        let home = tempfile::TempDir::new().unwrap();
        let chats = home.path().join(".gemini/tmp/project/chats");
        fs::create_dir_all(&chats).unwrap();
        fs::write(chats.join("session-2026-11-20T08-04-cd3796ca.jsonl"), "").unwrap();
        let provider = provider(&[("HOME", home.path().to_str().unwrap())]);
        let hold = |id: &str, now: &str| {
            provider.hold(&ResumeId::parse(id).unwrap(), now.parse().unwrap())
        };
        let id = "cd3796ca-f055-4448-9bff-e0614f3ca41b";
        assert_eq!(
            hold(id, "2026-11-20T08:04:10.000Z"),
            Some(Duration::from_secs(51))
        );
        assert_eq!(hold(id, "2026-11-20T08:05:00.000Z"), None);
        assert_eq!(
            hold("another-conversation", "2026-11-20T08:04:10.000Z"),
            None
        );
    }
}
