//! What stands in an update of a tool call: places, changes of files, and the text it gave.

use bridge_proto::model::{FileDiff, Location};
use serde_json::Value;

use super::quirks::ToolQuirks;
use crate::plain::head;

/// Whether a value is more than an empty one.
pub(crate) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) | Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// The files an update names.
pub(crate) fn locations(update: &Value) -> Vec<Location> {
    let places = update.get("locations").and_then(Value::as_array);
    places
        .into_iter()
        .flatten()
        .take(MAX_PLACES)
        .filter_map(location_of)
        .collect()
}

/// The changes of files an update shows.
pub(crate) fn diffs(update: &Value, quirks: &ToolQuirks) -> Vec<FileDiff> {
    let diffs = content(update).filter_map(diff_of);
    if quirks.patch_headers {
        diffs.filter_map(without_headers).collect()
    } else {
        diffs.collect()
    }
}

/// The paths of both.
pub(crate) fn paths(update: &Value, quirks: &ToolQuirks) -> Vec<String> {
    let changed = diffs(update, quirks).into_iter().map(|diff| diff.path);
    let named = locations(update).into_iter().map(|place| place.path);
    changed.chain(named).collect()
}

/// The text of an update, shortened.
pub(crate) fn text(update: &Value) -> Option<String> {
    let texts: Vec<_> = content(update)
        .filter_map(|block| block.pointer("/content/text").and_then(Value::as_str))
        .collect();
    (!texts.is_empty()).then(|| bounded(&texts.join("\n")))
}

/// The text of a `rawOutput`, whose form is up to the agent, shortened.
pub(crate) fn raw_output(raw: &Value) -> Option<String> {
    let field = |name: &str| raw.get(name).and_then(Value::as_str);
    let text = field("output")
        .or_else(|| field("content"))
        .map(str::to_owned)
        .or_else(|| shell_output(raw))
        .or_else(|| {
            field("error")
                .or_else(|| field("message"))
                .map(str::to_owned)
        })
        .or_else(|| raw.as_str().map(str::to_owned));
    let text = text.or_else(|| says_something(raw).then(|| raw.to_string()))?;
    Some(bounded(&text))
}

/// What a command printed, both streams, and its exit code where that is bad news.
fn shell_output(raw: &Value) -> Option<String> {
    let stream = |name: &str| raw.get(name).and_then(Value::as_str);
    let streams = [stream("stdout"), stream("stderr")];
    let printed: Vec<&str> = streams.into_iter().flatten().map(str::trim_end).collect();
    if printed.is_empty() {
        return None;
    }
    let code = raw.get("exitCode").and_then(Value::as_i64);
    let bad = code.filter(|code| *code != 0);
    let bad = bad.map(|code| format!("(exit code {code})"));
    let parts = printed.into_iter().chain(bad.as_deref());
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    Some(parts.join("\n"))
}

fn content(update: &Value) -> impl Iterator<Item = &Value> {
    let blocks = update.get("content").and_then(Value::as_array);
    blocks.into_iter().flatten().take(MAX_PLACES)
}

fn location_of(place: &Value) -> Option<Location> {
    let path = place.get("path")?.as_str()?.to_owned();
    let line = place
        .get("line")
        .and_then(Value::as_u64)
        .and_then(|line| u32::try_from(line).ok());
    Some(Location { path, line })
}

fn diff_of(content: &Value) -> Option<FileDiff> {
    if content.get("type")?.as_str()? != "diff" {
        return None;
    }
    let text = |name: &str| content.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(FileDiff {
        path: text("path")?,
        old: text("oldText"),
        new: text("newText").unwrap_or_default(),
    })
}

/// Takes the header lines of a patch out of a change that was cut from one: what was removed begins
/// with `-- a/…`, what was added with `++ b/…`, each with the first sign of its line gone. A change
/// that has only one of them is not what it seems, and is dropped.
fn without_headers(diff: FileDiff) -> Option<FileDiff> {
    let FileDiff { path, old, new } = diff;
    let old_body = old.as_deref().and_then(|old| body_behind(old, "-- ", "a/"));
    let new_body = body_behind(&new, "++ ", "b/");
    match (old_body, new_body) {
        (None, None) => Some(FileDiff { path, old, new }),
        (Some((old, from_nothing)), Some((new, _))) => Some(FileDiff {
            path,
            old: (!from_nothing).then(|| old.to_owned()),
            new: new.to_owned(),
        }),
        (Some(_), None) | (None, Some(_)) => None,
    }
}

/// What follows a header line, and whether that names no file.
fn body_behind<'a>(text: &'a str, sign: &str, side: &str) -> Option<(&'a str, bool)> {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    let name = first.strip_prefix(sign)?.trim_end();
    let nothing = name == "/dev/null";
    (nothing || name.starts_with(side)).then_some((rest, nothing))
}

fn bounded(text: &str) -> String {
    if text.len() <= OUTPUT_BYTES {
        return text.to_owned();
    }
    let kept = head(text, OUTPUT_BYTES);
    format!("{kept}\n… ({} more bytes)", text.len() - kept.len())
}

const MAX_PLACES: usize = 1000;
/// Of the text a tool gave; the agent's own message has all of it.
const OUTPUT_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn repaired(old: &str, new: &str) -> Option<(Option<String>, String)> {
        let diff =
            json!({"content": [{"type": "diff", "path": "/p/a", "oldText": old, "newText": new}]});
        let quirks = ToolQuirks {
            patch_headers: true,
            ..ToolQuirks::default()
        };
        let diff = diffs(&diff, &quirks).pop()?;
        Some((diff.old, diff.new))
    }

    #[test]
    fn headers_of_a_patch_are_taken_out_of_a_change_and_half_a_patch_is_dropped() {
        assert_eq!(
            repaired("-- /dev/null", "++ b/a\none\ntwo\n"),
            Some((None, "one\ntwo\n".into()))
        );
        assert_eq!(
            repaired("-- a/a\none\n", "++ b/a\n1\n"),
            Some((Some("one\n".into()), "1\n".into()))
        );
        assert_eq!(repaired("one", "1"), Some((Some("one".into()), "1".into())));
        assert_eq!(repaired("one", "++ b/a\n1"), None);
        assert_eq!(repaired("-- /dev/null", "1"), None);
    }

    #[test]
    fn output_is_found_in_whatever_form_an_agent_gives_it() {
        for (raw, text) in [
            (json!({"output": "a", "metadata": {}}), "a"),
            (json!({"message": "rejected", "code": "x"}), "rejected"),
            (json!({"exitCode": 0, "stdout": "a\n", "stderr": ""}), "a"),
            (
                json!({"exitCode": 2, "stdout": "a", "stderr": "b\n"}),
                "a\nb\n(exit code 2)",
            ),
            (json!("plain"), "plain"),
            (json!({"odd": 1}), "{\"odd\":1}"),
        ] {
            assert_eq!(raw_output(&raw).as_deref(), Some(text), "{raw}");
        }
        assert_eq!(raw_output(&json!({})), None);
        assert_eq!(raw_output(&Value::Null), None);
    }
}
