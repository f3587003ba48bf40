//! The bridge's half of `check_task_output` and `activate_pipeline_task`.

use serde::Serialize;

use super::{DecodeError, fields::Fields, frames::to_text};
use crate::model::{PipelineReply, PipelineRequest, PipelineTask};

/// Whether an action is one of pipelines.
pub(super) fn is_pipeline(action: &str) -> bool {
    matches!(action, "check_task_output" | "activate_pipeline_task")
}

/// Reads a request whose action [`is_pipeline`].
pub(super) fn request(action: &str, fields: Fields<'_>) -> Result<PipelineRequest, DecodeError> {
    let folder = |field| Ok::<_, DecodeError>(fields.path(field)?.unwrap_or_default());
    if action == "check_task_output" {
        return Ok(PipelineRequest::CheckOutput {
            agent: fields.id("agentId")?,
            folder: folder("taskFolderName")?,
        });
    }
    Ok(PipelineRequest::Activate {
        from: PipelineTask {
            agent: fields.id("predecessorAgentId")?,
            folder: folder("predecessorTaskFolderName")?,
        },
        to: PipelineTask {
            agent: fields.id("nextTaskAgentId")?,
            folder: folder("nextTaskFolderName")?,
        },
    })
}

/// The frame of an answer. `whole` is for our own hub, which also wants to know what is answered
/// where the published wire does not say it.
pub(super) fn reply(
    reply: &PipelineReply,
    request_id: Option<&str>,
    agent_id: &str,
    whole: bool,
) -> String {
    match reply {
        PipelineReply::Output { folder, present } => to_text(&OutputResult {
            action: "check_task_output_result",
            request_id: request_id.filter(|_| whole),
            agent_id,
            task_folder_name: Some(folder.as_str()).filter(|folder| !folder.is_empty()),
            has_output: *present,
        }),
        PipelineReply::Activated { copied } => to_text(&Activated {
            action: "activate_pipeline_task_response",
            request_id,
            success: copied.is_ok(),
            error: copied.as_ref().err().map(String::as_str),
            files_copied: *copied.as_ref().unwrap_or(&0),
        }),
    }
}

/// The frame for a request that could not be read.
pub(super) fn refusal(
    action: &str,
    fields: Fields<'_>,
    request_id: Option<&str>,
    agent_id: &str,
) -> String {
    let answer = if action == "check_task_output" {
        let folder = fields.value("taskFolderName").and_then(|it| it.as_str());
        PipelineReply::Output {
            folder: folder.unwrap_or_default().to_owned(),
            present: false,
        }
    } else {
        PipelineReply::Activated {
            copied: Err("INVALID_REQUEST".to_owned()),
        }
    };
    reply(&answer, request_id, agent_id, false)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutputResult<'a> {
    action: &'static str,
    /// Ours: the published wire has none here.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    agent_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_folder_name: Option<&'a str>,
    has_output: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Activated<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    success: bool,
    error: Option<&'a str>,
    files_copied: u64,
}
