//! The hub's mouth: a [`CommandBody`] becomes a frame.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use thiserror::Error;

use super::{file_request::FileRequest, gateway, git, pipeline, tree};
use crate::{
    ctrlnode::{capabilities::QueryFrame, frames::to_text, graph, outbound::intent_type},
    id::{AgentId, AskId, Digest, ProviderKey, RunKey, TaskFolder, TaskId},
    model::{
        AgentChange, AgentPatch, AgentProfile, Answer, CommandBody, FileRoot, FollowUp,
        ModelManifest, Place, Request, RunKind, StartRun, Tuning, When,
    },
};

/// Why a command has no frame.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// The wire has no word for it.
    #[error("the wire has no action for {what}")]
    NotOnTheWire {
        /// What it would have been.
        what: String,
    },
    /// A sync whose list is an error.
    #[error("no list of agents to send: {reason}")]
    NoAgents {
        /// The error in place of the list.
        reason: String,
    },
}

/// The frame for a command.
///
/// `request_id` is echoed by whatever answers it; actions that are never answered (`cancel_task`,
/// `interrupt_task`, `input_response`, `model_manifest`, `write_file`) do not carry it. A run's attempt travels as `executionId` unless
/// it is the request id itself. Answers always carry `text`, which is all that a plain bridge reads;
/// leave `ask` and `digest` away for one, because a translated question has made-up ones.
pub fn encode(command: &CommandBody, request_id: &str) -> Result<String, EncodeError> {
    match command {
        CommandBody::Start(start) => Ok(dispatch(start, request_id)),
        CommandBody::FollowUp(follow_up) if follow_up.kind == RunKind::Dispatch => {
            Err(EncodeError::NotOnTheWire {
                what: "a follow-up that is a dispatch".into(),
            })
        }
        CommandBody::FollowUp(follow_up) => Ok(further(follow_up, request_id)),
        CommandBody::Cancel { task } => Ok(to_text(&AboutTask {
            action: "cancel_task",
            task_id: task,
        })),
        CommandBody::Interrupt { task } => Ok(to_text(&AboutTask {
            action: "interrupt_task",
            task_id: task,
        })),
        CommandBody::Answer {
            task,
            ask,
            digest,
            answer,
        } => Ok(input_response(task, ask.as_ref(), digest.as_ref(), answer)),
        CommandBody::Check { run, agent } => Ok(to_text(&CheckRun {
            action: "check_run",
            request_id,
            agent_id: agent,
            task_id: &run.task,
            execution_id: execution_id(run, request_id),
        })),
        CommandBody::Tune { task, tuning } => Ok(to_text(&TuneTask {
            action: "tune_task",
            request_id,
            task_id: task,
            tuning,
        })),
        CommandBody::Agents(AgentChange::Sync { provider, agents }) => match agents {
            Ok(agents) => Ok(sync(provider, agents, request_id)),
            Err(reason) => Err(EncodeError::NoAgents {
                reason: reason.clone(),
            }),
        },
        CommandBody::Agents(AgentChange::Update { agent, patch }) => Ok(to_text(&UpdateAgent {
            action: "update_agent_config",
            request_id,
            agent_id: agent,
            patch,
        })),
        CommandBody::Agents(AgentChange::Delete { agent }) => Ok(to_text(&DeleteAgent {
            action: "delete_agent_config",
            request_id,
            agent_id: agent,
        })),
        CommandBody::Capabilities(query) => Ok(to_text(&QueryFrame::new(query, request_id))),
        CommandBody::Models(manifest) => Ok(to_text(&Manifest {
            action: "model_manifest",
            manifest,
        })),
        CommandBody::Plan(plan) => Ok(graph::encode(plan, request_id)),
        CommandBody::Request(request) => Ok(self::request(request, request_id)),
        CommandBody::Git(request) => Ok(git::encode(request, request_id)),
        CommandBody::Pipeline(request) => Ok(pipeline::encode(request, request_id)),
        CommandBody::Gateway(request) => Ok(gateway::encode(request, request_id)),
        CommandBody::Unknown { kind } => Err(EncodeError::NotOnTheWire { what: kind.clone() }),
    }
}

fn dispatch(start: &StartRun, request_id: &str) -> String {
    let (task_mode, repo_path) = mode(&start.place);
    to_text(&RunFrame {
        action: "dispatch_task",
        request_id,
        agent_id: &start.agent,
        task_id: &start.run.task,
        execution_id: execution_id(&start.run, request_id),
        args: RunArgs {
            task: Some(&start.prompt),
            task_folder_name: start.place.folder(),
            task_mode,
            repo_path,
            task_log_relative_path: start.task_log.as_deref(),
            tuning: Some(&start.tuning),
            ..RunArgs::default()
        },
    })
}

fn further(follow_up: &FollowUp, request_id: &str) -> String {
    let (task_mode, repo_path) = mode(&follow_up.place);
    to_text(&RunFrame {
        action: intent_type(follow_up.kind),
        request_id,
        agent_id: &follow_up.agent,
        task_id: &follow_up.run.task,
        execution_id: execution_id(&follow_up.run, request_id),
        args: RunArgs {
            message: Some(&follow_up.message),
            task_folder_name: follow_up.place.folder(),
            task_mode,
            repo_path,
            focus_files: &follow_up.focus_files,
            when: (follow_up.when == When::Now).then_some("now"),
            tuning: Some(&follow_up.tuning),
            ..RunArgs::default()
        },
    })
}

fn mode(place: &Place) -> (&'static str, Option<&str>) {
    match place {
        Place::Output { .. } => ("output", None),
        Place::Repository { path, .. } => ("repo", Some(path)),
    }
}

fn execution_id<'a>(run: &'a RunKey, request_id: &str) -> Option<&'a str> {
    Some(run.attempt.as_str()).filter(|attempt| *attempt != request_id)
}

fn input_response(
    task: &TaskId,
    ask_id: Option<&AskId>,
    digest: Option<&Digest>,
    answer: &Answer,
) -> String {
    let (text, option, deny) = match answer {
        Answer::Choose { option } => (option.as_str(), Some(option.as_str()), None),
        Answer::Text { text } => (text.as_str(), None, None),
        Answer::Deny { reason } => ("no", None, Some(reason.as_str())),
    };
    to_text(&InputResponse {
        action: "input_response",
        task_id: task,
        text,
        ask_id,
        digest,
        option,
        deny,
    })
}

fn sync(provider: &ProviderKey, agents: &[AgentProfile], request_id: &str) -> String {
    let entries: Vec<_> = agents
        .iter()
        .map(|agent| SyncedAgent {
            id: &agent.id,
            name: &agent.name,
            workspace: agent.workspace.as_deref(),
            model: agent.model.as_deref(),
            role: &agent.role,
            description: &agent.description,
            emoji: &agent.emoji,
        })
        .collect();
    let key = if provider.as_str() == "claude-sdk" {
        "claude_sdk"
    } else {
        provider.as_str()
    };
    to_text(&SyncAgents {
        action: format!("sync_{key}_agents"),
        request_id,
        agents: to_text(&entries),
    })
}

fn request(request: &Request, request_id: &str) -> String {
    match request {
        Request::WriteFile {
            scope,
            path,
            bytes,
            text,
        } => {
            let utf8 = std::str::from_utf8(bytes).ok().filter(|_| *text);
            to_text(&FileRequest {
                path: Some(path),
                content: Some(utf8.map_or_else(|| STANDARD.encode(bytes), str::to_owned)),
                content_encoding: utf8.is_none().then_some("base64"),
                ..FileRequest::new("write_file", None, scope)
            })
        }
        Request::ReadFile { scope, path } => to_text(&FileRequest {
            path: Some(path),
            ..FileRequest::new("read_file", Some(request_id), scope)
        }),
        Request::ListFiles {
            scope,
            subpath,
            recursive,
            include_files,
        } => to_text(&FileRequest {
            subpath: Some(subpath.as_str()).filter(|subpath| !subpath.is_empty()),
            recursive: *recursive && scope.root == FileRoot::Base,
            shallow_include_files: *include_files,
            ..FileRequest::new("list_files", Some(request_id), scope)
        }),
        Request::Tree(change) => tree::encode(change, request_id),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RunFrame<'a> {
    action: &'static str,
    request_id: &'a str,
    agent_id: &'a AgentId,
    task_id: &'a TaskId,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_id: Option<&'a str>,
    args: RunArgs<'a>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunArgs<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_folder_name: Option<&'a TaskFolder>,
    task_mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    repo_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_log_relative_path: Option<&'a str>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    focus_files: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    when: Option<&'static str>,
    #[serde(flatten)]
    tuning: Option<&'a Tuning>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AboutTask<'a> {
    action: &'static str,
    task_id: &'a TaskId,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InputResponse<'a> {
    action: &'static str,
    task_id: &'a TaskId,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ask_id: Option<&'a AskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<&'a Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    option: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deny: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckRun<'a> {
    action: &'static str,
    request_id: &'a str,
    agent_id: &'a AgentId,
    task_id: &'a TaskId,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_id: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TuneTask<'a> {
    action: &'static str,
    request_id: &'a str,
    task_id: &'a TaskId,
    #[serde(flatten)]
    tuning: &'a Tuning,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SyncAgents<'a> {
    action: String,
    request_id: &'a str,
    agents: String,
}

#[derive(Serialize)]
struct Manifest<'a> {
    action: &'static str,
    #[serde(flatten)]
    manifest: &'a ModelManifest,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UpdateAgent<'a> {
    action: &'static str,
    request_id: &'a str,
    agent_id: &'a AgentId,
    #[serde(flatten)]
    patch: &'a AgentPatch,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DeleteAgent<'a> {
    action: &'static str,
    request_id: &'a str,
    agent_id: &'a AgentId,
}

#[derive(Serialize)]
struct SyncedAgent<'a> {
    id: &'a AgentId,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    role: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    emoji: &'a str,
}
