//! The answer of the HTTP endpoint as it streams: plain text, nothing of tools. Pure.
//!
//! The status is 200 even for what failed: the error stands in the stream.

use bridge_proto::{
    BlockId,
    model::{Fault, Fix, Outcome, RunEvent, Usage},
};
use serde_json::Value;

use crate::plain::{readable, tail};

/// One answer from its status to its end.
#[derive(Debug)]
pub struct HttpAnswer {
    block: BlockId,
    text: String,
    /// Bytes of a line that is not whole yet.
    line: Vec<u8>,
    skipping: bool,
    over: Option<Outcome>,
}

impl HttpAnswer {
    /// The `number`th answer of a conversation.
    pub fn new(number: u64) -> Self {
        let block = BlockId::parse(&format!("http-{number}"));
        Self {
            block: block.expect("a word and a number are a valid id"),
            text: String::new(),
            line: Vec::new(),
            skipping: false,
            over: None,
        }
    }

    /// The answer was no stream but a status with a body; that is the end.
    pub fn on_refused(&mut self, status: u16, body: &[u8]) {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let said = body.pointer("/error/message").and_then(Value::as_str);
        let said = readable(said.unwrap_or("without a reason"), REASON);
        let reason = format!("OpenClaw answered with HTTP status {status}: {said}");
        let outcome = match status {
            401 | 403 => Outcome::Blocked {
                fix: Fix::Login,
                reason: format!("{reason}; set OPENCLAW_GATEWAY_TOKEN to its gateway.auth.token"),
            },
            404 | 405 => Outcome::Blocked {
                fix: Fix::Setup,
                reason: format!(
                    "{reason}; its HTTP endpoint is off \
                     (gateway.http.endpoints.chatCompletions.enabled)"
                ),
            },
            400 => Outcome::Blocked {
                fix: Fix::Setup,
                reason,
            },
            _ => Outcome::Failed {
                fault: Fault::Agent,
                reason,
            },
        };
        self.over.get_or_insert(outcome);
    }

    /// Bytes of the stream.
    pub fn on_bytes(&mut self, bytes: &[u8]) -> Vec<RunEvent> {
        let mut events = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + piece.len() > MAX_LINE {
                self.line.clear();
                self.skipping = true;
            }
            if !self.skipping {
                self.line.extend_from_slice(piece);
            }
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                if !std::mem::take(&mut self.skipping) {
                    events.extend(self.on_line(&line));
                }
            }
        }
        events
    }

    /// The stream has ended.
    pub fn on_end(&mut self) {
        self.over.get_or_insert_with(|| Outcome::Failed {
            fault: Fault::Agent,
            reason: "OpenClaw hung up in the middle of its answer".into(),
        });
    }

    /// How it is over, if it is.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.over.as_ref()
    }

    /// What was said.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn on_line(&mut self, line: &[u8]) -> Option<RunEvent> {
        let line = String::from_utf8_lossy(line);
        let data = line.strip_prefix("data:")?.trim();
        if self.over.is_some() {
            return None;
        }
        if data == "[DONE]" {
            self.over = Some(Outcome::Completed);
            return None;
        }
        let chunk: Value = serde_json::from_str(data).ok()?;
        if let Some(error) = chunk.get("error") {
            self.over = Some(failed(error));
            return None;
        }
        let delta = chunk.pointer("/choices/0/delta/content");
        if let Some(delta) = delta
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
        {
            self.text.push_str(delta);
            if self.text.len() > 2 * ANSWER {
                self.text = tail(&self.text, ANSWER).to_owned();
            }
            return Some(RunEvent::Text {
                block: self.block.clone(),
                delta: delta.to_owned(),
            });
        }
        let usage = chunk.get("usage")?;
        let count = |name: &str| usage.get(name).and_then(Value::as_u64);
        let (input, output) = (count("prompt_tokens"), count("completion_tokens"));
        (input.or(output).is_some()).then_some(RunEvent::Usage(Usage {
            input_tokens: input,
            output_tokens: output,
            cost_usd: None,
        }))
    }
}

fn failed(error: &Value) -> Outcome {
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    let reason = readable(text("message").unwrap_or("without a reason"), REASON);
    match text("type").unwrap_or_default() {
        "authentication_error" | "unauthorized" => Outcome::Blocked {
            fix: Fix::Login,
            reason,
        },
        "rate_limit_error" | "insufficient_quota" => Outcome::Blocked {
            fix: Fix::Credit,
            reason,
        },
        _ => Outcome::Failed {
            fault: Fault::Model,
            reason,
        },
    }
}

/// Longest line of the stream; longer ones are skipped.
const MAX_LINE: usize = 4 << 20;
/// What is kept of a huge answer: its end, where status tags stand.
const ANSWER: usize = 4 << 20;
/// Longest reason of an outcome.
const REASON: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_200_with_an_error_in_the_stream_is_a_failure() {
        let mut answer = HttpAnswer::new(1);
        let error = br#"data: {"error":{"message":"401 no","type":"authentication_error"}}"#;
        assert_eq!(answer.on_bytes(error), []);
        answer.on_bytes(b"\n\ndata: [DONE]\n\n");
        answer.on_end();
        let reason = "401 no".to_owned();
        let fix = Fix::Login;
        assert_eq!(answer.outcome(), Some(&Outcome::Blocked { fix, reason }));
    }

    #[test]
    fn text_is_put_together_however_the_bytes_are_cut() {
        let whole = "data: {\"choices\":[{\"delta\":{\"content\":\"zwölf\"}}]}\n\n: comment\ndata: \
                     {\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2}}\ndata: [DONE]\n";
        let mut answer = HttpAnswer::new(1);
        let events: Vec<RunEvent> = whole
            .bytes()
            .flat_map(|byte| answer.on_bytes(&[byte]))
            .collect();
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(answer.text(), "zwölf");
        assert_eq!(answer.outcome(), Some(&Outcome::Completed));
    }

    #[test]
    fn a_stream_that_breaks_off_or_never_ends_a_line_is_a_failure() {
        let mut answer = HttpAnswer::new(1);
        for _ in 0..6 {
            answer.on_bytes(&vec![b'x'; 1 << 20]);
        }
        assert!(answer.line.len() <= MAX_LINE);
        answer.on_bytes(b"\ndata: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n");
        assert_eq!(answer.text(), "a");
        answer.on_end();
        assert!(matches!(answer.outcome(), Some(Outcome::Failed { .. })));
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (status, says) in [(401, "OPENCLAW_GATEWAY_TOKEN"), (404, "chatCompletions")] {
            let mut answer = HttpAnswer::new(1);
            answer.on_refused(status, br#"{"error":{"message":"Unauthorized"}}"#);
            let Some(Outcome::Blocked { reason, .. }) = answer.outcome() else {
                panic!("{answer:?}")
            };
            assert!(reason.contains(says), "{reason}");
        }
        let mut answer = HttpAnswer::new(1);
        answer.on_refused(500, b"<html>");
        assert!(matches!(answer.outcome(), Some(Outcome::Failed { .. })));
    }
}
