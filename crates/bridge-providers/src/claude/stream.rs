//! The answer as it streams: every text is shown exactly once, although the program sends it
//! twice (increments, then the finished block) and begins again after a cut connection.
//!
//! Text is keyed by message id and block index. The `assistant` line of a block comes before the
//! block's `content_block_stop` and is the truth; a block that never gets one and whose message
//! was given up is withdrawn.

use bridge_proto::{BlockId, model::RunEvent};
use serde_json::Value;

use super::tools::Tools;
use crate::answer::Answer;

/// The main conversation's current message.
#[derive(Debug, Default)]
pub(super) struct Stream {
    message: Option<Message>,
}

#[derive(Debug)]
struct Message {
    id: String,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    index: u64,
    part: Part,
    /// Its `assistant` line was seen.
    finished: bool,
}

#[derive(Debug)]
enum Part {
    Text(BlockId),
    /// Whether any of it was streamed.
    Thinking(bool),
    Tool {
        id: String,
        name: String,
        json: String,
    },
    Other,
}

impl Stream {
    /// One streaming event of the main conversation.
    pub(super) fn on_event(
        &mut self,
        event: &Value,
        answer: &mut Answer,
        tools: &mut Tools,
    ) -> Vec<RunEvent> {
        let index = event
            .get("index")
            .and_then(Value::as_u64)
            .unwrap_or_default();
        match event
            .get("type")
            .and_then(Value::as_str)
            .unwrap_or_default()
        {
            "message_start" => {
                let events = self.abandon(0, answer, tools);
                let id = event
                    .pointer("/message/id")
                    .and_then(Value::as_str)
                    .unwrap_or("message");
                self.message = Some(Message {
                    id: id.to_owned(),
                    blocks: Vec::new(),
                });
                events
            }
            "content_block_start" => self.start(index, event.get("content_block"), answer, tools),
            "content_block_delta" => match event.get("delta") {
                Some(delta) => self.delta(index, delta, answer),
                None => Vec::new(),
            },
            "content_block_stop" => self.stop(index, tools),
            _ => Vec::new(),
        }
    }

    /// A finished block, or several. `synthetic` messages are made by the program, not a model.
    pub(super) fn on_assistant(
        &mut self,
        message: &Value,
        answer: &mut Answer,
        tools: &mut Tools,
    ) -> Vec<RunEvent> {
        let id = message
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or("message");
        let current = match &mut self.message {
            Some(current) if current.id == id => current,
            slot => slot.insert(Message {
                id: id.to_owned(),
                blocks: Vec::new(),
            }),
        };
        let mut events = Vec::new();
        for block in message
            .get("content")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let text = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
            match text("type") {
                "text" => {
                    let block_id = current.finish_text();
                    let whole = text("text");
                    if !answer.says(&block_id, whole) {
                        let shown = !answer.says(&block_id, "");
                        answer.replace(&block_id, whole);
                        events.push(shown_text(block_id, whole, shown));
                    }
                }
                "thinking" => {
                    let streamed = current.finish_thinking();
                    if !streamed && !text("thinking").is_empty() {
                        events.push(RunEvent::Thinking {
                            delta: text("thinking").to_owned(),
                        });
                    }
                }
                "tool_use" | "server_tool_use" => {
                    current.finish_tool(text("id"));
                    let input = block.get("input").unwrap_or(&Value::Null);
                    events.extend(tools.called(text("id"), text("name"), input));
                }
                _ => {
                    current.add(Part::Other);
                }
            }
        }
        events
    }

    /// The current message was given up from this block on; what was shown of it is withdrawn.
    pub(super) fn abandon(
        &mut self,
        from: u64,
        answer: &mut Answer,
        tools: &mut Tools,
    ) -> Vec<RunEvent> {
        let Some(message) = &mut self.message else {
            return Vec::new();
        };
        let mut events = Vec::new();
        for block in &mut message.blocks {
            if block.finished || block.index < from {
                continue;
            }
            block.finished = true;
            match &block.part {
                Part::Text(id) => {
                    if !answer.says(id, "") {
                        answer.replace(id, "");
                        events.push(RunEvent::TextReplaced {
                            block: id.clone(),
                            text: String::new(),
                        });
                    }
                }
                Part::Tool { id, .. } => events.extend(tools.abandon(id)),
                Part::Thinking(_) | Part::Other => {}
            }
        }
        events
    }

    /// The turn is over; what was not finished stays as it was shown.
    pub(super) fn clear(&mut self) {
        self.message = None;
    }

    fn start(
        &mut self,
        index: u64,
        content: Option<&Value>,
        answer: &mut Answer,
        tools: &mut Tools,
    ) -> Vec<RunEvent> {
        let Some(message) = &mut self.message else {
            return Vec::new();
        };
        if message.blocks.len() >= MAX_BLOCKS || message.has(index) {
            return Vec::new();
        }
        let text = |name: &str| {
            content
                .and_then(|c| c.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let (part, event) = match text("type") {
            "text" => {
                let id = block_id(&message.id, index);
                let first = text("text");
                let event = (!first.is_empty()).then(|| {
                    answer.append(&id, first);
                    RunEvent::Text {
                        block: id.clone(),
                        delta: first.to_owned(),
                    }
                });
                (Part::Text(id), event)
            }
            "thinking" => (Part::Thinking(false), None),
            "tool_use" | "server_tool_use" => {
                let (id, name) = (text("id").to_owned(), text("name").to_owned());
                let event = tools.announce(&id, &name);
                (
                    Part::Tool {
                        id,
                        name,
                        json: String::new(),
                    },
                    event,
                )
            }
            _ => (Part::Other, None),
        };
        message.blocks.push(Block {
            index,
            part,
            finished: false,
        });
        event.into_iter().collect()
    }

    fn delta(&mut self, index: u64, delta: &Value, answer: &mut Answer) -> Vec<RunEvent> {
        let Some(block) = self.block(index) else {
            return Vec::new();
        };
        if block.finished {
            return Vec::new();
        }
        let text = |name: &str| delta.get(name).and_then(Value::as_str).unwrap_or_default();
        match &mut block.part {
            Part::Text(id) => {
                let more = text("text");
                if more.is_empty() {
                    return Vec::new();
                }
                answer.append(id, more);
                vec![RunEvent::Text {
                    block: id.clone(),
                    delta: more.to_owned(),
                }]
            }
            Part::Thinking(streamed) => {
                let more = text("thinking");
                if more.is_empty() {
                    return Vec::new();
                }
                *streamed = true;
                vec![RunEvent::Thinking {
                    delta: more.to_owned(),
                }]
            }
            Part::Tool { json, .. } => {
                let more = text("partial_json");
                if json.len() + more.len() <= MAX_JSON {
                    json.push_str(more);
                } else {
                    json.clear();
                    block.part = Part::Other;
                }
                Vec::new()
            }
            Part::Other => Vec::new(),
        }
    }

    /// The input of a call whose `assistant` line did not come is put together from its pieces.
    fn stop(&mut self, index: u64, tools: &mut Tools) -> Vec<RunEvent> {
        let Some(block) = self.block(index) else {
            return Vec::new();
        };
        if block.finished {
            return Vec::new();
        }
        match &mut block.part {
            Part::Tool { id, name, json } => {
                let json = std::mem::take(json);
                let input: Option<Value> = serde_json::from_str(&json).ok();
                match input {
                    Some(input) => tools.called(id, name, &input),
                    None => Vec::new(),
                }
            }
            Part::Text(_) | Part::Thinking(_) | Part::Other => Vec::new(),
        }
    }

    fn block(&mut self, index: u64) -> Option<&mut Block> {
        self.message
            .as_mut()?
            .blocks
            .iter_mut()
            .rev()
            .find(|block| block.index == index)
    }
}

impl Message {
    fn has(&self, index: u64) -> bool {
        self.blocks.iter().any(|block| block.index == index)
    }

    /// The first text block that waits for its end, or a new one.
    fn finish_text(&mut self) -> BlockId {
        for block in &mut self.blocks {
            if let (Part::Text(id), false) = (&block.part, block.finished) {
                block.finished = true;
                return id.clone();
            }
        }
        let index = self.add(Part::Other);
        block_id(&self.id, index)
    }

    fn finish_thinking(&mut self) -> bool {
        for block in &mut self.blocks {
            if let (Part::Thinking(streamed), false) = (&block.part, block.finished) {
                block.finished = true;
                return *streamed;
            }
        }
        self.add(Part::Other);
        false
    }

    fn finish_tool(&mut self, wanted: &str) {
        for block in &mut self.blocks {
            if matches!(&block.part, Part::Tool { id, .. } if id == wanted) {
                block.finished = true;
                return;
            }
        }
        self.add(Part::Other);
    }

    /// A block that was not streamed; gives its index.
    fn add(&mut self, part: Part) -> u64 {
        let index = self
            .blocks
            .iter()
            .map(|block| block.index.saturating_add(1))
            .max()
            .unwrap_or_default();
        if self.blocks.len() < MAX_BLOCKS {
            self.blocks.push(Block {
                index,
                part,
                finished: true,
            });
        }
        index
    }
}

fn shown_text(block: BlockId, text: &str, shown: bool) -> RunEvent {
    if shown {
        RunEvent::TextReplaced {
            block,
            text: text.to_owned(),
        }
    } else {
        RunEvent::Text {
            block,
            delta: text.to_owned(),
        }
    }
}

/// `<message id>-<index>`; an id that cannot be one is replaced.
fn block_id(message: &str, index: u64) -> BlockId {
    BlockId::parse(&format!("{message}-{index}"))
        .or_else(|_| BlockId::parse(&format!("message-{index}")))
        .expect("a word and a number are a valid id")
}

/// Most blocks of one message that are followed.
const MAX_BLOCKS: usize = 1024;
/// Most bytes of a tool's input put together from pieces; the `assistant` line has it whole.
const MAX_JSON: usize = 1 << 20;
