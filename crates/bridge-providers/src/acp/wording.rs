//! How a permission request is shown to a person, and what it is about to the byte: the options,
//! one line for people, the action that rules are asked about, the digest that answers are bound to.

use bridge_proto::{
    Digest,
    model::{Action, AskKind, Choice, ChoiceKind, FileDiff, ToolKind, ToolState},
};
use serde_json::Value;

use crate::plain::sentence;

/// What may be answered, as far as the request can be read.
pub(super) fn options_of(params: &Value) -> Vec<Choice> {
    let Some(options) = params.get("options").and_then(Value::as_array) else {
        return Vec::new();
    };
    let read = |option: &Value| {
        let id = option.get("optionId")?.as_str()?.to_owned();
        let kind = match option.get("kind").and_then(Value::as_str) {
            Some("allow_once") => ChoiceKind::AllowOnce,
            Some("allow_always") => ChoiceKind::AllowAlways,
            Some("reject_once") => ChoiceKind::RejectOnce,
            Some("reject_always") => ChoiceKind::RejectAlways,
            Some(_) | None => ChoiceKind::Plain,
        };
        let name = option.get("name").and_then(Value::as_str).unwrap_or(&id);
        Some(Choice {
            label: sentence(name, LABEL_CHARS),
            id,
            kind,
        })
    };
    options.iter().take(MAX_OPTIONS).filter_map(read).collect()
}

/// What sort of thing is asked for.
pub(super) fn kind_of(kind: ToolKind) -> AskKind {
    match kind {
        ToolKind::Edit | ToolKind::Delete | ToolKind::Move => AskKind::Edit,
        ToolKind::Execute => AskKind::Command,
        ToolKind::Read
        | ToolKind::Search
        | ToolKind::Think
        | ToolKind::Fetch
        | ToolKind::SwitchMode
        | ToolKind::Other => AskKind::Other,
    }
}

/// One line that says what would be done, from what the call would do rather than from its title
/// where that is known.
pub(super) fn summary_of(state: &ToolState) -> String {
    let text = match state.kind {
        ToolKind::Execute => {
            format!(
                "Run: {}",
                command_of(state).unwrap_or_else(|| state.title.clone())
            )
        }
        ToolKind::Edit if !state.diffs.is_empty() => {
            let one = |diff: &FileDiff| {
                let fresh = diff.old.as_deref().unwrap_or_default().is_empty();
                format!("{} {}", if fresh { "Create" } else { "Change" }, diff.path)
            };
            state.diffs.iter().map(one).collect::<Vec<_>>().join(", ")
        }
        ToolKind::Edit | ToolKind::Delete | ToolKind::Move if !state.locations.is_empty() => {
            let paths: Vec<_> = state
                .locations
                .iter()
                .map(|place| place.path.as_str())
                .collect();
            format!("{}: {}", state.title, paths.join(", "))
        }
        ToolKind::Edit
        | ToolKind::Delete
        | ToolKind::Move
        | ToolKind::Read
        | ToolKind::Search
        | ToolKind::Think
        | ToolKind::Fetch
        | ToolKind::SwitchMode
        | ToolKind::Other => state.title.clone(),
    };
    let text = text.replace('\n', " ⏎ ");
    let long = text.chars().count().saturating_sub(SUMMARY_CHARS);
    let short = sentence(&text, SUMMARY_CHARS);
    if long > 0 {
        format!("{short} ({long} more characters)")
    } else {
        short
    }
}

fn command_of(state: &ToolState) -> Option<String> {
    let command = state.input.as_ref()?.get("command")?;
    if let Some(words) = command.as_array() {
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        return Some(words.join(" "));
    }
    command.as_str().map(str::to_owned)
}

/// What would be done, as far as the call says it in so many words. Its title is for people.
pub(super) fn action_of(state: &ToolState) -> Action {
    let input = state.input.as_ref();
    let command = match input.and_then(|input| input.get("command")) {
        Some(Value::String(line)) => Some(line.clone()),
        Some(Value::Array(words)) => script_of(words),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => None,
    };
    // Words beside the command would belong to it.
    let alone = input.is_some_and(|input| input.get("args").is_none());
    let named = state.locations.iter().map(|place| &place.path);
    let changed = state.diffs.iter().map(|diff| &diff.path);
    let mut paths: Vec<String> = named.chain(changed).cloned().collect();
    paths.sort_unstable();
    paths.dedup();
    let short = paths.iter().all(|path| path.len() <= MAX_ACTION) && paths.len() <= MAX_PATHS;
    Action {
        tool: match state.kind {
            ToolKind::Read => Some("read"),
            ToolKind::Edit => Some("edit"),
            ToolKind::Delete => Some("delete"),
            ToolKind::Move => Some("move"),
            ToolKind::Search => Some("search"),
            ToolKind::Execute => Some("execute"),
            ToolKind::Think => Some("think"),
            ToolKind::Fetch => Some("fetch"),
            ToolKind::SwitchMode => Some("switch_mode"),
            ToolKind::Other => None,
        }
        .map(str::to_owned),
        command: command
            .filter(|line| alone && state.kind == ToolKind::Execute && line.len() <= MAX_ACTION),
        paths: if short { paths } else { Vec::new() },
    }
}

/// The script of `sh -c script`; other lists of words are no command line.
fn script_of(words: &[Value]) -> Option<String> {
    let words: Vec<&str> = words.iter().map(Value::as_str).collect::<Option<_>>()?;
    let [shell, flag, script] = words[..] else {
        return None;
    };
    let name = shell.rsplit('/').next().unwrap_or(shell);
    let runs = matches!(name, "sh" | "bash" | "zsh" | "dash") && matches!(flag, "-c" | "-lc");
    runs.then(|| script.to_owned())
}

/// Of the call and the request, to the last byte.
pub(super) fn digest_of(state: Option<&ToolState>, params: &Value) -> Digest {
    let whole = state
        .and_then(|state| serde_json::to_string(state).ok())
        .unwrap_or_default();
    let request = params
        .get("toolCall")
        .map(Value::to_string)
        .unwrap_or_default();
    let options = params
        .get("options")
        .map(Value::to_string)
        .unwrap_or_default();
    Digest::of(&["acp", &whole, &request, &options])
}

/// Of a question that is no permission.
pub(super) fn question_digest(summary: &str, options: &[Choice]) -> Digest {
    let mut parts = vec!["acp question", summary];
    parts.extend(
        options
            .iter()
            .flat_map(|choice| [choice.id.as_str(), choice.label.as_str()]),
    );
    Digest::of(&parts)
}

const MAX_OPTIONS: usize = 32;
/// Longest command or path that rules are asked about, in bytes; of a longer one nothing is known.
const MAX_ACTION: usize = 64 * 1024;
const MAX_PATHS: usize = 1000;
const LABEL_CHARS: usize = 100;
const SUMMARY_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::acp::tools::ToolBook;

    #[test]
    fn the_action_is_known_only_from_what_the_call_says_in_so_many_words() {
        let action = |call: Value| {
            let mut call = call;
            call["toolCallId"] = json!("c");
            let state = ToolBook::default().merge(&call).unwrap().state;
            action_of(&state)
        };
        let run =
            |input: Value| action(json!({"kind": "execute", "title": "ls", "rawInput": input}));
        for (input, command) in [
            (json!({"command": "ls -l"}), Some("ls -l")),
            (
                json!({"command": ["/bin/bash", "-lc", "ls | wc"]}),
                Some("ls | wc"),
            ),
            (json!({"command": ["ls", "-l"]}), None),
            (json!({"command": ["bash", "-c"]}), None),
            (json!({"command": ["bash", "-c", 7]}), None),
            (json!({"command": "ls", "args": ["-l"]}), None),
            (json!({"command": {}}), None),
            (json!({}), None),
        ] {
            assert_eq!(run(input.clone()).command.as_deref(), command, "{input}");
        }
        let titled = action(json!({"kind": "execute", "title": "ls -l"}));
        assert_eq!(
            (titled.command, titled.tool.as_deref()),
            (None, Some("execute"))
        );
        let edit = action(json!({"kind": "edit", "title": "x",
            "locations": [{"path": "/w/b"}],
            "content": [{"type": "diff", "path": "/w/a", "oldText": null, "newText": "y"}]}));
        assert_eq!(edit.paths, ["/w/a", "/w/b"]);
        assert_eq!(
            action(json!({"kind": "edit", "title": "/w/a"})).paths,
            [""; 0]
        );
        assert_eq!(action(json!({"kind": "other"})).tool, None);
    }

    #[test]
    fn the_digest_changes_with_the_action() {
        let digest = |command: &str| {
            let call = json!({"toolCallId": "c", "rawInput": {"command": command}});
            let state = ToolBook::default().merge(&call).unwrap().state;
            digest_of(Some(&state), &json!({"toolCall": call, "options": []}))
        };
        assert_eq!(digest("ls"), digest("ls"));
        assert_ne!(digest("ls"), digest("ls "));
    }
}
