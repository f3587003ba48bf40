//! Changes of the tree of files: requests, answers, and what is answered to broken ones.

use bridge_proto::{
    ctrlnode::{
        decode, encode_refusal, encode_reply,
        plane::{self, FromBridge},
    },
    model::{
        CommandBody, FileEntry, FileRoot, FileScope, Listing, NewFile, ReadOutcome, Reply, Request,
        Source, TreeAct, TreeChange, TreeChanged,
    },
};
use serde_json::{Value, json};

use crate::{agent, golden, origin, provider};

/// The golden requests with what they mean.
pub(crate) fn requests() -> Vec<(&'static str, CommandBody)> {
    let base = || scope(FileRoot::Base);
    let writer = FileScope {
        root: FileRoot::Ctrlnode,
        agent: Some(agent("writer")),
        provider: Some(provider("gemini")),
    };
    let owner = FileScope {
        agent: Some(agent("writer")),
        ..scope(FileRoot::Owner)
    };
    [
        (
            "delete_path",
            TreeChange::DeletePath {
                scope: writer,
                path: "tasks/blog/03-14/9f8e7d6c-intro/output/old.md".into(),
            },
        ),
        (
            "delete_path_nobody",
            TreeChange::DeletePath {
                scope: base(),
                path: String::new(),
            },
        ),
        (
            "create_folder",
            TreeChange::CreateFolder {
                scope: base(),
                path: "code/new".into(),
            },
        ),
        (
            "rename_folder",
            TreeChange::RenameFolder {
                scope: base(),
                path: "code/new".into(),
                new_path: "code/web".into(),
            },
        ),
        (
            "delete_folder",
            TreeChange::DeleteFolder {
                scope: owner,
                path: "tasks/blog".into(),
            },
        ),
        (
            "create_workspace",
            TreeChange::CreateWorkspace {
                folder: "workspace-writer".into(),
                files: vec![NewFile {
                    path: "SOUL.md".into(),
                    content: "Be brief.".into(),
                }],
                use_ctrlnode: false,
            },
        ),
        (
            "create_workspace_ctrlnode",
            TreeChange::CreateWorkspace {
                folder: "tasks/blog".into(),
                files: Vec::new(),
                use_ctrlnode: true,
            },
        ),
        (
            "delete_agent_folders",
            TreeChange::DeleteAgentFolders {
                folder: "/app/agents/writer".into(),
                agent: Some("Writer".into()),
            },
        ),
    ]
    .into_iter()
    .map(|(name, change)| (name, CommandBody::Request(Request::Tree(change))))
    .collect()
}

fn scope(root: FileRoot) -> FileScope {
    FileScope {
        root,
        agent: None,
        provider: None,
    }
}

fn done(act: TreeAct, error: Option<&str>) -> TreeChanged {
    TreeChanged::Done {
        act,
        error: error.map(Into::into),
    }
}

fn workspace(path: Option<&str>, error: Option<&str>) -> TreeChanged {
    TreeChanged::Workspace {
        path: path.map(Into::into),
        error: error.map(Into::into),
    }
}

fn folders(deleted: &[&str], errors: &[&str]) -> TreeChanged {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.into()).collect();
    TreeChanged::AgentFolders {
        agent: Some("Writer".into()),
        deleted: owned(deleted),
        errors: owned(errors),
    }
}

#[test]
fn answers_to_changes_are_written_as_the_reference_shows_them_and_read_back_by_the_hub() {
    let path = "/home/dev/.openclaw/workspace-writer";
    for (request, name, changed) in [
        (
            "delete_path",
            "delete_path_ack",
            done(TreeAct::DeletePath, None),
        ),
        (
            "create_folder",
            "create_folder_ack",
            done(TreeAct::CreateFolder, None),
        ),
        (
            "rename_folder",
            "rename_folder_ack",
            done(TreeAct::RenameFolder, Some("FOLDER_NOT_FOUND")),
        ),
        (
            "delete_folder",
            "delete_folder_ack",
            done(TreeAct::DeleteFolder, Some("FOLDER_NOT_EMPTY")),
        ),
        (
            "create_workspace",
            "create_workspace_response",
            workspace(Some(path), None),
        ),
        (
            "create_workspace_ctrlnode",
            "create_workspace_response_nothing",
            workspace(None, None),
        ),
        (
            "create_workspace",
            "create_workspace_response_error",
            workspace(None, Some("INVALID_FILE_PATH: ../x")),
        ),
        (
            "delete_agent_folders",
            "delete_agent_folders_response",
            folders(&["/app/agents/writer"], &[]),
        ),
        (
            "delete_agent_folders",
            "delete_agent_folders_response_error",
            folders(&[], &["UNSAFE_PATH: /etc"]),
        ),
    ] {
        let reply = Reply::Tree(changed);
        for source in [Source::Hub, Source::Plane] {
            let written = encode_reply(&reply, &origin(request, source)).unwrap();
            assert_eq!(written, golden(&format!("out/{name}")), "{name}");
        }
        let frame = golden(&format!("out/{name}"));
        let FromBridge::Reply { reply: read, .. } = plane::decode(frame.as_bytes()).unwrap() else {
            panic!("{name} is not a reply");
        };
        assert_eq!(read, reply, "{name}");
    }
}

#[test]
fn the_hub_writes_changes_as_the_reference_shows_them() {
    for (name, body) in requests() {
        let golden: Value = serde_json::from_str(&golden(&format!("in/{name}"))).unwrap();
        let written = plane::encode(&body, golden["requestId"].as_str().unwrap_or("x"));
        let mut written: Value = serde_json::from_str(&written.unwrap()).unwrap();
        if name == "delete_path_nobody" {
            // The hub never asks so; only what it would delete is lost on the way.
            written["path"] = golden["path"].clone();
            written.as_object_mut().unwrap().remove("requestId");
        }
        let slashes = golden.to_string().replace(r"\\", "/");
        assert_eq!(
            written,
            serde_json::from_str::<Value>(&slashes).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_delete_that_nobody_could_be_told_of_has_no_path_and_is_answered_without_a_request_id() {
    for request_id in [json!(null), json!(""), json!(" ")] {
        let frame = json!({"action": "delete_path", "requestId": request_id, "path": "x"});
        let command = decode(frame.to_string().as_bytes(), Source::Plane).unwrap();
        let CommandBody::Request(Request::Tree(TreeChange::DeletePath { path, .. })) = command.body
        else {
            panic!("not a delete");
        };
        assert_eq!(path, "");
    }
    let refused = Reply::Tree(done(TreeAct::DeletePath, Some("INVALID_REQUEST")));
    assert_eq!(
        encode_reply(&refused, &origin("delete_path_nobody", Source::Plane)).unwrap(),
        r#"{"action":"delete_path_ack","success":false,"error":"INVALID_REQUEST"}"#
    );
}

#[test]
fn a_change_that_cannot_be_read_is_answered_in_the_shape_of_its_action() {
    for (action, field, answer) in [
        (
            "delete_path",
            "path",
            json!({"action": "delete_path_ack", "requestId": "q", "success": false, "error": "INVALID_REQUEST"}),
        ),
        (
            "rename_folder",
            "newPath",
            json!({"action": "rename_folder_ack", "requestId": "q", "success": false, "error": "INVALID_REQUEST"}),
        ),
        (
            "create_workspace",
            "files",
            json!({"action": "create_workspace_response", "requestId": "q", "workspacePath": null, "success": false, "error": "INVALID_REQUEST"}),
        ),
        (
            "delete_agent_folders",
            "folderName",
            json!({"action": "delete_agent_folders_response", "requestId": "q", "agentId": "A", "success": false, "deleted": [], "errors": ["INVALID_REQUEST"]}),
        ),
    ] {
        let mut frame = json!({"action": action, "requestId": "q", "agentId": "A"});
        frame[field] = json!(7);
        let frame = frame.to_string();
        let error = decode(frame.as_bytes(), Source::Plane).unwrap_err();
        assert_eq!(
            encode_refusal(frame.as_bytes(), &error),
            Some(answer.to_string())
        );
    }
}

/// Every other JSON library reads these, so whoever sent them waits for an answer.
#[test]
fn json_that_is_too_deep_or_out_of_range_is_refused_and_answered_all_the_same() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}7{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    for odd in [
        deep.as_str(),
        objects.as_str(),
        "1e999",
        "-1e999",
        "[1e400]",
    ] {
        let frame = format!(
            r#"{{"action":"read_file","args":{odd},"requestId":"q","agentId":"A","path":"x/y"}}"#
        );
        let error = decode(frame.as_bytes(), Source::Plane).unwrap_err();
        assert_eq!(
            encode_refusal(frame.as_bytes(), &error).unwrap(),
            r#"{"action":"read_file_response","requestId":"q","agentId":"a","path":"x/y","content":null,"error":"INVALID_REQUEST"}"#,
            "{}",
            odd.len()
        );
    }
    let broken = format!(
        r#"{{"action":"read_file","requestId":"q","args":{}"#,
        "[".repeat(10_000)
    );
    let error = decode(broken.as_bytes(), Source::Plane).unwrap_err();
    assert_eq!(encode_refusal(broken.as_bytes(), &error), None);
}

#[test]
fn numbers_beyond_range_in_fields_that_nobody_reads_change_nothing() {
    for number in [
        "99999999999999999999999999",
        "-9223372036854775809",
        "1e308",
    ] {
        let frame =
            format!(r#"{{"action":"read_file","requestId":"q","path":"x","size":{number}}}"#);
        let read = decode(frame.as_bytes(), Source::Plane).unwrap().body;
        assert!(matches!(
            read,
            CommandBody::Request(Request::ReadFile { .. })
        ));
        let path = format!(r#"{{"action":"read_file","requestId":"q","path":{number}}}"#);
        assert!(decode(path.as_bytes(), Source::Plane).is_err());
    }
}

/// What was checked is what is used: there is one value, and it is the last.
#[test]
fn of_a_key_that_stands_twice_the_last_one_counts_everywhere() {
    let frame = r#"{"action":"list_files","action":"delete_path","requestId":"a","requestId":"b","useBasePath":true,"useBasePath":false,"path":"good","path":"../bad"}"#;
    let command = decode(frame.as_bytes(), Source::Plane).unwrap();
    let change = TreeChange::DeletePath {
        scope: scope(FileRoot::Owner),
        path: "../bad".into(),
    };
    assert_eq!(command.body, CommandBody::Request(Request::Tree(change)));
    let ack = Reply::Tree(done(TreeAct::DeletePath, Some("INVALID_PATH")));
    let frame = encode_reply(&ack, &command.origin).unwrap();
    assert!(frame.contains(r#""requestId":"b""#), "{frame}");
}

#[test]
fn a_path_longer_than_any_system_has_is_not_repeated_whole() {
    let long = "é".repeat(1 << 20);
    let frame = json!({"action": "read_file", "requestId": "q", "path": long}).to_string();
    let body = decode(frame.as_bytes(), Source::Plane).unwrap().body;
    let CommandBody::Request(Request::ReadFile { path, .. }) = body else {
        panic!("{body:?}");
    };
    assert!((4097..32 * 1024).contains(&path.len()), "{}", path.len());
}

#[test]
fn only_our_hub_is_told_that_a_listing_was_cut() {
    let entry = FileEntry {
        name: "output".into(),
        path: "output".into(),
        is_dir: true,
        size: None,
    };
    let listing = Listing {
        base: "/home/dev/.ctrlnode".into(),
        entries: vec![entry],
        cut: true,
    };
    let reply = Reply::ListFiles {
        listing: Ok(listing),
    };
    let to_hub = encode_reply(&reply, &origin("list_files", Source::Hub)).unwrap();
    assert_eq!(to_hub, golden("out/list_files_response_truncated"));
    let Ok(FromBridge::Reply { reply: read, .. }) = plane::decode(to_hub.as_bytes()) else {
        panic!("not a reply");
    };
    assert_eq!(read, reply);
    let plain = encode_reply(&reply, &origin("list_files", Source::Plane)).unwrap();
    assert!(!plain.contains("truncated"), "{plain}");
}

#[test]
fn bytes_that_would_grow_beyond_a_frame_as_text_are_too_large_for_a_plain_plane_alone() {
    let bytes = vec![0xff; 12 << 20];
    let reply = Reply::ReadFile {
        path: "x".into(),
        outcome: ReadOutcome::Binary {
            bytes,
            content_type: "application/octet-stream".into(),
        },
    };
    let plain = encode_reply(&reply, &origin("read_file", Source::Plane)).unwrap();
    assert!(
        plain.ends_with(r#""error":"FILE_TOO_LARGE:12582912"}"#),
        "{}",
        plain.len()
    );
    let to_hub = encode_reply(&reply, &origin("read_file", Source::Hub)).unwrap();
    assert!(to_hub.len() > 12 << 20);
}
