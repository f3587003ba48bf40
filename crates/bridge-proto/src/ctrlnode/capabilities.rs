//! `query_provider_capabilities` and its answer, both halves.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    DecodeError,
    fields::{Fields, with_slashes},
};
use crate::model::{Capabilities, CapabilityQuery, Discovery, Skill, TaskMode};

/// Reads the query. Whatever is odd about it counts as absent, because every query is answered.
pub(super) fn query(fields: Fields<'_>) -> CapabilityQuery {
    let text = |field| {
        let text = fields.value(field).and_then(Value::as_str);
        text.filter(|text| text.len() <= MAX_TEXT)
    };
    CapabilityQuery {
        agent: text("agentId").map(str::to_owned),
        mode: match text("taskMode") {
            Some("repo") => TaskMode::Repo,
            Some(_) | None => TaskMode::Output,
        },
        repository: text("repoPath")
            .filter(|path| !path.trim().is_empty())
            .map(with_slashes),
    }
}

/// The query as the hub sends it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct QueryFrame<'a> {
    action: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    task_mode: TaskMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    repo_path: Option<&'a str>,
}

impl<'a> QueryFrame<'a> {
    pub(super) fn new(query: &'a CapabilityQuery, request_id: &'a str) -> Self {
        Self {
            action: "query_provider_capabilities",
            request_id,
            agent_id: query.agent.as_deref(),
            task_mode: query.mode,
            repo_path: query.repository.as_deref(),
        }
    }
}

/// The answer as the bridge sends it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResponseFrame<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    capabilities: Body<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    provider: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_id: Option<&'a str>,
    task_mode: TaskMode,
    workspace_scope: &'static str,
    skills: &'a [Skill],
    discovery: &'a Discovery,
}

impl<'a> ResponseFrame<'a> {
    pub(super) fn new(capabilities: &'a Capabilities, request_id: Option<&'a str>) -> Self {
        Self {
            action: "provider_capabilities_response",
            request_id,
            capabilities: Body {
                provider: &capabilities.provider,
                agent_id: capabilities.agent.as_deref(),
                task_mode: capabilities.mode,
                workspace_scope: match capabilities.mode {
                    TaskMode::Output => "ctrlnode",
                    TaskMode::Repo => "project",
                },
                skills: &capabilities.skills,
                discovery: &capabilities.discovery,
            },
        }
    }
}

/// The answer as the hub reads it.
pub(super) fn response(fields: Fields<'_>) -> Result<Capabilities, DecodeError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Read {
        provider: String,
        agent_id: Option<String>,
        task_mode: TaskMode,
        skills: Vec<Skill>,
        discovery: Discovery,
    }
    let body = fields
        .value("capabilities")
        .ok_or_else(|| fields.missing("capabilities"))?;
    let read = Read::deserialize(body);
    let read = read.map_err(|_| fields.wrong_type("capabilities", "capabilities"))?;
    Ok(Capabilities {
        provider: read.provider,
        agent: read.agent_id,
        mode: read.task_mode,
        skills: read.skills,
        discovery: read.discovery,
    })
}

/// Bytes of an id or a path; nothing longer names anything.
const MAX_TEXT: usize = 4096;
