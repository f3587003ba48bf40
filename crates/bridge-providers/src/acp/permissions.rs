//! Permission requests and what else is asked: which option an answer means, and what is still
//! open.

use std::{collections::BTreeMap, time::Instant};

use bridge_proto::{
    AskId, Digest, ToolCallId,
    model::{Answer, Ask, AskKind, Choice, ChoiceKind, ToolState},
};
use serde_json::{Value, json};
use thiserror::Error;

use super::{
    questions::{self, Questions},
    wording::{action_of, digest_of, kind_of, options_of, question_digest, summary_of},
};
use crate::plain::sentence;

/// The questions that wait for a person.
#[derive(Debug, Default)]
pub(crate) struct AskBook {
    open: BTreeMap<AskId, OpenAsk>,
    count: u64,
}

#[derive(Debug)]
struct OpenAsk {
    rpc_id: Value,
    tool: Option<ToolCallId>,
    options: Vec<Choice>,
    /// When the agent takes it as denied.
    expires: Option<Instant>,
    form: Form,
}

/// Which form the answer has.
#[derive(Debug)]
enum Form {
    Permission,
    Plan,
    Questions(Questions),
}

/// An answer the agent will take.
#[derive(Debug, PartialEq)]
pub(crate) struct Settled {
    /// The request that is answered.
    pub(crate) rpc_id: Value,
    /// Its result; `None` while further questions of it are open.
    pub(crate) result: Option<Value>,
    /// The call that was refused by it.
    pub(crate) refused: Option<ToolCallId>,
    /// The next question of the same request.
    pub(crate) next: Option<Ask>,
}

/// A question the agent does not wait for any more.
#[derive(Debug, PartialEq)]
pub(crate) struct Expired {
    /// Which.
    pub(crate) ask: AskId,
    /// Its request.
    pub(crate) rpc_id: Value,
    /// The call that was not done for want of an answer.
    pub(crate) tool: Option<ToolCallId>,
}

/// Why an answer was not passed on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum AnswerError {
    /// Answered or withdrawn before, or never asked.
    #[error("the question {0} is not open")]
    NotOpen(AskId),
    /// It stays open.
    #[error("{given:?} is not one of the choices: {offered}")]
    NotOffered { given: String, offered: String },
}

impl AskBook {
    /// Opens a question for a permission request, `None` when too many are open already. `state`
    /// is the call in the words of the request.
    pub(crate) fn open(
        &mut self,
        rpc_id: Value,
        state: Option<&ToolState>,
        params: &Value,
        expires: Option<Instant>,
    ) -> Option<Ask> {
        let ask = Ask {
            id: self.next_id()?,
            kind: state.map_or(AskKind::Other, |state| kind_of(state.kind)),
            summary: state.map_or_else(|| "do something unnamed".to_owned(), summary_of),
            options: options_of(params),
            digest: digest_of(state, params),
            tool: state.map(|state| state.id.clone()),
            expires: None,
            answered: None,
            action: state.map(|state| Box::new(action_of(state))),
        };
        Some(self.keep(ask, rpc_id, expires, Form::Permission))
    }

    /// Opens a question for a plan that waits for approval.
    pub(crate) fn open_plan(&mut self, rpc_id: Value, params: &Value) -> Option<Ask> {
        let (summary, options) = (questions::plan_summary(params), questions::plan_options());
        let digest = Digest::of(&["acp plan", &params.to_string()]);
        self.open_other(rpc_id, summary, options, digest, Form::Plan)
    }

    /// Opens the first of several questions that are not about permission.
    pub(crate) fn open_questions(&mut self, rpc_id: Value, questions: Questions) -> Option<Ask> {
        let (summary, options) = questions.present();
        let digest = question_digest(&summary, &options);
        self.open_other(rpc_id, summary, options, digest, Form::Questions(questions))
    }

    fn open_other(
        &mut self,
        rpc_id: Value,
        summary: String,
        options: Vec<Choice>,
        digest: Digest,
        form: Form,
    ) -> Option<Ask> {
        let ask = Ask {
            id: self.next_id()?,
            kind: AskKind::Question,
            summary,
            options,
            digest,
            tool: None,
            expires: None,
            answered: None,
            action: None,
        };
        Some(self.keep(ask, rpc_id, None, form))
    }

    fn keep(&mut self, ask: Ask, rpc_id: Value, expires: Option<Instant>, form: Form) -> Ask {
        let open = OpenAsk {
            rpc_id,
            tool: ask.tool.clone(),
            options: ask.options.clone(),
            expires,
            form,
        };
        self.open.insert(ask.id.clone(), open);
        ask
    }

    fn next_id(&mut self) -> Option<AskId> {
        if self.open.len() >= MAX_OPEN {
            return None;
        }
        self.count += 1;
        AskId::parse(&format!("ask-{}", self.count)).ok()
    }

    /// What to send for an answer. An answer that fits no option leaves the question open.
    pub(crate) fn answer(&mut self, id: &AskId, answer: &Answer) -> Result<Settled, AnswerError> {
        let not_open = || AnswerError::NotOpen(id.clone());
        let ask = self.open.get_mut(id).ok_or_else(not_open)?;
        let (result, refused) = match &mut ask.form {
            Form::Permission => {
                let chosen = ask.choose(answer)?;
                let refused = match chosen.map(|choice| choice.kind) {
                    None | Some(ChoiceKind::RejectOnce | ChoiceKind::RejectAlways) => {
                        ask.tool.clone()
                    }
                    Some(ChoiceKind::AllowOnce | ChoiceKind::AllowAlways | ChoiceKind::Plain) => {
                        None
                    }
                };
                let result = chosen.map_or_else(cancelled, |choice| selected(&choice.id));
                (Some(result), refused)
            }
            Form::Plan => (Some(ask.judge_plan(answer)), None),
            Form::Questions(questions) => match answer {
                Answer::Deny { reason } => (Some(questions::skipped(reason)), None),
                Answer::Choose { .. } | Answer::Text { .. } if questions.take(answer) => {
                    (questions.result(), None)
                }
                Answer::Choose { option: given } | Answer::Text { text: given } => {
                    return Err(ask.not_offered(given));
                }
            },
        };
        let Some(ask) = self.open.remove(id) else {
            return Err(not_open());
        };
        let rpc_id = ask.rpc_id;
        let next = match (ask.form, &result) {
            (Form::Questions(questions), None) => self.open_questions(rpc_id.clone(), questions),
            (Form::Permission | Form::Plan | Form::Questions(_), _) => None,
        };
        Ok(Settled {
            rpc_id,
            result,
            refused,
            next,
        })
    }

    /// When the agent takes this question as denied, if it does so by itself.
    pub(crate) fn expiry(&self, id: &AskId) -> Option<Instant> {
        self.open.get(id)?.expires
    }

    /// When the next question is over.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.open.values().filter_map(|ask| ask.expires).min()
    }

    /// Closes what the agent does not wait for any more.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Expired> {
        let late = |ask: &OpenAsk| ask.expires.is_some_and(|at| at <= now);
        let ids: Vec<AskId> = self
            .open
            .iter()
            .filter(|(_, ask)| late(ask))
            .map(|(id, _)| id.clone())
            .collect();
        let expired = ids.into_iter().filter_map(|id| {
            let ask = self.open.remove(&id)?;
            Some(Expired {
                ask: id,
                rpc_id: ask.rpc_id,
                tool: ask.tool,
            })
        });
        expired.collect()
    }

    /// The agent takes back one request.
    pub(crate) fn withdraw(&mut self, rpc_id: &Value) -> Option<AskId> {
        let id = self
            .open
            .iter()
            .find(|(_, ask)| ask.rpc_id == *rpc_id)?
            .0
            .clone();
        self.open.remove(&id);
        Some(id)
    }

    /// Takes back all, with the requests they answer.
    pub(crate) fn withdraw_all(&mut self) -> Vec<(AskId, Value)> {
        std::mem::take(&mut self.open)
            .into_iter()
            .map(|(id, ask)| (id, ask.rpc_id))
            .collect()
    }

    /// Whether nobody is waited for.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

impl OpenAsk {
    /// The option that is meant; `None` stands for "cancelled", when no option says no.
    fn choose(&self, answer: &Answer) -> Result<Option<&Choice>, AnswerError> {
        let given = match answer {
            Answer::Deny { .. } => return Ok(self.of_kind(ChoiceKind::RejectOnce)),
            Answer::Choose { option } => option,
            Answer::Text { text } => {
                let number = text.trim().parse::<usize>().ok();
                let nth = number.and_then(|n| self.options.get(n.checked_sub(1)?));
                if let Some(choice) = nth.or_else(|| self.labelled(text)) {
                    return Ok(Some(choice));
                }
                text
            }
        };
        if let Some(choice) = self.options.iter().find(|choice| choice.id == *given) {
            return Ok(Some(choice));
        }
        let kind = match given.trim().to_lowercase().as_str() {
            "allow_once" | "allow" | "yes" | "y" => ChoiceKind::AllowOnce,
            "allow_always" | "always" => ChoiceKind::AllowAlways,
            "reject_once" | "reject" | "deny" | "no" | "n" => ChoiceKind::RejectOnce,
            "reject_always" | "never" => ChoiceKind::RejectAlways,
            _ => return Err(self.not_offered(given)),
        };
        match (self.of_kind(kind), kind) {
            (None, ChoiceKind::AllowOnce | ChoiceKind::AllowAlways) => Err(self.not_offered(given)),
            (found, _) => Ok(found),
        }
    }

    /// The first option of a kind, or the safer one beside it.
    fn of_kind(&self, kind: ChoiceKind) -> Option<&Choice> {
        let first = |kind| self.options.iter().find(|choice| choice.kind == kind);
        match kind {
            ChoiceKind::AllowAlways => first(kind).or_else(|| first(ChoiceKind::AllowOnce)),
            ChoiceKind::RejectAlways => first(kind).or_else(|| first(ChoiceKind::RejectOnce)),
            ChoiceKind::RejectOnce => first(kind).or_else(|| first(ChoiceKind::RejectAlways)),
            ChoiceKind::AllowOnce | ChoiceKind::Plain => first(kind),
        }
    }

    /// The result for a plan. Words that are no option are the reason why not.
    fn judge_plan(&self, answer: &Answer) -> Value {
        let words = match answer {
            Answer::Deny { reason } => reason,
            Answer::Choose { option } => option,
            Answer::Text { text } => text,
        };
        match self.choose(answer).ok().flatten().map(|choice| choice.kind) {
            Some(ChoiceKind::AllowOnce | ChoiceKind::AllowAlways) => questions::plan_result(None),
            Some(ChoiceKind::RejectOnce | ChoiceKind::RejectAlways | ChoiceKind::Plain) | None => {
                questions::plan_result(Some(words))
            }
        }
    }

    fn labelled(&self, text: &str) -> Option<&Choice> {
        let wanted = text.trim().to_lowercase();
        self.options
            .iter()
            .find(|choice| choice.label.to_lowercase() == wanted)
    }

    fn not_offered(&self, given: &str) -> AnswerError {
        let offered: Vec<_> = self
            .options
            .iter()
            .map(|choice| choice.label.as_str())
            .collect();
        AnswerError::NotOffered {
            given: sentence(given, 100),
            offered: offered.join(", "),
        }
    }
}

/// The result that picks an option.
fn selected(option: &str) -> Value {
    json!({ "outcome": { "outcome": "selected", "optionId": option } })
}

/// The result that picks none because the turn is cancelled.
pub(crate) fn cancelled() -> Value {
    json!({ "outcome": { "outcome": "cancelled" } })
}

/// An agent that asks more at once is not asking a person.
const MAX_OPEN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acp::tools::ToolBook;

    fn asked(options: &Value) -> (AskBook, Ask) {
        let call = json!({"toolCallId": "c", "kind": "execute", "title": "shell",
            "rawInput": {"command": "rm -r build\nls"}});
        let state = ToolBook::default().merge(&call).unwrap().state;
        let mut book = AskBook::default();
        let params = json!({"toolCall": call, "options": options});
        let ask = book.open(json!(7), Some(&state), &params, None).unwrap();
        (book, ask)
    }

    fn gemini() -> Value {
        json!([
            {"optionId": "proceed_always", "name": "Allow for this session", "kind": "allow_always"},
            {"optionId": "proceed_once", "name": "Allow", "kind": "allow_once"},
            {"optionId": "cancel", "name": "Reject", "kind": "reject_once"}])
    }

    fn choose(option: &str) -> Answer {
        Answer::Choose {
            option: option.into(),
        }
    }

    #[test]
    fn the_summary_shows_the_command_and_the_kind_follows_the_tool() {
        let (_, ask) = asked(&gemini());
        assert_eq!(ask.summary, "Run: rm -r build ⏎ ls");
        assert_eq!(ask.kind, AskKind::Command);
    }

    #[test]
    fn answers_find_their_option_by_id_number_label_or_kind() {
        for (answer, option) in [
            (choose("proceed_once"), "proceed_once"),
            (Answer::Text { text: "3".into() }, "cancel"),
            (
                Answer::Text {
                    text: "allow FOR this session".into(),
                },
                "proceed_always",
            ),
            (choose("allow_once"), "proceed_once"),
            (choose("reject_always"), "cancel"),
            (
                Answer::Deny {
                    reason: "no".into(),
                },
                "cancel",
            ),
        ] {
            let (mut book, ask) = asked(&gemini());
            let settled = book.answer(&ask.id, &answer).unwrap();
            assert_eq!(settled.result, Some(selected(option)), "{answer:?}");
            assert_eq!(settled.refused.is_some(), option == "cancel");
            assert!(book.is_empty());
        }
    }

    #[test]
    fn a_wanted_kind_that_is_missing_falls_to_the_safer_one() {
        let once = json!([{"optionId": "y", "name": "Yes", "kind": "allow_once"}]);
        let (mut book, ask) = asked(&once);
        assert_eq!(
            book.answer(&ask.id, &choose("allow_always"))
                .unwrap()
                .result,
            Some(selected("y"))
        );
        let (mut book, ask) = asked(&once);
        assert_eq!(
            book.answer(&ask.id, &choose("reject_once")).unwrap().result,
            Some(cancelled())
        );
        let always = json!([{"optionId": "a", "name": "Always", "kind": "allow_always"}]);
        let (mut book, ask) = asked(&always);
        assert!(book.answer(&ask.id, &choose("allow_once")).is_err());
    }

    #[test]
    fn an_unknown_option_leaves_the_question_open_and_a_second_answer_is_refused() {
        let (mut book, ask) = asked(&gemini());
        let error = book.answer(&ask.id, &choose("perhaps")).unwrap_err();
        assert!(matches!(error, AnswerError::NotOffered { .. }));
        assert!(book.answer(&ask.id, &choose("proceed_once")).is_ok());
        assert_eq!(
            book.answer(&ask.id, &choose("proceed_once")),
            Err(AnswerError::NotOpen(ask.id))
        );
    }
}
