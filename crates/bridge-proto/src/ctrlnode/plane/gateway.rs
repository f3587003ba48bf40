//! The hub's half of `sync_config`, `invoke_tool` and `init_ping`.

use serde::Serialize;
use serde_json::{Map, Value};

use super::messages::FromBridge;
use crate::{
    ctrlnode::{DecodeError, fields::Fields, frames::to_text},
    id::{AgentId, TaskId},
    model::{CallPurpose, GatewayReply, GatewayRequest, Reply},
};

/// The frame of a request.
pub(super) fn encode(request: &GatewayRequest, request_id: &str) -> String {
    let action = request.action();
    match request {
        GatewayRequest::Configure { content } => to_text(&SyncConfig {
            action,
            request_id,
            config_content: content.as_deref(),
        }),
        GatewayRequest::Call(call) => to_text(&InvokeTool {
            action,
            request_id,
            agent_id: call.agent.as_ref(),
            context_task_id: call.task.as_ref(),
            tool: Some(call.tool.as_str()).filter(|tool| !tool.is_empty()),
            args: Some(&call.args).filter(|args| !args.is_empty()),
            content: call.content.as_deref(),
        }),
    }
}

/// Reads an answer; `None` when the action is none of these.
pub(super) fn decode(action: &str, fields: Fields<'_>) -> Result<Option<FromBridge>, DecodeError> {
    let greeting = action == "intent_result" && fields.text("intentType")? == Some("init_ping");
    let answer = match action {
        "agent_message" => GatewayReply::Said {
            task: fields.id("taskId")?,
            message: fields.text("message")?.unwrap_or_default().to_owned(),
        },
        "sync_config_ack" => {
            let error = fields.text("error")?.map(str::to_owned);
            let good = fields.flag("success")?;
            GatewayReply::Configured {
                error: if good {
                    None
                } else {
                    Some(error.unwrap_or_default())
                },
            }
        }
        "tool_result" => called(CallPurpose::Tool, fields)?,
        "intent_result" if greeting => called(CallPurpose::Greeting, fields)?,
        _ => return Ok(None),
    };
    // What an agent says has no `requestId` on the wire.
    let request_id = match answer {
        GatewayReply::Said { .. } => "",
        GatewayReply::Over { .. }
        | GatewayReply::Called { .. }
        | GatewayReply::Configured { .. } => fields.need_text("requestId")?,
    };
    Ok(Some(FromBridge::Reply {
        request_id: request_id.to_owned(),
        reply: Reply::Gateway { reply: answer },
    }))
}

fn called(purpose: CallPurpose, fields: Fields<'_>) -> Result<GatewayReply, DecodeError> {
    Ok(GatewayReply::Called {
        purpose,
        tool: fields.text("tool")?.map(str::to_owned),
        task: fields.id("contextTaskId")?,
        result: match fields.text("error")? {
            Some(error) => Err(error.to_owned()),
            None => Ok(fields.text("result")?.unwrap_or_default().to_owned()),
        },
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SyncConfig<'a> {
    action: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_content: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvokeTool<'a> {
    action: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context_task_id: Option<&'a TaskId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args: Option<&'a Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
}
