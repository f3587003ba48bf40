//! The bridge's mouth for answers: a [`Reply`] becomes the frame its asker waits for.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    capabilities::ResponseFrame,
    frames::{
        ListFilesResponse, ListedFile, Nullable, ReadFileResponse, RunChecked, SyncAck,
        UnknownAction, to_text,
    },
    token::Token,
};
use crate::model::{Origin, ReadOutcome, Reply, Source};

/// The frame that answers a command, or `None` when nothing is to be sent: the command did not
/// come over this wire, or it is an unknown action that our own hub did not number (decision 24).
pub fn encode_reply(reply: &Reply, origin: &Origin) -> Option<String> {
    let token = Token::of(origin)?;
    let request_id = token.request_id.as_deref();
    match reply {
        Reply::AgentsSynced { provider, error } => Some(to_text(&SyncAck {
            action: format!("sync_{provider}_agents_ack"),
            request_id,
            success: error.is_none(),
            error: error.as_deref(),
        })),
        Reply::ReadFile { path, outcome } => {
            let agent_id = Some(token.agent_id.as_deref().unwrap_or_default());
            let whole = origin.source == Source::Hub;
            Some(to_text(&read_file(
                request_id, agent_id, path, outcome, whole,
            )))
        }
        Reply::ListFiles { listing } => {
            let (base_path, entries, error) = match listing {
                Ok((base_path, entries)) => (Some(base_path.as_str()), entries.as_slice(), None),
                Err(error) => (None, [].as_slice(), Some(error.as_str())),
            };
            let files = entries.iter().map(|entry| ListedFile {
                name: &entry.name,
                path: &entry.path,
                kind: if entry.is_dir { "dir" } else { "file" },
                size: (!entry.is_dir).then_some(Nullable(entry.size)),
            });
            Some(to_text(&ListFilesResponse {
                action: "list_files_response",
                request_id,
                files: files.collect(),
                base_path,
                error,
            }))
        }
        Reply::RunChecked { run, known } => Some(to_text(&RunChecked {
            action: "run_checked",
            request_id,
            task_id: &run.task,
            execution_id: &run.attempt,
            known: *known,
        })),
        Reply::Capabilities(capabilities) => {
            Some(to_text(&ResponseFrame::new(capabilities, request_id)))
        }
        Reply::Unknown { kind } => {
            let request_id = request_id.filter(|_| origin.source == Source::Hub)?;
            Some(to_text(&UnknownAction {
                action: "unknown_action",
                request_id,
                action_requested: kind,
                error: "UNSUPPORTED_INTENT",
            }))
        }
    }
}

fn read_file<'a>(
    request_id: Option<&'a str>,
    agent_id: Option<&'a str>,
    path: &'a str,
    outcome: &'a ReadOutcome,
    whole: bool,
) -> ReadFileResponse<'a> {
    let refused = |content_type: Option<&'a str>, error: String| ReadFileResponse {
        action: "read_file_response",
        request_id,
        agent_id,
        path: Some(path),
        content: Some(Nullable(None)),
        content_type,
        error: Some(error),
        encoding: None,
    };
    match outcome {
        ReadOutcome::Content {
            content,
            content_type,
        } => ReadFileResponse {
            content: Some(Nullable(Some(content.into()))),
            error: None,
            ..refused(Some(content_type), String::new())
        },
        ReadOutcome::Binary {
            bytes,
            content_type,
        } => {
            let (content, encoding) = if whole {
                (STANDARD.encode(bytes).into(), Some("base64"))
            } else {
                (String::from_utf8_lossy(bytes), None)
            };
            ReadFileResponse {
                content: Some(Nullable(Some(content))),
                error: None,
                encoding,
                ..refused(Some(content_type), String::new())
            }
        }
        ReadOutcome::NoRoot => ReadFileResponse {
            action: "read_file_response",
            request_id,
            error: Some("BASE_PATH_NOT_FOUND".into()),
            ..ReadFileResponse::default()
        },
        ReadOutcome::InvalidPath => refused(None, "INVALID_PATH".into()),
        ReadOutcome::NotFound => refused(None, "FILE_NOT_FOUND".into()),
        ReadOutcome::TooLarge {
            bytes,
            content_type,
        } => refused(Some(content_type), format!("FILE_TOO_LARGE:{bytes}")),
        ReadOutcome::Unreadable => refused(Some("text/plain"), "FILE_READ_ERROR".into()),
    }
}
