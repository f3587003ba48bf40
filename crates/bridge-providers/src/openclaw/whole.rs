//! A whole new configuration for OpenClaw: read as OpenClaw reads it, judged against the one that
//! is there, and put in its place whole or not at all. What was there is kept beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    config::relaxed_json,
    edit::{ATTEMPTS, MAX_FILE, replace, small},
    judge::{Surroundings, judge},
};
use crate::remote::ConfigFault;

/// Puts the text in place of the configuration; whether that changed anything. Only a file that is
/// there and can be read is replaced.
pub(super) fn replace_whole(
    file: &Path,
    home: Option<&Path>,
    text: &str,
) -> Result<bool, ConfigFault> {
    // Where the file is a link, it stays one.
    let target = match fs::canonicalize(file) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ConfigFault::NotHere),
        Err(error) => return Err(ConfigFault::Unreadable(error.to_string())),
    };
    if text.trim().is_empty() {
        return Err(ConfigFault::Missing);
    }
    let new = parsed(text)?;
    let folder: PathBuf = file.parent().map(Path::to_owned).unwrap_or_default();
    let around = Surroundings {
        folder: &folder,
        home,
    };
    for _ in 0..ATTEMPTS {
        let before = small(&target).map_err(|error| ConfigFault::Unreadable(error.to_string()))?;
        let old = relaxed_json(&before);
        let old = old.ok_or_else(|| ConfigFault::Unreadable("it is no object".into()))?;
        judge(&old, &new, around).map_err(ConfigFault::Kept)?;
        if old == new {
            return Ok(false);
        }
        let after = rendered(text, &new)?;
        if replace(&target, before.as_bytes(), after.as_bytes()).map_err(ConfigFault::Write)? {
            return Ok(true);
        }
    }
    let source = io::Error::other("it is being changed by another program");
    Err(ConfigFault::Write(source))
}

fn parsed(text: &str) -> Result<Value, ConfigFault> {
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= MAX_FILE) {
        let value = relaxed_json(text);
        value.ok_or_else(|| ConfigFault::Unusable("it is no object, or nested too deep".into()))
    } else {
        Err(ConfigFault::Unusable("it has more than 1 MiB".into()))
    }
}

/// As it came where it is plain JSON. Anything else is written down anew, because two readers may
/// take a comment to end in different places, and what was judged has to be what is in force.
fn rendered(text: &str, value: &Value) -> Result<String, ConfigFault> {
    if serde_json::from_str::<Value>(text).is_ok_and(|plain| plain == *value) {
        return Ok(text.to_owned());
    }
    let written = serde_json::to_string_pretty(value);
    let written = written.map_err(|error| ConfigFault::Unusable(error.to_string()))?;
    Ok(written + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{
  // mine
  gateway: { auth: { token: "hush" } },
  agents: { list: [{ id: "scout" }] },
}"#;

    fn tried(old: &str, new: &str) -> (Result<bool, ConfigFault>, String, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("openclaw.json");
        fs::write(&file, old).unwrap();
        let done = replace_whole(&file, None, new);
        let kept = folder.path().join("openclaw.json.ctrlnode-bak");
        assert!(
            fs::read_dir(folder.path()).unwrap().count() <= 2,
            "no draft is left"
        );
        let kept = fs::read_to_string(kept).ok();
        (done, fs::read_to_string(&file).unwrap(), kept)
    }

    #[test]
    fn plain_json_is_written_as_it_came_and_the_old_text_is_kept() {
        let new = r#"{ "gateway": {"auth": {"token": "hush"}},
            "agents": {"list": [{"id": "scout", "name": "Scout"}]} }"#;
        let (done, now, kept) = tried(OLD, new);
        assert!(done.unwrap());
        assert_eq!((now.as_str(), kept.as_deref()), (new, Some(OLD)));
    }

    #[test]
    fn what_only_one_reader_may_see_is_not_written() {
        // To some a comment ends at this character, to others it goes on.
        let new = "{ gateway: { auth: { token: 'hush' } }, // \u{2028} mcp: {},\n agents: {} }";
        let (done, now, _) = tried(OLD, new);
        match done {
            Ok(true) => assert!(!now.contains("//") && !now.contains("mcp"), "{now}"),
            Err(ConfigFault::Kept(place)) => assert_eq!((place.as_str(), now), ("mcp", OLD.into())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn of_a_name_that_stands_twice_the_one_in_force_is_judged() {
        for new in [
            r#"{"gateway":{"auth":{"token":"hush"}},"agents":{},"gateway":{}}"#,
            r#"{"gateway":{},"agents":{},"gateway":{"auth":{"token":"hush"}}}"#,
        ] {
            let (done, now, _) = tried(OLD, new);
            match done {
                Ok(_) => {
                    let now: Value = serde_json::from_str(&now).unwrap();
                    assert_eq!(now["gateway"]["auth"]["token"], "hush");
                }
                Err(fault) => assert!(matches!(fault, ConfigFault::Kept(_)), "{fault}"),
            }
        }
    }

    #[test]
    fn what_is_no_configuration_changes_nothing() {
        let deep = "[".repeat(10_000);
        let large = format!("{{\"x\":\"{}\"}}", "y".repeat(2 << 20));
        for new in ["", " \n", "[]", "7", "{", "null", "\u{0}", &deep, &large] {
            let (done, now, kept) = tried(OLD, new);
            let shown: String = new.chars().take(20).collect();
            let fault = done.unwrap_err();
            let expected = matches!(fault, ConfigFault::Missing | ConfigFault::Unusable(_));
            assert!(expected, "{shown}: {fault}");
            assert_eq!((now.as_str(), kept), (OLD, None), "{shown}");
        }
    }

    #[test]
    fn a_file_that_is_broken_or_not_there_is_not_replaced() {
        let (done, now, _) = tried("{ broken", "{}");
        assert!(matches!(done, Err(ConfigFault::Unreadable(_))));
        assert_eq!(now, "{ broken");
        let folder = tempfile::tempdir().unwrap();
        let missing = replace_whole(&folder.path().join("openclaw.json"), None, "{}");
        assert!(matches!(missing, Err(ConfigFault::NotHere)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_same_configuration_is_not_written_again() {
        let new = r#"{"gateway":{"auth":{"token":"hush"}},"agents":{"list":[{"id":"scout"}]}}"#;
        let (done, now, kept) = tried(OLD, new);
        assert!(!done.unwrap());
        assert_eq!((now.as_str(), kept), (OLD, None));
    }
}
