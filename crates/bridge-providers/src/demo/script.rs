//! What a prompt tells the demo agent to do.

use std::time::Duration;

/// The directives of one prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) ask: Option<AskFor>,
    pub(crate) slow: Option<Duration>,
    pub(crate) silent: Option<Duration>,
    pub(crate) long: Option<u64>,
    pub(crate) fail: Option<Failure>,
    pub(crate) shell: Option<Duration>,
    pub(crate) bigline: Option<u64>,
    pub(crate) crash: bool,
    pub(crate) stubborn: bool,
    pub(crate) remember: bool,
    pub(crate) noise: bool,
    pub(crate) fast: bool,
    pub(crate) nofile: bool,
    pub(crate) haiku: bool,
    /// What the person said beside the directives: the last line that says something.
    pub(crate) subject: String,
    /// Directives nobody knows.
    pub(crate) unknown: Vec<String>,
}

/// What a permission is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AskFor {
    Write,
    Command,
}

/// The error a prompt is to end with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: i64,
    pub(crate) message: String,
}

impl Script {
    /// Reads a prompt.
    pub(crate) fn read(prompt: &str) -> Self {
        let mut script = Self::default();
        // What the bridge puts before the words of a person ends with one of these.
        let said = prompt
            .rsplit_once("</system>")
            .map_or(prompt, |(_, said)| said);
        let said = said.rsplit_once("\n---\n").map_or(said, |(_, said)| said);
        for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.strip_prefix("#demo") {
                Some(directive) if directive.is_empty() || directive.starts_with(' ') => {
                    script.direct(directive.trim());
                }
                // A list is what the hub puts behind the words: the attached files.
                Some(_) | None if line.starts_with("- ") || line.ends_with(':') => {}
                Some(_) | None => script.subject = shortened(line),
            }
        }
        let lower = prompt.to_lowercase();
        if ["ask me", "ask permission", "ask for permission"]
            .iter()
            .any(|w| lower.contains(w))
        {
            script.ask.get_or_insert(AskFor::Command);
        }
        script.haiku = lower.contains("haiku");
        script
    }

    fn direct(&mut self, directive: &str) {
        let (name, rest) = directive.split_once(' ').unwrap_or((directive, ""));
        let rest = rest.trim();
        let number = rest
            .split(' ')
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        let seconds = |default| Some(Duration::from_secs(number.unwrap_or(default).min(DAY)));
        match name {
            "ask" => {
                self.ask = Some(if rest == "write" {
                    AskFor::Write
                } else {
                    AskFor::Command
                });
            }
            "slow" => self.slow = seconds(30),
            "silent" => self.silent = seconds(90),
            "shell" => self.shell = seconds(300),
            "long" => self.long = Some(number.unwrap_or(200).min(MAX_PIECES)),
            "bigline" => self.bigline = Some(number.unwrap_or(1_000_000).min(MAX_LINE)),
            "fail" => self.fail = Some(Failure::read(rest)),
            "crash" => self.crash = true,
            "stubborn" => self.stubborn = true,
            "remember" => self.remember = true,
            "noise" => self.noise = true,
            "fast" => self.fast = true,
            "nofile" => self.nofile = true,
            other => self.unknown.push(shortened(other)),
        }
    }
}

impl Failure {
    fn read(text: &str) -> Self {
        let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
        let (code, message) = match first.parse() {
            Ok(code) => (code, rest),
            Err(_) => (INTERNAL_ERROR, text),
        };
        let message = if message.is_empty() {
            "told to fail"
        } else {
            message
        };
        Self {
            code,
            message: message.to_owned(),
        }
    }
}

fn shortened(line: &str) -> String {
    line.chars()
        .filter(|c| !c.is_control())
        .take(SUBJECT_CHARS)
        .collect()
}

const INTERNAL_ERROR: i64 = -32603;
const DAY: u64 = 24 * 60 * 60;
const MAX_PIECES: u64 = 1_000_000;
const MAX_LINE: u64 = 256 * 1024 * 1024;
const SUBJECT_CHARS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_lines_of_their_own_and_the_rest_is_the_subject() {
        let script =
            Script::read("preamble\n  #demo slow 3\n#demo fail 429 too many\nWrite a Haiku\n");
        assert_eq!(script.slow, Some(Duration::from_secs(3)));
        assert_eq!(
            script.fail,
            Some(Failure {
                code: 429,
                message: "too many".into()
            })
        );
        assert_eq!(script.subject, "Write a Haiku");
        assert!(script.haiku);
        assert_eq!(
            Script::read("talk of #demo slow"),
            Script {
                subject: "talk of #demo slow".into(),
                ..Script::default()
            }
        );
    }

    #[test]
    fn asking_works_in_plain_words_too() {
        assert_eq!(
            Script::read("Please ask me first").ask,
            Some(AskFor::Command)
        );
        assert_eq!(Script::read("#demo ask write").ask, Some(AskFor::Write));
        assert_eq!(
            Script::read("#demo ask write\nask me").ask,
            Some(AskFor::Write)
        );
    }

    #[test]
    fn numbers_have_defaults_and_limits() {
        let script =
            Script::read("#demo long\n#demo bigline 99999999999\n#demo shell x\n#demo sing");
        assert_eq!(script.long, Some(200));
        assert_eq!(script.bigline, Some(MAX_LINE));
        assert_eq!(script.shell, Some(Duration::from_secs(300)));
        assert_eq!(script.unknown, ["sing"]);
    }
}
