//! A workspace with a home of its own, and git as a person would use it there.

#![expect(
    clippy::disallowed_methods,
    reason = "tests prepare repositories with git itself"
)]

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::Arc,
};

use bridge_proto::model::{GitFault, GitFile, GitOperation, GitReply, GitRequest, GitStatus};
use bridge_providers::host::Host;
use bridge_runtime::git::{Limits, Tools, answer};
use bridge_workspace::{ContentsPolicy, Workspace};
use tempfile::TempDir;

pub(crate) struct Stage {
    folder: TempDir,
    pub(crate) tools: Tools,
}

impl Stage {
    /// With the contents policy under which everything may be seen.
    pub(crate) fn new() -> Self {
        Self::under(ContentsPolicy::Workspace)
    }

    pub(crate) fn under(policy: ContentsPolicy) -> Self {
        let folder = TempDir::with_prefix("ctrlnode-git-").unwrap();
        let home = folder.path().join("home");
        fs::create_dir_all(home.join("base")).unwrap();
        fs::write(
            home.join(".gitconfig"),
            "[user]\nname = Test\nemail = test@example.org\n[init]\ndefaultBranch = main\n",
        )
        .unwrap();
        let workspace = Workspace::open(&home.join("base"), None).unwrap();
        let tools = Tools {
            workspace: Arc::new(workspace.with_policy(policy)),
            host: Host::new(
                variables(&home, USUAL_PATH)
                    .into_iter()
                    .chain(STRAY.map(|(name, value)| (name.into(), value.into()))),
            ),
            trusted: Arc::default(),
            limits: Limits::default(),
        };
        Self { folder, tools }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("home")
    }

    pub(crate) fn base(&self) -> PathBuf {
        self.home().join("base")
    }

    /// A folder outside of the workspace.
    pub(crate) fn outside(&self) -> PathBuf {
        let outside = self.home().join("outside");
        fs::create_dir_all(&outside).unwrap();
        outside
    }

    /// A repository with one commit of `a.txt`.
    pub(crate) fn repository(&self, name: &str) -> PathBuf {
        let path = self.base().join(name);
        self.make_repository(&path);
        path
    }

    pub(crate) fn make_repository(&self, path: &Path) {
        fs::create_dir_all(path).unwrap();
        self.git(path, &["init", "-q"]);
        fs::write(path.join("a.txt"), "one\ntwo\n").unwrap();
        self.git(path, &["add", "-A"]);
        self.git(path, &["commit", "-qm", "first"]);
    }

    /// What a person does. Fails the test when git fails.
    pub(crate) fn git(&self, at: &Path, args: &[&str]) -> String {
        let output = self.try_git(at, args);
        assert!(output.status.success(), "git {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn try_git(&self, at: &Path, args: &[&str]) -> Output {
        Command::new("git")
            .args(args)
            .current_dir(at)
            .env_clear()
            .envs(variables(&self.home(), USUAL_PATH))
            .output()
            .unwrap()
    }

    /// Trusts a repository.
    pub(crate) fn trust(&mut self, repository: &Path) {
        self.tools.trusted = Arc::new([repository.canonicalize().unwrap()]);
    }

    /// Puts a program called `git` in place of the real one.
    pub(crate) fn fake_git(&mut self, script: &str) {
        let folder = self.home().join("bin");
        fs::create_dir_all(&folder).unwrap();
        write_program(&folder.join("git"), script);
        let path = format!("{}:/usr/bin:/bin", folder.display());
        self.tools.host = Host::new(variables(&self.home(), &path));
    }

    pub(crate) fn without_git(&mut self) {
        self.tools.host = Host::new(variables(&self.home(), ""));
    }

    pub(crate) async fn try_status(&self, path: &str) -> Result<Option<GitStatus>, GitFault> {
        let request = GitRequest::Status { path: path.into() };
        match answer(&self.tools, &request).await {
            GitReply::Status { status } => status,
            other @ (GitReply::Diff { .. } | GitReply::Operation { .. }) => panic!("{other:?}"),
        }
    }

    pub(crate) async fn status(&self, path: &str) -> GitStatus {
        self.try_status(path).await.unwrap().unwrap()
    }

    pub(crate) async fn try_diff(
        &self,
        path: &str,
        file: &str,
        untracked: bool,
    ) -> Result<String, GitFault> {
        let request = GitRequest::Diff {
            path: path.into(),
            file: file.into(),
            untracked,
        };
        match answer(&self.tools, &request).await {
            GitReply::Diff { file: named, diff } => {
                assert_eq!(named, file, "the name is echoed as received");
                diff
            }
            other @ (GitReply::Status { .. } | GitReply::Operation { .. }) => panic!("{other:?}"),
        }
    }

    pub(crate) async fn diff(&self, path: &str, file: &GitFile) -> String {
        self.try_diff(path, &file.path, file.untracked())
            .await
            .unwrap()
    }

    pub(crate) async fn operate(
        &self,
        path: &str,
        operation: GitOperation,
    ) -> Result<String, GitFault> {
        let request = GitRequest::Operation {
            path: path.into(),
            operation,
        };
        match answer(&self.tools, &request).await {
            GitReply::Operation { output, .. } => output,
            other @ (GitReply::Status { .. } | GitReply::Diff { .. }) => panic!("{other:?}"),
        }
    }

    pub(crate) async fn commit(&self, path: &str, message: &str) -> Result<String, GitFault> {
        let message = message.into();
        self.operate(path, GitOperation::Commit { message }).await
    }

    pub(crate) async fn checkout(&self, path: &str, branch: &str) -> Result<String, GitFault> {
        let branch = branch.into();
        self.operate(path, GitOperation::Checkout { branch }).await
    }
}

const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Variables of the bridge that must not reach git: each would break every test here.
const STRAY: [(&str, &str); 4] = [
    ("GIT_DIR", "/nowhere"),
    ("GIT_WORK_TREE", "/nowhere"),
    ("GIT_INDEX_FILE", "/nowhere"),
    ("GIT_EXTERNAL_DIFF", "false"),
];

fn variables(home: &Path, path: &str) -> Vec<(OsString, OsString)> {
    [
        ("HOME", home.as_os_str()),
        ("PATH", path.as_ref()),
        ("GIT_CONFIG_NOSYSTEM", "1".as_ref()),
    ]
    .into_iter()
    .map(|(name, value)| (name.into(), value.to_owned()))
    .collect()
}

pub(crate) fn write_program(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The file of this name among those that differ.
pub(crate) fn named<'a>(status: &'a GitStatus, path: &str) -> &'a GitFile {
    status
        .files
        .iter()
        .find(|file| file.path == path)
        .unwrap_or_else(|| panic!("{path:?} is not in {:?}", status.files))
}

/// A mark that a program leaves when it runs.
pub(crate) struct Canary(PathBuf);

impl Canary {
    pub(crate) fn new(stage: &Stage) -> Self {
        Self(stage.home().join("canary"))
    }

    /// A command of a shell that leaves the mark.
    pub(crate) fn command(&self) -> String {
        format!("touch '{}'", self.0.display())
    }

    /// A program that leaves the mark and passes its input on.
    pub(crate) fn filter(&self) -> String {
        format!("{}; cat", self.command())
    }

    pub(crate) fn program(&self, stage: &Stage) -> String {
        let path = stage.home().join("evil");
        write_program(&path, &self.command());
        path.display().to_string()
    }

    pub(crate) fn sings(&self) -> bool {
        self.0.exists()
    }

    pub(crate) fn assert_silent(&self, what: &str) {
        assert!(!self.sings(), "{what} started a program");
    }
}
