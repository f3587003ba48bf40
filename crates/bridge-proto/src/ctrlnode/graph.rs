//! Plans of pipelines on the wire: `generate_graph_blueprint`, its progress and its result.

use serde::Serialize;

use super::{DecodeError, fields::Fields, frames::to_text, inbound::args, token::Token};
use crate::{
    id::{AgentId, TaskId},
    model::{GraphPhase, PlanGraph, PlanReply, Reply},
    time::Timestamp,
};

/// Its `intentType` and its inbound action.
pub(super) const ACTION: &str = "generate_graph_blueprint";

/// Of its progress.
pub(super) const PROGRESS: &str = "graph_generation_progress";

/// Reads the request. A prompt that is missing is empty, for the runtime to reject.
pub(super) fn decode(fields: Fields<'_>) -> Result<PlanGraph, DecodeError> {
    let map = args(fields)?;
    let args = fields.within(&map);
    let prompt = match args.words("prompt")? {
        Some(prompt) => Some(prompt),
        None => fields.text("content")?,
    };
    Ok(PlanGraph {
        agent: fields.need_id("agentId")?,
        prompt: prompt.unwrap_or_default().to_owned(),
        task: match fields.id("contextTaskId")? {
            Some(task) => Some(task),
            None => fields.id("taskId")?,
        },
    })
}

/// The frame of a [`PlanGraph`].
pub(super) fn encode(plan: &PlanGraph, request_id: &str) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Request<'a> {
        action: &'static str,
        request_id: &'a str,
        agent_id: &'a AgentId,
        #[serde(skip_serializing_if = "Option::is_none")]
        task_id: Option<&'a TaskId>,
        args: Args<'a>,
    }
    #[derive(Serialize)]
    struct Args<'a> {
        prompt: &'a str,
    }
    to_text(&Request {
        action: ACTION,
        request_id,
        agent_id: &plan.agent,
        task_id: plan.task.as_ref(),
        args: Args {
            prompt: &plan.prompt,
        },
    })
}

/// The frame for what is said of a plan.
pub(super) fn said(token: &Token, said: &PlanReply) -> Option<String> {
    match said {
        PlanReply::Progress { phase, message, at } => progress(token, *phase, message, *at),
        PlanReply::Result { task, result } => {
            let result = result.as_deref().map_err(String::as_str);
            Some(self::result(token, task.as_ref(), result))
        }
    }
}

/// Progress, or nothing where the request named no id or no agent.
fn progress(token: &Token, phase: GraphPhase, message: &str, at: Timestamp) -> Option<String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Progress<'a> {
        action: &'static str,
        request_id: &'a str,
        agent_id: &'a str,
        phase: &'static str,
        sequence: u8,
        message: &'a str,
        timestamp: Timestamp,
    }
    let (phase, sequence) = match phase {
        GraphPhase::Accepted => ("accepted", 1),
        GraphPhase::Planning => ("planning", 2),
        GraphPhase::Completed => ("completed", 3),
        GraphPhase::Failed => ("failed", 3),
    };
    let agent_id = token.agent_id.as_deref().filter(|id| !id.is_empty())?;
    Some(to_text(&Progress {
        action: PROGRESS,
        request_id: token.request_id.as_deref()?,
        agent_id,
        phase,
        sequence,
        message,
        timestamp: at,
    }))
}

/// The result: the document as text, or an error code.
pub(super) fn result(token: &Token, task: Option<&TaskId>, result: Result<&str, &str>) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct IntentResult<'a> {
        action: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        request_id: Option<&'a str>,
        agent_id: &'a str,
        intent_type: &'static str,
        provider_method: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        execution_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        context_task_id: Option<&'a TaskId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        result: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    }
    to_text(&IntentResult {
        action: "intent_result",
        request_id: token.request_id.as_deref(),
        agent_id: token.agent_id.as_deref().unwrap_or_default(),
        intent_type: ACTION,
        provider_method: "graph.generate",
        execution_id: token.execution_id.as_deref(),
        context_task_id: task,
        result: result.ok(),
        error: result.err(),
    })
}

/// What a bridge said of a plan; `None` for an `intent_result` of something else.
pub(super) fn heard(fields: Fields<'_>) -> Result<Option<Reply>, DecodeError> {
    if fields.action() == PROGRESS {
        let phase = match fields.text("phase")? {
            Some("accepted") => GraphPhase::Accepted,
            Some("planning") => GraphPhase::Planning,
            Some("completed") => GraphPhase::Completed,
            Some("failed") => GraphPhase::Failed,
            Some(_) | None => return Err(fields.wrong_type("phase", "a known phase")),
        };
        let at = fields.text("timestamp")?.and_then(|at| at.parse().ok());
        return Ok(Some(Reply::Plan(PlanReply::Progress {
            phase,
            message: fields.text("message")?.unwrap_or_default().to_owned(),
            at: at.unwrap_or_else(|| Timestamp::from_millis(0)),
        })));
    }
    if fields.text("intentType")? != Some(ACTION) {
        return Ok(None);
    }
    let result = match fields.text("error")? {
        Some(error) => Err(error.to_owned()),
        None => Ok(fields.text("result")?.unwrap_or_default().to_owned()),
    };
    Ok(Some(Reply::Plan(PlanReply::Result {
        task: fields.id("contextTaskId")?,
        result,
    })))
}
