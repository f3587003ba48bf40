//! The frame of every request about files: what is asked, about which tree, and what it needs.

use serde::Serialize;

use crate::{
    id::{AgentId, ProviderKey},
    model::{FileRoot, FileScope},
};

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FileRequest<'a> {
    pub(super) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent_id: Option<&'a AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<&'a ProviderKey>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) use_ctrlnode: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) use_base_path: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) new_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content_encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subpath: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) recursive: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) shallow_include_files: bool,
}

impl<'a> FileRequest<'a> {
    pub(super) fn new(
        action: &'static str,
        request_id: Option<&'a str>,
        scope: &'a FileScope,
    ) -> Self {
        Self {
            action,
            request_id,
            agent_id: scope.agent.as_ref(),
            provider: scope.provider.as_ref(),
            use_ctrlnode: scope.root == FileRoot::Ctrlnode,
            use_base_path: scope.root == FileRoot::Base,
            ..Self::default()
        }
    }
}
