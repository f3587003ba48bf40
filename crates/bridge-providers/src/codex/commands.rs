//! Commands as a person reads them: Codex wraps each into a call of a shell.

use std::borrow::Cow;

use bridge_proto::model::ToolKind;
use serde_json::Value;

/// The command inside of `/bin/bash -lc '…'`; anything else stays as it is. Nothing of it is ever
/// left out: what cannot be taken apart whole is not taken apart.
pub(super) fn unwrapped(command: &str) -> Cow<'_, str> {
    inner(command).map_or(Cow::Borrowed(command), Cow::Owned)
}

/// Of which sort a command is, as the program itself sorts its parts.
pub(super) fn kind(actions: &Value) -> ToolKind {
    let sorts: Vec<&str> = actions
        .as_array()
        .into_iter()
        .flatten()
        .map(|action| {
            action
                .get("type")
                .and_then(Value::as_str)
                .unwrap_or("unknown")
        })
        .collect();
    let all = |wanted: &[&str]| !sorts.is_empty() && sorts.iter().all(|sort| wanted.contains(sort));
    if all(&["read"]) {
        ToolKind::Read
    } else if all(&["read", "search", "listFiles", "list_files"]) {
        ToolKind::Search
    } else {
        ToolKind::Execute
    }
}

fn inner(command: &str) -> Option<String> {
    let (shell, rest) = command.split_once(' ')?;
    let name = shell.rsplit('/').next()?;
    if !matches!(name, "sh" | "bash" | "zsh") {
        return None;
    }
    let word = rest
        .strip_prefix("-lc ")
        .or_else(|| rest.strip_prefix("-c "))?;
    one_word(word)
}

/// The text of one quoted word of a shell; `None` if it is not exactly one.
fn one_word(quoted: &str) -> Option<String> {
    let mut text = String::new();
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next()? {
                    '\'' => break,
                    other => text.push(other),
                }
            },
            '"' => loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => match chars.next()? {
                        escaped @ ('"' | '\\' | '$' | '`') => text.push(escaped),
                        other => text.extend(['\\', other]),
                    },
                    '$' | '`' => return None,
                    other => text.push(other),
                }
            },
            '\\' => text.push(chars.next().filter(|c| *c != '\n')?),
            plain if plain.is_ascii_alphanumeric() || "_-./:,=+@%^".contains(plain) => {
                text.push(plain);
            }
            _ => return None,
        }
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_shell_around_a_command_is_taken_off() {
        for (wrapped, plain) in [
            (
                "/bin/bash -lc 'touch made && cat hello.txt'",
                "touch made && cat hello.txt",
            ),
            ("/bin/zsh -lc pwd", "pwd"),
            (r#"bash -lc "echo 'it'\''s'""#, r"echo 'it'\''s'"),
            (r"bash -c 'echo it'\''s'", "echo it's"),
            (r#"bash -lc "echo \"a\" \\n""#, r#"echo "a" \n"#),
        ] {
            assert_eq!(unwrapped(wrapped), plain, "{wrapped}");
        }
    }

    #[test]
    fn what_is_not_one_word_is_shown_as_it_is() {
        for command in [
            "ls -l",
            "/bin/bash -lc 'ls' && rm x",
            "/bin/bash -lc 'ls' 'rm'",
            "/bin/bash -lc 'unfinished",
            "/bin/bash -lc \"echo $HOME\"",
            "/bin/bash -lc ",
            "python -c 'print(1)'",
            "",
        ] {
            assert_eq!(unwrapped(command), command);
        }
    }

    #[test]
    fn reading_and_searching_are_told_from_the_rest() {
        let of = |sorts: &[&str]| {
            let list: Vec<Value> = sorts.iter().map(|sort| json!({"type": sort})).collect();
            kind(&Value::Array(list))
        };
        assert_eq!(of(&["read"]), ToolKind::Read);
        assert_eq!(of(&["listFiles", "search"]), ToolKind::Search);
        assert_eq!(of(&["read", "unknown"]), ToolKind::Execute);
        assert_eq!(of(&[]), ToolKind::Execute);
    }
}
