//! Approvals: from the gateway's request to a person and back.

use bridge_proto::{
    AskId, Digest, Timestamp, ToolCallId,
    model::{Answer, Ask, AskEnd, AskKind, Choice, ChoiceKind},
};
use serde_json::Value;

use crate::plain::{one_line, readable};

/// The open approvals of one conversation, oldest first.
#[derive(Debug, Default)]
pub(super) struct Asks {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    ask: AskId,
    /// The gateway's own id.
    approval: String,
    options: Vec<Choice>,
    call: Option<String>,
    expires: Option<i64>,
    /// What was sent, while the gateway has not confirmed it.
    sent: Option<String>,
}

/// What an answer leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) approval: String,
    /// The gateway's word for it.
    pub(super) word: String,
}

/// A question that is not open any more.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) ask: AskId,
    /// The tool call that waited.
    pub(super) call: Option<String>,
    pub(super) how: How,
}

/// How it was closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum How {
    /// By an answer of ours.
    Applied,
    /// By somebody or something else.
    Otherwise(AskEnd),
}

impl Asks {
    /// Whether nobody is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A request for approval; `None` if it is open already or cannot be shown.
    pub(super) fn raise(&mut self, approval: &Value) -> Option<Ask> {
        let text = |place: &str| approval.pointer(place).and_then(Value::as_str);
        let id = text("/id")?;
        let known = self.open.iter().any(|open| open.approval == id);
        if known || self.open.len() >= MAX_OPEN {
            return None;
        }
        let ask = AskId::parse(id).ok()?;
        let command = text("/request/command").unwrap_or("a command that was not named");
        let folder = text("/request/cwd").unwrap_or_default();
        let mut summary = readable(command, MAX_SUMMARY);
        for note in [text("/request/warningText"), text("/request/host")]
            .into_iter()
            .flatten()
            .filter(|note| *note != "gateway")
        {
            summary.push('\n');
            summary.push_str(&one_line(note, MAX_NOTE));
        }
        let allowed = approval.pointer("/request/allowedDecisions");
        let options = options(allowed);
        let call = text("/request/toolCallId").map(str::to_owned);
        let expires = approval.get("expiresAtMs").and_then(Value::as_i64);
        self.open.push(Open {
            ask: ask.clone(),
            approval: id.to_owned(),
            options: options.clone(),
            call: call.clone(),
            expires,
            sent: None,
        });
        Some(Ask {
            id: ask,
            kind: AskKind::Command,
            summary,
            options,
            digest: Digest::of(&["openclaw", id, command, folder]),
            tool: call.and_then(|call| ToolCallId::parse(&call).ok()),
            expires: expires.map(Timestamp::from_millis),
            answered: None,
            action: None,
        })
    }

    /// A person's answer: what to tell the gateway. `None` if the question is not open any more.
    pub(super) fn answer(&mut self, ask: &AskId, answer: &Answer) -> Option<Decision> {
        let open = self
            .open
            .iter_mut()
            .find(|open| open.ask == *ask && open.sent.is_none())?;
        let choice = choose(&open.options, answer);
        // Words that are no option must not allow anything.
        let word = choice.map_or(DENY, |choice| choice.id.as_str()).to_owned();
        open.sent = Some(word.clone());
        Some(Decision {
            approval: open.approval.clone(),
            word,
        })
    }

    /// The gateway could not take our answer: the question is closed, or open for another one.
    pub(super) fn refused(&mut self, ask: &AskId, is_over: bool) -> Option<Closed> {
        let at = self.open.iter().position(|open| open.ask == *ask)?;
        if is_over {
            return Some(self.take(at, How::Otherwise(AskEnd::Withdrawn)));
        }
        if let Some(open) = self.open.get_mut(at) {
            open.sent = None;
        }
        None
    }

    /// The gateway has our answer.
    pub(super) fn applied(&mut self, ask: &AskId) -> Option<Closed> {
        let at = self.open.iter().position(|open| open.ask == *ask)?;
        Some(self.take(at, How::Applied))
    }

    /// The gateway says that a request is decided, by whomever.
    pub(super) fn resolved(&mut self, payload: &Value) -> Option<Closed> {
        let text = |name: &str| payload.get(name).and_then(Value::as_str);
        let id = text("id")?;
        let at = self.open.iter().position(|open| open.approval == id)?;
        let open = self.open.get(at)?;
        let decision = text("decision").unwrap_or(DENY);
        if open.sent.as_deref() == Some(decision) {
            return Some(self.take(at, How::Applied));
        }
        let now = payload.get("ts").and_then(Value::as_i64);
        let late = open.expires.zip(now).is_some_and(|(end, now)| now >= end);
        let how = match text("resolvedBy") {
            None if late => AskEnd::Expired,
            None => AskEnd::Withdrawn,
            Some(_) => AskEnd::Answered {
                answer: format!("{} in OpenClaw itself", label(decision)),
            },
        };
        Some(self.take(at, How::Otherwise(how)))
    }

    /// The gateway's list of everything that is open: what is not on it is closed.
    pub(super) fn keep_only(&mut self, still_open: &[&str]) -> Vec<Closed> {
        let mut gone = Vec::new();
        while let Some(at) = self
            .open
            .iter()
            .position(|open| !still_open.contains(&open.approval.as_str()))
        {
            gone.push(self.take(at, How::Otherwise(AskEnd::Withdrawn)));
        }
        gone
    }

    /// What was sent and perhaps never arrived, because the connection broke.
    pub(super) fn unsure(&self) -> Vec<(AskId, Decision)> {
        self.open
            .iter()
            .filter_map(|open| {
                let word = open.sent.clone()?;
                let approval = open.approval.clone();
                Some((open.ask.clone(), Decision { approval, word }))
            })
            .collect()
    }

    fn take(&mut self, at: usize, how: How) -> Closed {
        let open = self.open.remove(at);
        Closed {
            ask: open.ask,
            call: open.call,
            how,
        }
    }
}

/// "For ever" is never offered: the gateway would write it into the user's own rules.
fn options(allowed: Option<&Value>) -> Vec<Choice> {
    let allowed: Option<Vec<&str>> = allowed
        .and_then(Value::as_array)
        .map(|words| words.iter().filter_map(Value::as_str).collect());
    let offered = [
        (ALLOW, ChoiceKind::AllowOnce),
        (DENY, ChoiceKind::RejectOnce),
    ];
    offered
        .into_iter()
        .filter(|(word, _)| {
            allowed
                .as_ref()
                .is_none_or(|allowed| allowed.contains(word))
        })
        .map(|(word, kind)| Choice {
            id: word.into(),
            label: label(word).into(),
            kind,
        })
        .collect()
}

fn label(word: &str) -> &str {
    match word {
        ALLOW => "Allow once",
        "allow-always" => "Always allow",
        _ => "Deny",
    }
}

/// The option an answer means: by id, number or label.
fn choose<'a>(options: &'a [Choice], answer: &Answer) -> Option<&'a Choice> {
    match answer {
        Answer::Choose { option } => options.iter().find(|choice| choice.id == *option),
        Answer::Text { text } => {
            let text = text.trim();
            let number = text.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
            number.and_then(|at| options.get(at)).or_else(|| {
                let lower = text.to_lowercase();
                options
                    .iter()
                    .find(|choice| choice.label.to_lowercase() == lower || choice.id == lower)
            })
        }
        Answer::Deny { .. } => None,
    }
}

const ALLOW: &str = "allow-once";
const DENY: &str = "deny";
/// Most questions open at once; further ones wait at the gateway until they expire.
const MAX_OPEN: usize = 64;
/// Longest summary: a whole command must be readable before it is allowed.
const MAX_SUMMARY: usize = 8000;
/// Longest note.
const MAX_NOTE: usize = 300;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn approval(id: &str, command: &str, allowed: &[&str]) -> Value {
        json!({ "id": id, "expiresAtMs": 1000, "request": { "command": command, "cwd": "/w",
            "host": "gateway", "toolCallId": "c1", "allowedDecisions": allowed } })
    }

    fn raise(asks: &mut Asks, id: &str) -> Ask {
        let request = approval(id, "touch a", &["allow-once", "allow-always", "deny"]);
        asks.raise(&request).unwrap()
    }

    fn closed(ask: &Ask, how: How) -> Closed {
        Closed {
            ask: ask.id.clone(),
            call: Some("c1".into()),
            how,
        }
    }

    #[test]
    fn only_what_the_gateway_allows_is_offered_and_never_for_ever() {
        let mut asks = Asks::default();
        let ask = raise(&mut asks, "a");
        let offered: Vec<&str> = ask.options.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(offered, ["allow-once", "deny"]);
        assert_eq!(
            (ask.summary.as_str(), ask.kind),
            ("touch a", AskKind::Command)
        );
        assert_eq!(ask.expires, Some(Timestamp::from_millis(1000)));
        let strict = asks.raise(&approval("b", "rm x", &["deny"])).unwrap();
        assert_eq!(strict.options.len(), 1);
        assert_ne!(strict.digest, ask.digest);
        assert_eq!(asks.raise(&approval("b", "rm x", &["deny"])), None, "twice");
    }

    #[test]
    fn an_answer_counts_once_the_gateway_confirms_it() {
        let mut asks = Asks::default();
        let ask = raise(&mut asks, "a");
        let allow = Answer::Text { text: "1".into() };
        let decision = asks.answer(&ask.id, &allow).unwrap();
        assert_eq!(decision.word, "allow-once");
        assert_eq!(asks.answer(&ask.id, &allow), None, "answered twice");
        assert!(!asks.is_empty());
        let resolved = json!({ "id": "a", "decision": "allow-once", "resolvedBy": "us" });
        assert_eq!(asks.resolved(&resolved), Some(closed(&ask, How::Applied)));
        assert_eq!(
            asks.applied(&ask.id),
            None,
            "the event was faster than the answer"
        );
    }

    #[test]
    fn words_that_are_no_option_deny() {
        for text in ["allow-always", "sure, for ever", "3", ""] {
            let mut asks = Asks::default();
            let ask = raise(&mut asks, "a");
            let answer = Answer::Text { text: text.into() };
            assert_eq!(
                asks.answer(&ask.id, &answer).unwrap().word,
                "deny",
                "{text}"
            );
        }
    }

    #[test]
    fn what_others_decide_closes_the_question() {
        let mut asks = Asks::default();
        let ends = [
            (
                json!("cli"),
                json!("deny"),
                5,
                AskEnd::Answered {
                    answer: "Deny in OpenClaw itself".into(),
                },
            ),
            (Value::Null, json!("deny"), 5, AskEnd::Withdrawn),
            (Value::Null, Value::Null, 2000, AskEnd::Expired),
        ];
        for (by, decision, ts, end) in ends {
            let ask = raise(&mut asks, "a");
            let payload = json!({ "id": "a", "decision": decision, "resolvedBy": by, "ts": ts });
            assert_eq!(
                asks.resolved(&payload),
                Some(closed(&ask, How::Otherwise(end)))
            );
        }
        let ask = raise(&mut asks, "a");
        assert_eq!(asks.keep_only(&["a"]), []);
        let gone = asks.keep_only(&["b"]);
        assert_eq!(gone[0].ask, ask.id);
    }

    #[test]
    fn a_refused_answer_leaves_the_question_open_unless_it_is_over() {
        let mut asks = Asks::default();
        let ask = raise(&mut asks, "a");
        let deny = Answer::Deny {
            reason: "no".into(),
        };
        asks.answer(&ask.id, &deny).unwrap();
        assert_eq!(asks.unsure().len(), 1);
        assert_eq!(asks.refused(&ask.id, false), None);
        assert!(asks.answer(&ask.id, &deny).is_some(), "may be tried again");
        let over = asks.refused(&ask.id, true);
        assert_eq!(over, Some(closed(&ask, How::Otherwise(AskEnd::Withdrawn))));
        assert!(asks.is_empty());
    }
}
