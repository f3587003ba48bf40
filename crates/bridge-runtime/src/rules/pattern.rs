//! Patterns over one exact command or path: `*` for any run of characters, `?` for one, `\` before
//! a character that shall stand for itself. Never a part of the text, always all of it.

use std::fmt;

use thiserror::Error;

/// A pattern as somebody wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// This character.
    Exactly(char),
    /// One character.
    One,
    /// Any run of characters; in a path none with a `/`.
    Run,
    /// Any run of characters, also with `/`.
    Deep,
}

/// How a text fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Yes,
    No,
    /// It cannot be told: the text says more than one thing.
    Unclear,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// There is nothing in it.
    #[error("the pattern is empty")]
    Empty,
    /// Longer than any command a person writes a rule for.
    #[error("the pattern has {0} characters, the limit is {MAX_PATTERN}")]
    TooLong(usize),
    /// A `\` without a character behind it.
    #[error("the pattern ends with a \\")]
    OpenEscape,
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.trim().is_empty() {
            return Err(PatternError::Empty);
        }
        let length = text.chars().count();
        if length > MAX_PATTERN {
            return Err(PatternError::TooLong(length));
        }
        let mut parts = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            parts.push(match c {
                '\\' => Part::Exactly(rest.next().ok_or(PatternError::OpenEscape)?),
                '?' => Part::One,
                '*' => {
                    let mut part = Part::Run;
                    while rest.next_if_eq(&'*').is_some() {
                        part = Part::Deep;
                    }
                    part
                }
                other => Part::Exactly(other),
            });
        }
        Ok(Self {
            text: text.to_owned(),
            parts,
        })
    }

    /// Whether this is one simple command that fits. What a wildcard stands for may hold nothing
    /// that a shell reads as more than words: a fitting beginning must not carry a second command,
    /// a redirection, a substitution or a quote behind it. What stands in the pattern itself was
    /// meant. A command that does not fit and is more than words is [`Fit::Unclear`]: nobody can
    /// tell what all it runs.
    pub(super) fn command(&self, command: &str) -> Fit {
        let text: Vec<char> = command.chars().collect();
        if self.fits(&text, |c, _| is_word(c)) {
            Fit::Yes
        } else if text.iter().all(|c| is_word(*c)) {
            Fit::No
        } else {
            Fit::Unclear
        }
    }

    /// Whether this is a path that fits; `*` and `?` stay within one folder, `**` does not.
    pub(super) fn path(&self, path: &str) -> bool {
        let text: Vec<char> = path.chars().collect();
        self.fits(&text, |c, part| c != '/' || part == Part::Deep)
    }

    /// Every place behind a prefix that the parts so far fit, so that no text makes it try twice.
    fn fits(&self, text: &[char], takes: impl Fn(char, Part) -> bool) -> bool {
        let mut ends = vec![false; text.len() + 1];
        ends[0] = true;
        for part in &self.parts {
            let mut next = vec![false; text.len() + 1];
            match part {
                Part::Exactly(c) => {
                    for (at, found) in text.iter().enumerate() {
                        next[at + 1] = ends[at] && found == c;
                    }
                }
                Part::One => {
                    for (at, found) in text.iter().enumerate() {
                        next[at + 1] = ends[at] && takes(*found, *part);
                    }
                }
                Part::Run | Part::Deep => {
                    next[0] = ends[0];
                    for (at, found) in text.iter().enumerate() {
                        next[at + 1] = ends[at + 1] || (next[at] && takes(*found, *part));
                    }
                }
            }
            ends = next;
        }
        ends[text.len()]
    }

    /// Whether it names places from the top of the file system.
    pub(super) fn is_absolute(&self) -> bool {
        let mut start = self.parts.iter();
        match (start.next(), start.next()) {
            (Some(Part::Exactly('/')), _) => true,
            // A drive of Windows.
            (Some(Part::Exactly(drive)), Some(Part::Exactly(':'))) => drive.is_ascii_alphabetic(),
            (Some(Part::Exactly(_) | Part::One | Part::Run | Part::Deep) | None, _) => false,
        }
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a shell reads the character as part of a word, or as the space between words. Everything
/// else begins, joins, redirects, expands or quotes something in one shell or another.
fn is_word(c: char) -> bool {
    !c.is_control() && !"\"'`\\$;&|<>(){}!#^\n\u{2028}\u{2029}".contains(c)
}

/// Of characters; no rule that a person can check is longer.
const MAX_PATTERN: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn a_pattern_is_about_the_whole_command() {
        let status = pattern("git status*");
        for (command, fit) in [
            ("git status", Fit::Yes),
            ("git status --short src/main.rs", Fit::Yes),
            ("git stash", Fit::No),
            ("sudo git status", Fit::No),
            ("", Fit::No),
        ] {
            assert_eq!(status.command(command), fit, "{command}");
        }
        assert_eq!(pattern("git status").command("git status "), Fit::No);
        assert_eq!(pattern("ls ?").command("ls a"), Fit::Yes);
        assert_eq!(pattern("ls ?").command("ls"), Fit::No);
        assert_eq!(
            pattern("*").command("rm -rf /"),
            Fit::Yes,
            "it says anything"
        );
    }

    #[test]
    fn a_fitting_beginning_carries_nothing_else_behind_it() {
        let status = pattern("git status*");
        for more in [
            "; rm -rf /",
            " && rm x",
            " || rm x",
            " & rm x",
            " | sh",
            "\nrm x",
            "\rrm x",
            " $(rm x)",
            " `rm x`",
            " > /etc/passwd",
            " < x",
            " ${IFS}",
            " $HOME",
            " (rm x)",
            " {rm,x}",
            " \\\n",
            " \"$(rm x)\"",
            " 'a'",
            " # x",
            " !rm",
            "\u{0}",
            "\t\u{b}",
            "^x",
            " \u{2028}rm x",
        ] {
            let command = format!("git status{more}");
            assert_eq!(status.command(&command), Fit::Unclear, "{command:?}");
        }
    }

    #[test]
    fn what_stands_in_the_pattern_itself_was_meant() {
        let quoted = pattern(r#"git commit -m "*""#);
        assert_eq!(quoted.command(r#"git commit -m "fix it""#), Fit::Yes);
        assert_eq!(quoted.command(r#"git commit -m "x" "y""#), Fit::Unclear);
        assert_eq!(quoted.command(r#"git commit -m "$(rm x)""#), Fit::Unclear);
        let two = pattern("npm test && npm run lint");
        assert_eq!(two.command("npm test && npm run lint"), Fit::Yes);
        assert_eq!(two.command("npm test && npm run lint; x"), Fit::Unclear);
        assert_eq!(pattern(r"ls \*").command("ls *"), Fit::Yes);
        assert_eq!(pattern(r"ls \*").command("ls a"), Fit::No);
    }

    #[test]
    fn a_star_in_a_path_stays_in_its_folder() {
        for (text, path, fits) in [
            ("/home/me/*.txt", "/home/me/a.txt", true),
            ("/home/me/*.txt", "/home/me/sub/a.txt", false),
            ("/home/me/**", "/home/me/sub/a.txt", true),
            ("/home/me/**", "/home/meow/a.txt", false),
            ("src/**/*.rs", "src/a/b/c.rs", true),
            ("src/?.rs", "src/a.rs", true),
            ("src/?.rs", "src//rs", false),
        ] {
            assert_eq!(pattern(text).path(path), fits, "{text} {path}");
        }
        assert!(pattern("/x").is_absolute() && pattern("C:/x").is_absolute());
        assert!(!pattern("x/y").is_absolute() && !pattern("*").is_absolute());
    }

    #[test]
    fn texts_that_are_no_patterns_say_why() {
        for (text, error) in [
            (" ", PatternError::Empty),
            ("a\\", PatternError::OpenEscape),
            (&"x".repeat(1001), PatternError::TooLong(1001)),
        ] {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn many_stars_take_no_time() {
        let text = "a".repeat(20_000);
        assert_eq!(pattern(&"*a".repeat(400)).command(&text), Fit::Yes);
        assert_eq!(
            pattern(&format!("{}b", "*a".repeat(400))).command(&text),
            Fit::No
        );
    }
}
