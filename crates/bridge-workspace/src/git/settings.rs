//! Which settings of a repository itself are not known to be harmless.

use std::collections::BTreeSet;

use thiserror::Error;

/// What was read of the settings in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnSettings {
    /// Names of all filters, whoever defined them.
    pub filters: BTreeSet<String>,
    /// Names of submodules that something is set for.
    pub submodules: BTreeSet<String>,
    /// Settings of the repository itself that are not known to be harmless, whole keys: they may
    /// name a program, a file to write, or somebody to send a login to.
    pub doubtful: BTreeSet<String>,
}

/// Git printed something else than a list of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the settings of the repository cannot be read")]
pub struct SettingsError;

impl OwnSettings {
    /// Reads what [`GitCommand::list_settings`](super::GitCommand::list_settings) printed: scope
    /// and key by turns, each closed by NUL.
    pub fn parse(printed: &[u8]) -> Result<Self, SettingsError> {
        // A name that is not UTF-8 could not be switched off by it.
        let text = str::from_utf8(printed).map_err(|_| SettingsError)?;
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
        if own && !is_harmless(section, name, variable) {
            self.doubtful.insert(key.to_owned());
        }
    }
}

/// Whether a setting of a repository itself can do no harm when something is changed there.
fn is_harmless(section: &str, name: &str, variable: &str) -> bool {
    let plain = name.is_empty();
    match section {
        "core" => {
            plain
                && matches!(
                    variable,
                    "abbrev"
                        | "autocrlf"
                        | "bare"
                        | "bigfilethreshold"
                        | "commentchar"
                        | "compression"
                        | "eol"
                        | "filemode"
                        | "fscache"
                        | "hidedotfiles"
                        // Overridden where the repository is not trusted.
                        | "hookspath"
                        | "ignorecase"
                        | "ignorestat"
                        | "logallrefupdates"
                        | "longpaths"
                        | "precomposeunicode"
                        | "preloadindex"
                        | "quotepath"
                        | "repositoryformatversion"
                        | "safecrlf"
                        | "sharedrepository"
                        | "splitindex"
                        | "symlinks"
                        | "trustctime"
                        | "untrackedcache"
                        | "whitespace"
                )
        }
        "remote" => matches!(
            variable,
            "url" | "pushurl" | "fetch" | "prune" | "tagopt" | "pushdefault" | "gh-resolved"
        ),
        "branch" => {
            matches!(
                variable,
                "remote" | "pushremote" | "merge" | "rebase" | "description" | "sort"
            ) || variable.ends_with("merge-base")
        }
        "user" => matches!(variable, "name" | "email" | "useconfigonly"),
        "submodule" => matches!(variable, "url" | "active" | "recurse" | "ignore" | "path"),
        "filter" => variable == "required",
        "extensions" => matches!(
            variable,
            "worktreeconfig" | "objectformat" | "refstorage" | "noop" | "preciousobjects"
        ),
        "lfs" => plain && variable == "repositoryformatversion",
        "commit" => matches!(variable, "gpgsign" | "verbose" | "cleanup"),
        "tag" => matches!(variable, "gpgsign" | "sort"),
        "diff" => {
            plain
                && matches!(
                    variable,
                    "renames" | "algorithm" | "renamelimit" | "submodule" | "ignoresubmodules"
                )
        }
        "merge" => plain && matches!(variable, "conflictstyle" | "ff" | "renames"),
        "push" => matches!(
            variable,
            "default" | "autosetupremote" | "followtags" | "recursesubmodules"
        ),
        "pull" => matches!(variable, "rebase" | "ff"),
        "gc" => matches!(variable, "auto" | "autodetach"),
        "advice" | "color" | "column" | "gui" | "index" | "init" | "pack" | "rebase" | "rerere"
        | "stash" | "status" | "feature" => plain,
        "fetch" => matches!(
            variable,
            "prune" | "prunetags" | "parallel" | "recursesubmodules"
        ),
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
    fn settings_of_the_repository_itself_are_doubtful_unless_they_are_known() {
        let keys = [
            "core.sshcommand",
            "credential.https://x.y.helper",
            "filter.lfs.process",
            "gpg.ssh.program",
            "lfs.extension.x.clean",
            "lfs.standalonetransferagent",
            "remote.origin.uploadpack",
            "http.cookiefile",
            "http.https://x.y.proxy",
            "remote.origin.proxy",
            "remote.origin.mirror",
            "hook.a.command",
            "submodule.a.update",
            "url.https://evil.example/.insteadof",
            "include.path",
            "something.new",
        ];
        let own: Vec<_> = keys.iter().map(|key| ("local", *key)).collect();
        assert_eq!(parse(&own).doubtful.len(), keys.len());
        let users: Vec<_> = keys.iter().map(|key| ("global", *key)).collect();
        assert!(parse(&users).doubtful.is_empty());
        let harmless = [
            ("local", "remote.origin.url"),
            ("local", "core.bare"),
            ("worktree", "user.name"),
            ("local", "filter.x.required"),
        ];
        assert!(parse(&harmless).doubtful.is_empty());
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
        let texts: [&[u8]; 4] = [
            b"local\0",
            b"core.bare\0local\0",
            b"local\tcore.bare\n",
            b"local\0filter.\xff.clean\0",
        ];
        for text in texts {
            assert_eq!(OwnSettings::parse(text), Err(SettingsError), "{text:?}");
        }
        assert_eq!(OwnSettings::parse(b""), Ok(OwnSettings::default()));
    }
}
