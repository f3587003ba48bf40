//! How a person calls this program again: as they called it now, so that what is printed can be
//! pasted into another terminal.

use std::{
    env,
    ffi::OsString,
    path::{Path, absolute},
};

/// The beginning of a command line: this program, and the group of commands.
pub(crate) fn again(command: &str) -> String {
    format!("{} {command}", called(env::args_os().next()))
}

/// What makes `task` and `hub` commands look into a state folder that was named.
pub(crate) fn with_state(state: Option<&Path>) -> String {
    state.map_or_else(String::new, |folder| {
        let folder = absolute(folder).unwrap_or_else(|_| folder.to_owned());
        format!(" --hub-state {}", quoted(&folder.to_string_lossy()))
    })
}

/// A bare name is found again by its name; a path is made to work from everywhere.
fn called(first: Option<OsString>) -> String {
    let Some(first) = first else {
        return "ctrlnode".to_owned();
    };
    let path = Path::new(&first);
    if path.components().count() < 2 {
        return quoted(&path.to_string_lossy());
    }
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    quoted(&path.to_string_lossy())
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%\\~".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name_and_a_path_works_from_everywhere() {
        assert_eq!(called(Some("ctrlnode".into())), "ctrlnode");
        let path = called(Some("target/debug/ctrlnode".into()));
        assert!(Path::new(&path).is_absolute() && path.ends_with("target/debug/ctrlnode"));
        assert_eq!(called(None), "ctrlnode");
    }

    #[test]
    fn what_a_shell_would_split_is_quoted() {
        assert_eq!(with_state(Some(Path::new("/a b"))), " --hub-state '/a b'");
        assert_eq!(with_state(None), "");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
