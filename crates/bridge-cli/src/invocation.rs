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

/// The beginning of a `task` command that asks the hub that this one was told to ask.
pub(crate) fn task() -> String {
    format!("{}{}", again("task"), same_hub())
}

/// What makes another command ask the hub that this one was told to ask.
pub(crate) fn same_hub() -> String {
    asked(env::args_os().skip(1))
}

/// Which hub was named on a command line, in words for another one.
fn asked(args: impl Iterator<Item = OsString>) -> String {
    let mut told = String::new();
    let mut args = args.map_while(|arg| arg.into_string().ok());
    while let Some(arg) = args.next() {
        if arg == "--" {
            break;
        }
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, None),
        };
        if name != "--hub" && name != "--hub-state" && name != "--state" {
            continue;
        }
        let Some(value) = value.or_else(|| args.next()) else {
            break;
        };
        told = if name == "--hub" {
            format!("{told} --hub {}", quoted(&value))
        } else {
            told + &with_state(Some(Path::new(&value)))
        };
    }
    told
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
    fn the_hub_that_was_named_is_named_again() {
        let told = |args: &[&str]| asked(args.iter().map(Into::into));
        assert_eq!(told(&["task", "list"]), "");
        let state = ["task", "run", "--hub-state", "/a b", "x"];
        assert_eq!(told(&state), " --hub-state '/a b'");
        let short = ["hub", "token", "create", "--state=/a b", "x"];
        assert_eq!(told(&short), " --hub-state '/a b'");
        let both = ["hub", "--hub=https://h", "--hub-state=/s", "token"];
        assert_eq!(told(&both), " --hub https://h --hub-state /s");
        assert_eq!(told(&["task", "run", "--", "--hub", "x"]), "");
        assert_eq!(told(&["task", "--hub"]), "");
    }

    #[test]
    fn what_a_shell_would_split_is_quoted() {
        assert_eq!(with_state(Some(Path::new("/a b"))), " --hub-state '/a b'");
        assert_eq!(with_state(None), "");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
