//! Reads of files, one after another. The folder of the last file stays open for the next one, so
//! that many reads of one folder do not walk there each time.

use std::{
    fs::{File, Metadata},
    io::Read as _,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bridge_proto::model::{ReadOutcome, Reply, Request};

use crate::{
    contained::{ContainError, ContainedPath, Folder},
    files::{Form, MAX_ESCAPED_BYTES, Served, content_type, escaped_len},
    root::Workspace,
    sys,
    trees::{Opened, Tree},
};

/// Serves requests that were there together. What it reads, it reads from the folder as it was
/// opened: whoever wants to see what was renamed meanwhile asks another reader.
#[derive(Debug)]
pub struct Reader<'a> {
    workspace: &'a Workspace,
    last: Option<OpenFolder>,
}

/// A folder that was reached without a link on the way.
#[derive(Debug)]
struct OpenFolder {
    tree: Tree,
    path: ContainedPath,
    folder: Folder,
}

impl Workspace {
    /// A reader for requests that are served now.
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            workspace: self,
            last: None,
        }
    }
}

impl Reader<'_> {
    /// As [`Workspace::serve`].
    pub fn serve(&mut self, request: &Request, tree: Option<&Tree>) -> Served {
        let (Request::ReadFile { path, .. }, Some(tree)) = (request, tree) else {
            // It may change what is read next.
            self.last = None;
            return self.workspace.serve(request, tree);
        };
        let (path, outcome) = self.read_file(tree, path);
        Served::Reply(Reply::ReadFile { path, outcome })
    }

    /// As [`Workspace::read_file`].
    pub fn read_file(&mut self, tree: &Tree, path: &str) -> (String, ReadOutcome) {
        let Some(opened) = self.workspace.open_tree(tree, path) else {
            return (path.to_owned(), ReadOutcome::NoRoot);
        };
        let Ok(asked) = ContainedPath::parse_wire(path) else {
            return (path.to_owned(), ReadOutcome::InvalidPath);
        };
        let outcome = self.read(tree, &opened, &asked);
        (asked.to_string(), outcome.unwrap_or_else(|refused| refused))
    }

    fn read(
        &mut self,
        tree: &Tree,
        opened: &Opened<'_>,
        asked: &ContainedPath,
    ) -> Result<ReadOutcome, ReadOutcome> {
        let may_leave = |path: &ContainedPath| {
            let kept = opened.guard.may_leave(&opened.absolute(path));
            kept.map_err(|_| ReadOutcome::InvalidPath)
        };
        let (real, mut file, meta) = match self.open(tree, opened.folder(), asked) {
            Ok(found) => found,
            Err(error) => {
                // Whether something exists is told only of what could be read.
                may_leave(asked)?;
                return Err(refusal(&error));
            }
        };
        may_leave(&real)?;
        // Another name of the same file may lie anywhere.
        if sys::has_other_names(&meta) {
            return Err(ReadOutcome::InvalidPath);
        }
        let content_type = content_type(asked.name().unwrap_or_default());
        let form = Form::of(content_type);
        let too_large = |bytes| ReadOutcome::TooLarge {
            bytes,
            content_type: form.too_large_type(content_type).to_owned(),
        };
        if meta.len() > form.limit() {
            return Err(too_large(meta.len()));
        }
        let expected = usize::try_from(meta.len()).unwrap_or(0);
        let mut bytes = Vec::with_capacity(expected + 1);
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

    /// As [`open`], by the shortest way.
    fn open(
        &mut self,
        tree: &Tree,
        root: &Folder,
        asked: &ContainedPath,
    ) -> Result<(ContainedPath, File, Metadata), ContainError> {
        if let Some(known) = self.open_here(tree, root, asked) {
            return Ok(known);
        }
        open(root, asked)
    }

    /// From the folder of the last file, or after opening its own for those that follow. `None`:
    /// it has to be looked for in the long way, which also tells what is wrong.
    fn open_here(
        &mut self,
        tree: &Tree,
        root: &Folder,
        asked: &ContainedPath,
    ) -> Option<(ContainedPath, File, Metadata)> {
        let (path, name) = (asked.parent()?, asked.name()?);
        let is_last = |last: &OpenFolder| last.tree == *tree && last.path == path;
        // The other trees are opened anew for every request, and may be others each time.
        let stays = matches!(tree, Tree::Base | Tree::Ctrlnode);
        if !stays || path.is_root() {
            return None;
        }
        if !self.last.as_ref().is_some_and(is_last) {
            let folder = root.open_folder(&path).ok()?;
            let tree = tree.clone();
            self.last = Some(OpenFolder { tree, path, folder });
        }
        let name = ContainedPath::root().child(name).ok()?;
        let (file, meta) = self.last.as_ref()?.folder.read_known(&name).ok()?;
        Some((asked.clone(), file, meta))
    }
}

/// The open file and its real path, which is the one that was asked for where no link is on the
/// way.
pub(crate) fn open(
    root: &Folder,
    asked: &ContainedPath,
) -> Result<(ContainedPath, File, Metadata), ContainError> {
    match root.read_known(asked) {
        Ok((file, meta)) => Ok((asked.clone(), file, meta)),
        Err(ContainError::Link { .. }) => {
            let real = root.resolve(asked)?;
            let (file, meta) = root.read_known(&real)?;
            Ok((real, file, meta))
        }
        Err(error) => Err(error),
    }
}

fn refusal(error: &ContainError) -> ReadOutcome {
    match error {
        ContainError::Outside { .. }
        | ContainError::Link { .. }
        | ContainError::Executable { .. } => ReadOutcome::InvalidPath,
        ContainError::Missing { .. }
        | ContainError::NotAFolder { .. }
        | ContainError::NotAFile { .. } => ReadOutcome::NotFound,
        ContainError::Io { .. } => ReadOutcome::Unreadable,
    }
}
