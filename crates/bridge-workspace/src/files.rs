//! File requests: write one, read one, list a folder; within their root, the protected places, the
//! contents policy and the limits.

use std::{cmp::Reverse, path::PathBuf};

use bridge_proto::{
    ctrlnode::strip_status_tags,
    model::{FileEntry, Listing, ReadOutcome, Reply, Request},
};
use thiserror::Error;

use crate::{
    contained::{Child, ContainError, ContainedPath, MAX_CHILDREN, PathFault},
    guard::Kept,
    root::Workspace,
    trees::{Opened, Tree},
};

/// Why a file was not written. The wire has no reply for it; it is for the log.
#[derive(Debug, Error)]
pub enum FileRefusal {
    /// No tree is meant, or it is not there.
    #[error("there is no such root")]
    NoRoot,
    /// The text is no acceptable path.
    #[error(transparent)]
    Path(#[from] PathFault),
    /// It may not be written.
    #[error(transparent)]
    Kept(#[from] Kept),
    /// Something stands in the way, or the system said no.
    #[error(transparent)]
    Contained(#[from] ContainError),
}

/// What came of a file request.
#[derive(Debug)]
pub enum Served {
    /// What to answer.
    Reply(Reply),
    /// A folder has another place: what to answer, and the place, absolute.
    Moved {
        /// The answer.
        reply: Reply,
        /// Where it is now, without links.
        to: PathBuf,
    },
    /// `write_file` has no reply on the wire: where the file is now, or why it is not.
    Write(Result<PathBuf, FileRefusal>),
}

impl Workspace {
    /// Does what is asked. `tree` is where the paths of the request start, `None` where it means
    /// none.
    pub fn serve(&self, request: &Request, tree: Option<&Tree>) -> Served {
        match request {
            Request::WriteFile {
                path, bytes, text, ..
            } => Served::Write(match tree {
                Some(tree) => self.write_file(tree, path, bytes, *text),
                None => Err(FileRefusal::NoRoot),
            }),
            Request::ReadFile { path, .. } => {
                let (path, outcome) = match tree {
                    Some(tree) => self.read_file(tree, path),
                    None => (path.clone(), ReadOutcome::NoRoot),
                };
                Served::Reply(Reply::ReadFile { path, outcome })
            }
            Request::ListFiles {
                subpath,
                recursive,
                include_files,
                ..
            } => {
                let listing = match tree {
                    Some(tree) => self.list_files(tree, subpath, *recursive, *include_files),
                    None => Err(AGENT_NOT_FOUND.to_owned()),
                };
                Served::Reply(Reply::ListFiles { listing })
            }
            Request::Tree(change) => {
                let (changed, moved) = self.change_and_tell(change, tree);
                let reply = Reply::Tree(changed);
                match moved {
                    Some(to) => Served::Moved { reply, to },
                    None => Served::Reply(reply),
                }
            }
        }
    }

    /// Writes one file whole and creates its folders. Text for an `output/` folder loses its status
    /// tags and ends with one newline. Gives its absolute path.
    ///
    /// Outside of `CTRLNODE_ROOT` this needs the contents policy `workspace`. Outside of task
    /// folders a file that can be executed stays as it is.
    pub fn write_file(
        &self,
        tree: &Tree,
        path: &str,
        bytes: &[u8],
        text: bool,
    ) -> Result<PathBuf, FileRefusal> {
        let opened = self.open_tree(tree, path).ok_or(FileRefusal::NoRoot)?;
        let folder = opened.folder();
        let asked = ContainedPath::parse_wire(path)?;
        let real = folder.resolve_new(&asked)?;
        let file = opened.absolute(&real);
        opened.guard.may_write(&file)?;
        let in_output = asked
            .parts()
            .iter()
            .rev()
            .skip(1)
            .any(|part| part == "output");
        let cleaned = match std::str::from_utf8(bytes) {
            Ok(content) if text && in_output => Some(strip_status_tags(content)),
            Ok(_) | Err(_) => None,
        };
        let content = cleaned.as_ref().map_or(bytes, String::as_bytes);
        if opened.guard.goes_whole(&file) {
            folder.replace(&real, content, false)?;
        } else {
            folder.replace_data(&real, content)?;
        }
        Ok(file)
    }

    /// Reads one file. Gives the cleaned path (as received where it cannot be parsed) and what
    /// came of it. Images and PDF come as base64, all else as UTF-8 text.
    pub fn read_file(&self, tree: &Tree, path: &str) -> (String, ReadOutcome) {
        self.reader().read_file(tree, path)
    }

    /// Lists a folder, or says `INVALID_PATH`. A missing folder, and one the contents policy
    /// keeps, has no entries.
    ///
    /// With `recursive` the whole tree below; else one level, folders first, of folders only
    /// unless `include_files`. At most [`MAX_ENTRIES`] entries of [`MAX_LISTED_BYTES`] of names,
    /// from at most [`MAX_CHILDREN`] looked at.
    pub fn list_files(
        &self,
        tree: &Tree,
        subpath: &str,
        recursive: bool,
        include_files: bool,
    ) -> Result<Listing, String> {
        let opened = self.open_tree(tree, subpath).ok_or(AGENT_NOT_FOUND)?;
        let folder = opened.folder();
        let asked = ContainedPath::parse_wire(subpath).map_err(|_| String::from(INVALID_PATH))?;
        let mut walk = Walk {
            opened: &opened,
            recursive,
            files: recursive || include_files,
            looked_at: 0,
            bytes: 0,
            found: Listing {
                base: folder.path().display().to_string(),
                ..Listing::default()
            },
        };
        match folder.resolve(&asked) {
            Ok(real) => walk.list(&asked, &real),
            Err(ContainError::Outside { .. } | ContainError::Link { .. }) => {
                return Err(INVALID_PATH.to_owned());
            }
            Err(
                ContainError::Missing { .. }
                | ContainError::NotAFolder { .. }
                | ContainError::NotAFile { .. }
                | ContainError::Executable { .. }
                | ContainError::Io { .. },
            ) => {}
        }
        Ok(walk.found)
    }
}

struct Walk<'a> {
    opened: &'a Opened<'a>,
    recursive: bool,
    files: bool,
    looked_at: usize,
    bytes: usize,
    found: Listing,
}

impl Walk<'_> {
    /// `shown` is the path as it was asked for, `real` the one without links.
    fn list(&mut self, shown: &ContainedPath, real: &ContainedPath) {
        if shown.parts().len() >= crate::contained::MAX_DEPTH {
            self.found.cut = true;
            return;
        }
        let room = MAX_CHILDREN - self.looked_at;
        let Ok(mut children) = self.opened.folder().children(real, room + 1) else {
            return;
        };
        if children.len() > room {
            self.found.cut = true;
            children.truncate(room);
        }
        self.looked_at += children.len();
        children.sort_by_cached_key(folders_first);
        for child in children {
            if SKIPPED.contains(&child.name.as_str()) || !(child.is_dir || self.files) {
                continue;
            }
            let (Ok(shown), Ok(real)) = (shown.child(&child.name), real.child(&child.name)) else {
                continue;
            };
            let absolute = self.opened.absolute(&real);
            if !self.opened.guard.may_list(&absolute, child.is_dir) {
                continue;
            }
            let path = shown.to_string();
            self.bytes += child.name.len() + path.len();
            if self.found.entries.len() >= MAX_ENTRIES || self.bytes > MAX_LISTED_BYTES {
                self.found.cut = true;
                return;
            }
            self.found.entries.push(FileEntry {
                name: child.name,
                path,
                is_dir: child.is_dir,
                size: child.size,
            });
            if child.is_dir && self.recursive {
                self.list(&shown, &real);
            }
        }
    }
}

fn folders_first(child: &Child) -> (Reverse<bool>, String, String) {
    (
        Reverse(child.is_dir),
        child.name.to_lowercase(),
        child.name.clone(),
    )
}

/// How many bytes the text takes as a JSON string, without the quotes.
pub(crate) fn escaped_len(text: &str) -> usize {
    text.bytes()
        .map(|byte| match byte {
            b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum()
}

/// How a content type travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Image,
    Pdf,
    Text,
}

impl Form {
    pub(crate) fn of(content_type: &str) -> Self {
        if content_type.starts_with("image/") {
            Self::Image
        } else if content_type == "application/pdf" {
            Self::Pdf
        } else {
            Self::Text
        }
    }

    pub(crate) fn limit(self) -> u64 {
        match self {
            Self::Image => MAX_IMAGE_BYTES,
            Self::Pdf | Self::Text => MAX_PDF_BYTES,
        }
    }

    pub(crate) fn too_large_type(self, content_type: &str) -> &str {
        match self {
            Self::Image => "application/octet-stream",
            Self::Pdf | Self::Text => content_type,
        }
    }
}

/// The content type by the extension of a file name.
pub fn content_type(name: &str) -> &'static str {
    let extension = name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("md" | "markdown") => "text/markdown",
        Some("txt") => "text/plain",
        Some("json") => "application/json",
        Some("yaml" | "yml") => "text/yaml",
        Some("xml") => "application/xml",
        Some("csv") => "text/csv",
        Some("html" | "htm") => "text/html",
        Some("js") => "text/javascript",
        Some("ts") => "text/typescript",
        Some("css") => "text/css",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("gif") => "image/gif",
        Some("webp") => "image/webp",
        Some("bmp") => "image/bmp",
        Some("avif") => "image/avif",
        Some("svg") => "image/svg+xml",
        Some("pdf") => "application/pdf",
        Some(_) | None => "application/octet-stream",
    }
}

const INVALID_PATH: &str = "INVALID_PATH";

/// No tree is meant, in the words of a listing.
const AGENT_NOT_FOUND: &str = "AGENT_NOT_FOUND";

/// Names that are never listed, at any depth.
const SKIPPED: &[&str] = &[".openclaw", "node_modules", ".git"];

/// Largest image that is sent, before base64.
pub const MAX_IMAGE_BYTES: u64 = 10 * 1024 * 1024;

/// Largest PDF, and largest file that is sent as text, before encoding.
pub const MAX_PDF_BYTES: u64 = 15 * 1024 * 1024;

/// Text longer than this inside its frame would break the 32 MiB limit of a frame.
pub(crate) const MAX_ESCAPED_BYTES: usize = 30 * 1024 * 1024;

/// Most entries of a listing.
pub const MAX_ENTRIES: usize = 20_000;

/// Most bytes of names and paths of a listing; with quotes and keys they fit into a frame.
pub const MAX_LISTED_BYTES: usize = 12 * 1024 * 1024;
