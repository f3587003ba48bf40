//! The hub's half of `check_task_output` and `activate_pipeline_task`.

use serde::Serialize;

use crate::{
    ctrlnode::{DecodeError, fields::Fields, frames::to_text},
    id::AgentId,
    model::{PipelineReply, PipelineRequest},
};

/// The frame of a request.
pub(super) fn encode(request: &PipelineRequest, request_id: &str) -> String {
    let said = |text: &'_ String| Some(text.clone()).filter(|text| !text.is_empty());
    match request {
        PipelineRequest::CheckOutput { agent, folder } => to_text(&CheckOutput {
            action: "check_task_output",
            request_id,
            agent_id: agent.as_ref(),
            task_folder_name: said(folder),
        }),
        PipelineRequest::Activate { from, to } => to_text(&Activate {
            action: "activate_pipeline_task",
            request_id,
            predecessor_agent_id: from.agent.as_ref(),
            predecessor_task_folder_name: said(&from.folder),
            next_task_agent_id: to.agent.as_ref(),
            next_task_folder_name: said(&to.folder),
        }),
    }
}

/// Reads an answer; `None` for an action that is none of pipelines.
pub(super) fn decode(
    action: &str,
    fields: Fields<'_>,
) -> Option<Result<PipelineReply, DecodeError>> {
    match action {
        "check_task_output_result" => Some(output(fields)),
        "activate_pipeline_task_response" => Some(activated(fields)),
        _ => None,
    }
}

fn output(fields: Fields<'_>) -> Result<PipelineReply, DecodeError> {
    Ok(PipelineReply::Output {
        folder: fields.path("taskFolderName")?.unwrap_or_default(),
        present: fields.flag("hasOutput")?,
    })
}

fn activated(fields: Fields<'_>) -> Result<PipelineReply, DecodeError> {
    let copied = fields
        .value("filesCopied")
        .and_then(serde_json::Value::as_u64);
    Ok(PipelineReply::Activated {
        copied: if fields.flag("success")? {
            Ok(copied.unwrap_or(0))
        } else {
            Err(fields.text("error")?.unwrap_or_default().to_owned())
        },
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckOutput<'a> {
    action: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_folder_name: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Activate<'a> {
    action: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor_agent_id: Option<&'a AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predecessor_task_folder_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_task_agent_id: Option<&'a AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_task_folder_name: Option<String>,
}
