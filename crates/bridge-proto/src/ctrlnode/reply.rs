//! The bridge's mouth for answers: a [`Reply`] becomes the frame its asker waits for.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    MAX_FRAME_BYTES,
    capabilities::ResponseFrame,
    frames::{
        ListFilesResponse, ListedFile, Nullable, ReadFileResponse, RunChecked, SyncAck,
        UnknownAction, to_text,
    },
    gateway, git, graph, pipeline,
    token::Token,
    tree,
};
use crate::model::{Origin, ReadOutcome, Reply, Source};

/// The frame that answers a command, or `None` when nothing is to be sent: the command did not
/// come over this wire, or it is an unknown action, unless our own hub numbered it (decision 24) or
/// the wire has an answer for bridges that do not offer it.
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
            let written = |outcome| to_text(&read_file(request_id, agent_id, path, outcome, whole));
            let frame = written(outcome);
            Some(match outcome {
                // Each byte that is replaced grows to three.
                ReadOutcome::Binary {
                    bytes,
                    content_type,
                } if frame.len() > MAX_FRAME_BYTES => written(&ReadOutcome::TooLarge {
                    bytes: bytes.len() as u64,
                    content_type: content_type.clone(),
                }),
                ReadOutcome::Content { .. }
                | ReadOutcome::Binary { .. }
                | ReadOutcome::NoRoot
                | ReadOutcome::InvalidPath
                | ReadOutcome::NotFound
                | ReadOutcome::TooLarge { .. }
                | ReadOutcome::Unreadable => frame,
            })
        }
        Reply::ListFiles { listing } => {
            let (base_path, entries, error) = match listing {
                Ok(listing) => (
                    Some(listing.base.as_str()),
                    listing.entries.as_slice(),
                    None,
                ),
                Err(error) => (None, [].as_slice(), Some(error.as_str())),
            };
            let cut = listing.as_ref().is_ok_and(|listing| listing.cut);
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
                truncated: cut && origin.source == Source::Hub,
            }))
        }
        Reply::Git { reply } => Some(git::reply(reply, request_id)),
        Reply::Pipeline { reply } => Some(pipeline::reply(
            reply,
            request_id,
            token.agent_id.as_deref().unwrap_or_default(),
            origin.source == Source::Hub,
        )),
        Reply::Gateway { reply } => gateway::reply(reply, &token, origin.source == Source::Hub),
        Reply::Tree(changed) => Some(tree::encode(changed, request_id)),
        Reply::RunChecked { run, known } => Some(to_text(&RunChecked {
            action: "run_checked",
            request_id,
            task_id: &run.task,
            execution_id: &run.attempt,
            known: *known,
        })),
        Reply::Plan(said) => graph::said(&token, said),
        Reply::Capabilities(capabilities) => {
            Some(to_text(&ResponseFrame::new(capabilities, request_id)))
        }
        Reply::Unknown { kind } => {
            let request_id = request_id?;
            let (action, error) = match origin.source {
                Source::Hub => ("unknown_action", "UNSUPPORTED_INTENT"),
                Source::Plane | Source::Local | Source::Folder
                    if OF_OPENCLAW.contains(&kind.as_str()) =>
                {
                    ("tool_result", "NOT_SUPPORTED_BY_PROVIDER")
                }
                Source::Plane | Source::Local | Source::Folder => return None,
            };
            Some(to_text(&UnknownAction {
                action,
                request_id,
                action_requested: kind,
                error,
            }))
        }
    }
}

/// Actions for OpenClaw alone, which the wire lets a bridge refuse: where it is not here, and where
/// the user did not say that a plane may use it past its runs.
const OF_OPENCLAW: [&str; 3] = ["init_ping", "invoke_tool", "sync_config"];

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
