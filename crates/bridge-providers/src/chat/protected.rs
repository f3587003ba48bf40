//! Names that stay closed to models inside the folders they work in: git internals, what holds
//! secrets, and for changes what would be obeyed later. Compared part by part, without regard to
//! case. Pure.

use std::path::Path;

/// Whether a rule fits any part of a path.
pub(super) fn any(path: &Path, rule: fn(&str) -> bool) -> bool {
    path.components().any(|part| {
        let name = part.as_os_str().to_string_lossy().to_lowercase();
        // Some file systems do not tell these names apart.
        rule(name.trim_end_matches(['.', ' ']))
    })
}

/// Whether a name in lower case is neither read nor written.
pub(super) fn is_closed(name: &str) -> bool {
    let environment = name == ".env" || (name.starts_with(".env.") && !is_sample(name));
    let key = name
        .rsplit_once('.')
        .is_some_and(|(stem, ending)| !stem.is_empty() && KEY_ENDINGS.contains(&ending));
    CLOSED.contains(&name) || environment || key
}

/// Whether a name in lower case is not written: a program obeys what stands there.
pub(super) fn is_unchanged(name: &str) -> bool {
    UNCHANGED.contains(&name)
}

fn is_sample(name: &str) -> bool {
    ["example", "sample", "template", "dist"]
        .iter()
        .any(|word| name.ends_with(word))
}

/// Git internals, and what holds keys and logins.
const CLOSED: [&str; 21] = [
    ".git",
    ".envrc",
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".git-credentials",
    ".vault-token",
    ".password-store",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "credentials.json",
];
const KEY_ENDINGS: [&str; 7] = ["pem", "key", "p12", "pfx", "jks", "kdbx", "keystore"];
/// Settings of agents, whose hooks are commands, and of this bridge.
const UNCHANGED: [&str; 9] = [
    ".claude",
    ".codex",
    ".copilot",
    ".ctrlnode",
    ".cursor",
    ".gemini",
    ".hermes",
    ".openclaw",
    ".opencode",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_what_only_looks_like_them() {
        for path in [
            ".git/config",
            ".GIT/config",
            "sub/.git/hooks/pre-commit",
            ".env",
            ".env.local",
            "a/.Env",
            ".env. ",
            ".ssh/known_hosts",
            "server.pem",
            "tls.KEY",
            ".npmrc",
        ] {
            assert!(any(Path::new(path), is_closed), "{path}");
        }
        for path in [
            ".env.example",
            "keys.md",
            ".gitignore",
            "monkey",
            ".key",
            "git/config",
        ] {
            assert!(!any(Path::new(path), is_closed), "{path}");
        }
    }

    #[test]
    fn settings_of_agents_may_be_read() {
        let path = Path::new("sub/.Claude/settings.json");
        assert!(any(path, is_unchanged) && !any(path, is_closed));
    }
}
