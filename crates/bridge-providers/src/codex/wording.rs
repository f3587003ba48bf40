//! What a person reads of a request, made from the action itself, and the digest of that action.

use bridge_proto::{
    Digest,
    model::{Action, AskKind, Choice, ChoiceKind},
};
use serde_json::Value;

use super::{commands, tools::Wanted};
use crate::plain::{one_line, readable};

/// A request as it is shown.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) kind: AskKind,
    pub(super) summary: String,
    /// Of a question; permissions have the same ones always.
    pub(super) options: Vec<Choice>,
    pub(super) digest: Digest,
    /// What exactly would be done, as far as it is known.
    pub(super) action: Option<Box<Action>>,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            kind: AskKind::Question,
            summary: String::new(),
            options: Vec::new(),
            digest: Digest::of(&[]),
            action: None,
        }
    }
}

/// Whether a command only reads, and is not asked for because it wants more than it would have.
pub(super) fn needs_nobody(params: &Value) -> bool {
    let absent = |name: &str| params.get(name).is_none_or(Value::is_null);
    let usual = matches!(text(params, "kind"), None | Some("command"));
    let wants = ["reason", "additionalPermissions", "networkApprovalContext"];
    usual
        && wants.into_iter().all(absent)
        && text(params, "command").is_some_and(commands::is_harmless)
}

/// A command that shall be run in `directory` unless it says otherwise; `None` if it does not say
/// what it is.
pub(super) fn command(params: &Value, directory: &str) -> Option<Shown> {
    let network = params
        .get("networkApprovalContext")
        .filter(|it| it.is_object());
    let command = text(params, "command").map(commands::unwrapped);
    let (kind, mut lines) = match (text(params, "kind"), network, &command) {
        (Some("writeStdin"), _, _) => {
            let what = readable(&params.to_string(), MAX_SUMMARY);
            (
                AskKind::Command,
                vec![format!("Type into a running command: {what}")],
            )
        }
        (_, Some(network), command) => {
            let host = one_line(text(network, "host").unwrap_or("?"), MAX_NOTE);
            let mut lines = vec![format!("Let it reach {host} in the network")];
            lines.extend(
                command
                    .as_deref()
                    .map(|command| readable(command, MAX_SUMMARY)),
            );
            (AskKind::Other, lines)
        }
        (_, None, Some(command)) => {
            let mut lines = vec![readable(command, MAX_SUMMARY)];
            if command.len() > MAX_SUMMARY {
                lines.push(format!(
                    "Only its beginning is shown; it has {} bytes.",
                    command.len()
                ));
            }
            let elsewhere = text(params, "cwd").filter(|cwd| *cwd != directory);
            lines.extend(elsewhere.map(|cwd| format!("in {}", one_line(cwd, MAX_NOTE))));
            lines.push(OUTSIDE.to_owned());
            (AskKind::Command, lines)
        }
        (_, None, None) => return None,
    };
    let more = params
        .get("additionalPermissions")
        .filter(|it| it.is_object());
    // Of a command with a wider reach or in another place, its words do not tell everything.
    let here = text(params, "cwd").is_none_or(|cwd| cwd == directory);
    let exact = command.filter(|_| kind == AskKind::Command && here && more.is_none());
    let told = exact.filter(|_| text(params, "kind") != Some("writeStdin"));
    if let Some(more) = more {
        let more = readable(&more.to_string(), MAX_NOTE);
        lines.push(format!("It wants further permissions: {more}"));
    }
    lines.extend(reason(params));
    Some(Shown {
        kind,
        summary: lines.join("\n"),
        digest: Digest::of(&["run", &action(params)]),
        action: told.map(|command| {
            Box::new(Action {
                tool: Some("shell".into()),
                command: Some(command.into_owned()),
                paths: Vec::new(),
            })
        }),
        ..Shown::default()
    })
}

/// A change of files; `wanted` is what the item with the same id said.
pub(super) fn change(params: &Value, wanted: Option<Wanted>) -> Shown {
    let root = text(params, "grantRoot");
    let mut paths = Vec::new();
    let (kind, deeds, digest) = if let Some(wanted) = wanted {
        let deeds = readable(&wanted.deeds.join("\n"), MAX_SUMMARY);
        paths = wanted.paths;
        (AskKind::Edit, deeds, wanted.digest)
    } else {
        let unknown = "Change files; which ones cannot be shown".to_owned();
        (
            AskKind::Other,
            unknown,
            Digest::of(&["change unknown files"]),
        )
    };
    let mut lines = vec![deeds];
    let more = root.map(|root| one_line(root, MAX_NOTE));
    lines.extend(more.map(|root| format!("and everything else in {root} in this session")));
    lines.extend(reason(params));
    Shown {
        kind: root.map_or(kind, |_| AskKind::Other),
        summary: lines.join("\n"),
        digest: Digest::of(&[digest.as_str(), root.unwrap_or_default()]),
        // What else would be granted has no paths.
        action: root.is_none().then(|| {
            Box::new(Action {
                tool: Some("apply_patch".into()),
                command: None,
                paths,
            })
        }),
        ..Shown::default()
    }
}

/// The questions of a request that can be asked. Secrets are not: answers are kept.
pub(super) fn questions(params: &Value) -> Vec<Value> {
    let list = params.get("questions").and_then(Value::as_array);
    let secret = |question: &Value| question.get("isSecret") == Some(&Value::Bool(true));
    let asked = list.into_iter().flatten().filter(|question| {
        let words = text(question, "question").unwrap_or_default();
        !words.trim().is_empty() && !secret(question)
    });
    asked.take(MAX_QUESTIONS).cloned().collect()
}

/// One of the agent's own questions.
pub(super) fn question(question: &Value) -> Shown {
    let words = text(question, "question").unwrap_or_default();
    let mut summary = readable(words.trim(), MAX_SUMMARY);
    let mut options = Vec::new();
    let offered = question.get("options").and_then(Value::as_array);
    for option in offered.into_iter().flatten().take(MAX_OPTIONS) {
        let Some(label) = text(option, "label") else {
            continue;
        };
        let label = one_line(label, MAX_NOTE);
        if let Some(about) = text(option, "description") {
            let about = one_line(about, MAX_NOTE);
            summary.extend(["\n- ", &label, ": ", &about]);
        }
        options.push(Choice {
            id: (options.len() + 1).to_string(),
            label,
            kind: ChoiceKind::Plain,
        });
    }
    Shown {
        kind: AskKind::Question,
        summary,
        options,
        digest: Digest::of(&["question", &question.to_string()]),
        action: None,
    }
}

/// What would be done, without what differs between two questions about the same.
fn action(params: &Value) -> String {
    let mut action = params.clone();
    if let Some(fields) = action.as_object_mut() {
        for of_the_question in ["threadId", "turnId", "itemId", "startedAtMs", "approvalId"] {
            fields.remove(of_the_question);
        }
    }
    action.to_string()
}

fn reason(params: &Value) -> Option<String> {
    let reason = text(params, "reason")?.trim();
    (!reason.is_empty()).then(|| format!("Its reason: {}", one_line(reason, MAX_NOTE)))
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

/// What a person has to know before a command is allowed.
const OUTSIDE: &str = "If you allow it, it runs outside the sandbox and can do all that you can.";
/// Most questions of one request.
const MAX_QUESTIONS: usize = 20;
/// Most options of one question.
const MAX_OPTIONS: usize = 20;
/// Longest summary: a whole command must be readable before it is allowed.
const MAX_SUMMARY: usize = 8000;
/// Longest note or label.
const MAX_NOTE: usize = 300;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn touch(target: &str) -> Value {
        json!({"kind": "command", "threadId": "t", "turnId": "u", "itemId": "call_1",
            "startedAtMs": 5, "command": format!("/bin/bash -lc 'touch {target}'"),
            "cwd": "/work", "reason": null})
    }

    fn run(params: &Value) -> Shown {
        command(params, "/work").unwrap()
    }

    #[test]
    fn an_accepted_command_runs_outside_the_sandbox_and_the_question_says_so() {
        let shown = run(&touch("made"));
        assert_eq!(shown.kind, AskKind::Command);
        assert_eq!(shown.summary, format!("touch made\n{OUTSIDE}"));
        let mut elsewhere = touch("made");
        elsewhere["cwd"] = json!("/opt");
        elsewhere["reason"] = json!("It is needed.");
        let wanted = format!("touch made\nin /opt\n{OUTSIDE}\nIts reason: It is needed.");
        assert_eq!(run(&elsewhere).summary, wanted);
        let long = run(&touch(&"x".repeat(9000)));
        assert!(long.summary.contains("it has 9006 bytes"));
    }

    #[test]
    fn the_rules_learn_a_command_only_where_its_words_are_all_there_is() {
        let plain = touch("made");
        let told = |params: &Value| run(params).action.and_then(|action| action.command);
        assert_eq!(told(&plain).as_deref(), Some("touch made"));
        for (field, value) in [
            ("cwd", json!("/opt")),
            ("additionalPermissions", json!({"network": {}})),
            ("networkApprovalContext", json!({"host": "example.org"})),
            ("kind", json!("writeStdin")),
        ] {
            let mut more = plain.clone();
            more[field] = value;
            assert_eq!(told(&more), None, "{field}");
        }
    }

    #[test]
    fn a_command_that_only_reads_is_not_asked_for_unless_it_wants_more() {
        let read = |extra: Value| {
            let mut params = json!({"kind": "command", "command": "/bin/bash -lc 'cat a'"});
            if let (Some(fields), Value::Object(extra)) = (params.as_object_mut(), extra) {
                fields.extend(extra);
            }
            needs_nobody(&params)
        };
        assert!(read(json!({"reason": null})));
        for extra in [
            json!({"reason": "It lies outside."}),
            json!({"additionalPermissions": {"network": {}}}),
            json!({"networkApprovalContext": {"host": "example.org"}}),
            json!({"kind": "writeStdin"}),
            json!({"command": "/bin/bash -lc 'touch a'"}),
        ] {
            assert!(!read(extra));
        }
    }

    #[test]
    fn the_digest_is_of_the_action_and_not_of_the_question() {
        let digest = |params: &Value| run(params).digest;
        let mut later = touch("made");
        later["startedAtMs"] = json!(99);
        later["itemId"] = json!("call_2");
        assert_eq!(digest(&touch("made")), digest(&later));
        assert_ne!(digest(&touch("made")), digest(&touch("other")));
        later["cwd"] = json!("/etc");
        assert_ne!(digest(&touch("made")), digest(&later));
    }

    #[test]
    fn a_change_that_cannot_be_shown_or_grants_more_is_no_plain_edit() {
        let wanted = || {
            Some(Wanted {
                deeds: vec!["Write a (a new file)".into()],
                digest: Digest::of(&["a"]),
                paths: vec!["/repo/a".into()],
            })
        };
        let edit = change(&json!({}), wanted());
        let told = (edit.kind, edit.summary.as_str());
        assert_eq!(told, (AskKind::Edit, "Write a (a new file)"));
        assert_eq!(edit.action.unwrap().paths, ["/repo/a"]);
        let unknown = change(&json!({}), None);
        assert_eq!(unknown.kind, AskKind::Other);
        assert!(unknown.action.unwrap().paths.is_empty());
        let more = change(&json!({"grantRoot": "/"}), wanted());
        assert_eq!((more.kind, more.action), (AskKind::Other, None));
        assert_ne!(more.digest, edit.digest);
    }

    #[test]
    fn network_and_typing_are_asked_for_what_they_are() {
        let mut params = touch("made");
        params["networkApprovalContext"] = json!({"host": "example.org", "protocol": "https"});
        let shown = run(&params);
        assert_eq!(shown.kind, AskKind::Other);
        let wanted = "Let it reach example.org in the network\ntouch made";
        assert_eq!(shown.summary, wanted);
        let typing = run(&json!({"kind": "writeStdin", "itemId": "c", "command": null}));
        assert!(typing.summary.starts_with("Type into a running command: "));
        assert!(command(&json!({}), "/work").is_none());
    }
}
