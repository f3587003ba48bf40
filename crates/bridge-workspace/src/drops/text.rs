//! `input/TASK.md` of a dropped task: what is to be done, and a few lines at its top that say who
//! does it and where.
//!
//! ```text
//! ---
//! agent: claude
//! model: opus
//! repository: code/web
//! ---
//! Fix the login form.
//! ```

use thiserror::Error;

/// A dropped task as it was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DropText {
    /// Who shall do it: an agent or a provider.
    pub agent: Option<String>,
    /// With which model.
    pub model: Option<String>,
    /// With which effort.
    pub effort: Option<String>,
    /// The repository to work in; none is the task folder.
    pub repository: Option<String>,
    /// What is to be done; never blank.
    pub task: String,
}

/// Why a text is no task.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DropTextError {
    /// Nothing is to be done.
    #[error("{TASK} says nothing to do")]
    Blank,
    /// The lines at the top do not end.
    #[error("the lines at the top of {TASK} begin with `---` and have no second `---`")]
    Unended,
    /// One of them is not `name: value`.
    #[error("line {line} of {TASK} is not `name: value`")]
    NoSetting {
        /// Counted from 1.
        line: usize,
    },
    /// Nobody knows what it means.
    #[error("{TASK} sets {name:?}; known are agent, model, effort and repository")]
    Unknown {
        /// What was set, shortened.
        name: String,
    },
    /// Which one counts?
    #[error("{TASK} sets {name:?} twice")]
    Twice {
        /// What was set.
        name: String,
    },
}

impl DropText {
    /// Reads the whole text of the file.
    pub fn parse(text: &str) -> Result<Self, DropTextError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut parsed = Self::default();
        let mut lines = text.lines();
        let rest = if lines.next().is_some_and(|line| line.trim_end() == FENCE) {
            if !lines.clone().any(|line| line.trim_end() == FENCE) {
                return Err(DropTextError::Unended);
            }
            let settings = lines.by_ref().enumerate();
            for (index, line) in settings.take_while(|(_, line)| line.trim_end() != FENCE) {
                parsed.set(line, index + 2)?;
            }
            lines.collect::<Vec<_>>().join("\n")
        } else {
            text.to_owned()
        };
        rest.trim().clone_into(&mut parsed.task);
        if parsed.task.is_empty() {
            return Err(DropTextError::Blank);
        }
        Ok(parsed)
    }

    fn set(&mut self, line: &str, number: usize) -> Result<(), DropTextError> {
        if line.trim().is_empty() {
            return Ok(());
        }
        let no_setting = DropTextError::NoSetting { line: number };
        let Some((name, value)) = line.split_once(':') else {
            return Err(no_setting);
        };
        let (name, value) = (name.trim(), unquoted(value.trim()));
        if value.is_empty() {
            return Err(no_setting);
        }
        let slot = match name {
            "agent" => &mut self.agent,
            "model" => &mut self.model,
            "effort" => &mut self.effort,
            "repository" => &mut self.repository,
            _ => {
                let name = name.chars().take(MOST_OF_A_NAME).collect();
                return Err(DropTextError::Unknown { name });
            }
        };
        if slot.replace(value.to_owned()).is_some() {
            let name = name.to_owned();
            return Err(DropTextError::Twice { name });
        }
        Ok(())
    }
}

fn unquoted(value: &str) -> &str {
    let inside = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(value)
}

/// What a dropped task is written in, below `input/`.
pub(crate) const TASK: &str = "TASK.md";

/// Stands above and below the lines at the top.
pub(super) const FENCE: &str = "---";

const MOST_OF_A_NAME: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_text_is_the_task_and_names_nobody() {
        let text = DropText::parse("\u{feff}  Write a haiku.\n\n---\nNo settings.\n").unwrap();
        assert_eq!(text.task, "Write a haiku.\n\n---\nNo settings.");
        assert_eq!(text.agent, None);
    }

    #[test]
    fn lines_at_the_top_say_who_does_it_and_where() {
        let text = "---\r\nagent: claude\r\nmodel: \"opus\"\r\n\r\neffort: high\r\nrepository: 'code/web'\r\n---\r\nFix it: now.\r\n";
        let wanted = DropText {
            agent: Some("claude".into()),
            model: Some("opus".into()),
            effort: Some("high".into()),
            repository: Some("code/web".into()),
            task: "Fix it: now.".into(),
        };
        assert_eq!(DropText::parse(text), Ok(wanted));
    }

    #[test]
    fn what_is_no_task_is_refused_with_what_is_wrong() {
        let cases = [
            ("", DropTextError::Blank),
            (" \n\t\n", DropTextError::Blank),
            ("---\nagent: a\n---\n \n", DropTextError::Blank),
            ("---\nagent: a\nFix it.", DropTextError::Unended),
            (
                "---\nagent: a\nnothing\n---\nx",
                DropTextError::NoSetting { line: 3 },
            ),
            ("---\nagent:\n---\nx", DropTextError::NoSetting { line: 2 }),
            (
                "---\nshell: rm\n---\nx",
                DropTextError::Unknown {
                    name: "shell".into(),
                },
            ),
            (
                "---\nagent: a\nagent: b\n---\nx",
                DropTextError::Twice {
                    name: "agent".into(),
                },
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(DropText::parse(text), Err(wanted), "{text:?}");
        }
    }
}
