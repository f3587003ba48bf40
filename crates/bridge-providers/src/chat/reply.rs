//! One answer of the endpoint, from the head of the response to its end: pieces in, what the
//! model said out. Pure.

use std::{collections::BTreeMap, time::Duration};

use bridge_proto::model::Usage;
use serde_json::Value;

use super::{
    chunk::{self, CallPart, Finish, Said},
    fence::{Fence, Part},
    sse::EventStream,
    trouble::{REASON_CHARS, Trouble, refusal},
};
use crate::plain::{head, sentence};

/// An answer that is being received.
#[derive(Debug, Default)]
pub(super) struct Reply {
    body: Body,
    taken: usize,
    fence: Fence,
    /// All text as the model wrote it, fenced calls included.
    raw: String,
    calls: BTreeMap<u64, WantedCall>,
    fenced: u64,
    finish: Option<Finish>,
    usage: Option<Usage>,
    /// Something a person has seen, which cannot be taken back.
    shown: bool,
    odd: u32,
    documents: u32,
}

#[derive(Debug, Default)]
enum Body {
    /// The head has not come.
    #[default]
    None,
    Events(EventStream),
    /// One document, although a stream was asked for.
    Document(Vec<u8>),
    /// The body of a refusal.
    Refusal {
        status: u16,
        retry_after: Option<Duration>,
        text: Vec<u8>,
    },
}

/// The head of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// The media type, in lower case.
    pub(super) kind: String,
    /// How long the service wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// Where a redirect leads.
    pub(super) location: Option<String>,
}

/// A tool call as the model wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct WantedCall {
    /// The model's own id, or empty.
    pub(super) id: String,
    /// The name of the tool.
    pub(super) name: String,
    /// JSON, if the model kept to it.
    pub(super) arguments: String,
    /// It stood in the text.
    pub(super) fenced: bool,
}

/// What is told while an answer comes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum News {
    /// More of the answer.
    Text(String),
    /// More of what the model thinks.
    Reasoning(String),
    /// The name of the tool of the call with this number is known.
    Calling(u64, String),
    /// Something without a place.
    Odd(Value),
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) text: String,
    /// The calls with their numbers, in order.
    pub(super) calls: Vec<(u64, WantedCall)>,
    pub(super) finish: Finish,
    pub(super) usage: Option<Usage>,
}

impl Reply {
    /// Takes the head of the response.
    pub(super) fn on_head(&mut self, head: Head) -> Result<(), Trouble> {
        self.body = match head.status {
            200..=299 if head.kind.contains("json") => Body::Document(Vec::new()),
            200..=299 if head.kind.is_empty() || head.kind.contains("event-stream") => {
                Body::Events(EventStream::default())
            }
            200..=299 => {
                let kind = sentence(&head.kind, 60);
                return Err(Trouble::Unfit(format!(
                    "it answers with {kind}, which is no answer of a model; check the address"
                )));
            }
            300..=399 => {
                let to = sentence(&head.location.unwrap_or_default(), 200);
                return Err(Trouble::Unfit(format!(
                    "it sends us elsewhere ({to}), which is not followed; give the final address"
                )));
            }
            status => Body::Refusal {
                status,
                retry_after: head.retry_after,
                text: Vec::new(),
            },
        };
        Ok(())
    }

    /// Takes a piece of the body.
    pub(super) fn on_bytes(
        &mut self,
        bytes: &[u8],
        is_tool: impl Fn(&str) -> bool,
    ) -> Result<Vec<News>, Trouble> {
        self.taken += bytes.len();
        let payloads = match &mut self.body {
            Body::None => Vec::new(),
            Body::Refusal { text, .. } => {
                let room = REFUSAL_BYTES.saturating_sub(text.len());
                text.extend(bytes.iter().take(room));
                return Ok(Vec::new());
            }
            Body::Document(whole) => {
                whole.extend_from_slice(bytes);
                Vec::new()
            }
            Body::Events(events) => events
                .push(bytes)
                .map_err(|error| Trouble::Unfit(error.to_string()))?,
        };
        if self.taken > REPLY_BYTES {
            return Err(Trouble::Unfit(format!(
                "the answer is longer than {} MiB",
                REPLY_BYTES >> 20
            )));
        }
        let mut news = Vec::new();
        for payload in payloads {
            self.on_payload(&payload, &is_tool, &mut news)?;
        }
        Ok(news)
    }

    /// The body is over.
    pub(super) fn on_end(
        &mut self,
        is_tool: impl Fn(&str) -> bool,
    ) -> Result<(Vec<News>, Answer), Trouble> {
        let mut news = Vec::new();
        match std::mem::take(&mut self.body) {
            Body::None => return Err(Trouble::Broken("it hung up without an answer".into())),
            Body::Refusal {
                status,
                retry_after,
                text,
            } => {
                return Err(Trouble::Refused {
                    status,
                    message: refusal(status, &text),
                    retry_after,
                });
            }
            Body::Document(whole) => {
                let document = serde_json::from_slice(&whole).map_err(|error| {
                    Trouble::Unfit(format!("it answers with broken JSON ({error})"))
                })?;
                self.on_document(&document, &is_tool, &mut news)?;
                self.finish = self.finish.or(Some(Finish::Done));
            }
            Body::Events(mut events) => {
                let last = events
                    .finish()
                    .map_err(|error| Trouble::Unfit(error.to_string()))?;
                if let Some(payload) = last {
                    self.on_payload(&payload, &is_tool, &mut news)?;
                }
            }
        }
        for part in self.fence.finish(&is_tool) {
            self.on_part(part, &mut news);
        }
        let Some(finish) = self.finish else {
            return Err(self.cut());
        };
        if finish == Finish::Error {
            return Err(Trouble::Broken("the model's service broke off".into()));
        }
        let calls = std::mem::take(&mut self.calls);
        let answer = Answer {
            text: std::mem::take(&mut self.raw),
            calls: calls.into_iter().take(MAX_CALLS).collect(),
            finish,
            usage: self.usage,
        };
        Ok((news, answer))
    }

    /// Whether a person has seen something of it.
    pub(super) fn is_shown(&self) -> bool {
        self.shown
    }

    /// The text so far.
    pub(super) fn into_text(self) -> String {
        self.raw
    }

    fn cut(&self) -> Trouble {
        if self.documents == 0 {
            return Trouble::Unfit(
                "it answers, but not as an OpenAI-compatible endpoint; check the address".into(),
            );
        }
        Trouble::Broken("the answer broke off".into())
    }

    fn on_payload(
        &mut self,
        payload: &str,
        is_tool: &impl Fn(&str) -> bool,
        news: &mut Vec<News>,
    ) -> Result<(), Trouble> {
        if payload.trim() == "[DONE]" {
            // Some services say why they stopped only by stopping.
            self.finish = self
                .finish
                .or_else(|| (self.documents > 0).then_some(Finish::Done));
            return Ok(());
        }
        match serde_json::from_str::<Value>(payload) {
            Ok(document) => self.on_document(&document, is_tool, news),
            Err(_) => self.on_odd(Value::String(sentence(head(payload, 2000), 500)), news),
        }
    }

    fn on_document(
        &mut self,
        document: &Value,
        is_tool: &impl Fn(&str) -> bool,
        news: &mut Vec<News>,
    ) -> Result<(), Trouble> {
        for said in chunk::read(document) {
            if said != Said::Unknown {
                self.documents = self.documents.saturating_add(1);
            }
            match said {
                Said::Text(text) => {
                    self.raw.push_str(&text);
                    for part in self.fence.push(&text, is_tool) {
                        self.on_part(part, news);
                    }
                }
                Said::Reasoning(text) => news.push(News::Reasoning(text)),
                Said::Call(part) => self.on_call(part, news),
                Said::Finish(finish) => self.finish = Some(finish),
                Said::Usage(usage) => self.usage = Some(usage),
                Said::Failed { status, message } => {
                    return Err(Trouble::Refused {
                        status: status.unwrap_or(500),
                        message: sentence(&message, REASON_CHARS),
                        retry_after: None,
                    });
                }
                Said::Unknown => self.on_odd(document.clone(), news)?,
            }
        }
        Ok(())
    }

    fn on_part(&mut self, part: Part, news: &mut Vec<News>) {
        match part {
            Part::Text(text) => {
                self.shown = true;
                news.push(News::Text(text));
            }
            Part::Call { name, arguments } => {
                let number = FENCED + self.fenced;
                self.fenced += 1;
                self.shown = true;
                news.push(News::Calling(number, name.clone()));
                let call = WantedCall {
                    id: String::new(),
                    name,
                    arguments: arguments.to_string(),
                    fenced: true,
                };
                self.calls.insert(number, call);
            }
        }
    }

    fn on_call(&mut self, part: CallPart, news: &mut Vec<News>) {
        let room = self.calls.len() < MAX_CALLS || self.calls.contains_key(&part.index);
        if !room || part.index >= FENCED {
            return;
        }
        let call = self.calls.entry(part.index).or_default();
        if let Some(id) = part.id.filter(|_| call.id.is_empty()) {
            head(&id, ID_BYTES).clone_into(&mut call.id);
        }
        if let Some(name) = part.name.filter(|_| call.name.is_empty()) {
            head(&name, NAME_BYTES).clone_into(&mut call.name);
            self.shown = true;
            news.push(News::Calling(part.index, call.name.clone()));
        }
        call.arguments.push_str(&part.arguments);
    }

    /// A document that says nothing known: shown a few times, and too much of it is no protocol.
    fn on_odd(&mut self, what: Value, news: &mut Vec<News>) -> Result<(), Trouble> {
        self.odd += 1;
        if self.odd <= ODD_SHOWN {
            news.push(News::Odd(what));
        }
        if self.odd > ODD_LIMIT {
            return Err(Trouble::Unfit(
                "it sends what is not the protocol; check the address".into(),
            ));
        }
        Ok(())
    }
}

impl Answer {
    /// What an answer without anything in it is.
    pub(super) fn is_empty(&self) -> bool {
        self.text.trim().is_empty() && self.calls.is_empty()
    }
}

/// Of one answer, all of it.
const REPLY_BYTES: usize = 32 << 20;
const REFUSAL_BYTES: usize = 64 << 10;
/// Calls of one answer; further ones are not made.
const MAX_CALLS: usize = 64;
/// Numbers of calls that stood in the text, behind all others.
const FENCED: u64 = 1 << 32;
const ID_BYTES: usize = 200;
const NAME_BYTES: usize = 100;
const ODD_SHOWN: u32 = 5;
const ODD_LIMIT: u32 = 1000;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn known(name: &str) -> bool {
        name == "read_file"
    }

    fn head_of(status: u16, kind: &str) -> Head {
        Head {
            status,
            kind: kind.into(),
            ..Head::default()
        }
    }

    fn event(document: &Value) -> Vec<u8> {
        format!("data: {document}\n\n").into_bytes()
    }

    fn streamed(pieces: &[Vec<u8>]) -> Result<(Vec<News>, Answer), Trouble> {
        let mut reply = Reply::default();
        reply.on_head(head_of(200, "text/event-stream; charset=utf-8"))?;
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(reply.on_bytes(piece, known)?);
        }
        let (news, answer) = reply.on_end(known)?;
        all.extend(news);
        Ok((all, answer))
    }

    fn delta(delta: &Value) -> Vec<u8> {
        event(&json!({ "choices": [{ "delta": delta }] }))
    }

    fn stop() -> Vec<u8> {
        event(&json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }))
    }

    #[test]
    fn an_answer_is_text_calls_and_usage() {
        let call = |arguments: &str| {
            json!({ "tool_calls": [{ "index": 0, "id": "c", "function":
                { "name": "read_file", "arguments": arguments } }] })
        };
        let usage = json!({ "choices": [], "usage": { "prompt_tokens": 3 } });
        let (news, answer) = streamed(&[
            delta(&json!({ "reasoning": "hm" })),
            delta(&json!({ "content": "I look." })),
            delta(&call("{\"path\":")),
            delta(&call("\"a\"}")),
            stop(),
            event(&usage),
            b"data: [DONE]\n\n".to_vec(),
        ])
        .unwrap();
        assert_eq!(
            news,
            [
                News::Reasoning("hm".into()),
                News::Text("I look.".into()),
                News::Calling(0, "read_file".into()),
            ]
        );
        assert_eq!(answer.calls[0].1.arguments, "{\"path\":\"a\"}");
        assert_eq!(answer.usage.unwrap().input_tokens, Some(3));
        assert_eq!(answer.text, "I look.");
    }

    #[test]
    fn a_fenced_call_is_not_shown_as_text_and_stays_in_the_history() {
        let text = "```json\n{\"name\":\"read_file\",\"arguments\":{\"path\":\"a\"}}\n```";
        let (news, answer) = streamed(&[delta(&json!({ "content": text })), stop()]).unwrap();
        assert_eq!(news, [News::Calling(FENCED, "read_file".into())]);
        assert!(answer.calls[0].1.fenced);
        assert_eq!(answer.text, text);
    }

    #[test]
    fn one_document_is_an_answer_as_well() {
        let mut reply = Reply::default();
        reply.on_head(head_of(200, "application/json")).unwrap();
        let whole = json!({ "choices": [{ "message": { "content": "hi" } }] }).to_string();
        for piece in whole.as_bytes().chunks(5) {
            assert_eq!(reply.on_bytes(piece, known), Ok(Vec::new()));
        }
        let (news, answer) = reply.on_end(known).unwrap();
        assert_eq!((news.len(), answer.text.as_str()), (1, "hi"));
    }

    #[test]
    fn an_answer_without_an_end_broke_off() {
        let cut = streamed(&[delta(&json!({ "content": "I" }))]).unwrap_err();
        assert_eq!(cut, Trouble::Broken("the answer broke off".into()));
        assert!(matches!(streamed(&[]), Err(Trouble::Unfit(_))));
        assert!(matches!(
            Reply::default().on_end(known),
            Err(Trouble::Broken(_))
        ));
    }

    #[test]
    fn a_refusal_keeps_its_status_and_its_words() {
        for (body, message) in [
            (
                r#"{"error":{"message":"no credit","code":402}}"#,
                "no credit",
            ),
            (r#"{"error":"no credit"}"#, "no credit"),
            (r#"[{"error":{"message":"no credit"}}]"#, "no credit"),
            ("no \u{1b}[31mcredit\n", "no credit"),
            ("", "the endpoint refuses with status 402"),
        ] {
            let mut reply = Reply::default();
            reply.on_head(head_of(402, "text/html")).unwrap();
            reply.on_bytes(body.as_bytes(), known).unwrap();
            let wanted = Trouble::Refused {
                status: 402,
                message: message.into(),
                retry_after: None,
            };
            assert_eq!(reply.on_end(known), Err(wanted));
        }
    }

    #[test]
    fn redirects_and_pages_are_no_answers() {
        for head in [head_of(307, ""), head_of(200, "text/html")] {
            let error = Reply::default().on_head(head).unwrap_err();
            assert!(!error.passes() && matches!(error, Trouble::Unfit(_)));
        }
    }

    #[test]
    fn endless_and_senseless_answers_end() {
        let long = delta(&json!({ "content": "x".repeat(1 << 20) }));
        let many = vec![long; 40];
        assert!(matches!(streamed(&many), Err(Trouble::Unfit(_))));
        let line = vec![vec![b'x'; 1 << 20]; 100];
        assert!(matches!(streamed(&line), Err(Trouble::Unfit(_))));
        let noise = vec![b"data: {\"cut\n\n".to_vec(); 1001];
        assert!(matches!(streamed(&noise), Err(Trouble::Unfit(_))));
        let (news, _) = streamed(&[
            noise[..20].concat(),
            delta(&json!({"content": "a"})),
            stop(),
        ])
        .unwrap();
        assert_eq!(news.len(), 6, "a few odd ones are shown");
    }
}
