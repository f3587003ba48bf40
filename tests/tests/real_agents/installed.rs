//! Where the real agents are, as `cargo xtask agents install` leaves them: one folder for each,
//! and a list of those that are current.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use crate::agents::Agent;

/// The installed agents.
#[derive(Debug)]
pub(crate) struct Installed {
    folder: PathBuf,
    /// The folder of each program, by its name.
    current: BTreeMap<String, PathBuf>,
}

impl Installed {
    /// Reads what `CTRLNODE_E2E_AGENTS` names; `None`: these tests are not wanted.
    pub(crate) fn find() -> Option<Self> {
        let folder = env::var_os("CTRLNODE_E2E_AGENTS").filter(|folder| !folder.is_empty())?;
        let folder = PathBuf::from(folder);
        let list = folder.join("current.json");
        let list = fs::read_to_string(&list).unwrap_or_else(|error| {
            panic!(
                "{}: {error}; `cargo xtask agents install` writes it",
                list.display()
            )
        });
        let current = serde_json::from_str(&list).expect("a list of names and folders");
        Some(Self { folder, current })
    }

    /// Whether an agent is there and its tests are asked for.
    pub(crate) fn offers(&self, agent: Agent) -> bool {
        let only = env::var("CTRLNODE_E2E_ONLY").unwrap_or_default();
        let asked_for = only.is_empty() || only.split(',').any(|name| name == agent.id());
        asked_for && self.current.contains_key(agent.id())
    }

    /// The `node_modules` an agent was installed into.
    pub(crate) fn node_modules(&self, agent: Agent) -> PathBuf {
        self.of(agent.id()).join("node_modules")
    }

    /// The Python environment an agent was installed into.
    pub(crate) fn venv(&self, agent: Agent) -> PathBuf {
        self.of(agent.id()).join("venv")
    }

    /// The Node that was installed with the agents: its package is named for the machine.
    pub(crate) fn node(&self) -> io::Result<PathBuf> {
        let entries = fs::read_dir(self.of("node").join("node_modules"))?.flatten();
        let nodes =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("node-"));
        let mut programs = nodes.map(|entry| entry.path().join("bin/node"));
        programs
            .find(|program| program.is_file())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no Node beside the agents"))
    }

    fn of(&self, name: &str) -> PathBuf {
        let folder = self.current.get(name);
        let folder = folder.unwrap_or_else(|| panic!("{name} is not installed"));
        self.folder.join(folder)
    }
}

/// The words of a shell script that starts a program with the arguments of the script.
pub(crate) fn launcher(words: &[PathBuf]) -> String {
    let quoted = |word: &PathBuf| format!("'{}'", Path::new(word).display());
    let words: Vec<String> = words.iter().map(quoted).collect();
    format!("#!/bin/sh\nexec {} \"$@\"\n", words.join(" "))
}
