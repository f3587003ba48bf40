//! The profiles of Hermes: homes beside each other, each with its own settings and memory. They
//! are found and used, and never made or deleted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bridge_proto::{AgentId, ProviderKey, model::AgentProfile};

/// The profiles below a home of Hermes, by name.
pub(super) fn own_agents(home: &Path, provider: &ProviderKey) -> Vec<AgentProfile> {
    let mut agents: Vec<AgentProfile> = folders(home)
        .map(|(id, folder)| AgentProfile {
            name: id.to_string(),
            provider: provider.clone(),
            model: None,
            workspace: Some(folder.to_string_lossy().replace('\\', "/")),
            role: String::new(),
            description: String::new(),
            emoji: String::new(),
            from_filesystem: true,
            id,
        })
        .collect();
    agents.sort_by(|one, other| one.id.cmp(&other.id));
    agents.dedup_by(|one, other| one.id == other.id);
    agents.truncate(MAX_PROFILES);
    agents
}

/// The home of this agent's own, if it has one. The id is compared with what is there and never
/// made a path of.
pub(super) fn of(home: &Path, agent: &AgentId) -> Option<PathBuf> {
    folders(home)
        .find(|(id, _)| id == agent)
        .map(|(_, folder)| folder)
}

fn folders(home: &Path) -> impl Iterator<Item = (AgentId, PathBuf)> {
    let entries = fs::read_dir(home.join("profiles"));
    let entries = entries.into_iter().flatten().filter_map(Result::ok);
    entries.take(MAX_ENTRIES).filter_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str().filter(|name| !name.starts_with('.'))?;
        let id = AgentId::parse(name).ok()?;
        let folder = entry.path();
        folder.is_dir().then_some((id, folder))
    })
}

const MAX_PROFILES: usize = 200;
/// Of a folder that somebody filled with other things.
const MAX_ENTRIES: usize = 2000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_profiles_and_an_id_never_becomes_a_path() {
        let home = tempfile::tempdir().unwrap();
        for folder in ["profiles/Writer", "profiles/.trash", "elsewhere"] {
            fs::create_dir_all(home.path().join(folder)).unwrap();
        }
        fs::write(home.path().join("profiles/notes.txt"), "x").unwrap();
        let provider = ProviderKey::parse("hermes").unwrap();
        let found = own_agents(home.path(), &provider);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id.as_str(), "writer");
        assert!(found[0].from_filesystem);
        let of = |id: &str| of(home.path(), &AgentId::parse(id).unwrap());
        assert_eq!(of("writer"), Some(home.path().join("profiles/Writer")));
        for odd in ["../elsewhere", "..", ".", "/etc", "writer/.."] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }
}
