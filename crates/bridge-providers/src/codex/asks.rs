//! Permissions and questions: from the program's request to a person and back.
//!
//! ```text
//! raised ─ answer ─► answered ─ serverRequest/resolved, or its item goes on ─► applied
//!    └──── serverRequest/resolved without an answer, end of the turn ─► withdrawn
//! ```

use bridge_proto::{
    AskId, ToolCallId,
    model::{Answer, Ask, Choice, ChoiceKind, match_answer},
};
use serde_json::{Map, Value, json};

use super::{
    outgoing,
    tools::Wanted,
    wording::{self, Shown},
};

/// The open questions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Asks {
    open: Vec<Open>,
    /// Asked so far. The program's own numbers may come twice; an answer must not fit another
    /// question than the one that was shown.
    asked: u64,
}

#[derive(Debug)]
struct Open {
    ask: Ask,
    /// The id of the program's request.
    request: Value,
    /// The item that waits.
    item: Option<String>,
    sort: Sort,
    /// Whether the item may go on, once that is answered.
    given: Option<bool>,
}

#[derive(Debug)]
enum Sort {
    Permission,
    /// The agent's own questions, asked one after another.
    Questions {
        questions: Vec<Value>,
        at: usize,
        answers: Map<String, Value>,
    },
}

/// What a request became.
#[derive(Debug)]
pub(super) enum Raised {
    /// Ask a person. An open question with the same request is withdrawn by it.
    Ask { ask: Ask, instead_of: Option<AskId> },
    /// It cannot be shown: answer with this line.
    Refused(String),
    /// Nobody has to be asked: answer with this line.
    Allowed(String),
}

/// What an answer leads to.
#[derive(Debug)]
pub(super) struct Given {
    /// The line to send; `None` while further questions of the same request are open.
    pub(super) line: Option<String>,
    /// The next question of the same request.
    pub(super) next: Option<Ask>,
}

/// What became of a request that the program is done with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) ask: AskId,
    /// Whether the item may go on; `None` without an answer.
    pub(super) given: Option<bool>,
    pub(super) item: Option<String>,
}

impl Asks {
    /// Whether nobody is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.open.iter().all(|open| open.given.is_some())
    }

    /// May a command be run?
    pub(super) fn command(&mut self, request: &Value, params: &Value, directory: &str) -> Raised {
        if wording::needs_nobody(params) {
            return Raised::Allowed(decision(request, "accept"));
        }
        let Some(shown) = wording::command(params, directory) else {
            return Raised::Refused(decision(request, DECLINE));
        };
        self.permission(request, params, shown)
    }

    /// May files be changed? `wanted` is what the item with the same id said.
    pub(super) fn change(
        &mut self,
        request: &Value,
        params: &Value,
        wanted: Option<Wanted>,
    ) -> Raised {
        self.permission(request, params, wording::change(params, wanted))
    }

    /// The agent's own questions.
    pub(super) fn questions(&mut self, request: &Value, params: &Value) -> Raised {
        let questions = wording::questions(params);
        if questions.is_empty() || self.open.len() >= MAX_OPEN {
            return Raised::Refused(outgoing::result(request, &json!({ "answers": {} })));
        }
        let instead_of = self.take_back(request);
        let mut open = Open {
            ask: self.ask(Shown::default(), params),
            request: request.clone(),
            item: None,
            sort: Sort::Questions {
                questions,
                at: 0,
                answers: Map::new(),
            },
            given: None,
        };
        open.show_question();
        let ask = open.ask.clone();
        self.open.push(open);
        Raised::Ask { ask, instead_of }
    }

    /// A person's answer; `None` if the question is not open any more.
    pub(super) fn answer(&mut self, ask: &AskId, answer: &Answer) -> Option<Given> {
        let at = self
            .open
            .iter()
            .position(|open| open.ask.id == *ask && open.given.is_none())?;
        let open = self.open.get_mut(at)?;
        let answer = match answer {
            Answer::Text { text } => match_answer(&open.ask, text),
            Answer::Choose { .. } | Answer::Deny { .. } => answer.clone(),
        };
        let request = open.request.clone();
        let Sort::Questions {
            questions,
            at: number,
            answers,
        } = &mut open.sort
        else {
            let chosen = match &answer {
                Answer::Choose { option } => open.ask.options.iter().find(|one| one.id == *option),
                Answer::Text { .. } | Answer::Deny { .. } => None,
            };
            let word = chosen.map_or(DECLINE, |choice| choice.id.as_str());
            let line = decision(&request, word);
            open.given = Some(word != DECLINE);
            return Some(Given {
                line: Some(line),
                next: None,
            });
        };
        let words = match &answer {
            Answer::Choose { option } => {
                let choice = open.ask.options.iter().find(|choice| choice.id == *option);
                choice.map(|choice| choice.label.clone())
            }
            Answer::Text { text } => Some(text.clone()),
            Answer::Deny { .. } => None,
        };
        let id = questions
            .get(*number)
            .and_then(|question| question.get("id"));
        if let (Some(id), Some(words)) = (id.and_then(Value::as_str), words) {
            answers.insert(id.to_owned(), json!({ "answers": [words] }));
        }
        *number += 1;
        if *number >= questions.len() {
            let line = outgoing::result(&request, &json!({ "answers": answers }));
            open.given = Some(true);
            return Some(Given {
                line: Some(line),
                next: None,
            });
        }
        self.asked += 1;
        open.ask.id = ask_id(self.asked);
        open.show_question();
        Some(Given {
            line: None,
            next: Some(open.ask.clone()),
        })
    }

    /// The program is done with a request, by an answer or without one.
    pub(super) fn resolved(&mut self, request: &Value) -> Option<Resolved> {
        let at = self.open.iter().position(|open| open.request == *request)?;
        let open = self.open.remove(at);
        Some(Resolved {
            ask: open.ask.id,
            given: open.given,
            item: open.item,
        })
    }

    /// The item goes on, so the answers it waited for were taken.
    pub(super) fn goes_on(&mut self, item: &str) -> Vec<AskId> {
        let of = |open: &Open| open.given.is_some() && open.item.as_deref() == Some(item);
        let taken = self.open.iter().filter(|open| of(open));
        let taken = taken.map(|open| open.ask.id.clone()).collect();
        self.open.retain(|open| !of(open));
        taken
    }

    /// Nobody waits for answers any more; gives the questions that had none.
    pub(super) fn withdraw_all(&mut self) -> Vec<AskId> {
        let left = self.open.drain(..).filter(|open| open.given.is_none());
        left.map(|open| open.ask.id).collect()
    }

    fn permission(&mut self, request: &Value, params: &Value, shown: Shown) -> Raised {
        if self.open.len() >= MAX_OPEN {
            return Raised::Refused(decision(request, DECLINE));
        }
        let instead_of = self.take_back(request);
        let mut ask = self.ask(shown, params);
        let option = |id: &str, label: &str, kind| Choice {
            id: id.into(),
            label: label.into(),
            kind,
        };
        ask.options = vec![
            option("accept", "Allow once", ChoiceKind::AllowOnce),
            option(
                "acceptForSession",
                "Allow in this session",
                ChoiceKind::AllowAlways,
            ),
            option(DECLINE, "Deny", ChoiceKind::RejectOnce),
        ];
        let item = params.get("itemId").and_then(Value::as_str);
        self.open.push(Open {
            ask: ask.clone(),
            request: request.clone(),
            item: item.map(str::to_owned),
            sort: Sort::Permission,
            given: None,
        });
        Raised::Ask { ask, instead_of }
    }

    /// The question this request had, if it comes a second time.
    fn take_back(&mut self, request: &Value) -> Option<AskId> {
        let before = self.resolved(request)?;
        before.given.is_none().then_some(before.ask)
    }

    fn ask(&mut self, shown: Shown, params: &Value) -> Ask {
        self.asked += 1;
        let item = params.get("itemId").and_then(Value::as_str);
        Ask {
            id: ask_id(self.asked),
            kind: shown.kind,
            summary: shown.summary,
            options: shown.options,
            digest: shown.digest,
            tool: item.and_then(|item| ToolCallId::parse(item).ok()),
            expires: None,
            answered: None,
            action: shown.action,
        }
    }
}

impl Open {
    /// Makes the present question of several the one that is asked.
    fn show_question(&mut self) {
        let Sort::Questions { questions, at, .. } = &self.sort else {
            return;
        };
        if let Some(shown) = questions.get(*at).map(wording::question) {
            self.ask.summary = shown.summary;
            self.ask.options = shown.options;
            self.ask.digest = shown.digest;
        }
    }
}

fn decision(request: &Value, word: &str) -> String {
    outgoing::result(request, &json!({ "decision": word }))
}

fn ask_id(number: u64) -> AskId {
    AskId::parse(&format!("codex-{number}")).expect("a word and a number are a valid id")
}

const DECLINE: &str = "decline";
/// Most questions open at once; further ones are refused.
const MAX_OPEN: usize = 64;

#[cfg(test)]
mod tests {
    use bridge_proto::model::AskKind;

    use super::*;

    fn touch(target: &str) -> Value {
        json!({"kind": "command", "threadId": "t", "turnId": "u", "itemId": "call_1",
            "startedAtMs": 5, "command": format!("/bin/bash -lc 'touch {target}'"),
            "cwd": "/work", "reason": null,
            "availableDecisions": ["accept", {"acceptWithExecpolicyAmendment": {}}, "cancel"]})
    }

    fn shown(raised: Raised) -> Ask {
        match raised {
            Raised::Ask { ask, .. } => ask,
            Raised::Refused(line) | Raised::Allowed(line) => panic!("answered: {line}"),
        }
    }

    fn choose(option: &str) -> Answer {
        Answer::Choose {
            option: option.into(),
        }
    }

    fn said(given: Option<Given>) -> Value {
        serde_json::from_str(&given.unwrap().line.unwrap()).unwrap()
    }

    #[test]
    fn a_lasting_rule_is_never_an_option() {
        let mut asks = Asks::default();
        let ask = shown(asks.command(&json!(7), &touch("made"), "/work"));
        let ids: Vec<&str> = ask
            .options
            .iter()
            .map(|choice| choice.id.as_str())
            .collect();
        assert_eq!(ids, ["accept", "acceptForSession", "decline"]);
        let answer = said(asks.answer(&ask.id, &choose("acceptWithExecpolicyAmendment")));
        assert_eq!(answer, json!({"id": 7, "result": {"decision": "decline"}}));
    }

    #[test]
    fn an_answer_is_applied_when_it_is_resolved_or_the_item_goes_on() {
        let mut asks = Asks::default();
        let ask = shown(asks.command(&json!(0), &touch("made"), "/work"));
        assert!(!asks.is_empty());
        let answer = said(asks.answer(&ask.id, &Answer::Text { text: "yes".into() }));
        assert_eq!(answer, json!({"id": 0, "result": {"decision": "accept"}}));
        assert!(asks.is_empty());
        assert!(asks.answer(&ask.id, &choose("decline")).is_none(), "twice");
        let resolved = asks.resolved(&json!(0)).unwrap();
        assert_eq!((resolved.given, resolved.ask), (Some(true), ask.id));

        let ask = shown(asks.command(&json!(1), &touch("made"), "/work"));
        assert!(asks.goes_on("call_1").is_empty(), "not answered yet");
        asks.answer(&ask.id, &choose("decline"));
        assert_eq!(asks.goes_on("call_1"), [ask.id]);
    }

    #[test]
    fn a_request_that_comes_twice_takes_the_place_of_the_first() {
        let mut asks = Asks::default();
        let first = shown(asks.command(&json!(0), &touch("one"), "/work"));
        let Raised::Ask { ask, instead_of } = asks.command(&json!(0), &touch("two"), "/work")
        else {
            panic!()
        };
        assert_eq!(instead_of, Some(first.id.clone()));
        assert!(asks.answer(&first.id, &choose("accept")).is_none());
        assert!(asks.answer(&ask.id, &choose("accept")).is_some());
    }

    #[test]
    fn several_questions_are_asked_one_after_another() {
        let params = json!({"itemId": "c", "questions": [
            {"id": "q1", "question": "Colour?", "options": [
                {"label": "Red", "description": "warm"}, {"label": "Blue"}]},
            {"id": "s", "question": "Password?", "isSecret": true},
            {"id": "q2", "question": "Size?"}]});
        let mut asks = Asks::default();
        let first = shown(asks.questions(&json!("r"), &params));
        assert_eq!(
            (first.kind, first.summary.as_str()),
            (AskKind::Question, "Colour?\n- Red: warm")
        );
        let given = asks
            .answer(&first.id, &Answer::Text { text: "2".into() })
            .unwrap();
        assert_eq!(given.line, None);
        let next = given.next.unwrap();
        assert_ne!(next.id, first.id);
        let last = said(asks.answer(
            &next.id,
            &Answer::Text {
                text: "large".into(),
            },
        ));
        let answers = json!({"q1": {"answers": ["Blue"]}, "q2": {"answers": ["large"]}});
        assert_eq!(last, json!({"id": "r", "result": {"answers": answers}}));
        let none = Asks::default().questions(&json!(1), &json!({"questions": 7}));
        assert!(matches!(none, Raised::Refused(_)));
    }

    #[test]
    fn what_was_answered_is_not_withdrawn() {
        let mut asks = Asks::default();
        let one = shown(asks.command(&json!(0), &touch("one"), "/work"));
        let two = shown(asks.command(&json!(1), &touch("two"), "/work"));
        asks.answer(&one.id, &choose("accept"));
        assert_eq!(asks.withdraw_all(), [two.id]);
        assert!(asks.open.is_empty());
    }
}
