//! Finding Claude Code, asking it about itself, starting it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use bridge_proto::{ProviderKey, model::Health};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{
    command,
    dialogue::ClaudeDialogue,
    models::{ModelList, heard_answer, models_in},
    skills,
};
use crate::{
    conversation::converse,
    find::find_program,
    host::Host,
    plain::one_line,
    process::{AllowList, Launch, Output, run_to_end},
    program::{ProgramWords, healthy, login_needed, missing, with_temp},
    provider::{
        Abilities, Choosing, Conversation, Found, ListError, Provider, RunSpec, StartError,
    },
    skills::{SkillQuery, SkillSource, Skills},
};

/// Claude Code as the user installed it and is logged in with. Credentials are looked for by name
/// and file only and never read.
#[derive(Debug, Clone)]
pub struct ClaudeProvider {
    key: ProviderKey,
    host: Host,
}

impl ClaudeProvider {
    /// `key` is `claude` or `claude-sdk`; planes use both for the same program.
    pub fn new(key: ProviderKey, host: Host) -> Self {
        Self { key, host }
    }

    /// The program: `CLAUDE_SDK_EXECUTABLE` if it is set, else `claude` in `PATH` and in the usual
    /// places.
    fn program(&self) -> Option<PathBuf> {
        if let Some(named) = self.host.value("CLAUDE_SDK_EXECUTABLE") {
            return find_program(&[named], &[], None);
        }
        let own = self.host.home().map(|home| home.join(".claude/local"));
        self.host
            .find_program(&["claude"], &own.into_iter().collect::<Vec<_>>())
    }

    /// Whether something could log it in. On macOS a login may be in the keychain, which is not
    /// looked at.
    fn may_be_logged_in(&self) -> bool {
        let named = [
            "ANTHROPIC_API_KEY",
            "CLAUDE_CODE_OAUTH_TOKEN",
            "ANTHROPIC_AUTH_TOKEN",
        ];
        let clouds = ["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"];
        cfg!(target_os = "macos")
            || named.iter().any(|name| self.host.value(name).is_some())
            || clouds.iter().any(|name| self.host.is_on(name))
            || self.credentials().is_some_and(|file| file.is_file())
    }

    fn credentials(&self) -> Option<PathBuf> {
        let folder = match self.host.value("CLAUDE_CONFIG_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => self.host.home()?.join(".claude"),
        };
        Some(folder.join(".credentials.json"))
    }

    fn words(&self) -> ProgramWords {
        let named = self.host.value("CLAUDE_SDK_EXECUTABLE").is_some();
        if named { NAMED } else { WORDS }
    }

    fn found(&self) -> Result<PathBuf, StartError> {
        self.words().here(self.program())
    }

    /// A start outside of any run.
    fn launch(&self, program: PathBuf, args: Vec<OsString>) -> Launch {
        let directory = self
            .host
            .home()
            .filter(|home| home.is_dir())
            .map(Path::to_owned);
        Launch {
            program,
            args,
            directory: directory.unwrap_or_else(std::env::temp_dir),
            env: command::environment(&self.host),
            run: None,
        }
    }

    async fn ask(&self, program: &Path, args: &[&str], limit: Duration) -> Result<Output, String> {
        let args = args.iter().map(Into::into).collect();
        run_to_end(self.launch(program.to_owned(), args), limit, MAX_OUTPUT)
            .await
            .map_err(|error| error.to_string())
    }

    /// What it says of its models and commands.
    async fn introduction(&self, limit: Duration) -> Result<Value, ListError> {
        let until = Instant::now() + limit;
        let program = self.found()?;
        let launch = self.launch(program, command::listing_arguments());
        let mut conversation = converse(launch, Box::<ModelList>::default()).await?;
        let mut answer = None;
        while answer.is_none() {
            match timeout_at(until, conversation.heard.recv()).await {
                Ok(Some(heard)) => answer = heard_answer(heard),
                Ok(None) => answer = Some(Err("the program ended without an answer".into())),
                Err(_) => answer = Some(Err(format!("no answer within {limit:?}"))),
            }
        }
        answer
            .unwrap_or_else(|| Err("no answer".into()))
            .map_err(|reason| self.no_answer(reason))
    }

    fn no_answer(&self, reason: String) -> ListError {
        ListError::NoAnswer {
            provider: self.key.as_str().to_owned(),
            reason,
        }
    }
}

#[async_trait]
impl Provider for ClaudeProvider {
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
            mode: Choosing::AnyTime,
            effort: Choosing::AnyTime,
            usage: true,
            cost: true,
            images: true,
            ran_with: Some("2.1.328"),
            hub_only: false,
            plain_only: self.key.as_str() == "claude-sdk",
        }
    }

    fn sees(&self) -> AllowList {
        command::sees(&self.host)
    }

    fn find(&self) -> Found {
        self.words().found(self.program(), self.may_be_logged_in())
    }

    /// `claude --version`, then `claude auth status --json`. The second only looks at what is
    /// stored: an expired login counts. Versions that do not know it are judged by look-ups.
    async fn probe(&self, limit: Duration) -> Health {
        let until = Instant::now() + limit;
        let Some(program) = self.program() else {
            return missing(self.words().install);
        };
        let version = match self.ask(&program, &["--version"], limit).await {
            Ok(output) if output.code == Some(0) => version_of(&output.stdout),
            Ok(output) => return unusable(&format!("it said: {}", output.stderr_tail.trim())),
            Err(reason) => return unusable(&reason),
        };
        let left = until.saturating_duration_since(Instant::now());
        let status = self
            .ask(&program, &["auth", "status", "--json"], left)
            .await;
        let logged_in = status.ok().and_then(|output| logged_in(&output.stdout));
        let found = if logged_in.unwrap_or_else(|| self.may_be_logged_in()) {
            healthy()
        } else {
            login_needed(WORDS.login)
        };
        Health { version, ..found }
    }

    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError> {
        let answer = self.introduction(limit).await?;
        models_in(&answer).map_err(|reason| self.no_answer(reason))
    }

    /// Asked outside of the folder: what a repository brings is not in force for a look.
    async fn skills(&self, _: SkillQuery, limit: Duration) -> Skills {
        let begun = Instant::now();
        match self.introduction(limit.min(BOOT)).await {
            Ok(answer) => skills::in_answer(answer.get("commands").unwrap_or(&Value::Null)),
            Err(error) => {
                tracing::debug!(%error, "no list of commands");
                let late = begun.elapsed() >= limit.min(BOOT);
                let warning = if late {
                    "claude_discovery_timeout"
                } else {
                    "claude_discovery_failed"
                };
                Skills::failed(SkillSource::Live, warning)
            }
        }
    }

    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        let launch = Launch {
            program: self.found()?,
            args: command::arguments(&spec),
            directory: spec.directory.clone(),
            env: with_temp(command::environment(&self.host), spec.temp.as_deref()),
            run: Some(spec.run.clone()),
        };
        let seed = spec.run.marker();
        let dialogue = ClaudeDialogue::new(&seed, spec.resume.is_some());
        converse(launch, Box::new(dialogue)).await
    }
}

/// The program is there and does not run.
fn unusable(why: &str) -> Health {
    missing(&format!(
        "`claude --version` does not work ({}); install it again",
        one_line(why, 300)
    ))
}

/// `2.1.328 (Claude Code)` → `2.1.328`.
fn version_of(stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stdout);
    let word = text.split_whitespace().next()?;
    word.starts_with(|c: char| c.is_ascii_digit())
        .then(|| one_line(word, 50))
}

fn logged_in(stdout: &[u8]) -> Option<bool> {
    serde_json::from_slice::<Value>(stdout)
        .ok()?
        .get("loggedIn")?
        .as_bool()
}

const WORDS: ProgramWords = ProgramWords {
    name: "Claude Code",
    program: "claude",
    install: "install Claude Code (`npm install -g @anthropic-ai/claude-code`), \
              or set CLAUDE_SDK_EXECUTABLE to its path",
    login: "run `claude` and log in, or set ANTHROPIC_API_KEY",
};
const NAMED: ProgramWords = ProgramWords {
    install: "CLAUDE_SDK_EXECUTABLE does not name a program; give its absolute path",
    ..WORDS
};
/// Its start, with a key and no route to its API.
const BOOT: Duration = Duration::from_secs(40);
/// Most bytes kept of what it says about itself.
const MAX_OUTPUT: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_program_says_of_itself() {
        assert_eq!(
            version_of(b"2.1.328 (Claude Code)\n").as_deref(),
            Some("2.1.328")
        );
        assert_eq!(version_of(b"Welcome!"), None);
        assert_eq!(
            logged_in(br#"{"loggedIn":false,"authMethod":"none"}"#),
            Some(false)
        );
        assert_eq!(logged_in(b"error: unknown option '--json'"), None);
    }
}
