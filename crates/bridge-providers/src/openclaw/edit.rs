//! Changing one agent in OpenClaw's configuration: only a file that is there and is plain JSON is
//! ever written, whole or not at all, and what was in it is kept beside it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bridge_proto::{AgentId, model::AgentPatch};
use serde_json::{Map, Value, json};

use super::{agents::is_called, identity::write_private};
use crate::provider::{AgentEdit, EditError};

/// Carries the change out; whether the file is different now. A file that is not there is not
/// made: then OpenClaw is not used on this machine.
pub(super) fn edit(file: &Path, edit: &AgentEdit) -> Result<bool, EditError> {
    let read = |source| EditError::Read {
        file: file.to_owned(),
        source,
    };
    // Where the file is a link, it stays one.
    let target = match fs::canonicalize(file) {
        Ok(target) => target,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(read(error)),
    };
    for _ in 0..ATTEMPTS {
        let before = small(&target).map_err(read)?;
        let after = changed(&before, edit).map_err(|why| EditError::NotPlain {
            file: file.to_owned(),
            why,
        })?;
        let Some(after) = after else {
            return Ok(false);
        };
        let written = replace(&target, before.as_bytes(), after.as_bytes());
        if written.map_err(|source| EditError::Write {
            file: file.to_owned(),
            source,
        })? {
            return Ok(true);
        }
    }
    let source = io::Error::other("it is being changed by another program");
    Err(EditError::Write {
        file: file.to_owned(),
        source,
    })
}

/// The text with the change, or `None` if it is as it should be already.
fn changed(text: &str, edit: &AgentEdit) -> Result<Option<String>, String> {
    let before: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut config = before.clone();
    let root = config.as_object_mut().ok_or("it is no object")?;
    match edit {
        AgentEdit::Update {
            agent,
            patch,
            create,
        } => update(root, agent, patch, *create)?,
        AgentEdit::Remove { agent } => remove(root, agent),
    }
    if config == before {
        return Ok(None);
    }
    let text = serde_json::to_string_pretty(&config).map_err(|error| error.to_string())?;
    Ok(Some(text + "\n"))
}

fn update(
    root: &mut Map<String, Value>,
    agent: &AgentId,
    patch: &AgentPatch,
    create: bool,
) -> Result<(), String> {
    let entry = find(root, agent);
    let entry = match entry {
        Some(entry) => entry,
        None if !create => return Ok(()),
        None => made(root, agent)?,
    };
    let entry = entry
        .as_object_mut()
        .ok_or_else(|| format!("its agent {agent} is no object"))?;
    for (key, value) in [("name", &patch.name), ("workspace", &patch.workspace)] {
        match value.as_deref() {
            None => {}
            Some("") => drop(entry.shift_remove(key)),
            Some(value) => drop(entry.insert(key.to_owned(), value.into())),
        }
    }
    match (patch.model.as_deref(), entry.get_mut("model")) {
        (None, _) => {}
        (Some("" | "default" | "openclaw"), _) => drop(entry.shift_remove("model")),
        // Whoever wrote down what to use instead wants to keep it.
        (Some(model), Some(Value::Object(several))) => {
            several.insert("primary".to_owned(), model.into());
        }
        (Some(model), _) => drop(entry.insert("model".to_owned(), model.into())),
    }
    Ok(())
}

fn find<'a>(root: &'a mut Map<String, Value>, agent: &AgentId) -> Option<&'a mut Value> {
    let agents = root.get_mut("agents")?.as_object_mut()?;
    let listed = |entry: &Value| {
        let id = entry.get("id").and_then(Value::as_str);
        id.is_some_and(|id| is_called(id, agent))
    };
    let is_listed = agents
        .get("list")
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().any(listed));
    if is_listed {
        let list = agents.get_mut("list")?.as_array_mut()?;
        return list.iter_mut().find(|entry| listed(entry));
    }
    let entries = agents.get_mut("entries")?.as_object_mut()?;
    entries
        .iter_mut()
        .find(|(name, _)| is_called(name, agent))
        .map(|(_, entry)| entry)
}

/// A new entry, in the shape the file has already.
fn made<'a>(root: &'a mut Map<String, Value>, agent: &AgentId) -> Result<&'a mut Value, String> {
    let agents = root.entry("agents").or_insert_with(|| json!({}));
    let agents = agents.as_object_mut().ok_or("its agents are no object")?;
    if agents.contains_key("entries") && !agents.contains_key("list") {
        let entries = agents.get_mut("entries").and_then(Value::as_object_mut);
        let entries = entries.ok_or("its agents.entries is no object")?;
        return Ok(entries.entry(agent.as_str()).or_insert_with(|| json!({})));
    }
    let list = agents.entry("list").or_insert_with(|| json!([]));
    let list = list.as_array_mut().ok_or("its agents.list is no list")?;
    list.push(json!({ "id": agent }));
    list.last_mut()
        .ok_or_else(|| "its list is empty".to_owned())
}

fn remove(root: &mut Map<String, Value>, agent: &AgentId) {
    let Some(agents) = root.get_mut("agents").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(list) = agents.get_mut("list").and_then(Value::as_array_mut) {
        list.retain(|entry| {
            let id = entry.get("id").and_then(Value::as_str);
            !id.is_some_and(|id| is_called(id, agent))
        });
    }
    if let Some(entries) = agents.get_mut("entries").and_then(Value::as_object_mut) {
        entries.retain(|name, _| !is_called(name, agent));
    }
}

/// Puts the new text in place of the old; `false` if the old one is no longer there. Mode and
/// owner's rights stay.
pub(super) fn replace(target: &Path, before: &[u8], after: &[u8]) -> io::Result<bool> {
    let rights = fs::metadata(target)?.permissions();
    let put = |text: &[u8], place: &Path, still: bool| {
        let draft = draft_beside(target)?;
        let written = write_private(&draft, text)
            .and_then(|()| fs::set_permissions(&draft, rights.clone()))
            .and_then(|()| Ok(!still || fs::read(target)? == before))
            .and_then(|fits| {
                if fits {
                    fs::rename(&draft, place)?;
                }
                Ok(fits)
            });
        if !matches!(written, Ok(true)) {
            // What is not used is not left behind; the first error is the one to tell.
            drop(fs::remove_file(&draft));
        }
        written
    };
    let mut kept = target.as_os_str().to_owned();
    kept.push(KEPT);
    put(before, Path::new(&kept), false)?;
    put(after, target, true)
}

fn draft_beside(target: &Path) -> io::Result<PathBuf> {
    let mut number = [0_u8; 8];
    getrandom::fill(&mut number).map_err(io::Error::other)?;
    let name = format!(".openclaw-config-{}", u64::from_ne_bytes(number));
    Ok(target.with_file_name(name))
}

pub(super) fn small(file: &Path) -> io::Result<String> {
    let found = fs::metadata(file)?;
    if !found.is_file() || found.len() > MAX_FILE {
        return Err(io::Error::other("it is no file of at most 1 MiB"));
    }
    fs::read_to_string(file)
}

pub(super) const MAX_FILE: u64 = 1 << 20;
/// Beside the configuration: what was in it before the last change.
const KEPT: &str = ".ctrlnode-bak";
/// How often a change is made anew because the file changed meanwhile.
pub(super) const ATTEMPTS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> AgentId {
        AgentId::parse(text).unwrap()
    }

    fn patch() -> AgentPatch {
        AgentPatch {
            name: Some("Scout 2".into()),
            model: Some("p/new".into()),
            ..AgentPatch::default()
        }
    }

    fn update_of(agent: &str, create: bool) -> AgentEdit {
        AgentEdit::Update {
            agent: id(agent),
            patch: patch(),
            create,
        }
    }

    const CONFIG: &str = r#"{
  "zeta": 1,
  "gateway": {"auth": {"token": "hush"}},
  "agents": {"list": [
    {"id": "Scout", "workspace": "/w", "sandbox": {"mode": "all"},
     "model": {"primary": "p/old", "fallbacks": ["p/x"]}},
    {"id": "other"}
  ]}
}"#;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_update_touches_what_it_names_and_leaves_the_sandbox_alone() {
        let after = changed(CONFIG, &update_of("scout", false))
            .unwrap()
            .unwrap();
        let mut expected = value(CONFIG);
        let entry = &mut expected["agents"]["list"][0];
        entry["name"] = "Scout 2".into();
        entry["model"]["primary"] = "p/new".into();
        assert_eq!(value(&after), expected);
        assert!(after.starts_with("{\n  \"zeta\""), "the order stays");
        assert_eq!(changed(&after, &update_of("scout", false)), Ok(None));
    }

    #[test]
    fn an_agent_that_is_not_there_is_made_only_when_that_is_wanted() {
        assert_eq!(changed(CONFIG, &update_of("new", false)), Ok(None));
        let made = changed(CONFIG, &update_of("new", true)).unwrap().unwrap();
        let new = json!({ "id": "new", "name": "Scout 2", "model": "p/new" });
        assert_eq!(value(&made)["agents"]["list"][2], new);
        let keyed = changed(r#"{"agents":{"entries":{}}}"#, &update_of("new", true));
        let keyed = value(&keyed.unwrap().unwrap());
        assert_eq!(keyed["agents"]["entries"]["new"]["model"], "p/new");
    }

    #[test]
    fn a_removal_takes_one_agent_and_nothing_else() {
        let gone = AgentEdit::Remove { agent: id("SCOUT") };
        let after = value(&changed(CONFIG, &gone).unwrap().unwrap());
        assert_eq!(after["agents"], json!({ "list": [{ "id": "other" }] }));
        assert_eq!(after["gateway"], value(CONFIG)["gateway"]);
        let unknown = AgentEdit::Remove {
            agent: id("nobody"),
        };
        assert_eq!(changed(CONFIG, &unknown), Ok(None));
    }

    #[test]
    fn what_is_not_plain_json_is_left_as_it_is() {
        for text in ["// mine\n{}", "{agents:{}}", "[]", "", r#"{"agents":7}"#] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("openclaw.json");
            fs::write(&file, text).unwrap();
            let error = edit(&file, &update_of("new", true)).unwrap_err();
            assert!(
                matches!(error, EditError::NotPlain { .. }),
                "{text}: {error}"
            );
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{text}");
        }
    }

    #[test]
    fn a_configuration_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("openclaw.json");
        assert!(!edit(&file, &update_of("new", true)).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn what_was_there_is_kept_beside_it_with_the_same_rights_and_a_link_stays_a_link() {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("real.json");
        fs::write(&real, CONFIG).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o600)).unwrap();
        let file = folder.path().join("openclaw.json");
        std::os::unix::fs::symlink(&real, &file).unwrap();
        assert!(edit(&file, &update_of("scout", false)).unwrap());
        assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
        let kept = folder.path().join("real.json.ctrlnode-bak");
        assert_eq!(fs::read_to_string(&kept).unwrap(), CONFIG);
        for file in [&real, &kept] {
            let mode = fs::metadata(file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        assert!(fs::read_to_string(&file).unwrap().contains("p/new"));
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("openclaw.json");
        fs::write(&file, "theirs").unwrap();
        assert!(!replace(&file, b"before", b"after").unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "theirs");
    }
}
