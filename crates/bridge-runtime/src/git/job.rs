//! One request of git from beginning to end: which commands, one after another, and what the
//! answer is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bridge_proto::model::{GitFault, GitReply, GitRequest, GitStatus, GitStep};
use bridge_providers::{
    process::{AllowList, CaptureError, Captured, Launch, capture},
    provider::StartError,
};
use bridge_workspace::{
    ContentsPolicy, Workspace,
    git::{
        GitCommand, GitPlace, LineCounts, NoPlace, OwnSettings, Porcelain, WorkTree, without_logins,
    },
};

use super::Tools;

/// Carries out a request.
pub(super) async fn answer(tools: &Tools, request: &GitRequest) -> GitReply {
    let job = Job {
        tools,
        until: Instant::now() + tools.limits.time,
    };
    match request {
        GitRequest::Status { path } => GitReply::Status {
            status: job.status(path).await,
        },
        GitRequest::Diff {
            path,
            file,
            untracked,
        } => GitReply::Diff {
            file: file.clone(),
            diff: job.diff(path, file, *untracked).await,
        },
        GitRequest::Operation { path, operation } => GitReply::Operation {
            operation: operation.name().to_owned(),
            output: job.operation(path, operation).await,
        },
    }
}

/// The answer to a request that cannot be carried out.
pub(super) fn refused(request: &GitRequest, reason: &str) -> GitReply {
    match request {
        GitRequest::Status { .. } => GitReply::Status {
            status: Err(GitFault::StatusFailed(reason.to_owned())),
        },
        GitRequest::Diff { file, .. } => GitReply::Diff {
            file: file.clone(),
            diff: Err(GitFault::Said(reason.to_owned())),
        },
        GitRequest::Operation { operation, .. } => GitReply::Operation {
            operation: operation.name().to_owned(),
            output: Err(GitFault::Said(reason.to_owned())),
        },
    }
}

pub(super) struct Job<'a> {
    pub(super) tools: &'a Tools,
    /// All commands of a look together; a change has the time anew for each of its commands.
    until: Instant,
}

/// A repository, and what its own settings say.
pub(super) struct Opened {
    pub(super) place: GitPlace,
    pub(super) tree: WorkTree,
    pub(super) settings: OwnSettings,
    pub(super) trusted: bool,
}

impl Job<'_> {
    async fn status(&self, path: &str) -> Result<Option<GitStatus>, GitFault> {
        self.tools
            .workspace
            .git_is_kept()
            .map_err(|policy| GitFault::StatusFailed(kept(policy)))?;
        match self.look_at(path).await {
            Ok(status) => Ok(Some(status)),
            Err(GitFault::NotARepository) => Ok(None),
            Err(GitFault::Said(text)) => Err(GitFault::StatusFailed(text)),
            Err(other) => Err(other),
        }
    }

    async fn look_at(&self, path: &str) -> Result<GitStatus, GitFault> {
        let Opened {
            place,
            tree,
            settings,
            trusted,
        } = self.open(path).await?;
        let look = |command: GitCommand| {
            if trusted {
                command
            } else {
                command.without_filters(&settings)
            }
        };
        let printed = self.look(look(GitCommand::status(&place, &tree))).await?;
        if printed.is_empty() {
            return Err(GitFault::StatusEmpty);
        }
        let mut porcelain =
            Porcelain::parse(&printed).map_err(|error| GitFault::Said(error.to_string()))?;
        for (staged, differs) in [
            (false, porcelain.any_unstaged()),
            (true, porcelain.any_staged()),
        ] {
            if differs {
                let count = GitCommand::count_lines(&place, &tree, staged);
                porcelain.count(&LineCounts::parse(&self.look(look(count)).await?));
            }
        }
        let printed = self.look(GitCommand::branches(&place, &tree)).await?;
        let names = String::from_utf8_lossy(&printed);
        let current = porcelain.branch.clone();
        let others = names
            .lines()
            .filter(|name| !name.is_empty() && Some(*name) != current.as_deref());
        let branches = current.iter().map(String::as_str).chain(others);
        let status = GitStatus {
            root: tree.top().display().to_string(),
            branches: branches.map(str::to_owned).collect(),
            branch: porcelain.branch,
            upstream: porcelain.upstream,
            ahead: porcelain.ahead,
            behind: porcelain.behind,
            files: porcelain.files,
        };
        if length(&serde_json::to_string(&status)) > MAX_REPLY_BYTES {
            let count = status.files.len();
            let text = format!("{count} files differ, which is too much for one answer");
            return Err(GitFault::Said(text));
        }
        Ok(status)
    }

    async fn diff(&self, path: &str, file: &str, untracked: bool) -> Result<String, GitFault> {
        if file.trim().is_empty() {
            return Err(GitFault::MissingFile);
        }
        let Opened {
            place,
            tree,
            settings,
            trusted,
        } = self.open(path).await?;
        let file = self.blocking({
            let (tree, file) = (tree.clone(), file.to_owned());
            move |workspace| workspace.tracked_file(&tree, &file)
        });
        let file = file.await??;
        let look = |command: GitCommand| {
            if trusted {
                command
            } else {
                command.without_filters(&settings)
            }
        };
        let printed = if untracked {
            if !file.plain {
                return Ok(String::new());
            }
            if file.size > self.tools.limits.output as u64 {
                return Err(GitFault::Said(TOO_LARGE.to_owned()));
            }
            let command = look(GitCommand::diff_untracked(&place, &tree, &file));
            let said = self.run(command, self.left()?).await?;
            match said.code {
                Some(0 | 1) => said.stdout,
                Some(_) | None => return Err(spoken(&said, GitStep::Diff)),
            }
        } else {
            let diff = |staged| look(GitCommand::diff(&place, &tree, &file, staged));
            let unstaged = self.look(diff(false)).await?;
            if unstaged.is_empty() {
                self.look(diff(true)).await?
            } else {
                unstaged
            }
        };
        let diff = String::from_utf8_lossy(&printed).into_owned();
        if length(&serde_json::to_string(&diff)) > MAX_REPLY_BYTES {
            return Err(GitFault::Said(TOO_LARGE.to_owned()));
        }
        Ok(diff)
    }

    pub(super) async fn place(&self, path: &str) -> Result<Result<GitPlace, NoPlace>, GitFault> {
        let path = path.to_owned();
        self.blocking(move |workspace| workspace.git_place(&path))
            .await
    }

    async fn open(&self, path: &str) -> Result<Opened, GitFault> {
        match self.place(path).await? {
            Ok(place) => self.open_at(place).await,
            Err(NoPlace::Refused) => Err(GitFault::InvalidPath),
            Err(NoPlace::Missing) => Err(GitFault::NotARepository),
        }
    }

    pub(super) async fn open_at(&self, place: GitPlace) -> Result<Opened, GitFault> {
        let said = self.run(GitCommand::find_top(&place), self.left()?).await?;
        if said.code != Some(0) {
            return Err(GitFault::NotARepository);
        }
        let tree = self.blocking({
            let place = place.clone();
            move |workspace| workspace.work_tree(&place, &said.stdout)
        });
        let tree = tree.await?.ok_or(GitFault::NotARepository)?;
        let listed = self.look(GitCommand::list_settings(&place, &tree)).await?;
        let settings =
            OwnSettings::parse(&listed).map_err(|error| GitFault::Said(error.to_string()))?;
        let trusted = tree.is_one_of(&self.tools.trusted);
        Ok(Opened {
            place,
            tree,
            settings,
            trusted,
        })
    }

    /// Runs a command that only looks; all that it printed.
    pub(super) async fn look(&self, command: GitCommand) -> Result<Vec<u8>, GitFault> {
        let said = self.run(command, self.left()?).await?;
        if said.code == Some(0) {
            Ok(said.stdout)
        } else {
            Err(spoken(&said, GitStep::Diff))
        }
    }

    /// Runs a command that changes something; what it said, on standard output or else beside it.
    pub(super) async fn change(
        &self,
        command: GitCommand,
        step: GitStep,
    ) -> Result<String, GitFault> {
        let said = self.run(command, self.tools.limits.time).await?;
        if said.code != Some(0) {
            return Err(spoken(&said, step));
        }
        let stdout = String::from_utf8_lossy(&said.stdout);
        let text = if stdout.trim().is_empty() {
            said.stderr_tail.as_str()
        } else {
            stdout.as_ref()
        };
        Ok(shown(text))
    }

    pub(super) async fn run(
        &self,
        command: GitCommand,
        limit: Duration,
    ) -> Result<Captured, GitFault> {
        let program = self
            .tools
            .host
            .find_in_path("git")
            .ok_or(GitFault::NotAvailable)?;
        let allow = AllowList::base().with(command.allow);
        let mut env = self.tools.host.environment(&allow);
        for (name, value) in command.env {
            env = env.set(name, value);
        }
        let launch = Launch {
            program,
            args: command.args,
            directory: command.directory,
            env,
            run: None,
        };
        let limits = &self.tools.limits;
        match capture(launch, limit, limits.output).await {
            Ok(said) => Ok(said),
            Err(CaptureError::TimedOut { .. }) => Err(too_slow(limits.time)),
            Err(CaptureError::TooMuch { .. }) => Err(GitFault::Said(TOO_LARGE.to_owned())),
            Err(CaptureError::Start(StartError::Missing { .. })) => Err(GitFault::NotAvailable),
            Err(CaptureError::Start(StartError::NoDirectory { .. })) => {
                Err(GitFault::NotARepository)
            }
            Err(CaptureError::Start(other)) => Err(GitFault::Said(other.to_string())),
        }
    }

    /// What is left of the time for a look.
    pub(super) fn left(&self) -> Result<Duration, GitFault> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(too_slow(self.tools.limits.time))
        } else {
            Ok(left)
        }
    }

    /// Away from the runtime's own threads: the disk may be slow.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Workspace) -> T + Send + 'static,
    ) -> Result<T, GitFault> {
        let workspace = Arc::clone(&self.tools.workspace);
        tokio::task::spawn_blocking(move || look(&workspace))
            .await
            .map_err(|error| GitFault::Said(format!("the bridge failed: {error}")))
    }
}

pub(super) fn kept(policy: ContentsPolicy) -> String {
    format!("the contents policy {policy} keeps it")
}

fn too_slow(limit: Duration) -> GitFault {
    GitFault::Said(format!("git did not end within {} s", limit.as_secs()))
}

/// What git says when it fails: its complaints, else its output.
pub(super) fn spoken(said: &Captured, step: GitStep) -> GitFault {
    let complaints = said.stderr_tail.trim();
    let text = if complaints.is_empty() {
        shown(&String::from_utf8_lossy(&said.stdout))
    } else {
        shown(complaints)
    };
    if text.is_empty() {
        GitFault::Failed(step)
    } else {
        GitFault::Said(text)
    }
}

/// As much of a text as a person reads, without logins.
pub(super) fn shown(text: &str) -> String {
    let text = without_logins(text.trim());
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => {
            let (kept, _) = text.split_at(end);
            format!("{kept}…")
        }
        None => text,
    }
}

/// How many bytes of a frame it takes.
fn length(json: &serde_json::Result<String>) -> usize {
    json.as_ref().map_or(usize::MAX, String::len)
}

const TOO_LARGE: &str = "git has more to say than fits into one answer (32 MiB)";

/// A frame has 32 MiB; what stands around an answer takes its part.
const MAX_REPLY_BYTES: usize = 30 << 20;

/// What a commit of some thousand files lists.
const SHOWN_CHARS: usize = 256 * 1024;
