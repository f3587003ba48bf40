//! Recordings as they lie in the fixtures.

use std::{fs, path::PathBuf, time::Duration};

use bridge_providers::dialogue::Exit;
use serde_json::Value;

/// One line of a recording.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) at: Duration,
    /// Written by the host.
    pub(crate) ours: bool,
    pub(crate) message: Value,
    /// Instead of the message, where it is no JSON or was damaged.
    pub(crate) bytes: Option<Vec<u8>>,
}

impl Line {
    pub(crate) fn method(&self) -> &str {
        self.message["method"].as_str().unwrap_or_default()
    }

    /// How the process ended, in the last line.
    pub(crate) fn exit(&self) -> Option<Exit> {
        let exit = self.message.get("_exit")?;
        let signal = match exit["signal"].as_str() {
            Some("SIGKILL") => Some(9),
            Some("SIGTERM") => Some(15),
            Some(other) => panic!("{other}"),
            None => None,
        };
        Some(Exit {
            code: exit["code"]
                .as_i64()
                .and_then(|code| i32::try_from(code).ok()),
            signal,
            stderr_tail: String::new(),
        })
    }
}

/// The names of all recordings that begin so.
pub(crate) fn names(begin: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name.starts_with(begin))
        .collect();
    names.sort();
    names
}

pub(crate) fn read(name: &str) -> Vec<Line> {
    let text = fs::read_to_string(folder().join(format!("{name}.jsonl"))).unwrap();
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            Line {
                at: Duration::from_millis(line["t"].as_u64().unwrap()),
                ours: line["dir"] == "out",
                message: line.get("msg").cloned().unwrap_or_default(),
                bytes: line["raw"].as_str().map(|raw| raw.as_bytes().to_vec()),
            }
        })
        .collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/codex")
}
