//! What was configured: flags over environment over files over defaults, checked once.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use bridge_proto::{AgentId, Secret};
use bridge_providers::{host::Host, process};
use bridge_runtime::{CommandRule, DropSettings, EditRule, Policy, RemoteRule, Rules};
use bridge_transport::{CarrierKind, Compress, TlsSettings, spool::SpoolConfig};
use bridge_workspace::{
    ContentsPolicy, Watching,
    env_file::{self, Discovery, Disk, EnvFile, Pairing, Places},
};

use crate::{
    agents_file::{self, AgentsFile},
    daemon::BUILT_IN,
    keys,
    plane_address::understood,
    report::{Exit, Problem},
    rules_file::{self, RulesError},
    shown_address::shown,
    tls_settings,
};

/// The control plane of the hosted service, when nothing else is configured.
pub(crate) const DEFAULT_URL: &str = "wss://api.ctrlnode.ai/ws/bridge";

/// Everything the bridge is configured with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) pairing: Pairing,
    pub(crate) base: PathBuf,
    pub(crate) policy: Policy,
    /// Which file contents may leave this machine.
    pub(crate) contents: ContentsPolicy,
    pub(crate) heartbeat: Duration,
    pub(crate) rescan: Duration,
    pub(crate) reconnect: Option<Duration>,
    pub(crate) dial: Duration,
    /// What a TLS handshake with the control plane is held to.
    pub(crate) tls: TlsSettings,
    pub(crate) allow_plain: bool,
    /// When batches are compressed for a hub that knows how.
    pub(crate) compress: Compress,
    /// How frames travel; the best way that gets through for `None`.
    pub(crate) carrier: Option<CarrierKind>,
    /// Whether the control plane is asked over HTTP what it knows of versions, models and providers.
    pub(crate) side_channel: bool,
    /// How events wait on the disk until the other end has them; in memory alone for `None`.
    pub(crate) spool: Option<SpoolConfig>,
    /// How the workspaces of OpenClaw's agents are watched, if they are.
    pub(crate) watching: Option<Watching>,
    pub(crate) trusted: Vec<PathBuf>,
    /// What the user decided beforehand about single actions.
    pub(crate) rules: Rules,
    /// How long an agent may plan a pipeline.
    pub(crate) planning: Duration,
    /// Whether dropped tasks are looked for.
    pub(crate) watch_tasks: bool,
    /// What is told about them.
    pub(crate) drops: DropSettings,
    /// Where the rules were read, if there are any.
    pub(crate) rules_file: Option<PathBuf>,
    /// Commands the user named that speak the Agent Client Protocol, by provider key.
    pub(crate) agents: BTreeMap<String, Vec<String>>,
    /// The agents of the user's own file.
    pub(crate) agents_file: AgentsFile,
    /// The machine as the agents may know it: the environment, with what the files add.
    pub(crate) host: Host,
    pub(crate) discovery: Discovery,
    /// What the files and the environment have that is called like a setting and is none.
    pub(crate) unknown: Vec<String>,
    /// Files that are wrong, in place of which there is nothing here. [`Settings::load`] gives them
    /// back as its error.
    pub(crate) broken: Vec<Problem>,
}

/// The places where configuration is looked for on this machine.
pub(crate) fn places(base: Option<PathBuf>) -> Places {
    let home = directories::BaseDirs::new().map(|dirs| dirs.home_dir().to_owned());
    let current = env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let mut places = Places {
        home,
        base: None,
        current,
    };
    places.base = base.or_else(|| variable("BASE_PATH").map(|base| places.path(&base)));
    places
}

impl Settings {
    /// As `up` uses them. What the files say of workspace and contents belongs to the pairing of
    /// this machine; for a hub of the user's own only flag and environment count, and where
    /// nothing was decided its page shows everything.
    pub(crate) fn of_own_hub(base: Option<PathBuf>) -> Result<Self, Problem> {
        let places = places(base.map(named_folder));
        let mut settings = Self::below(places.base.or(places.home))?.whole()?;
        settings.side_channel = false;
        // Its page has no use for it.
        settings.watching = None;
        if variable("CTRLNODE_CONTENTS").is_none() {
            settings.contents = ContentsPolicy::Workspace;
        }
        Ok(settings)
    }

    /// Reads environment and files. `base` is the workspace a flag named.
    pub(crate) fn load(base: Option<PathBuf>) -> Result<Self, Problem> {
        Self::below(base.map(named_folder))?.whole()
    }

    /// The same for somebody who only tells about it: with what is broken.
    pub(crate) fn look() -> Result<Self, Problem> {
        Self::below(None)
    }

    /// Without all of its rules the bridge does not start, and not with agents that are not meant.
    fn whole(mut self) -> Result<Self, Problem> {
        if self.broken.is_empty() {
            Ok(self)
        } else {
            Err(self.broken.remove(0))
        }
    }

    fn below(base: Option<PathBuf>) -> Result<Self, Problem> {
        let places = places(base.clone());
        let discovery = env_file::discover(&Disk, &places);
        for warning in &discovery.warnings {
            tracing::warn!("{warning}");
        }
        let unknown = unknown_keys(&discovery);
        for warning in &unknown {
            tracing::warn!("{warning}");
        }
        let text = |key: &str| {
            let value = discovery.value(key, variable(key).as_deref());
            value.map(|value| value.expose().to_owned())
        };
        let base = base
            .or_else(|| text("BASE_PATH").map(|base| places.path(&base)))
            .or_else(|| places.home.clone())
            .ok_or_else(|| {
                Problem::new("there is no workspace and no home folder")
                    .hint("name the workspace with BASE_PATH")
                    .exit(Exit::NotConfigured)
            })?;
        let token = variable("PAIRING_TOKEN");
        let mut pairing = discovery.pairing(token.as_deref(), variable("SAAS_URL").as_deref());
        pairing.url = pairing.url.as_deref().map(understood);
        let millis = |key: &str, default: u64| -> Result<Duration, Problem> {
            let value: u64 = number(key, text(key))?.unwrap_or(default);
            Ok(Duration::from_millis(value.clamp(100, 24 * 3600 * 1000)))
        };
        let defaults = Policy::default();
        let minutes = |key: &str, default: Duration| -> Result<Duration, Problem> {
            let value: Option<u64> = number(key, text(key))?;
            Ok(value.map_or(default, |value| {
                Duration::from_secs(value.clamp(1, 7 * 24 * 60) * 60)
            }))
        };
        let policy = Policy {
            parallel: number("CTRLNODE_PARALLEL", text("CTRLNODE_PARALLEL"))?
                .unwrap_or(defaults.parallel)
                .clamp(1, 64),
            silence: minutes("TASK_TIMEOUT_MINUTES", defaults.silence)?,
            patience: match number(
                "CTRLNODE_MODEL_PATIENCE_SECONDS",
                text("CTRLNODE_MODEL_PATIENCE_SECONDS"),
            )? {
                None => defaults.patience,
                Some(0_u64) => None,
                Some(seconds) => Some(Duration::from_secs(seconds.min(7 * 24 * 3600))),
            },
            ask_wait: minutes("CTRLNODE_ASK_MINUTES", defaults.ask_wait)?,
            edits: one_of("CTRLNODE_EDITS", text("CTRLNODE_EDITS"), EDITS)?
                .unwrap_or(defaults.edits),
            commands: commands(&text)?.unwrap_or(defaults.commands),
            remote: one_of("OPENCLAW_REMOTE", text("OPENCLAW_REMOTE"), REMOTE)?
                .unwrap_or(defaults.remote),
            send_thinking: text("LOG_THINKING")
                .is_none_or(|value| value.eq_ignore_ascii_case("true")),
            ..defaults
        };
        let contents = match text("CTRLNODE_CONTENTS") {
            None => ContentsPolicy::default(),
            Some(value) => ContentsPolicy::from_str(&value).map_err(|error| {
                Problem::new("CTRLNODE_CONTENTS cannot be used")
                    .because(error)
                    .exit(Exit::NotConfigured)
            })?,
        };
        let mut broken = Vec::new();
        let (rules, rules_file) = rules(&discovery, places.home.as_deref()).unwrap_or_else(
            |RulesProblem { file, problem }| {
                broken.push(problem);
                (Rules::default(), Some(file))
            },
        );
        let agents_file = agents_file(&discovery, places.home.as_deref());
        let agents_file = agents_file.unwrap_or_else(|problem| {
            broken.push(problem);
            AgentsFile::default()
        });
        let planning = "GRAPH_GENERATION_TIMEOUT_SECONDS";
        let planning: u64 = number(planning, text(planning))?.unwrap_or(300);
        let reconnect: Option<u64> = number("RECONNECT_MS", text("RECONNECT_MS"))?;
        let trusted = text("CTRLNODE_TRUSTED").unwrap_or_default();
        let trusted = env::split_paths(&trusted).filter_map(|path| path.canonicalize().ok());
        Ok(Self {
            base,
            policy,
            contents,
            heartbeat: millis("HEARTBEAT_MS", 30_000)?,
            rescan: millis("POLL_CONFIG_MS", 60_000)?,
            reconnect: reconnect.map(Duration::from_millis),
            dial: millis("CONNECTION_TIMEOUT_MS", 10_000)?,
            tls: tls_settings::read(text, |name| places.path(name))?,
            allow_plain: text("CTRLNODE_ALLOW_PLAIN").is_some_and(|value| value == "1"),
            compress: one_of("CTRLNODE_COMPRESS", text("CTRLNODE_COMPRESS"), COMPRESS)?
                .unwrap_or(Compress::OverNetworks),
            carrier: one_of("CTRLNODE_CARRIER", text("CTRLNODE_CARRIER"), CARRIERS)?.flatten(),
            side_channel: !is_off(text("CTRLNODE_SIDE_CHANNEL")),
            spool: spool(&text)?,
            watching: watching(&text, millis("WATCHER_POLL_INTERVAL", 1000)?),
            trusted: trusted.collect(),
            rules,
            planning: Duration::from_secs(planning.clamp(5, 24 * 3600)),
            watch_tasks: text("CTRLNODE_WATCH_TASKS").is_some_and(|value| !is_off(Some(value))),
            drops: DropSettings {
                agent: watch_agent(text("CTRLNODE_WATCH_AGENT"))?,
            },
            rules_file,
            agents: named_agents(&discovery)?,
            agents_file,
            host: host(&discovery),
            pairing,
            discovery,
            unknown,
            broken,
        })
    }

    /// What is wrong with the workspace, if anything is: it has to be an absolute path of a folder
    /// that is there, because a misspelt one would be made and stay empty.
    pub(crate) fn check_workspace(&self) -> Result<(), Problem> {
        let base = &self.base;
        let (wrong, todo) = if !base.is_absolute() {
            ("is not an absolute path", "write it from `/` or `~/` on")
        } else if !base.is_dir() {
            ("is not there", "create it")
        } else {
            return Ok(());
        };
        Err(
            Problem::new(format!("the workspace {} {wrong}", base.display()))
                .hint(format!(
                    "{todo}, or name another one: `ctrlnode setup`, or BASE_PATH"
                ))
                .exit(Exit::NotConfigured),
        )
    }

    /// The pairing token and the values of all variables that are named like credentials, wherever
    /// they were set.
    pub(crate) fn secrets(&self) -> Vec<Secret> {
        let variables = env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .map(|(key, value)| (key, Secret::new(&value)));
        let of_files = self.discovery.files.iter().flat_map(|file| {
            let keys = file.keys();
            keys.filter_map(|key| Some((key.to_owned(), file.get(key)?.clone())))
        });
        let named = variables
            .chain(of_files)
            .filter(|(key, _)| process::looks_like_a_credential(&key.to_ascii_uppercase()))
            // A path, which an error has to be able to name.
            .filter(|(key, _)| key != tls_settings::KEY)
            .map(|(_, value)| value);
        self.pairing.token.iter().cloned().chain(named).collect()
    }

    /// The address of the control plane.
    pub(crate) fn url(&self) -> &str {
        self.pairing.url.as_deref().unwrap_or(DEFAULT_URL)
    }

    /// That address as it may be shown.
    pub(crate) fn shown_url(&self) -> String {
        shown(self.url())
    }

    /// The address to pair with where none was named: of the environment or the user's own file. A
    /// project must not say where a token is sent.
    pub(crate) fn url_of_the_user(&self) -> String {
        let named = variable("SAAS_URL").or_else(|| self.discovery.own_url());
        understood(named.as_deref().unwrap_or(DEFAULT_URL))
    }

    /// The pairing token, or what to do about its absence.
    pub(crate) fn token(&self) -> Result<Secret, Problem> {
        self.pairing.token.clone().ok_or_else(|| {
            Problem::new("this machine is not paired with a control plane")
                .hint("run `ctrlnode setup` or `ctrlnode login` to pair it, or `ctrlnode up` to try it on this machine alone")
                .exit(Exit::NotConfigured)
        })
    }
}

/// A folder as it was typed after a flag: below the home folder or the current one.
pub(crate) fn named_folder(path: PathBuf) -> PathBuf {
    let path = match path.to_str() {
        Some(text) => places(None).path(text),
        None => path,
    };
    std::path::absolute(&path).unwrap_or(path)
}

/// A variable of this process; unset, empty and not UTF-8 are the same.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// Prefix of the variables that name agents: `CTRLNODE_AGENT_MINE="my-agent --acp"` is `mine`.
const AGENT_PREFIX: &str = "CTRLNODE_AGENT_";

/// Where the rules are, when not in their usual place.
const RULES_FILE: &str = "CTRLNODE_RULES_FILE";

/// Names the file of the user's own agents where it is not `~/.ctrlnode/agents.toml`.
const AGENTS_FILE: &str = "CTRLNODE_AGENTS_FILE";

const CARRIERS: &[(&str, Option<CarrierKind>)] = &[
    ("auto", None),
    ("websocket", Some(CarrierKind::WebSocket)),
    ("hybrid", Some(CarrierKind::Hybrid)),
    ("sse", Some(CarrierKind::Sse)),
    ("poll", Some(CarrierKind::LongPoll)),
];

const EDITS: &[(&str, EditRule)] = &[("allow", EditRule::Allow), ("ask", EditRule::Ask)];

const COMPRESS: &[(&str, Compress)] = &[
    ("off", Compress::Never),
    ("on", Compress::OverNetworks),
    ("always", Compress::Always),
];

const COMMANDS: &[(&str, CommandRule)] = &[
    ("ask-viewer", CommandRule::AskViewer),
    ("ask", CommandRule::Ask),
    ("allow", CommandRule::Allow),
    ("deny", CommandRule::Deny),
];

const REMOTE: &[(&str, RemoteRule)] = &[
    ("off", RemoteRule::Off),
    ("tools", RemoteRule::Tools),
    ("config", RemoteRule::Config),
    ("all", RemoteRule::All),
];

/// Whether a value switches something off.
fn is_off(value: Option<String>) -> bool {
    const OFF: [&str; 3] = ["off", "false", "0"];
    value.is_some_and(|value| OFF.iter().any(|off| value.trim().eq_ignore_ascii_case(off)))
}

/// Who does the dropped tasks that name nobody.
fn watch_agent(value: Option<String>) -> Result<Option<AgentId>, Problem> {
    let agent = value.map(|value| AgentId::parse(&value)).transpose();
    agent.map_err(|error| {
        Problem::new("CTRLNODE_WATCH_AGENT cannot be used")
            .because(error)
            .exit(Exit::NotConfigured)
    })
}

fn number<T: FromStr>(key: &str, value: Option<String>) -> Result<Option<T>, Problem> {
    let Some(value) = value else { return Ok(None) };
    value.trim().parse().map(Some).map_err(|_| {
        Problem::new(format!("{key} is no whole number from 0 on: {value}"))
            .exit(Exit::NotConfigured)
    })
}

fn one_of<T: Copy>(
    key: &str,
    value: Option<String>,
    known: &[(&str, T)],
) -> Result<Option<T>, Problem> {
    let Some(value) = value else { return Ok(None) };
    let found = known
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(value.trim()));
    if let Some((_, meaning)) = found {
        return Ok(Some(*meaning));
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    Err(
        Problem::new(format!("{key} is none of {}: {value}", names.join(", ")))
            .exit(Exit::NotConfigured),
    )
}

/// Not at all with `CTRLNODE_WATCHER=off`.
fn spool(text: &impl Fn(&str) -> Option<String>) -> Result<Option<SpoolConfig>, Problem> {
    let days: Option<u64> = number("CTRLNODE_SPOOL_DAYS", text("CTRLNODE_SPOOL_DAYS"))?;
    let days = days.filter(|days| *days > 0);
    let max_age = days.map(|days| Duration::from_secs(days.min(3650) * 24 * 3600));
    let config = SpoolConfig {
        max_age,
        ..SpoolConfig::default()
    };
    Ok((!is_off(text("CTRLNODE_SPOOL"))).then_some(config))
}

fn watching(text: &impl Fn(&str) -> Option<String>, interval: Duration) -> Option<Watching> {
    let polling = text("WATCHER_USE_POLLING").is_some_and(|value| {
        let value = value.trim();
        value == "1" || value.eq_ignore_ascii_case("true")
    });
    (!is_off(text("CTRLNODE_WATCHER"))).then_some(Watching { polling, interval })
}

/// `CTRLNODE_COMMANDS`, or else what the existing bridge's variable says, with a warning.
fn commands(text: &impl Fn(&str) -> Option<String>) -> Result<Option<CommandRule>, Problem> {
    let ours = one_of("CTRLNODE_COMMANDS", text("CTRLNODE_COMMANDS"), COMMANDS)?;
    if ours.is_some() {
        return Ok(ours);
    }
    let theirs = match text("CLAUDE_SDK_PERMISSION_MODE").as_deref() {
        Some("bypassPermissions") => Some(CommandRule::Allow),
        Some("dontAsk") => Some(CommandRule::Deny),
        Some(_) | None => None,
    };
    if let Some(rule) = theirs {
        tracing::warn!(
            ?rule,
            "CLAUDE_SDK_PERMISSION_MODE decides what agents may do unasked; CTRLNODE_COMMANDS says it plainly"
        );
    }
    Ok(theirs)
}

/// Keys of the environment and the files that are called like settings and are none.
fn unknown_keys(discovery: &Discovery) -> Vec<String> {
    let variables: Vec<String> = env::vars_os()
        .filter_map(|(key, _)| key.into_string().ok())
        .collect();
    let of_files = discovery.files.iter().flat_map(EnvFile::keys);
    keys::unknown(variables.iter().map(String::as_str).chain(of_files))
}

/// Rules that cannot be used, and where they are.
struct RulesProblem {
    file: PathBuf,
    problem: Problem,
}

/// The rules of the file that was named, or of the usual one if it is there.
fn rules(
    discovery: &Discovery,
    home: Option<&Path>,
) -> Result<(Rules, Option<PathBuf>), RulesProblem> {
    let named = discovery.value(RULES_FILE, variable(RULES_FILE).as_deref());
    let named = named.map(|value| value.expose().to_owned());
    let must_be_there = named.is_some();
    let Some(path) = named
        .map(PathBuf::from)
        .or_else(|| rules_file::usual_place(home))
    else {
        return Ok((Rules::default(), None));
    };
    let unusable = || {
        Problem::new(format!("the rules in {} cannot be used", path.display()))
            .exit(Exit::NotConfigured)
    };
    let wrong = |problem| RulesProblem {
        file: path.clone(),
        problem,
    };
    match rules_file::read(&path, home) {
        Ok(Some(rules)) => Ok((rules, Some(path))),
        Ok(None) if must_be_there => Err(wrong(
            unusable()
                .because("the file is not there")
                .hint(format!("{RULES_FILE} names it")),
        )),
        Ok(None) => Ok((Rules::default(), None)),
        Err(error) => {
            let hint = match &error {
                RulesError::WritableByAll => "take the right to write it from others: chmod o-w",
                RulesError::Read(_)
                | RulesError::TooLarge
                | RulesError::Parse(_)
                | RulesError::Rule { .. }
                | RulesError::Pattern { .. }
                | RulesError::TooMany(_) => "docs/security.md says how rules are written",
            };
            Err(wrong(unusable().hint(hint).because(error)))
        }
    }
}

/// The environment of this process, completed by the files (which never override it here).
fn host(discovery: &Discovery) -> Host {
    let mut all: BTreeMap<_, _> = env::vars_os().collect();
    for file in &discovery.files {
        for key in file.keys() {
            if let Some(value) = file.get(key) {
                all.entry(key.into())
                    .or_insert_with(|| value.expose().into());
            }
        }
    }
    Host::new(all)
}

/// The user's own agents.
fn agents_file(discovery: &Discovery, home: Option<&Path>) -> Result<AgentsFile, Problem> {
    let named = discovery.value(AGENTS_FILE, variable(AGENTS_FILE).as_deref());
    let named = named.map(|value| value.expose().to_owned());
    let named = named.map(PathBuf::from);
    agents_file::load(named.as_deref(), home, &BUILT_IN).map_err(|error| {
        let hint = error.hint();
        Problem::new("the file of your own agents cannot be used")
            .hint(hint)
            .because(error)
            .exit(Exit::NotConfigured)
    })
}

fn named_agents(discovery: &Discovery) -> Result<BTreeMap<String, Vec<String>>, Problem> {
    let from_environment = env::vars_os().filter_map(|(key, _)| key.into_string().ok());
    let from_files = discovery
        .files
        .iter()
        .flat_map(|file| file.keys().map(str::to_owned));
    let mut agents = BTreeMap::new();
    for key in from_environment.chain(from_files) {
        let Some(name) = key.strip_prefix(AGENT_PREFIX) else {
            continue;
        };
        let Some(line) = discovery.value(&key, variable(&key).as_deref()) else {
            continue;
        };
        let words = words(line.expose()).ok_or_else(|| {
            Problem::new(format!("{key} has a quote that is not closed")).exit(Exit::NotConfigured)
        })?;
        if !name.is_empty() && !words.is_empty() {
            agents.insert(name.to_lowercase().replace('_', "-"), words);
        }
    }
    Ok(agents)
}

/// Splits a command line at white space, with quotes; `None` when one is not closed.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            Some(_) | None => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_split_with_quotes() {
        assert_eq!(
            words("agent --acp 'a b' \"c\"d").unwrap(),
            ["agent", "--acp", "a b", "cd"]
        );
        assert_eq!(words("agent 'open"), None);
    }

    #[test]
    fn events_wait_without_a_bound_of_age_unless_days_are_named() {
        let with = |pairs: &'static [(&str, &str)]| {
            move |key: &str| {
                let found = pairs.iter().find(|(name, _)| *name == key);
                found.map(|(_, value)| (*value).to_owned())
            }
        };
        assert_eq!(spool(&with(&[])).unwrap(), Some(SpoolConfig::default()));
        let week = spool(&with(&[("CTRLNODE_SPOOL_DAYS", "7")]))
            .unwrap()
            .unwrap();
        assert_eq!(week.max_age, Some(Duration::from_secs(7 * 24 * 3600)));
        let none = spool(&with(&[("CTRLNODE_SPOOL_DAYS", "0")]))
            .unwrap()
            .unwrap();
        assert_eq!(none.max_age, None);
        let off = &[("CTRLNODE_SPOOL", "off"), ("CTRLNODE_SPOOL_DAYS", "7")];
        assert_eq!(spool(&with(off)).unwrap(), None);
        let error = spool(&with(&[("CTRLNODE_SPOOL_DAYS", "a week")])).unwrap_err();
        assert_eq!(error.code(), Exit::NotConfigured);
    }

    #[test]
    fn a_wrong_value_names_the_key_and_what_it_may_be() {
        let error = one_of("CTRLNODE_EDITS", Some("maybe".into()), EDITS).unwrap_err();
        assert_eq!(
            error.to_string(),
            "CTRLNODE_EDITS is none of allow, ask: maybe"
        );
        assert_eq!(error.code(), Exit::NotConfigured);
    }
}
