//! The hub's ear: a frame of a bridge, ours or any other that speaks this wire.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize as _;
use serde_json::Value;

use super::{gateway, git, pipeline, tree};
use crate::{
    ctrlnode::{
        DecodeError, capabilities,
        fields::{Fields, Frame, shortened},
        graph,
        inbound::run_key,
    },
    id::{AgentId, ProviderKey, TaskId},
    model::{
        AgentProfile, AgentStatus, Event, FileChange, FileEntry, Health, HealthReason, Heartbeat,
        Hello, Listing, Notice, PipelineReply, ProviderReport, ReadOutcome, Reply,
    },
    time::Timestamp,
};

/// What a bridge said.
#[derive(Debug, Clone, PartialEq)]
pub enum FromBridge {
    /// The first frame of a connection.
    Handshake(Hello),
    /// Something about the machine. In [`Notice::Agents`] every workspace is spelled out and
    /// `default_workspace` is empty.
    Notice(Notice),
    /// An event of a run, whole; from a bridge that speaks the extension.
    Event {
        /// Whose run.
        agent: AgentId,
        /// Which program serves the agent.
        provider: Option<ProviderKey>,
        /// What happened.
        event: Event,
    },
    /// A message about a run from a plain bridge; for the [`Translator`](super::Translator).
    Run(PlainRun),
    /// The answer to a request.
    Reply {
        /// Of the request; empty in the one answer that has none on the published wire, that of a
        /// check whether a task has delivered anything.
        request_id: String,
        /// The answer.
        reply: Reply,
    },
    /// An action, or a variety of one, that this version does not know.
    Unknown {
        /// The action, shortened.
        kind: String,
    },
}

/// A message of the plain wire about a task's run.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainRun {
    /// Whose run; the wire does not say which of the task's runs.
    pub task: TaskId,
    /// Who does it; not in every message.
    pub agent: Option<AgentId>,
    /// What it says.
    pub message: PlainMessage,
}

/// The messages about runs.
#[derive(Debug, Clone, PartialEq)]
pub enum PlainMessage {
    /// `task_progress`.
    Progress {
        /// `thinking`, `text_chunk`, `text_delta`, `tool_call`, `file_written`, …
        kind: String,
        /// Absent for tools, and for thinking that must not leave the machine.
        text: Option<String>,
        /// For `file_written`.
        path: Option<String>,
    },
    /// `agent_stream`.
    Stream {
        /// The agent's own message, or one of the shapes `{kind, text?, raw?}`.
        event: Value,
    },
    /// `agent_activity`: text of the answer.
    Activity {
        /// What to append.
        delta: String,
    },
    /// `task_model_update`.
    Model {
        /// Its name.
        model: String,
    },
    /// `task_waiting_for_input`.
    Waiting {
        /// The question, with its options numbered below it.
        prompt: String,
    },
    /// `task_complete`.
    Complete {
        /// `completed`, `done`, `failed` or `blocked`; absent means completed.
        status: Option<String>,
        /// Why, when there is something to say.
        reason: Option<String>,
        /// Whether the bridge itself broke.
        own_fault: bool,
    },
    /// `intent_result` of a run.
    IntentResult {
        /// Of the command.
        request_id: Option<String>,
        /// Of the command.
        execution_id: Option<String>,
        /// The status, on success and on failures that the agent reported.
        result: Option<String>,
        /// An error code, with or without text behind it.
        error: Option<String>,
    },
}

/// Reads one frame of a bridge.
///
/// # Errors
///
/// Everything that cannot be understood as the wire describes it. Unknown fields, entries with
/// unusable identifiers in lists and unknown codes are no errors.
pub fn decode(frame: &[u8]) -> Result<FromBridge, DecodeError> {
    let frame = Frame::parse(frame)?;
    let fields = frame.fields();
    let message = match frame.action() {
        "handshake" => return Ok(FromBridge::Handshake(hello(fields)?)),
        "heartbeat" => return Ok(FromBridge::Notice(Notice::Heartbeat(heartbeat(fields)?))),
        "agent_update" => return Ok(FromBridge::Notice(agents(fields)?)),
        "provider_health" => return Ok(FromBridge::Notice(health(fields)?)),
        "available_models" => return Ok(FromBridge::Notice(models(fields)?)),
        "file_changed" => return Ok(FromBridge::Notice(file_changed(fields)?)),
        "bridge_event" => return event(fields),
        "read_file_response" => return reply(fields, read_file(fields)?),
        "provider_capabilities_response" => {
            let capabilities = capabilities::response(fields)?;
            return reply(fields, Reply::Capabilities(Box::new(capabilities)));
        }
        "list_files_response" => return reply(fields, list_files(fields)?),
        "run_checked" => {
            let run = run_key(fields)?;
            // A run is never given up because a field is absent.
            if fields.value("known").is_none() {
                return Err(fields.missing("known"));
            }
            let known = fields.flag("known")?;
            return reply(fields, Reply::RunChecked { run, known });
        }
        graph::PROGRESS | "intent_result" if let Some(said) = graph::heard(fields)? => {
            return reply(fields, said);
        }
        "unknown_action" | "tool_result" if fields.value("action_requested").is_some() => {
            let kind = shortened(fields.text("action_requested")?.unwrap_or_default());
            return reply(fields, Reply::Unknown { kind });
        }
        "task_progress" => PlainMessage::Progress {
            kind: fields.need_text("kind")?.to_owned(),
            text: owned(fields.text("text")?),
            path: fields.path("path")?,
        },
        "agent_stream" => PlainMessage::Stream {
            event: fields
                .value("event")
                .ok_or_else(|| fields.missing("event"))?
                .clone(),
        },
        "agent_activity" => PlainMessage::Activity {
            delta: fields.text("delta")?.unwrap_or_default().to_owned(),
        },
        "task_model_update" => PlainMessage::Model {
            model: fields.need_text("model")?.to_owned(),
        },
        "task_waiting_for_input" => PlainMessage::Waiting {
            prompt: fields.text("prompt")?.unwrap_or_default().to_owned(),
        },
        "task_complete" => PlainMessage::Complete {
            status: owned(fields.text("status")?),
            reason: owned(fields.words("reason")?),
            own_fault: fields.text("source")? == Some("bridge"),
        },
        "intent_result" if is_run(fields)? => PlainMessage::IntentResult {
            request_id: owned(fields.text("requestId")?),
            execution_id: owned(fields.text("executionId")?),
            result: owned(fields.text("result")?),
            error: owned(fields.text("error")?),
        },
        other => {
            if let Some(answer) = git::decode(other, fields) {
                return reply(fields, Reply::Git { reply: answer? });
            }
            if let Some(answer) = pipeline::decode(other, fields) {
                return pipeline_reply(fields, answer?);
            }
            if let Some(answer) = gateway::decode(other, fields)? {
                return Ok(answer);
            }
            if let Some(changed) = tree::decode(other, fields)? {
                return reply(fields, Reply::Tree(changed));
            }
            return acknowledged(fields, other);
        }
    };
    let task = match fields.id("taskId")? {
        Some(task) => Some(task),
        None => fields.id("contextTaskId")?,
    };
    Ok(match task {
        Some(task) => FromBridge::Run(PlainRun {
            task,
            agent: fields.id("agentId")?,
            message,
        }),
        // OpenClaw names a folder in place of a task.
        None => FromBridge::Unknown {
            kind: format!("{} without a task", frame.action()),
        },
    })
}

fn file_changed(fields: Fields<'_>) -> Result<Notice, DecodeError> {
    Ok(Notice::FileChanged {
        agent: fields.need_id("agentId")?,
        path: fields.file_path("path")?,
        change: match fields.text("event")? {
            Some("add") => FileChange::Add,
            Some(_) | None => FileChange::Change,
        },
        content: owned(fields.text("content")?),
    })
}

fn hello(fields: Fields<'_>) -> Result<Hello, DecodeError> {
    let providers = fields.texts("providers")?;
    let Announced {
        agents, existing, ..
    } = announced(fields)?;
    Ok(Hello {
        agents,
        existing,
        version: fields.text("version")?.unwrap_or_default().to_owned(),
        providers: providers
            .into_iter()
            .filter_map(|key| ProviderKey::parse(key).ok())
            .collect(),
        hostname: fields.text("hostname")?.unwrap_or_default().to_owned(),
    })
}

fn heartbeat(fields: Fields<'_>) -> Result<Heartbeat, DecodeError> {
    let mut agents = Vec::new();
    for entry in fields.objects("agentStatuses")? {
        let Ok(id) = AgentId::parse(entry.text("id")?.unwrap_or_default()) else {
            continue;
        };
        let running = entry.text("status")? == Some("running");
        agents.push((
            id,
            if running {
                AgentStatus::Running
            } else {
                AgentStatus::Idle
            },
        ));
    }
    let at = fields.need_text("timestamp")?.parse::<Timestamp>();
    let at = at.map_err(|_| fields.wrong_type("timestamp", "a point in time"))?;
    Ok(Heartbeat { agents, at })
}

fn agents(fields: Fields<'_>) -> Result<Notice, DecodeError> {
    let Announced {
        agents,
        existing,
        hostname,
    } = announced(fields)?;
    Ok(Notice::Agents {
        version: owned(fields.text("version")?),
        agents,
        default_workspace: String::new(),
        existing,
        hostname,
    })
}

/// The agents of a handshake or an update.
#[derive(Default)]
struct Announced {
    agents: Vec<AgentProfile>,
    existing: Vec<AgentId>,
    hostname: String,
}

fn announced(fields: Fields<'_>) -> Result<Announced, DecodeError> {
    let mut all = Announced::default();
    for entry in fields.objects("agents")? {
        let Ok(id) = AgentId::parse(entry.text("id")?.unwrap_or_default()) else {
            continue;
        };
        let provider = entry.words("provider")?.unwrap_or("openclaw");
        let Ok(provider) = ProviderKey::parse(provider) else {
            continue;
        };
        let model = entry
            .words("model")?
            .filter(|model| *model != provider.as_str());
        if entry.flag("exists")? {
            all.existing.push(id.clone());
        }
        if let Some(hostname) = entry.text("hostname")? {
            hostname.clone_into(&mut all.hostname);
        }
        all.agents.push(AgentProfile {
            name: entry.text("name")?.unwrap_or(id.as_str()).to_owned(),
            model: owned(model.filter(|model| *model != "default")),
            provider,
            workspace: owned(entry.words("workspace")?),
            role: entry.text("role")?.unwrap_or_default().to_owned(),
            description: entry.text("description")?.unwrap_or_default().to_owned(),
            emoji: entry.text("emoji")?.unwrap_or_default().to_owned(),
            from_filesystem: entry.flag("fromFilesystem")?,
            id,
        });
    }
    Ok(all)
}

fn health(fields: Fields<'_>) -> Result<Notice, DecodeError> {
    let map = fields.map("providerHealth")?;
    let mut health = BTreeMap::new();
    for (key, entry) in map {
        let Ok(key) = ProviderKey::parse(key) else {
            continue;
        };
        let entry = entry.as_object();
        let entry = entry.ok_or_else(|| fields.wrong_type("providerHealth", "a map of objects"))?;
        let entry = fields.within(entry);
        let available = entry.flag("available")?;
        let code = entry.text("reason")?.filter(|_| !available);
        let reason = match code {
            Some("binary_missing") => Some(HealthReason::BinaryMissing),
            Some("auth_required") => Some(HealthReason::AuthRequired),
            Some("service_unreachable") => Some(HealthReason::ServiceUnreachable),
            Some(_) | None => None,
        };
        let hint = match entry.text("hint")? {
            Some(hint) => Some(hint),
            // A code of another version is better shown than lost.
            None => code.filter(|_| reason.is_none()),
        };
        let (version, hint) = (owned(entry.text("version")?), owned(hint));
        // What a newer bridge says in another shape is not known, and no reason to forget the rest.
        let known = |field| entry.value(field).cloned();
        let report = ProviderReport {
            health: Health {
                available,
                reason,
                version,
                hint,
            },
            can: known("can").and_then(|value| serde_json::from_value(value).ok()),
            trouble: known("trouble").and_then(|value| serde_json::from_value(value).ok()),
        };
        health.insert(key, report);
    }
    Ok(Notice::ProviderHealth { health })
}

fn models(fields: Fields<'_>) -> Result<Notice, DecodeError> {
    let mut models = BTreeMap::new();
    for (key, list) in fields.map("models")? {
        let Ok(key) = ProviderKey::parse(key) else {
            continue;
        };
        let names = list
            .as_array()
            .map(|list| list.iter().map(Value::as_str).collect());
        let names: Option<Vec<&str>> = names.flatten();
        let names = names.ok_or_else(|| fields.wrong_type("models", "a map of lists of texts"))?;
        models.insert(key, names.into_iter().map(str::to_owned).collect());
    }
    Ok(Notice::AvailableModels { models })
}

fn event(fields: Fields<'_>) -> Result<FromBridge, DecodeError> {
    let event = fields
        .value("event")
        .ok_or_else(|| fields.missing("event"))?;
    Ok(FromBridge::Event {
        agent: fields.need_id("agentId")?,
        provider: fields.id("provider")?,
        event: Event::deserialize(event).map_err(|_| fields.wrong_type("event", "an event"))?,
    })
}

/// What became of a sync of agents; anything else is not known.
fn acknowledged(fields: Fields<'_>, action: &str) -> Result<FromBridge, DecodeError> {
    let Some(provider) = acknowledged_provider(action) else {
        return Ok(FromBridge::Unknown {
            kind: shortened(action),
        });
    };
    let success = fields.flag("success")?;
    let error = owned(fields.text("error")?);
    let error = if success {
        None
    } else {
        Some(error.unwrap_or_default())
    };
    reply(fields, Reply::AgentsSynced { provider, error })
}

/// A check of an output has no `requestId` on the published wire.
fn pipeline_reply(fields: Fields<'_>, answer: PipelineReply) -> Result<FromBridge, DecodeError> {
    let request_id = match answer {
        PipelineReply::Output { .. } => fields.text("requestId")?.unwrap_or_default(),
        PipelineReply::Activated { .. } => fields.need_text("requestId")?,
    };
    Ok(FromBridge::Reply {
        request_id: request_id.to_owned(),
        reply: Reply::Pipeline { reply: answer },
    })
}

fn reply(fields: Fields<'_>, reply: Reply) -> Result<FromBridge, DecodeError> {
    let request_id = fields.need_text("requestId")?.to_owned();
    Ok(FromBridge::Reply { request_id, reply })
}

fn read_file(fields: Fields<'_>) -> Result<Reply, DecodeError> {
    let content_type = fields.text("contentType")?.unwrap_or_default().to_owned();
    let outcome = match fields.text("error")? {
        None => {
            let content = fields.need_text("content")?;
            match fields.text("encoding")? {
                Some("base64") => ReadOutcome::Binary {
                    bytes: STANDARD
                        .decode(content)
                        .map_err(|_| fields.wrong_type("content", "base64"))?,
                    content_type,
                },
                Some(_) | None => ReadOutcome::Content {
                    content: content.to_owned(),
                    content_type,
                },
            }
        }
        Some("BASE_PATH_NOT_FOUND") => ReadOutcome::NoRoot,
        Some("INVALID_PATH") => ReadOutcome::InvalidPath,
        Some("FILE_NOT_FOUND") => ReadOutcome::NotFound,
        Some(error) => {
            let size = error
                .strip_prefix("FILE_TOO_LARGE:")
                .and_then(|size| size.parse().ok());
            match size {
                Some(bytes) => ReadOutcome::TooLarge {
                    bytes,
                    content_type,
                },
                None => ReadOutcome::Unreadable,
            }
        }
    };
    Ok(Reply::ReadFile {
        path: fields.text("path")?.unwrap_or_default().to_owned(),
        outcome,
    })
}

fn list_files(fields: Fields<'_>) -> Result<Reply, DecodeError> {
    if let Some(error) = fields.text("error")? {
        return Ok(Reply::ListFiles {
            listing: Err(error.to_owned()),
        });
    }
    let mut entries = Vec::new();
    for entry in fields.objects("files")? {
        entries.push(FileEntry {
            name: entry.need_text("name")?.to_owned(),
            path: entry.need_text("path")?.to_owned(),
            is_dir: entry.need_text("type")? == "dir",
            size: entry.value("size").and_then(Value::as_u64),
        });
    }
    let base_path = fields.text("basePath")?.unwrap_or_default().to_owned();
    Ok(Reply::ListFiles {
        listing: Ok(Listing {
            base: base_path,
            entries,
            cut: fields.flag("truncated")?,
        }),
    })
}

/// Other intents (planning, pings) have no run.
fn is_run(fields: Fields<'_>) -> Result<bool, DecodeError> {
    let intent = fields.text("intentType")?;
    Ok(matches!(
        intent,
        Some("dispatch_task" | "followup" | "agent_command")
    ))
}

fn acknowledged_provider(action: &str) -> Option<ProviderKey> {
    let key = action.strip_prefix("sync_")?.strip_suffix("_agents_ack")?;
    ProviderKey::parse(if key == "claude_sdk" {
        "claude-sdk"
    } else {
        key
    })
    .ok()
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}
