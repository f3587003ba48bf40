//! The commands of git, with everything that keeps a repository from starting programs.

use std::{ffi::OsString, path::PathBuf};

use super::{BranchName, GitPlace, OwnSettings, Submodules, TrackedFile, WorkTree};

/// One start of git.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitCommand {
    /// Its working directory.
    pub directory: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables that are set for it, whatever they were.
    pub env: Vec<(OsString, OsString)>,
    /// Names of the user's variables that it may see beside those of every program.
    pub allow: &'static [&'static str],
}

/// How far a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It looks. Nothing is written, not even an index that was refreshed; nothing is fetched.
    Look,
    /// It changes the repository or talks with a remote one.
    Change,
}

/// Whether what a repository brings with it may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks {
    /// Its owner trusts it: hooks, helpers and protocols as they are set.
    AsSet,
    /// No hooks, and only the protocols that start no program of this machine but ssh.
    Off,
}

impl GitCommand {
    /// Where the repository around a place has its top and its objects; for
    /// [`Workspace::work_tree`](crate::Workspace::work_tree).
    pub fn find_top(place: &GitPlace) -> Self {
        let command = Self::new(place.directory.clone(), place, Reach::Look, Hooks::Off);
        command.with([
            "rev-parse",
            "--path-format=absolute",
            "--show-toplevel",
            "--absolute-git-dir",
            "--git-common-dir",
        ])
    }

    /// Which settings are in force, by name and origin; for [`OwnSettings::parse`].
    pub fn list_settings(place: &GitPlace, tree: &WorkTree) -> Self {
        Self::look(place, tree).with(["config", "--list", "--show-scope", "--name-only", "-z"])
    }

    /// The state of the working tree; for [`Porcelain::parse`](super::Porcelain::parse).
    pub fn status(place: &GitPlace, tree: &WorkTree) -> Self {
        Self::look(place, tree).with([
            "status",
            "--porcelain=v2",
            "--branch",
            "-z",
            "--untracked-files=all",
            "--ignored=no",
            "--ignore-submodules=dirty",
            "--find-renames",
            "--ahead-behind",
        ])
    }

    /// Lines added and deleted by file, in the index or in the working tree; for
    /// [`LineCounts::parse`](super::LineCounts::parse).
    pub fn count_lines(place: &GitPlace, tree: &WorkTree, staged: bool) -> Self {
        Self::look(place, tree)
            .with(["diff", "--numstat", "-z"])
            .with(staged.then_some("--cached"))
            .with(PLAIN_DIFF)
            .with(["--"])
    }

    /// Local branches, one a line.
    pub fn branches(place: &GitPlace, tree: &WorkTree) -> Self {
        Self::look(place, tree).with([
            "for-each-ref",
            "--format=%(refname:lstrip=2)",
            "refs/heads/",
        ])
    }

    /// How a file differs, in the index or in the working tree. A folder of this name is left out.
    pub fn diff(place: &GitPlace, tree: &WorkTree, file: &TrackedFile, staged: bool) -> Self {
        Self::look(place, tree)
            .with(["diff"])
            .with(staged.then_some("--cached"))
            .with(PLAIN_DIFF)
            .with(["--"])
            .with([
                format!(":(top,literal){}", file.name),
                format!(":(top,exclude,glob){}/**", escaped(&file.name)),
            ])
    }

    /// All of a file that git does not know. Its exit code is 1 where there is something.
    pub fn diff_untracked(place: &GitPlace, tree: &WorkTree, file: &TrackedFile) -> Self {
        // A single dash would be standard input.
        let dash = if file.name == "-" { "./" } else { "" };
        Self::look(place, tree)
            .with(["diff", "--no-index"])
            .with(PLAIN_DIFF)
            .with(["--", "/dev/null"])
            .with([format!("{dash}{}", file.name)])
    }

    /// Makes a repository.
    pub fn init(place: &GitPlace) -> Self {
        Self::new(place.directory.clone(), place, Reach::Change, Hooks::Off).with(["init"])
    }

    /// Everything in the index with its mode; for [`Submodules::note_links`].
    pub fn list_index(place: &GitPlace, tree: &WorkTree) -> Self {
        Self::look(place, tree).with(["ls-files", "--stage", "-z"])
    }

    /// The settings of submodules that the repository brings; for [`Submodules::note_names`].
    pub fn list_submodules(place: &GitPlace, tree: &WorkTree) -> Self {
        Self::look(place, tree).with([
            "config",
            "--file",
            ".gitmodules",
            "--list",
            "--name-only",
            "-z",
        ])
    }

    /// Stages everything. What is a repository of its own is left out: this command enters those.
    pub fn add_all(place: &GitPlace, tree: &WorkTree, hooks: Hooks, inside: &Submodules) -> Self {
        let left_out = inside.links.iter();
        Self::change(place, tree, hooks)
            .with(["add", "--all", "--", ":(top)"])
            .with(left_out.map(|link| format!(":(top,exclude,literal){link}")))
    }

    /// Stages which commit the repositories inside are at, without entering them.
    pub fn add_links(place: &GitPlace, tree: &WorkTree, hooks: Hooks, inside: &Submodules) -> Self {
        Self::change(place, tree, hooks)
            .with(["update-index", "--add", "--remove", "--"])
            .with(&inside.links)
    }

    /// Commits what is staged.
    pub fn commit(place: &GitPlace, tree: &WorkTree, hooks: Hooks, message: &str) -> Self {
        Self::change(place, tree, hooks)
            .with(["commit", "--no-status"])
            .with([format!("--message={message}")])
            .with(["--"])
    }

    /// Fetches.
    pub fn fetch(place: &GitPlace, tree: &WorkTree, hooks: Hooks) -> Self {
        Self::change(place, tree, hooks).with(["fetch", "--prune", "--no-recurse-submodules"])
    }

    /// Fetches and goes forward.
    pub fn pull(place: &GitPlace, tree: &WorkTree, hooks: Hooks) -> Self {
        Self::change(place, tree, hooks).with([
            "pull",
            "--ff-only",
            "--no-rebase",
            "--no-recurse-submodules",
        ])
    }

    /// Pushes.
    pub fn push(place: &GitPlace, tree: &WorkTree, hooks: Hooks) -> Self {
        Self::change(place, tree, hooks).with(["push", "--recurse-submodules=no"])
    }

    /// Switches to a branch.
    pub fn checkout(place: &GitPlace, tree: &WorkTree, hooks: Hooks, branch: &BranchName) -> Self {
        Self::change(place, tree, hooks)
            .with(["checkout", "--no-recurse-submodules"])
            .with([branch.as_str(), "--"])
    }

    /// Makes a branch and switches to it.
    pub fn create_branch(
        place: &GitPlace,
        tree: &WorkTree,
        hooks: Hooks,
        branch: &BranchName,
        base: Option<&BranchName>,
    ) -> Self {
        Self::change(place, tree, hooks)
            .with(["checkout", "--no-recurse-submodules", "-b"])
            .with([branch.as_str()])
            .with(base.map(BranchName::as_str))
            .with(["--"])
    }

    /// Switches off what the settings say of single submodules, so that none of them is entered.
    #[must_use]
    pub fn without_submodules(self, inside: &Submodules) -> Self {
        let ignored = |name| (format!("submodule.{name}.ignore"), "dirty");
        self.override_settings(inside.names.iter().map(ignored))
    }

    /// Switches every filter off, whoever defined it.
    #[must_use]
    pub fn without_filters(self, settings: &OwnSettings) -> Self {
        let off = settings.filters.iter().flat_map(|filter| {
            [
                ("clean", ""),
                ("smudge", ""),
                ("process", ""),
                ("required", "false"),
            ]
            .map(|(variable, value)| (format!("filter.{filter}.{variable}"), value))
        });
        self.override_settings(off)
    }

    /// Not as arguments: there the first `=` in a name would end the key.
    fn override_settings<'a>(
        mut self,
        settings: impl IntoIterator<Item = (String, &'a str)>,
    ) -> Self {
        let mut count = 0_usize;
        for (key, value) in settings {
            self.set(format!("GIT_CONFIG_KEY_{count}"), key);
            self.set(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        self.set("GIT_CONFIG_COUNT", count.to_string());
        self
    }

    fn look(place: &GitPlace, tree: &WorkTree) -> Self {
        Self::new(tree.top().to_owned(), place, Reach::Look, Hooks::Off)
    }

    fn change(place: &GitPlace, tree: &WorkTree, hooks: Hooks) -> Self {
        Self::new(tree.top().to_owned(), place, Reach::Change, hooks)
    }

    fn new(directory: PathBuf, place: &GitPlace, reach: Reach, hooks: Hooks) -> Self {
        let mut command = Self {
            directory,
            args: vec!["--no-pager".into()],
            env: Vec::new(),
            allow: match reach {
                Reach::Look => &LOOKING,
                Reach::Change => &CHANGING,
            },
        };
        for setting in ALWAYS {
            command = command.with(["-c", setting]);
        }
        if hooks == Hooks::Off {
            command = command.with(["-c", NO_HOOKS]);
        }
        for (name, value) in NEVER_ASK {
            command.set(name, value);
        }
        if let Some(ceiling) = &place.ceiling {
            command.set("GIT_CEILING_DIRECTORIES", ceiling);
        }
        match (reach, hooks) {
            (Reach::Look, Hooks::AsSet | Hooks::Off) => {
                command = command.with(["-c", LARGE_IS_BINARY]);
                command.set("GIT_OPTIONAL_LOCKS", "0");
                command.set("GIT_NO_LAZY_FETCH", "1");
                command.set("GIT_ALLOW_PROTOCOL", "none");
                command.set("LC_ALL", "C");
            }
            (Reach::Change, Hooks::Off) => command.set("GIT_ALLOW_PROTOCOL", PROTOCOLS),
            (Reach::Change, Hooks::AsSet) => {}
        }
        command
    }

    fn with<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.env.push((name.into(), value.into()));
    }
}

/// The name as a pattern that fits it alone.
fn escaped(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        if "*?[]\\".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// A text of git without the login in an address, which a remote may have.
pub fn without_logins(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        kept.push_str(before);
        kept.push_str("://");
        let ends = |c: char| c == '/' || c.is_whitespace() || "'\"<>".contains(c);
        let (host, _) = after.split_once(ends).unwrap_or((after, ""));
        rest = match host.rsplit_once('@') {
            Some((login, _)) => {
                kept.push_str("***");
                after.strip_prefix(login).unwrap_or(after)
            }
            None => after,
        };
    }
    kept.push_str(rest);
    kept
}

/// Holds for every command: nothing is started in the background or beside, no submodule entered.
const ALWAYS: [&str; 12] = [
    "core.fsmonitor=false",
    "core.pager=cat",
    "core.askPass=",
    "core.quotePath=false",
    "credential.interactive=false",
    "safe.bareRepository=explicit",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    "diff.ignoreSubmodules=dirty",
];

/// Nothing is below this file.
const NO_HOOKS: &str = "core.hooksPath=/dev/null";

/// Larger files are compared without being read whole; their diff would be refused anyway.
const LARGE_IS_BINARY: &str = "core.bigFileThreshold=32m";

/// No program but git makes a diff, and no setting changes its form.
const PLAIN_DIFF: [&str; 9] = [
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--ignore-submodules=dirty",
    "--submodule=short",
    "--no-relative",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--find-renames",
];

/// Nobody is there to answer.
const NEVER_ASK: [(&str, &str); 8] = [
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", ""),
    ("SSH_ASKPASS", ""),
    ("SSH_ASKPASS_REQUIRE", "never"),
    ("GCM_INTERACTIVE", "never"),
    ("GIT_PAGER", "cat"),
    ("GIT_EDITOR", ":"),
    ("GIT_MERGE_AUTOEDIT", "no"),
];

/// Not `file`: a push to a folder runs the hooks of whoever wrote that folder. Not `ext`, nor any
/// other helper: these are programs.
const PROTOCOLS: &str = "https:http:ssh:git";

/// Where the user's own settings are.
const LOOKING: [&str; 3] = [
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
];

/// The same, who the user is, and how the user reaches remotes.
const CHANGING: [&str; 16] = [
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_SYSTEM",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_SSH_VARIANT",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "GNUPGHOME",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "DBUS_SESSION_BUS_ADDRESS",
];
