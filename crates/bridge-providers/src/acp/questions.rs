//! What Cursor asks beside permissions: questions with options, one after another, and plans to be
//! approved. Other agents may take over its words.

use bridge_proto::model::{Answer, Choice, ChoiceKind, PlanItem, PlanStatus};
use serde_json::{Value, json};

use crate::plain::{one_line, readable, sentence};

/// The questions of one request.
#[derive(Debug)]
pub(crate) struct Questions {
    title: Option<String>,
    open: Vec<Question>,
    answers: Vec<Value>,
}

#[derive(Debug)]
struct Question {
    id: String,
    prompt: String,
    options: Vec<Choice>,
    several: bool,
}

impl Questions {
    /// From the parameters of a request; `None` if a question in it cannot be shown.
    pub(crate) fn read(params: &Value) -> Option<Self> {
        let questions = params.get("questions")?.as_array()?;
        let mut open: Vec<_> = questions
            .iter()
            .take(MAX_QUESTIONS)
            .map(question_of)
            .collect::<Option<_>>()?;
        open.reverse();
        let title = params.get("title").and_then(Value::as_str);
        (!open.is_empty()).then(|| Self {
            title: title.map(|title| one_line(title, MAX_LABEL)),
            open,
            answers: Vec::new(),
        })
    }

    /// The question that is asked now, and what can be chosen.
    pub(crate) fn present(&self) -> (String, Vec<Choice>) {
        let Some(question) = self.open.last() else {
            return (String::new(), Vec::new());
        };
        let summary = match &self.title {
            Some(title) if self.answers.is_empty() => format!("{title}\n{}", question.prompt),
            Some(_) | None => question.prompt.clone(),
        };
        (summary, question.options.clone())
    }

    /// Takes the answer to the present question; false if it fits none of the options.
    pub(crate) fn take(&mut self, answer: &Answer) -> bool {
        let Some(question) = self.open.last() else {
            return false;
        };
        let Some(chosen) = question.chosen(answer) else {
            return false;
        };
        self.answers.push(json!({
            "questionId": question.id,
            "selectedOptionIds": chosen,
        }));
        self.open.pop();
        true
    }

    /// The result of the request, once every question is answered.
    pub(crate) fn result(&self) -> Option<Value> {
        self.open.is_empty().then(|| {
            let answers = &self.answers;
            json!({ "outcome": { "outcome": "answered", "answers": answers } })
        })
    }
}

impl Question {
    /// The options that are meant; with several to choose, words may name more than one.
    fn chosen(&self, answer: &Answer) -> Option<Vec<&str>> {
        match answer {
            Answer::Choose { option } => self.named(option).map(|id| vec![id]),
            Answer::Text { text } => match self.named(text) {
                Some(id) => Some(vec![id]),
                None if self.several => text.split(',').map(|word| self.named(word)).collect(),
                None => None,
            },
            Answer::Deny { .. } => None,
        }
    }

    fn named(&self, words: &str) -> Option<&str> {
        let words = words.trim();
        let number = words.parse::<usize>().ok().and_then(|n| n.checked_sub(1));
        let same = |text: &str| text.to_lowercase() == words.to_lowercase();
        let by_id = self.options.iter().find(|choice| choice.id == words);
        let choice = by_id
            .or_else(|| self.options.get(number?))
            .or_else(|| self.options.iter().find(|choice| same(&choice.label)))?;
        Some(&choice.id)
    }
}

/// A question that nobody will answer.
pub(crate) fn skipped(reason: &str) -> Value {
    json!({ "outcome": { "outcome": "skipped", "reason": reason } })
}

/// What a plan says, as a question to a person.
pub(crate) fn plan_summary(params: &Value) -> String {
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    let plan = text("plan")
        .or_else(|| text("overview"))
        .unwrap_or_default();
    let plan = readable(plan, MAX_PLAN_BYTES);
    match text("name").map(|name| one_line(name, MAX_LABEL)) {
        Some(name) => format!("Go ahead with this plan? {name}\n{plan}"),
        None => format!("Go ahead with this plan?\n{plan}"),
    }
}

/// What can be said to a plan.
pub(crate) fn plan_options() -> Vec<Choice> {
    let choice = |id: &str, label: &str, kind| Choice {
        id: id.into(),
        label: label.into(),
        kind,
    };
    vec![
        choice("accept", "Go ahead", ChoiceKind::AllowOnce),
        choice("reject", "No", ChoiceKind::RejectOnce),
    ]
}

/// The result for a plan: accepted, or rejected for a reason.
pub(crate) fn plan_result(rejected: Option<&str>) -> Value {
    match rejected {
        None => json!({ "outcome": { "outcome": "accepted" } }),
        Some(reason) => json!({ "outcome": { "outcome": "rejected", "reason": reason } }),
    }
}

/// A to-do list that is told in whole or in parts.
#[derive(Debug, Default)]
pub(crate) struct Todos(Vec<(String, PlanItem)>);

impl Todos {
    /// Takes what is told; gives the whole list.
    pub(crate) fn update(&mut self, params: &Value) -> Vec<PlanItem> {
        if params.get("merge").and_then(Value::as_bool) != Some(true) {
            self.0.clear();
        }
        let told = params.get("todos").and_then(Value::as_array);
        for todo in told.into_iter().flatten().take(MAX_TODOS) {
            let Some(item) = plan_item(todo) else {
                continue;
            };
            let id = todo.get("id").and_then(Value::as_str).unwrap_or_default();
            let mut same = self.0.iter_mut().filter(|(other, _)| other == id);
            if let Some((_, present)) = same.next().filter(|_| !id.is_empty()) {
                *present = item;
            } else if self.0.len() < MAX_TODOS {
                self.0.push((id.to_owned(), item));
            }
        }
        self.0.iter().map(|(_, item)| item.clone()).collect()
    }
}

/// One line of a to-do list, as the protocol and Cursor write it.
pub(crate) fn plan_item(entry: &Value) -> Option<PlanItem> {
    let text = sentence(entry.get("content")?.as_str()?, 500);
    let status = match entry.get("status").and_then(Value::as_str) {
        Some("completed" | "cancelled") => PlanStatus::Completed,
        Some("in_progress") => PlanStatus::InProgress,
        Some(_) | None => PlanStatus::Pending,
    };
    Some(PlanItem { text, status })
}

fn question_of(question: &Value) -> Option<Question> {
    let text = |name: &str| question.get(name).and_then(Value::as_str);
    let options = question.get("options")?.as_array()?;
    let options: Vec<Choice> = options
        .iter()
        .take(MAX_OPTIONS)
        .filter_map(option_of)
        .collect();
    (!options.is_empty()).then_some(Question {
        id: text("id")?.to_owned(),
        prompt: readable(text("prompt")?, MAX_PROMPT),
        options,
        several: question.get("allowMultiple").and_then(Value::as_bool) == Some(true),
    })
}

fn option_of(option: &Value) -> Option<Choice> {
    let id = option.get("id")?.as_str()?.to_owned();
    let label = option.get("label").and_then(Value::as_str).unwrap_or(&id);
    Some(Choice {
        label: one_line(label, MAX_LABEL),
        id,
        kind: ChoiceKind::Plain,
    })
}

const MAX_QUESTIONS: usize = 16;
const MAX_OPTIONS: usize = 32;
const MAX_TODOS: usize = 500;
const MAX_LABEL: usize = 200;
const MAX_PROMPT: usize = 2000;
const MAX_PLAN_BYTES: usize = 8000;

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Questions {
        let params = json!({"title": "Setup", "questions": [
            {"id": "db", "prompt": "Which database?",
             "options": [{"id": "pg", "label": "Postgres"}, {"id": "my", "label": "MySQL"}]},
            {"id": "ci", "prompt": "Which checks?", "allowMultiple": true,
             "options": [{"id": "l", "label": "Lint"}, {"id": "t", "label": "Tests"}]}]});
        Questions::read(&params).unwrap()
    }

    fn said(text: &str) -> Answer {
        Answer::Text { text: text.into() }
    }

    #[test]
    fn questions_are_asked_one_after_another_and_answered_together() {
        let mut questions = two();
        assert_eq!(questions.present().0, "Setup\nWhich database?");
        assert!(!questions.take(&said("SQLite")), "it stays open");
        assert!(questions.take(&Answer::Choose {
            option: "my".into()
        }));
        assert_eq!(questions.result(), None);
        assert_eq!(questions.present().0, "Which checks?");
        assert!(questions.take(&said("2, lint")));
        let answers = json!([{"questionId": "db", "selectedOptionIds": ["my"]},
            {"questionId": "ci", "selectedOptionIds": ["t", "l"]}]);
        let result = json!({"outcome": {"outcome": "answered", "answers": answers}});
        assert_eq!(questions.result(), Some(result));
    }

    #[test]
    fn questions_that_cannot_be_shown_are_none() {
        for params in [
            json!(null),
            json!({"questions": []}),
            json!({"questions": [{"id": "a", "prompt": "?", "options": []}]}),
            json!({"questions": [{"id": "a", "options": [{"id": "x"}]}]}),
        ] {
            assert!(Questions::read(&params).is_none(), "{params}");
        }
    }

    #[test]
    fn a_list_is_replaced_or_merged_by_id_and_stays_bounded() {
        let mut todos = Todos::default();
        let list = json!({"todos": [{"id": "1", "content": "a", "status": "in_progress"},
            {"id": "2", "content": "b"}]});
        assert_eq!(todos.update(&list).len(), 2);
        let part =
            json!({"merge": true, "todos": [{"id": "1", "content": "a", "status": "completed"}]});
        let whole = todos.update(&part);
        assert_eq!(whole.len(), 2);
        assert_eq!(whole[0].status, PlanStatus::Completed);
        let many: Vec<_> = (0..2 * MAX_TODOS)
            .map(|n| json!({"content": format!("{n}")}))
            .collect();
        assert_eq!(todos.update(&json!({"todos": many})).len(), MAX_TODOS);
        assert_eq!(todos.update(&json!({"todos": "x"})), []);
    }
}
