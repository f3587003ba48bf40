//! The variables of this product, so that one that is misspelt does not stay without effect in
//! silence.

use std::collections::BTreeSet;

/// What is wrong with these names of variables and keys of files: those that are called like ours
/// and are not known, each with the nearest that is.
pub(crate) fn unknown<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let ours = names.into_iter().filter(|name| {
        let known = [SETTINGS, MARKS].iter().any(|names| names.contains(name))
            || FAMILIES.iter().any(|begin| name.starts_with(begin));
        name.starts_with(PREFIX) && !known
    });
    let ours: BTreeSet<&str> = ours.take(MOST).collect();
    ours.into_iter().map(complaint).collect()
}

fn complaint(name: &str) -> String {
    let shown: String = name.escape_debug().take(LONGEST).collect();
    // Of a short name little is left when a letter or two are others.
    let near = name.len().saturating_sub(PREFIX.len()) / 3;
    let known = SETTINGS.iter().map(|known| (edits(name, known), known));
    match known.min() {
        Some((edits, nearest)) if edits <= near => {
            format!("{shown} is no setting and has no effect; did you mean {nearest}?")
        }
        Some(_) | None => format!("{shown} is no setting and has no effect"),
    }
}

/// How many letters have to be put in, taken out or changed to make one of the other.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, a) in one.chars().take(LONGEST).enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(&other) {
            let changed = diagonal + usize::from(a != *b);
            diagonal = *cell;
            left = changed.min(*cell + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

const PREFIX: &str = "CTRLNODE_";

/// Beginnings of names that go on as the user likes, or belong to this product's own tests.
const FAMILIES: [&str; 2] = ["CTRLNODE_AGENT_", "CTRLNODE_E2E_"];

/// What this program tells its own children.
const MARKS: &[&str] = &[
    "CTRLNODE_CHAT",
    "CTRLNODE_CHAT_KEY",
    "CTRLNODE_DEMO_STATE",
    "CTRLNODE_LAUNCH",
    "CTRLNODE_RUN",
];

const SETTINGS: &[&str] = &[
    "CTRLNODE_AGENTS_FILE",
    "CTRLNODE_ALLOW_PLAIN",
    "CTRLNODE_API_TOKEN",
    "CTRLNODE_ASK_MINUTES",
    "CTRLNODE_CARRIER",
    "CTRLNODE_COMMANDS",
    "CTRLNODE_COMPRESS",
    "CTRLNODE_CONTENTS",
    "CTRLNODE_EDITS",
    "CTRLNODE_HUB",
    "CTRLNODE_LOG",
    "CTRLNODE_MODEL_PATIENCE_SECONDS",
    "CTRLNODE_PARALLEL",
    "CTRLNODE_RULES_FILE",
    "CTRLNODE_SPOOL",
    "CTRLNODE_SPOOL_DAYS",
    "CTRLNODE_WATCHER",
    "CTRLNODE_WATCH_AGENT",
    "CTRLNODE_WATCH_TASKS",
    "CTRLNODE_SIDE_CHANNEL",
    "CTRLNODE_STATE",
    "CTRLNODE_TLS_CERT_FILE",
    "CTRLNODE_TLS_KEY_FILE",
    "CTRLNODE_TLS_PIN",
    "CTRLNODE_TLS_PIN_ALONE",
    "CTRLNODE_TRUSTED",
];

/// Of names that are complained about.
const MOST: usize = 20;
/// Of letters that are shown or compared.
const LONGEST: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_setting_is_told_with_the_nearest() {
        let names = [
            "CTRLNODE_CONTENT",
            "CTRLNODE_EDIT_RULE_OF_MINE",
            "CTRLNODE_PARALEL",
            "CTRLNODE_ROOT",
        ];
        assert_eq!(
            unknown(names),
            [
                "CTRLNODE_CONTENT is no setting and has no effect; did you mean CTRLNODE_CONTENTS?",
                "CTRLNODE_EDIT_RULE_OF_MINE is no setting and has no effect",
                "CTRLNODE_PARALEL is no setting and has no effect; did you mean CTRLNODE_PARALLEL?",
                "CTRLNODE_ROOT is no setting and has no effect",
            ]
        );
    }

    #[test]
    fn known_names_agents_of_the_user_and_strangers_are_left_alone() {
        let others = [
            "CTRLNODE_AGENT_MINE",
            "PATH",
            "ctrlnode_contents",
            "XCTRLNODE_Y",
        ];
        assert!(unknown(SETTINGS.iter().chain(MARKS).copied().chain(others)).is_empty());
    }

    #[test]
    fn what_the_page_of_settings_has_a_row_for_is_known() {
        let page = include_str!("../../../docs/operating.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        let names = rows.filter_map(|row| row.split('`').next());
        let whole = |name: &&str| name.bytes().all(|it| it.is_ascii_uppercase() || it == b'_');
        let names: Vec<&str> = names.filter(whole).collect();
        assert!(names.contains(&"CTRLNODE_SPOOL"), "{names:?}");
        assert_eq!(unknown(names.into_iter()), Vec::<String>::new());
    }

    #[test]
    fn the_page_of_settings_names_them_all() {
        let page = include_str!("../../../docs/operating.md");
        for known in SETTINGS.iter().chain(MARKS) {
            assert!(
                page.contains(&format!("`{known}`")),
                "{known} is not in docs/operating.md"
            );
        }
    }
}
