//! Requests that change the tree of files: delete, create, rename; and what came of them.

use serde::{Deserialize, Serialize};

use super::FileScope;

/// A change of folders or of whatever lies at a path. Every path is relative to the root that its
/// scope means, and empty where the message had none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TreeChange {
    /// Delete a file, a link, or a folder with everything in it.
    DeletePath {
        /// Which tree the path is in.
        scope: FileScope,
        /// What to delete; empty also when nobody could be answered.
        path: String,
    },
    /// Create a folder and its parents.
    CreateFolder {
        /// Which tree the path is in.
        scope: FileScope,
        /// Which folder.
        path: String,
    },
    /// Rename or move a folder; the parent of the new place is created.
    RenameFolder {
        /// Which tree both paths are in.
        scope: FileScope,
        /// Which folder.
        path: String,
        /// Its new place.
        new_path: String,
    },
    /// Delete a folder that has nothing in it.
    DeleteFolder {
        /// Which tree the path is in.
        scope: FileScope,
        /// Which folder.
        path: String,
    },
    /// Create the workspace of an OpenClaw agent. Without OpenClaw nothing is created.
    CreateWorkspace {
        /// Its folder, below OpenClaw's own one.
        folder: String,
        /// What to put into it.
        files: Vec<NewFile>,
        /// Below OpenClaw's task tree instead.
        use_ctrlnode: bool,
    },
    /// Delete an agent's folder in a container of old.
    DeleteAgentFolders {
        /// Its absolute path.
        folder: String,
        /// The agent as the message named it, for the reply.
        agent: Option<String>,
    },
}

/// A file of a new workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewFile {
    /// Relative to the workspace.
    pub path: String,
    /// Its text.
    pub content: String,
}

/// What came of a [`TreeChange`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum TreeChanged {
    /// Of the four that only succeed or fail.
    Done {
        /// Which of them.
        act: TreeAct,
        /// A code or the system's own words; `None` on success.
        error: Option<String>,
    },
    /// Of a new workspace.
    Workspace {
        /// Absolute; `None` where OpenClaw is not here, and on failure.
        path: Option<String>,
        /// A code or the system's own words; `None` on success.
        error: Option<String>,
    },
    /// Of an agent's folders.
    AgentFolders {
        /// As the request had it.
        agent: Option<String>,
        /// Absolute paths of what was deleted.
        deleted: Vec<String>,
        /// Codes, with the path behind them; empty on success.
        errors: Vec<String>,
    },
}

/// The changes that are answered by `<action>_ack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TreeAct {
    /// `delete_path`.
    DeletePath,
    /// `create_folder`.
    CreateFolder,
    /// `rename_folder`.
    RenameFolder,
    /// `delete_folder`.
    DeleteFolder,
}

impl TreeAct {
    /// Every one of them.
    pub const ALL: [Self; 4] = [
        Self::DeletePath,
        Self::CreateFolder,
        Self::RenameFolder,
        Self::DeleteFolder,
    ];

    /// Its action on the wire.
    pub fn action(self) -> &'static str {
        match self {
            Self::DeletePath => "delete_path",
            Self::CreateFolder => "create_folder",
            Self::RenameFolder => "rename_folder",
            Self::DeleteFolder => "delete_folder",
        }
    }

    /// The code of a failure that the system has no words for.
    pub fn failed(self) -> &'static str {
        match self {
            Self::DeletePath | Self::DeleteFolder => "DELETE_FAILED",
            Self::CreateFolder => "CREATE_FAILED",
            Self::RenameFolder => "RENAME_FAILED",
        }
    }
}

impl TreeChange {
    /// Which tree it is about; `None` for those with a place of their own.
    pub fn scope(&self) -> Option<&FileScope> {
        match self {
            Self::DeletePath { scope, .. }
            | Self::CreateFolder { scope, .. }
            | Self::RenameFolder { scope, .. }
            | Self::DeleteFolder { scope, .. } => Some(scope),
            Self::CreateWorkspace { .. } | Self::DeleteAgentFolders { .. } => None,
        }
    }

    /// The answer when this error is all that came of it.
    pub fn refused(&self, error: &str) -> TreeChanged {
        let done = |act| TreeChanged::Done {
            act,
            error: Some(error.to_owned()),
        };
        match self {
            Self::DeletePath { .. } => done(TreeAct::DeletePath),
            Self::CreateFolder { .. } => done(TreeAct::CreateFolder),
            Self::RenameFolder { .. } => done(TreeAct::RenameFolder),
            Self::DeleteFolder { .. } => done(TreeAct::DeleteFolder),
            Self::CreateWorkspace { .. } => TreeChanged::Workspace {
                path: None,
                error: Some(error.to_owned()),
            },
            Self::DeleteAgentFolders { agent, .. } => TreeChanged::AgentFolders {
                agent: agent.clone(),
                deleted: Vec::new(),
                errors: vec![error.to_owned()],
            },
        }
    }
}
