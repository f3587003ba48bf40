//! From what a viewer typed to what may be kept and sent: checks, names, titles, folders.

use bridge_proto::{
    AgentId, BridgeId, Digest, TaskFolder, TaskId, Timestamp,
    model::{Answer, Ask, AskKind, Tuning},
};
use uuid::Uuid;

use crate::{
    error::HubError,
    view::{Attachment, MAX_ATTACHMENT_BYTES, MAX_PROMPT_BYTES, Mode},
    visible::is_visible,
};

/// A task before its machine has agreed.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) title: String,
    pub(crate) folder: TaskFolder,
    pub(crate) machine: BridgeId,
    pub(crate) agent: AgentId,
    pub(crate) mode: Mode,
    pub(crate) tuning: Tuning,
}

/// A checked prompt with its files.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) prompt: String,
    pub(crate) attachments: Vec<Attachment>,
}

/// Checks a prompt and its files; equal file names get a number.
pub(crate) fn order(prompt: &str, attachments: Vec<Attachment>) -> Result<Order, HubError> {
    let prompt = prompt.trim();
    if prompt.is_empty() {
        return Err(HubError::EmptyPrompt);
    }
    if prompt.len() > MAX_PROMPT_BYTES {
        return Err(HubError::PromptTooLong {
            bytes: prompt.len(),
        });
    }
    let bytes = attachments.iter().map(|file| file.bytes.len()).sum();
    if bytes > MAX_ATTACHMENT_BYTES {
        return Err(HubError::AttachmentsTooLarge { bytes });
    }
    if attachments.len() > MAX_ATTACHMENTS {
        return Err(malformed("attachments", "more than 50 files"));
    }
    let mut checked: Vec<Attachment> = Vec::with_capacity(attachments.len());
    for file in attachments {
        let name = file_name(&file.name)?;
        let name = unused(&name, &checked);
        checked.push(Attachment {
            name,
            bytes: file.bytes,
        });
    }
    Ok(Order {
        prompt: prompt.to_owned(),
        attachments: checked,
    })
}

fn file_name(name: &str) -> Result<String, HubError> {
    let name = name.trim();
    let plain = !name.is_empty()
        && name.len() <= MAX_FILE_NAME_BYTES
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name
            .chars()
            .any(|c| c.is_control() || r#"/\:*?"<>|"#.contains(c));
    if plain {
        return Ok(name.to_owned());
    }
    Err(HubError::BadAttachmentName {
        name: shortened(name, 60),
    })
}

fn unused(name: &str, taken: &[Attachment]) -> String {
    let is_free = |name: &str| {
        !taken
            .iter()
            .any(|file| file.name.eq_ignore_ascii_case(name))
    };
    if is_free(name) {
        return name.to_owned();
    }
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) => (stem, format!(".{extension}")),
        None => (name, String::new()),
    };
    let mut candidates = (2..=taken.len() + 2).map(|n| format!("{stem}-{n}{extension}"));
    candidates
        .find(|name| is_free(name))
        .expect("there are more candidates than taken names")
}

/// The beginning of the first line that says something.
pub(crate) fn title(prompt: &str) -> String {
    let line = prompt
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let clean: String = line.chars().filter(|c| !c.is_control()).collect();
    let clean = clean.trim_start_matches(['#', '>', '-', '*', ' ']);
    shortened(if clean.is_empty() { line } else { clean }, 80)
}

/// `tasks/hub/<MM-DD>/<short8>-<slug>`, the layout every bridge of this wire knows.
pub(crate) fn folder(task: &TaskId, prompt: &str, at: Timestamp) -> TaskFolder {
    let short: String = task.as_str().chars().take(8).collect();
    let date: String = at.to_string().chars().skip(5).take(5).collect();
    let mut slug = String::new();
    for c in title(prompt).chars() {
        if slug.len() >= 32 {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    let slug = if slug.is_empty() { "task" } else { slug };
    TaskFolder::parse(&format!("tasks/hub/{date}/{short}-{slug}"))
        .expect("short ASCII without control characters")
}

/// A path below `output/`, as a viewer names it.
pub(crate) fn result_path(path: &str) -> Result<String, HubError> {
    let clean = path.len() <= 1024
        && !path.chars().any(|c| c.is_control() || c == '\\')
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
    if clean {
        return Ok(path.to_owned());
    }
    Err(malformed(
        "path",
        "it must name a file below the output folder",
    ))
}

/// A name of a token.
pub(crate) fn name(name: &str) -> Result<String, HubError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 100 || !name.chars().all(is_visible) {
        return Err(malformed(
            "name",
            "1 to 100 printable characters are needed",
        ));
    }
    Ok(name.to_owned())
}

pub(crate) fn check_tuning(tuning: &Tuning) -> Result<(), HubError> {
    let Tuning {
        model,
        mode,
        effort,
    } = tuning;
    for (what, value) in [("model", model), ("mode", mode), ("effort", effort)] {
        let good = |value: &String| {
            !value.trim().is_empty() && value.len() <= 200 && !value.chars().any(char::is_control)
        };
        if !value.as_ref().is_none_or(good) {
            return Err(malformed(what, "1 to 200 printable characters are needed"));
        }
    }
    Ok(())
}

pub(crate) fn check_mode(mode: &Mode) -> Result<(), HubError> {
    match mode {
        Mode::Output => Ok(()),
        Mode::Repository { path } => {
            let mut letters = path.chars();
            let absolute = matches!(
                (letters.next(), letters.next(), letters.next()),
                (Some('/'), _, _)
                    | (Some('\\'), Some('\\'), _)
                    | (Some('a'..='z' | 'A'..='Z'), Some(':'), Some('/' | '\\'))
            );
            if !absolute || path.len() > 4096 || path.chars().any(char::is_control) {
                return Err(malformed("repository path", "an absolute path is needed"));
            }
            Ok(())
        }
    }
}

/// Whether an answer fits the question the viewer saw.
pub(crate) fn check_answer(open: &Ask, digest: &Digest, answer: &Answer) -> Result<(), HubError> {
    if open.digest != *digest {
        return Err(HubError::AskChanged);
    }
    match answer {
        Answer::Choose { option } => {
            if open.options.iter().any(|choice| choice.id == *option) {
                return Ok(());
            }
            Err(HubError::UnknownOption {
                option: shortened(option, 60),
            })
        }
        Answer::Text { text } => {
            if text.trim().is_empty() {
                return Err(malformed("answer", "it is empty"));
            }
            if text.len() > MAX_PROMPT_BYTES {
                return Err(HubError::PromptTooLong { bytes: text.len() });
            }
            match open.kind {
                AskKind::Question => Ok(()),
                AskKind::Edit | AskKind::Command | AskKind::Other => Err(HubError::UnknownOption {
                    option: shortened(text, 60),
                }),
            }
        }
        Answer::Deny { reason } => {
            if reason.len() > MAX_PROMPT_BYTES {
                return Err(HubError::PromptTooLong {
                    bytes: reason.len(),
                });
            }
            Ok(())
        }
    }
}

/// What the agent reads: the prompt, and where the files are.
pub(crate) fn prompt_with_files(prompt: &str, names: &[String], input: &str) -> String {
    if names.is_empty() {
        return prompt.to_owned();
    }
    let mut text = format!("{prompt}\n\nAttached files:\n");
    for name in names {
        text.push_str("- ");
        text.push_str(input);
        text.push('/');
        text.push_str(name);
        text.push('\n');
    }
    text
}

pub(crate) fn new_task_id() -> TaskId {
    TaskId::parse(&Uuid::new_v4().to_string()).expect("a UUID is a valid id")
}

pub(crate) fn new_bridge_id() -> BridgeId {
    BridgeId::parse(&Uuid::new_v4().to_string()).expect("a UUID is a valid id")
}

pub(crate) fn new_attempt() -> String {
    Uuid::new_v4().to_string()
}

/// At most so many characters, with an ellipsis when something is missing.
pub(crate) fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

fn malformed(what: &'static str, reason: &str) -> HubError {
    HubError::Malformed {
        what,
        reason: reason.to_owned(),
    }
}

/// More files than a person picks by hand.
const MAX_ATTACHMENTS: usize = 50;
/// Below the limit of every common file system.
const MAX_FILE_NAME_BYTES: usize = 200;

#[cfg(test)]
mod tests {
    use bridge_proto::{
        AskId,
        model::{Choice, ChoiceKind},
    };

    use super::*;

    fn file(name: &str) -> Attachment {
        Attachment {
            name: name.into(),
            bytes: vec![1],
        }
    }

    #[test]
    fn attachment_names_cannot_leave_the_input_folder() {
        for name in [
            "",
            "..",
            ".hidden",
            "a/b",
            "a\\b",
            "c:d",
            "a\nb",
            "x.",
            &"x".repeat(201),
        ] {
            assert!(
                matches!(
                    order("p", vec![file(name)]),
                    Err(HubError::BadAttachmentName { .. })
                ),
                "{name:?}"
            );
        }
    }

    #[test]
    fn equal_attachment_names_get_numbers() {
        let order = order("p", vec![file("a.txt"), file("A.txt"), file("a.txt")]).unwrap();
        let names: Vec<_> = order
            .attachments
            .iter()
            .map(|file| file.name.as_str())
            .collect();
        assert_eq!(names, ["a.txt", "A-2.txt", "a-3.txt"]);
    }

    #[test]
    fn oversized_and_empty_orders_are_refused() {
        assert!(matches!(order(" \n", vec![]), Err(HubError::EmptyPrompt)));
        let long = "x".repeat(MAX_PROMPT_BYTES + 1);
        assert!(matches!(
            order(&long, vec![]),
            Err(HubError::PromptTooLong { .. })
        ));
        let big = Attachment {
            name: "a".into(),
            bytes: vec![0; MAX_ATTACHMENT_BYTES + 1],
        };
        assert!(matches!(
            order("p", vec![big]),
            Err(HubError::AttachmentsTooLarge { .. })
        ));
    }

    #[test]
    fn titles_are_one_short_line_and_folders_plain_ascii() {
        assert_eq!(title("\n\n# Fix the   login\nmore"), "Fix the   login");
        assert_eq!(title(&"ä".repeat(100)).chars().count(), 80);
        let task = TaskId::parse("1a2b3c4d-1111").unwrap();
        let at = Timestamp::from_millis(1_773_480_413_589);
        assert_eq!(
            folder(&task, "Fix: the Login!", at).as_str(),
            "tasks/hub/03-14/1a2b3c4d-fix-the-login"
        );
        assert_eq!(
            folder(&task, "日本", at).as_str(),
            "tasks/hub/03-14/1a2b3c4d-task"
        );
    }

    #[test]
    fn result_paths_stay_below_the_output_folder() {
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a\\b",
            ".",
            "a/./b",
            "a\0",
        ] {
            assert!(result_path(path).is_err(), "{path:?}");
        }
        assert_eq!(result_path("sub/a b.txt").unwrap(), "sub/a b.txt");
    }

    #[test]
    fn an_answer_must_fit_the_question_that_was_shown() {
        let ask = Ask {
            id: AskId::parse("a").unwrap(),
            kind: AskKind::Command,
            summary: "run ls".into(),
            options: vec![Choice {
                id: "yes".into(),
                label: "Allow".into(),
                kind: ChoiceKind::AllowOnce,
            }],
            digest: Digest::of(&["ls"]),
            tool: None,
            expires: None,
            answered: None,
            action: None,
        };
        let choose = |option: &str| Answer::Choose {
            option: option.into(),
        };
        check_answer(&ask, &Digest::of(&["ls"]), &choose("yes")).unwrap();
        assert!(matches!(
            check_answer(&ask, &Digest::of(&["rm"]), &choose("yes")),
            Err(HubError::AskChanged)
        ));
        assert!(matches!(
            check_answer(&ask, &Digest::of(&["ls"]), &choose("always")),
            Err(HubError::UnknownOption { .. })
        ));
        assert!(matches!(
            check_answer(
                &ask,
                &Digest::of(&["ls"]),
                &Answer::Text { text: "yes".into() }
            ),
            Err(HubError::UnknownOption { .. })
        ));
    }
}
