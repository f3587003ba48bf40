//! Messages of a plain bridge about a run become the same events that our own bridge sends whole.

use std::collections::{HashMap, VecDeque};

use serde_json::Value;

use super::{
    PlainMessage, PlainRun,
    stream::{self, Streamed, ToolPatch},
};
use crate::{
    ctrlnode::CANCELLED_REASON,
    id::{AskId, BlockId, Digest, RunKey, TaskId},
    model::{
        Actor, Ask, AskEnd, AskKind, Choice, ChoiceKind, EventBody, Fault, Fix, Observed, Outcome,
        Rejection, RunEvent, ToolState, ToolStatus,
    },
};

/// Turns [`PlainRun`]s into events. Pure: no clock, no IO; the hub numbers and dates the events.
///
/// The plain wire names tasks, not runs, so the hub says with [`open`](Self::open) which run it
/// started; messages go to the oldest run of their task that has not ended, and messages of tasks
/// without one are dropped. Promises per run: `Started` at most once and before anything seen, no
/// text twice although one chunk arrives as up to three messages, exactly one terminal event
/// (`task_complete`, or else `intent_result`) and nothing after it.
#[derive(Debug, Default)]
pub struct Translator {
    tasks: HashMap<TaskId, VecDeque<OpenRun>>,
}

/// Events with the run they belong to, in order.
type Events = Vec<(RunKey, EventBody)>;

impl Translator {
    /// A run was sent to the bridge; a run that is open already stays as it is.
    pub fn open(&mut self, run: RunKey) {
        let runs = self.tasks.entry(run.task.clone()).or_default();
        // An `intent_result` that never came would keep ended runs forever.
        runs.retain(|open| !open.ended);
        if !runs.iter().any(|open| open.run == run) {
            runs.push_back(OpenRun::new(run));
        }
    }

    /// The hub closed the run itself: whatever still comes for it is dropped.
    pub fn close(&mut self, run: &RunKey) {
        self.remove(&run.task, |open| open.run == *run);
    }

    /// Whether the run was opened and has not ended.
    pub fn is_open(&self, run: &RunKey) -> bool {
        let runs = self.tasks.get(&run.task);
        runs.is_some_and(|runs| runs.iter().any(|open| open.run == *run && !open.ended))
    }

    /// A person answered the task's open question, with these words or the label of this option.
    /// The plain wire does not confirm it.
    pub fn on_answer(&mut self, task: &TaskId, answer: &str) -> Events {
        let Some(open) = self.current(task) else {
            return Vec::new();
        };
        open.close_ask(AskEnd::Answered {
            answer: answer.to_owned(),
        });
        open.take_events()
    }

    /// A message came.
    pub fn on(&mut self, message: PlainRun) -> Events {
        let PlainRun {
            task,
            agent: _,
            message,
        } = message;
        if let PlainMessage::IntentResult {
            request_id,
            execution_id,
            result,
            error,
        } = message
        {
            let ids = [execution_id, request_id];
            return self.on_intent_result(&task, &ids, result.as_deref(), error);
        }
        let Some(open) = self.current(&task) else {
            return Vec::new();
        };
        open.on(message);
        open.take_events()
    }

    fn on_intent_result(
        &mut self,
        task: &TaskId,
        ids: &[Option<String>; 2],
        result: Option<&str>,
        error: Option<String>,
    ) -> Events {
        let anonymous = ids.iter().all(Option::is_none);
        let meant =
            |open: &OpenRun| anonymous || ids.iter().flatten().any(|id| *id == open.run.attempt);
        let Some(mut open) = self.remove(task, meant) else {
            return Vec::new();
        };
        if !open.ended {
            open.on_intent_result(result, error);
        }
        open.take_events()
    }

    fn current(&mut self, task: &TaskId) -> Option<&mut OpenRun> {
        self.tasks
            .get_mut(task)?
            .iter_mut()
            .find(|open| !open.ended)
    }

    fn remove(&mut self, task: &TaskId, which: impl Fn(&OpenRun) -> bool) -> Option<OpenRun> {
        let runs = self.tasks.get_mut(task)?;
        let index = runs.iter().position(which)?;
        let removed = runs.remove(index);
        if runs.is_empty() {
            self.tasks.remove(task);
        }
        removed
    }
}

#[derive(Debug)]
struct OpenRun {
    run: RunKey,
    started: bool,
    ended: bool,
    text: TextSource,
    /// The last text that was passed on or withheld, to recognise its echo.
    last_text: String,
    /// The text of the last message, if that was thinking.
    last_thinking: Option<String>,
    /// Whether the last message was about a tool.
    after_tool: bool,
    blocks: u32,
    /// Whether the next text belongs to the current block.
    in_block: bool,
    tools: Vec<ToolState>,
    ask: Option<AskId>,
    asks: u32,
    events: Vec<EventBody>,
}

/// The messages that carry answer text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    Progress,
    Stream,
    Activity,
}

/// Which carrier counts. Every known bridge sends `agent_activity` for all text, last of the
/// three; a first chunk is held until the next message shows whether this one does too.
#[derive(Debug)]
enum TextSource {
    Undecided,
    Held(Carrier, String),
    Decided(Carrier),
}

impl OpenRun {
    fn new(run: RunKey) -> Self {
        Self {
            run,
            started: false,
            ended: false,
            text: TextSource::Undecided,
            last_text: String::new(),
            last_thinking: None,
            after_tool: false,
            blocks: 0,
            in_block: false,
            tools: Vec::new(),
            ask: None,
            asks: 0,
            events: Vec::new(),
        }
    }

    fn take_events(&mut self) -> Events {
        let events = std::mem::take(&mut self.events);
        events
            .into_iter()
            .map(|event| (self.run.clone(), event))
            .collect()
    }

    fn on(&mut self, message: PlainMessage) {
        match message {
            PlainMessage::Progress { kind, text, path } => self.on_progress(&kind, text, path),
            PlainMessage::Stream { event } => match stream::read(&event) {
                Some(Streamed::Text(text)) => self.on_text(Carrier::Stream, text),
                Some(Streamed::Tools(tools)) => self.on_tools(tools, &event),
                None => {}
            },
            PlainMessage::Activity { delta } => {
                if self.is_echo(&delta) {
                    return;
                }
                self.on_text(Carrier::Activity, &delta);
            }
            PlainMessage::Model { model } => self.see(RunEvent::Model { model }),
            PlainMessage::Waiting { prompt } => self.on_question(&prompt),
            PlainMessage::Complete {
                status,
                reason,
                own_fault,
            } => {
                self.end(outcome(status.as_deref(), reason, own_fault));
            }
            PlainMessage::IntentResult { result, error, .. } => {
                self.on_intent_result(result.as_deref(), error);
            }
        }
    }

    fn on_progress(&mut self, kind: &str, text: Option<String>, path: Option<String>) {
        match (kind, text, path) {
            ("text_chunk" | "text_delta", Some(text), _) => self.on_text(Carrier::Progress, &text),
            ("thinking" | "thinking_delta", Some(delta), _) if !delta.is_empty() => {
                self.see(RunEvent::Thinking {
                    delta: delta.clone(),
                });
                self.last_thinking = Some(delta);
            }
            ("file_written", _, Some(path)) => self.see(RunEvent::FileWritten { path }),
            ("run_status", Some(text), _) => self.see(RunEvent::Status { text }),
            ("tool_call" | "tool_result", _, _) => {
                self.flush();
                self.after_tool = true;
                self.last_thinking = None;
            }
            _ => {}
        }
    }

    /// Some bridges repeat thinking and tool titles as text of the answer.
    fn is_echo(&self, delta: &str) -> bool {
        let of_tool =
            delta.ends_with('\n') && delta.starts_with("→ ") || delta.starts_with("✓ tool ");
        self.last_thinking.as_deref() == Some(delta) || self.after_tool && of_tool
    }

    fn on_text(&mut self, carrier: Carrier, text: &str) {
        if text.is_empty() {
            return;
        }
        match std::mem::replace(&mut self.text, TextSource::Undecided) {
            TextSource::Decided(decided) if decided == carrier => {
                self.text = TextSource::Decided(carrier);
                self.say(text);
            }
            // It does send `agent_activity` after all: from here on that counts.
            TextSource::Decided(_) if carrier == Carrier::Activity => {
                self.text = TextSource::Decided(carrier);
                if self.last_text != text {
                    self.say(text);
                }
            }
            TextSource::Decided(decided) => self.text = TextSource::Decided(decided),
            TextSource::Undecided if carrier == Carrier::Activity => {
                self.text = TextSource::Decided(carrier);
                self.say(text);
            }
            TextSource::Undecided => self.text = TextSource::Held(carrier, text.to_owned()),
            TextSource::Held(_, held) if carrier == Carrier::Activity => {
                self.text = TextSource::Decided(carrier);
                if !text.starts_with(&held) {
                    self.say(&held);
                }
                self.say(text);
            }
            TextSource::Held(holder, held) if holder == carrier => {
                self.text = TextSource::Decided(carrier);
                self.say(&held);
                self.say(text);
            }
            TextSource::Held(holder, held) => self.text = TextSource::Held(holder, held),
        }
    }

    /// Passes on a chunk that is still held, because something else comes behind it.
    fn flush(&mut self) {
        match std::mem::replace(&mut self.text, TextSource::Undecided) {
            TextSource::Held(carrier, held) => {
                self.text = TextSource::Decided(carrier);
                self.say(&held);
            }
            other @ (TextSource::Undecided | TextSource::Decided(_)) => self.text = other,
        }
    }

    fn say(&mut self, text: &str) {
        if !self.in_block {
            self.blocks += 1;
            self.in_block = true;
        }
        let block = format!("answer-{}", self.blocks);
        let block = BlockId::parse(&block).expect("a short printable text is an identifier");
        self.push(
            RunEvent::Text {
                block,
                delta: text.to_owned(),
            }
            .into(),
        );
        text.clone_into(&mut self.last_text);
        self.last_thinking = None;
        self.after_tool = false;
    }

    fn on_tools(&mut self, tools: Vec<ToolPatch>, event: &Value) {
        // The shape around the agent's own message is the bridge's.
        let raw = event.get("raw").unwrap_or(event);
        for patch in tools {
            let index = self.tools.iter().position(|known| known.id == patch.id);
            let known = index.and_then(|index| self.tools.get(index));
            let tool = patch.applied_to(known);
            if known == Some(&tool) {
                continue;
            }
            match index.and_then(|index| self.tools.get_mut(index)) {
                Some(known) => *known = tool.clone(),
                None => self.tools.push(tool.clone()),
            }
            if self.tools.len() > MAX_TOOLS {
                self.tools.remove(0);
            }
            self.see(Observed {
                event: RunEvent::Tool(tool),
                raw: Some(raw.clone()),
            });
        }
        self.after_tool = true;
    }

    fn on_question(&mut self, prompt: &str) {
        self.close_ask(AskEnd::Withdrawn);
        self.asks += 1;
        let id = AskId::parse(&format!("plain-{}", self.asks));
        let id = id.expect("a short printable text is an identifier");
        let (summary, options) = question(prompt);
        let digest = Digest::of(&[
            self.run.task.as_str(),
            &self.run.attempt,
            id.as_str(),
            prompt,
        ]);
        self.ask = Some(id.clone());
        let kind = AskKind::Other;
        self.see(RunEvent::Ask(Ask {
            id,
            kind,
            summary,
            options,
            digest,
            tool: None,
            expires: None,
        }));
    }

    fn close_ask(&mut self, how: AskEnd) {
        if let Some(ask) = self.ask.take() {
            self.see(RunEvent::AskClosed { ask, how });
        }
    }

    /// The result of a run without a `task_complete`: it was rejected, or the frame was lost.
    fn on_intent_result(&mut self, result: Option<&str>, error: Option<String>) {
        match (result, error) {
            (Some(status), reason) => self.end(outcome(Some(status), reason, false)),
            (None, None) => self.end(Outcome::Completed),
            (None, Some(error)) => match rejection(&error).filter(|_| !self.started) {
                Some(rejection) => {
                    self.events.push(EventBody::Rejected(rejection));
                    self.ended = true;
                }
                None => self.end(Outcome::Failed {
                    fault: Fault::Bridge,
                    reason: error,
                }),
            },
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.flush();
        for mut tool in std::mem::take(&mut self.tools) {
            if matches!(tool.status, ToolStatus::Pending | ToolStatus::InProgress) {
                tool.status = ToolStatus::Unknown;
                self.see(RunEvent::Tool(tool));
            }
        }
        self.close_ask(AskEnd::Withdrawn);
        self.events.push(EventBody::Ended { outcome });
        self.ended = true;
    }

    /// Something that is not text: what is held comes before it, and a new block after it.
    fn see(&mut self, observed: impl Into<Observed>) {
        self.flush();
        self.in_block = false;
        self.after_tool = false;
        self.last_thinking = None;
        self.push(observed.into());
    }

    fn push(&mut self, observed: Observed) {
        if !self.started {
            self.started = true;
            self.events.push(EventBody::Started { conversation: None });
        }
        self.events.push(EventBody::Seen(Box::new(observed)));
    }
}

fn outcome(status: Option<&str>, reason: Option<String>, own_fault: bool) -> Outcome {
    let reason = reason.unwrap_or_default();
    match status {
        None | Some("completed" | "done") => Outcome::Completed,
        Some("blocked") => Outcome::Blocked {
            fix: fix(&reason),
            reason,
        },
        Some("failed") if reason == CANCELLED_REASON => Outcome::Cancelled { by: Actor::Person },
        Some("failed") => {
            let fault = if own_fault {
                Fault::Bridge
            } else {
                Fault::Agent
            };
            Outcome::Failed { fault, reason }
        }
        Some(other) => {
            let other: String = other.chars().take(64).collect();
            Outcome::Failed {
                fault: Fault::Bridge,
                reason: format!("unknown status: {other}"),
            }
        }
    }
}

/// The plain wire gives only words for what a person has to mend.
fn fix(reason: &str) -> Fix {
    const SIGNS: [(Fix, &[&str]); 4] = [
        (Fix::Agent, &["agent reported"]),
        (
            Fix::Limit,
            &["timed out", "time-out", "max_turns", "max turns"],
        ),
        (
            Fix::Credit,
            &["credit", "quota", "billing", "usage limit", "402"],
        ),
        (
            Fix::Login,
            &[
                "401",
                "unauthorized",
                "auth",
                "log in",
                "login",
                "api_key",
                "api key",
            ],
        ),
    ];
    let reason = reason.to_lowercase();
    let found = SIGNS
        .iter()
        .find(|(_, signs)| signs.iter().any(|sign| reason.contains(sign)));
    found.map_or(Fix::Setup, |(fix, _)| *fix)
}

fn rejection(error: &str) -> Option<Rejection> {
    match error {
        "AGENT_NOT_FOUND" => Some(Rejection::AgentNotFound),
        "MISSING_INTENT_PAYLOAD" => Some(Rejection::MissingIntentPayload),
        _ => error
            .strip_prefix("PROVIDER_NOT_ACTIVE:")
            .map(|provider| Rejection::ProviderNotActive {
                provider: provider.to_owned(),
            })
            .or_else(|| {
                error
                    .strip_prefix("INVALID_PATH: ")
                    .map(|reason| Rejection::PlaceRefused {
                        reason: reason.to_owned(),
                    })
            }),
    }
}

/// Takes the numbered options off the end of a prompt; their numbers are their ids, because a
/// number is what `input_response` may answer.
fn question(prompt: &str) -> (String, Vec<Choice>) {
    let lines: Vec<&str> = prompt.lines().collect();
    for (start, line) in lines.iter().enumerate().skip(1) {
        if !line.starts_with("1. ") {
            continue;
        }
        let numbered = lines.iter().skip(start).enumerate().map(|(index, line)| {
            let id = (index + 1).to_string();
            let label = line.strip_prefix(&id)?.strip_prefix(". ")?.to_owned();
            Some(Choice {
                id,
                label,
                kind: ChoiceKind::Plain,
            })
        });
        if let Some(options) = numbered.collect::<Option<Vec<_>>>() {
            let summary: Vec<&str> = lines.iter().take(start).copied().collect();
            return (summary.join("\n"), options);
        }
    }
    (prompt.to_owned(), Vec::new())
}

/// Tool calls of one run that are remembered for later updates; the oldest is forgotten first.
const MAX_TOOLS: usize = 256;
