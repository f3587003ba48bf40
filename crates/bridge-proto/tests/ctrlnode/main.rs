//! The CTRL NODE dialect against the golden frames in `tests/wire/` of the workspace.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "everything but the expected fails the test"
)]

mod answers;
mod gateway;
mod git;
mod graph;
mod hostile;
mod inbound;
mod outbound;
mod plane;
mod translation;
mod tree;

use std::{fs, path::PathBuf};

use bridge_proto::{
    AgentId, ProviderKey, RunKey, TaskFolder, TaskId,
    ctrlnode::decode,
    model::{Origin, Source},
};

const TASK: &str = "1a2b3c4d-1111-4222-8333-444455556666";
const FOLDER: &str = "tasks/web/03-14/1a2b3c4d-fix-login";

fn wire() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire")
}

/// The frame without the line break at the end of its file.
fn golden(name: &str) -> String {
    let path = wire().join(name).with_extension("json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    text.trim_end().to_owned()
}

/// The names of all golden frames of a direction.
fn golden_names(direction: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(wire().join(direction))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    names.sort();
    names
}

/// What a command leaves behind for its answers.
fn origin(frame: &str, source: Source) -> Origin {
    decode(golden(&format!("in/{frame}")).as_bytes(), source)
        .unwrap()
        .origin
}

fn goldens(names: &[&str]) -> Vec<String> {
    names
        .iter()
        .map(|name| golden(&format!("out/{name}")))
        .collect()
}

fn agent(id: &str) -> AgentId {
    AgentId::parse(id).unwrap()
}

fn provider(key: &str) -> ProviderKey {
    ProviderKey::parse(key).unwrap()
}

fn task(id: &str) -> TaskId {
    TaskId::parse(id).unwrap()
}

fn run(id: &str, attempt: &str) -> RunKey {
    RunKey {
        task: task(id),
        attempt: attempt.into(),
    }
}

fn folder(name: &str) -> TaskFolder {
    TaskFolder::parse(name).unwrap()
}
