//! Where agents keep their logins and settings on this machine. Variables move some of them to
//! places that nobody would know by their names.

use std::path::{Path, PathBuf};

use crate::{host::Host, openclaw};

/// Files and folders of agents, whether they are there or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptByAgents {
    /// Hold logins: nobody else may read them.
    pub logins: Vec<PathBuf>,
    /// Hold settings, and with them commands that agents run: nobody else may write them.
    pub settings: Vec<PathBuf>,
}

/// All of them, for the variables and the home folder of this machine.
pub fn kept_by_agents(host: &Host) -> KeptByAgents {
    let mut kept = KeptByAgents::default();
    for (variable, below, usual, logins) in FOLDERS {
        let named = host
            .value(variable)
            .map(|named| Path::new(named).join(below));
        let Some(folder) = named.or_else(|| Some(host.home()?.join(usual))) else {
            continue;
        };
        kept.logins
            .extend(logins.iter().map(|name| folder.join(name)));
        kept.settings.push(folder);
    }
    for file in ["OPENCODE_CONFIG", "OPENCODE_TUI_CONFIG"] {
        kept.settings.extend(host.value(file).map(PathBuf::from));
    }
    if let Some(folder) = host.value("APPDATA") {
        kept.logins.push(Path::new(folder).join("Cursor/auth.json"));
    }
    if let Some(folder) = openclaw::own_folder(host) {
        let named = host.value("OPENCLAW_CONFIG_PATH").map(PathBuf::from);
        kept.logins.extend(named);
        kept.logins
            .extend(OPENCLAW.iter().map(|name| folder.join(name)));
        kept.settings.push(folder);
    }
    kept
}

/// The variable that names a folder, what is below that, the usual place below the home folder,
/// and the files in it that hold logins.
type OfAgent = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

const FOLDERS: &[OfAgent] = &[
    (
        "CLAUDE_CONFIG_DIR",
        "",
        ".claude",
        &[".credentials.json", ".claude.json"],
    ),
    ("CODEX_HOME", "", ".codex", &["auth.json"]),
    ("COPILOT_HOME", "", ".copilot", &["config.json"]),
    ("GH_CONFIG_DIR", "", ".config/gh", &["hosts.yml"]),
    ("XDG_CONFIG_HOME", "gh", ".config/gh", &["hosts.yml"]),
    (
        "XDG_CONFIG_HOME",
        "github-copilot",
        ".config/github-copilot",
        &["apps.json", "hosts.json"],
    ),
    (
        "XDG_CONFIG_HOME",
        "cursor",
        ".config/cursor",
        &["auth.json"],
    ),
    (
        "GEMINI_CLI_HOME",
        ".gemini",
        ".gemini",
        &["oauth_creds.json", "google_accounts.json", ".env"],
    ),
    (
        "HERMES_HOME",
        "",
        ".hermes",
        &["auth.json", ".env", "profiles"],
    ),
    ("OPENCODE_CONFIG_DIR", "", ".config/opencode", &[]),
    ("XDG_CONFIG_HOME", "opencode", ".config/opencode", &[]),
    (
        "XDG_DATA_HOME",
        "opencode",
        ".local/share/opencode",
        &["auth.json", "mcp-auth.json"],
    ),
];

/// Of OpenClaw's own folder, what holds logins: those of its agents lie beside their conversations.
const OPENCLAW: &[&str] = &[
    "openclaw.json",
    ".env",
    "agents",
    "credentials",
    "devices",
    "identity",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(vars: &[(&str, &str)]) -> KeptByAgents {
        kept_by_agents(&Host::new(
            vars.iter().map(|(name, value)| (name.into(), value.into())),
        ))
    }

    #[test]
    fn logins_and_settings_are_where_variables_say() {
        for (variable, value, login, settings) in [
            (
                "CLAUDE_CONFIG_DIR",
                "/ws/c",
                "/ws/c/.credentials.json",
                "/ws/c",
            ),
            ("CODEX_HOME", "/ws/c", "/ws/c/auth.json", "/ws/c"),
            ("COPILOT_HOME", "/ws/c", "/ws/c/config.json", "/ws/c"),
            ("GH_CONFIG_DIR", "/ws/c", "/ws/c/hosts.yml", "/ws/c"),
            ("XDG_CONFIG_HOME", "/ws/c", "/ws/c/gh/hosts.yml", "/ws/c/gh"),
            (
                "XDG_CONFIG_HOME",
                "/ws/c",
                "/ws/c/cursor/auth.json",
                "/ws/c/opencode",
            ),
            (
                "GEMINI_CLI_HOME",
                "/ws/c",
                "/ws/c/.gemini/oauth_creds.json",
                "/ws/c/.gemini",
            ),
            ("HERMES_HOME", "/ws/c", "/ws/c/.env", "/ws/c"),
            (
                "XDG_DATA_HOME",
                "/ws/c",
                "/ws/c/opencode/auth.json",
                "/ws/c/opencode",
            ),
            ("OPENCLAW_STATE_DIR", "/ws/c", "/ws/c/agents", "/ws/c"),
            (
                "OPENCLAW_CONFIG_PATH",
                "/ws/c/my.json",
                "/ws/c/my.json",
                "/ws/c",
            ),
            ("HOME", "/ws/c", "/ws/c/.codex/auth.json", "/ws/c/.claude"),
        ] {
            let kept = kept(&[(variable, value)]);
            assert!(kept.logins.contains(&login.into()), "{variable}: {kept:?}");
            assert!(
                kept.settings.contains(&settings.into()),
                "{variable}: {kept:?}"
            );
        }
    }

    #[test]
    fn without_a_home_nothing_is_guessed() {
        assert_eq!(kept(&[]), KeptByAgents::default());
    }
}
