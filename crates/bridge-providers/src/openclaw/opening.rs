//! From an open connection to a session that can be talked to: which agent, where, in which mode.

use std::time::Instant;

use bridge_proto::{
    ResumeId,
    model::{Fault, Fix, Outcome, RunEvent},
};
use serde_json::{Value, json};

use super::{
    dialogue::{MODE, OpenclawDialogue, Request, Rights, Stage},
    frames::Failure,
};
use crate::{
    plain::{one_line, sentence},
    provider::Heard,
};

impl OpenclawDialogue {
    /// The first request of a conversation.
    pub(super) fn open(&mut self) {
        self.stage = Stage::Opening;
        self.ask("agents.list", &json!({}), Request::Agents);
    }

    pub(super) fn on_agents(&mut self, now: Instant, result: Result<Value, Failure>) {
        let list = match result {
            Ok(list) => list,
            Err(failure) => return self.cannot_open(now, "list its agents", &failure),
        };
        let agents: Vec<&Value> = list
            .get("agents")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .take(MAX_AGENTS)
            .collect();
        let id = |agent: &Value| {
            let id = agent.get("id").and_then(Value::as_str);
            id.map(str::to_owned)
        };
        let resumed = self.plan.resume.as_ref().and_then(agent_of);
        let default = list.get("defaultId").and_then(Value::as_str);
        let wanted = resumed
            .or_else(|| self.plan.agent.clone())
            .or_else(|| default.map(str::to_owned))
            .or_else(|| agents.first().and_then(|agent| id(agent)));
        let found = agents
            .iter()
            .find(|agent| wanted.is_some() && id(agent) == wanted);
        let Some(agent) = found else {
            let ids: Vec<String> = agents.iter().filter_map(|agent| id(agent)).collect();
            let reason = format!(
                "OpenClaw has no agent {}; set OPENCLAW_AGENT to one of {}",
                one_line(&wanted.unwrap_or_default(), 100),
                one_line(&ids.join(", "), 500),
            );
            return self.give_up(
                now,
                &Outcome::Blocked {
                    fix: Fix::Setup,
                    reason,
                },
            );
        };
        let workspace = agent.get("workspace").and_then(Value::as_str);
        let at_home = workspace == Some(self.plan.directory.as_str());
        match (at_home, self.rights()) {
            (true, _) | (false, Rights::Admin) => {}
            (false, Rights::Plain) => return self.ask_for_rights(),
            (false, Rights::Refused) => {
                let reason = format!(
                    "OpenClaw lets this bridge work in {} only, and the task is in {}; approve \
                     operator.admin for it (`openclaw devices list`, `openclaw devices approve \
                     <request id>`), or make that folder the agent's workspace",
                    one_line(workspace.unwrap_or("the agent's own workspace"), 300),
                    one_line(&self.plan.directory, 300),
                );
                return self.give_up(
                    now,
                    &Outcome::Blocked {
                        fix: Fix::Setup,
                        reason,
                    },
                );
            }
        }
        let agent = wanted.unwrap_or_default();
        self.root = (!at_home).then(|| self.plan.directory.clone());
        self.plan.agent = Some(agent);
        match self.plan.resume.clone() {
            Some(resume) => {
                let params = json!({ "key": resume.as_str(), "allowMissing": true });
                self.ask("sessions.resolve", &params, Request::Known);
            }
            None => self.create(self.plan.model.is_some()),
        }
    }

    /// Whether the gateway still knows the session we go on with.
    pub(super) fn on_known(&mut self, result: Result<Value, Failure>) {
        let known =
            result.is_ok_and(|answer| answer.get("ok").and_then(Value::as_bool) == Some(true));
        if !known {
            self.status("OpenClaw has forgotten the conversation; it begins anew");
        }
        self.create(self.plan.model.is_some());
    }

    /// Makes the session, or takes up the one of that name with today's folder and mode. Without a
    /// mode it would run every command unasked.
    fn create(&mut self, with_model: bool) {
        let agent = self.plan.agent.clone().unwrap_or_default();
        let key = match &self.plan.resume {
            Some(resume) => resume.as_str().to_owned(),
            None => format!("agent:{agent}:task:{}", self.plan.task),
        };
        let mut params = json!({ "agentId": agent, "key": key, "permissionMode": MODE });
        if let Some(fields) = params.as_object_mut() {
            if let Some(root) = &self.root {
                fields.insert("cwd".into(), root.as_str().into());
            }
            if let Some(model) = self.plan.model.as_deref().filter(|_| with_model) {
                fields.insert("model".into(), model.into());
            }
            if let Some(effort) = self.wanted_effort() {
                fields.insert("thinkingLevel".into(), effort.into());
            }
        }
        self.ask("sessions.create", &params, Request::Create { with_model });
    }

    pub(super) fn on_created(
        &mut self,
        now: Instant,
        with_model: bool,
        result: Result<Value, Failure>,
    ) {
        let made = match result {
            Ok(made) => made,
            Err(failure) if with_model && failure.code == "INVALID_REQUEST" => {
                let model = one_line(self.plan.model.as_deref().unwrap_or_default(), 100);
                let said = sentence(&failure.message, 200);
                self.status(format!(
                    "OpenClaw did not take the model {model}: {said}; its own stays in force"
                ));
                return self.create(false);
            }
            Err(failure) if failure.detail() == "MISSING_SCOPE" => {
                return match self.rights() {
                    Rights::Plain => self.ask_for_rights(),
                    Rights::Admin | Rights::Refused => {
                        self.cannot_open(now, "open a session there", &failure);
                    }
                };
            }
            Err(failure) => return self.cannot_open(now, "open a session", &failure),
        };
        let text = |place: &str| made.pointer(place).and_then(Value::as_str);
        let session = text("/key").and_then(|key| ResumeId::parse(key).ok());
        let mode = text("/entry/permissionMode");
        let (Some(session), Some(MODE)) = (session, mode) else {
            let reason = format!(
                "OpenClaw did not confirm a session in the mode {MODE}, in which commands are \
                 asked for; update OpenClaw"
            );
            return self.give_up(
                now,
                &Outcome::Blocked {
                    fix: Fix::Setup,
                    reason,
                },
            );
        };
        if let Some(root) = text("/entry/sessionRoot") {
            self.root = Some(root.to_owned());
        }
        self.session = Some(session.as_str().to_owned());
        self.subscribe();
        self.tell(Heard::Resumable(session));
        self.tell_model(made.get("resolved").unwrap_or(&Value::Null));
        self.emit(RunEvent::Mode { mode: MODE.into() });
        if std::mem::take(&mut self.plan.further) {
            self.status(
                "OpenClaw's file tools stay in the working directory; other folders of the task \
                 are out of their reach",
            );
        }
        self.ready(now);
    }

    /// Asks for the transcript as it grows: it tells what each model call has used.
    pub(super) fn subscribe(&mut self) {
        if let Some(session) = &self.session {
            let params = json!({ "key": session });
            self.ask("sessions.messages.subscribe", &params, Request::Unread);
        }
    }

    /// Tells the model when it is another than before.
    pub(super) fn tell_model(&mut self, resolved: &Value) {
        let text = |name: &str| resolved.get(name).and_then(Value::as_str);
        let provider = text("modelProvider").or_else(|| text("provider"));
        let Some(model) = text("model") else { return };
        let name = match provider {
            Some(provider) => format!("{provider}/{model}"),
            None => model.to_owned(),
        };
        let name = one_line(&name, 200);
        if self.model.as_ref() != Some(&name) {
            self.model = Some(name.clone());
            self.emit(RunEvent::Model { model: name });
        }
    }

    fn cannot_open(&mut self, now: Instant, what: &str, failure: &Failure) {
        let said = sentence(&failure.message, 300);
        let reason = format!("OpenClaw does not {what}: {said}");
        let outcome = match failure.code.as_str() {
            "FORBIDDEN" | "INVALID_REQUEST" => Outcome::Blocked {
                fix: Fix::Setup,
                reason,
            },
            _ => Outcome::Failed {
                fault: Fault::Agent,
                reason,
            },
        };
        self.give_up(now, &outcome);
    }
}

/// The agent a session belongs to: `agent:<id>:…`.
fn agent_of(session: &ResumeId) -> Option<String> {
    let (agent, _) = session.as_str().strip_prefix("agent:")?.split_once(':')?;
    (!agent.is_empty()).then(|| agent.to_owned())
}

const MAX_AGENTS: usize = 1000;
