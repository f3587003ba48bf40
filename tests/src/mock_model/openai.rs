//! OpenAI chat completions, as far as opencode uses them.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    Frame, Reply,
    offered::Tool,
    script::{Plan, Talk, Turn},
};

/// `POST /v1/chat/completions`.
pub(super) fn read(body: &Value) -> Talk {
    let mut turns = Vec::new();
    let mut system = Vec::new();
    for message in body["messages"].as_array().into_iter().flatten() {
        let said = text(&message["content"]);
        match message["role"].as_str() {
            Some("system" | "developer") => system.push(said),
            Some("assistant") => {
                let calls = message["tool_calls"].as_array();
                turns.push(Turn::Model {
                    calls_tools: calls.is_some_and(|calls| !calls.is_empty()),
                });
            }
            Some("tool") => turns.push(Turn::Tool(said)),
            Some(_) | None => turns.push(Turn::User(said)),
        }
    }
    let tools = body["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|tool| Tool {
            name: tool["function"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            schema: tool["function"]["parameters"].clone(),
        });
    let format = &body["response_format"];
    let schema = match format["type"].as_str() {
        Some("json_schema") => Some(format["json_schema"]["schema"].clone()),
        Some("json_object") => Some(json!({ "type": "object" })),
        Some(_) | None => None,
    };
    Talk {
        model: body["model"].as_str().unwrap_or_default().to_owned(),
        system: system.join("\n"),
        turns,
        tools: tools.collect(),
        schema,
        stream: body["stream"] == true,
    }
}

fn text(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let parts = content.as_array().into_iter().flatten();
    let texts: Vec<&str> = parts.filter_map(|part| part["text"].as_str()).collect();
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
    let finish = if call.is_some() { "tool_calls" } else { "stop" };
    let output = said.len() + think.len() + 1;
    let usage = json!({
        "prompt_tokens": talk.input_tokens(),
        "completion_tokens": output,
        "total_tokens": talk.input_tokens() + output,
    });
    let call = call.map(|call| {
        json!({
            "id": format!("call_{}", talk.id()),
            "type": "function",
            "function": { "name": call.name, "arguments": call.input.to_string() },
        })
    });
    let document = |object: &str, choices: Value| {
        json!({
            "id": format!("chatcmpl-{}", talk.id()),
            "object": object,
            "created": 0,
            "model": talk.model,
            "choices": choices,
        })
    };
    if !talk.stream {
        let mut message = json!({ "role": "assistant", "content": said.concat() });
        if let Some(call) = call {
            message["tool_calls"] = json!([call]);
        }
        let choice = json!({ "index": 0, "message": message, "finish_reason": finish });
        let mut whole = document("chat.completion", json!([choice]));
        whole["usage"] = usage;
        return Reply::ok(whole);
    }
    let chunk = |delta: Value, finish: Option<&str>| {
        let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
        frame(&document("chat.completion.chunk", json!([choice])))
    };
    let mut frames = vec![chunk(json!({ "role": "assistant", "content": "" }), None)];
    let thoughts = think
        .iter()
        .map(|piece| json!({ "reasoning_content": piece }));
    let texts = said.iter().map(|piece| json!({ "content": piece }));
    let paced = thoughts.chain(texts).map(|delta| Frame {
        after: pause,
        ..chunk(delta, None)
    });
    frames.extend(paced);
    if let Some(mut call) = call {
        call["index"] = json!(0);
        frames.push(chunk(json!({ "tool_calls": [call] }), None));
    }
    frames.push(chunk(json!({}), Some(finish)));
    let mut last = document("chat.completion.chunk", json!([]));
    last["usage"] = usage;
    frames.push(frame(&last));
    frames.push(Frame::now("data: [DONE]\n\n".into()));
    Reply::Stream(frames)
}

fn frame(data: &Value) -> Frame {
    Frame::now(format!("data: {data}\n\n"))
}

pub(super) fn failure(status: u16) -> Reply {
    let (code, message) = match status {
        400 => (
            "invalid_request_error",
            "the request cannot be served".to_owned(),
        ),
        401 => ("invalid_api_key", "Incorrect API key provided.".to_owned()),
        403 => (
            "permission_denied",
            "The key may not use this model.".to_owned(),
        ),
        429 => (
            "rate_limit_exceeded",
            "Rate limit reached for requests.".to_owned(),
        ),
        other => ("server_error", format!("mock error {other}")),
    };
    let error = json!({ "message": message, "type": code, "code": code, "param": null });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Reply::Whole {
        status,
        body: json!({ "error": error }),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::script, *};

    fn request(prompt: &str, stream: bool) -> Value {
        json!({
            "model": "m",
            "stream": stream,
            "messages": [
                { "role": "system", "content": "  Working directory: /w\n" },
                { "role": "user", "content": [{ "type": "text", "text": prompt }] },
            ],
            "tools": [{ "type": "function", "function": {
                "name": "write",
                "parameters": { "properties": { "filePath": {}, "content": {} } },
            } }],
        })
    }

    fn chunks(body: &Value) -> Vec<Value> {
        let talk = read(body);
        match render(&talk, script::plan(&talk).2) {
            Reply::Stream(mut frames) => {
                assert_eq!(frames.pop().unwrap().text, "data: [DONE]\n\n");
                frames
                    .iter()
                    .map(|frame| {
                        serde_json::from_str(frame.text.strip_prefix("data: ").unwrap()).unwrap()
                    })
                    .collect()
            }
            Reply::Whole { body, .. } => vec![body],
        }
    }

    #[test]
    fn text_is_streamed_then_finished_then_counted() {
        let chunks = chunks(&request("@mock text 2", true));
        let said = |at: usize| &chunks[at]["choices"][0]["delta"]["content"];
        assert_eq!((said(1), said(2)), (&json!("word1 "), &json!("word2 ")));
        assert_eq!(chunks[3]["choices"][0]["finish_reason"], "stop");
        assert_eq!(chunks[4]["usage"]["completion_tokens"], 3);
    }

    #[test]
    fn a_tool_call_carries_its_arguments_as_text() {
        let chunks = chunks(&request("@mock write a.md", true));
        let call = chunks
            .iter()
            .find_map(|c| c["choices"][0]["delta"]["tool_calls"].get(0));
        let arguments = call.unwrap()["function"]["arguments"].as_str().unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        assert_eq!(arguments["filePath"], "/w/a.md");
    }

    #[test]
    fn reasoning_comes_before_the_answer() {
        let chunks = chunks(&request("@mock think 1", true));
        assert_eq!(
            chunks[1]["choices"][0]["delta"]["reasoning_content"],
            "thought1 "
        );
    }

    #[test]
    fn without_streaming_one_completion_holds_everything() {
        let whole = chunks(&request("@mock write a.md", false)).remove(0);
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(
            whole["choices"][0]["message"]["content"],
            "I will use a tool. "
        );
    }

    #[test]
    fn errors_are_worded_as_the_vendor_does() {
        let Reply::Whole { status, body } = failure(429) else {
            panic!()
        };
        assert_eq!(
            (status.as_u16(), &body["error"]["code"]),
            (429, &json!("rate_limit_exceeded"))
        );
    }
}
