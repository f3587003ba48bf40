//! Finding Codex, asking it about itself, starting it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bridge_proto::{Digest, ProviderKey, model::Health};
use tokio::time::{Instant, timeout_at};

use super::{
    command::{self, KEY_VARIABLE, Trust},
    config::Config,
    dialogue::CodexDialogue,
    exec::ExecDialogue,
    start::CodexStart,
    survey::{Found as Surveyed, Survey, heard_survey},
};
use crate::{
    conversation::converse,
    find::find_program,
    host::Host,
    process::{AllowList, Launch},
    program::{ProgramWords, healthy, login_needed, missing, read_small, with_temp, with_version},
    provider::{
        Abilities, Choosing, Conversation, Found, ListError, Provider, RunSpec, StartError,
    },
    skills::{SkillQuery, SkillScope, Skills, in_files, project_folders, skills_in},
};

/// Codex as the user installed it and is logged in with. Its login file is looked for and never
/// read; of its settings only the chosen provider of models is looked at, and none is written.
#[derive(Debug)]
pub struct CodexProvider {
    key: ProviderKey,
    host: Host,
    /// The program whose app-server was last heard.
    speaks: AtomicU64,
    /// The program and version whose app-server did not greet.
    deaf: AtomicU64,
}

/// Why a survey found nothing.
enum Unheard {
    NotStarted(StartError),
    /// The program ended, or refused the greeting.
    Deaf,
    TimedOut,
}

impl CodexProvider {
    /// Its key everywhere.
    pub const KEY: &str = "codex";

    /// The program that `host` has.
    pub fn new(host: Host) -> Self {
        Self {
            key: ProviderKey::parse(Self::KEY).expect("the key is short and plain"),
            host,
            speaks: AtomicU64::new(0),
            deaf: AtomicU64::new(0),
        }
    }

    /// The program: `CODEX_BIN_PATH` if it is set, else `codex` in `PATH` and in the usual places.
    fn program(&self) -> Option<PathBuf> {
        if let Some(named) = self.host.value("CODEX_BIN_PATH") {
            return find_program(&[named], &[], None);
        }
        self.host.find_program(&["codex"], &[])
    }

    /// The folder with its settings, logins and conversations.
    fn folder(&self) -> Option<PathBuf> {
        match self.host.value("CODEX_HOME") {
            Some(folder) => Some(PathBuf::from(folder)),
            None => Some(self.host.home()?.join(".codex")),
        }
    }

    fn config(&self) -> Config {
        let file = self.folder().map(|folder| folder.join("config.toml"));
        let text = file.and_then(|file| read_small(&file));
        text.map(|text| Config::read(&text)).unwrap_or_default()
    }

    /// Whether a login is stored, or prompts go to a provider of the user's own.
    fn has_login(&self, config: &Config) -> bool {
        let file = self.folder().map(|folder| folder.join("auth.json"));
        config.has_own_provider() || config.key_store || file.is_some_and(|file| file.is_file())
    }

    fn words(&self) -> ProgramWords {
        let named = self.host.value("CODEX_BIN_PATH").is_some();
        if named { NAMED } else { WORDS }
    }

    fn found(&self) -> Result<PathBuf, StartError> {
        self.words().here(self.program())
    }

    /// Settings on top of the user's that do not depend on the run.
    fn settings(&self, config: &Config) -> Vec<String> {
        let mut settings = command::always();
        if !self.has_login(config) && self.host.value(KEY_VARIABLE).is_some() {
            settings.extend(command::key_from_variable(&self.host));
        }
        settings
    }

    /// A start outside of any run, in a folder that belongs to nobody.
    fn launch(&self, program: &Path, args: Vec<OsString>) -> Launch {
        let home = self.host.home().filter(|home| home.is_dir());
        Launch {
            program: program.to_owned(),
            args,
            directory: home.map_or_else(std::env::temp_dir, Path::to_owned),
            env: command::environment(&self.host, &self.config()),
            run: None,
        }
    }

    /// What it says of itself in one start of its app-server.
    async fn survey(&self, program: &Path, limit: Duration) -> Result<Surveyed, Unheard> {
        let until = Instant::now() + limit;
        let args = command::server(&self.settings(&self.config()));
        let launch = self.launch(program, args);
        let mut talk = converse(launch, Box::<Survey>::default())
            .await
            .map_err(Unheard::NotStarted)?;
        loop {
            match timeout_at(until, talk.heard.recv()).await {
                Ok(Some(heard)) => {
                    if let Some(answer) = heard_survey(heard) {
                        return answer.map_err(|()| Unheard::Deaf);
                    }
                }
                Ok(None) => return Err(Unheard::Deaf),
                Err(_) => return Err(Unheard::TimedOut),
            }
        }
    }

    /// Whether the user allows what cannot ask: `codex exec`.
    fn may_act_unasked(&self) -> bool {
        self.host.is_on(EXEC_ALLOWED)
    }

    /// Whether its app-server can be talked with. Asked once per program, and again for another
    /// version of one that could not. One that only takes too long is not judged for ever.
    async fn has_server(&self, program: &Path) -> Result<bool, StartError> {
        if self.speaks.load(Ordering::Relaxed) == fingerprint(program, "") {
            return Ok(true);
        }
        let version = self.version(program, LOOK).await.version;
        let version = version.unwrap_or_default();
        if self.deaf.load(Ordering::Relaxed) == fingerprint(program, &version) {
            return Ok(false);
        }
        match self.survey(program, LOOK).await {
            Ok(_) => {
                self.remember(program, &version, true);
                Ok(true)
            }
            Err(Unheard::Deaf) => {
                tracing::warn!(version, "the app-server of this Codex does not work");
                self.remember(program, &version, false);
                Ok(false)
            }
            Err(Unheard::TimedOut) => Ok(false),
            Err(Unheard::NotStarted(error)) => Err(error),
        }
    }

    fn remember(&self, program: &Path, version: &str, speaks: bool) {
        if speaks {
            let known = fingerprint(program, "");
            self.speaks.store(known, Ordering::Relaxed);
        } else {
            self.speaks.store(0, Ordering::Relaxed);
            let known = fingerprint(program, version);
            self.deaf.store(known, Ordering::Relaxed);
        }
    }

    async fn version(&self, program: &Path, limit: Duration) -> Health {
        let launch = self.launch(program, vec!["--version".into()]);
        with_version(healthy(), launch, limit).await
    }
}

#[async_trait]
impl Provider for CodexProvider {
    fn key(&self) -> &ProviderKey {
        &self.key
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            follow_up: true,
            inject: true,
            permissions: true,
            questions: true,
            model: Choosing::AnyTime,
            effort: Choosing::AnyTime,
            usage: true,
            images: true,
            ran_with: Some("0.169.0"),
            ..Abilities::default()
        }
    }

    fn sees(&self) -> AllowList {
        command::sees(&self.config())
    }

    fn find(&self) -> Found {
        let keyed = || self.host.value(KEY_VARIABLE).is_some();
        let ready = self.has_login(&self.config()) || keyed();
        self.words().found(self.program(), ready)
    }

    /// `codex --version`, then its app-server: logged in, or nobody has to be. A version without
    /// one is judged by look-ups where it may be used at all.
    async fn probe(&self, limit: Duration) -> Health {
        let until = Instant::now() + limit;
        let Found { health, program } = self.find();
        let Some(program) = program else {
            return health;
        };
        let said = self.version(&program, limit).await;
        if !said.available {
            return said;
        }
        let left = until.saturating_duration_since(Instant::now());
        let version = said.version.clone().unwrap_or_default();
        let judged = match self.survey(&program, left).await {
            Ok(found) => {
                self.remember(&program, &version, true);
                if found.ready {
                    healthy()
                } else {
                    login_needed(WORDS.login)
                }
            }
            Err(Unheard::Deaf) => {
                self.remember(&program, &version, false);
                if self.may_act_unasked() {
                    health
                } else {
                    missing(UNASKED)
                }
            }
            Err(Unheard::TimedOut | Unheard::NotStarted(_)) => health,
        };
        Health {
            version: said.version,
            ..judged
        }
    }

    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError> {
        let program = self.found()?;
        let no_answer = |reason: &str| ListError::NoAnswer {
            provider: WORDS.name.to_owned(),
            reason: reason.to_owned(),
        };
        match self.survey(&program, limit).await {
            Ok(found) if found.models.is_empty() => Err(no_answer("the list is empty")),
            Ok(found) => Ok(found.models),
            Err(Unheard::Deaf) => Err(no_answer("its app-server does not work")),
            Err(Unheard::TimedOut) => Err(no_answer("no answer in time")),
            Err(Unheard::NotStarted(error)) => Err(error.into()),
        }
    }

    /// The nearest of a project first, then the user's, then those that came with it.
    async fn skills(&self, query: SkillQuery, _: Duration) -> Skills {
        let home = self.host.home().map(Path::to_owned);
        let own = self.folder();
        in_files(move || {
            let mut skills = Vec::new();
            if query.project {
                for folder in project_folders(&query.directory) {
                    skills.extend(skills_in(
                        &folder,
                        ".agents/skills",
                        '$',
                        SkillScope::Project,
                    ));
                }
            }
            let users = home.map(|home| home.join(".agents/skills"));
            let own = own.map(|own| own.join("skills"));
            let system = own.as_ref().map(|own| own.join(".system"));
            for (folder, scope) in [
                (users, SkillScope::User),
                (own, SkillScope::User),
                (system, SkillScope::Builtin),
            ] {
                if let Some(folder) = folder {
                    skills.extend(skills_in(&folder, "", '$', scope));
                }
            }
            skills
        })
        .await
    }

    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        let program = self.found()?;
        let config = self.config();
        let mut start = CodexStart::of(&spec);
        let usual = self.host.value("CODEX_DEFAULT_MODEL");
        start.model = start.model.or_else(|| usual.map(str::to_owned));
        let mut settings = self.settings(&config);
        settings.push(trust_of(&spec).setting(|folder| folder.join(".git").exists()));
        let has_server = self.has_server(&program).await?;
        if !has_server && !self.may_act_unasked() {
            return Err(StartError::Unasked {
                provider: WORDS.name.into(),
                hint: UNASKED.into(),
            });
        }
        let args = if has_server {
            command::server(&settings)
        } else {
            command::exec(&start, &settings)
        };
        let env = command::environment(&self.host, &config);
        let launch = Launch {
            program,
            args,
            directory: spec.directory.clone(),
            env: with_temp(env, spec.temp.as_deref()),
            run: Some(spec.run.clone()),
        };
        if has_server {
            converse(launch, Box::new(CodexDialogue::new(start))).await
        } else {
            let dialogue = ExecDialogue::new(&start.directory, start.resume.is_some());
            converse(launch, Box::new(dialogue)).await
        }
    }
}

fn trust_of(spec: &RunSpec) -> Trust {
    let resolved = spec.directory.canonicalize().ok();
    let mut names = vec![spec.directory.clone()];
    names.extend(resolved.filter(|name| *name != spec.directory));
    Trust {
        names,
        trusted: spec.trusted,
    }
}

/// A number for a program of a version, never 0.
fn fingerprint(program: &Path, version: &str) -> u64 {
    let digest = Digest::of(&[&program.to_string_lossy(), version]);
    let digits = digest.as_str().get(..16).unwrap_or_default();
    u64::from_str_radix(digits, 16).unwrap_or_default() | 1
}

const WORDS: ProgramWords = ProgramWords {
    name: "Codex",
    program: "codex",
    install: "install Codex (`npm install -g @openai/codex`), or set CODEX_BIN_PATH to its path",
    login: "run `codex login`, or set CODEX_API_KEY",
};
const NAMED: ProgramWords = ProgramWords {
    install: "CODEX_BIN_PATH does not name a program; give its absolute path",
    ..WORDS
};
/// The variable by which the user allows `codex exec`.
const EXEC_ALLOWED: &str = "CODEX_EXEC_FALLBACK";
const UNASKED: &str = "its app-server does not work, and `codex exec` asks nobody: update Codex, \
                       or set CODEX_EXEC_FALLBACK=1 to let it work in its sandbox";
/// How long a program may take to say whether it has an app-server; seen are 0.1 to 0.5 s.
const LOOK: Duration = Duration::from_secs(45);
