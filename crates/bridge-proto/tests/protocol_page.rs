//! `docs/protocol.md` lists every action of a control plane, where it is carried out, and a frame of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::Value;

/// The actions of the published wire; agents are synced with one action for each provider.
const PUBLISHED: [&str; 28] = [
    "activate_pipeline_task",
    "agent_command",
    "cancel_task",
    "check_task_output",
    "create_folder",
    "create_workspace",
    "delete_agent_config",
    "delete_agent_folders",
    "delete_folder",
    "delete_path",
    "dispatch_task",
    "followup",
    "generate_graph_blueprint",
    "git_diff",
    "git_operation",
    "git_status",
    "init_ping",
    "input_response",
    "invoke_tool",
    "list_files",
    "model_manifest",
    "query_provider_capabilities",
    "read_file",
    "rename_folder",
    "sync_<provider>_agents",
    "sync_config",
    "update_agent_config",
    "write_file",
];

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Action, file and frame of each row of the table.
fn rows() -> Vec<[String; 3]> {
    let page = fs::read_to_string(top().join("docs/protocol.md")).unwrap();
    let (_, section) = page
        .split_once("## Where each action is handled")
        .expect("the page has the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = |line: &str| -> Option<[String; 3]> {
        let cells: Vec<String> = line
            .split('|')
            .filter_map(|cell| Some(cell.trim().strip_prefix('`')?.strip_suffix('`')?.to_owned()))
            .collect();
        cells.try_into().ok()
    };
    section.lines().filter_map(cells).collect()
}

/// How the table names an action.
fn in_the_table(action: &str) -> &str {
    if action.starts_with("sync_") && action.ends_with("_agents") {
        "sync_<provider>_agents"
    } else {
        action
    }
}

#[test]
fn every_action_has_a_row_and_every_row_names_what_is_there() {
    let rows = rows();
    let listed: BTreeMap<&str, &[String; 3]> =
        rows.iter().map(|row| (row[0].as_str(), row)).collect();
    assert_eq!(listed.len(), rows.len(), "one row for each");
    for action in PUBLISHED {
        assert!(listed.contains_key(action), "{action} has no row");
    }
    for [action, file, frame] in &rows {
        assert!(top().join(file).is_file(), "{action}: there is no {file}");
        let frame = top().join("tests/wire/in").join(frame);
        let frame: Value = serde_json::from_str(&fs::read_to_string(frame).unwrap()).unwrap();
        let of_frame = in_the_table(frame["action"].as_str().unwrap());
        assert_eq!(of_frame, action);
    }
}

#[test]
fn no_action_has_a_frame_without_a_row() {
    let rows = rows();
    let listed: BTreeSet<&str> = rows.iter().map(|[action, ..]| action.as_str()).collect();
    for file in fs::read_dir(top().join("tests/wire/in")).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let Ok(frame) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        let action = in_the_table(frame["action"].as_str().unwrap_or_default());
        let known = listed.contains(action) || action == "brew_coffee";
        assert!(known, "{action} has a frame and no row");
    }
}
