//! The bridge's half of `sync_config`, `invoke_tool` and `init_ping`.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{DecodeError, fields::Fields, frames::to_text, token::Token};
use crate::{
    id::{AgentId, TaskId},
    model::{CallEnd, CallPurpose, GatewayReply, GatewayRequest, ToolCall},
};

/// Whether an action is for OpenClaw alone.
pub(super) fn is_gateway(action: &str) -> bool {
    matches!(action, "sync_config" | "invoke_tool" | "init_ping")
}

/// Reads a request whose action [`is_gateway`]. What is missing is empty and what is no name is
/// none, for the runtime to refuse with its own code.
pub(super) fn request(action: &str, fields: Fields<'_>) -> Result<GatewayRequest, DecodeError> {
    if action == "sync_config" {
        let content = fields.text("configContent")?.map(str::to_owned);
        return Ok(GatewayRequest::Configure { content });
    }
    let agent = fields.text("agentId")?;
    let (purpose, tool) = if action == "init_ping" {
        (CallPurpose::Greeting, "")
    } else {
        let tool = fields.text("tool")?.unwrap_or_default().trim();
        (CallPurpose::Tool, tool)
    };
    let (args, text) = args(fields)?;
    let content = fields.text("content")?.map(str::to_owned);
    Ok(GatewayRequest::Call(Box::new(ToolCall {
        purpose,
        agent: agent.and_then(|agent| AgentId::parse(agent).ok()),
        tool: tool.to_owned(),
        args,
        content: text.or(content),
        task: match fields.id("contextTaskId")? {
            Some(task) => Some(task),
            None => fields.id("taskId")?,
        },
    })))
}

/// The arguments: an object, JSON text of one, or a text that is a message.
fn args(fields: Fields<'_>) -> Result<(Map<String, Value>, Option<String>), DecodeError> {
    match fields.value("args") {
        None => Ok((Map::new(), None)),
        Some(Value::Object(map)) => Ok((map.clone(), None)),
        Some(Value::String(text)) => Ok(match serde_json::from_str(text) {
            Ok(map) => (map, None),
            Err(_) => (
                Map::new(),
                Some(text.clone()).filter(|text| !text.is_empty()),
            ),
        }),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            Err(fields.wrong_type("args", "an object or a text"))
        }
    }
}

/// The frame of an answer; `None` for what our own hub (`whole`) is not told.
pub(super) fn reply(reply: &GatewayReply, token: &Token, whole: bool) -> Option<String> {
    let agent_id = token.agent_id.as_deref().unwrap_or_default();
    match reply {
        GatewayReply::Over { .. } if whole => None,
        GatewayReply::Over { task, end } => {
            let (status, reason, source) = match end {
                CallEnd::Completed => (None, None, "keyword_detection"),
                CallEnd::Refused { blocked, reason } => {
                    let status = if *blocked { "blocked" } else { "failed" };
                    (Some(status), Some(reason), "intent_response_error")
                }
                CallEnd::Broken { reason } => (Some("failed"), Some(reason), "intent_exception"),
            };
            Some(to_text(&TaskOver {
                action: "task_complete",
                agent_id,
                task_id: task,
                status,
                reason: reason.map(String::as_str),
                source,
            }))
        }
        GatewayReply::Said { task, message } => Some(to_text(&AgentMessage {
            action: "agent_message",
            agent_id,
            task_id: task.as_ref(),
            message,
        })),
        GatewayReply::Called {
            purpose,
            tool,
            task,
            result,
        } => {
            let tool = tool.as_deref();
            let result = result.as_deref().map_err(String::as_str);
            Some(called(*purpose, token, tool, task.as_ref(), result))
        }
        GatewayReply::Configured { error } => Some(to_text(&ConfigAck {
            action: "sync_config_ack",
            request_id: token.request_id.as_deref(),
            success: error.is_none(),
            error: error.as_deref(),
        })),
    }
}

/// The frame for a request that could not be read.
pub(super) fn refusal(action: &str, token: &Token) -> String {
    let purpose = match action {
        "sync_config" => {
            return to_text(&ConfigAck {
                action: "sync_config_ack",
                request_id: token.request_id.as_deref(),
                success: false,
                error: Some("MISSING_CONFIG_CONTENT"),
            });
        }
        "init_ping" => CallPurpose::Greeting,
        _ => CallPurpose::Tool,
    };
    called(purpose, token, None, None, Err("INVOKE_ERROR"))
}

fn called(
    purpose: CallPurpose,
    token: &Token,
    tool: Option<&str>,
    task: Option<&TaskId>,
    result: Result<&str, &str>,
) -> String {
    let (action, intent_type, provider_method) = match purpose {
        CallPurpose::Tool => ("tool_result", None, "gateway_http"),
        CallPurpose::Greeting => ("intent_result", Some("init_ping"), "sessions.send"),
    };
    to_text(&CallResult {
        action,
        request_id: token.request_id.as_deref(),
        agent_id: token.agent_id.as_deref().unwrap_or_default(),
        intent_type,
        tool,
        provider_method,
        execution_id: token.execution_id.as_deref(),
        context_task_id: task,
        result: result.ok(),
        result_preview: result.ok().map(|text| text.chars().take(PREVIEW).collect()),
        error: result.err(),
    })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TaskOver<'a> {
    action: &'static str,
    agent_id: &'a str,
    task_id: &'a TaskId,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    source: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AgentMessage<'a> {
    action: &'static str,
    agent_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<&'a TaskId>,
    message: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct CallResult<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    agent_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    provider_method: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_task_id: Option<&'a TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result_preview: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigAck<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    success: bool,
    error: Option<&'a str>,
}

/// Characters of a result that are shown where the whole is too much.
const PREVIEW: usize = 200;
