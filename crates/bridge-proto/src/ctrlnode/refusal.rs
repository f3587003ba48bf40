//! What to answer to a frame that could not be read, so that nobody waits for it in vain.

use super::{
    DecodeError,
    fields::{Fields, Frame},
    frames::{IntentResult, ListFilesResponse, Nullable, ReadFileResponse, SyncAck, to_text},
    gateway, git, graph,
    inbound::synced_provider,
    outbound::{intent_type, provider_method},
    pipeline,
    token::Token,
    tree,
};
use crate::model::RunKind;

/// The frame that answers a frame which [`decode`](super::decode) refused with this error, in the
/// error shape of its action; `None` when the frame has no `requestId` or its action no reply.
pub fn encode_refusal(frame: &[u8], error: &DecodeError) -> Option<String> {
    let frame = Frame::parse(frame).ok().or_else(|| Frame::head(frame))?;
    let fields = frame.fields();
    let request_id = Some(text(fields, "requestId")?);
    match frame.action() {
        "dispatch_task" => Some(run(fields, RunKind::Dispatch, error)),
        "followup" => Some(run(fields, RunKind::FollowUp, error)),
        "agent_command" => Some(run(fields, RunKind::AgentCommand, error)),
        graph::ACTION => {
            let agent = agent_id(fields);
            let code = if agent.is_empty() {
                "AGENT_NOT_FOUND"
            } else {
                "GRAPH_GENERATION_PROVIDER_ERROR"
            };
            let token = Token {
                request_id: request_id.map(str::to_owned),
                execution_id: text(fields, "executionId").map(str::to_owned),
                agent_id: Some(agent),
            };
            Some(graph::result(&token, None, Err(code)))
        }
        "read_file" => Some(to_text(&ReadFileResponse {
            action: "read_file_response",
            request_id,
            agent_id: Some(&agent_id(fields)),
            path: Some(text(fields, "path").unwrap_or_default()),
            content: Some(Nullable(None)),
            content_type: None,
            error: Some("INVALID_REQUEST".into()),
            encoding: None,
        })),
        "list_files" => Some(to_text(&ListFilesResponse {
            action: "list_files_response",
            request_id,
            files: Vec::new(),
            base_path: None,
            error: Some("INVALID_REQUEST"),
            truncated: false,
        })),
        other if git::is_git(other) => Some(git::refusal(other, fields, request_id)),
        other if gateway::is_gateway(other) => {
            let token = Token {
                request_id: request_id.map(str::to_owned),
                execution_id: text(fields, "executionId").map(str::to_owned),
                agent_id: Some(agent_id(fields)),
            };
            Some(gateway::refusal(other, &token))
        }
        other if pipeline::is_pipeline(other) => Some(pipeline::refusal(
            other,
            fields,
            request_id,
            &agent_id(fields),
        )),
        other => {
            if let Some(refused) = tree::refused(other, text(fields, "agentId")) {
                return Some(tree::encode(&refused, request_id));
            }
            let provider = synced_provider(other)?;
            Some(to_text(&SyncAck {
                action: format!("sync_{provider}_agents_ack"),
                request_id,
                success: false,
                error: Some(&error.to_string()),
            }))
        }
    }
}

fn run(fields: Fields<'_>, kind: RunKind, error: &DecodeError) -> String {
    let agent_id = agent_id(fields);
    let error = if agent_id.is_empty() {
        "AGENT_NOT_FOUND".to_owned()
    } else {
        format!("BRIDGE_INTERNAL_ERROR: {error}")
    };
    to_text(&IntentResult {
        action: "intent_result",
        request_id: text(fields, "requestId"),
        agent_id: &agent_id,
        intent_type: intent_type(kind),
        provider_method: provider_method(kind),
        execution_id: text(fields, "executionId"),
        context_task_id: text(fields, "contextTaskId").or_else(|| text(fields, "taskId")),
        result: None,
        error: Some(error),
    })
}

fn agent_id(fields: Fields<'_>) -> String {
    text(fields, "agentId")
        .unwrap_or_default()
        .trim()
        .to_lowercase()
}

/// The field if it is a text; the frame is broken somewhere, so any field may be.
fn text<'a>(fields: Fields<'a>, field: &'static str) -> Option<&'a str> {
    fields.value(field).and_then(|value| value.as_str())
}
