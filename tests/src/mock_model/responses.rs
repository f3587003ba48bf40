//! The OpenAI Responses API, as far as Codex uses it, and Codex's own tools: it has none for files,
//! so they are read by commands and written by patches; newer models call both from a script.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    Frame, Reply,
    offered::{Call, Deed, Tool},
    openai::failure,
    script::{Plan, Talk, Turn},
};

/// `POST /v1/responses`.
pub(super) fn read(body: &Value) -> Talk {
    let mut turns: Vec<Turn> = Vec::new();
    let mut system = vec![body["instructions"].as_str().unwrap_or_default().to_owned()];
    let mut offered: Vec<&Value> = body["tools"].as_array().into_iter().flatten().collect();
    for item in body["input"].as_array().into_iter().flatten() {
        let said = text(&item["content"]);
        match (
            item["type"].as_str().unwrap_or("message"),
            item["role"].as_str(),
        ) {
            ("message", Some("user")) => turns.push(Turn::User(said)),
            ("message", Some("assistant")) => model_says(&mut turns, false),
            ("message", _) => system.push(said),
            ("function_call" | "custom_tool_call", _) => model_says(&mut turns, true),
            ("function_call_output" | "custom_tool_call_output", _) => {
                turns.push(Turn::Tool(text(&item["output"])));
            }
            // Newer models are offered their tools in the conversation.
            ("additional_tools", _) => {
                offered.extend(item["tools"].as_array().into_iter().flatten());
            }
            (_, _) => {}
        }
    }
    if let Some(said) = body["input"].as_str() {
        turns.push(Turn::User(said.to_owned()));
    }
    let format = &body["text"]["format"];
    Talk {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        system: system.join("\n"),
        turns,
        tools: offered.into_iter().flat_map(tools).collect(),
        schema: (format["type"] == "json_schema").then(|| format["schema"].clone()),
        stream: body["stream"] == true,
    }
}

/// The text and the calls of one answer stand next to each other and are one turn.
fn model_says(turns: &mut Vec<Turn>, calls: bool) {
    if let Some(Turn::Model { calls_tools }) = turns.last_mut() {
        *calls_tools |= calls;
    } else {
        turns.push(Turn::Model { calls_tools: calls });
    }
}

/// Text, or the text parts of a list.
fn text(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let parts = content.as_array().into_iter().flatten();
    let texts: Vec<&str> = parts.filter_map(|part| part["text"].as_str()).collect();
    texts.join("\n")
}

/// A tool, or those of a namespace. What stands for the schema of a tool that takes plain text is
/// its namespace.
fn tools(offered: &Value) -> Vec<Tool> {
    let one = |tool: &Value, space: &Value| Tool {
        name: tool["name"].as_str().unwrap_or_default().to_owned(),
        schema: if tool["type"] == "custom" {
            json!({ "namespace": space })
        } else {
            tool["parameters"].clone()
        },
    };
    if offered["type"] == "namespace" {
        let inner = offered["tools"].as_array().into_iter().flatten();
        return inner.map(|tool| one(tool, &offered["name"])).collect();
    }
    vec![one(offered, &Value::Null)]
}

/// How Codex does what it has no tool for; `None` for other agents.
pub(super) fn call(deed: Deed<'_>, talk: &Talk) -> Option<Call> {
    let offers = |name: &str| talk.tools.iter().any(|tool| tool.name == name);
    let scripts = offers("exec");
    let call = |name: &str, input: String| Call {
        name: name.to_owned(),
        input: Value::String(input),
    };
    let patch = |patch: String| {
        if scripts {
            let patch = Value::String(patch);
            Some(call(
                "exec",
                format!("text(await tools.apply_patch({patch}))"),
            ))
        } else {
            offers("apply_patch").then(|| call("apply_patch", patch))
        }
    };
    match deed {
        Deed::Write { path, content } => {
            let lines: Vec<String> = content.lines().map(|line| format!("+{line}")).collect();
            let lines = lines.join("\n");
            patch(format!(
                "*** Begin Patch\n*** Add File: {path}\n{lines}\n*** End Patch"
            ))
        }
        Deed::Edit { path, old, new } => {
            let line = seen_with(talk, old)?;
            let changed = line.replace(old, new);
            patch(format!(
                "*** Begin Patch\n*** Update File: {path}\n@@\n-{line}\n+{changed}\n*** End Patch"
            ))
        }
        Deed::Read { path } => {
            let command = format!("cat {path}");
            Deed::Shell { command: &command }.call(talk)
        }
        Deed::Shell { command } => scripts.then(|| {
            let command = json!({ "cmd": command });
            call("exec", format!("text(await tools.exec_command({command}))"))
        }),
    }
}

/// The line with these words that a tool has shown last: patches are of whole lines.
fn seen_with<'a>(talk: &'a Talk, words: &str) -> Option<&'a str> {
    let shown = talk.turns.iter().rev().filter_map(|turn| match turn {
        Turn::Tool(text) => Some(text.as_str()),
        Turn::User(_) | Turn::Model { .. } => None,
    });
    shown.flat_map(str::lines).find(|line| line.contains(words))
}

pub(super) fn render(talk: &Talk, plan: Plan) -> Reply {
    let (think, said, pause, call) = match plan {
        Plan::Fail { status } => return failure(status),
        Plan::Say {
            think,
            text,
            pause,
            call,
        } => (think, text, pause, call),
    };
    let output_tokens = said.len() + think.len() + 1;
    let mut stream = Events::default();
    let response = |status: &str, output: &[Value]| {
        json!({
            "id": format!("resp_{}", talk.id()), "object": "response", "created_at": 0,
            "model": talk.model, "status": status, "output": output,
            "usage": (status == "completed").then(|| json!({
                "input_tokens": talk.input_tokens(),
                "input_tokens_details": { "cached_tokens": 0 },
                "output_tokens": output_tokens,
                "output_tokens_details": { "reasoning_tokens": think.len() },
                "total_tokens": talk.input_tokens() + output_tokens,
            })),
        })
    };
    let begun = response("in_progress", &[]);
    stream.add("response.created", json!({ "response": begun }));
    stream.add("response.in_progress", json!({ "response": begun }));
    if !think.is_empty() {
        let id = format!("rs_{}", talk.id());
        let summary = |parts: Value| json!({ "type": "reasoning", "id": id, "summary": parts });
        stream.begin(&summary(json!([])));
        let part = |text: &str| json!({ "type": "summary_text", "text": text });
        let place = json!({ "item_id": id, "summary_index": 0 });
        let kind = |end: &str| format!("response.reasoning_summary_{end}");
        stream.part(&kind("part.added"), &place, "part", part(""));
        for piece in &think {
            let delta = stream.part(&kind("text.delta"), &place, "delta", json!(piece));
            delta.after = pause;
        }
        let whole = think.concat();
        stream.part(&kind("text.done"), &place, "text", json!(whole));
        stream.end(summary(json!([part(&whole)])));
    }
    let id = format!("msg_{}", talk.id());
    let message = |status: &str, content: Value| {
        json!({ "type": "message", "id": id, "role": "assistant", "status": status,
            "content": content })
    };
    let spoken = |text: &str| json!({ "type": "output_text", "text": text, "annotations": [] });
    stream.begin(&message("in_progress", json!([])));
    let place = json!({ "item_id": id, "content_index": 0 });
    stream.part("response.content_part.added", &place, "part", spoken(""));
    for piece in &said {
        let delta = stream.part("response.output_text.delta", &place, "delta", json!(piece));
        delta.after = pause;
    }
    let whole = said.concat();
    stream.part("response.output_text.done", &place, "text", json!(whole));
    stream.part("response.content_part.done", &place, "part", spoken(&whole));
    stream.end(message("completed", json!([spoken(&whole)])));
    if let Some(call) = call {
        let (item, kind, field) = called(talk, &call);
        let mut begun = item.clone();
        begun["status"] = json!("in_progress");
        begun[field] = json!("");
        stream.begin(&begun);
        let place = json!({ "item_id": item["id"] });
        stream.part(
            &format!("{kind}.delta"),
            &place,
            "delta",
            item[field].clone(),
        );
        stream.part(&format!("{kind}.done"), &place, field, item[field].clone());
        stream.end(item);
    }
    let ended = response("completed", &stream.output);
    if !talk.stream {
        return Reply::Whole {
            status: StatusCode::OK,
            body: ended,
        };
    }
    stream.add("response.completed", json!({ "response": ended }));
    Reply::Stream(stream.frames)
}

/// A call of a tool that takes plain text, or of one that takes parameters; the events in which
/// that is streamed, and the field it stands in.
fn called(talk: &Talk, call: &Call) -> (Value, &'static str, &'static str) {
    let mut item = json!({
        "id": format!("fc_{}", talk.id()), "call_id": format!("call_{}", talk.id()),
        "status": "completed", "name": call.name,
    });
    let Some(text) = call.input.as_str() else {
        item["type"] = json!("function_call");
        item["arguments"] = json!(call.input.to_string());
        return (item, "response.function_call_arguments", "arguments");
    };
    item["type"] = json!("custom_tool_call");
    item["input"] = json!(text);
    let tool = talk.tools.iter().find(|tool| tool.name == call.name);
    let space = tool.and_then(|tool| tool.schema["namespace"].as_str());
    if let Some(space) = space {
        item["namespace"] = json!(space);
    }
    (item, "response.custom_tool_call_input", "input")
}

/// Numbered events, and the items that were finished in them.
#[derive(Default)]
struct Events {
    frames: Vec<Frame>,
    output: Vec<Value>,
}

impl Events {
    fn add(&mut self, kind: &str, mut data: Value) -> &mut Frame {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(self.frames.len());
        self.frames
            .push(Frame::now(format!("event: {kind}\ndata: {data}\n\n")));
        self.frames.last_mut().expect("it was just added")
    }

    fn part(&mut self, kind: &str, place: &Value, name: &str, value: Value) -> &mut Frame {
        let mut data = place.clone();
        data["output_index"] = json!(self.output.len());
        data[name] = value;
        self.add(kind, data)
    }

    fn begin(&mut self, item: &Value) {
        let data = json!({ "output_index": self.output.len(), "item": item });
        self.add("response.output_item.added", data);
    }

    fn end(&mut self, item: Value) {
        let data = json!({ "output_index": self.output.len(), "item": item });
        self.add("response.output_item.done", data);
        self.output.push(item);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::script, *};

    fn user(text: &str) -> Value {
        json!({ "type": "message", "role": "user",
            "content": [{ "type": "input_text", "text": text }] })
    }

    fn request(input: &[Value], stream: bool) -> Value {
        json!({
            "model": "m",
            "stream": stream,
            "input": input,
            "tools": [
                { "type": "function", "name": "exec_command",
                    "parameters": { "properties": { "cmd": {} }, "required": ["cmd"] } },
                { "type": "custom", "name": "apply_patch", "format": {} },
            ],
        })
    }

    fn events(body: &Value) -> Vec<Value> {
        let talk = read(body);
        match render(&talk, script::plan(&talk).2) {
            Reply::Stream(frames) => frames
                .iter()
                .map(|frame| {
                    let data = frame.text.lines().nth(1).unwrap();
                    serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap()
                })
                .collect(),
            Reply::Whole { body, .. } => vec![body],
        }
    }

    fn call_of(body: &Value) -> Value {
        let events = events(body);
        let done = events
            .iter()
            .filter(|event| event["type"] == "response.output_item.done");
        done.map(|event| event["item"].clone()).next_back().unwrap()
    }

    #[test]
    fn text_is_streamed_as_one_message_and_counted() {
        let events = events(&request(&[user("@mock text 2")], true));
        let kinds: Vec<_> = events
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect();
        let wanted = [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ];
        assert_eq!(kinds, wanted);
        assert_eq!(events[9]["response"]["usage"]["output_tokens"], 3);
        assert_eq!(events[4]["delta"], "word1 ");
    }

    #[test]
    fn a_command_is_a_function_and_a_new_file_a_patch_in_plain_text() {
        let shell = call_of(&request(&[user("@mock shell ls -l")], true));
        assert_eq!(shell["type"], "function_call");
        assert_eq!(shell["arguments"], r#"{"cmd":"ls -l"}"#);
        let write = call_of(&request(&[user("@mock write a/b.md")], true));
        assert_eq!(
            (&write["type"], &write["name"]),
            (&json!("custom_tool_call"), &json!("apply_patch"))
        );
        let patch = write["input"].as_str().unwrap();
        assert!(
            patch.starts_with("*** Begin Patch\n*** Add File: a/b.md\n+#"),
            "{patch}"
        );
    }

    #[test]
    fn an_edit_reads_the_file_and_changes_the_whole_line() {
        let prompt = user("@mock edit a.md");
        let first = call_of(&request(std::slice::from_ref(&prompt), true));
        assert_eq!(first["arguments"], r#"{"cmd":"cat a.md"}"#);
        let answered = [
            prompt,
            json!({ "type": "message", "role": "assistant", "content": [] }),
            json!({ "type": "function_call", "call_id": "c" }),
            json!({ "type": "function_call_output", "call_id": "c",
                "output": "Output:\n# Notes\nIt was before noon.\n" }),
        ];
        let second = call_of(&request(&answered, true));
        let patch = second["input"].as_str().unwrap();
        assert!(
            patch.contains("-It was before noon.\n+It was after noon.\n"),
            "{patch}"
        );
    }

    #[test]
    fn text_and_call_of_one_answer_are_one_turn() {
        let input = [
            user("@mock shell ls"),
            json!({ "type": "reasoning" }),
            json!({ "type": "message", "role": "assistant", "content": [] }),
            json!({ "type": "custom_tool_call", "call_id": "c" }),
            json!({ "type": "custom_tool_call_output", "output": [{ "text": "r" }] }),
        ];
        let turns = read(&request(&input, true)).turns;
        assert_eq!(
            turns[1..],
            [Turn::Model { calls_tools: true }, Turn::Tool("r".into())]
        );
    }

    #[test]
    fn a_model_that_writes_scripts_calls_everything_from_one() {
        let tools = json!({ "type": "additional_tools", "tools": [{ "type": "namespace",
            "name": "functions", "tools": [{ "type": "custom", "name": "exec" }] }] });
        let body = json!({ "stream": true, "input": [tools, user("@mock shell ls")] });
        let call = call_of(&body);
        assert_eq!(
            (&call["name"], &call["namespace"]),
            (&json!("exec"), &json!("functions"))
        );
        assert_eq!(
            call["input"],
            r#"text(await tools.exec_command({"cmd":"ls"}))"#
        );
    }

    #[test]
    fn reasoning_comes_before_the_answer_and_errors_are_the_vendors() {
        let events = events(&request(&[user("@mock think 1")], true));
        assert_eq!(events[4]["type"], "response.reasoning_summary_text.delta");
        let whole = self::events(&request(&[user("@mock text 1")], false));
        assert_eq!(whole[0]["output"][0]["content"][0]["text"], "word1 ");
        let failed = self::events(&request(&[user("@mock error 401")], true));
        assert_eq!(failed[0]["error"]["code"], "invalid_api_key");
    }
}
