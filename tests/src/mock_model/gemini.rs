//! The Gemini API, as far as Gemini CLI uses it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{
    Frame, Reply,
    offered::Tool,
    script::{Plan, Talk, Turn},
};

/// `POST /v1beta/models/{model}:generateContent` and `…:streamGenerateContent`.
pub(super) fn read(body: &Value, model: &str, stream: bool) -> Talk {
    let mut turns = Vec::new();
    for content in body["contents"].as_array().into_iter().flatten() {
        let parts = || content["parts"].as_array().into_iter().flatten();
        if content["role"] == "model" {
            turns.push(Turn::Model {
                calls_tools: parts().any(|p| p.get("functionCall").is_some()),
            });
            continue;
        }
        for part in parts() {
            if let Some(result) = part.get("functionResponse") {
                turns.push(Turn::Tool(result["response"].to_string()));
            }
        }
        let said = text(content);
        if !said.is_empty() {
            turns.push(Turn::User(said));
        }
    }
    let lists = body["tools"].as_array().into_iter().flatten();
    let declared = lists
        .filter_map(|list| list["functionDeclarations"].as_array())
        .flatten();
    let tools = declared.map(|tool| Tool {
        name: tool["name"].as_str().unwrap_or_default().to_owned(),
        schema: tool
            .get("parametersJsonSchema")
            .unwrap_or_else(|| &tool["parameters"])
            .clone(),
    });
    let config = &body["generationConfig"];
    let schema = config
        .get("responseJsonSchema")
        .or_else(|| config.get("responseSchema"));
    let wants_json = config["responseMimeType"] == "application/json";
    Talk {
        model: model.to_owned(),
        system: text(&body["systemInstruction"]),
        turns,
        tools: tools.collect(),
        schema: wants_json.then(|| {
            schema
                .cloned()
                .unwrap_or_else(|| json!({ "type": "object" }))
        }),
        stream,
    }
}

fn text(content: &Value) -> String {
    let parts = content["parts"].as_array().into_iter().flatten();
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
    let output = said.len() + think.len() + 1;
    let chunk = |parts: Value, finish: Option<&str>| {
        let mut candidate = json!({ "content": { "role": "model", "parts": parts }, "index": 0 });
        if let Some(finish) = finish {
            candidate["finishReason"] = finish.into();
        }
        json!({
            "candidates": [candidate],
            "usageMetadata": {
                "promptTokenCount": talk.input_tokens(),
                "candidatesTokenCount": output,
                "totalTokenCount": talk.input_tokens() + output,
            },
            "modelVersion": talk.model,
            "responseId": talk.id(),
        })
    };
    let call = call.map(|call| {
        json!({ "functionCall": {
            "id": format!("call_{}", talk.id()), "name": call.name, "args": call.input } })
    });
    if !talk.stream {
        let mut parts = vec![json!({ "text": said.concat() })];
        parts.extend(call);
        return Reply::ok(chunk(parts.into(), Some("STOP")));
    }
    let thoughts = think
        .iter()
        .map(|piece| json!([{ "text": piece, "thought": true }]));
    let texts = said.iter().map(|piece| json!([{ "text": piece }]));
    let mut frames: Vec<Frame> = thoughts
        .chain(texts)
        .map(|parts| Frame {
            after: pause,
            ..frame(&chunk(parts, None))
        })
        .collect();
    let last = call.unwrap_or_else(|| json!({ "text": "" }));
    frames.push(frame(&chunk(json!([last]), Some("STOP"))));
    Reply::Stream(frames)
}

fn frame(data: &Value) -> Frame {
    Frame::now(format!("data: {data}\n\n"))
}

fn failure(status: u16) -> Reply {
    let (name, message) = match status {
        400 => (
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.".to_owned(),
        ),
        401 => (
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials.".to_owned(),
        ),
        403 => (
            "PERMISSION_DENIED",
            "The caller does not have permission.".to_owned(),
        ),
        429 => (
            "RESOURCE_EXHAUSTED",
            "Resource has been exhausted.".to_owned(),
        ),
        503 => ("UNAVAILABLE", "The model is overloaded.".to_owned()),
        other => ("INTERNAL", format!("mock error {other}")),
    };
    let mut error = json!({ "code": status, "message": message, "status": name });
    if status == 429 {
        let kind = "type.googleapis.com/google.rpc.RetryInfo";
        error["details"] = json!([{ "@type": kind, "retryDelay": "1s" }]);
    }
    let body = json!({ "error": error });
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Reply::Whole { status, body }
}

#[cfg(test)]
mod tests {
    use super::{super::script, *};

    fn request(prompt: &str) -> Value {
        json!({
            "contents": [
                { "role": "user", "parts": [{ "text": "Working directory: /w" }] },
                { "role": "user", "parts": [{ "text": prompt }] },
            ],
            "tools": [{ "functionDeclarations": [{
                "name": "write_file",
                "parametersJsonSchema": { "properties": { "file_path": {}, "content": {} } },
            }] }],
        })
    }

    fn chunks(body: &Value, stream: bool) -> Vec<Value> {
        let talk = read(body, "m", stream);
        match render(&talk, script::plan(&talk).2) {
            Reply::Stream(frames) => frames
                .iter()
                .map(|frame| {
                    serde_json::from_str(frame.text.strip_prefix("data: ").unwrap()).unwrap()
                })
                .collect(),
            Reply::Whole { body, .. } => vec![body],
        }
    }

    #[test]
    fn text_is_streamed_and_only_the_last_chunk_finishes() {
        let chunks = chunks(&request("@mock text 3"), true);
        let finished: Vec<bool> = chunks
            .iter()
            .map(|chunk| chunk["candidates"][0].get("finishReason").is_some())
            .collect();
        assert_eq!(finished, [false, false, false, true]);
        assert_eq!(
            chunks[2]["candidates"][0]["content"]["parts"][0]["text"],
            "word3 "
        );
    }

    #[test]
    fn a_tool_call_comes_with_the_last_chunk() {
        let chunks = chunks(&request("@mock write a.md"), true);
        let call = &chunks.last().unwrap()["candidates"][0]["content"]["parts"][0]["functionCall"];
        assert_eq!(
            (&call["name"], &call["args"]["file_path"]),
            (&json!("write_file"), &json!("/w/a.md"))
        );
    }

    #[test]
    fn a_routing_question_gets_json_of_its_schema() {
        let mut body = request("@mock error 500");
        body["generationConfig"] = json!({
            "responseMimeType": "application/json",
            "responseJsonSchema": { "type": "object", "required": ["model_choice"],
                "properties": { "model_choice": { "enum": ["flash", "pro"] } } },
        });
        let answer = chunks(&body, false).remove(0);
        let text = &answer["candidates"][0]["content"]["parts"][0]["text"];
        assert_eq!(text, r#"{"model_choice":"flash"}"#);
    }

    #[test]
    fn tool_results_count_as_steps() {
        let mut body = request("@mock write a.md");
        let contents = body["contents"].as_array_mut().unwrap();
        contents.push(json!({ "role": "model", "parts": [{ "functionCall": {} }] }));
        let result = json!({ "functionResponse": { "response": { "output": "written" } } });
        contents.push(json!({ "role": "user", "parts": [result] }));
        let (_, step, _) = script::plan(&read(&body, "m", true));
        assert_eq!(step, 1);
    }

    #[test]
    fn errors_are_worded_as_the_vendor_does() {
        let Reply::Whole { status, body } = failure(401) else {
            panic!()
        };
        assert_eq!(
            (status.as_u16(), &body["error"]["status"]),
            (401, &json!("UNAUTHENTICATED"))
        );
    }
}
