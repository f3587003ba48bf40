//! The Anthropic Messages API, as far as Claude Code uses it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    Frame, Reply,
    offered::Tool,
    script::{Plan, Talk, Turn},
};

/// `POST /v1/messages`.
pub(super) fn read(body: &Value) -> Talk {
    let mut turns = Vec::new();
    for message in body["messages"].as_array().into_iter().flatten() {
        let content = &message["content"];
        let blocks = || content.as_array().into_iter().flatten();
        if message["role"] == "assistant" {
            turns.push(Turn::Model {
                calls_tools: blocks().any(|b| b["type"] == "tool_use"),
            });
            continue;
        }
        let results = blocks().filter(|block| block["type"] == "tool_result");
        turns.extend(results.map(|result| Turn::Tool(text(&result["content"]))));
        let said = text(content);
        if !said.is_empty() {
            turns.push(Turn::User(said));
        }
    }
    let tools = body["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|tool| Tool {
            name: tool["name"].as_str().unwrap_or_default().to_owned(),
            schema: tool["input_schema"].clone(),
        });
    let format = &body["output_config"]["format"];
    Talk {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        system: text(&body["system"]),
        turns,
        tools: tools.collect(),
        schema: (format["type"] == "json_schema").then(|| format["schema"].clone()),
        stream: body["stream"] == true,
    }
}

/// Text, or the text blocks of a list.
fn text(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let blocks = content.as_array().into_iter().flatten();
    let texts: Vec<&str> = blocks.filter_map(|block| block["text"].as_str()).collect();
    texts.join("\n")
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
    let stop = if call.is_some() {
        "tool_use"
    } else {
        "end_turn"
    };
    let usage = json!({
        "input_tokens": talk.input_tokens(),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": said.len() + think.len() + 1,
    });
    let call = call.map(|call| (json!(format!("toolu_{}", talk.id())), call));
    let mut message = json!({
        "id": format!("msg_{}", talk.id()),
        "type": "message",
        "role": "assistant",
        "model": talk.model,
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage,
    });
    if !talk.stream {
        let mut content = vec![json!({ "type": "text", "text": said.concat() })];
        content.extend(call.map(|(id, call)| {
            json!({ "type": "tool_use", "id": id, "name": call.name, "input": call.input })
        }));
        message["content"] = Value::Array(content);
        message["stop_reason"] = stop.into();
        return Reply::ok(message);
    }
    let mut frames = vec![
        event(&json!({ "type": "message_start", "message": message })),
        event(&json!({ "type": "ping" })),
    ];
    let mut index = 0;
    let mut block = |start: Value, deltas: Vec<Value>, slow: bool| {
        let start =
            json!({ "type": "content_block_start", "index": index, "content_block": start });
        frames.push(event(&start));
        for delta in deltas {
            let delta = json!({ "type": "content_block_delta", "index": index, "delta": delta });
            let mut frame = event(&delta);
            if slow {
                frame.after = pause;
            }
            frames.push(frame);
        }
        frames.push(event(
            &json!({ "type": "content_block_stop", "index": index }),
        ));
        index += 1;
    };
    if !think.is_empty() {
        let mut deltas: Vec<Value> = think
            .into_iter()
            .map(|piece| json!({ "type": "thinking_delta", "thinking": piece }))
            .collect();
        deltas.push(json!({ "type": "signature_delta", "signature": "bW9jaw==" }));
        block(
            json!({ "type": "thinking", "thinking": "", "signature": "" }),
            deltas,
            true,
        );
    }
    let deltas = said
        .into_iter()
        .map(|piece| json!({ "type": "text_delta", "text": piece }));
    block(
        json!({ "type": "text", "text": "" }),
        deltas.collect(),
        true,
    );
    if let Some((id, call)) = call {
        let pieces =
            [json!({ "type": "input_json_delta", "partial_json": call.input.to_string() })];
        let start = json!({ "type": "tool_use", "id": id, "name": call.name, "input": {} });
        block(start, pieces.to_vec(), false);
    }
    let delta = json!({ "stop_reason": stop, "stop_sequence": null });
    frames.push(event(
        &json!({ "type": "message_delta", "delta": delta, "usage": usage }),
    ));
    frames.push(event(&json!({ "type": "message_stop" })));
    Reply::Stream(frames)
}

fn event(data: &Value) -> Frame {
    let name = data["type"].as_str().unwrap_or_default();
    Frame::now(format!("event: {name}\ndata: {data}\n\n"))
}

fn failure(status: u16) -> Reply {
    let (kind, message) = match status {
        400 => (
            "invalid_request_error",
            "the request cannot be served".to_owned(),
        ),
        401 => ("authentication_error", "invalid x-api-key".to_owned()),
        403 => (
            "permission_error",
            "the key may not use this model".to_owned(),
        ),
        429 => ("rate_limit_error", "too many requests".to_owned()),
        529 => ("overloaded_error", "Overloaded".to_owned()),
        other => ("api_error", format!("mock error {other}")),
    };
    let body = json!({ "type": "error", "error": { "type": kind, "message": message } });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Reply::Whole { status, body }
}

#[cfg(test)]
mod tests {
    use super::{super::script, *};

    fn request(content: &Value, stream: bool) -> Value {
        json!({
            "model": "m",
            "stream": stream,
            "system": [{ "type": "text", "text": "Primary working directory: /w" }],
            "tools": [{ "name": "Write", "input_schema": {
                "properties": { "file_path": {}, "content": {} } } }],
            "messages": [{ "role": "user", "content": content }],
        })
    }

    fn frames(body: &Value) -> Vec<Value> {
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

    #[test]
    fn text_is_streamed_as_one_block_of_deltas() {
        let frames = frames(&request(&json!("@mock text 2"), true));
        let kinds: Vec<_> = frames
            .iter()
            .map(|frame| frame["type"].as_str().unwrap())
            .collect();
        let wanted = [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ];
        assert_eq!(kinds, wanted);
        assert_eq!(frames[6]["delta"]["stop_reason"], "end_turn");
    }

    #[test]
    fn a_tool_call_is_a_block_of_its_own_with_a_whole_path() {
        let frames = frames(&request(
            &json!([{ "type": "text", "text": "@mock write a.md" }]),
            true,
        ));
        let tool = frames
            .iter()
            .find(|frame| frame["content_block"]["type"] == "tool_use");
        assert_eq!(tool.unwrap()["index"], 1);
        let input = frames
            .iter()
            .find_map(|frame| frame["delta"]["partial_json"].as_str());
        let input: Value = serde_json::from_str(input.unwrap()).unwrap();
        assert_eq!(input["file_path"], "/w/a.md");
    }

    #[test]
    fn reasoning_comes_first_and_is_signed() {
        let frames = frames(&request(&json!("@mock think 1"), true));
        assert_eq!(frames[2]["content_block"]["type"], "thinking");
        assert_eq!(frames[4]["delta"]["type"], "signature_delta");
    }

    #[test]
    fn results_and_reminders_of_one_message_are_told_apart() {
        let content = json!([
            { "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "text", "text": "r" }] },
            { "type": "text", "text": "<system-reminder>x</system-reminder>" },
        ]);
        let turns = read(&request(&content, false)).turns;
        assert_eq!(turns[0], Turn::Tool("r".into()));
        assert_eq!(turns.len(), 2);
    }

    #[test]
    fn without_streaming_one_message_holds_everything() {
        let whole = frames(&request(&json!("@mock write a.md"), false)).remove(0);
        assert_eq!(whole["stop_reason"], "tool_use");
        assert_eq!(whole["content"][1]["name"], "Write");
    }

    #[test]
    fn errors_are_worded_as_the_vendor_does() {
        let Reply::Whole { status, body } = failure(401) else {
            panic!()
        };
        assert_eq!(
            (status.as_u16(), &body["error"]["type"]),
            (401, &json!("authentication_error"))
        );
    }
}
