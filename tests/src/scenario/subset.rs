//! Whether a frame has at least what is expected of it.

use std::collections::BTreeMap;

use serde_json::Value;

/// Whether `frame` has every field of `wanted`, lists item by item. A text may begin or end with
/// `*`, which stands for anything; a lone `*` fits every value that is there.
pub fn fits(wanted: &Value, frame: &Value) -> bool {
    match (wanted, frame) {
        (Value::String(pattern), Value::String(text)) => text_fits(pattern, text),
        (Value::String(pattern), other) => pattern == "*" && !other.is_null(),
        (Value::Object(wanted), Value::Object(frame)) => wanted
            .iter()
            .all(|(key, wanted)| frame.get(key).is_some_and(|value| fits(wanted, value))),
        (Value::Array(wanted), Value::Array(frame)) => {
            wanted.len() == frame.len()
                && wanted
                    .iter()
                    .zip(frame)
                    .all(|(wanted, value)| fits(wanted, value))
        }
        (wanted, frame) => wanted == frame,
    }
}

fn text_fits(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(_), Some(_)) => text.contains(pattern.trim_matches('*')),
        (Some(end), None) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => text == pattern,
    }
}

/// Replaces `$name` in all texts of a value.
pub fn fill(value: &Value, kept: &BTreeMap<String, String>) -> Value {
    match value {
        Value::String(text) => Value::String(fill_text(text, kept)),
        Value::Array(items) => items.iter().map(|item| fill(item, kept)).collect(),
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, value)| (key.clone(), fill(value, kept)))
                .collect(),
        ),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Replaces `$name` in a text.
pub fn fill_text(text: &str, kept: &BTreeMap<String, String>) -> String {
    kept.iter()
        .rev()
        .fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("${name}"), value)
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_frame_may_have_more_than_is_wanted_and_not_less() {
        let frame = json!({"a": 1, "b": {"c": "x", "d": [1, {"e": 2, "f": 3}]}});
        assert!(fits(&json!({}), &frame));
        assert!(fits(&json!({"b": {"d": [1, {"e": 2}]}}), &frame));
        assert!(!fits(&json!({"a": 2}), &frame));
        assert!(!fits(&json!({"b": {"d": [1]}}), &frame));
        assert!(!fits(&json!({"z": null}), &frame));
    }

    #[test]
    fn stars_stand_for_anything_at_the_ends_of_a_text() {
        let text = json!("Step 1 of 6.\n");
        for pattern in ["*", "*1 of*", "Step*", "*6.\n", "Step 1 of 6.\n"] {
            assert!(fits(&json!(pattern), &text), "{pattern}");
        }
        for pattern in ["1 of", "*Step 2*", "of*", "*of", "Step"] {
            assert!(!fits(&json!(pattern), &text), "{pattern}");
        }
        assert!(fits(&json!("*"), &json!(7)) && !fits(&json!("*"), &json!(null)));
    }

    #[test]
    fn kept_values_are_filled_in_by_name() {
        let kept = BTreeMap::from([
            ("ask".to_owned(), "A".to_owned()),
            ("askd".into(), "D".into()),
        ]);
        let filled = fill(&json!({"x": ["$ask", "$askd!"], "n": 1}), &kept);
        assert_eq!(filled, json!({"x": ["A", "D!"], "n": 1}));
    }
}
