//! What providers may know of the machine: the variables, the home folder and where programs
//! usually are. Handed in once, so that no provider reads the process' own environment.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

use crate::{
    find::find_program,
    process::{AllowList, Environment},
};

/// The machine as providers see it. Values of variables are never printed.
#[derive(Clone, Default)]
pub struct Host {
    vars: BTreeMap<OsString, OsString>,
}

impl Host {
    /// From the variables of this process, usually `std::env::vars_os()`.
    pub fn new(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self {
            vars: vars.into_iter().collect(),
        }
    }

    /// The value of a variable; `None` if it is unset, empty or not UTF-8.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.vars
            .get(OsStr::new(name))?
            .to_str()
            .filter(|value| !value.is_empty())
    }

    /// Whether a variable says yes: `true` or `1`.
    pub fn is_on(&self, name: &str) -> bool {
        self.value(name)
            .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"))
    }

    /// The home folder: `HOME`, or `USERPROFILE`; absolute.
    pub fn home(&self) -> Option<&Path> {
        let home = self.value("HOME").or_else(|| self.value("USERPROFILE"))?;
        Some(Path::new(home)).filter(|home| home.is_absolute())
    }

    /// A program by its names: in `PATH`, then where installers of tools usually put programs,
    /// then in `extra`.
    pub fn find_program(&self, names: &[&str], extra: &[PathBuf]) -> Option<PathBuf> {
        let mut folders: Vec<PathBuf> = Vec::new();
        if let Some(home) = self.home() {
            folders.extend(HOME_FOLDERS.iter().map(|folder| home.join(folder)));
        }
        folders.extend(SYSTEM_FOLDERS.iter().map(PathBuf::from));
        folders.extend(extra.iter().cloned());
        let path = self.vars.get(OsStr::new("PATH")).map(OsString::as_os_str);
        find_program(names, &folders, path)
    }

    /// A program by its name in `PATH` alone.
    pub fn find_in_path(&self, name: &str) -> Option<PathBuf> {
        let path = self.vars.get(OsStr::new("PATH")).map(OsString::as_os_str);
        find_program(&[name], &[], path)
    }

    /// The variables a program is started with.
    pub fn environment(&self, allow: &AllowList) -> Environment {
        Environment::from_host(self.vars.clone(), allow)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")?;
        f.debug_set().entries(self.vars.keys()).finish()
    }
}

const HOME_FOLDERS: [&str; 7] = [
    ".local/bin",
    ".npm-global/bin",
    ".bun/bin",
    ".volta/bin",
    ".local/share/pnpm",
    "bin",
    "AppData/Roaming/npm",
];
const SYSTEM_FOLDERS: [&str; 4] = [
    "/usr/local/bin",
    "/opt/homebrew/bin",
    "/usr/bin",
    "/home/linuxbrew/.linuxbrew/bin",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn host(vars: &[(&str, &str)]) -> Host {
        Host::new(vars.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn values_are_not_printed() {
        let host = host(&[("GEMINI_API_KEY", "hush"), ("HOME", "/home/u")]);
        assert_eq!(format!("{host:?}"), r#"Host{"GEMINI_API_KEY", "HOME"}"#);
    }

    #[test]
    fn an_empty_variable_and_a_relative_home_count_as_unset() {
        let host = host(&[("EMPTY", ""), ("HOME", "somewhere"), ("ON", "TRUE")]);
        assert_eq!((host.value("EMPTY"), host.home()), (None, None));
        assert!(host.is_on("ON") && !host.is_on("HOME") && !host.is_on("UNSET"));
    }
}
