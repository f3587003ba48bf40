//! How Cursor CLI is found, whether it is logged in, how it is started, and what it does
//! differently from other agents of the protocol.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bridge_proto::{ProviderKey, model::Health};
use serde_json::Value;

use super::StreamDialogue;
use crate::{
    acp::{
        AcpDialogue, AcpQuirks, AcpStart, AskQuirks, ReloadQuirks, ToolQuirks, answers, list_models,
    },
    conversation::converse,
    host::Host,
    plain::sentence,
    process::{AllowList, Environment, Launch},
    program::{ProgramWords, outside_of_runs, read_small, with_temp, with_version},
    provider::{
        Abilities, Asking, Choosing, Conversation, Found, ListError, Provider, RunSpec, StartError,
    },
    skills::{SkillQuery, SkillScope, Skills, in_files, skills_in},
    trust::brought,
};

/// Cursor CLI as the user installed it and is logged in with.
///
/// Its subcommand for the protocol stands in no help text, so only a probe can tell whether a
/// version has it: until one has found that it does not answer, it is believed to.
#[derive(Debug, Clone)]
pub struct CursorProvider {
    key: ProviderKey,
    host: Host,
    print_only: Arc<AtomicBool>,
}

impl CursorProvider {
    /// Its key everywhere.
    pub const KEY: &str = "cursor";

    /// The program that `host` has.
    pub fn new(host: Host) -> Self {
        let key = ProviderKey::parse(Self::KEY).expect("the key is short and plain");
        Self {
            key,
            host,
            print_only: Arc::default(),
        }
    }

    /// Its other name, `agent`, belongs to programs of other makers too.
    fn program(&self) -> Option<PathBuf> {
        self.host.find_program(&["cursor-agent"], &[])
    }

    /// A login in a keychain cannot be looked up; whoever has used it where it keeps logins there
    /// has its settings.
    fn is_logged_in(&self) -> bool {
        let key = ["CURSOR_API_KEY", "CURSOR_AUTH_TOKEN"]
            .iter()
            .any(|name| self.host.value(name).is_some());
        key || self.has_login()
    }

    fn has_login(&self) -> bool {
        let home = self.host.home();
        let config = self.host.value("XDG_CONFIG_HOME").map(PathBuf::from);
        let config = config.or_else(|| Some(home?.join(".config")));
        let roaming = self.host.value("APPDATA").map(PathBuf::from);
        let logins = [
            config.map(|folder| folder.join("cursor/auth.json")),
            roaming.map(|folder| folder.join("Cursor/auth.json")),
            home.map(|home| home.join(".cursor/auth.json")),
        ];
        if logins.into_iter().flatten().any(|file| file.is_file()) {
            return true;
        }
        let settings = home.map(|home| home.join(".cursor/cli-config.json"));
        let settings = settings.and_then(|file| read_small(&file));
        let Some(settings) = settings else {
            return false;
        };
        let known = serde_json::from_str::<Value>(&settings).ok();
        let known = known.and_then(|settings| settings.get("authInfo").cloned());
        cfg!(target_os = "macos") || known.is_some_and(|known| !known.is_null())
    }

    fn environment(&self) -> Environment {
        // Whatever it wants of a browser, nobody sits before the one of this machine.
        self.host
            .environment(&self.sees())
            .set("BROWSER", "/bin/true")
            .set("NO_OPEN_BROWSER", "1")
    }

    /// The program, if it could run a task.
    fn ready(&self) -> Result<PathBuf, StartError> {
        WORDS.ready(self.program(), self.is_logged_in())
    }
}

#[async_trait]
impl Provider for CursorProvider {
    fn key(&self) -> &ProviderKey {
        &self.key
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            follow_up: true,
            permissions: true,
            questions: true,
            model: Choosing::AnyTime,
            mode: Choosing::AnyTime,
            images: true,
            ran_with: None,
            ..Abilities::default()
        }
    }

    fn sees(&self) -> AllowList {
        AllowList::base().with(VARIABLES)
    }

    fn find(&self) -> Found {
        WORDS.found(self.program(), self.is_logged_in())
    }

    /// The version, and whether it speaks the protocol: nothing else is asked, because what knows
    /// of logins may use the network.
    async fn probe(&self, limit: Duration) -> Health {
        let Found { health, program } = self.find();
        let Some(program) = program else {
            return health;
        };
        let begun = Instant::now();
        let health = if let Some(version) = installed_version(&program) {
            Health {
                version: Some(version),
                ..health
            }
        } else {
            let launch = outside_of_runs(program.clone(), &["--version"], self.environment());
            with_version(health, launch, limit).await
        };
        let left = limit.saturating_sub(begun.elapsed());
        let launch = outside_of_runs(program, &["acp"], self.environment());
        let speaks = answers(launch, left).await;
        self.print_only.store(!speaks, Ordering::Relaxed);
        health
    }

    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError> {
        let launch = outside_of_runs(self.ready()?, &["acp"], self.environment());
        list_models(launch, quirks(), limit).await
    }

    async fn skills(&self, query: SkillQuery, _: Duration) -> Skills {
        let own = self.host.home().map(|home| home.join(".cursor/skills"));
        in_files(move || {
            let mut skills = Vec::new();
            if query.project {
                let project =
                    skills_in(&query.directory, ".cursor/skills", '/', SkillScope::Project);
                skills.extend(project);
            }
            if let Some(own) = own {
                skills.extend(skills_in(&own, "", '/', SkillScope::User));
            }
            skills
        })
        .await
    }

    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        if !spec.trusted
            && let Some(brings) = brought(&spec.directory, &PROJECT_SETTINGS)
        {
            return Err(StartError::NotTrusted {
                provider: WORDS.name.into(),
                brings,
            });
        }
        let print = self.print_only.load(Ordering::Relaxed);
        let launch = Launch {
            program: self.ready()?,
            args: if print {
                print_args(&spec)
            } else {
                vec!["acp".into()]
            },
            directory: spec.directory.clone(),
            env: with_temp(self.environment(), spec.temp.as_deref()),
            run: Some(spec.run.clone()),
        };
        if print {
            let dialogue = StreamDialogue::new(&spec.instructions, acts(&spec));
            converse(launch, Box::new(dialogue)).await
        } else {
            let dialogue = AcpDialogue::new(AcpStart::of(&spec), quirks());
            converse(launch, Box::new(dialogue)).await
        }
    }
}

/// What Cursor does differently. It must never be sent `authenticate`: that opens a browser or
/// hangs.
pub fn quirks() -> AcpQuirks {
    AcpQuirks {
        // Names of models as its other commands have them, without their parameters.
        client_meta: &["parameterizedModelPicker"],
        reload: ReloadQuirks {
            by_load_only: true,
            ..ReloadQuirks::default()
        },
        tools: ToolQuirks {
            failed_by: &["error", "rejected"],
            patch_headers: true,
            ..ToolQuirks::default()
        },
        asks: AskQuirks {
            extensions: Some("cursor/"),
            ..AskQuirks::default()
        },
        ..AcpQuirks::plain(WORDS.name, WORDS.login)
    }
}

/// Print mode can ask nobody: either it does everything, or it changes nothing.
fn acts(spec: &RunSpec) -> bool {
    match spec.asking {
        Asking::Unneeded => true,
        Asking::Answered | Asking::Unanswered | Asking::ReadOnly => false,
    }
}

fn print_args(spec: &RunSpec) -> Vec<OsString> {
    // Without `--trust` it waits for a key in a folder it does not know.
    let mut args: Vec<OsString> = [
        "-p",
        "--trust",
        "--output-format=stream-json",
        "--stream-partial-output",
    ]
    .map(Into::into)
    .into();
    if acts(spec) {
        args.push("--force".into());
    }
    if let Some(model) = &spec.model {
        args.push(format!("--model={model}").into());
    }
    if let Some(resume) = &spec.resume {
        args.push(format!("--resume={resume}").into());
    }
    args
}

/// The name of the folder its installer puts each version into.
fn installed_version(program: &Path) -> Option<String> {
    let real = fs::canonicalize(program).ok()?;
    let folder = real.parent()?;
    let versions = folder.parent()?.file_name()?;
    let version = folder.file_name()?.to_str()?;
    (versions == "versions").then(|| sentence(version, 50))
}

const WORDS: ProgramWords = ProgramWords {
    name: "Cursor",
    program: "cursor-agent",
    install: "install Cursor CLI (see cursor.com/cli)",
    login: "run `cursor-agent login`, or set CURSOR_API_KEY",
};
/// What starts programs or allows commands, and cannot be switched off.
const PROJECT_SETTINGS: [&str; 3] = [".cursor/hooks.json", ".cursor/mcp.json", ".cursor/cli.json"];
const VARIABLES: [&str; 2] = ["CURSOR_API_KEY", "CURSOR_AUTH_TOKEN"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_its_own_key_and_no_browser() {
        let vars = [
            ("CURSOR_API_KEY", "own"),
            ("OPENAI_API_KEY", "another's"),
            ("BROWSER", "firefox"),
        ];
        let host = Host::new(vars.map(|(name, value)| (name.into(), value.into())));
        let env = CursorProvider::new(host).environment();
        assert_eq!(env.value("CURSOR_API_KEY"), Some("own".as_ref()));
        assert_eq!(env.value("BROWSER"), Some("/bin/true".as_ref()));
        assert_eq!(env.value("OPENAI_API_KEY"), None);
    }
}
