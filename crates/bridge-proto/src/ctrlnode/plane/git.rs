//! The hub's half of `git_status`, `git_diff` and `git_operation`.

use serde::Serialize;

use crate::{
    ctrlnode::{DecodeError, fields::Fields, frames::to_text, git::fault},
    model::{GitFile, GitOperation, GitReply, GitRequest, GitStatus},
};

/// The frame of a request.
pub(super) fn encode(request: &GitRequest, request_id: &str) -> String {
    let frame = |action, path| GitFrame {
        action,
        request_id,
        path: Some(path).filter(|path: &&str| !path.is_empty()),
        ..GitFrame::default()
    };
    match request {
        GitRequest::Status { path } => to_text(&frame("git_status", path)),
        GitRequest::Diff {
            path,
            file,
            untracked,
        } => to_text(&GitFrame {
            file_path: Some(file),
            untracked: *untracked,
            ..frame("git_diff", path)
        }),
        GitRequest::Operation { path, operation } => {
            let (message, branch, base_branch) = match operation {
                GitOperation::Commit { message } => (Some(message), None, None),
                GitOperation::Checkout { branch } => (None, Some(branch), None),
                GitOperation::CreateBranch { branch, base } => (None, Some(branch), base.as_ref()),
                GitOperation::Init
                | GitOperation::Fetch
                | GitOperation::Pull
                | GitOperation::Push
                | GitOperation::Unsupported { .. } => (None, None, None),
            };
            to_text(&GitFrame {
                operation: Some(operation.name()),
                message: message.map(String::as_str),
                branch: branch.map(String::as_str),
                base_branch: base_branch.map(String::as_str),
                ..frame("git_operation", path)
            })
        }
    }
}

/// Reads an answer; `None` for an action that is none of git.
pub(super) fn decode(action: &str, fields: Fields<'_>) -> Option<Result<GitReply, DecodeError>> {
    match action {
        "git_status_response" => Some(status(fields).map(|status| GitReply::Status { status })),
        "git_diff_response" => Some(diff(fields)),
        "git_operation_ack" => Some(operation(fields)),
        _ => None,
    }
}

type Answered<T> = Result<T, crate::model::GitFault>;

fn status(fields: Fields<'_>) -> Result<Answered<Option<GitStatus>>, DecodeError> {
    if let Some(error) = fields.text("error")? {
        return Ok(Err(fault(error)));
    }
    if !fields.flag("isRepo")? {
        return Ok(Ok(None));
    }
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let mut files = Vec::new();
    for entry in fields.objects("files")? {
        files.push(GitFile {
            path: entry.need_text("path")?.to_owned(),
            staged: letter(entry, "staged")?,
            unstaged: letter(entry, "unstaged")?,
            conflicted: entry.flag("conflicted")?,
            original: owned(entry.text("origPath")?),
            added: count(entry, "added"),
            deleted: count(entry, "deleted"),
            binary: entry.flag("binary")?,
        });
    }
    let branches = fields.texts("branches")?;
    Ok(Ok(Some(GitStatus {
        root: fields.text("root")?.unwrap_or_default().to_owned(),
        branch: owned(fields.text("branch")?),
        upstream: owned(fields.text("upstream")?),
        ahead: count(fields, "ahead"),
        behind: count(fields, "behind"),
        branches: branches.into_iter().map(str::to_owned).collect(),
        files,
    })))
}

fn letter(entry: Fields<'_>, field: &'static str) -> Result<char, DecodeError> {
    Ok(entry
        .text(field)?
        .and_then(|text| text.chars().next())
        .unwrap_or('.'))
}

/// What cannot be read as a number is not counted.
fn count(fields: Fields<'_>, field: &str) -> u64 {
    let value = fields.value(field);
    value.and_then(serde_json::Value::as_u64).unwrap_or(0)
}

fn diff(fields: Fields<'_>) -> Result<GitReply, DecodeError> {
    Ok(GitReply::Diff {
        file: fields.text("filePath")?.unwrap_or_default().to_owned(),
        diff: match fields.text("error")? {
            Some(error) => Err(fault(error)),
            None => Ok(fields.text("diff")?.unwrap_or_default().to_owned()),
        },
    })
}

fn operation(fields: Fields<'_>) -> Result<GitReply, DecodeError> {
    let output = if fields.flag("success")? {
        Ok(fields.text("output")?.unwrap_or_default().to_owned())
    } else {
        Err(fault(fields.text("error")?.unwrap_or_default()))
    };
    Ok(GitReply::Operation {
        operation: fields.text("operation")?.unwrap_or_default().to_owned(),
        output,
    })
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct GitFrame<'a> {
    action: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file_path: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    untracked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_branch: Option<&'a str>,
}
