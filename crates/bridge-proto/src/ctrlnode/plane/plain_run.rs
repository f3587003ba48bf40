//! One run of a plain bridge while it lasts: which text was shown, which tools and which question
//! are open, whether it has ended.

use serde_json::Value;

use super::{
    PlainMessage,
    meaning::{outcome, question, rejection},
    stream::{self, Streamed, ToolPatch},
    translate::Events,
};
use crate::{
    id::{AskId, BlockId, Digest, RunKey},
    model::{
        Ask, AskEnd, AskKind, EventBody, Fault, Observed, Outcome, RunEvent, ToolState, ToolStatus,
    },
};

/// What is remembered of a run while its messages come.
#[derive(Debug)]
pub(super) struct OpenRun {
    pub(super) run: RunKey,
    started: bool,
    pub(super) ended: bool,
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
    pub(super) fn new(run: RunKey) -> Self {
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

    pub(super) fn take_events(&mut self) -> Events {
        let events = std::mem::take(&mut self.events);
        events
            .into_iter()
            .map(|event| (self.run.clone(), event))
            .collect()
    }

    pub(super) fn on(&mut self, message: PlainMessage) {
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
            answered: None,
            action: None,
        }));
    }

    pub(super) fn close_ask(&mut self, how: AskEnd) {
        if let Some(ask) = self.ask.take() {
            self.see(RunEvent::AskClosed { ask, how });
        }
    }

    /// The result of a run without a `task_complete`: it was rejected, or the frame was lost.
    pub(super) fn on_intent_result(&mut self, result: Option<&str>, error: Option<String>) {
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

/// Tool calls of one run that are remembered for later updates; the oldest is forgotten first.
const MAX_TOOLS: usize = 256;
