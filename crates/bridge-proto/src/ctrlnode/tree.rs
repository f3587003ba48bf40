//! Changes of the tree of files: what the bridge hears and how it answers.

use serde::Serialize;

use super::{
    DecodeError,
    fields::Fields,
    frames::{Nullable, to_text},
    inbound::scope,
};
use crate::model::{NewFile, TreeAct, TreeChange, TreeChanged};

/// Reads a change; `None` when the action is none.
pub(super) fn decode(action: &str, fields: Fields<'_>) -> Result<Option<TreeChange>, DecodeError> {
    let path = |field| fields.file_path(field);
    Ok(Some(match action {
        "delete_path" => TreeChange::DeletePath {
            scope: scope(fields)?,
            // Nothing is deleted when nobody can be told what came of it.
            path: match fields.words("requestId")? {
                Some(_) => path("path")?,
                None => String::new(),
            },
        },
        "create_folder" => TreeChange::CreateFolder {
            scope: scope(fields)?,
            path: path("path")?,
        },
        "rename_folder" => TreeChange::RenameFolder {
            scope: scope(fields)?,
            path: path("path")?,
            new_path: path("newPath")?,
        },
        "delete_folder" => TreeChange::DeleteFolder {
            scope: scope(fields)?,
            path: path("path")?,
        },
        "create_workspace" => TreeChange::CreateWorkspace {
            folder: path("folderName")?,
            files: files(fields)?,
            use_ctrlnode: fields.flag("useCtrlnode")?,
        },
        "delete_agent_folders" => TreeChange::DeleteAgentFolders {
            folder: path("folderName")?,
            agent: fields.text("agentId")?.map(str::to_owned),
        },
        _ => return Ok(None),
    }))
}

fn files(fields: Fields<'_>) -> Result<Vec<NewFile>, DecodeError> {
    fields
        .objects("files")?
        .into_iter()
        .map(|file| {
            Ok(NewFile {
                path: file.file_path("path")?,
                content: file.text("content")?.unwrap_or_default().to_owned(),
            })
        })
        .collect()
}

/// The frame that answers a change.
pub(super) fn encode(changed: &TreeChanged, request_id: Option<&str>) -> String {
    match changed {
        TreeChanged::Done { act, error } => to_text(&TreeAck {
            action: format!("{}_ack", act.action()),
            request_id,
            success: error.is_none(),
            error: error.as_deref(),
        }),
        TreeChanged::Workspace { path, error } => to_text(&WorkspaceResponse {
            action: WORKSPACE_RESPONSE,
            request_id,
            workspace_path: Nullable(path.as_deref()),
            success: error.is_none(),
            error: error.as_deref(),
        }),
        TreeChanged::AgentFolders {
            agent,
            deleted,
            errors,
        } => to_text(&AgentFoldersResponse {
            action: AGENT_FOLDERS_RESPONSE,
            request_id,
            agent_id: agent.as_deref(),
            success: errors.is_empty(),
            deleted,
            errors,
        }),
    }
}

/// The answer to a change that could not be read; `None` when the action is none.
pub(super) fn refused(action: &str, agent: Option<&str>) -> Option<TreeChanged> {
    let error = || Some(INVALID_REQUEST.to_owned());
    match action {
        "create_workspace" => Some(TreeChanged::Workspace {
            path: None,
            error: error(),
        }),
        "delete_agent_folders" => Some(TreeChanged::AgentFolders {
            agent: agent.map(str::to_owned),
            deleted: Vec::new(),
            errors: error().into_iter().collect(),
        }),
        other => TreeAct::ALL
            .into_iter()
            .find(|act| act.action() == other)
            .map(|act| TreeChanged::Done {
                act,
                error: error(),
            }),
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TreeAck<'a> {
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    success: bool,
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkspaceResponse<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    workspace_path: Nullable<&'a str>,
    success: bool,
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentFoldersResponse<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    success: bool,
    deleted: &'a [String],
    errors: &'a [String],
}

pub(super) const WORKSPACE_RESPONSE: &str = "create_workspace_response";
pub(super) const AGENT_FOLDERS_RESPONSE: &str = "delete_agent_folders_response";
/// A frame that could not be read, in all answers about files.
const INVALID_REQUEST: &str = "INVALID_REQUEST";
