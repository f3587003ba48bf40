//! What was said in a conversation, as it is remembered and as it is sent to a model, which reads
//! only so much. Pure.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::reply::WantedCall;
use crate::plain::shorten;

/// The messages of a conversation, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    messages: Vec<Message>,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Message {
    /// What the person wrote.
    User { text: String },
    /// What the model answered.
    Model { text: String, calls: Vec<Call> },
    /// What a tool gave.
    Tool {
        call: String,
        name: String,
        fenced: bool,
        text: String,
    },
}

/// A tool call of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
    /// It stood in the text, and is in it still.
    pub(super) fenced: bool,
}

/// How a history is put to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tongue {
    /// Calls and results have a place of their own.
    Tools,
    /// Calls and results stand in the text.
    Text,
}

impl Call {
    /// A call as the model wanted it; `own` stands in for an id it left out.
    pub(super) fn new(wanted: &WantedCall, own: &str) -> Self {
        Self {
            id: if wanted.id.is_empty() {
                own.to_owned()
            } else {
                wanted.id.clone()
            },
            name: wanted.name.clone(),
            arguments: wanted.arguments.clone(),
            fenced: wanted.fenced,
        }
    }
}

impl Call {
    /// Leaves out what a file was to hold; which file it was stays.
    fn lighten(&mut self) {
        let parsed = serde_json::from_str(&self.arguments);
        let mut fields: Map<String, Value> = parsed.unwrap_or_default();
        for value in fields.values_mut() {
            if value.as_str().is_none_or(|text| text.len() > SHORTEST) {
                *value = json!(LEFT_OUT);
            }
        }
        let light = Value::Object(fields).to_string();
        if light.len() < self.arguments.len() {
            self.arguments = light;
        }
    }
}

impl History {
    /// Adds a message and forgets the oldest turns of a conversation that has grown too large.
    pub(super) fn push(&mut self, message: Message) {
        self.messages.push(message);
        self.keep_within(KEPT_BYTES);
    }

    /// The messages, oldest first.
    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The messages for a request, of at most about `budget` bytes: first the results of older
    /// tool calls are left out, then the oldest turns.
    pub(super) fn for_model(&self, tongue: Tongue, budget: usize) -> Vec<Value> {
        let mut kept = self.clone();
        let fresh = kept.messages.len().saturating_sub(FRESH);
        let mut size = kept.size();
        for message in kept.messages.iter_mut().take(fresh) {
            if size <= budget {
                break;
            }
            if let Message::Tool { text, .. } = message
                && text.len() > LEFT_OUT.len()
            {
                size -= text.len() - LEFT_OUT.len();
                LEFT_OUT.clone_into(text);
            }
        }
        kept.keep_within(budget);
        kept.messages
            .iter()
            .map(|message| message.put(tongue))
            .collect()
    }

    /// Drops whole turns from the front; of a single turn that is too large, the middle of its
    /// longest texts.
    fn keep_within(&mut self, budget: usize) {
        let mut size = self.size();
        while size > budget {
            let next = self
                .messages
                .iter()
                .skip(1)
                .position(|message| matches!(message, Message::User { .. }));
            let Some(next) = next else { break };
            let gone: usize = self.messages.drain(..=next).map(|m| m.size()).sum();
            size = size.saturating_sub(gone);
        }
        while size > budget {
            let Some(largest) = self.messages.iter_mut().max_by_key(|m| m.size()) else {
                return;
            };
            let before = largest.size();
            largest.lighten(size - budget);
            let gone = before.saturating_sub(largest.size());
            if gone == 0 {
                return;
            }
            size -= gone;
        }
    }

    fn size(&self) -> usize {
        self.messages.iter().map(Message::size).sum()
    }
}

impl Message {
    fn size(&self) -> usize {
        let own = match self {
            Self::User { text } | Self::Tool { text, .. } => text.len(),
            Self::Model { text, calls } => {
                let calls = calls.iter().map(|call| call.arguments.len() + CALL_COST);
                text.len() + calls.sum::<usize>()
            }
        };
        own + MESSAGE_COST
    }

    /// Makes the largest part of it smaller by about this much, if it can be.
    fn lighten(&mut self, excess: usize) {
        if let Self::Model { text, calls } = self {
            let arguments: usize = calls.iter().map(|call| call.arguments.len()).sum();
            if arguments > text.len() {
                for call in calls {
                    call.lighten();
                }
                return;
            }
        }
        match self {
            Self::User { text } | Self::Tool { text, .. } | Self::Model { text, .. } => {
                let before = text.len();
                let less = before.saturating_sub(excess + MARK).max(before / 4);
                if before > SHORTEST {
                    *text = shorten(text, less).into_owned();
                }
            }
        }
    }

    fn put(&self, tongue: Tongue) -> Value {
        match self {
            Self::User { text } => json!({ "role": "user", "content": text }),
            Self::Model { text, calls } => {
                let own: Vec<&Call> = calls.iter().filter(|call| !call.fenced).collect();
                match tongue {
                    Tongue::Tools if !own.is_empty() => {
                        let calls: Vec<Value> = own
                            .iter()
                            .map(|call| {
                                json!({ "id": call.id, "type": "function", "function":
                                    { "name": call.name, "arguments": call.arguments } })
                            })
                            .collect();
                        json!({ "role": "assistant", "content": text, "tool_calls": calls })
                    }
                    Tongue::Tools => json!({ "role": "assistant", "content": text }),
                    Tongue::Text => {
                        let mut text = text.clone();
                        for call in own {
                            text.push_str(&format_call(call));
                        }
                        json!({ "role": "assistant", "content": text })
                    }
                }
            }
            Self::Tool {
                call,
                name,
                fenced,
                text,
            } => {
                if tongue == Tongue::Tools && !fenced {
                    return json!({ "role": "tool", "tool_call_id": call, "content": text });
                }
                json!({ "role": "user", "content": format!("The tool {name} gave:\n\n{text}") })
            }
        }
    }
}

fn format_call(call: &Call) -> String {
    let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_default();
    let call = json!({ "name": call.name, "arguments": arguments });
    format!("\n```json\n{call}\n```\n")
}

/// Of one conversation, in memory and on disk.
const KEPT_BYTES: usize = 2 << 20;
/// Messages at the end whose tool results are never left out.
const FRESH: usize = 6;
const LEFT_OUT: &str = "(left out: too long ago)";
/// What a message costs beside its text.
const MESSAGE_COST: usize = 40;
const CALL_COST: usize = 80;
/// What a shortened text says about what is missing.
const MARK: usize = 60;
const SHORTEST: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Message {
        Message::User { text: text.into() }
    }

    fn model(text: &str, calls: Vec<Call>) -> Message {
        Message::Model {
            text: text.into(),
            calls,
        }
    }

    fn call(fenced: bool) -> Call {
        Call {
            id: "c1".into(),
            name: "read_file".into(),
            arguments: "{\"path\":\"a\"}".into(),
            fenced,
        }
    }

    fn gave(text: &str, fenced: bool) -> Message {
        Message::Tool {
            call: "c1".into(),
            name: "read_file".into(),
            fenced,
            text: text.into(),
        }
    }

    fn history(messages: Vec<Message>) -> History {
        History { messages }
    }

    #[test]
    fn a_model_with_tools_gets_calls_and_results_in_their_places() {
        let history = history(vec![
            user("look"),
            model("", vec![call(false)]),
            gave("text", false),
        ]);
        let sent = history.for_model(Tongue::Tools, 10_000);
        assert_eq!(sent[1]["tool_calls"][0]["id"], "c1");
        let result = json!({ "role": "tool", "tool_call_id": "c1", "content": "text" });
        assert_eq!(sent[2], result);
    }

    #[test]
    fn a_model_without_tools_gets_them_as_text() {
        let history = history(vec![
            user("look"),
            model("I look.", vec![call(false)]),
            gave("text", false),
        ]);
        let sent = history.for_model(Tongue::Text, 10_000);
        let said = sent[1]["content"].as_str().unwrap();
        assert!(
            said.starts_with("I look.\n```json\n") && said.contains("\"path\":\"a\""),
            "{said}"
        );
        assert_eq!(sent[2]["role"], "user");
    }

    #[test]
    fn a_call_that_stood_in_the_text_stays_there() {
        let history = history(vec![model("```…```", vec![call(true)]), gave("text", true)]);
        for tongue in [Tongue::Tools, Tongue::Text] {
            let sent = history.for_model(tongue, 10_000);
            assert_eq!(
                sent[0],
                json!({ "role": "assistant", "content": "```…```" })
            );
            assert_eq!(sent[1]["role"], "user");
        }
    }

    #[test]
    fn what_is_old_is_left_out_first_and_whole_turns_after_it() {
        let mut long = vec![user("one"), gave(&"x".repeat(5000), false)];
        long.extend((0..6).map(|n| user(&format!("later {n}"))));
        let history = history(long);
        let sent = history.for_model(Tongue::Tools, 3000);
        assert_eq!(sent[1]["content"], LEFT_OUT);
        assert_eq!(sent.len(), 8);
        let sent = history.for_model(Tongue::Tools, 150);
        assert_eq!(sent.first().unwrap()["content"], "later 3");
    }

    #[test]
    fn one_turn_that_is_too_large_loses_the_middle_of_its_texts() {
        let history = history(vec![
            user("find it"),
            gave(&"ä".repeat(50_000), false),
            model("b", Vec::new()),
        ]);
        let sent = history.for_model(Tongue::Tools, 8000);
        assert_eq!(sent.len(), 3);
        let size: usize = sent
            .iter()
            .map(|m| m["content"].as_str().unwrap().len())
            .sum();
        assert!((4000..8000).contains(&size), "{size}");
        assert_eq!(sent[0]["content"], "find it");
    }

    #[test]
    fn a_conversation_does_not_grow_without_bound() {
        let mut history = History::default();
        for _ in 0..50 {
            history.push(user(&"x".repeat(100_000)));
        }
        assert!(history.size() <= KEPT_BYTES);
        history.push(user(&"y".repeat(5 << 20)));
        assert!(history.size() <= KEPT_BYTES, "{}", history.size());
    }

    #[test]
    fn a_turn_that_writes_many_large_files_is_bounded_too() {
        let mut history = History::default();
        history.push(user("write"));
        for n in 0..20 {
            let arguments = json!({ "path": format!("f{n}"), "content": "x".repeat(1 << 20) });
            let call = Call {
                arguments: arguments.to_string(),
                ..call(false)
            };
            history.push(model("", vec![call]));
            history.push(gave("written", false));
        }
        assert!(history.size() <= KEPT_BYTES, "{}", history.size());
        let sent = history.for_model(Tongue::Tools, 20_000);
        let first = &sent[1]["tool_calls"][0]["function"]["arguments"];
        assert_eq!(
            first,
            &json!(format!(r#"{{"path":"f0","content":"{LEFT_OUT}"}}"#))
        );
    }

    #[test]
    fn it_comes_back_from_json_as_it_was() {
        let history = history(vec![
            user("a"),
            model("b", vec![call(true)]),
            gave("c", true),
        ]);
        let text = serde_json::to_string(&history).unwrap();
        assert_eq!(serde_json::from_str::<History>(&text).unwrap(), history);
    }
}
