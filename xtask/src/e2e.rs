//! `cargo xtask e2e`: the tests with the real agents, and the table of what each of them kept.

use std::{fs, time::Duration};

use serde::Deserialize;

use crate::{
    agents::{self, Pinned},
    run::{Done, Failure, cargo, pass, root, say},
    table,
};

/// Installs what is missing, runs the tests of these agents (whose names contain `filter`), and
/// prints what came of it. With `all` the slow tests run as well.
pub(crate) fn run(names: &[String], filter: Option<&str>) -> Done {
    let agents = agents::named(names)?;
    let folder = agents::install(&agents)?;
    let report = root().join("target/e2e-report.jsonl");
    if let Some(folder) = report.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&report, "")?;
    let only: Vec<&str> = agents.iter().map(|agent| agent.name).collect();
    let mut test = cargo();
    test.args([
        "test",
        "--locked",
        "--package",
        "bridge-testkit",
        "--test",
        "real_agents",
        "--",
    ]);
    test.args(filter).args(["--test-threads", "2"]);
    test.env("CTRLNODE_E2E_AGENTS", folder)
        .env("CTRLNODE_E2E_ONLY", only.join(","))
        .env("CTRLNODE_E2E_REPORT", &report);
    if names.iter().any(|name| name == "all") {
        test.env("CTRLNODE_E2E_SLOW", "1");
    }
    let passed = pass(&mut test);
    for line in told(&fs::read_to_string(&report)?, &agents)? {
        say(&line);
    }
    passed
}

/// One line of the report: what became of one promise with one agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    promise: String,
    agent: String,
    result: Result,
    seconds: f64,
    /// Why not; empty where it was kept.
    why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Result {
    Passed,
    Failed,
    /// It cannot work with this agent.
    NotApplicable,
    /// It takes long and was not asked for.
    NotAskedFor,
}

/// The table and the reasons below it.
fn told(report: &str, agents: &[Pinned]) -> Done<Vec<String>> {
    let mut all: Vec<Kept> = Vec::new();
    for line in report.lines() {
        let kept = serde_json::from_str(line)
            .map_err(|error| Failure(format!("the report of the tests: {error}: {line}")))?;
        all.push(kept);
    }
    let mut promises: Vec<&str> = all.iter().map(|kept| kept.promise.as_str()).collect();
    promises.sort_unstable();
    promises.dedup();
    let mut notes: Vec<String> = Vec::new();
    let mut head = vec!["scenario".to_owned()];
    head.extend(agents.iter().map(|agent| agent.name.to_owned()));
    let mut rows = vec![head];
    for promise in promises {
        let mut row = vec![promise.replace('_', " ")];
        for agent in agents {
            let kept = all
                .iter()
                .find(|kept| kept.promise == promise && kept.agent == agent.name);
            row.push(kept.map_or_else(|| "not run".to_owned(), |kept| cell(kept, &mut notes)));
        }
        rows.push(row);
    }
    let mut lines = vec![String::new()];
    lines.extend(table::lines(&rows));
    let count = |result| all.iter().filter(|kept| kept.result == result).count();
    let left_out = count(Result::NotApplicable) + count(Result::NotAskedFor);
    let time = Duration::from_secs_f64(all.iter().map(|kept| kept.seconds.max(0.0)).sum());
    lines.push(String::new());
    lines.push(format!(
        "{} passed, {} failed, {left_out} left out; {} s of tests",
        count(Result::Passed),
        count(Result::Failed),
        time.as_secs()
    ));
    let numbered = notes.iter().enumerate();
    lines.extend(numbered.map(|(at, note)| format!("[{}] {note}", at + 1)));
    Ok(lines)
}

fn cell(kept: &Kept, notes: &mut Vec<String>) -> String {
    let mut note = || {
        let known = notes.iter().position(|note| *note == kept.why);
        let at = known.unwrap_or_else(|| {
            notes.push(kept.why.clone());
            notes.len() - 1
        });
        format!("[{}]", at + 1)
    };
    match kept.result {
        Result::Passed => format!("pass {:.1} s", kept.seconds),
        Result::Failed => format!("FAIL {}", note()),
        Result::NotApplicable => format!("n/a {}", note()),
        Result::NotAskedFor => format!("left out {}", note()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_that_are_not_kept_give_their_reason_once() {
        let report = r#"{"promise":"ends_it","agent":"claude","result":"passed","seconds":1.25,"why":""}
{"promise":"ends_it","agent":"gemini","result":"not-applicable","seconds":0.0,"why":"it does so itself"}
{"promise":"asks","agent":"gemini","result":"not-applicable","seconds":0.0,"why":"it does so itself"}
"#;
        let names = ["claude".to_owned(), "gemini".to_owned()];
        let lines = told(report, &agents::named(&names).unwrap()).unwrap();
        let wanted = [
            "",
            "scenario  claude      gemini",
            "asks      not run     n/a [1]",
            "ends it   pass 1.2 s  n/a [1]",
            "",
            "1 passed, 0 failed, 2 left out; 1 s of tests",
            "[1] it does so itself",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn a_report_that_cannot_be_read_is_a_failure() {
        assert!(told("nonsense\n", &[]).is_err());
    }
}
