//! What a session log of OpenClaw says that the HTTP endpoint does not: which tools were called and
//! what came of them. Pure: looks at a file and its bytes in, events out.
//!
//! Older gateways write a log of lines for each session; newer ones keep it elsewhere, and then
//! there is nothing to read. A log only ever adds to what is shown: no run waits for one.

use bridge_proto::model::{RunEvent, ToolStatus};
use serde_json::{Value, json};

use super::tools::Tools;
use crate::plain::head;

/// What a look at the file saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// What tells this file from another of its name.
    pub file: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// One log while it is followed.
#[derive(Debug, Default)]
pub struct SessionLog {
    file: Option<u64>,
    /// How far it was read.
    read: u64,
    /// The beginning of a line that is not whole yet.
    line: Vec<u8>,
    skipping: bool,
    skipped: u64,
    tools: Tools,
    /// Calls that the log gives no name.
    unnamed: u64,
}

impl SessionLog {
    /// Begins behind the last whole line that is there. `tail` is the end of the file, as much of
    /// it as was read.
    pub fn begin(&mut self, look: Look, tail: &[u8]) {
        let open = tail.rsplit(|byte| *byte == b'\n').next();
        let open = open.map_or(0, <[u8]>::len) as u64;
        self.file = Some(look.file);
        self.read = look.len.saturating_sub(open);
    }

    /// From where on the file is to be read now. Another file in its place, and one that became
    /// shorter, is read from its beginning.
    pub fn on_look(&mut self, look: Look) -> u64 {
        if self.file != Some(look.file) || look.len < self.read {
            self.file = Some(look.file);
            self.read = 0;
            self.line.clear();
            self.skipping = false;
        }
        self.read
    }

    /// The bytes from there on, or some of them. A line that is torn waits for its rest; one that
    /// is too long is skipped and counted.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Vec<RunEvent> {
        self.read += bytes.len() as u64;
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > MAX_LINE {
                self.line.clear();
                self.skipping = true;
            }
            if !self.skipping {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                if std::mem::take(&mut self.skipping) {
                    self.skipped += 1;
                } else if let Ok(entry) = serde_json::from_slice(&line) {
                    events.extend(self.on_entry(&entry));
                }
            }
        }
        events
    }

    /// How many lines were too long since this was asked last.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// The turn is over: of what is still open nobody knows more.
    pub fn close(&mut self) -> Vec<RunEvent> {
        self.tools.close(ToolStatus::Unknown)
    }

    fn on_entry(&mut self, entry: &Value) -> Vec<RunEvent> {
        let message = match entry.get("type").and_then(Value::as_str) {
            Some("message") => entry.get("message").unwrap_or(&Value::Null),
            Some(_) | None => return Vec::new(),
        };
        match message.get("role").and_then(Value::as_str) {
            Some("assistant") => self.calls(message),
            Some("tool" | "toolResult") => self.result(message),
            // What a person said is known, and text comes as it streams.
            Some(_) | None => Vec::new(),
        }
    }

    fn calls(&mut self, message: &Value) -> Vec<RunEvent> {
        let parts = message.get("content").and_then(Value::as_array);
        let mut events = Vec::new();
        for part in parts.into_iter().flatten() {
            if part.get("type").and_then(Value::as_str) == Some("toolCall") {
                let begun = json!({ "phase": "start", "toolCallId": part.get("id"),
                    "name": part.get("name"), "args": part.get("arguments") });
                events.extend(self.tools.on(&begun).unwrap_or_default());
            }
        }
        events
    }

    fn result(&mut self, message: &Value) -> Vec<RunEvent> {
        let text = |name: &str| message.get(name).and_then(Value::as_str);
        let named = text("toolCallId").map(str::to_owned);
        let id = named.unwrap_or_else(|| {
            self.unnamed += 1;
            format!("log-{}", self.unnamed)
        });
        let content = match message.get("content") {
            Some(Value::String(said)) => json!([{ "type": "text", "text": head(said, MAX_TEXT) }]),
            Some(content) => content.clone(),
            None => Value::Null,
        };
        let over = json!({ "phase": "result", "toolCallId": id, "name": text("toolName"),
            "isError": message.get("isError"),
            "result": { "content": content, "details": message.get("details") } });
        self.tools.on(&over).unwrap_or_default()
    }
}

/// The name of the log of a session, by what the gateway notes of its sessions: the first of these
/// keys that it knows. A name alone, because a log lies beside those notes.
pub fn log_of(sessions: &Value, keys: &[String]) -> Option<String> {
    let entry = keys.iter().find_map(|key| sessions.get(key))?;
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let name = match (text("sessionFile"), text("sessionId")) {
        (Some(file), _) => file.rsplit(['/', '\\']).next()?.to_owned(),
        (None, id) => format!("{}.jsonl", id?),
    };
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name = !name.starts_with('.') && name.len() <= MAX_NAME && name.chars().all(plain);
    is_name.then_some(name)
}

const MAX_LINE: usize = 4 << 20;
/// Bytes of a result that stands there as one text.
const MAX_TEXT: usize = 64 << 10;
const MAX_NAME: usize = 200;
