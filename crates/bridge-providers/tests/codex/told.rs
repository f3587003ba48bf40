//! Everything a dialogue did, and how a person reads it.

use std::fmt::Write as _;

use bridge_proto::model::{Ask, FileDiff, Outcome, RunEvent, ToolState};
use bridge_providers::{
    dialogue::{Dialogue, Step},
    provider::{Injection, TurnEnd},
};
use serde_json::Value;

#[derive(Default)]
pub(crate) struct Told {
    pub(crate) steps: Vec<Step>,
}

impl Told {
    /// Takes everything the dialogue wants.
    pub(crate) fn drain(&mut self, dialogue: &mut impl Dialogue) {
        while let Some(step) = dialogue.next_step() {
            self.steps.push(step);
        }
    }

    pub(crate) fn sent(&self) -> Vec<Value> {
        let lines = self.steps.iter().filter_map(|step| match step {
            Step::Send(line) => Some(serde_json::from_str(line).unwrap()),
            _ => None,
        });
        lines.collect()
    }

    /// The methods of what was sent; answers are told by what they decide.
    pub(crate) fn said(&self) -> Vec<String> {
        self.sent().iter().map(kind_of).collect()
    }

    pub(crate) fn events(&self) -> Vec<&RunEvent> {
        let events = self.steps.iter().filter_map(|step| match step {
            Step::Emit(seen) => Some(&seen.event),
            _ => None,
        });
        events.collect()
    }

    pub(crate) fn asks(&self) -> Vec<&Ask> {
        let asks = self.events().into_iter().filter_map(|event| match event {
            RunEvent::Ask(ask) => Some(ask),
            _ => None,
        });
        asks.collect()
    }

    pub(crate) fn tools(&self) -> Vec<&ToolState> {
        let tools = self.events().into_iter().filter_map(|event| match event {
            RunEvent::Tool(tool) => Some(tool),
            _ => None,
        });
        tools.collect()
    }

    pub(crate) fn ends(&self) -> Vec<&TurnEnd> {
        let ends = self.steps.iter().filter_map(|step| match step {
            Step::TurnOver(end) => Some(end),
            _ => None,
        });
        ends.collect()
    }

    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        let ends = self.ends().into_iter();
        ends.map(|end| end.outcome.clone()).collect()
    }

    pub(crate) fn injected(&self) -> Vec<Injection> {
        let injected = self.steps.iter().filter_map(|step| match step {
            Step::Injected(injection) => Some(*injection),
            _ => None,
        });
        injected.collect()
    }

    pub(crate) fn has(&self, wanted: impl Fn(&RunEvent) -> bool) -> bool {
        self.events().into_iter().any(wanted)
    }

    /// One line per step; increments of the same text are one.
    pub(crate) fn summary(&self) -> String {
        let mut out = String::new();
        let mut run: Option<(String, String, usize)> = None;
        for step in &self.steps {
            if let Some((kind, piece)) = stream(step) {
                match &mut run {
                    Some((before, text, pieces)) if *before == kind => {
                        text.push_str(piece);
                        *pieces += 1;
                    }
                    _ => {
                        flush(&mut out, run.take());
                        run = Some((kind, piece.to_owned(), 1));
                    }
                }
                continue;
            }
            let Some(line) = line(step) else { continue };
            flush(&mut out, run.take());
            writeln!(out, "{line}").unwrap();
        }
        flush(&mut out, run);
        out
    }
}

pub(crate) fn kind_of(message: &Value) -> String {
    if let Some(method) = message["method"].as_str() {
        return method.to_owned();
    }
    match (message.pointer("/result/decision"), message.get("error")) {
        (Some(decision), _) => format!("answer {}", decision.as_str().unwrap()),
        (None, Some(error)) => format!("error {}", error["code"]),
        (None, None) => format!("answer {}", message["result"]),
    }
}

fn stream(step: &Step) -> Option<(String, &str)> {
    let Step::Emit(seen) = step else { return None };
    match &seen.event {
        RunEvent::Text { block, delta } => Some((format!("text {block}"), delta)),
        RunEvent::Thinking { delta } => Some(("thinking".to_owned(), delta)),
        _ => None,
    }
}

fn flush(out: &mut String, run: Option<(String, String, usize)>) {
    if let Some((kind, text, pieces)) = run {
        writeln!(out, "{kind}: {} ({pieces} pieces)", quote(&text)).unwrap();
    }
}

/// `None` for what the line before says already.
fn line(step: &Step) -> Option<String> {
    let line = match step {
        Step::Prompted => return None,
        Step::Send(line) => {
            let message: Value = serde_json::from_str(line).unwrap();
            let params = &message["params"];
            let more: Vec<String> = ["sandbox", "approvalPolicy", "model", "effort", "threadId"]
                .iter()
                .filter(|_| kind_of(&message) != "turn/interrupt")
                .filter_map(|name| Some(format!("{name}={}", params[*name].as_str()?)))
                .filter(|word| {
                    !word.starts_with("threadId") || message["method"] == "thread/resume"
                })
                .collect();
            format!("> {} {}", kind_of(&message), more.join(" "))
                .trim_end()
                .to_owned()
        }
        Step::Emit(seen) => {
            let raw = if seen.raw.is_some() {
                " (with its words)"
            } else {
                ""
            };
            format!("{}{raw}", event(&seen.event))
        }
        Step::Resumable(id) => format!("resumable {id}"),
        Step::Applied(ask) => format!("applied {ask}"),
        Step::Injected(what) => format!("injected {what:?}"),
        Step::TurnOver(end) => format!("OVER {:?}, answer {}", end.outcome, quote(&end.answer)),
        Step::EndInput => "> end of input".to_owned(),
        Step::CloseInput(patience) => format!("close input within {patience:?}"),
        Step::Terminate(grace) => format!("terminate within {grace:?}"),
    };
    Some(line)
}

fn event(event: &RunEvent) -> String {
    match event {
        RunEvent::TextReplaced { block, text } => format!("replaced {block}: {}", quote(text)),
        RunEvent::Tool(tool) => {
            let mut line = format!(
                "tool {} [{:?} {:?}] {}",
                tool.id, tool.kind, tool.status, tool.title
            );
            if let Some(output) = &tool.output {
                write!(line, " => {}", quote(output)).unwrap();
            }
            for diff in &tool.diffs {
                write!(line, " | {}", change(diff)).unwrap();
            }
            line
        }
        RunEvent::Plan { items } => format!("plan {items:?}"),
        RunEvent::FileWritten { path } => format!("wrote {path}"),
        RunEvent::Ask(ask) => {
            let options: Vec<&str> = ask.options.iter().map(|one| one.id.as_str()).collect();
            let tool = ask.tool.as_ref().map_or("-", |tool| tool.as_str());
            format!(
                "ASK {} {:?} for {tool}: {} {options:?}",
                ask.id,
                ask.kind,
                quote(&ask.summary)
            )
        }
        RunEvent::AskClosed { ask, how } => format!("ask {ask} closed: {how:?}"),
        RunEvent::Usage(usage) => format!(
            "usage in {} out {}",
            usage.input_tokens.unwrap(),
            usage.output_tokens.unwrap()
        ),
        RunEvent::Other { what } => format!("other {what}"),
        other => format!("{other:?}"),
    }
}

fn change(diff: &FileDiff) -> String {
    match &diff.old {
        Some(old) => format!("{}: {} -> {}", diff.path, quote(old), quote(&diff.new)),
        None => format!("{}: new {}", diff.path, quote(&diff.new)),
    }
}

/// Long texts by their ends.
fn quote(text: &str) -> String {
    let all: Vec<char> = text.chars().collect();
    if all.len() <= 200 {
        return format!("{text:?}");
    }
    let (head, tail) = (&all[..60], &all[all.len() - 60..]);
    let (head, tail): (String, String) = (head.iter().collect(), tail.iter().collect());
    format!("{head:?} … {tail:?} ({} characters)", all.len())
}
