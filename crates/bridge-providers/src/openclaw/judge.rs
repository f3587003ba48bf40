//! What a control plane may change in OpenClaw's configuration: who its agents are, and nothing
//! that decides what programs are started, with which rights, or who can reach the gateway. Pure.
//!
//! The list is of what is harmless. Whatever stands elsewhere has to be as it was, so that a
//! setting of a later version is kept as well.

use std::path::{Component, Path};

use serde_json::{Map, Value};

use super::agents::resolved;

/// Where the configuration lies, for the meaning of its paths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Surroundings<'a> {
    /// The folder of the file.
    pub(super) folder: &'a Path,
    pub(super) home: Option<&'a Path>,
}

/// Whether the new configuration may take the place of the old one; else the first place in it that
/// is for the user alone.
pub(super) fn judge(old: &Value, new: &Value, around: Surroundings<'_>) -> Result<(), String> {
    let none = Map::new();
    let old = old.as_object().unwrap_or(&none);
    let new = new.as_object().unwrap_or(&none);
    let Some(kept) = names(old, new)
        .find(|name| !FREE.contains(name) && *name != AGENTS && old.get(*name) != new.get(*name))
    else {
        return agents(
            old.get(AGENTS).unwrap_or(&Value::Null),
            new.get(AGENTS).unwrap_or(&Value::Null),
            around,
        );
    };
    Err(kept.to_owned())
}

fn agents(old: &Value, new: &Value, around: Surroundings<'_>) -> Result<(), String> {
    if old == new {
        return Ok(());
    }
    let none = Map::new();
    let shaped = |value: &Value| value.is_object() || value.is_null();
    if !shaped(old) || !shaped(new) {
        return Err(AGENTS.to_owned());
    }
    let (was, is) = (
        old.as_object().unwrap_or(&none),
        new.as_object().unwrap_or(&none),
    );
    let lone_sandbox = sandbox_is_off(is.get("defaults").and_then(|it| it.get("sandbox")));
    for name in names(was, is) {
        let (before, after) = (was.get(name), is.get(name));
        let place = format!("{AGENTS}.{name}");
        match (name, after) {
            (_, after) if before == after => {}
            ("defaults", Some(Value::Object(after))) => {
                let before = before.and_then(Value::as_object).unwrap_or(&none);
                agent(&place, before, after, false, around)?;
            }
            ("list", Some(Value::Array(after))) => {
                let before = before.and_then(Value::as_array);
                for (entry, at) in after.iter().zip(0..) {
                    let place = format!("{place}[{at}]");
                    let entry = entry.as_object().ok_or_else(|| place.clone())?;
                    let id = entry.get("id").and_then(Value::as_str);
                    let id = id.ok_or_else(|| format!("{place}.id"))?;
                    let known = before.into_iter().flatten().filter_map(Value::as_object);
                    let mut known = known.filter(|known| is_named(known, id));
                    let known = known.next().unwrap_or(&none);
                    agent(&place, known, entry, lone_sandbox, around)?;
                }
                one_of_each(&place, after)?;
            }
            ("entries", Some(Value::Object(after))) => {
                let before = before.and_then(Value::as_object).unwrap_or(&none);
                for (id, entry) in after {
                    let place = format!("{place}.{id}");
                    let entry = entry.as_object().ok_or_else(|| place.clone())?;
                    let known = before.get(id).and_then(Value::as_object).unwrap_or(&none);
                    agent(&place, known, entry, lone_sandbox, around)?;
                }
            }
            // Agents may be taken away; what stands for all of them may not.
            ("list" | "entries", None) => {}
            _ => return Err(place),
        }
    }
    Ok(())
}

/// Two entries of one name, and nobody knows which of them is in force.
fn one_of_each(place: &str, list: &[Value]) -> Result<(), String> {
    let id = |entry: &Value| {
        let id = entry.get("id").and_then(Value::as_str);
        id.unwrap_or_default().trim().to_lowercase()
    };
    for (at, entry) in list.iter().enumerate() {
        if list.iter().take(at).any(|other| id(other) == id(entry)) {
            return Err(format!("{place}[{at}].id"));
        }
    }
    Ok(())
}

/// One agent, or what all of them have in common.
fn agent(
    place: &str,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    lone_sandbox: bool,
    around: Surroundings<'_>,
) -> Result<(), String> {
    for name in names(old, new) {
        let (before, after) = (old.get(name), new.get(name));
        let harmless = match after {
            _ if before == after => true,
            // Only what means the same as its absence.
            Some(sandbox) if name == "sandbox" && before.is_none() => {
                lone_sandbox && sandbox_is_off(Some(sandbox))
            }
            Some(Value::String(path)) if name == "workspace" => {
                is_plain(path) && is_inside(path, around)
            }
            Some(value) => WORDS.contains(&name) && is_words(value, 0),
            // Without one of its own the usual one is in force, which was judged.
            None => WORDS.contains(&name) || name == "workspace",
        };
        if !harmless {
            return Err(format!("{place}.{name}"));
        }
    }
    Ok(())
}

/// Whether nothing is confined; that is so where nothing is said.
fn sandbox_is_off(sandbox: Option<&Value>) -> bool {
    let Some(sandbox) = sandbox else { return true };
    let Some(map) = sandbox.as_object() else {
        return false;
    };
    map.iter()
        .all(|(name, value)| name == "mode" && value == "off")
}

/// Texts, numbers, and lists and maps of them by plain names.
fn is_words(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
        Value::String(text) => is_plain(text),
        Value::Array(items) => depth < MAX_DEPTH && items.iter().all(|it| is_words(it, depth + 1)),
        Value::Object(map) => {
            let plain = |(name, value): (&String, &Value)| {
                // `$include` reads another file.
                !name.starts_with('$') && !name.starts_with("__") && is_words(value, depth + 1)
            };
            depth < MAX_DEPTH && map.iter().all(plain)
        }
    }
}

/// OpenClaw puts a variable of its environment in place of `${NAME}`.
fn is_plain(text: &str) -> bool {
    !text.contains("${")
}

/// Whether a folder lies in OpenClaw's own one, by its name alone: it need not be there yet.
fn is_inside(path: &str, around: Surroundings<'_>) -> bool {
    let path = resolved(path, around.folder, around.home);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    !climbs && path != around.folder && path.starts_with(around.folder)
}

fn is_named(entry: &Map<String, Value>, id: &str) -> bool {
    entry.get("id").and_then(Value::as_str) == Some(id)
}

/// Every name of both.
fn names<'a>(
    old: &'a Map<String, Value>,
    new: &'a Map<String, Value>,
) -> impl Iterator<Item = &'a str> {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    new.keys().chain(gone).map(String::as_str)
}

const AGENTS: &str = "agents";

/// Settings of the file that start nothing and let nobody in.
const FREE: [&str; 3] = ["meta", "ui", "wizard"];

/// What of an agent is words: who it is and which model answers for it.
const WORDS: [&str; 13] = [
    "id",
    "name",
    "role",
    "description",
    "emoji",
    "identity",
    "model",
    "imageModel",
    "thinkingDefault",
    "verboseDefault",
    "userTimezone",
    "timeoutSeconds",
    "maxConcurrent",
];

/// Names and models are not nested any deeper.
const MAX_DEPTH: usize = 4;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(old: &Value, new: &Value) -> Result<(), String> {
        let around = Surroundings {
            folder: Path::new("/home/u/.openclaw"),
            home: Some(Path::new("/home/u")),
        };
        judge(old, new, around)
    }

    fn config() -> Value {
        json!({
            "gateway": { "port": 18789, "bind": "loopback", "auth": { "token": "hush" } },
            "models": { "providers": { "p": { "baseUrl": "https://p.example" } } },
            "agents": {
                "defaults": { "model": "p/a", "workspace": "workspace" },
                "list": [
                    { "id": "scout", "name": "Scout", "tools": { "deny": ["exec"] } },
                    { "id": "far", "workspace": "/srv/far", "sandbox": { "mode": "all" } }
                ]
            }
        })
    }

    /// The configuration with something else at one place.
    fn with(pointer: &str, value: Value) -> Value {
        let mut config = config();
        let (above, name) = pointer.rsplit_once('/').unwrap();
        let above = config.pointer_mut(above).unwrap();
        match above.as_array_mut() {
            None => above[name] = value,
            Some(list) if name == "-" => list.push(value),
            Some(list) => list[name.parse::<usize>().unwrap()] = value,
        }
        config
    }

    fn said(new: &Value) -> Result<(), String> {
        judged(&config(), new)
    }

    #[test]
    fn who_the_agents_are_is_for_the_plane_to_change() {
        for new in [
            config(),
            with("/agents/list/0/name", json!("Scout 2")),
            with(
                "/agents/list/0/model",
                json!({ "primary": "p/b", "fallbacks": ["p/c"] }),
            ),
            with("/agents/list/0/workspace", json!("workspaces/scout")),
            with("/agents/list/0/workspace", json!(".openclaw/scout")),
            with("/agents/list/0/workspace", json!("~/.openclaw/scout")),
            with(
                "/agents/list/-",
                json!({ "id": "new", "sandbox": { "mode": "off" } }),
            ),
            with("/agents/defaults/model", json!("p/b")),
            with("/agents/list", json!([])),
            with("/agents/entries", json!({ "x": { "name": "X" } })),
            with("/meta", json!({ "lastTouchedAt": "now" })),
        ] {
            assert_eq!(said(&new), Ok(()), "{new}");
        }
    }

    #[test]
    fn what_starts_programs_lets_others_in_or_is_unknown_is_for_the_user() {
        for (pointer, value, place) in [
            ("/gateway/bind", json!("lan"), "gateway"),
            ("/gateway/port", json!(80), "gateway"),
            ("/gateway/auth", json!({ "mode": "none" }), "gateway"),
            ("/gateway/nodes", json!({}), "gateway"),
            ("/models/providers", json!({}), "models"),
            (
                "/mcp",
                json!({ "servers": { "x": { "command": "sh" } } }),
                "mcp",
            ),
            ("/hooks", json!({ "enabled": true }), "hooks"),
            ("/env", json!({ "vars": { "PATH": "/x" } }), "env"),
            (
                "/tools",
                json!({ "elevated": { "enabled": true } }),
                "tools",
            ),
            (
                "/plugins",
                json!({ "load": { "paths": ["/x"] } }),
                "plugins",
            ),
            ("/$include", json!("./other.json"), "$include"),
            ("/tomorrow", json!(1), "tomorrow"),
            ("/agents", json!([]), "agents"),
            ("/agents/later", json!(1), "agents.later"),
            ("/agents/$include", json!("./x"), "agents.$include"),
            (
                "/agents/defaults/sandbox",
                json!({ "mode": "off", "docker": {} }),
                "agents.defaults.sandbox",
            ),
            (
                "/agents/defaults/cliBackends",
                json!({ "x": { "command": "sh" } }),
                "agents.defaults.cliBackends",
            ),
            (
                "/agents/defaults/heartbeat",
                json!({ "every": "1m" }),
                "agents.defaults.heartbeat",
            ),
            (
                "/agents/defaults/workspace",
                json!("/"),
                "agents.defaults.workspace",
            ),
            ("/agents/list/0/tools", json!({}), "agents.list[0].tools"),
            (
                "/agents/list/0/agentDir",
                json!("x"),
                "agents.list[0].agentDir",
            ),
            (
                "/agents/list/0/workspace",
                json!("/etc"),
                "agents.list[0].workspace",
            ),
            (
                "/agents/list/0/workspace",
                json!("a/../../x"),
                "agents.list[0].workspace",
            ),
            (
                "/agents/list/0/workspace",
                json!("."),
                "agents.list[0].workspace",
            ),
            (
                "/agents/list/0/workspace",
                json!("${HOME}"),
                "agents.list[0].workspace",
            ),
            (
                "/agents/list/0/workspace",
                json!(7),
                "agents.list[0].workspace",
            ),
            (
                "/agents/list/0/name",
                json!("${OPENAI_API_KEY}"),
                "agents.list[0].name",
            ),
            (
                "/agents/list/0/model",
                json!({ "$include": "x" }),
                "agents.list[0].model",
            ),
            ("/agents/list/0", json!("scout"), "agents.list[0]"),
            (
                "/agents/list/0",
                json!({ "name": "x" }),
                "agents.list[0].id",
            ),
            (
                "/agents/list/1/sandbox",
                json!({ "mode": "off" }),
                "agents.list[1].sandbox",
            ),
            (
                "/agents/list/-",
                json!({ "id": "SCOUT" }),
                "agents.list[2].id",
            ),
            (
                "/agents/list/-",
                json!({ "id": "new", "tools": {} }),
                "agents.list[2].tools",
            ),
            (
                "/agents/entries",
                json!({ "x": { "tools": {} } }),
                "agents.entries.x.tools",
            ),
        ] {
            assert_eq!(said(&with(pointer, value)), Err(place.into()), "{pointer}");
        }
    }

    #[test]
    fn what_the_user_set_does_not_vanish() {
        for pointer in [
            "/gateway",
            "/models",
            "/agents/defaults",
            "/agents/list/0/tools",
        ] {
            let mut new = config();
            let (above, name) = pointer.rsplit_once('/').unwrap();
            let map = new.pointer_mut(above).unwrap().as_object_mut().unwrap();
            map.remove(name);
            assert!(said(&new).is_err(), "{pointer}");
        }
    }

    #[test]
    fn an_agent_is_not_freed_of_its_sandbox_by_the_one_of_all() {
        let mut old = config();
        old["agents"]["defaults"]["sandbox"] = json!({ "mode": "all" });
        let mut new = old.clone();
        let free = json!({ "id": "new", "sandbox": { "mode": "off" } });
        new["agents"]["list"].as_array_mut().unwrap().push(free);
        let place = "agents.list[2].sandbox".to_owned();
        assert_eq!(judged(&old, &new), Err(place));
    }

    #[test]
    fn a_new_agent_has_the_usual_rights_whoever_made_room_for_it() {
        let new = with("/agents/list/0", json!({ "id": "scout2", "name": "Scout" }));
        assert_eq!(said(&new), Ok(()), "as it could be made beside the old one");
    }
}
