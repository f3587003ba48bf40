//! The frames of the gateway: requests of ours, answers and events of its.

use serde_json::{Value, json};

/// A frame from the gateway.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Frame {
    /// The answer to a request of ours.
    Answer {
        id: String,
        result: Result<Value, Failure>,
    },
    Event {
        name: String,
        payload: Value,
    },
    /// Anything else, whole.
    Strange(Value),
}

/// Why the gateway did not do what was asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Failure {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) details: Value,
}

impl Frame {
    /// Reads a text message; what is no object is strange.
    pub(super) fn read(text: &str) -> Self {
        let Ok(mut frame) = serde_json::from_str::<Value>(text) else {
            return Self::Strange(Value::Null);
        };
        let own = |name: &str| frame.get(name).and_then(Value::as_str).map(str::to_owned);
        match (own("type").as_deref(), own("id"), own("event")) {
            (Some("res"), Some(id), _) => {
                let ok = frame.get("ok").and_then(Value::as_bool) == Some(true);
                let result = if ok {
                    Ok(take(&mut frame, "payload"))
                } else {
                    Err(Failure::read(&take(&mut frame, "error")))
                };
                Self::Answer { id, result }
            }
            (Some("event"), _, Some(name)) => Self::Event {
                name,
                payload: take(&mut frame, "payload"),
            },
            _ => Self::Strange(frame),
        }
    }
}

impl Failure {
    fn read(error: &Value) -> Self {
        let text = |name: &str| {
            let text = error.get(name).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        Self {
            code: text("code"),
            message: text("message"),
            details: error.get("details").cloned().unwrap_or_default(),
        }
    }

    /// The finer name of what went wrong.
    pub(super) fn detail(&self) -> &str {
        self.detail_text("code")
            .or_else(|| self.detail_text("reason"))
            .unwrap_or_default()
    }

    pub(super) fn detail_text(&self, name: &str) -> Option<&str> {
        self.details.get(name).and_then(Value::as_str)
    }
}

/// A request of ours as a line.
pub(super) fn request(id: &str, method: &str, params: &Value) -> String {
    json!({ "type": "req", "id": id, "method": method, "params": params }).to_string()
}

fn take(frame: &mut Value, name: &str) -> Value {
    frame.get_mut(name).map(Value::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_events_are_told_apart_and_the_rest_is_kept() {
        assert_eq!(
            Frame::read(r#"{"type":"res","id":"r1","ok":true,"payload":{"a":1}}"#),
            Frame::Answer {
                id: "r1".into(),
                result: Ok(json!({ "a": 1 })),
            }
        );
        let refused = r#"{"type":"res","id":"r1","ok":false,
            "error":{"code":"INVALID_REQUEST","message":"no","details":{"reason":"because"}}}"#;
        let Frame::Answer {
            result: Err(failure),
            ..
        } = Frame::read(refused)
        else {
            panic!("not an answer")
        };
        assert_eq!(
            (failure.code.as_str(), failure.detail()),
            ("INVALID_REQUEST", "because")
        );
        assert_eq!(
            Frame::read(r#"{"type":"event","event":"tick"}"#),
            Frame::Event {
                name: "tick".into(),
                payload: Value::Null,
            }
        );
        for strange in ["", "[]", "{}", "7", r#"{"type":"res"}"#, "{\"type\":"] {
            assert!(
                matches!(Frame::read(strange), Frame::Strange(_)),
                "{strange}"
            );
        }
    }
}
