//! What can be asked of a git repository, and the answers. All paths, names and messages are
//! untrusted text until the workspace has looked at them.

use serde::{Deserialize, Serialize};

/// A question about, or a change of, one repository; answered once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "git", rename_all = "snake_case")]
pub enum GitRequest {
    /// Which branch is out, and which files differ.
    Status {
        /// Where: relative to `BASE_PATH`; empty for it.
        path: String,
    },
    /// How one file differs.
    Diff {
        /// Where: relative to `BASE_PATH`; empty for it.
        path: String,
        /// Which file, relative to the top of the repository, as a status names it.
        file: String,
        /// Whether git does not know the file yet; then all of it is new.
        untracked: bool,
    },
    /// Change something.
    Operation {
        /// Where: relative to `BASE_PATH`; empty for it.
        path: String,
        /// What.
        operation: GitOperation,
    },
}

/// What can be done with a repository. Nothing is ever forced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum GitOperation {
    /// Make one.
    Init,
    /// Commit everything that differs.
    Commit {
        /// Trimmed; empty when it was missing.
        message: String,
    },
    /// Fetch, and forget branches that are gone.
    Fetch,
    /// Fetch, and go forward if nothing has to be merged.
    Pull,
    /// Push the branch that is out.
    Push,
    /// Switch to a branch.
    Checkout {
        /// Trimmed; empty when it was missing.
        branch: String,
    },
    /// Make a branch and switch to it.
    CreateBranch {
        /// Trimmed; empty when it was missing.
        branch: String,
        /// Where it starts; otherwise at what is out.
        base: Option<String>,
    },
    /// Something this version does not know.
    Unsupported {
        /// As received; empty when it was missing.
        name: String,
    },
}

impl GitOperation {
    /// The operation as the wire names it.
    pub fn name(&self) -> &str {
        match self {
            Self::Init => "init",
            Self::Commit { .. } => "commit",
            Self::Fetch => "fetch",
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Checkout { .. } => "checkout",
            Self::CreateBranch { .. } => "create_branch",
            Self::Unsupported { name } => name,
        }
    }
}

/// The answer to a [`GitRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "git", rename_all = "snake_case")]
pub enum GitReply {
    /// To a status.
    Status {
        /// `None` where no repository is.
        status: Result<Option<GitStatus>, GitFault>,
    },
    /// To a diff.
    Diff {
        /// As received.
        file: String,
        /// As git prints it; empty without a difference.
        diff: Result<String, GitFault>,
    },
    /// To an operation.
    Operation {
        /// Its name as received.
        operation: String,
        /// What git said.
        output: Result<String, GitFault>,
    },
}

/// The state of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitStatus {
    /// Its top, absolute.
    pub root: String,
    /// The branch that is out; `None` when none is.
    pub branch: Option<String>,
    /// What the branch follows, as git prints it.
    pub upstream: Option<String>,
    /// Commits that the upstream does not have.
    pub ahead: u64,
    /// Commits that only the upstream has.
    pub behind: u64,
    /// All local branches, the one that is out first, also before its first commit.
    pub branches: Vec<String>,
    /// Everything that differs.
    pub files: Vec<GitFile>,
}

/// One file that differs from the last commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitFile {
    /// Relative to the top of the repository, with `/`, unquoted.
    pub path: String,
    /// Letter of the index as in porcelain v2: `.` is unchanged, `?` is untracked.
    pub staged: char,
    /// Letter of the working tree.
    pub unstaged: char,
    /// Whether a merge left it to a person.
    pub conflicted: bool,
    /// Where a renamed or copied file was before.
    pub original: Option<String>,
    /// Lines added, in the working tree and in the index together; 0 for untracked files.
    pub added: u64,
    /// Lines deleted, likewise.
    pub deleted: u64,
    /// Whether git counts no lines in it.
    pub binary: bool,
}

impl GitFile {
    /// Whether git does not know it yet.
    pub fn untracked(&self) -> bool {
        self.unstaged == '?'
    }

    /// Whether it is not in the last commit under this name: untracked, or staged anew.
    pub fn is_new(&self) -> bool {
        self.untracked() || matches!(self.staged, 'A' | 'R' | 'C') || self.unstaged == 'A'
    }
}

/// Why git did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GitFault {
    /// The path leaves the allowed roots, or policy keeps it (decision 20).
    InvalidPath,
    /// No file was named.
    MissingFile,
    /// No commit message.
    MissingMessage,
    /// No branch was named.
    MissingBranch,
    /// There is no such operation.
    UnsupportedOperation,
    /// No repository is there.
    NotARepository,
    /// The folder for a new repository is missing.
    NoFolder,
    /// This machine has no git.
    NotAvailable,
    /// A status that git could not tell.
    StatusFailed(String),
    /// A status without a word.
    StatusEmpty,
    /// Git failed without a word.
    Failed(GitStep),
    /// What git, or the bridge in its place, said.
    Said(String),
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GitStep {
    /// `init`.
    Init,
    /// The first half of a commit.
    Add,
    /// The second half.
    Commit,
    /// `fetch`, `pull` or `push`.
    Transfer,
    /// `checkout`.
    Checkout,
    /// `create_branch`.
    CreateBranch,
    /// A diff.
    Diff,
}
