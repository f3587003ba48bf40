//! Recorded conversations of real agents, one process each, whichever recorder wrote them down.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;

/// What one process of a recording was told and said.
pub(crate) struct Recording {
    /// The folder and file it comes from, and the number of the process where there are several.
    pub(crate) name: String,
    pub(crate) agent: String,
    pub(crate) records: Vec<Record>,
}

/// One line of a recording.
pub(crate) struct Record {
    pub(crate) at: Duration,
    pub(crate) what: What,
}

/// What was written down.
pub(crate) enum What {
    /// The recorder said this.
    Told(Value),
    /// The agent said this, whatever it was.
    Heard(String),
    /// The process ended.
    Exit {
        code: Option<i32>,
        signal: Option<i32>,
    },
    /// The recorder's own words.
    Note(String),
}

impl Record {
    fn read(line: &Value) -> Self {
        let at = Duration::from_millis(line["t"].as_u64().unwrap());
        let what = match line.get("msg") {
            None if line["dir"] == "out" => What::Note("a line that is not JSON".into()),
            None => What::Heard(line["raw"].as_str().unwrap().to_owned()),
            Some(message) => note(message).unwrap_or_else(|| {
                if line["dir"] == "out" {
                    What::Told(message.clone())
                } else {
                    What::Heard(message.to_string())
                }
            }),
        };
        Self { at, what }
    }

    /// What the agent said, parsed.
    pub(crate) fn heard(&self) -> Option<Value> {
        match &self.what {
            What::Heard(line) => serde_json::from_str(line).ok(),
            What::Told(_) | What::Exit { .. } | What::Note(_) => None,
        }
    }
}

/// A line that is not the protocol: two recorders have two ways to write the same.
fn note(message: &Value) -> Option<What> {
    if message.get("jsonrpc").is_some() {
        return None;
    }
    let (key, value) = message.as_object()?.iter().next()?;
    Some(match key.trim_start_matches('_') {
        "exit" => {
            let end = if value.is_object() { value } else { message };
            let number = |name: &str| end.get(name).and_then(Value::as_i64);
            let code = number("code").or_else(|| number("exit"));
            What::Exit {
                code: code.and_then(|code| i32::try_from(code).ok()),
                signal: end["signal"].as_str().map(|_| 15),
            }
        }
        "spawn" => What::Note("spawn".into()),
        "signal" | "kill" => What::Note(format!("signal {}", text(value))),
        "eof" | "stdin" => What::Note("standard input closed".into()),
        "note" | "errors" => What::Note(text(value)),
        other => panic!("what is {other}?"),
    })
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// Every process of every recording, in order of their names.
pub(crate) fn all() -> Vec<Recording> {
    AGENTS.iter().flat_map(|agent| of(agent)).collect()
}

/// Every process of every recording of an agent.
pub(crate) fn of(agent: &str) -> Vec<Recording> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder("../../tests/fixtures").join(agent))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|file| {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            processes(agent, &name, &fs::read_to_string(file).unwrap())
        })
        .collect()
}

/// The first process of one recording.
pub(crate) fn one(name: &str) -> Recording {
    let (agent, file) = name.split_once('/').unwrap();
    let found = of(agent).into_iter().find(|one| one.name == name);
    found.unwrap_or_else(|| panic!("there is no {file} of {agent}"))
}

fn processes(agent: &str, file: &str, text: &str) -> Vec<Recording> {
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let numbers: Vec<&Value> = {
        let mut numbers: Vec<_> = lines.iter().map(|line| &line["conn"]).collect();
        numbers.dedup();
        numbers
    };
    numbers
        .iter()
        .map(|number| Recording {
            name: match number.as_u64() {
                Some(number) if numbers.len() > 1 => format!("{agent}/{file}-{number}"),
                Some(_) | None => format!("{agent}/{file}"),
            },
            agent: agent.to_owned(),
            records: lines
                .iter()
                .filter(|line| line["conn"] == **number)
                .map(Record::read)
                .collect(),
        })
        .collect()
}

/// A folder beside this crate.
pub(crate) fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The folders of recordings.
pub(crate) const AGENTS: [&str; 5] = ["claude-acp", "copilot", "gemini", "hermes", "opencode"];
