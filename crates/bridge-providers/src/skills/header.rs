//! What a skill's file says of itself at its beginning: a few lines of `key: value` between two
//! lines of dashes, or `key = "value"` in a file of settings.

/// The value of a key in the header of a Markdown file. A text that goes on over indented lines is
/// made one line.
pub(super) fn of_markdown(text: &str, key: &str) -> Option<String> {
    let mut lines = text.lines();
    if lines.next()?.trim_start_matches('\u{feff}').trim_end() != "---" {
        return None;
    }
    let mut value: Option<String> = None;
    for line in lines {
        if line.trim_end() == "---" {
            break;
        }
        let indented = line.starts_with([' ', '\t']);
        match &mut value {
            Some(value) if indented || line.trim().is_empty() => {
                value.push(' ');
                value.push_str(line.trim());
            }
            Some(_) => break,
            None => {
                value = (!indented)
                    .then(|| line.split_once(':'))
                    .flatten()
                    .filter(|(name, _)| name.trim() == key)
                    .map(|(_, value)| value.trim().to_owned());
            }
        }
    }
    let value = value?;
    let folded = value
        .trim_start_matches(['>', '|'])
        .trim_start_matches(['-', '+']);
    let value = if folded.len() == value.len() {
        &value
    } else {
        folded
    };
    Some(unquoted(value.trim())).filter(|value| !value.is_empty())
}

/// The value of a key at the top of a TOML file, if it is a text on one line.
pub(super) fn of_toml(text: &str, key: &str) -> Option<String> {
    let top = text
        .lines()
        .take_while(|line| !line.trim_start().starts_with('['));
    let value = top.filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then(|| value.trim())
    });
    let value = value.into_iter().next()?;
    let quoted = value.starts_with(['"', '\'']) && !value.starts_with("\"\"\"");
    quoted
        .then(|| unquoted(value))
        .filter(|value| !value.is_empty())
}

fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.split(quote).next().unwrap_or(rest).to_owned();
        }
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_and_a_body_is_not() {
        let text = "---\nname: \"review\"\ndescription: >\n  Looks at\n  a change.\nhint: x\n---\nname: body\n";
        assert_eq!(of_markdown(text, "name").as_deref(), Some("review"));
        assert_eq!(
            of_markdown(text, "description").as_deref(),
            Some("Looks at a change.")
        );
        assert_eq!(of_markdown(text, "other"), None);
        assert_eq!(of_markdown("name: x\n", "name"), None);
        assert_eq!(of_markdown("---\nname:\n---\n", "name"), None);
    }

    #[test]
    fn settings_are_read_at_their_top() {
        let text =
            "description = \"Commits it.\" # note\nprompt = \"\"\"\nx\n\"\"\"\n[a]\nname = \"b\"\n";
        assert_eq!(of_toml(text, "description").as_deref(), Some("Commits it."));
        assert_eq!(of_toml(text, "prompt"), None);
        assert_eq!(of_toml(text, "name"), None);
    }
}
