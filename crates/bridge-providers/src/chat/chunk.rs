//! One JSON document of a model's answer, streamed or whole, and what stands in it. Pure.

use bridge_proto::model::Usage;
use serde_json::Value;

/// One thing a document says.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// More of the answer.
    Text(String),
    /// More of what the model thinks.
    Reasoning(String),
    /// More of a tool call.
    Call(CallPart),
    /// The answer is over.
    Finish(Finish),
    /// What the request cost.
    Usage(Usage),
    /// It failed after all.
    Failed {
        /// As HTTP would number it, where it is numbered.
        status: Option<u16>,
        /// In the service's words.
        message: String,
    },
    /// Something else.
    Unknown,
}

/// A piece of a tool call; the pieces of one call share their index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallPart {
    pub(super) index: u64,
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) arguments: String,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// It has said all, or wants its tools to be called.
    Done,
    /// It reached its limit.
    Length,
    /// Somebody does not want it to be said.
    Refused,
    /// The service broke.
    Error,
}

/// What a document says, in order.
pub(super) fn read(document: &Value) -> Vec<Said> {
    let mut said = Vec::new();
    if let Some(error) = document.get("error").filter(|error| !error.is_null()) {
        said.push(failure(error));
        return said;
    }
    let choice = document.pointer("/choices/0");
    let known = choice.is_some() || document.get("choices").is_some_and(Value::is_array);
    if let Some(choice) = choice {
        if let Some(error) = choice.get("error").filter(|error| !error.is_null()) {
            said.push(failure(error));
            return said;
        }
        let message = choice.get("delta").or_else(|| choice.get("message"));
        if let Some(message) = message {
            read_message(message, &mut said);
        }
        let reason = choice.get("finish_reason").and_then(Value::as_str);
        said.extend(reason.map(|reason| Said::Finish(finish(reason))));
    }
    let usage = document.get("usage").filter(|usage| usage.is_object());
    said.extend(usage.map(|usage| Said::Usage(read_usage(usage))));
    if !known && usage.is_none() {
        said.push(Said::Unknown);
    }
    said
}

fn read_message(message: &Value, said: &mut Vec<Said>) {
    let reasoning = ["reasoning_content", "reasoning", "thinking"]
        .iter()
        .find_map(|key| text(message.get(key)));
    said.extend(reasoning.map(Said::Reasoning));
    for key in ["content", "refusal"] {
        said.extend(text(message.get(key)).map(Said::Text));
    }
    let calls = message.get("tool_calls").and_then(Value::as_array);
    for (at, call) in calls.into_iter().flatten().enumerate() {
        let index = call.get("index").and_then(Value::as_u64);
        let function = call.get("function").unwrap_or(&Value::Null);
        let arguments = match function.get("arguments") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(
                other @ (Value::Object(_) | Value::Array(_) | Value::Bool(_) | Value::Number(_)),
            ) => other.to_string(),
        };
        said.push(Said::Call(CallPart {
            index: index.unwrap_or(at as u64),
            id: text(call.get("id")),
            name: text(function.get("name")),
            arguments,
        }));
    }
}

/// A text, or the texts of a list of parts; `None` where nothing is said.
fn text(value: Option<&Value>) -> Option<String> {
    let value = value?;
    let text = match value.as_array() {
        Some(parts) => parts
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect(),
        None => value.as_str()?.to_owned(),
    };
    Some(text).filter(|text| !text.is_empty())
}

fn finish(reason: &str) -> Finish {
    match reason {
        "length" => Finish::Length,
        "content_filter" => Finish::Refused,
        "error" => Finish::Error,
        _ => Finish::Done,
    }
}

fn read_usage(usage: &Value) -> Usage {
    let count = |key: &str| usage.get(key).and_then(Value::as_u64);
    Usage {
        input_tokens: count("prompt_tokens"),
        output_tokens: count("completion_tokens"),
        cost_usd: usage
            .get("cost")
            .and_then(Value::as_f64)
            .filter(|cost| cost.is_finite() && *cost >= 0.0),
    }
}

fn failure(error: &Value) -> Said {
    let code = error.get("code");
    let number = code.and_then(|code| {
        code.as_u64()
            .or_else(|| code.as_str().and_then(|text| text.parse().ok()))
    });
    Said::Failed {
        status: number
            .and_then(|number| u16::try_from(number).ok())
            .filter(|status| (400..600).contains(status)),
        message: error_message(error).unwrap_or_else(|| error.to_string()),
    }
}

/// The words of an error, in whichever of the usual shapes.
pub(super) fn error_message(error: &Value) -> Option<String> {
    let message = error.get("message").or_else(|| error.get("detail"));
    let message = message.unwrap_or(error).as_str()?.to_owned();
    // A gateway puts what the service behind it said beside its own words.
    let behind = error.pointer("/metadata/raw").and_then(Value::as_str);
    Some(match behind {
        Some(behind) => format!("{message}: {behind}"),
        None => message,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn delta(delta: &Value) -> Vec<Said> {
        read(&json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] }))
    }

    #[test]
    fn text_and_reasoning_are_found_under_every_usual_name() {
        for key in ["reasoning_content", "reasoning", "thinking"] {
            assert_eq!(
                delta(&json!({ key: "hm", "content": "yes" })),
                [Said::Reasoning("hm".into()), Said::Text("yes".into())]
            );
        }
        assert_eq!(delta(&json!({ "role": "assistant", "content": "" })), []);
        let parts = json!({ "content": [{ "type": "text", "text": "a" }, { "text": "b" }, 3] });
        assert_eq!(delta(&parts), [Said::Text("ab".into())]);
    }

    #[test]
    fn calls_come_in_pieces_or_whole() {
        let piece = json!({ "tool_calls": [
            { "index": 1, "id": "x", "function": { "name": "read_file", "arguments": "" } },
            { "index": 1, "function": { "arguments": "{\"p" } },
        ] });
        let [Said::Call(first), Said::Call(second)] = &delta(&piece)[..] else {
            panic!("two pieces")
        };
        assert_eq!((first.index, first.name.as_deref()), (1, Some("read_file")));
        assert_eq!((second.index, second.arguments.as_str()), (1, "{\"p"));
        let whole = read(&json!({ "choices": [{ "message": { "tool_calls": [
            { "function": { "name": "read_file", "arguments": { "path": "a" } } },
        ] }, "finish_reason": "tool_calls" }] }));
        let [Said::Call(call), Said::Finish(Finish::Done)] = &whole[..] else {
            panic!("{whole:?}")
        };
        assert_eq!(call.arguments, r#"{"path":"a"}"#);
    }

    #[test]
    fn usage_has_a_cost_only_where_one_is_named() {
        let usage = json!({ "prompt_tokens": 7, "completion_tokens": 2, "cost": 0.5 });
        let said = read(&json!({ "choices": [], "usage": usage }));
        assert_eq!(
            said,
            [Said::Usage(Usage {
                input_tokens: Some(7),
                output_tokens: Some(2),
                cost_usd: Some(0.5)
            })]
        );
    }

    #[test]
    fn errors_in_the_middle_are_errors_whatever_their_shape() {
        for (error, status, message) in [
            (json!({ "code": 502, "message": "down" }), Some(502), "down"),
            (
                json!({ "code": "429", "message": "slow" }),
                Some(429),
                "slow",
            ),
            (json!("gone"), None, "gone"),
            (json!({ "code": "x" }), None, "{\"code\":\"x\"}"),
        ] {
            let wanted = Said::Failed {
                status,
                message: message.into(),
            };
            assert_eq!(
                read(&json!({ "error": error })),
                std::slice::from_ref(&wanted)
            );
            assert_eq!(read(&json!({ "choices": [{ "error": error }] })), [wanted]);
        }
    }

    #[test]
    fn documents_of_any_other_shape_are_unknown_and_never_a_panic() {
        for odd in [json!(null), json!(3), json!([]), json!({ "type": "ping" })] {
            assert_eq!(read(&odd), [Said::Unknown], "{odd}");
        }
        for odd in [
            json!({ "choices": [] }),
            json!({ "choices": [{}] }),
            json!({ "choices": [3] }),
            json!({ "choices": [{ "delta": { "content": 4, "tool_calls": "x" } }] }),
        ] {
            assert_eq!(read(&odd), [], "{odd}");
        }
    }
}
