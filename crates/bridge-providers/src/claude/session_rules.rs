//! "Yes, and do not ask again": which of the offered permission rules are sent back, and where they
//! hold.

use serde_json::Value;

use crate::plain::one_line;

/// Rules for this conversation only: sent back unchanged, some would be written into the
/// repository's settings and stay in force for later runs. A rule for the tool itself goes before
/// a change of mode, and nothing that lifts all questions is passed on.
pub(super) fn session_rules(suggestions: Option<&Value>) -> Vec<Value> {
    let text = |rule: &Value, name: &str| {
        rule.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut rules: Vec<Value> = suggestions
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|rule| match text(rule, "type").as_str() {
            "addRules" => text(rule, "behavior") == "allow",
            "addDirectories" => true,
            "setMode" => text(rule, "mode") == "acceptEdits",
            _ => false,
        })
        .take(MAX_RULES)
        .cloned()
        .collect();
    if rules.iter().any(|rule| text(rule, "type") == "addRules") {
        rules.retain(|rule| text(rule, "type") == "addRules");
    }
    for rule in &mut rules {
        if let Some(fields) = rule.as_object_mut() {
            fields.insert("destination".into(), "session".into());
        }
    }
    rules
}

/// What a rule allows, for a person.
pub(super) fn rule_label(rule: &Value) -> String {
    let text = |value: &Value, name: &str| {
        value
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let list = |name: &str| {
        rule.get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    match text(rule, "type").as_str() {
        "addRules" => {
            let rules: Vec<String> = list("rules")
                .map(|rule| match text(rule, "ruleContent").as_str() {
                    "" => text(rule, "toolName"),
                    content => format!("{}({content})", text(rule, "toolName")),
                })
                .collect();
            one_line(&rules.join(", "), MAX_LABEL)
        }
        "addDirectories" => {
            let folders: Vec<&str> = list("directories").filter_map(Value::as_str).collect();
            one_line(&format!("the folder {}", folders.join(", ")), MAX_LABEL)
        }
        _ => "all edits".into(),
    }
}

/// Most rules of one permission.
const MAX_RULES: usize = 20;
/// Longest label of one rule.
const MAX_LABEL: usize = 300;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_lifts_all_questions_is_passed_on() {
        let offered = json!([
            {"type": "setMode", "mode": "bypassPermissions", "destination": "session"},
            {"type": "addRules", "behavior": "deny", "rules": []},
            {"type": "removeRules"}, 7, null,
            {"type": "setMode", "mode": "acceptEdits", "destination": "userSettings"},
            {"type": "addDirectories", "directories": ["/elsewhere"]}]);
        let rules = session_rules(Some(&offered));
        assert_eq!(
            rules,
            [
                json!({"type": "setMode", "mode": "acceptEdits", "destination": "session"}),
                json!({"type": "addDirectories", "directories": ["/elsewhere"],
                    "destination": "session"}),
            ]
        );
        let labels: Vec<String> = rules.iter().map(rule_label).collect();
        assert_eq!(labels, ["all edits", "the folder /elsewhere"]);
        assert!(session_rules(None).is_empty() && session_rules(Some(&json!("x"))).is_empty());
    }
}
