//! Which variables of this process an agent gets to see. A pure function of the variables given.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fmt,
};

/// The variables a program is started with. Values are never printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Takes from `host` (usually [`std::env::vars_os`]) what `allow` names, and adds
    /// `NO_COLOR=1`.
    ///
    /// Variables of the bridge itself never pass, even when listed: `PAIRING_TOKEN`, `SAAS_URL`,
    /// `CTRLNODE_*` and `BRIDGE_*`.
    pub fn from_host(
        host: impl IntoIterator<Item = (OsString, OsString)>,
        allow: &AllowList,
    ) -> Self {
        let mut chosen: BTreeMap<_, _> = host
            .into_iter()
            .filter(|(name, _)| allow.passes(name))
            .collect();
        chosen.insert("NO_COLOR".into(), "1".into());
        Self(chosen)
    }

    /// Sets a variable, whatever it was before.
    #[must_use]
    pub fn set(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// The value of a variable.
    pub fn value(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.0.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// All variables, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")?;
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Names of variables that may pass, compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowList {
    names: BTreeSet<String>,
    prefixes: Vec<String>,
}

impl AllowList {
    /// What every program needs to work at all: home, search path, language, time zone, temporary
    /// folder, terminal type, `XDG_*`, proxies and certificates, and the base variables of
    /// Windows. No credentials of any agent.
    pub fn base() -> Self {
        Self {
            names: BTreeSet::new(),
            prefixes: Vec::new(),
        }
        .with(BASE_NAMES.iter().copied())
        .with_prefixes(BASE_PREFIXES.iter().copied())
    }

    /// Lets these names pass too; the only way for a credential, e.g. `ANTHROPIC_API_KEY` for the
    /// agent it belongs to.
    #[must_use]
    pub fn with<S: AsRef<str>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.names.extend(
            names
                .into_iter()
                .map(|name| name.as_ref().to_ascii_uppercase()),
        );
        self
    }

    /// Lets all names pass that begin so, except those that look like a credential.
    #[must_use]
    pub fn with_prefixes<S: AsRef<str>>(mut self, prefixes: impl IntoIterator<Item = S>) -> Self {
        self.prefixes.extend(
            prefixes
                .into_iter()
                .map(|prefix| prefix.as_ref().to_ascii_uppercase()),
        );
        self
    }

    /// What passes beside [`AllowList::base`], in order: whole names, then beginnings of names with
    /// a `*` behind.
    pub fn beyond_base(&self) -> Vec<String> {
        let base = Self::base();
        let names = self.names.difference(&base.names).cloned();
        let prefixes = self.prefixes.iter();
        let prefixes = prefixes.filter(|prefix| !base.prefixes.contains(prefix));
        names
            .chain(prefixes.map(|prefix| format!("{prefix}*")))
            .collect()
    }

    fn passes(&self, name: &OsStr) -> bool {
        let Some(name) = name.to_str().map(str::to_ascii_uppercase) else {
            return false;
        };
        if belongs_to_the_bridge(&name) {
            return false;
        }
        self.names.contains(&name)
            || (!looks_like_a_credential(&name)
                && self.prefixes.iter().any(|prefix| name.starts_with(prefix)))
    }
}

fn belongs_to_the_bridge(name: &str) -> bool {
    matches!(name, "PAIRING_TOKEN" | "SAAS_URL")
        || name.starts_with("CTRLNODE_")
        || name.starts_with("BRIDGE_")
}

/// Whether a variable of this name, in upper case, may hold a secret.
pub fn looks_like_a_credential(name: &str) -> bool {
    CREDENTIAL_WORDS.iter().any(|word| name.contains(word))
}

const BASE_NAMES: [&str; 42] = [
    "HOME",
    "PATH",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "TERM",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    // Windows: without these most programs do not start, or do not find the user's folders.
    "ALLUSERSPROFILE",
    "APPDATA",
    "COMMONPROGRAMFILES",
    "COMMONPROGRAMFILES(X86)",
    "COMPUTERNAME",
    "COMSPEC",
    "HOMEDRIVE",
    "HOMEPATH",
    "LOCALAPPDATA",
    "NUMBER_OF_PROCESSORS",
    "OS",
    "PATHEXT",
    "PROCESSOR_ARCHITECTURE",
    "PROGRAMDATA",
    "PROGRAMFILES",
    "PROGRAMFILES(X86)",
    "PSMODULEPATH",
    "PUBLIC",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "TMP",
    "USERNAME",
    "USERPROFILE",
    "WINDIR",
];

const BASE_PREFIXES: [&str; 2] = ["LC_", "XDG_"];

/// A name with one of these words passes only by its whole name.
const CREDENTIAL_WORDS: [&str; 7] = [
    "KEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "PASSWD",
    "CREDENTIAL",
    "AUTH",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn names(host: &[&str], allow: &AllowList) -> Vec<String> {
        let host = host
            .iter()
            .map(|name| (OsString::from(name), OsString::from("value")));
        let chosen = Environment::from_host(host, allow);
        chosen
            .iter()
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn the_pairing_token_and_the_bridges_own_settings_never_pass_even_when_listed() {
        let own = [
            "PAIRING_TOKEN",
            "SAAS_URL",
            "CTRLNODE_RUN",
            "CTRLNODE_ROOT",
            "BRIDGE_LOG",
        ];
        let greedy = AllowList::base().with(own).with_prefixes([""]);
        assert_eq!(names(&own, &greedy), ["NO_COLOR"]);
        assert_eq!(
            names(&["pairing_token", "Bridge_Log"], &greedy),
            ["NO_COLOR"]
        );
    }

    #[test]
    fn a_key_passes_only_to_the_agent_that_names_it() {
        let host = [
            "ANTHROPIC_API_KEY",
            "GEMINI_API_KEY",
            "OPENAI_API_KEY",
            "GH_TOKEN",
        ];
        let allow = AllowList::base()
            .with(["GEMINI_API_KEY"])
            .with_prefixes(["ANTHROPIC_", "G"]);
        assert_eq!(names(&host, &allow), ["GEMINI_API_KEY", "NO_COLOR"]);
    }

    #[test]
    fn what_every_program_needs_passes_and_nothing_else() {
        let host = [
            "HOME",
            "PATH",
            "LC_ALL",
            "XDG_CACHE_HOME",
            "https_proxy",
            "AWS_PROFILE",
            "EDITOR",
        ];
        assert_eq!(
            names(&host, &AllowList::base()),
            [
                "HOME",
                "LC_ALL",
                "NO_COLOR",
                "PATH",
                "XDG_CACHE_HOME",
                "https_proxy"
            ]
        );
    }

    #[test]
    fn prefixes_let_settings_pass() {
        let allow = AllowList::base().with_prefixes(["CLAUDE_CODE_"]);
        let host = ["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_OAUTH_TOKEN"];
        assert_eq!(
            names(&host, &allow),
            ["CLAUDE_CODE_USE_BEDROCK", "NO_COLOR"]
        );
    }

    #[test]
    fn values_are_never_printed() {
        let environment = Environment::default().set("ANTHROPIC_API_KEY", "hush");
        let printed = format!("{environment:?}");
        assert!(
            printed.contains("ANTHROPIC_API_KEY") && !printed.contains("hush"),
            "{printed}"
        );
    }
}
