//! Which programs the settings of a repository itself would start.

use std::collections::BTreeSet;

use thiserror::Error;

/// What was read of the settings in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnSettings {
    /// Names of all filters, whoever defined them.
    pub filters: BTreeSet<String>,
    /// Names of submodules that something is set for.
    pub submodules: BTreeSet<String>,
    /// Settings of the repository itself that name a program, whole keys.
    pub programs: BTreeSet<String>,
}

/// Git printed something else than a list of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the settings of the repository cannot be read")]
pub struct SettingsError;

impl OwnSettings {
    /// Reads what [`GitCommand::list_settings`](super::GitCommand::list_settings) printed: scope
    /// and key by turns, each closed by NUL.
    pub fn parse(printed: &[u8]) -> Result<Self, SettingsError> {
        let text = String::from_utf8_lossy(printed);
        let mut words = text.split_terminator('\0');
        let mut found = Self::default();
        while let Some(scope) = words.next() {
            let key = words.next().ok_or(SettingsError)?;
            let own = match scope {
                "local" | "worktree" => true,
                "system" | "global" | "command" | "unknown" => false,
                _ => return Err(SettingsError),
            };
            found.note(own, key);
        }
        Ok(found)
    }

    fn note(&mut self, own: bool, key: &str) {
        let Some((section, rest)) = key.split_once('.') else {
            return;
        };
        // What stands between the first and the last dot may hold any character.
        let (name, variable) = rest.rsplit_once('.').unwrap_or(("", rest));
        if section == "filter" {
            self.filters.insert(name.to_owned());
        }
        if section == "submodule" && !name.is_empty() {
            self.submodules.insert(name.to_owned());
        }
        if own && starts_a_program(section, name, variable) {
            self.programs.insert(key.to_owned());
        }
    }
}

/// Whether git, or one of the helpers it starts, takes the value for a command.
fn starts_a_program(section: &str, name: &str, variable: &str) -> bool {
    match section {
        "filter" => matches!(variable, "clean" | "smudge" | "process"),
        "core" => matches!(
            variable,
            "sshcommand" | "gitproxy" | "askpass" | "alternaterefscommand"
        ),
        "credential" => variable == "helper",
        "gpg" => matches!(variable, "program" | "defaultkeycommand"),
        "remote" => matches!(variable, "uploadpack" | "receivepack" | "vcs"),
        "merge" => variable == "driver",
        // Read by the filter of large files, which the user's own settings start.
        "lfs" => {
            name.starts_with("extension.")
                || name.starts_with("customtransfer.")
                || variable == "standalonetransferagent"
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> OwnSettings {
        let mut text = String::new();
        for (scope, key) in pairs {
            text.extend([scope, "\0", key, "\0"]);
        }
        OwnSettings::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn only_programs_of_the_repository_itself_are_its_own() {
        let keys = [
            "core.sshcommand",
            "credential.https://x.y.helper",
            "filter.lfs.process",
            "gpg.ssh.program",
            "lfs.extension.x.clean",
            "lfs.standalonetransferagent",
            "remote.origin.uploadpack",
        ];
        let own: Vec<_> = keys.iter().map(|key| ("local", *key)).collect();
        assert_eq!(parse(&own).programs.len(), keys.len());
        let users: Vec<_> = keys.iter().map(|key| ("global", *key)).collect();
        assert!(parse(&users).programs.is_empty());
        let harmless = [
            ("local", "remote.origin.url"),
            ("local", "core.bare"),
            ("worktree", "user.name"),
            ("local", "filter.x.required"),
        ];
        assert!(parse(&harmless).programs.is_empty());
    }

    #[test]
    fn a_filter_may_be_called_anything() {
        let found = parse(&[
            ("local", "filter.a=b.c d.clean"),
            ("global", "filter.lfs.process"),
        ]);
        let names: Vec<_> = found.filters.iter().map(String::as_str).collect();
        assert_eq!(names, ["a=b.c d", "lfs"]);
    }

    #[test]
    fn what_is_no_list_of_settings_is_not_taken_for_an_empty_one() {
        for text in ["local\0", "core.bare\0local\0", "local\tcore.bare\n"] {
            assert_eq!(
                OwnSettings::parse(text.as_bytes()),
                Err(SettingsError),
                "{text:?}"
            );
        }
        assert_eq!(OwnSettings::parse(b""), Ok(OwnSettings::default()));
    }
}
