//! Permissions and questions: from the program's control request to a person and back.

use bridge_proto::{
    AskId, Digest, ToolCallId,
    model::{Action, Answer, Ask, AskKind, Choice, ChoiceKind, ToolKind},
};
use serde_json::{Map, Value};

use super::{
    outgoing,
    session_rules::{rule_label, session_rules},
    tools::{Tools, kind},
};
use crate::plain::{one_line, readable};

/// The open questions, oldest first.
#[derive(Debug, Default)]
pub(super) struct Asks {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    ask: AskId,
    request: String,
    tool: String,
    input: Value,
    call: Option<String>,
    options: Vec<Choice>,
    sort: Sort,
}

#[derive(Debug)]
enum Sort {
    /// Yes or no; the rules to send for "yes, and do not ask again".
    Permission(Vec<Value>),
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
    /// Ask a person.
    Ask(Ask),
    /// It cannot be shown: answer with this line.
    Refused(String),
}

/// What an answer leads to.
#[derive(Debug)]
pub(super) struct Given {
    /// The line to send; `None` while further questions of the same request are open.
    pub(super) line: Option<String>,
    /// The tool call that goes on.
    pub(super) call: Option<String>,
    /// The next question of the same request.
    pub(super) next: Option<Ask>,
}

impl Asks {
    /// Whether nobody is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// A `can_use_tool` request.
    pub(super) fn raise(&mut self, request_id: &str, request: &Value, tools: &Tools) -> Raised {
        let text = |name: &str| request.get(name).and_then(Value::as_str);
        let refuse = |why: &str| Raised::Refused(outgoing::deny(request_id, why));
        let Ok(ask) = AskId::parse(request_id) else {
            return refuse("the request has no id");
        };
        if self.open.len() >= MAX_OPEN {
            return refuse("too many questions are open");
        }
        if self.open.iter().any(|open| open.request == request_id) {
            return refuse("this request is open already");
        }
        let tool = text("tool_name").unwrap_or("unknown tool").to_owned();
        let input = request
            .get("input")
            .cloned()
            .unwrap_or(Value::Object(Map::new()));
        let call = text("tool_use_id").map(str::to_owned);
        let questions = questions(&tool, &input);
        let mut open = Open {
            ask,
            request: request_id.to_owned(),
            tool,
            input,
            call,
            options: Vec::new(),
            sort: Sort::Permission(Vec::new()),
        };
        let shown = if questions.is_empty() {
            let rules = session_rules(request.get("permission_suggestions"));
            open.options = permission_options(&open.tool, &rules);
            open.sort = Sort::Permission(rules);
            open.permission(request, tools)
        } else {
            open.sort = Sort::Questions {
                questions,
                at: 0,
                answers: Map::new(),
            };
            open.question()
        };
        self.open.push(open);
        Raised::Ask(shown)
    }

    /// A person's answer; `None` if the question is not open any more.
    pub(super) fn answer(&mut self, ask: &AskId, answer: &Answer) -> Option<Given> {
        let at = self.open.iter().position(|open| open.ask == *ask)?;
        let mut open = self.open.remove(at);
        let chosen = choose(&open.options, answer);
        let request = open.request.clone();
        let done = |line: String, call: Option<String>| {
            Some(Given {
                line: Some(line),
                call,
                next: None,
            })
        };
        if let Answer::Deny { reason } = answer {
            return done(outgoing::deny(&request, or(reason, DECLINED)), open.call);
        }
        match &mut open.sort {
            Sort::Permission(rules) => {
                let kind = chosen.map(|choice| choice.kind);
                let line = match kind {
                    Some(ChoiceKind::AllowOnce) => outgoing::allow(&request, &open.input, &[]),
                    Some(ChoiceKind::AllowAlways) => outgoing::allow(&request, &open.input, rules),
                    Some(ChoiceKind::RejectOnce | ChoiceKind::RejectAlways | ChoiceKind::Plain) => {
                        outgoing::deny(&request, DECLINED)
                    }
                    None => outgoing::deny(&request, words(answer)),
                };
                done(line, open.call)
            }
            Sort::Questions {
                questions,
                at,
                answers,
            } => {
                let Some(question) = questions.get(*at) else {
                    return done(outgoing::deny(&request, DECLINED), open.call);
                };
                let words = match chosen {
                    Some(choice) => choice.label.clone(),
                    None => several(&open.options, question, words(answer)),
                };
                answers.insert(question_text(question).to_owned(), Value::String(words));
                *at += 1;
                if *at < questions.len() {
                    open.ask = next_id(&open.request, *at);
                    let next = open.question();
                    self.open.push(open);
                    return Some(Given {
                        line: None,
                        call: None,
                        next: Some(next),
                    });
                }
                let mut input = open.input;
                if let Some(fields) = input.as_object_mut() {
                    fields.insert("answers".into(), Value::Object(std::mem::take(answers)));
                }
                done(outgoing::allow(&request, &input, &[]), open.call)
            }
        }
    }

    /// The program withdrew its request.
    pub(super) fn withdraw(&mut self, request_id: &str) -> Option<AskId> {
        let at = self
            .open
            .iter()
            .position(|open| open.request == request_id)?;
        Some(self.open.remove(at).ask)
    }

    /// Nobody waits for answers any more.
    pub(super) fn withdraw_all(&mut self) -> Vec<AskId> {
        self.open.drain(..).map(|open| open.ask).collect()
    }
}

impl Open {
    fn permission(&self, request: &Value, tools: &Tools) -> Ask {
        let text = |name: &str| request.get(name).and_then(Value::as_str);
        let waits_for_words = request
            .get("requires_user_interaction")
            .and_then(Value::as_bool)
            == Some(true)
            || self.tool == PLAN;
        let sort = match kind(&self.tool) {
            _ if waits_for_words => AskKind::Question,
            ToolKind::Edit | ToolKind::Delete | ToolKind::Move => AskKind::Edit,
            ToolKind::Execute => AskKind::Command,
            ToolKind::Read
            | ToolKind::Search
            | ToolKind::Think
            | ToolKind::Fetch
            | ToolKind::SwitchMode
            | ToolKind::Other => AskKind::Other,
        };
        let field = |name: &str| self.input.get(name).and_then(Value::as_str);
        let mut summary = match (sort, field("command"), field("plan")) {
            (AskKind::Command, Some(command), _) => readable(command, MAX_SUMMARY),
            (AskKind::Question, _, Some(plan)) => {
                format!("Go ahead with this plan?\n{}", readable(plan, MAX_SUMMARY))
            }
            (AskKind::Question, _, None) if self.tool == PLAN => {
                "Leave plan mode and begin?".to_owned()
            }
            (AskKind::Edit | AskKind::Command | AskKind::Other | AskKind::Question, _, _) => {
                tools.title(&self.tool, &self.input)
            }
        };
        for note in [text("decision_reason"), text("blocked_path")]
            .into_iter()
            .flatten()
        {
            summary.push('\n');
            summary.push_str(&one_line(note, MAX_NOTE));
        }
        self.show(sort, summary, &[&self.tool, &self.input.to_string()])
    }

    fn question(&mut self) -> Ask {
        let (question, number) = match &self.sort {
            Sort::Questions { questions, at, .. } => (
                questions.get(*at).cloned().unwrap_or_default(),
                at.to_string(),
            ),
            Sort::Permission(_) => (Value::Null, String::new()),
        };
        let mut summary = readable(question_text(&question), MAX_SUMMARY);
        let mut options = Vec::new();
        for option in question
            .get("options")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let Some(label) = option.get("label").and_then(Value::as_str) else {
                continue;
            };
            if options.len() >= MAX_OPTIONS {
                break;
            }
            options.push(Choice {
                id: (options.len() + 1).to_string(),
                label: label.to_owned(),
                kind: ChoiceKind::Plain,
            });
            if let Some(about) = option.get("description").and_then(Value::as_str) {
                summary.push_str("\n- ");
                summary.push_str(&one_line(label, MAX_NOTE));
                summary.push_str(": ");
                summary.push_str(&one_line(about, MAX_NOTE));
            }
        }
        self.options = options;
        self.show(
            AskKind::Question,
            summary,
            &[&self.tool, &self.input.to_string(), &number],
        )
    }

    /// What would be done, in the words of the call itself.
    fn action(&self, sort: AskKind) -> Option<Box<Action>> {
        let field = |name: &str| {
            let text = self.input.get(name).and_then(Value::as_str)?;
            (text.len() <= MAX_ACTION).then(|| text.to_owned())
        };
        let paths = ["file_path", "notebook_path", "path"];
        let action = Action {
            tool: Some(self.tool.clone()).filter(|tool| tool.len() <= MAX_ACTION),
            command: field("command").filter(|_| sort == AskKind::Command),
            paths: paths
                .iter()
                .find_map(|name| field(name))
                .into_iter()
                .collect(),
        };
        (sort != AskKind::Question).then(|| Box::new(action))
    }

    fn show(&self, kind: AskKind, summary: String, action: &[&str]) -> Ask {
        Ask {
            id: self.ask.clone(),
            kind,
            summary,
            options: self.options.clone(),
            digest: Digest::of(action),
            action: self.action(kind),
            tool: self
                .call
                .as_deref()
                .and_then(|call| ToolCallId::parse(call).ok()),
            expires: None,
            answered: None,
        }
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
                options.iter().find(|choice| {
                    choice.label.to_lowercase() == text.to_lowercase() || choice.id == text
                })
            })
        }
        Answer::Deny { .. } => None,
    }
}

fn words(answer: &Answer) -> &str {
    match answer {
        Answer::Text { text } => or(text, DECLINED),
        Answer::Choose { .. } => "the answer was not one of the options",
        Answer::Deny { reason } => or(reason, DECLINED),
    }
}

/// "1, 3" for a question that takes several answers; other words stay as they are.
fn several(options: &[Choice], question: &Value, words: &str) -> String {
    if question.get("multiSelect").and_then(Value::as_bool) != Some(true) {
        return words.to_owned();
    }
    let labels: Vec<String> = words
        .split(',')
        .map(|part| {
            let answer = Answer::Text {
                text: part.to_owned(),
            };
            choose(options, &answer)
                .map_or_else(|| part.trim().to_owned(), |choice| choice.label.clone())
        })
        .collect();
    labels.join(", ")
}

fn questions(tool: &str, input: &Value) -> Vec<Value> {
    if tool != "AskUserQuestion" {
        return Vec::new();
    }
    let list = input.get("questions").and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter(|q| !question_text(q).is_empty())
        .cloned()
        .collect()
}

fn question_text(question: &Value) -> &str {
    question
        .get("question")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn next_id(request: &str, at: usize) -> AskId {
    AskId::parse(&format!("{request}#{}", at + 1))
        .or_else(|_| AskId::parse(&format!("question-{}", Digest::of(&[request]).as_str())))
        .expect("a digest is a valid id")
}

fn permission_options(tool: &str, rules: &[Value]) -> Vec<Choice> {
    let choice = |id: &str, label: String, kind| Choice {
        id: id.into(),
        label,
        kind,
    };
    let mut options = vec![choice("allow", "Allow once".into(), ChoiceKind::AllowOnce)];
    if tool == PLAN {
        options = vec![choice("allow", "Go ahead".into(), ChoiceKind::AllowOnce)];
    } else if !rules.is_empty() {
        let what: Vec<String> = rules.iter().map(rule_label).collect();
        let label = readable(
            &format!("Allow in this session: {}", what.join(", ")),
            MAX_NOTE,
        );
        options.push(choice("allow_session", label, ChoiceKind::AllowAlways));
    }
    options.push(choice("deny", "Deny".into(), ChoiceKind::RejectOnce));
    options
}

fn or<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.trim().is_empty() {
        otherwise
    } else {
        text
    }
}

/// The tool that asks to leave plan mode.
const PLAN: &str = "ExitPlanMode";
/// What the agent reads when no reason was given.
const DECLINED: &str = "The user declined this action.";
/// Most questions open at once; further ones are refused.
const MAX_OPEN: usize = 64;
/// Most options of one question, and rules of one permission.
const MAX_OPTIONS: usize = 20;
/// Longest summary: a whole command must be readable before it is allowed.
const MAX_SUMMARY: usize = 8000;
/// Longest part of an action that rules are asked about, in bytes; of a longer one nothing is
/// known.
const MAX_ACTION: usize = 64 * 1024;
/// Longest note or label.
const MAX_NOTE: usize = 300;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raise(asks: &mut Asks, id: &str, request: &Value) -> Ask {
        match asks.raise(id, request, &Tools::default()) {
            Raised::Ask(ask) => ask,
            Raised::Refused(line) => panic!("refused: {line}"),
        }
    }

    fn response(given: Option<Given>) -> Value {
        let line: Value = serde_json::from_str(&given.unwrap().line.unwrap()).unwrap();
        line.pointer("/response/response").unwrap().clone()
    }

    fn text(text: &str) -> Answer {
        Answer::Text { text: text.into() }
    }

    fn bash() -> Value {
        json!({"tool_name": "Bash", "input": {"command": "touch one"}, "permission_suggestions": [
            {"type": "addRules", "rules": [{"toolName": "Bash", "ruleContent": "touch one *"}],
             "behavior": "allow", "destination": "localSettings"},
            {"type": "setMode", "mode": "acceptEdits", "destination": "session"},
            {"type": "setMode", "mode": "bypassPermissions", "destination": "session"}]})
    }

    #[test]
    fn session_rules_never_reach_the_settings_of_the_repository() {
        let mut asks = Asks::default();
        let ask = raise(&mut asks, "r", &bash());
        assert_eq!(ask.kind, AskKind::Command);
        let labels: Vec<&str> = ask
            .options
            .iter()
            .map(|choice| choice.label.as_str())
            .collect();
        assert_eq!(
            labels,
            [
                "Allow once",
                "Allow in this session: Bash(touch one *)",
                "Deny"
            ]
        );
        let answer = Answer::Choose {
            option: "allow_session".into(),
        };
        assert_eq!(
            response(asks.answer(&ask.id, &answer)),
            json!({"behavior": "allow", "updatedInput": {"command": "touch one"},
                "updatedPermissions": [{"type": "addRules",
                    "rules": [{"toolName": "Bash", "ruleContent": "touch one *"}],
                    "behavior": "allow", "destination": "session"}]})
        );
    }

    #[test]
    fn the_action_is_the_call_itself_and_a_question_has_none() {
        let mut asks = Asks::default();
        let action = raise(&mut asks, "r", &bash()).action.unwrap();
        let expected = Action {
            tool: Some("Bash".into()),
            command: Some("touch one".into()),
            paths: Vec::new(),
        };
        assert_eq!(*action, expected);
        let edit = json!({"tool_name": "Write", "input": {"file_path": "/w/a b", "content": "x"}});
        let action = raise(&mut asks, "e", &edit).action.unwrap();
        assert_eq!(
            (action.command, action.paths),
            (None, vec!["/w/a b".to_owned()])
        );
        let mut long = bash();
        long["input"]["command"] = json!("x".repeat(MAX_ACTION + 1));
        assert_eq!(raise(&mut asks, "l", &long).action.unwrap().command, None);
        let plan = json!({"tool_name": "ExitPlanMode", "input": {"plan": "1. Write it"}});
        assert_eq!(raise(&mut asks, "p", &plan).action, None);
    }

    #[test]
    fn words_that_are_no_option_deny_and_reach_the_agent() {
        let mut asks = Asks::default();
        let ask = raise(&mut asks, "r", &bash());
        let given = asks.answer(&ask.id, &text("use another name"));
        assert_eq!(
            response(given),
            json!({"behavior": "deny", "message": "use another name"})
        );
        assert!(asks.answer(&ask.id, &text("1")).is_none(), "answered twice");
    }

    #[test]
    fn numbers_and_labels_choose() {
        for word in ["1", "allow ONCE", "allow"] {
            let mut asks = Asks::default();
            let ask = raise(&mut asks, "r", &bash());
            let given = response(asks.answer(&ask.id, &text(word)));
            assert_eq!(given.get("behavior"), Some(&json!("allow")), "{word}");
            assert_eq!(given.get("updatedPermissions"), None);
        }
    }

    #[test]
    fn the_digest_changes_with_the_action() {
        let mut asks = Asks::default();
        let one = raise(&mut asks, "a", &bash());
        let mut other = bash();
        other["input"]["command"] = json!("touch two");
        assert_ne!(one.digest, raise(&mut asks, "b", &other).digest);
        assert_eq!(one.digest, raise(&mut asks, "c", &bash()).digest);
    }

    #[test]
    fn several_questions_are_asked_one_after_another() {
        let request = json!({"tool_name": "AskUserQuestion", "requires_user_interaction": true,
            "input": {"questions": [
                {"question": "Colour?", "options": [{"label": "Red", "description": "warm"},
                    {"label": "Blue"}]},
                {"question": "Sizes?", "multiSelect": true,
                    "options": [{"label": "S"}, {"label": "M"}, {"label": "L"}]}]}});
        let mut asks = Asks::default();
        let first = raise(&mut asks, "r", &request);
        assert_eq!(
            (first.kind, first.summary.as_str()),
            (AskKind::Question, "Colour?\n- Red: warm")
        );
        let next = asks.answer(&first.id, &text("2")).unwrap().next.unwrap();
        assert_eq!((next.id.as_str(), next.summary.as_str()), ("r#2", "Sizes?"));
        assert_eq!(asks.withdraw("other"), None);
        let given = response(asks.answer(&next.id, &text("1, L")));
        assert_eq!(
            given.pointer("/updatedInput/answers"),
            Some(&json!({"Colour?": "Blue", "Sizes?": "S, L"}))
        );
    }

    #[test]
    fn leaving_plan_mode_shows_the_plan() {
        let request = json!({"tool_name": "ExitPlanMode", "input": {"plan": "1. Write it"}});
        let mut asks = Asks::default();
        let ask = raise(&mut asks, "r", &request);
        assert_eq!(ask.summary, "Go ahead with this plan?\n1. Write it");
        assert_eq!(ask.kind, AskKind::Question);
        let given = asks.answer(
            &ask.id,
            &Answer::Deny {
                reason: "too short".into(),
            },
        );
        assert_eq!(
            response(given),
            json!({"behavior": "deny", "message": "too short"})
        );
    }
}
