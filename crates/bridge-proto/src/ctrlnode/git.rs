//! The bridge's half of `git_status`, `git_diff` and `git_operation`.

use serde::Serialize;

use super::{
    DecodeError,
    fields::Fields,
    frames::{Nullable, to_text},
};
use crate::model::{GitFault, GitFile, GitOperation, GitReply, GitRequest, GitStatus, GitStep};

/// Whether an action is one of git.
pub(super) fn is_git(action: &str) -> bool {
    matches!(action, "git_status" | "git_diff" | "git_operation")
}

/// Reads a request whose action [`is_git`].
pub(super) fn request(action: &str, fields: Fields<'_>) -> Result<GitRequest, DecodeError> {
    let path = fields.path("path")?.unwrap_or_default();
    match action {
        "git_status" => Ok(GitRequest::Status { path }),
        "git_diff" => Ok(GitRequest::Diff {
            path,
            // Not with slashes: it has to be the very name that a status gave.
            file: fields.text("filePath")?.unwrap_or_default().to_owned(),
            untracked: fields.flag("untracked")?,
        }),
        _ => Ok(GitRequest::Operation {
            path,
            operation: operation(fields)?,
        }),
    }
}

fn operation(fields: Fields<'_>) -> Result<GitOperation, DecodeError> {
    let trimmed =
        |field| Ok::<_, DecodeError>(fields.text(field)?.unwrap_or_default().trim().to_owned());
    Ok(match fields.text("operation")?.unwrap_or_default() {
        "init" => GitOperation::Init,
        "commit" => GitOperation::Commit {
            message: trimmed("message")?,
        },
        "fetch" => GitOperation::Fetch,
        "pull" => GitOperation::Pull,
        "push" => GitOperation::Push,
        "checkout" => GitOperation::Checkout {
            branch: trimmed("branch")?,
        },
        "create_branch" => GitOperation::CreateBranch {
            branch: trimmed("branch")?,
            base: Some(trimmed("baseBranch")?).filter(|base| !base.is_empty()),
        },
        other => GitOperation::Unsupported {
            name: other.to_owned(),
        },
    })
}

/// The frame of an answer.
pub(super) fn reply(reply: &GitReply, request_id: Option<&str>) -> String {
    match reply {
        GitReply::Status { status } => match status {
            Ok(Some(status)) => status_of(status, request_id),
            Ok(None) => no_status(None, request_id),
            Err(fault) => no_status(Some(&git_error(fault)), request_id),
        },
        GitReply::Diff { file, diff } => {
            let fault = diff.as_ref().err().map(git_error);
            to_text(&DiffResponse {
                action: "git_diff_response",
                request_id,
                file_path: Some(file.as_str()).filter(|file| !file.is_empty()),
                diff: diff.as_deref().ok(),
                error: fault.as_deref(),
            })
        }
        GitReply::Operation { operation, output } => {
            let fault = output.as_ref().err().map(git_error);
            to_text(&OperationAck {
                action: "git_operation_ack",
                request_id,
                operation: Some(operation.as_str()).filter(|name| !name.is_empty()),
                success: output.is_ok(),
                error: fault.as_deref(),
                output: output.as_deref().ok(),
            })
        }
    }
}

/// The frame for a request that could not be read.
pub(super) fn refusal(action: &str, fields: Fields<'_>, request_id: Option<&str>) -> String {
    let text = |field| fields.value(field).and_then(|value| value.as_str());
    let error = Some("INVALID_REQUEST");
    match action {
        "git_status" => no_status(error, request_id),
        "git_diff" => to_text(&DiffResponse {
            action: "git_diff_response",
            request_id,
            file_path: text("filePath"),
            diff: None,
            error,
        }),
        _ => to_text(&OperationAck {
            action: "git_operation_ack",
            request_id,
            operation: text("operation"),
            success: false,
            error,
            output: None,
        }),
    }
}

fn status_of(status: &GitStatus, request_id: Option<&str>) -> String {
    to_text(&StatusResponse {
        action: "git_status_response",
        request_id,
        is_repo: true,
        root: Some(&status.root),
        branch: Some(Nullable(status.branch.as_deref())),
        detached: Some(status.branch.is_none()),
        upstream: Some(Nullable(status.upstream.as_deref())),
        ahead: Some(status.ahead),
        behind: Some(status.behind),
        branches: Some(&status.branches),
        files: status.files.iter().map(Changed::of).collect(),
        error: None,
    })
}

fn no_status(error: Option<&str>, request_id: Option<&str>) -> String {
    to_text(&StatusResponse {
        action: "git_status_response",
        request_id,
        error,
        ..StatusResponse::default()
    })
}

/// The error of git as the wire writes it: a code, or a text for a person.
pub fn git_error(fault: &GitFault) -> String {
    let code = match fault {
        GitFault::StatusFailed(text) => return format!("{STATUS_FAILED}{text}"),
        GitFault::Said(text) => return text.clone(),
        GitFault::InvalidPath => "INVALID_PATH",
        GitFault::MissingFile => "MISSING_PATH",
        GitFault::MissingMessage => "MISSING_COMMIT_MESSAGE",
        GitFault::MissingBranch => "MISSING_BRANCH_NAME",
        GitFault::UnsupportedOperation => "UNSUPPORTED_OPERATION",
        GitFault::NotARepository => "NOT_A_REPOSITORY",
        GitFault::NoFolder => "CWD_NOT_FOUND",
        GitFault::NotAvailable => "GIT_NOT_AVAILABLE",
        GitFault::StatusEmpty => "GIT_STATUS_EMPTY_OUTPUT",
        GitFault::Failed(step) => match step {
            GitStep::Init => "GIT_INIT_FAILED",
            GitStep::Add => "GIT_ADD_FAILED",
            GitStep::Commit => "GIT_COMMIT_FAILED",
            GitStep::Transfer => "GIT_OPERATION_FAILED",
            GitStep::Checkout => "GIT_CHECKOUT_FAILED",
            GitStep::CreateBranch => "GIT_CREATE_BRANCH_FAILED",
            GitStep::Diff => "GIT_DIFF_FAILED",
        },
    };
    code.to_owned()
}

/// The fault that an error of the wire stands for.
pub(super) fn fault(error: &str) -> GitFault {
    let known = [
        GitFault::InvalidPath,
        GitFault::MissingFile,
        GitFault::MissingMessage,
        GitFault::MissingBranch,
        GitFault::UnsupportedOperation,
        GitFault::NotARepository,
        GitFault::NoFolder,
        GitFault::NotAvailable,
        GitFault::StatusEmpty,
        GitFault::Failed(GitStep::Init),
        GitFault::Failed(GitStep::Add),
        GitFault::Failed(GitStep::Commit),
        GitFault::Failed(GitStep::Transfer),
        GitFault::Failed(GitStep::Checkout),
        GitFault::Failed(GitStep::CreateBranch),
        GitFault::Failed(GitStep::Diff),
    ];
    if let Some(known) = known.into_iter().find(|fault| git_error(fault) == error) {
        return known;
    }
    match error.strip_prefix(STATUS_FAILED) {
        Some(text) => GitFault::StatusFailed(text.to_owned()),
        None => GitFault::Said(error.to_owned()),
    }
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusResponse<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    is_repo: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<Nullable<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detached: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<Nullable<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ahead: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branches: Option<&'a [String]>,
    files: Vec<Changed<'a>>,
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Changed<'a> {
    path: &'a str,
    staged: char,
    unstaged: char,
    untracked: bool,
    conflicted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    orig_path: Option<&'a str>,
    added: u64,
    deleted: u64,
    binary: bool,
}

impl<'a> Changed<'a> {
    fn of(file: &'a GitFile) -> Self {
        Self {
            path: &file.path,
            staged: file.staged,
            unstaged: file.unstaged,
            untracked: file.untracked(),
            conflicted: file.conflicted,
            orig_path: file.original.as_deref(),
            added: file.added,
            deleted: file.deleted,
            binary: file.binary,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DiffResponse<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<&'a str>,
    error: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OperationAck<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    success: bool,
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<&'a str>,
}

const STATUS_FAILED: &str = "GIT_STATUS_FAILED: ";
