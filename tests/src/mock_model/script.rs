//! The script: one view of a request for all APIs, and what is answered to it. Pure.

use std::time::Duration;

use serde_json::Value;

use super::offered::{self, Call, Deed, Tool};

/// What `@mock edit` looks for in a file.
pub const BEFORE: &str = "before";
/// What `@mock edit` puts in its place.
pub const AFTER: &str = "after";
/// What `@mock write` writes.
pub const WRITTEN: &str = "# Written by the mock model\n\nTwo lines of it.\n";

/// A request, whichever API it came by.
#[derive(Debug, Default)]
pub(super) struct Talk {
    pub(super) model: String,
    pub(super) system: String,
    pub(super) turns: Vec<Turn>,
    pub(super) tools: Vec<Tool>,
    /// The answer must be JSON of this schema.
    pub(super) schema: Option<Value>,
    pub(super) stream: bool,
}

/// One piece of the history.
#[derive(Debug, PartialEq)]
pub(super) enum Turn {
    /// What the user wrote, or the agent in the user's name.
    User(String),
    /// What a model answered.
    Model { calls_tools: bool },
    /// What a tool gave.
    Tool(String),
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    Say {
        think: Vec<String>,
        text: Vec<String>,
        pause: Duration,
        call: Option<Call>,
    },
    Fail {
        status: u16,
    },
}

impl Plan {
    fn say<S: Into<String>>(text: impl IntoIterator<Item = S>) -> Self {
        let text = text.into_iter().map(Into::into).collect();
        Self::Say {
            think: Vec::new(),
            text,
            pause: Duration::ZERO,
            call: None,
        }
    }
}

impl Talk {
    /// All text in which an agent may tell where it works.
    pub(super) fn everything(&self) -> String {
        let mut all = self.system.clone();
        for turn in &self.turns {
            if let Turn::User(text) = turn {
                all.push('\n');
                all.push_str(text);
            }
        }
        all
    }

    /// An id that differs between the requests of one conversation.
    pub(super) fn id(&self) -> String {
        format!("mock_{}", self.turns.len())
    }

    /// Rough, as token counts are.
    pub(super) fn input_tokens(&self) -> usize {
        self.everything().len() / 4 + 1
    }
}

/// The script line without `@mock`, the step within it, and the answer.
pub(super) fn plan(talk: &Talk) -> (Option<String>, usize, Plan) {
    if let Some(schema) = &talk.schema {
        let example = offered::example(schema, "mock").to_string();
        return (None, 0, Plan::say([example]));
    }
    // An agent that wants work done offers tools; one that tells a role and offers none wants
    // a title or a summary.
    if talk.tools.is_empty() && !talk.system.trim().is_empty() {
        return (None, 0, Plan::say(["Mock ", "title"]));
    }
    let begin = turn_begin(&talk.turns);
    let current = talk.turns.get(begin..).unwrap_or_default();
    let scripted = current
        .iter()
        .enumerate()
        .rev()
        .find_map(|(at, turn)| match turn {
            Turn::User(text) => directive(text).map(|line| (at, line)),
            Turn::Model { .. } | Turn::Tool(_) => None,
        });
    let Some((at, line)) = scripted else {
        let said = current.iter().find_map(own_words).unwrap_or_default();
        return (None, 0, Plan::say(["You ", "said: ", &ending(&said, 200)]));
    };
    let results: Vec<&str> = current
        .iter()
        .skip(at + 1)
        .filter_map(|turn| match turn {
            Turn::Tool(text) => Some(text.as_str()),
            Turn::User(_) | Turn::Model { .. } => None,
        })
        .collect();
    let history = talk.turns.get(..begin + at).unwrap_or_default();
    let plan = play(line, &results, talk, history);
    (Some(line.to_owned()), results.len(), plan)
}

fn play(line: &str, results: &[&str], talk: &Talk, history: &[Turn]) -> Plan {
    let (verb, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim();
    let number = |default| argument.parse().unwrap_or(default);
    let paced = |count, millis| Plan::Say {
        think: Vec::new(),
        text: words("word", count),
        pause: Duration::from_millis(millis),
        call: None,
    };
    match verb {
        "text" => paced(number(12), 10),
        "flood" => {
            let mut text = words("word", number(2000));
            text.push("end.".to_owned());
            Plan::say(text)
        }
        "slow" => paced(number(600), 100),
        "think" => Plan::Say {
            think: words("thought", number(8)),
            text: words("word", 2),
            pause: Duration::from_millis(5),
            call: None,
        },
        "write" => tools(
            &[Deed::Write {
                path: argument,
                content: WRITTEN,
            }],
            results,
            talk,
        ),
        "read" => tools(&[Deed::Read { path: argument }], results, talk),
        "edit" => {
            let read = Deed::Read { path: argument };
            let edit = Deed::Edit {
                path: argument,
                old: BEFORE,
                new: AFTER,
            };
            tools(&[read, edit], results, talk)
        }
        "linger" if !results.is_empty() => paced(600, 100),
        "shell" | "linger" => tools(&[Deed::Shell { command: argument }], results, talk),
        "recall" => recall(history),
        "error" => Plan::Fail {
            status: argument
                .strip_suffix(ONCE)
                .unwrap_or(argument)
                .trim_end()
                .parse()
                .unwrap_or(500),
        },
        unknown => Plan::say([format!("there is no script {unknown}")]),
    }
}

/// Whether a script line is about an error that happens once.
pub(super) fn is_once(line: &str) -> bool {
    line.starts_with("error ") && line.ends_with(ONCE)
}

/// What is answered when an error that happens once has happened.
pub(super) fn after_failure() -> Plan {
    Plan::say(words("word", 3))
}

/// One tool call after another, then text that repeats what the last one gave.
fn tools(deeds: &[Deed<'_>], results: &[&str], talk: &Talk) -> Plan {
    let Some(deed) = deeds.get(results.len()) else {
        let gave = results.last().copied().unwrap_or_default();
        return Plan::say(["Done. ", "The tool ", "said: ", &ending(gave, 200)]);
    };
    match deed.call(talk) {
        Some(call) => Plan::Say {
            think: Vec::new(),
            text: vec!["I will ".into(), "use a tool. ".into()],
            pause: Duration::ZERO,
            call: Some(call),
        },
        None => Plan::say([format!("no tool can do this: {deed:?}")]),
    }
}

fn recall(history: &[Turn]) -> Plan {
    let prompts: Vec<String> = history
        .iter()
        .filter_map(own_words)
        .map(|words| ending(&words, 200))
        .collect();
    let mut text = vec![format!("I remember {} earlier prompts. ", prompts.len())];
    text.extend(prompts.into_iter().map(|prompt| format!("[{prompt}] ")));
    Plan::say(text)
}

/// Where the current turn begins: behind the last answer that called no tool.
fn turn_begin(turns: &[Turn]) -> usize {
    let answered = |turn: &Turn| matches!(turn, Turn::Model { calls_tools: false });
    turns.iter().rposition(answered).map_or(0, |at| at + 1)
}

fn directive(text: &str) -> Option<&str> {
    let lines = text.lines().rev();
    lines
        .filter_map(|line| line.trim().strip_prefix("@mock "))
        .map(str::trim)
        .next()
}

/// What the user wrote, without the blocks that agents put around it; `None` if nothing is left.
fn own_words(turn: &Turn) -> Option<String> {
    let Turn::User(text) = turn else { return None };
    let mut left = text.clone();
    for tag in INJECTED {
        while let Some((head, rest)) = left.split_once(&format!("<{tag}>")) {
            let tail = rest
                .split_once(&format!("</{tag}>"))
                .map_or("", |(_, tail)| tail);
            left = format!("{head}{tail}");
        }
    }
    let left = left.split_whitespace().collect::<Vec<_>>().join(" ");
    (!left.is_empty()).then_some(left)
}

/// Its last characters: what a person wrote stands behind what was put in front of it.
fn ending(text: &str, characters: usize) -> String {
    let skip = text.chars().count().saturating_sub(characters);
    text.chars().skip(skip).collect()
}

fn words(word: &str, count: usize) -> Vec<String> {
    (1..=count.min(MAX_PIECES))
        .map(|n| format!("{word}{n} "))
        .collect()
}

/// Ends the line of an error that happens once.
const ONCE: &str = " once";
/// Most increments of one answer.
const MAX_PIECES: usize = 100_000;
/// Blocks that agents add to what the user wrote.
const INJECTED: [&str; 4] = [
    "system-reminder",
    "session_context",
    "environment_context",
    "turn_aborted",
];

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    fn user(text: &str) -> Turn {
        Turn::User(text.into())
    }

    fn answered() -> Turn {
        Turn::Model { calls_tools: false }
    }

    fn talk(turns: Vec<Turn>) -> Talk {
        let shell = json!({ "properties": { "command": {} } });
        let tools = vec![Tool {
            name: "Bash".into(),
            schema: shell,
        }];
        Talk {
            turns,
            tools,
            ..Talk::default()
        }
    }

    fn text(plan: &Plan) -> String {
        match plan {
            Plan::Say { text, .. } => text.concat(),
            Plan::Fail { status } => format!("error {status}"),
        }
    }

    #[test]
    fn the_last_script_line_of_the_current_turn_is_played() {
        let turns = vec![
            user("@mock text 3"),
            answered(),
            user("@mock text 1\nor\n@mock text 2"),
        ];
        let (line, step, plan) = plan(&talk(turns));
        assert_eq!((line.as_deref(), step), (Some("text 2"), 0));
        assert_eq!(text(&plan), "word1 word2 ");
    }

    #[test]
    fn an_answered_script_is_not_played_again() {
        let turns = vec![user("@mock text 3"), answered(), user("and now?")];
        let (line, _, plan) = plan(&talk(turns));
        assert_eq!((line, text(&plan).as_str()), (None, "You said: and now?"));
    }

    #[test]
    fn a_tool_is_called_once_and_its_result_repeated() {
        let mut turns = vec![user("@mock shell ls -l")];
        let (_, _, first) = plan(&talk(vec![user("@mock shell ls -l")]));
        let Plan::Say {
            call: Some(call), ..
        } = first
        else {
            panic!("{first:?}")
        };
        assert_eq!(
            (call.name.as_str(), call.input),
            ("Bash", json!({ "command": "ls -l" }))
        );
        turns.extend([
            Turn::Model { calls_tools: true },
            Turn::Tool("a.txt".into()),
        ]);
        let (_, step, second) = plan(&talk(turns));
        assert_eq!(
            (step, text(&second).as_str()),
            (1, "Done. The tool said: a.txt")
        );
    }

    #[test]
    fn recall_tells_earlier_prompts_in_their_own_words() {
        let first = user("<system-reminder>be nice</system-reminder>The word is pelican.");
        let turns = vec![
            first,
            answered(),
            user("And heron."),
            answered(),
            user("@mock recall"),
        ];
        let (_, _, plan) = plan(&talk(turns));
        let wanted = "I remember 2 earlier prompts. [The word is pelican.] [And heron.] ";
        assert_eq!(text(&plan), wanted);
    }

    #[test]
    fn side_requests_are_not_scripted() {
        let turns = || vec![user("@mock error 500")];
        let title = Talk {
            system: "Make a title".into(),
            turns: turns(),
            ..Talk::default()
        };
        assert_eq!(text(&plan(&title).2), "Mock title");
        let schema =
            json!({ "type": "object", "properties": { "choice": { "enum": ["a", "b"] } } });
        let routing = Talk {
            schema: Some(schema),
            turns: turns(),
            ..Talk::default()
        };
        assert_eq!(text(&plan(&routing).2), r#"{"choice":"a"}"#);
    }
}
