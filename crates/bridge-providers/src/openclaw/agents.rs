//! The agents that OpenClaw's configuration names, as profiles.

use std::path::{Path, PathBuf};

use bridge_proto::{AgentId, ProviderKey, model::AgentProfile};
use serde_json::Value;

use super::config::{file, relaxed_json};
use crate::{host::Host, plain::one_line, program::read_small};

/// Every agent of the configuration but its default one, which the provider itself stands for.
pub(super) fn own_agents(host: &Host, provider: &ProviderKey) -> Vec<AgentProfile> {
    let Some((config, folder)) = configuration(host) else {
        return Vec::new();
    };
    profiles(&config, &folder, host.home(), provider)
}

/// How the configuration spells the name of this agent, if it names it.
pub(super) fn spelled(host: &Host, agent: &AgentId) -> Option<String> {
    let (config, _) = configuration(host)?;
    named(&config)
        .find(|(name, _)| is_called(name, agent))
        .map(|(name, _)| name.to_owned())
}

/// Whether a name in the configuration is this agent's.
pub(super) fn is_called(name: &str, agent: &AgentId) -> bool {
    AgentId::parse(name).is_ok_and(|id| id == *agent)
}

/// The configuration and the folder it is in.
fn configuration(host: &Host) -> Option<(Value, PathBuf)> {
    let file = file(host)?;
    let config = relaxed_json(&read_small(&file)?)?;
    Some((config, file.parent()?.to_owned()))
}

/// Agents stand in a list with ids, in newer versions in a map.
fn named(config: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let listed = config.pointer("/agents/list").and_then(Value::as_array);
    let listed = listed.into_iter().flatten();
    let listed = listed.filter_map(|entry| Some((entry.get("id")?.as_str()?, entry)));
    let keyed = config.pointer("/agents/entries");
    let keyed = keyed.and_then(Value::as_object).into_iter().flatten();
    listed.chain(keyed.map(|(name, entry)| (name.as_str(), entry)))
}

fn profiles(
    config: &Value,
    folder: &Path,
    home: Option<&Path>,
    provider: &ProviderKey,
) -> Vec<AgentProfile> {
    let usual = config
        .pointer("/agents/defaults/workspace")
        .and_then(Value::as_str);
    let mut agents: Vec<AgentProfile> = Vec::new();
    for (name, entry) in named(config) {
        let Ok(id) = AgentId::parse(name) else {
            continue;
        };
        if id.as_str() == DEFAULT_AGENT || agents.iter().any(|known| known.id == id) {
            continue;
        }
        let text = |place: &str| entry.pointer(place).and_then(Value::as_str);
        let line = |places: &[&str]| {
            let found = places.iter().copied().find_map(text);
            found.map(|found| one_line(found, MAX_TEXT))
        };
        let workspace = text("/workspace").or(usual).filter(|path| !path.is_empty());
        let workspace = match workspace {
            Some(path) => Some(resolved(path, folder, home)),
            None => home.map(|home| home.join(".openclaw/workspace")),
        };
        agents.push(AgentProfile {
            name: line(&["/name", "/identity/name"]).unwrap_or_else(|| id.to_string()),
            provider: provider.clone(),
            model: line(&["/model", "/model/primary"]).filter(|model| !model.is_empty()),
            workspace: workspace.map(|path| path.to_string_lossy().replace('\\', "/")),
            role: line(&["/role"]).unwrap_or_default(),
            description: line(&["/description"]).unwrap_or_default(),
            emoji: line(&["/emoji", "/identity/emoji"]).unwrap_or_default(),
            from_filesystem: false,
            id,
        });
        if agents.len() == MAX_AGENTS {
            break;
        }
    }
    agents
}

/// A path of the configuration. A relative one is meant from the configuration's own folder, whose
/// name it may begin with.
pub(super) fn resolved(path: &str, folder: &Path, home: Option<&Path>) -> PathBuf {
    if let (Some(rest), Some(home)) = (path.strip_prefix("~/"), home) {
        return home.join(rest);
    }
    let path = Path::new(path);
    let own_name = folder.file_name().unwrap_or_default();
    folder.join(path.strip_prefix(own_name).unwrap_or(path))
}

/// It is there without being named.
const DEFAULT_AGENT: &str = "main";
const MAX_AGENTS: usize = 200;
/// Characters of a name, a role, a description.
const MAX_TEXT: usize = 500;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(config: &Value) -> Vec<AgentProfile> {
        let provider = ProviderKey::parse("openclaw").unwrap();
        let home = Path::new("/home/u");
        profiles(
            config,
            Path::new("/home/u/.openclaw"),
            Some(home),
            &provider,
        )
    }

    fn workspaces(config: &Value) -> Vec<String> {
        let of = |agent: AgentProfile| format!("{}={}", agent.id, agent.workspace.unwrap());
        found(config).into_iter().map(of).collect()
    }

    #[test]
    fn agents_of_both_shapes_are_found_without_the_default_one() {
        let config = json!({ "agents": {
            "list": [{ "id": "main" }, { "id": "Scout", "name": "The Scout", "model": "m",
                       "identity": { "emoji": "🦊" } }, { "name": "no id" }, 7],
            "entries": { "writer": { "model": { "primary": "p/m", "fallbacks": [] } },
                         "scout": { "name": "a double" } } } });
        let agents = found(&config);
        let shown = |agent: &AgentProfile| {
            (
                agent.id.to_string(),
                agent.name.clone(),
                agent.model.clone(),
            )
        };
        assert_eq!(
            agents.iter().map(shown).collect::<Vec<_>>(),
            [
                ("scout".into(), "The Scout".into(), Some("m".into())),
                ("writer".into(), "writer".into(), Some("p/m".into())),
            ]
        );
        assert_eq!(agents[0].emoji, "🦊");
    }

    #[test]
    fn workspaces_are_absolute_wherever_they_are_written() {
        let config = json!({ "agents": { "defaults": { "workspace": "~/oc" }, "list": [
            { "id": "a" }, { "id": "b", "workspace": "/w/b" },
            { "id": "c", "workspace": ".openclaw/c" }, { "id": "d", "workspace": "d" } ] } });
        assert_eq!(
            workspaces(&config),
            [
                "a=/home/u/oc",
                "b=/w/b",
                "c=/home/u/.openclaw/c",
                "d=/home/u/.openclaw/d"
            ]
        );
        let bare = json!({ "agents": { "list": [{ "id": "a" }] } });
        assert_eq!(workspaces(&bare), ["a=/home/u/.openclaw/workspace"]);
    }

    #[test]
    fn a_hostile_configuration_gives_few_agents_with_short_texts() {
        let long = "x".repeat(5000);
        let many: Vec<Value> = (0..1000)
            .map(|n| json!({ "id": format!("a{n}"), "name": long, "role": "a\u{1b}[2Jb\nc" }))
            .chain([json!({ "id": "a\nb" }), json!({ "id": long })])
            .collect();
        let agents = found(&json!({ "agents": { "list": many } }));
        assert_eq!(agents.len(), MAX_AGENTS);
        assert!(agents[0].name.chars().count() <= MAX_TEXT + 1);
        assert!(
            !agents[0].role.contains(char::is_control),
            "{:?}",
            agents[0].role
        );
        assert_eq!(found(&json!({ "agents": 7 })), []);
    }
}
