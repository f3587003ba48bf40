//! The frames a bridge writes, with their fields in wire order. A key that is left out and a key
//! that is `null` are different things here.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;
use serde_json::Value;

use crate::{
    id::{AgentId, ProviderKey, TaskId},
    model::{Event, ProviderReport},
    time::Timestamp,
};

/// The frame as text.
pub(super) fn to_text(frame: &impl Serialize) -> String {
    serde_json::to_string(frame).expect("frames have text keys and no fallible fields")
}

#[derive(Debug, Serialize)]
pub(super) struct Handshake<'a> {
    pub(super) action: &'static str,
    pub(super) version: &'a str,
    pub(super) agents: Vec<AgentSummary<'a>>,
    pub(super) providers: &'a [ProviderKey],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Heartbeat<'a> {
    pub(super) action: &'static str,
    pub(super) agents: Vec<&'a AgentId>,
    pub(super) status: crate::model::AgentStatus,
    pub(super) agent_statuses: Vec<AgentStatusEntry<'a>>,
    pub(super) timestamp: Timestamp,
}

#[derive(Debug, Serialize)]
pub(super) struct AgentStatusEntry<'a> {
    pub(super) id: &'a AgentId,
    pub(super) status: crate::model::AgentStatus,
}

#[derive(Debug, Serialize)]
pub(super) struct AgentUpdate<'a> {
    pub(super) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<&'a str>,
    pub(super) agents: Vec<AgentSummary<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentSummary<'a> {
    pub(super) id: &'a AgentId,
    pub(super) workspace: &'a str,
    pub(super) name: &'a str,
    pub(super) model: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) emoji: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<&'a str>,
    pub(super) provider: &'a ProviderKey,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) from_filesystem: bool,
    pub(super) exists: bool,
    pub(super) hostname: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProviderHealth<'a> {
    pub(super) action: &'static str,
    pub(super) provider_health: BTreeMap<&'a ProviderKey, ProviderReport>,
}

#[derive(Debug, Serialize)]
pub(super) struct AvailableModels<'a> {
    pub(super) action: &'static str,
    pub(super) models: BTreeMap<&'a ProviderKey, &'a [String]>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileChanged<'a> {
    pub(super) action: &'static str,
    pub(super) agent_id: &'a AgentId,
    pub(super) path: &'a str,
    pub(super) event: crate::model::FileChange,
    pub(super) content: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BridgeEvent<'a> {
    pub(super) action: &'static str,
    pub(super) agent_id: &'a AgentId,
    pub(super) provider: &'a ProviderKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'a str>,
    pub(super) event: &'a Event,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskProgress<'a> {
    pub(super) action: &'static str,
    pub(super) task_id: &'a TaskId,
    pub(super) agent_id: &'a AgentId,
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<&'a str>,
    pub(super) timestamp: Timestamp,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentStream<'a, E: Serialize> {
    pub(super) action: &'static str,
    pub(super) agent_id: &'a AgentId,
    pub(super) task_id: &'a TaskId,
    pub(super) event: E,
}

/// The object inside `agent_stream` for every agent but Claude.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StreamEvent<'a> {
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
    pub(super) task_id: &'a TaskId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) raw: Option<&'a Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentActivity<'a> {
    pub(super) action: &'static str,
    pub(super) agent_id: &'a AgentId,
    pub(super) task_id: &'a TaskId,
    pub(super) delta: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskModelUpdate<'a> {
    pub(super) action: &'static str,
    pub(super) task_id: &'a TaskId,
    pub(super) model: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskWaitingForInput<'a> {
    pub(super) action: &'static str,
    pub(super) agent_id: &'a AgentId,
    pub(super) task_id: &'a TaskId,
    pub(super) prompt: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TaskComplete<'a> {
    pub(super) action: &'static str,
    pub(super) agent_id: &'a AgentId,
    pub(super) task_id: &'a TaskId,
    pub(super) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
    pub(super) source: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IntentResult<'a> {
    pub(super) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'a str>,
    pub(super) agent_id: &'a str,
    pub(super) intent_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider_method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) execution_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) context_task_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SyncAck<'a> {
    pub(super) action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'a str>,
    pub(super) success: bool,
    pub(super) error: Option<&'a str>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReadFileResponse<'a> {
    pub(super) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<&'a str>,
    /// `Value::Null` is sent as `null`, `None` is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Nullable<Cow<'a, str>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// Ours: `base64` for bytes that are no text; only our own hub gets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) encoding: Option<&'static str>,
}

/// A key that is there, with or without a value.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Nullable<T>(pub(super) Option<T>);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListFilesResponse<'a> {
    pub(super) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'a str>,
    pub(super) files: Vec<ListedFile<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) base_path: Option<&'a str>,
    pub(super) error: Option<&'a str>,
    /// Ours: there is more than fits; only our own hub gets it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) truncated: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct ListedFile<'a> {
    pub(super) name: &'a str,
    pub(super) path: &'a str,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<Nullable<u64>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RunChecked<'a> {
    pub(super) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'a str>,
    pub(super) task_id: &'a TaskId,
    pub(super) execution_id: &'a str,
    pub(super) known: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct UnknownAction<'a> {
    pub(super) action: &'static str,
    #[serde(rename = "requestId")]
    pub(super) request_id: &'a str,
    pub(super) action_requested: &'a str,
    pub(super) error: &'static str,
}
