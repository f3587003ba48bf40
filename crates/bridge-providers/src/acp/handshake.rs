//! From the started process to an open session: `initialize`, then a new session or the old one,
//! then the wanted model; each with a time limit and a reason when it fails.

use std::time::{Duration, Instant};

use bridge_proto::{
    ResumeId,
    model::{Fault, Fix, Outcome, RunEvent},
};
use serde_json::{Value, json};

use super::{
    dialogue::{AcpDialogue, Opening, Phase},
    jsonrpc::RpcError,
    outcome,
    session::{Capabilities, Offer, Setting},
};
use crate::plain::sentence;

impl AcpDialogue {
    pub(super) fn initialize(&mut self, now: Instant) {
        let mut params = json!({
            "protocolVersion": PROTOCOL_VERSION,
            "clientCapabilities": {
                "fs": { "readTextFile": false, "writeTextFile": false },
                "terminal": false,
            },
            "clientInfo": {
                "name": "ctrlnode",
                "title": "ctrlnode",
                "version": env!("CARGO_PKG_VERSION"),
            },
        });
        for name in self.quirks.client_meta {
            params["clientCapabilities"]["_meta"][name] = json!(true);
        }
        let id = self.request("initialize", &params);
        self.phase = Phase::Initializing {
            id,
            until: now + INITIALIZE_LIMIT,
        };
    }

    pub(super) fn on_initialized(&mut self, now: Instant, outcome: Result<Value, RpcError>) {
        let result = match outcome {
            Ok(result) => result,
            Err(error) => {
                return self.fail(outcome::of_error(&self.quirks, &error, Fault::Agent));
            }
        };
        let version = result.get("protocolVersion").and_then(Value::as_u64);
        if let Some(other) = version.filter(|version| *version != PROTOCOL_VERSION) {
            return self.fail_start(&format!(
                "speaks version {other} of the protocol, version {PROTOCOL_VERSION} was asked for"
            ));
        }
        self.capabilities = Capabilities::read(&result);
        let hold = self
            .start
            .hold_resume
            .filter(|_| self.start.resume.is_some());
        match hold
            .and_then(|hold| self.since_start(hold))
            .filter(|until| *until > now)
        {
            Some(until) => {
                self.say("waiting a moment before the conversation can be continued".to_owned());
                self.phase = Phase::Holding { until };
            }
            None => self.open(now),
        }
    }

    fn open(&mut self, now: Instant) {
        let mut params = json!({ "cwd": self.start.directory, "mcpServers": [] });
        if self.capabilities.extra_directories && !self.start.extra_directories.is_empty() {
            params["additionalDirectories"] = json!(self.start.extra_directories);
        }
        let (method, how, limit) = match &self.start.resume {
            None => ("session/new", Opening::New, NEW_LIMIT),
            Some(_) if self.capabilities.resume && !self.quirks.reload.by_load_only => {
                ("session/resume", Opening::Resume, LOAD_LIMIT)
            }
            Some(_) if self.capabilities.load => ("session/load", Opening::Load, LOAD_LIMIT),
            Some(_) => return self.fail_start("cannot continue a conversation"),
        };
        if let Some(resume) = &self.start.resume {
            resume.as_str().clone_into(&mut self.session);
            params["sessionId"] = json!(resume);
        }
        self.history = how == Opening::Load;
        let id = self.request(method, &params);
        self.phase = Phase::Opening {
            id,
            until: now + limit,
            how,
        };
    }

    pub(super) fn on_opened(
        &mut self,
        now: Instant,
        how: Opening,
        outcome: Result<Value, RpcError>,
    ) {
        let result = match outcome {
            Ok(result) => result,
            Err(error) => {
                return self.fail(outcome::of_error(&self.quirks, &error, Fault::Agent));
            }
        };
        if how == Opening::New {
            match result.get("sessionId").and_then(Value::as_str) {
                Some(session) => session.clone_into(&mut self.session),
                None => return self.fail_start("opened a session without an id"),
            }
        }
        if how == Opening::Load && self.quirks.reload.empty_is_unknown && offers_nothing(&result) {
            return self.fail_start("does not know the conversation any more");
        }
        if (self.capabilities.load || self.capabilities.resume)
            && let Ok(id) = ResumeId::parse(&self.session)
        {
            self.push(crate::dialogue::Step::Resumable(id));
        }
        self.offer = Offer::read(&result);
        if how == Opening::Load {
            let quiet_at = now + self.quirks.reload.quiet;
            self.phase = Phase::Settling {
                quiet_at,
                latest: now + SETTLE_LIMIT,
            };
        } else {
            self.choose_model(now);
        }
    }

    fn choose_model(&mut self, now: Instant) {
        let wanted = self
            .start
            .model
            .take()
            .filter(|_| !self.quirks.model_at_launch);
        self.phase = Phase::Idle;
        for setting in Setting::ALL {
            self.tell_setting(setting, None);
        }
        if let Some(why) = self.objection(wanted.as_deref()) {
            return self.fail(Outcome::Blocked {
                fix: Fix::Setup,
                reason: why,
            });
        }
        if let Some(id) = wanted.and_then(|model| self.choose(Setting::Model, &model)) {
            self.phase = Phase::Choosing {
                id,
                until: now + CHOOSE_LIMIT,
            };
        }
        self.proceed(now);
    }

    /// Why no prompt may be sent to the model that would answer it.
    fn objection(&self, wanted: Option<&str>) -> Option<String> {
        let name = &self.quirks.name;
        let current = self.offer.current(Setting::Model).unwrap_or_default();
        if let Some(wanted) = wanted {
            let offered = wanted == current || self.offer.models().iter().any(|m| m == wanted);
            return (self.quirks.model_or_nothing && !offered).then(|| {
                let wanted = sentence(wanted, 100);
                format!("{name} does not offer the model {wanted}; choose another or log in")
            });
        }
        let prefix = self.quirks.refused_default.as_deref()?;
        current.starts_with(prefix).then(|| {
            let current = sentence(current, 100);
            format!("{name} would use {current}, which nobody chose; choose a model")
        })
    }

    /// The wanted model is not in force after all. Whether that is the end depends on the agent.
    pub(super) fn on_not_chosen(&mut self, now: Instant, why: &str) {
        if self.quirks.model_or_nothing {
            let reason = format!("{}: {why}", self.quirks.name);
            return self.fail(Outcome::Blocked {
                fix: Fix::Setup,
                reason,
            });
        }
        self.say(format!("{}: {why}", self.quirks.name));
        self.phase = Phase::Idle;
        self.proceed(now);
    }

    /// A time limit before the session was open has passed.
    pub(super) fn on_start_deadline(&mut self, now: Instant) {
        match &self.phase {
            Phase::Initializing { .. } if self.noise.count() > 0 => {
                self.fail(outcome::of_noise(&self.quirks, &self.noise.told()));
            }
            Phase::Initializing { .. } => self.fail_start(&format!(
                "did not answer within {} s of its start",
                INITIALIZE_LIMIT.as_secs()
            )),
            Phase::Holding { .. } => self.open(now),
            Phase::Opening {
                how: Opening::New, ..
            } => self.fail_start(&format!(
                "opened no session within {} s",
                NEW_LIMIT.as_secs()
            )),
            Phase::Opening {
                how: Opening::Load | Opening::Resume,
                ..
            } => self.fail_start(&format!(
                "did not continue the conversation within {} s",
                LOAD_LIMIT.as_secs()
            )),
            Phase::Settling { .. } => self.choose_model(now),
            Phase::Choosing { .. } => self.on_not_chosen(now, "no answer to the choice of a model"),
            Phase::New | Phase::Idle | Phase::Running(_) | Phase::Over(_) => {}
        }
    }

    /// A line that is not the protocol. Before the first answer a handful of them, or one known
    /// question, means a login prompt or a crash.
    pub(super) fn on_noise(&mut self, line: &[u8]) {
        let text = self.noise.add(line);
        if matches!(self.phase, Phase::Initializing { .. }) {
            let asks = self
                .quirks
                .login_prompts
                .iter()
                .any(|prompt| text.contains(prompt));
            if asks || self.noise.count() > HANDFUL {
                self.fail(outcome::of_noise(&self.quirks, &self.noise.told()));
            }
        } else if self.noise.count() <= HANDFUL {
            let what = "unreadable line".to_owned();
            self.emit(RunEvent::Other { what }, Some(Value::String(text)));
        }
    }

    fn fail_start(&mut self, what: &str) {
        let reason = format!("{} {what}", self.quirks.name);
        self.fail(Outcome::Failed {
            fault: Fault::Agent,
            reason,
        });
    }
}

fn offers_nothing(result: &Value) -> bool {
    ["models", "modes", "configOptions"]
        .iter()
        .all(|name| result.get(name).is_none_or(Value::is_null))
}

/// The only version real agents speak.
const PROTOCOL_VERSION: u64 = 1;
/// The first start of some agents unpacks files.
const INITIALIZE_LIMIT: Duration = Duration::from_secs(20);
const NEW_LIMIT: Duration = Duration::from_secs(30);
/// A long history takes its time.
const LOAD_LIMIT: Duration = Duration::from_secs(60);
const CHOOSE_LIMIT: Duration = Duration::from_secs(10);
/// An agent that never falls quiet after a reload is not waited for any longer.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// A warning or two on standard output is common, a screenful is not.
const HANDFUL: u64 = 4;
