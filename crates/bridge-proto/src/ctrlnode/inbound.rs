//! The bridge's ear: a frame of the control plane becomes a [`Command`].

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{
    DecodeError, agents, capabilities,
    fields::{Fields, Frame, shortened, with_slashes},
    gateway, git, graph, pipeline,
    token::Token,
    tree,
};
use crate::{
    id::{AgentId, ProviderKey, RunKey, TaskFolder, TaskId},
    model::{
        AgentChange, Answer, Command, CommandBody, FileRoot, FileScope, FollowUp, ModelManifest,
        Origin, Place, Request, RunKind, Source, StartRun, Tuning, When,
    },
};

/// Reads one frame of a control plane.
///
/// Unknown actions are [`CommandBody::Unknown`]; unknown fields are ignored; a field that is
/// `null` is absent. Back slashes in paths become `/`; paths stay untrusted text. A prompt that is
/// missing is empty, for the runtime to reject with its own code.
///
/// # Errors
///
/// Everything that cannot be understood as the wire describes it, without repeating its values.
/// [`encode_refusal`](super::encode_refusal) says what to answer, if anything.
pub fn decode(frame: &[u8], source: Source) -> Result<Command, DecodeError> {
    let frame = Frame::parse(frame)?;
    let fields = frame.fields();
    let body = match frame.action() {
        "dispatch_task" => CommandBody::Start(Box::new(start(fields, source)?)),
        "followup" => {
            CommandBody::FollowUp(Box::new(follow_up(fields, RunKind::FollowUp, source)?))
        }
        "agent_command" => {
            CommandBody::FollowUp(Box::new(follow_up(fields, RunKind::AgentCommand, source)?))
        }
        "cancel_task" => CommandBody::Cancel {
            task: fields.need_id("taskId")?,
        },
        "interrupt_task" => CommandBody::Interrupt {
            task: fields.need_id("taskId")?,
        },
        "input_response" => answer(fields)?,
        "check_run" => CommandBody::Check {
            run: run_key(fields)?,
            agent: fields.need_id("agentId")?,
        },
        "tune_task" => CommandBody::Tune {
            task: fields.need_id("taskId")?,
            tuning: tuning(fields)?,
        },
        graph::ACTION => CommandBody::Plan(Box::new(graph::decode(fields)?)),
        "write_file" => CommandBody::Request(write_file(fields)?),
        "read_file" => CommandBody::Request(Request::ReadFile {
            scope: scope(fields)?,
            path: fields.file_path("path")?,
        }),
        "list_files" => CommandBody::Request(list_files(fields)?),
        "model_manifest" => CommandBody::Models(ModelManifest::of(
            fields.value("version").and_then(Value::as_str),
            fields.map("providers")?,
        )),
        "query_provider_capabilities" => CommandBody::Capabilities(capabilities::query(fields)),
        "update_agent_config" => CommandBody::Agents(AgentChange::Update {
            agent: fields.need_id("agentId")?,
            patch: agents::patch(fields)?,
        }),
        "delete_agent_config" => CommandBody::Agents(AgentChange::Delete {
            agent: fields.need_id("agentId")?,
        }),
        other if git::is_git(other) => CommandBody::Git(git::request(other, fields)?),
        other if pipeline::is_pipeline(other) => {
            CommandBody::Pipeline(pipeline::request(other, fields)?)
        }
        other if gateway::is_gateway(other) => {
            CommandBody::Gateway(gateway::request(other, fields)?)
        }
        other => match (tree::decode(other, fields)?, synced_provider(other)) {
            (Some(change), _) => CommandBody::Request(Request::Tree(change)),
            (None, Some(provider)) => CommandBody::Agents(AgentChange::Sync {
                agents: agents::synced(fields, &provider),
                provider,
            }),
            (None, None) => CommandBody::Unknown {
                kind: shortened(other),
            },
        },
    };
    let token = match &body {
        // Nothing is known about its other fields, not even their types.
        // Whatever is odd about a question about skills, it is answered.
        CommandBody::Unknown { .. } | CommandBody::Capabilities(_) => Token {
            request_id: fields
                .value("requestId")
                .and_then(Value::as_str)
                .map(str::to_owned),
            ..Token::default()
        },
        CommandBody::Start(_)
        | CommandBody::FollowUp(_)
        | CommandBody::Cancel { .. }
        | CommandBody::Interrupt { .. }
        | CommandBody::Answer { .. }
        | CommandBody::Check { .. }
        | CommandBody::Tune { .. }
        | CommandBody::Agents(_)
        | CommandBody::Plan(_)
        | CommandBody::Models(_)
        | CommandBody::Request(_)
        | CommandBody::Git(_)
        | CommandBody::Pipeline(_)
        | CommandBody::Gateway(_) => Token {
            request_id: fields.text("requestId")?.map(str::to_owned),
            execution_id: fields.text("executionId")?.map(str::to_owned),
            agent_id: Some(
                fields
                    .text("agentId")?
                    .unwrap_or_default()
                    .trim()
                    .to_lowercase(),
            ),
        },
    };
    Ok(Command {
        origin: Origin {
            source,
            reply: token.seal(),
        },
        body,
    })
}

fn start(fields: Fields<'_>, source: Source) -> Result<StartRun, DecodeError> {
    let map = args(fields)?;
    let args = fields.within(&map);
    let prompt = match args.words("task")? {
        Some(task) => Some(task),
        None => args.words("message")?,
    };
    let folder = match args.path("taskFolderName")? {
        Some(folder) => Some(folder),
        None => fields.path("taskFolderName")?,
    };
    Ok(StartRun {
        run: run_key(fields)?,
        agent: fields.need_id("agentId")?,
        prompt: prompt
            .or(fields.text("content")?)
            .unwrap_or_default()
            .to_owned(),
        place: place(args, folder)?,
        task_log: args.path("taskLogRelativePath")?,
        tuning: match source {
            Source::Plane => Tuning {
                model: args.words("model")?.map(str::to_owned),
                ..Tuning::default()
            },
            Source::Hub | Source::Local | Source::Folder => tuning(args)?,
        },
    })
}

/// When it is read and what it changes are words of our own hub; other planes do not know them.
fn follow_up(fields: Fields<'_>, kind: RunKind, source: Source) -> Result<FollowUp, DecodeError> {
    let map = args(fields)?;
    let args = fields.within(&map);
    let message = match args.words("message")? {
        Some(message) => Some(message),
        None => fields.text("content")?,
    };
    let (when, tuning) = match source {
        Source::Plane => (When::After, Tuning::default()),
        Source::Hub | Source::Local | Source::Folder => {
            let now = args.text("when")? == Some("now");
            (if now { When::Now } else { When::After }, tuning(args)?)
        }
    };
    Ok(FollowUp {
        run: run_key(fields)?,
        agent: fields.need_id("agentId")?,
        message: message.unwrap_or_default().to_owned(),
        place: place(args, args.path("taskFolderName")?)?,
        kind,
        focus_files: args
            .texts("focusFiles")?
            .into_iter()
            .map(with_slashes)
            .collect(),
        when,
        tuning,
    })
}

fn tuning(fields: Fields<'_>) -> Result<Tuning, DecodeError> {
    let owned = |field| Ok(fields.words(field)?.map(str::to_owned));
    Ok(Tuning {
        model: owned("model")?,
        mode: owned("mode")?,
        effort: owned("effort")?,
    })
}

/// The arguments, as an object or as JSON text of one. A text that is not one is not used: then
/// `content` is the prompt.
pub(super) fn args(fields: Fields<'_>) -> Result<Cow<'_, Map<String, Value>>, DecodeError> {
    match fields.value("args") {
        None => Ok(Cow::Owned(Map::new())),
        Some(Value::Object(map)) => Ok(Cow::Borrowed(map)),
        Some(Value::String(text)) => Ok(Cow::Owned(serde_json::from_str(text).unwrap_or_default())),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            Err(fields.wrong_type("args", "an object or a JSON text"))
        }
    }
}

pub(super) fn run_key(fields: Fields<'_>) -> Result<RunKey, DecodeError> {
    let task = match fields.id("contextTaskId")? {
        Some(task) => task,
        None => fields.need_id("taskId")?,
    };
    let attempt = match fields.words("executionId")? {
        Some(attempt) => Some(attempt),
        None => fields.words("requestId")?,
    };
    let attempt = attempt.ok_or_else(|| fields.missing("executionId or requestId"))?;
    // The attempt is printed and journalled like any identifier, so the same limits hold.
    let checked: TaskId = fields.parse(attempt)?;
    Ok(RunKey {
        task,
        attempt: checked.as_str().to_owned(),
    })
}

fn place(args: Fields<'_>, folder: Option<String>) -> Result<Place, DecodeError> {
    let folder: Option<TaskFolder> = folder.map(|folder| args.parse(&folder)).transpose()?;
    let repository = match args.text("taskMode")? {
        Some("repo") => args.path("repoPath")?,
        Some(_) | None => None,
    };
    Ok(match repository {
        Some(path) => Place::Repository { path, folder },
        None => Place::Output { folder },
    })
}

fn answer(fields: Fields<'_>) -> Result<CommandBody, DecodeError> {
    let text = fields.text("text")?.unwrap_or_default();
    let answer = if let Some(option) = fields.words("option")? {
        Answer::Choose {
            option: option.to_owned(),
        }
    } else if let Some(reason) = fields.text("deny")? {
        Answer::Deny {
            reason: reason.to_owned(),
        }
    } else if text.is_empty() {
        return Err(fields.missing("text"));
    } else {
        Answer::Text {
            text: text.to_owned(),
        }
    };
    Ok(CommandBody::Answer {
        task: fields.need_id("taskId")?,
        ask: fields.id("askId")?,
        digest: fields.digest("digest")?,
        answer,
    })
}

pub(super) fn scope(fields: Fields<'_>) -> Result<FileScope, DecodeError> {
    Ok(FileScope {
        root: match (fields.flag("useBasePath")?, fields.flag("useCtrlnode")?) {
            (true, _) => FileRoot::Base,
            (false, true) => FileRoot::Ctrlnode,
            (false, false) => FileRoot::Owner,
        },
        agent: fields.id::<AgentId>("agentId")?,
        provider: fields.id::<ProviderKey>("provider")?,
    })
}

fn write_file(fields: Fields<'_>) -> Result<Request, DecodeError> {
    let content = fields.text("content")?.unwrap_or_default();
    let text = fields.text("contentEncoding")? != Some("base64");
    let bytes = if text {
        content.as_bytes().to_vec()
    } else {
        STANDARD.decode(content).map_err(|_| DecodeError::Base64 {
            action: fields.action(),
        })?
    };
    let path = fields.file_path("path")?;
    Ok(Request::WriteFile {
        scope: scope(fields)?,
        path,
        bytes,
        text,
    })
}

fn list_files(fields: Fields<'_>) -> Result<Request, DecodeError> {
    let scope = scope(fields)?;
    let recursive = fields.flag("recursive")?;
    Ok(Request::ListFiles {
        // Below any other root the wire knows full walks only.
        recursive: recursive || scope.root != FileRoot::Base,
        scope,
        subpath: fields.file_path("subpath")?,
        include_files: fields.flag("shallowIncludeFiles")?,
    })
}

/// The provider of `sync_<provider>_agents`; any key is good (decision 17).
pub(super) fn synced_provider(action: &str) -> Option<ProviderKey> {
    let key = action.strip_prefix("sync_")?.strip_suffix("_agents")?;
    ProviderKey::parse(if key == "claude_sdk" {
        "claude-sdk"
    } else {
        key
    })
    .ok()
}
