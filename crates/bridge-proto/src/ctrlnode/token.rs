//! What this dialect must remember of a command to answer it.

use serde::{Deserialize, Serialize};

use crate::model::{Origin, ReplyToken};

/// The content of a [`ReplyToken`] of this dialect; journalled with the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Token {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) execution_id: Option<String>,
    /// Normalised; empty when the message named none, as the wire wants it in replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) agent_id: Option<String>,
}

/// Whether the asker numbered its request, so that it knows the answer to it at any time.
pub fn is_numbered(origin: &Origin) -> bool {
    Token::of(origin).is_some_and(|token| token.request_id.is_some())
}

impl Token {
    /// `None` for commands that did not come over this wire.
    pub(super) fn of(origin: &Origin) -> Option<Self> {
        serde_json::from_str(&origin.reply.0).ok()
    }

    pub(super) fn seal(&self) -> ReplyToken {
        ReplyToken(super::frames::to_text(self))
    }
}
