//! How an agent says in words how its task ended: `<TASK_COMPLETED:…>`, `<TASK_BLOCKED:…>`,
//! `<TASK_FAILED:…>` somewhere in its final text.

use crate::model::{Fault, Fix, Outcome};

/// The outcome that the agent's final text names; `None` without a tag, which counts as completed.
/// Looked for in the order completed, blocked, failed, upper case only; behind the colon stands
/// the task id or any other text without `>`.
pub fn status_tag(answer: &str) -> Option<Outcome> {
    let has = |name: &str| {
        let opening = format!("<TASK_{name}:");
        answer.split(opening.as_str()).skip(1).any(|rest| {
            rest.split_once('>')
                .is_some_and(|(text, _)| !text.is_empty())
        })
    };
    if has("COMPLETED") {
        Some(Outcome::Completed)
    } else if has("BLOCKED") {
        let reason = "Agent reported blocked".into();
        Some(Outcome::Blocked {
            fix: Fix::Agent,
            reason,
        })
    } else if has("FAILED") {
        let reason = "Agent reported failure".into();
        Some(Outcome::Failed {
            fault: Fault::Task,
            reason,
        })
    } else {
        None
    }
}

/// The text as it is stored below `output/`: without tags that carry an id (hexadecimal digits and
/// dashes, any case), without white space at its end, with one closing line break. An empty text
/// stays empty.
pub fn strip_status_tags(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let mut kept = String::with_capacity(text.len() + 1);
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once('<') {
        kept.push_str(before);
        if let Some(after) = after_tag(tag) {
            rest = after;
        } else {
            kept.push('<');
            rest = tag;
        }
    }
    kept.push_str(rest);
    kept.truncate(kept.trim_end().len());
    kept.push('\n');
    kept
}

/// What follows the tag whose text behind `<` begins here. Looks no further than the tag goes.
fn after_tag(text: &str) -> Option<&str> {
    let id = ["TASK_COMPLETED:", "TASK_FAILED:", "TASK_BLOCKED:"]
        .iter()
        .find_map(|name| {
            let (start, rest) = text.split_at_checked(name.len())?;
            start.eq_ignore_ascii_case(name).then_some(rest)
        })?;
    let after = id.trim_start_matches(|c: char| c.is_ascii_hexdigit() || c == '-');
    if after.len() == id.len() {
        None
    } else {
        after.strip_prefix('>')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completed_tag_wins_over_blocked_and_failed() {
        let text = "<TASK_FAILED:1> <TASK_BLOCKED:no key> <TASK_COMPLETED:done>";
        assert_eq!(status_tag(text), Some(Outcome::Completed));
        assert_eq!(
            status_tag("<TASK_FAILED:1> then <TASK_BLOCKED:no key>"),
            Some(Outcome::Blocked {
                fix: Fix::Agent,
                reason: "Agent reported blocked".into()
            })
        );
        assert_eq!(
            status_tag("x <TASK_FAILED:cannot>"),
            Some(Outcome::Failed {
                fault: Fault::Task,
                reason: "Agent reported failure".into()
            })
        );
    }

    #[test]
    fn lower_case_empty_and_unclosed_tags_say_nothing() {
        for text in [
            "",
            "done",
            "<task_completed:1>",
            "<TASK_COMPLETED:>",
            "<TASK_COMPLETED:1",
        ] {
            assert_eq!(status_tag(text), None, "{text}");
        }
    }

    #[test]
    fn tags_with_ids_are_removed_in_any_case_and_others_stay() {
        let stripped =
            strip_status_tags("# A <b>\n<task_completed:1a2b-3C>\n\n <TASK_FAILED:ff>  ");
        assert_eq!(stripped, "# A <b>\n");
        assert_eq!(
            strip_status_tags("<TASK_COMPLETED:done>"),
            "<TASK_COMPLETED:done>\n"
        );
        assert_eq!(strip_status_tags("a << <TASK_BLOCKED:0>b"), "a << b\n");
    }

    #[test]
    fn an_empty_text_stays_empty() {
        assert_eq!(strip_status_tags(""), "");
        assert_eq!(strip_status_tags("\n\n"), "\n");
    }
}
