//! Git and pipelines: requests, answers, and the frames they become.

use bridge_proto::{
    ctrlnode::{
        decode, encode_refusal, encode_reply,
        plane::{self, FromBridge},
    },
    model::{
        CommandBody, GitFault, GitFile, GitOperation, GitReply, GitRequest, GitStatus, GitStep,
        PipelineReply, PipelineRequest, PipelineTask, Reply, Source,
    },
};
use serde_json::json;

use crate::{agent, golden, origin};

const WRITER: &str = "tasks/blog/03-14/9f8e7d6c-intro";

/// The command that each golden frame of this file is.
pub(crate) fn expected() -> Vec<(&'static str, CommandBody)> {
    let web = || "code/web".to_owned();
    let operation = |operation| {
        CommandBody::Git(GitRequest::Operation {
            path: web(),
            operation,
        })
    };
    vec![
        (
            "activate_pipeline_task",
            CommandBody::Pipeline(PipelineRequest::Activate {
                from: PipelineTask {
                    agent: Some(agent("writer")),
                    folder: WRITER.into(),
                },
                to: PipelineTask {
                    agent: Some(agent("dev-1")),
                    folder: "tasks/blog/03-14/0a1b2c3d-publish".into(),
                },
            }),
        ),
        (
            "check_task_output",
            CommandBody::Pipeline(PipelineRequest::CheckOutput {
                agent: Some(agent("writer")),
                folder: WRITER.into(),
            }),
        ),
        (
            "git_diff",
            CommandBody::Git(GitRequest::Diff {
                path: web(),
                file: "src/größe \"a\".ts".into(),
                untracked: false,
            }),
        ),
        (
            "git_diff_untracked",
            CommandBody::Git(GitRequest::Diff {
                path: web(),
                file: "new.ts".into(),
                untracked: true,
            }),
        ),
        (
            "git_operation_checkout",
            operation(GitOperation::Checkout {
                branch: "main".into(),
            }),
        ),
        (
            "git_operation_commit",
            operation(GitOperation::Commit {
                message: "Fix the login".into(),
            }),
        ),
        (
            "git_operation_create_branch",
            operation(GitOperation::CreateBranch {
                branch: "fix/login".into(),
                base: Some("main".into()),
            }),
        ),
        (
            "git_operation_unsupported",
            operation(GitOperation::Unsupported {
                name: "rebase".into(),
            }),
        ),
        (
            "git_status",
            CommandBody::Git(GitRequest::Status { path: web() }),
        ),
        (
            "git_status_base",
            CommandBody::Git(GitRequest::Status {
                path: String::new(),
            }),
        ),
    ]
}

fn file(path: &str, letters: (char, char)) -> GitFile {
    GitFile {
        path: path.into(),
        staged: letters.0,
        unstaged: letters.1,
        conflicted: letters == ('U', 'U'),
        original: None,
        added: 0,
        deleted: 0,
        binary: false,
    }
}

fn replies() -> Vec<(&'static str, &'static str, Reply)> {
    let git = |reply| Reply::Git { reply };
    let clean = GitStatus {
        root: "/home/dev/code/web".into(),
        branch: None,
        upstream: None,
        ahead: 0,
        behind: 0,
        branches: vec!["main".into()],
        files: Vec::new(),
    };
    let busy = GitStatus {
        branch: Some("fix/login".into()),
        upstream: Some("origin/fix/login".into()),
        ahead: 2,
        behind: 1,
        branches: vec!["fix/login".into(), "main".into()],
        files: vec![
            GitFile {
                added: 3,
                deleted: 1,
                ..file("src/größe \"a\".ts", ('.', 'M'))
            },
            GitFile {
                original: Some("old.ts".into()),
                ..file("new\nline.ts", ('R', '.'))
            },
            file("both.ts", ('U', 'U')),
            file("logo.png", ('?', '?')),
        ],
        ..clean.clone()
    };
    let status = |status| git(GitReply::Status { status });
    let operation = |name: &str, output: Result<&str, GitFault>| {
        git(GitReply::Operation {
            operation: name.into(),
            output: output.map(str::to_owned),
        })
    };
    let diff = |file: &str, diff| {
        git(GitReply::Diff {
            file: file.into(),
            diff,
        })
    };
    let pipeline = |reply| Reply::Pipeline { reply };
    vec![
        ("git_status", "git_status_response", status(Ok(Some(busy)))),
        (
            "git_status",
            "git_status_response_detached",
            status(Ok(Some(clean))),
        ),
        (
            "git_status",
            "git_status_response_no_repository",
            status(Ok(None)),
        ),
        (
            "git_status",
            "git_status_response_failed",
            status(Err(GitFault::StatusFailed(
                "fatal: index file corrupt".into(),
            ))),
        ),
        (
            "git_diff",
            "git_diff_response",
            diff("src/größe \"a\".ts", Ok("diff --git a/x b/x\n".into())),
        ),
        (
            "git_diff_untracked",
            "git_diff_response_refused",
            diff("new.ts", Err(GitFault::InvalidPath)),
        ),
        (
            "git_operation_commit",
            "git_operation_ack",
            operation("commit", Ok("[main 1a2b3c4] Fix the login")),
        ),
        (
            "git_operation_create_branch",
            "git_operation_ack_failed",
            operation(
                "create_branch",
                Err(GitFault::Failed(GitStep::CreateBranch)),
            ),
        ),
        (
            "git_operation_unsupported",
            "git_operation_ack_unsupported",
            operation("rebase", Err(GitFault::UnsupportedOperation)),
        ),
        (
            "check_task_output",
            "check_task_output_result",
            pipeline(PipelineReply::Output {
                folder: WRITER.into(),
                present: true,
            }),
        ),
        (
            "activate_pipeline_task",
            "activate_pipeline_task_response",
            pipeline(PipelineReply::Activated { copied: Ok(3) }),
        ),
        (
            "activate_pipeline_task",
            "activate_pipeline_task_response_failed",
            pipeline(PipelineReply::Activated {
                copied: Err("INVALID_REQUEST".into()),
            }),
        ),
    ]
}

#[test]
fn every_answer_is_the_golden_frame_and_the_hub_reads_it_back() {
    for (frame, name, reply) in replies() {
        let written = encode_reply(&reply, &origin(frame, Source::Plane)).unwrap();
        assert_eq!(written, golden(&format!("out/{name}")), "{name}");
        let read = plane::decode(written.as_bytes()).unwrap();
        let FromBridge::Reply { reply: read, .. } = read else {
            panic!("{name} is not a reply: {read:?}");
        };
        assert_eq!(read, reply, "{name}");
    }
}

#[test]
fn our_hub_is_told_which_check_of_an_output_is_answered() {
    let reply = Reply::Pipeline {
        reply: PipelineReply::Output {
            folder: WRITER.into(),
            present: true,
        },
    };
    let written = encode_reply(&reply, &origin("check_task_output", Source::Hub)).unwrap();
    assert_eq!(written, golden("out/check_task_output_result_hub"));
    let Ok(FromBridge::Reply { request_id, .. }) = plane::decode(written.as_bytes()) else {
        panic!("not a reply");
    };
    assert_eq!(request_id, "p1");
}

#[test]
fn every_error_of_git_comes_back_as_the_fault_it_was() {
    let steps = [
        GitStep::Init,
        GitStep::Add,
        GitStep::Commit,
        GitStep::Transfer,
        GitStep::Checkout,
        GitStep::CreateBranch,
        GitStep::Diff,
    ];
    let faults = [
        GitFault::InvalidPath,
        GitFault::MissingFile,
        GitFault::MissingMessage,
        GitFault::MissingBranch,
        GitFault::UnsupportedOperation,
        GitFault::NotARepository,
        GitFault::NoFolder,
        GitFault::NotAvailable,
        GitFault::StatusFailed("x".into()),
        GitFault::StatusEmpty,
        GitFault::Said("fatal: x".into()),
    ];
    for fault in faults
        .into_iter()
        .chain(steps.into_iter().map(GitFault::Failed))
    {
        let reply = Reply::Git {
            reply: GitReply::Diff {
                file: "a".into(),
                diff: Err(fault),
            },
        };
        let frame = encode_reply(&reply, &origin("git_diff", Source::Hub)).unwrap();
        let Ok(FromBridge::Reply { reply: read, .. }) = plane::decode(frame.as_bytes()) else {
            panic!("{frame} is not a reply");
        };
        assert_eq!(read, reply);
    }
}

#[test]
fn values_around_messages_and_branches_are_trimmed_and_blank_is_missing() {
    let frame = json!({"action": "git_operation", "requestId": "q", "operation": "create_branch", "branch": " a ", "baseBranch": "  "});
    let body = decode(frame.to_string().as_bytes(), Source::Plane)
        .unwrap()
        .body;
    let operation = GitOperation::CreateBranch {
        branch: "a".into(),
        base: None,
    };
    let path = String::new();
    assert_eq!(
        body,
        CommandBody::Git(GitRequest::Operation { path, operation })
    );
}

#[test]
fn a_file_name_keeps_its_backslash_and_a_folder_does_not() {
    let frame =
        json!({"action": "git_diff", "requestId": "q", "path": r"code\web", "filePath": r"a\b"});
    let body = decode(frame.to_string().as_bytes(), Source::Plane)
        .unwrap()
        .body;
    assert_eq!(
        body,
        CommandBody::Git(GitRequest::Diff {
            path: "code/web".into(),
            file: r"a\b".into(),
            untracked: false,
        })
    );
}

#[test]
fn a_refused_request_is_answered_in_the_error_shape_of_its_action() {
    for (frame, answer) in [
        (
            json!({"action": "git_status", "requestId": "q", "path": 7}),
            json!({"action": "git_status_response", "requestId": "q", "isRepo": false, "files": [], "error": "INVALID_REQUEST"}),
        ),
        (
            json!({"action": "git_diff", "requestId": "q", "filePath": "a", "untracked": 7}),
            json!({"action": "git_diff_response", "requestId": "q", "filePath": "a", "error": "INVALID_REQUEST"}),
        ),
        (
            json!({"action": "git_operation", "requestId": "q", "operation": "push", "path": []}),
            json!({"action": "git_operation_ack", "requestId": "q", "operation": "push", "success": false, "error": "INVALID_REQUEST"}),
        ),
        (
            json!({"action": "check_task_output", "requestId": "q", "agentId": "A", "taskFolderName": 7}),
            json!({"action": "check_task_output_result", "agentId": "a", "hasOutput": false}),
        ),
        (
            json!({"action": "activate_pipeline_task", "requestId": "q", "nextTaskFolderName": 7}),
            json!({"action": "activate_pipeline_task_response", "requestId": "q", "success": false, "error": "INVALID_REQUEST", "filesCopied": 0}),
        ),
    ] {
        let frame = frame.to_string();
        let error = decode(frame.as_bytes(), Source::Plane).unwrap_err();
        let written = encode_refusal(frame.as_bytes(), &error).unwrap();
        let written: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(written, answer);
    }
}
