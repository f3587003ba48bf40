//! JSON-RPC 2.0 lines: what an incoming line is, before anything in it is believed, and how
//! outgoing lines are written.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::plain::sentence;

/// One incoming line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Incoming {
    /// An answer to a request of ours.
    Response {
        id: Value,
        outcome: Result<Value, RpcError>,
    },
    /// Something the agent wants answered.
    Request {
        id: Value,
        method: String,
        params: Value,
    },
    /// Something the agent tells.
    Notification { method: String, params: Value },
    /// Not JSON-RPC at all.
    Noise,
}

/// The error of a response, as it came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Option<Value>,
}

/// Says what a line is. An object is a response only if it has no `method`; ids may be of any
/// JSON type and are given back as they came.
pub(crate) fn classify(line: &[u8]) -> Incoming {
    let Ok(Value::Object(mut object)) = serde_json::from_slice::<Value>(line) else {
        return Incoming::Noise;
    };
    let id = object.remove("id");
    let method = object
        .get("method")
        .and_then(Value::as_str)
        .map(str::to_owned);
    if let Some(method) = method {
        let params = object.remove("params").unwrap_or(Value::Null);
        return match id {
            Some(id) => Incoming::Request { id, method, params },
            None => Incoming::Notification { method, params },
        };
    }
    if object.contains_key("method") {
        return Incoming::Noise;
    }
    let Some(id) = id else { return Incoming::Noise };
    match object.remove("error") {
        Some(error) if !error.is_null() => Incoming::Response {
            id,
            outcome: Err(RpcError::read(error)),
        },
        Some(_) | None => match object.remove("result") {
            Some(result) => Incoming::Response {
                id,
                outcome: Ok(result),
            },
            None => Incoming::Noise,
        },
    }
}

impl RpcError {
    fn read(mut error: Value) -> Self {
        let code = error.get("code").map_or(0, |code| {
            code.as_i64()
                .or_else(|| code.as_str().and_then(|text| text.parse().ok()))
                .unwrap_or(0)
        });
        let message = error
            .get("message")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let data = error
            .get_mut("data")
            .map(Value::take)
            .filter(|data| !data.is_null());
        Self {
            code,
            message,
            data,
        }
    }
}

/// A request line.
pub(crate) fn request(id: u64, method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// A notification line.
pub(crate) fn notification(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string()
}

/// The line that answers a request.
pub(crate) fn result(id: &Value, result: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "result": result }).to_string()
}

/// The line that refuses a request.
pub(crate) fn error(id: &Value, code: i64, message: &str) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } }).to_string()
}

/// Lines that were not JSON-RPC: all counted, the last few kept, shortened and without terminal
/// escapes.
#[derive(Debug, Default)]
pub(crate) struct Noise {
    count: u64,
    last: VecDeque<String>,
}

impl Noise {
    /// Takes one such line; gives it back as a person may read it.
    pub(crate) fn add(&mut self, line: &[u8]) -> String {
        self.count += 1;
        let start = line.get(..NOISE_LINE_BYTES).unwrap_or(line);
        let text = sentence(&String::from_utf8_lossy(start), NOISE_LINE_CHARS);
        if !text.is_empty() {
            if self.last.len() == NOISE_KEPT {
                self.last.pop_front();
            }
            self.last.push_back(text.clone());
        }
        text
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The last few, in one line; empty if there were none.
    pub(crate) fn told(&self) -> String {
        self.last
            .iter()
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(" / ")
    }
}

/// Enough to recognise a login prompt or a stack trace by.
const NOISE_KEPT: usize = 5;
const NOISE_LINE_CHARS: usize = 160;
const NOISE_LINE_BYTES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_requests_responses_and_notifications_apart_whatever_the_id_is() {
        for id in ["7", "\"seven\"", "null", "[1]"] {
            let line = format!("{{\"id\":{id},\"method\":\"x\"}}");
            assert!(
                matches!(classify(line.as_bytes()), Incoming::Request { .. }),
                "{id}"
            );
            let line = format!("{{\"id\":{id},\"result\":null}}");
            assert!(
                matches!(classify(line.as_bytes()), Incoming::Response { .. }),
                "{id}"
            );
        }
        assert!(matches!(
            classify(b"{\"method\":\"x\"}"),
            Incoming::Notification { .. }
        ));
    }

    #[test]
    fn what_is_no_json_rpc_object_is_noise() {
        for line in [
            "",
            "hello",
            "[]",
            "3",
            "{}",
            "{\"id\":1}",
            "{\"method\":4}",
            "{\"result\":1}",
            "\u{1b}[2J",
        ] {
            assert_eq!(classify(line.as_bytes()), Incoming::Noise, "{line}");
        }
        assert_eq!(classify(b"{\"method\":\"\xff\"}"), Incoming::Noise);
    }

    #[test]
    fn errors_keep_code_message_and_data_and_survive_odd_types() {
        let Incoming::Response {
            outcome: Err(error),
            ..
        } = classify(br#"{"id":1,"error":{"code":"401","message":7,"data":[1]}}"#)
        else {
            panic!("not an error response");
        };
        assert_eq!(
            error,
            RpcError {
                code: 401,
                message: String::new(),
                data: Some(json!([1]))
            }
        );
    }

    #[test]
    fn noise_is_counted_kept_short_and_stripped_of_terminal_escapes() {
        let mut noise = Noise::default();
        noise.add(b"\x1b[?1049h\x1b[2JPlease visit the following URL");
        for n in 0..9 {
            noise.add(format!("line {n}").as_bytes());
        }
        assert_eq!(noise.count(), 10);
        assert_eq!(noise.told(), "line 4 / line 5 / line 6 / line 7 / line 8");
    }
}
