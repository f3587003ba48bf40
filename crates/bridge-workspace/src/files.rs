//! File requests: write one, read one, list a folder; within their root, the protected places, the
//! contents policy and the limits.

use std::{cmp::Ordering, io::Read as _, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bridge_proto::{
    ctrlnode::strip_status_tags,
    model::{FileEntry, FileRoot, FileScope, ReadOutcome, Reply, Request},
};
use thiserror::Error;

use crate::{
    contained::{Child, ContainError, ContainedPath, Folder, PathFault},
    guard::Kept,
    root::Workspace,
};

/// Why a file was not written. The wire has no reply for it; it is for the log.
#[derive(Debug, Error)]
pub enum FileRefusal {
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
    /// `write_file` has no reply on the wire: where the file is now, or why it is not.
    Write(Result<PathBuf, FileRefusal>),
}

impl Workspace {
    /// Does what is asked.
    pub fn serve(&self, request: &Request) -> Served {
        match request {
            Request::WriteFile {
                scope,
                path,
                bytes,
                text,
            } => Served::Write(self.write_file(scope, path, bytes, *text)),
            Request::ReadFile { scope, path } => {
                let (path, outcome) = self.read_file(scope, path);
                Served::Reply(Reply::ReadFile { path, outcome })
            }
            Request::ListFiles {
                scope,
                subpath,
                recursive,
                include_files,
            } => {
                let listing = self.list_files(scope, subpath, *recursive, *include_files);
                Served::Reply(Reply::ListFiles { listing })
            }
        }
    }

    /// Writes one file whole and creates its folders. Text for an `output/` folder loses its status
    /// tags and ends with one newline. Gives its absolute path.
    ///
    /// Outside of `CTRLNODE_ROOT` this needs the contents policy `workspace`.
    pub fn write_file(
        &self,
        scope: &FileScope,
        path: &str,
        bytes: &[u8],
        text: bool,
    ) -> Result<PathBuf, FileRefusal> {
        let folder = self.folder(scope);
        let asked = ContainedPath::parse_wire(path)?;
        let real = folder.resolve_new(&asked)?;
        let file = absolute(folder, &real);
        self.guard.may_write(&file)?;
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
        folder.replace(&real, content, false)?;
        Ok(file)
    }

    /// Reads one file. Gives the cleaned path (as received where it cannot be parsed) and what
    /// came of it. Images and PDF come as base64, all else as UTF-8 text.
    pub fn read_file(&self, scope: &FileScope, path: &str) -> (String, ReadOutcome) {
        let Ok(asked) = ContainedPath::parse_wire(path) else {
            return (path.to_owned(), ReadOutcome::InvalidPath);
        };
        let outcome = self
            .read(self.folder(scope), &asked)
            .unwrap_or_else(|refused| refused);
        (asked.to_string(), outcome)
    }

    /// Lists a folder: the absolute root and the entries, or `INVALID_PATH`. A missing folder, and
    /// one the contents policy keeps, has no entries.
    ///
    /// With `recursive` the whole tree below; else one level, folders first, of folders only
    /// unless `include_files`. At most [`MAX_ENTRIES`] entries.
    pub fn list_files(
        &self,
        scope: &FileScope,
        subpath: &str,
        recursive: bool,
        include_files: bool,
    ) -> Result<(String, Vec<FileEntry>), String> {
        let folder = self.folder(scope);
        let asked = ContainedPath::parse_wire(subpath).map_err(|_| String::from(INVALID_PATH))?;
        let mut entries = Vec::new();
        match folder.resolve(&asked) {
            Ok(real) => {
                let walk = Walk {
                    workspace: self,
                    folder,
                    recursive,
                    files: recursive || include_files,
                };
                walk.list(&asked, &real, &mut entries);
            }
            Err(ContainError::Outside { .. } | ContainError::Link { .. }) => {
                return Err(INVALID_PATH.to_owned());
            }
            Err(
                ContainError::Missing { .. }
                | ContainError::NotAFolder { .. }
                | ContainError::NotAFile { .. }
                | ContainError::Io { .. },
            ) => {}
        }
        Ok((folder.path().display().to_string(), entries))
    }

    fn folder(&self, scope: &FileScope) -> &Folder {
        match scope.root {
            FileRoot::Base => &self.base,
            FileRoot::Ctrlnode => &self.root,
        }
    }

    fn read(&self, folder: &Folder, asked: &ContainedPath) -> Result<ReadOutcome, ReadOutcome> {
        let real = folder.resolve(asked).map_err(|error| refusal(&error))?;
        self.guard
            .may_leave(&absolute(folder, &real))
            .map_err(|_| ReadOutcome::InvalidPath)?;
        let mut file = folder.read(&real).map_err(|error| refusal(&error))?;
        let size = file.metadata().map_err(|_| ReadOutcome::Unreadable)?.len();
        let content_type = content_type(asked.name().unwrap_or_default());
        let form = Form::of(content_type);
        let too_large = |bytes| ReadOutcome::TooLarge {
            bytes,
            content_type: form.too_large_type(content_type).to_owned(),
        };
        if size > form.limit() {
            return Err(too_large(size));
        }
        let mut bytes = Vec::new();
        // One byte more than allowed tells that the file grew meanwhile.
        file.by_ref()
            .take(form.limit() + 1)
            .read_to_end(&mut bytes)
            .map_err(|_| ReadOutcome::Unreadable)?;
        if bytes.len() as u64 > form.limit() {
            return Err(too_large(bytes.len() as u64));
        }
        let content = match form {
            Form::Image | Form::Pdf => STANDARD.encode(&bytes),
            Form::Text => {
                let text = match String::from_utf8(bytes) {
                    Ok(text) => text,
                    Err(error) => {
                        return Ok(ReadOutcome::Binary {
                            bytes: error.into_bytes(),
                            content_type: content_type.to_owned(),
                        });
                    }
                };
                if escaped_len(&text) > MAX_ESCAPED_BYTES {
                    return Err(too_large(text.len() as u64));
                }
                text
            }
        };
        Ok(ReadOutcome::Content {
            content,
            content_type: content_type.to_owned(),
        })
    }
}

struct Walk<'a> {
    workspace: &'a Workspace,
    folder: &'a Folder,
    recursive: bool,
    files: bool,
}

impl Walk<'_> {
    /// `shown` is the path as it was asked for, `real` the one without links.
    fn list(&self, shown: &ContainedPath, real: &ContainedPath, entries: &mut Vec<FileEntry>) {
        if shown.parts().len() >= crate::contained::MAX_DEPTH {
            return;
        }
        let Ok(mut children) = self.folder.children(real) else {
            return;
        };
        children.sort_by(folders_first);
        for child in children {
            if entries.len() >= MAX_ENTRIES {
                return;
            }
            if SKIPPED.contains(&child.name.as_str()) || !(child.is_dir || self.files) {
                continue;
            }
            let (Ok(shown), Ok(real)) = (shown.child(&child.name), real.child(&child.name)) else {
                continue;
            };
            if !self
                .workspace
                .guard
                .may_list(&absolute(self.folder, &real), child.is_dir)
            {
                continue;
            }
            entries.push(FileEntry {
                name: child.name,
                path: shown.to_string(),
                is_dir: child.is_dir,
                size: child.size,
            });
            if child.is_dir && self.recursive {
                self.list(&shown, &real, entries);
            }
        }
    }
}

fn folders_first(a: &Child, b: &Child) -> Ordering {
    b.is_dir
        .cmp(&a.is_dir)
        .then_with(|| a.name.to_lowercase().cmp(&b.name.to_lowercase()))
        .then_with(|| a.name.cmp(&b.name))
}

fn absolute(folder: &Folder, real: &ContainedPath) -> PathBuf {
    folder.path().join(real.to_path())
}

fn refusal(error: &ContainError) -> ReadOutcome {
    match error {
        ContainError::Outside { .. } | ContainError::Link { .. } => ReadOutcome::InvalidPath,
        ContainError::Missing { .. }
        | ContainError::NotAFolder { .. }
        | ContainError::NotAFile { .. } => ReadOutcome::NotFound,
        ContainError::Io { .. } => ReadOutcome::Unreadable,
    }
}

/// How many bytes the text takes as a JSON string, without the quotes.
fn escaped_len(text: &str) -> usize {
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
enum Form {
    Image,
    Pdf,
    Text,
}

impl Form {
    fn of(content_type: &str) -> Self {
        if content_type.starts_with("image/") {
            Self::Image
        } else if content_type == "application/pdf" {
            Self::Pdf
        } else {
            Self::Text
        }
    }

    fn limit(self) -> u64 {
        match self {
            Self::Image => MAX_IMAGE_BYTES,
            Self::Pdf | Self::Text => MAX_PDF_BYTES,
        }
    }

    fn too_large_type(self, content_type: &str) -> &str {
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

/// Names that are never listed, at any depth.
const SKIPPED: &[&str] = &[".openclaw", "node_modules", ".git"];

/// Largest image that is sent, before base64.
pub const MAX_IMAGE_BYTES: u64 = 10 * 1024 * 1024;

/// Largest PDF, and largest file that is sent as text, before encoding.
pub const MAX_PDF_BYTES: u64 = 15 * 1024 * 1024;

/// Text longer than this inside its frame would break the 32 MiB limit of a frame.
const MAX_ESCAPED_BYTES: usize = 30 * 1024 * 1024;

/// Most entries of a listing.
pub const MAX_ENTRIES: usize = 20_000;
