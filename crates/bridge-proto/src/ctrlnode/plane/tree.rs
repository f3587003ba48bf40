//! Changes of the tree of files: how the hub asks for one and reads what came of it.

use serde::Serialize;

use super::file_request::FileRequest;
use crate::{
    ctrlnode::{
        DecodeError,
        fields::Fields,
        frames::to_text,
        tree::{AGENT_FOLDERS_RESPONSE, WORKSPACE_RESPONSE},
    },
    model::{NewFile, TreeAct, TreeChange, TreeChanged},
};

/// The frame that asks for a change.
pub(super) fn encode(change: &TreeChange, request_id: &str) -> String {
    let about = |action, scope, path, new_path| {
        to_text(&FileRequest {
            path: Some(path),
            new_path,
            ..FileRequest::new(action, Some(request_id), scope)
        })
    };
    match change {
        TreeChange::DeletePath { scope, path } => about("delete_path", scope, path, None),
        TreeChange::CreateFolder { scope, path } => about("create_folder", scope, path, None),
        TreeChange::RenameFolder {
            scope,
            path,
            new_path,
        } => about("rename_folder", scope, path, Some(new_path)),
        TreeChange::DeleteFolder { scope, path } => about("delete_folder", scope, path, None),
        TreeChange::CreateWorkspace {
            folder,
            files,
            use_ctrlnode,
        } => to_text(&WorkspaceRequest {
            action: "create_workspace",
            request_id,
            folder_name: folder,
            files,
            use_ctrlnode: *use_ctrlnode,
        }),
        TreeChange::DeleteAgentFolders { folder, agent } => to_text(&AgentFoldersRequest {
            action: "delete_agent_folders",
            request_id,
            agent_id: agent.as_deref(),
            folder_name: folder,
        }),
    }
}

/// Reads an answer; `None` when the action is none.
pub(super) fn decode(action: &str, fields: Fields<'_>) -> Result<Option<TreeChanged>, DecodeError> {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let error = || -> Result<Option<String>, DecodeError> {
        let error = owned(fields.text("error")?);
        Ok(if fields.flag("success")? {
            None
        } else {
            Some(error.unwrap_or_default())
        })
    };
    Ok(Some(match action {
        WORKSPACE_RESPONSE => TreeChanged::Workspace {
            path: owned(fields.text("workspacePath")?),
            error: error()?,
        },
        AGENT_FOLDERS_RESPONSE => {
            let texts = |field| -> Result<Vec<String>, DecodeError> {
                Ok(fields.texts(field)?.into_iter().map(Into::into).collect())
            };
            TreeChanged::AgentFolders {
                agent: owned(fields.text("agentId")?),
                deleted: texts("deleted")?,
                errors: texts("errors")?,
            }
        }
        other => {
            let act = other
                .strip_suffix("_ack")
                .and_then(|name| TreeAct::ALL.into_iter().find(|act| act.action() == name));
            match act {
                Some(act) => TreeChanged::Done {
                    act,
                    error: error()?,
                },
                None => return Ok(None),
            }
        }
    }))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkspaceRequest<'a> {
    action: &'static str,
    request_id: &'a str,
    folder_name: &'a str,
    #[serde(skip_serializing_if = "<[NewFile]>::is_empty")]
    files: &'a [NewFile],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    use_ctrlnode: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentFoldersRequest<'a> {
    action: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    folder_name: &'a str,
}
