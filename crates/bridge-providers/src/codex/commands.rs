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

/// Whether a command does nothing but read and print. Versions before 0.169 knew that of some
/// commands and ran them unasked under the policy that asks; later ones ask for every `ls`.
///
/// Only what is plain to see counts: words without expansion, joined by `|`, `&&`, `||` or `;`,
/// and programs of which no option writes or starts anything. Git is none of them: the settings
/// of a repository can make it start programs.
pub(super) fn is_harmless(command: &str) -> bool {
    parts(&unwrapped(command)).is_some_and(|parts| parts.iter().all(|words| only_reads(words)))
}

fn only_reads(words: &[String]) -> bool {
    let Some((program, arguments)) = words.split_first() else {
        return false;
    };
    match program.as_str() {
        "cat" | "echo" | "grep" | "head" | "ls" | "nl" | "pwd" | "tail" | "true" | "wc" => true,
        // Its other options may start a program to unpack or convert what is searched.
        "rg" => arguments.iter().all(|word| {
            let long = word.strip_prefix("--").filter(|long| !long.is_empty());
            let short = word.strip_prefix('-').unwrap_or_default();
            match long {
                Some(long) => {
                    let name = long.split('=').next().unwrap_or_default();
                    !["pre", "hostname", "search-z"]
                        .iter()
                        .any(|bad| name.starts_with(bad))
                }
                None => !short.contains('z'),
            }
        }),
        "sed" => match arguments {
            [quiet, lines, files @ ..] => {
                quiet == "-n" && prints_lines(lines) && !files.iter().any(|f| f.starts_with('-'))
            }
            [..] => false,
        },
        _ => false,
    }
}

/// `12p` or `1,200p`.
fn prints_lines(script: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    script
        .strip_suffix('p')
        .is_some_and(|range| match range.split_once(',') {
            Some((from, to)) => number(from) && number(to),
            None => number(range),
        })
}

/// The words of each part of a command line; `None` if anything in it is more than a word.
fn parts(line: &str) -> Option<Vec<Vec<String>>> {
    let mut parts = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '|' | ';' | '&' => {
                parts.last_mut()?.extend(word.take());
                match c {
                    ' ' => continue,
                    '&' => _ = chars.next_if_eq(&'&')?,
                    _ => _ = chars.next_if(|next| *next == '|' && c == '|'),
                }
                parts.push(Vec::new());
            }
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        end if end == c => break,
                        '$' | '`' | '\\' | '!' if c == '"' => return None,
                        other => word.push(other),
                    }
                }
            }
            plain if plain.is_alphanumeric() || "_-./:,=+@%^".contains(plain) => {
                word.get_or_insert_default().push(plain);
            }
            _ => return None,
        }
    }
    parts.last_mut()?.extend(word);
    Some(parts)
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
    fn what_only_reads_is_known_and_nothing_that_could_do_more() {
        for command in [
            "/bin/bash -lc 'cat notes.md'",
            "/bin/bash -lc ls",
            "/bin/bash -lc \"sed -n '1,200p' src/lib.rs\"",
            "/bin/bash -lc 'rg -n \"fn main\" src | head -20 && pwd'",
            "/bin/bash -lc 'cat a; cat b || true'",
            "ls -la",
        ] {
            assert!(is_harmless(command), "{command}");
        }
        for command in [
            "",
            "/bin/bash -lc 'touch made'",
            "/bin/bash -lc 'cat a > b'",
            "/bin/bash -lc 'cat a & rm b'",
            "/bin/bash -lc 'cat $(rm b)'",
            "/bin/bash -lc 'cat \"`rm b`\"'",
            "/bin/bash -lc 'cat a\nrm b'",
            "/bin/bash -lc 'cat <(rm b)'",
            "/bin/bash -lc 'ls; rm b'",
            "/bin/bash -lc 'ls |'",
            "/bin/bash -lc 'LD_PRELOAD=x cat a'",
            "/bin/bash -lc './cat a'",
            "/bin/bash -lc 'rg *'",
            "/bin/bash -lc 'rg --pre=evil x'",
            "/bin/bash -lc 'rg --pre evil x'",
            "/bin/bash -lc 'rg -nz x'",
            "/bin/bash -lc 'sed -i s/a/b/ c'",
            "/bin/bash -lc \"sed -n '1e rm' a\"",
            "/bin/bash -lc \"sed -n 1p a -i\"",
            "/bin/bash -lc 'git status'",
            "/bin/bash -lc 'find . -delete'",
            "/bin/bash -lc 'cat a' && rm b",
            "python -c 'cat a'",
        ] {
            assert!(!is_harmless(command), "{command}");
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
