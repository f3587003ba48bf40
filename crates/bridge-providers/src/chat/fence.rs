//! Tool calls of models that have no other way to make one: a fenced block with a JSON object of
//! `name` and `arguments`. Everything else is passed on as text while it comes. Pure.

use serde_json::Value;

/// Sorts streamed text into text and calls.
#[derive(Debug, Default)]
pub(super) struct Fence {
    state: State,
    /// The present line as far as it was not passed on, or the whole fenced block.
    held: String,
    /// Where the content of the fenced block begins in `held`.
    content: usize,
    /// Something of the present line was passed on.
    within_line: bool,
}

/// What streamed text turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// Text for the reader.
    Text(String),
    /// A tool call.
    Call {
        /// The name of the tool.
        name: String,
        /// Its arguments, an object.
        arguments: Value,
    },
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Outside of every fence.
    #[default]
    Outside,
    /// In a fence that may be a call: all of it is held back.
    Holding,
    /// In a fence that is text.
    Passing,
}

impl Fence {
    /// Takes more text. `is_tool` says whether there is a tool of this name.
    pub(super) fn push(&mut self, text: &str, is_tool: impl Fn(&str) -> bool) -> Vec<Part> {
        let mut parts = Vec::new();
        for piece in text.split_inclusive('\n') {
            self.held.push_str(piece);
            if piece.ends_with('\n') {
                self.end_line(&is_tool, &mut parts);
            } else {
                self.within_line(&mut parts);
            }
        }
        merged(parts)
    }

    /// The answer is over. A block whose end was forgotten counts all the same.
    pub(super) fn finish(&mut self, is_tool: impl Fn(&str) -> bool) -> Vec<Part> {
        let mut parts = Vec::new();
        let held = std::mem::take(&mut self.held);
        let calls = match self.state {
            State::Holding => held
                .get(self.content..)
                .and_then(|body| calls(body.trim_end().trim_end_matches('`'), &is_tool)),
            State::Outside | State::Passing => None,
        };
        match calls {
            Some(calls) => parts.extend(calls),
            None => pass(held, &mut parts),
        }
        self.state = State::Outside;
        parts
    }

    fn end_line(&mut self, is_tool: &impl Fn(&str) -> bool, parts: &mut Vec<Part>) {
        let fresh = !std::mem::take(&mut self.within_line);
        match self.state {
            State::Outside => {
                let info = if fresh { opening(&self.held) } else { None };
                match info {
                    Some(info) if may_be_call(info) => {
                        self.content = self.held.len();
                        self.state = State::Holding;
                    }
                    Some(_) => {
                        self.state = State::Passing;
                        self.pass_on(parts);
                    }
                    None => self.pass_on(parts),
                }
            }
            State::Passing => {
                if fresh && is_closing(&self.held) {
                    self.state = State::Outside;
                }
                self.pass_on(parts);
            }
            State::Holding => {
                let body = self.held.get(self.content..).unwrap_or_default();
                let last = body.lines().next_back().unwrap_or_default();
                if is_closing(last) {
                    let inner = body.trim_end().trim_end_matches('`');
                    match calls(inner, is_tool) {
                        Some(calls) => {
                            parts.extend(calls);
                            self.held.clear();
                        }
                        None => self.pass_on(parts),
                    }
                    self.state = State::Outside;
                    self.within_line = false;
                } else {
                    self.give_up_if_text(parts);
                    self.within_line = false;
                }
            }
        }
    }

    fn within_line(&mut self, parts: &mut Vec<Part>) {
        match self.state {
            State::Holding => self.give_up_if_text(parts),
            State::Outside | State::Passing => {
                let start = self.held.trim_start_matches(' ');
                let may_be_fence = start.starts_with(FENCE) || FENCE.starts_with(start);
                if self.within_line || !may_be_fence || start.len() > FENCE_LINE {
                    self.pass_on(parts);
                    self.within_line = true;
                }
            }
        }
    }

    /// A block that begins with something else than JSON, or is longer than any call, is text.
    fn give_up_if_text(&mut self, parts: &mut Vec<Part>) {
        let body = self.held.get(self.content..).unwrap_or_default();
        let first = body.trim_start().chars().next();
        if first.is_some_and(|c| c != '{' && c != '[') || body.len() > CALL_BYTES {
            self.within_line = !self.held.ends_with('\n');
            self.pass_on(parts);
            self.state = State::Passing;
        }
    }

    fn pass_on(&mut self, parts: &mut Vec<Part>) {
        pass(std::mem::take(&mut self.held), parts);
    }
}

fn pass(text: String, parts: &mut Vec<Part>) {
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
}

/// Neighbouring texts as one: they came as one piece.
fn merged(parts: Vec<Part>) -> Vec<Part> {
    let mut all: Vec<Part> = Vec::new();
    for part in parts {
        match (all.last_mut(), part) {
            (Some(Part::Text(before)), Part::Text(more)) => before.push_str(&more),
            (_, part) => all.push(part),
        }
    }
    all
}

/// What stands behind the opening of a fence.
fn opening(line: &str) -> Option<&str> {
    line.trim().strip_prefix(FENCE).map(str::trim)
}

fn is_closing(line: &str) -> bool {
    let line = line.trim();
    line.len() >= FENCE.len() && line.chars().all(|c| c == '`')
}

fn may_be_call(info: &str) -> bool {
    let info = info.to_ascii_lowercase();
    matches!(
        info.as_str(),
        "" | "json" | "tool" | "tool_call" | "tool_code"
    )
}

/// The calls in the content of a block; `None` if it is anything else.
fn calls(body: &str, is_tool: &impl Fn(&str) -> bool) -> Option<Vec<Part>> {
    let value: Value = serde_json::from_str(body.trim()).ok()?;
    let list = match value {
        Value::Array(list) if !list.is_empty() => list,
        Value::Object(_) => vec![value],
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return None;
        }
    };
    list.into_iter().map(|value| call(value, is_tool)).collect()
}

fn call(mut value: Value, is_tool: &impl Fn(&str) -> bool) -> Option<Part> {
    let name = value.get("name")?.as_str()?.to_owned();
    let arguments = value.get_mut("arguments").map(Value::take)?;
    let arguments = match arguments.as_str() {
        Some(text) => serde_json::from_str(text).ok()?,
        None => arguments,
    };
    (is_tool(&name) && arguments.is_object()).then_some(Part::Call { name, arguments })
}

const FENCE: &str = "```";
/// An opening longer than this is no fence.
const FENCE_LINE: usize = 64;
/// The largest file a tool writes, quoted.
const CALL_BYTES: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sorted(text: &str, step: usize) -> Vec<Part> {
        let known = |name: &str| name == "read_file";
        let mut fence = Fence::default();
        let mut parts = Vec::new();
        let letters: Vec<char> = text.chars().collect();
        for piece in letters.chunks(step) {
            parts.extend(fence.push(&piece.iter().collect::<String>(), known));
        }
        parts.extend(fence.finish(known));
        merged(parts)
    }

    fn read(path: &str) -> Part {
        Part::Call {
            name: "read_file".into(),
            arguments: json!({ "path": path }),
        }
    }

    #[test]
    fn a_fenced_call_is_taken_out_of_the_text_however_it_is_cut() {
        let text = "I look.\n```json\n{\"name\": \"read_file\",\n \"arguments\": {\"path\": \"a\"}}\n```\nThen";
        for step in 1..40 {
            let wanted = [
                Part::Text("I look.\n".into()),
                read("a"),
                Part::Text("Then".into()),
            ];
            assert_eq!(sorted(text, step), wanted, "{step}");
        }
    }

    #[test]
    fn an_unfinished_block_several_calls_and_quoted_arguments_count() {
        let open = "```\n{\"name\":\"read_file\",\"arguments\":\"{\\\"path\\\":\\\"b\\\"}\"}";
        assert_eq!(sorted(open, 7), [read("b")]);
        let two = "```tool_call\n[{\"name\":\"read_file\",\"arguments\":{\"path\":\"a\"}},\
                   {\"name\":\"read_file\",\"arguments\":{\"path\":\"b\"}}]\n```\n";
        assert_eq!(sorted(two, 9), [read("a"), read("b")]);
    }

    #[test]
    fn what_is_no_call_of_ours_stays_text_to_the_last_letter() {
        for text in [
            "plain `code` and ``` in a line\n",
            "```rust\n{\"name\":\"read_file\",\"arguments\":{}}\n```\n```\nx\n```\n",
            "```json\n{\"name\": \"other\", \"arguments\": {}}\n```",
            "```json\n{\"a\": 1}\n```\n",
            "```json\nnot json\n```json\n",
            "  ```",
            "``",
            "```json\n[]\n```",
            "```json\n{\"name\":\"read_file\",\"arguments\":3}\n```",
        ] {
            for step in [1, 2, 5, 100] {
                assert_eq!(
                    sorted(text, step),
                    [Part::Text(text.into())],
                    "{text:?} {step}"
                );
            }
        }
    }

    #[test]
    fn text_is_not_held_back_longer_than_a_fence_may_begin() {
        let mut fence = Fence::default();
        assert_eq!(fence.push("Hello", |_| true), [Part::Text("Hello".into())]);
        assert_eq!(fence.push(" ``", |_| true), [Part::Text(" ``".into())]);
        assert_eq!(fence.push("\n``", |_| true), [Part::Text("\n".into())]);
        assert_eq!(fence.push("x", |_| true), [Part::Text("``x".into())]);
    }

    #[test]
    fn a_block_without_an_end_is_not_kept_without_bound() {
        let mut fence = Fence::default();
        assert_eq!(fence.push("```json\n{\"", |_| true), []);
        let mut passed = 0;
        for _ in 0..100 {
            for part in fence.push(&"x".repeat(100_000), |_| true) {
                if let Part::Text(text) = part {
                    passed += text.len();
                }
            }
        }
        assert!(passed > CALL_BYTES, "{passed}");
        assert!(fence.held.len() <= CALL_BYTES);
    }
}
