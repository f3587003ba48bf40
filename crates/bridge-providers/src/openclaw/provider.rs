//! Finding the gateway, asking it about itself, opening conversations with it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bridge_proto::{
    Digest, ProviderKey, TaskId,
    model::{AgentProfile, Health, ToolCall},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{
    agents, caller, calls,
    config::{self, Gateway, NoGateway},
    dialogue::{OpenclawDialogue, Plan},
    door::{CallError, Door, Key},
    driver::{Left, drive},
    edit,
    follow::Logs,
    http,
    identity::{Keyring, hex},
    refusal::Refusal,
    whole,
};
use crate::{
    host::Host,
    plain::one_line,
    program::{healthy, login_needed},
    provider::{
        Abilities, AgentEdit, Asking, Choosing, Conversation, EditError, Found, Heard, ListError,
        Provider, RunSpec, StartError, Steer,
    },
    remote::{CallFault, ConfigFault, DirectAnswer, DirectCall},
};

/// The gateway of OpenClaw that runs on this machine, or the one `OPENCLAW_GATEWAY_URL` names.
///
/// | Variable | Says |
/// |---|---|
/// | `OPENCLAW_CONFIG_PATH`, `OPENCLAW_STATE_DIR`, `OPENCLAW_HOME` | where its configuration is |
/// | `OPENCLAW_GATEWAY_URL`, `OPENCLAW_GATEWAY_PORT` | where it listens |
/// | `OPENCLAW_GATEWAY_TOKEN`, `OPENCLAW_GATEWAY_PASSWORD` | its shared secret |
/// | `OPENCLAW_AGENT` | which of its agents works, if not its default agent |
/// | `OPENCLAW_HTTP_FALLBACK` | `1`: plain text over HTTP is good enough where nothing else works |
#[derive(Debug, Clone)]
pub struct OpenclawProvider {
    key: ProviderKey,
    host: Host,
    state: PathBuf,
    device: Key,
}

impl OpenclawProvider {
    /// Its key everywhere.
    pub const KEY: &str = "openclaw";

    /// The gateway that `host` knows of. The key of this bridge, and what gateways gave it, are
    /// kept in the folder `state`, which is made when it is needed.
    pub fn new(host: Host, state: &Path) -> Self {
        let key = ProviderKey::parse(Self::KEY).expect("the key is short and plain");
        Self {
            key,
            host,
            state: state.to_owned(),
            device: Key::default(),
        }
    }

    fn door(&self) -> Result<Door, NoGateway> {
        let gateway = Gateway::find(&self.host)?;
        let roots = self.host.value("SSL_CERT_FILE").map(PathBuf::from);
        let device = Arc::clone(&self.device);
        Ok(Door::new(gateway, roots, &self.state, device))
    }

    /// Whether there is anything to show to the gateway.
    fn may_be_let_in(&self, gateway: &Gateway) -> bool {
        let given = || Keyring::new(&self.state).grant(gateway.url.as_str());
        gateway.open || gateway.secret.is_some() || given().is_ok_and(|grant| grant.is_some())
    }

    fn agent(&self) -> Option<String> {
        self.host.value("OPENCLAW_AGENT").map(str::to_owned)
    }

    /// Who of the gateway's agents does a run: the one of the same name, or else the usual one.
    fn agent_of(&self, spec: &RunSpec) -> Option<String> {
        let own = spec.agent.as_ref();
        let own = own.and_then(|agent| agents::spelled(&self.host, agent));
        own.or_else(|| self.agent())
    }

    /// Whether plain text over HTTP may take the place of the protocol.
    fn fallback(&self, gateway: &Gateway, asking: Asking) -> Result<(), String> {
        if asking == Asking::ReadOnly {
            return Err("over HTTP it would act although only a plan is wanted".into());
        }
        let wanted = self.host.is_on("OPENCLAW_HTTP_FALLBACK");
        if !wanted && asking != Asking::Unneeded {
            return Err(
                "over HTTP it would work with full access and without questions, which \
                        OPENCLAW_HTTP_FALLBACK=1 allows"
                    .into(),
            );
        }
        if gateway.chat_completions != Some(true) && gateway.is_here() {
            return Err(
                "its HTTP endpoint is off (gateway.http.endpoints.chatCompletions.enabled)".into(),
            );
        }
        Ok(())
    }

    fn plan(&self, door: &Door, spec: &RunSpec) -> Plan {
        let mut seed = [0_u8; 8];
        if let Err(error) = getrandom::fill(&mut seed) {
            tracing::warn!(%error, "no randomness for the names of runs");
        }
        let seed = hex(&seed);
        let directory = spec.directory.display().to_string();
        Plan {
            url: door.gateway.url.as_str().trim_end_matches('/').to_owned(),
            credentials: super::handshake::Credentials::default(),
            agent: self.agent_of(spec),
            foreign: !door.gateway.owns(&spec.directory),
            directory,
            task: session_name(&spec.run.task, &spec.run.attempt),
            seed,
            resume: spec.resume.clone(),
            model: spec.model.clone(),
            instructions: spec.instructions.clone(),
            further: !spec.extra_directories.is_empty(),
            fallback: self.fallback(&door.gateway, spec.asking),
        }
    }

    /// Where a gateway on this machine keeps the logs of its sessions.
    fn logs(&self, gateway: &Gateway) -> Option<Logs> {
        let own = config::own_folder(&self.host).filter(|_| gateway.is_here())?;
        let millis = self.host.value("SESSION_HISTORY_POLL_MS");
        let millis = millis.and_then(|millis| millis.trim().parse().ok());
        let millis: u64 = millis.unwrap_or(LOG_POLL_MILLIS);
        Some(Logs {
            agents: own.join("agents"),
            interval: Duration::from_millis(millis.clamp(100, 60_000)),
        })
    }

    async fn ask(&self, limit: Duration) -> Result<Vec<String>, String> {
        let door = self.door().map_err(|missing| missing.hint())?;
        let until = Instant::now() + limit;
        let left = || until.saturating_duration_since(Instant::now());
        let failed = |error: CallError| match error {
            CallError::Refused(refusal) => refusal.reason(door.gateway.url.as_str()),
            CallError::Lost(_) | CallError::Failed(_) | CallError::TooLate(_) => error.to_string(),
        };
        let agent = if let Some(agent) = self.agent() {
            agent
        } else {
            let asked = door.call("agents.list", &json!({}), left()).await;
            let (_, list) = asked.map_err(failed)?;
            let default = list.get("defaultId").and_then(Value::as_str);
            default.ok_or("it has no default agent")?.to_owned()
        };
        let params = json!({ "agentId": agent });
        let (_, list) = door
            .call("models.list", &params, left())
            .await
            .map_err(failed)?;
        let models = models_in(&list);
        if models.is_empty() {
            return Err("the list is empty".into());
        }
        Ok(models)
    }
}

#[async_trait]
impl Provider for OpenclawProvider {
    fn key(&self) -> &ProviderKey {
        &self.key
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            resume: true,
            follow_up: true,
            inject: true,
            permissions: true,
            questions: false,
            model: Choosing::AnyTime,
            mode: Choosing::Never,
            effort: Choosing::AnyTime,
            usage: true,
            cost: true,
            images: false,
            ran_with: Some("2026.9.6"),
            hub_only: false,
            plain_only: false,
        }
    }

    /// Looks at the configuration; whether the gateway runs is for [`Provider::probe`] to say.
    fn find(&self) -> Found {
        let health = match Gateway::find(&self.host) {
            Ok(gateway) if self.may_be_let_in(&gateway) => healthy(),
            Ok(_) => login_needed(TOKEN),
            Err(missing) => missing.health(),
        };
        Found {
            health,
            program: self.host.find_program(&["openclaw"], &[]),
        }
    }

    /// Whether the gateway lives, is ready, lets us in, and which version it is. Also stops what a
    /// bridge that was killed has left at work there.
    async fn probe(&self, limit: Duration) -> Health {
        let door = match self.door() {
            Ok(door) => door,
            Err(missing) => return missing.health(),
        };
        let until = Instant::now() + limit;
        let left = || until.saturating_duration_since(Instant::now());
        if let Err(health) = http::look(&door, left()).await {
            return health;
        }
        let url = door.gateway.url.as_str();
        match door.call("agents.list", &json!({}), left()).await {
            Ok((hello, _)) => {
                door.stop_strays(left()).await;
                Health {
                    version: hello.version,
                    ..healthy()
                }
            }
            Err(CallError::Refused(refusal)) => refusal.health(url),
            Err(error @ (CallError::Lost(_) | CallError::Failed(_) | CallError::TooLate(_))) => {
                Refusal::Other(error.to_string()).health(url)
            }
        }
    }

    async fn models(&self, limit: Duration) -> Result<Vec<String>, ListError> {
        self.ask(limit).await.map_err(|reason| ListError::NoAnswer {
            provider: Self::KEY.to_owned(),
            reason,
        })
    }

    fn own_agents(&self) -> Vec<AgentProfile> {
        agents::own_agents(&self.host, &self.key)
    }

    fn edit_agent(&self, change: &AgentEdit) -> Result<bool, EditError> {
        match config::file(&self.host) {
            Some(file) => edit::edit(&file, change),
            None => Ok(false),
        }
    }

    fn tool_calls(&self, call: &ToolCall) -> Result<Vec<DirectCall>, CallFault> {
        Gateway::find(&self.host).map_err(|missing| not_called(&missing))?;
        let own = call.agent.as_ref();
        let own = own.and_then(|agent| agents::spelled(&self.host, agent));
        calls::planned(call, own.or_else(|| self.agent()).as_deref())
    }

    async fn call_tool(&self, call: &DirectCall) -> Result<DirectAnswer, CallFault> {
        let door = self.door().map_err(|missing| not_called(&missing))?;
        caller::make(&door, call).await
    }

    fn replace_config(&self, text: &str) -> Result<bool, ConfigFault> {
        let file = config::file(&self.host).ok_or(ConfigFault::NotHere)?;
        whole::replace_whole(&file, self.host.home(), text)
    }

    /// Looks at files only; whether the gateway lets us in is told by the first turn.
    async fn open(&self, spec: RunSpec) -> Result<Conversation, StartError> {
        let door = self.door().map_err(|missing| match missing {
            NoGateway::SecretElsewhere | NoGateway::AuthMode(_) => StartError::LoginNeeded {
                provider: "OpenClaw".into(),
                hint: missing.hint(),
            },
            NoGateway::NotInstalled
            | NoGateway::Unreadable(_)
            | NoGateway::Elsewhere
            | NoGateway::Address(_)
            | NoGateway::ClearText => StartError::Missing {
                program: "the OpenClaw gateway".into(),
                hint: missing.hint(),
            },
        })?;
        if door.gateway.is_here() && !spec.directory.is_dir() {
            return Err(StartError::NoDirectory {
                directory: spec.directory,
            });
        }
        let plan = self.plan(&door, &spec);
        let (tell, heard) = mpsc::channel(HEARD_ROOM);
        let (steer, asked) = mpsc::channel(STEER_ROOM);
        let logs = self.logs(&door.gateway);
        tokio::spawn(converse(door, plan, logs, tell, asked));
        let pid = None;
        Ok(Conversation { heard, steer, pid })
    }
}

fn not_called(missing: &NoGateway) -> CallFault {
    match missing {
        NoGateway::NotInstalled => CallFault::NotHere,
        NoGateway::Unreadable(_)
        | NoGateway::Elsewhere
        | NoGateway::SecretElsewhere
        | NoGateway::AuthMode(_)
        | NoGateway::Address(_)
        | NoGateway::ClearText => CallFault::Broken(missing.hint()),
    }
}

/// One conversation from its first connection to its last word.
async fn converse(
    door: Door,
    mut plan: Plan,
    logs: Option<Logs>,
    tell: mpsc::Sender<Heard>,
    mut asked: mpsc::Receiver<Steer>,
) {
    plan.credentials = door.credentials().await;
    let wish = http::Wish {
        agent: plan.agent.clone(),
        task: plan.task.clone(),
        resume: plan.resume.clone(),
        model: plan.model.clone(),
        instructions: plan.instructions.clone(),
        logs,
    };
    let rules = Box::new(OpenclawDialogue::new(plan));
    match drive(door.clone(), rules, &tell, &mut asked).await {
        Left::Nothing => {}
        Left::Fallback(prompts) => http::converse(door, wish, prompts, &tell, &mut asked).await,
    }
}

/// `<what is left of the task's id>-<what tells this run from others>`: readable in the gateway's
/// list of sessions, and never the session of another run.
fn session_name(task: &TaskId, attempt: &str) -> String {
    let plain = |c: char| {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_alphanumeric() { c } else { '-' }
    };
    let name: String = task.as_str().chars().take(MAX_NAME).map(plain).collect();
    let digest = Digest::of(&[task.as_str(), attempt]);
    let mark: String = digest.as_str().chars().take(12).collect();
    format!("{}-{mark}", name.trim_matches('-'))
}

/// `provider/id` of every model that can be used, the default first.
fn models_in(list: &Value) -> Vec<String> {
    let models = list.get("models").and_then(Value::as_array);
    let mut named: Vec<(bool, String)> = models
        .into_iter()
        .flatten()
        .filter(|model| model.get("available").and_then(Value::as_bool) != Some(false))
        .filter_map(|model| {
            let text = |name: &str| model.get(name).and_then(Value::as_str);
            let name = match (text("provider"), text("id")?) {
                (Some(provider), id) => format!("{provider}/{id}"),
                (None, id) => id.to_owned(),
            };
            let tags = model.get("tags").and_then(Value::as_array);
            let default = tags.is_some_and(|tags| tags.iter().any(|tag| tag == "default"));
            Some((!default, one_line(&name, 200)))
        })
        .take(MAX_MODELS)
        .collect();
    named.sort_by_key(|(later, _)| *later);
    named.into_iter().map(|(_, name)| name).collect()
}

/// As for every other conversation.
const HEARD_ROOM: usize = 32;
const STEER_ROOM: usize = 16;
const TOKEN: &str = "set OPENCLAW_GATEWAY_TOKEN to the gateway's gateway.auth.token";
/// Between two looks at the log of a session.
const LOG_POLL_MILLIS: u64 = 1000;
const MAX_NAME: usize = 40;
const MAX_MODELS: usize = 500;

#[cfg(test)]
mod tests {
    use bridge_proto::model::HealthReason;

    use super::*;

    #[test]
    fn sessions_of_different_runs_have_different_names() {
        let task = TaskId::parse("Ticket 7: ä/b").unwrap();
        let one = session_name(&task, "1");
        assert!(one.starts_with("ticket-7----b-"), "{one}");
        assert_ne!(one, session_name(&task, "2"));
        assert_ne!(
            one,
            session_name(&TaskId::parse("ticket 7: ö/b").unwrap(), "1")
        );
    }

    #[test]
    fn the_default_model_comes_first_and_what_cannot_be_used_is_left_out() {
        let list = json!({ "models": [
            { "id": "a", "provider": "p" },
            { "id": "b", "provider": "p", "tags": ["default"] },
            { "id": "c", "available": false }, 7, { "provider": "p" },
            { "id": "d" } ] });
        assert_eq!(models_in(&list), ["p/b", "p/a", "d"]);
    }

    #[test]
    fn a_gateway_that_nothing_can_be_shown_to_needs_a_login() {
        let reason = |config: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("openclaw.json"), config).unwrap();
            let state = folder.path().to_str().unwrap();
            let vars = [("OPENCLAW_STATE_DIR", state)];
            let host = Host::new(vars.map(|(name, value)| (name.into(), value.into())));
            OpenclawProvider::new(host, folder.path())
                .find()
                .health
                .reason
        };
        assert_eq!(reason("{}"), Some(HealthReason::AuthRequired));
        assert_eq!(reason("{ gateway: { auth: { token: 't' } } }"), None);
        assert_eq!(reason("{ gateway: { auth: { mode: 'none' } } }"), None);
    }

    #[test]
    fn http_is_never_used_silently_where_questions_are_wanted() {
        let vars = |more: &[(&str, &str)]| {
            let named = [("OPENCLAW_GATEWAY_URL", "wss://box.example")];
            let all = named.iter().chain(more);
            Host::new(all.map(|(name, value)| (name.into(), value.into())))
        };
        let may = |more: &[(&str, &str)], asking| {
            let provider = OpenclawProvider::new(vars(more), Path::new("/nowhere"));
            let gateway = Gateway::find(&provider.host).unwrap();
            provider.fallback(&gateway, asking).is_ok()
        };
        assert!(!may(&[], Asking::Answered) && !may(&[], Asking::Unanswered));
        assert!(may(&[], Asking::Unneeded));
        assert!(may(&[("OPENCLAW_HTTP_FALLBACK", "1")], Asking::Answered));
    }
}
