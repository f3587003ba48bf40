//! A replay as a text that a person can check: one line for everything that was said or happened,
//! compared with the file that was checked before.
//!
//! `>` is what the dialogue sends, `-` what it tells its owner, `#` a note about the recording.

use std::{env, fmt::Write as _, fs, path::Path};

use bridge_proto::model::{Outcome, RunEvent, ToolState};
use bridge_providers::dialogue::Step;
use serde_json::Value;

use crate::{
    recording::{AGENTS, Recording, folder},
    replay::{Replay, Told},
};

/// Compares the story of a replay with the snapshot of its name; writes it there when
/// `UPDATE_SNAPSHOTS` is set. Gives what differs.
pub(crate) fn compare(recording: &Recording, replay: &Replay) -> Option<String> {
    let text = render(replay);
    let file = folder("tests/snapshots").join(format!("{}.txt", recording.name));
    if env::var_os("UPDATE_SNAPSHOTS").is_some() {
        write(&file, &text);
        return None;
    }
    let wanted = fs::read_to_string(&file).unwrap_or_default();
    if wanted == text {
        return None;
    }
    let at = wanted
        .lines()
        .zip(text.lines())
        .take_while(|(wanted, got)| wanted == got)
        .count();
    let line = |text: &str| text.lines().nth(at).unwrap_or("(nothing)").to_owned();
    Some(format!(
        "{}, line {}:\n  checked: {}\n  now:     {}",
        recording.name,
        at + 1,
        line(&wanted),
        line(&text)
    ))
}

fn write(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}

/// Snapshots of these agents that belong to no recording any more.
pub(crate) fn stale(recordings: &[Recording]) -> Vec<String> {
    let names: Vec<&str> = recordings.iter().map(|one| one.name.as_str()).collect();
    let mut stale = Vec::new();
    for agent in AGENTS {
        let snapshots = folder("tests/snapshots").join(agent);
        for file in fs::read_dir(snapshots).unwrap().flatten() {
            let stem = file.path().with_extension("");
            let name = format!("{agent}/{}", stem.file_name().unwrap().to_string_lossy());
            if !names.contains(&name.as_str()) {
                stale.push(name);
            }
        }
    }
    stale
}

fn render(replay: &Replay) -> String {
    let mut lines: Vec<(String, usize)> = Vec::new();
    let mut texts: Option<(String, usize, String)> = None;
    for told in &replay.story {
        if let Some((label, delta)) = delta_of(told) {
            match &mut texts {
                Some((open, count, text)) if *open == label => {
                    *count += 1;
                    text.push_str(&delta);
                }
                _ => {
                    flush(&mut texts, &mut lines);
                    texts = Some((label, 1, delta));
                }
            }
            continue;
        }
        let Some(line) = line_of(told) else { continue };
        flush(&mut texts, &mut lines);
        match lines.last_mut() {
            Some((last, count)) if *last == line => *count += 1,
            _ => lines.push((line, 1)),
        }
    }
    flush(&mut texts, &mut lines);
    let mut out = String::new();
    for (line, count) in lines {
        match count {
            1 => writeln!(out, "{line}"),
            count => writeln!(out, "{line} ×{count}"),
        }
        .unwrap();
    }
    out
}

fn flush(texts: &mut Option<(String, usize, String)>, lines: &mut Vec<(String, usize)>) {
    if let Some((label, count, text)) = texts.take() {
        let pieces = if count == 1 {
            String::new()
        } else {
            format!(" in {count} pieces")
        };
        lines.push((format!("- {label}{pieces}: {}", quoted(&text)), 1));
    }
}

/// Text that comes in pieces.
fn delta_of(told: &Told) -> Option<(String, String)> {
    let Told::Step(Step::Emit(seen)) = told else {
        return None;
    };
    match &seen.event {
        RunEvent::Text { block, delta } => Some((format!("text {block}"), delta.clone())),
        RunEvent::Thinking { delta } => Some(("thinking".into(), delta.clone())),
        _ => None,
    }
}

/// `None` for what the line before says already.
fn line_of(told: &Told) -> Option<String> {
    let line = match told {
        Told::Note(note) => format!("# {note}"),
        Told::Step(step) => match step {
            Step::Send(line) => format!("> {}", sent(line)),
            Step::Prompted => return None,
            Step::Emit(seen) => format!("- {}", event(&seen.event)),
            Step::Resumable(id) => format!("- resumable as {id}"),
            Step::Applied(ask) => format!("- {ask} is taken"),
            Step::Injected(what) => format!("- injection {what:?}"),
            Step::TurnOver(end) => format!(
                "- TURN OVER: {}; answer {}",
                outcome(&end.outcome),
                quoted(&end.answer)
            ),
            Step::EndInput => "> end the input".to_owned(),
            Step::CloseInput(patience) => format!("> close the input, wait {patience:?}"),
            Step::Terminate(grace) => format!("> terminate, wait {grace:?}"),
        },
    };
    Some(line)
}

fn sent(line: &str) -> String {
    let message: Value = serde_json::from_str(line).unwrap();
    let params = &message["params"];
    let Some(method) = message["method"].as_str() else {
        let error = &message["error"]["code"];
        let outcome = &message["result"]["outcome"];
        let said = outcome["optionId"].as_str();
        let said = said.or_else(|| outcome["outcome"].as_str());
        return match (error.as_i64(), said) {
            (Some(code), _) => format!("answer {}: error {code}", message["id"]),
            (None, Some(said)) => format!("answer {}: {said}", message["id"]),
            (None, None) => format!("answer {}: {}", message["id"], message["result"]),
        };
    };
    let detail = ["modeId", "modelId", "value"]
        .iter()
        .find_map(|name| params[name].as_str().map(str::to_owned));
    let prompt = params["prompt"].as_array().map(|blocks| {
        let texts: Vec<_> = blocks
            .iter()
            .map(|block| quoted(block["text"].as_str().unwrap()))
            .collect();
        texts.join(" + ")
    });
    let about = detail.or(prompt).unwrap_or_default();
    format!("{method} {about}").trim_end().to_owned()
}

fn event(event: &RunEvent) -> String {
    match event {
        RunEvent::Text { .. } | RunEvent::Thinking { .. } => unreachable!("told in pieces"),
        RunEvent::TextReplaced { block, text } => format!("text {block} is now {}", quoted(text)),
        RunEvent::Tool(state) => tool(state),
        RunEvent::Plan { items } => {
            let items: Vec<_> = items
                .iter()
                .map(|item| format!("{:?} {}", item.status, item.text))
                .collect();
            format!("plan: {}", items.join("; "))
        }
        RunEvent::FileWritten { path } => format!("file written: {path}"),
        RunEvent::Ask(ask) => {
            let options: Vec<_> = ask
                .options
                .iter()
                .map(|choice| format!("{}={:?}", choice.id, choice.kind))
                .collect();
            let tool = ask.tool.as_ref().map(|tool| format!(" for {tool}"));
            format!(
                "ASK {} {:?}{}: {} [{}]",
                ask.id,
                ask.kind,
                tool.unwrap_or_default(),
                quoted(&ask.summary),
                options.join(" ")
            )
        }
        RunEvent::AskClosed { ask, how } => format!("{ask} is closed: {how:?}"),
        RunEvent::Model { model } => format!("model {model}"),
        RunEvent::Mode { mode } => format!("mode {mode}"),
        RunEvent::Effort { effort } => format!("effort {effort}"),
        RunEvent::Injected { text } => format!("injected {}", quoted(text)),
        RunEvent::Usage(usage) => format!(
            "usage: {} in, {} out{}",
            number(usage.input_tokens),
            number(usage.output_tokens),
            usage
                .cost_usd
                .map(|cost| format!(", ${cost:.6}"))
                .unwrap_or_default()
        ),
        RunEvent::Retrying(retry) => format!("retry {}: {}", retry.attempt, retry.reason),
        RunEvent::Silent { seconds } => format!("silent for {seconds} s"),
        RunEvent::Status { text } => format!("status: {text}"),
        RunEvent::Other { what } => format!("other: {what}"),
    }
}

fn number(count: Option<u64>) -> String {
    count.map_or_else(|| "?".into(), |count| count.to_string())
}

fn tool(state: &ToolState) -> String {
    let mut line = format!(
        "tool {} {:?} {:?} {}",
        state.id,
        state.kind,
        state.status,
        quoted(&state.title)
    );
    if let Some(input) = &state.input {
        write!(line, "; input {}", quoted(&input.to_string())).unwrap();
    }
    let places: Vec<_> = state.locations.iter().map(|at| at.path.as_str()).collect();
    if !places.is_empty() {
        write!(line, "; at {}", places.join(", ")).unwrap();
    }
    for diff in &state.diffs {
        let old = diff.old.as_deref().map_or_else(|| "nothing".into(), quoted);
        write!(line, "; {}: {old} -> {}", diff.path, quoted(&diff.new)).unwrap();
    }
    if let Some(output) = &state.output {
        write!(line, "; gave {}", quoted(output)).unwrap();
    }
    line
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed => "completed".into(),
        Outcome::Failed { fault, reason } => format!("failed by {fault:?}: {reason}"),
        Outcome::Blocked { fix, reason } => format!("blocked until {fix:?}: {reason}"),
        Outcome::Cancelled { by } => format!("cancelled by {by:?}"),
    }
}

/// Text on one line, with its middle left out when it is long.
fn quoted(text: &str) -> String {
    let text = format!("{text:?}");
    let count = text.chars().count();
    if count <= LONG {
        return text;
    }
    let head: String = text.chars().take(LONG / 2).collect();
    let tail: String = text.chars().skip(count - LONG / 2).collect();
    format!("{head} … {tail}")
}

const LONG: usize = 160;
