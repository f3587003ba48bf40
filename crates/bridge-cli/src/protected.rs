//! Which places of this machine the control plane is kept from because of where they were put:
//! the hub's state folders, what the bridge itself is set by, logins and settings of agents.

use std::path::{Path, PathBuf, absolute};

use bridge_providers::kept::kept_by_agents;
use bridge_workspace::{Keep, OwnPlace};

use crate::{
    settings::{Settings, variable},
    state::{self, StateFolder},
};

/// All of them. `of_up` is the state folder of the hub in this process, if there is one.
pub(crate) fn places(settings: &Settings, of_up: Option<&StateFolder>) -> Vec<OwnPlace> {
    let mut all = Vec::new();
    let mut protect = |keep, what, path: &Path| {
        let path = absolute(path).unwrap_or_else(|_| path.to_owned());
        all.push(OwnPlace { path, what, keep });
    };
    let named = variable("CTRLNODE_STATE").map(PathBuf::from);
    let elsewhere = named.and_then(|named| StateFolder::locate(Some(&named)).ok());
    for state in of_up.into_iter().chain(elsewhere.as_ref()) {
        for own in state.own_places() {
            protect(Keep::Always, "the hub's own files", &own);
        }
    }
    if let Some(usual) = state::usual() {
        protect(Keep::Always, "the hub's own files", &usual);
    }
    for file in &settings.discovery.files {
        protect(Keep::Always, "settings of the bridge", &file.path);
    }
    let decided = settings.rules_file.iter().chain(&settings.agents_file.path);
    for file in decided.chain(&settings.tls.roots) {
        protect(Keep::FromWrites, "settings of the bridge", file);
    }
    if let Some(identity) = &settings.tls.identity {
        protect(
            Keep::FromWrites,
            "settings of the bridge",
            &identity.certificates,
        );
        protect(Keep::Always, "the key of the bridge", &identity.key);
    }
    let agents = kept_by_agents(&settings.host);
    for login in &agents.logins {
        protect(Keep::Always, "an agent's login", login);
    }
    for folder in &agents.settings {
        protect(Keep::FromWrites, "agent settings", folder);
    }
    all
}
