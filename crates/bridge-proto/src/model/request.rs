//! Questions about files that are answered once, and their answers.

use serde::{Deserialize, Serialize};

use super::{
    Capabilities, GatewayReply, GitReply, PipelineReply, PlanReply, TreeChange, TreeChanged,
};
use crate::id::{AgentId, ProviderKey, RunKey};

/// A question that gets one reply (or none, for `write_file`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// Write one file; never answered.
    WriteFile {
        /// Which tree the path is in.
        scope: FileScope,
        /// Relative to it.
        path: String,
        /// Decoded content.
        #[serde(with = "crate::base64_bytes")]
        bytes: Vec<u8>,
        /// Whether it came as text (then status tags are removed below `output/`).
        text: bool,
    },
    /// Read one file.
    ReadFile {
        /// Which tree the path is in.
        scope: FileScope,
        /// Relative to it.
        path: String,
    },
    /// List a folder.
    ListFiles {
        /// Which tree the path is in.
        scope: FileScope,
        /// Relative to it; empty for the root.
        subpath: String,
        /// The whole tree below, or just one level.
        recursive: bool,
        /// With one level: whether files are listed beside folders.
        include_files: bool,
    },
    /// Change the tree of files.
    Tree(TreeChange),
}

impl Request {
    /// Which tree it is about; `None` for those with a place of their own.
    pub fn scope(&self) -> Option<&FileScope> {
        match self {
            Self::WriteFile { scope, .. }
            | Self::ReadFile { scope, .. }
            | Self::ListFiles { scope, .. } => Some(scope),
            Self::Tree(change) => change.scope(),
        }
    }
}

/// Which tree a path is in, as the message named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileScope {
    /// Which root was asked for.
    pub root: FileRoot,
    /// The agent the message names; may be absent.
    pub agent: Option<AgentId>,
    /// The provider the message names; may be absent.
    pub provider: Option<ProviderKey>,
}

/// The roots a message can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileRoot {
    /// `BASE_PATH` (`useBasePath`).
    Base,
    /// The task tree (`useCtrlnode`): `CTRLNODE_ROOT`, for OpenClaw its own one.
    Ctrlnode,
    /// Neither was asked for: the provider or the owner of the agent decides.
    Owner,
}

/// The answer to a request, for the connection it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// To a sync of agents.
    AgentsSynced {
        /// Whose list.
        provider: ProviderKey,
        /// `None` on success.
        error: Option<String>,
    },
    /// To `read_file`.
    ReadFile {
        /// As cleaned.
        path: String,
        /// What came of it.
        outcome: ReadOutcome,
    },
    /// To `list_files`.
    ListFiles {
        /// The listing, or the error code.
        listing: Result<Listing, String>,
    },
    /// To something about a git repository.
    Git {
        /// The answer.
        reply: GitReply,
    },
    /// To something about a pipeline.
    Pipeline {
        /// The answer.
        reply: PipelineReply,
    },
    /// To a request for OpenClaw itself; a call has up to three.
    Gateway {
        /// The answer.
        reply: GatewayReply,
    },
    /// To a change of the tree of files.
    Tree(TreeChanged),
    /// To a check of a run that has not ended here.
    RunChecked {
        /// Which run.
        run: RunKey,
        /// It waits or is at work. Otherwise it never came, or ended so long ago that it is
        /// forgotten.
        known: bool,
    },
    /// To a request to plan; progress comes before the result.
    Plan(PlanReply),
    /// To a question about an agent's skills.
    Capabilities(Box<Capabilities>),
    /// To an action of our own hub that nobody knows (decision 24).
    Unknown {
        /// The action.
        kind: String,
    },
}

/// What came of reading a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ReadOutcome {
    /// Text or base64, by content type.
    Content {
        /// UTF-8 text, or base64 for images and PDF.
        content: String,
        /// By file extension.
        content_type: String,
    },
    /// Bytes that are neither text nor of a type the wire knows as binary. Our own hub gets them
    /// whole; the plain wire has no word for them and gets text with replacement characters.
    Binary {
        /// The bytes.
        #[serde(with = "crate::base64_bytes")]
        bytes: Vec<u8>,
        /// By file extension.
        content_type: String,
    },
    /// No root.
    NoRoot,
    /// Escapes its root, or policy keeps it (decision 20).
    InvalidPath,
    /// Missing, or not a regular file.
    NotFound,
    /// Beyond the limit of its type.
    TooLarge {
        /// Its size.
        bytes: u64,
        /// `application/octet-stream` for an image, `application/pdf` for a PDF.
        content_type: String,
    },
    /// The system said no.
    Unreadable,
}

/// What lies in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Absolute path of the root.
    pub base: String,
    /// The entries, in their order.
    pub entries: Vec<FileEntry>,
    /// Whether there is more than the limits of a listing let through.
    pub cut: bool,
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Last segment.
    pub name: String,
    /// Relative to the root, with `/`.
    pub path: String,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Bytes, for files whose size could be read.
    pub size: Option<u64>,
}
