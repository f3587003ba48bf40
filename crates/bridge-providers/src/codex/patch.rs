//! The changes of a `fileChange` item: where they are and what stands there before and after.

use std::str::Lines;

use bridge_proto::model::{FileDiff, ToolKind};
use serde_json::Value;

use crate::plain::readable;

/// One file of a change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// Where it was.
    pub(super) path: String,
    /// Where it is afterwards, if it moves.
    pub(super) moved: Option<String>,
    pub(super) deed: Deed,
    pub(super) diffs: Vec<FileDiff>,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Add,
    Delete,
    Update,
}

/// The files of a list of changes, as far as they can be read.
pub(super) fn changes(list: &Value) -> Vec<Change> {
    let list = list.as_array().into_iter().flatten();
    list.take(MAX_FILES).filter_map(change).collect()
}

/// Every path that a list of changes touches, exactly as it stands there; empty when one of them may
/// not be among them.
pub(super) fn paths(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let paths: Option<Vec<_>> = list.iter().take(MAX_FILES + 1).map(touched).collect();
    let paths = paths.filter(|_| list.len() <= MAX_FILES);
    paths.unwrap_or_default().into_iter().flatten().collect()
}

/// The paths of one change; `None` if it has what is not known here.
fn touched(change: &Value) -> Option<Vec<String>> {
    let path = change.get("path")?.as_str()?;
    let moved = match change.get("kind")? {
        Value::Object(kind) if kind.keys().all(|key| key == "type" || key == "move_path") => {
            kind.get("move_path").filter(|moved| !moved.is_null())
        }
        Value::String(_) => None,
        Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return None;
        }
    };
    let mut paths = vec![path];
    if let Some(moved) = moved {
        paths.push(moved.as_str()?);
    }
    let short = paths.iter().all(|path| path.len() <= MAX_PATH);
    short.then(|| paths.into_iter().map(str::to_owned).collect())
}

/// Of which sort a change of these files is.
pub(super) fn kind(changes: &[Change]) -> ToolKind {
    let all = |deed: Deed| !changes.is_empty() && changes.iter().all(|change| change.deed == deed);
    if all(Deed::Delete) {
        ToolKind::Delete
    } else if !changes.is_empty() && changes.iter().all(Change::only_moves) {
        ToolKind::Move
    } else {
        ToolKind::Edit
    }
}

impl Change {
    /// Where the file is when the change is made; `None` if it is gone then.
    pub(super) fn written(&self) -> Option<&str> {
        match self.deed {
            Deed::Add | Deed::Update => Some(self.moved.as_deref().unwrap_or(&self.path)),
            Deed::Delete => None,
        }
    }

    fn only_moves(&self) -> bool {
        self.moved.is_some() && self.diffs.is_empty()
    }
}

/// Versions and `exec` differ in how they write the kind: a word, or an object with one.
fn change(change: &Value) -> Option<Change> {
    let path = readable(change.get("path")?.as_str()?, MAX_PATH);
    let kind = change.get("kind").unwrap_or(&Value::Null);
    let word = kind.get("type").unwrap_or(kind).as_str();
    let deed = match word {
        Some("add") => Deed::Add,
        Some("delete") => Deed::Delete,
        Some(_) | None => Deed::Update,
    };
    let moved = kind.get("move_path").and_then(Value::as_str);
    let moved = moved.map(|path| readable(path, MAX_PATH));
    let text = change.get("diff").and_then(Value::as_str);
    let place = moved.as_deref().unwrap_or(&path);
    let diffs = match (deed, text) {
        (_, None) => Vec::new(),
        (Deed::Add, Some(text)) => whole(place, None, text).into_iter().collect(),
        (Deed::Delete, Some(text)) => whole(place, Some(text), "").into_iter().collect(),
        (Deed::Update, Some(text)) => hunks(place, text),
    };
    Some(Change {
        path,
        moved,
        deed,
        diffs,
    })
}

/// A diff whose sides are whole; one that is too long is left out, because half of it would lie.
fn whole(path: &str, old: Option<&str>, new: &str) -> Option<FileDiff> {
    let longest = old.map_or(0, str::len).max(new.len());
    (longest <= MAX_DIFF).then(|| FileDiff {
        path: path.to_owned(),
        old: old.map(str::to_owned),
        new: new.to_owned(),
    })
}

/// The hunks of a unified diff, each with its context. What stands between them, such as a note
/// about a move, belongs to none: a hunk has as many lines as its head says.
fn hunks(path: &str, diff: &str) -> Vec<FileDiff> {
    let mut hunks = Vec::new();
    let mut lines = diff.lines();
    while let Some(line) = lines.next() {
        if hunks.len() >= MAX_HUNKS {
            break;
        }
        if let Some((old, new)) = head(line) {
            let (old, new) = hunk(&mut lines, old, new);
            hunks.extend(whole(path, Some(&old), &new));
        }
    }
    hunks
}

/// How many lines each side of `@@ -1,3 +1,4 @@` has.
fn head(line: &str) -> Option<(usize, usize)> {
    let (old, rest) = line.strip_prefix("@@ -")?.split_once(" +")?;
    let (new, _) = rest.split_once(" @@")?;
    let count = |range: &str| match range.split_once(',') {
        Some((_, count)) => count.parse().ok(),
        None => Some(1),
    };
    Some((count(old)?, count(new)?))
}

fn hunk(lines: &mut Lines<'_>, mut old_left: usize, mut new_left: usize) -> (String, String) {
    let (mut old, mut new) = (String::new(), String::new());
    let mut last = ' ';
    loop {
        let mut ahead = lines.clone();
        let Some(line) = ahead.next() else { break };
        let mut rest = line.chars();
        let mark = rest.next().unwrap_or(' ');
        let wanted = match mark {
            '\\' => true,
            '-' => old_left > 0,
            '+' => new_left > 0,
            _ => old_left > 0 && new_left > 0,
        };
        if !wanted {
            break;
        }
        *lines = ahead;
        if mark == '\\' {
            // No newline at the end of the file, on the side of the line before.
            if last != '+' {
                old.pop();
            }
            if last != '-' {
                new.pop();
            }
            continue;
        }
        if mark != '+' {
            push(&mut old, rest.as_str());
            old_left -= 1;
        }
        if mark != '-' {
            push(&mut new, rest.as_str());
            new_left -= 1;
        }
        last = mark;
    }
    (old, new)
}

fn push(side: &mut String, line: &str) {
    side.push_str(line);
    side.push('\n');
}

/// Most files of one change that are shown.
const MAX_FILES: usize = 500;
/// Most hunks of one file that are shown.
const MAX_HUNKS: usize = 200;
/// Most bytes of one side of a diff.
const MAX_DIFF: usize = 256 << 10;
/// Longest path shown.
const MAX_PATH: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(change: &Value) -> Change {
        changes(&json!([change])).remove(0)
    }

    fn diff(path: &str, old: Option<&str>, new: &str) -> FileDiff {
        whole(path, old, new).unwrap()
    }

    #[test]
    fn an_added_file_is_its_contents_and_a_deleted_one_what_was_in_it() {
        let added = one(&json!({"path": "/a", "kind": {"type": "add"}, "diff": "hello\n"}));
        assert_eq!(added.diffs, [diff("/a", None, "hello\n")]);
        assert_eq!(added.written(), Some("/a"));
        let deleted = one(&json!({"path": "/a", "kind": {"type": "delete"}, "diff": "gone\n"}));
        assert_eq!(deleted.diffs, [diff("/a", Some("gone\n"), "")]);
        assert_eq!(deleted.written(), None);
    }

    #[test]
    fn the_paths_of_a_change_are_all_of_them_as_they_stand_there_or_none() {
        let add = json!({"path": "/a\u{200b}b", "kind": "add"});
        let moved = json!({"path": "/c", "kind": {"type": "update", "move_path": "/d"}});
        let stays = json!({"path": "/e", "kind": {"type": "update", "move_path": null}});
        assert_eq!(
            paths(&json!([add, moved, stays])),
            ["/a\u{200b}b", "/c", "/d", "/e"]
        );
        for unknown in [
            json!({"path": "/c", "kind": {"type": "update", "copy_path": "/d"}}),
            json!({"path": "/c", "kind": {"type": "update", "move_path": 5}}),
            json!({"path": "/c"}),
            json!({"kind": "add"}),
            json!({"path": "/".repeat(MAX_PATH + 1), "kind": "add"}),
        ] {
            assert!(paths(&json!([add, unknown])).is_empty(), "{unknown}");
        }
        assert!(paths(&json!(vec![add; MAX_FILES + 1])).is_empty());
    }

    #[test]
    fn an_update_has_its_hunks_and_a_note_behind_them_is_no_context() {
        let change = one(
            &json!({"path": "/d", "kind": {"type": "update", "move_path": "/e"},
            "diff": "@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n@@ -12,2 +12,2 @@\n twelve\n\
                -thirteen\n\\ No newline at end of file\n+THIRTEEN\n\n\nMoved to: /e"}),
        );
        assert_eq!(change.written(), Some("/e"));
        assert_eq!(
            change.diffs,
            [
                diff("/e", Some("one\ntwo\nthree\n"), "one\nTWO\nthree\n"),
                diff("/e", Some("twelve\nthirteen"), "twelve\nTHIRTEEN\n"),
            ]
        );
    }

    #[test]
    fn a_change_of_exec_has_no_diff_and_its_kind_is_a_word() {
        let change = one(&json!({"path": "/a", "kind": "add"}));
        assert_eq!((change.deed, change.diffs.len()), (Deed::Add, 0));
    }

    #[test]
    fn the_sort_follows_from_all_files() {
        let list = |kinds: Value| {
            let kinds = kinds.as_array().unwrap().iter();
            let list: Vec<Value> = kinds.map(|k| json!({"path": "/a", "kind": k})).collect();
            kind(&changes(&Value::Array(list)))
        };
        assert_eq!(list(json!(["delete", "delete"])), ToolKind::Delete);
        assert_eq!(list(json!(["delete", "add"])), ToolKind::Edit);
        let moves = json!([{"type": "update", "move_path": "/b"}]);
        assert_eq!(list(moves), ToolKind::Move);
        assert_eq!(list(json!([])), ToolKind::Edit);
    }

    #[test]
    fn broken_diffs_do_no_harm() {
        for text in [
            "@@ -1,9999999 +1,2 @@\n a\n+b",
            "@@ -1 +1 @@",
            "@@ -x +y @@\n+a",
            "@@ -0,0 +1,2 @@\n\\ No newline\n+é\n+z",
            "@@@@\n\\",
        ] {
            let change = one(&json!({"path": "/a", "kind": {"type": "update"}, "diff": text}));
            assert!(change.diffs.len() <= 1, "{text}");
        }
        assert!(changes(&json!({"path": "/a"})).is_empty());
        let big = "x".repeat(MAX_DIFF + 1);
        let change = one(&json!({"path": "/a", "kind": "add", "diff": big}));
        assert!(change.diffs.is_empty());
    }
}
