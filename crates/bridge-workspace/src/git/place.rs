//! Where git may be asked: a folder below the allowed roots, the working tree around it, a file in
//! that. Everything is decided by real paths, links resolved.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use bridge_proto::model::GitFault;
use thiserror::Error;

use super::objects;
use crate::{
    contained::{MAX_DEPTH, MAX_PATH_BYTES},
    guard::ContentsPolicy,
    repository::Repository,
    root::{PlaceError, Workspace},
};

/// A folder in which git may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitPlace {
    /// Absolute, without links.
    pub directory: PathBuf,
    /// Above this folder git must not look for a repository.
    pub ceiling: Option<PathBuf>,
}

/// Why git may not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoPlace {
    /// It leaves the allowed roots, or may not be worked in.
    #[error("the path is not allowed")]
    Refused,
    /// No folder is there.
    #[error("the folder does not exist")]
    Missing,
}

/// The working tree of a repository, all of which lies below the allowed roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkTree {
    top: PathBuf,
    /// Where git keeps what belongs to this tree, and what it shares with other trees.
    kept_in: [PathBuf; 2],
}

impl WorkTree {
    /// Its top, absolute, without links.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Whether this is one of the folders whose owner trusts their settings, canonical paths.
    pub fn is_one_of(&self, trusted: &[PathBuf]) -> bool {
        trusted.contains(&self.top)
    }

    /// A link among the files that git keeps, if there is one. Git writes through some of them: what
    /// it keeps could then be any file, and a commit message its content. Hooks are only read, and
    /// loose objects never written twice; neither is looked at.
    pub fn link_inside_git(&self) -> Result<Option<PathBuf>, io::Error> {
        let mut looked_at = 0_usize;
        let mut folders = self.kept_in.to_vec();
        while let Some(folder) = folders.pop() {
            let is_objects = self.kept_in.iter().any(|own| folder == own.join("objects"));
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if entry.file_name() == "hooks" && self.kept_in.contains(&folder) {
                    continue;
                }
                looked_at += 1;
                if kind.is_symlink() {
                    return Ok(Some(entry.path()));
                }
                if looked_at > MAX_LOOKED_AT {
                    return Err(io::Error::other("git keeps too many files"));
                }
                if kind.is_dir() && !is_objects {
                    folders.push(entry.path());
                }
            }
        }
        Ok(None)
    }
}

/// A file in a working tree that a diff may be about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedFile {
    /// Relative to the top, with `/`, as received.
    pub name: String,
    /// Whether a regular file or a link is there, and no folder on the way to it is a link.
    pub plain: bool,
    /// Its size in bytes, 0 where nothing is.
    pub size: u64,
}

impl Workspace {
    /// The folder a request of git names: relative to `BASE_PATH` (empty for it), or absolute
    /// below it; no `..`.
    pub fn git_place(&self, path: &str) -> Result<GitPlace, NoPlace> {
        let climbs = path.split(['/', '\\']).any(|part| part == "..");
        if climbs || path.len() > MAX_PATH_BYTES || path.chars().any(char::is_control) {
            return Err(NoPlace::Refused);
        }
        let text = if path.trim().is_empty() { "." } else { path };
        match Repository::open(&self.guard, text) {
            Ok(repository) => Ok(GitPlace {
                directory: repository.path().to_owned(),
                ceiling: self.base().parent().map(Path::to_owned),
            }),
            Err(
                PlaceError::Missing { .. }
                | PlaceError::NotAFolder { .. }
                | PlaceError::Unreadable { .. },
            ) => Err(NoPlace::Missing),
            Err(
                PlaceError::Path { .. } | PlaceError::Contained { .. } | PlaceError::Kept { .. },
            ) => Err(NoPlace::Refused),
        }
    }

    /// As [`Workspace::git_place`], for a repository that is to be made: what stands in its way is
    /// nothing, or a repository that is really there, and not a link or a file that leads elsewhere.
    pub fn git_new_place(&self, path: &str) -> Result<GitPlace, NoPlace> {
        let place = self.git_place(path)?;
        match place.directory.join(".git").symlink_metadata() {
            Ok(meta) if meta.is_dir() => Ok(place),
            Ok(_) => Err(NoPlace::Refused),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(place),
            Err(_) => Err(NoPlace::Missing),
        }
    }

    /// The working tree that git found around a place, from what [`GitCommand::find_top`] printed.
    ///
    /// `None` where it found none, or one whose tree or objects lie elsewhere: the file `.git` and
    /// the setting `core.worktree` can name any folder, and objects can be borrowed from any.
    ///
    /// [`GitCommand::find_top`]: super::GitCommand::find_top
    pub fn work_tree(&self, place: &GitPlace, printed: &[u8]) -> Option<WorkTree> {
        let text = std::str::from_utf8(printed).ok()?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let lines: Vec<&str> = text.split('\n').collect();
        let [top, own, common] = lines.as_slice() else {
            return None;
        };
        let real = |line: &str| {
            let line = line.strip_suffix('\r').unwrap_or(line);
            Path::new(line).canonicalize().ok()
        };
        let (top, own, common) = (real(top)?, real(own)?, real(common)?);
        let allowed = self.guard.may_work_in(&top).is_ok()
            && self.guard.may_hold_objects(&own).is_ok()
            && self.guard.may_hold_objects(&common).is_ok()
            && objects::all_allowed(&common.join("objects"), &|path| {
                self.guard.may_hold_objects(path).is_ok()
            })
            && place.directory.starts_with(&top);
        allowed.then_some(WorkTree {
            top,
            kept_in: [own, common],
        })
    }

    /// The file that a diff is asked about, as a status names it. Refused where the contents
    /// policy keeps it, where it is protected, and inside of `.git`.
    pub fn tracked_file(&self, tree: &WorkTree, name: &str) -> Result<TrackedFile, GitFault> {
        if name.trim().is_empty() {
            return Err(GitFault::MissingFile);
        }
        let named = name.strip_suffix('/').unwrap_or(name);
        let parts: Vec<&str> = named.split('/').collect();
        let odd = |part: &&str| {
            matches!(*part, "" | "." | "..")
                || part.eq_ignore_ascii_case(".git")
                || (cfg!(windows) && part.contains(['\\', ':']))
        };
        if named.contains('\0')
            || named.len() > MAX_PATH_BYTES
            || parts.len() > MAX_DEPTH
            || parts.iter().any(odd)
        {
            return Err(GitFault::InvalidPath);
        }
        let (last, parents) = parts.split_last().ok_or(GitFault::InvalidPath)?;
        let lexical = parents
            .iter()
            .fold(tree.top.clone(), |path, part| path.join(part));
        let parent = deepest_real(&lexical).ok_or(GitFault::InvalidPath)?;
        let file = parent.join(last);
        if !parent.starts_with(&tree.top) || self.guard.may_leave(&file).is_err() {
            return Err(GitFault::InvalidPath);
        }
        let meta = file.symlink_metadata().ok();
        let plain = parent == lexical
            && meta
                .as_ref()
                .is_some_and(|meta| meta.is_file() || meta.is_symlink())
            && !name.ends_with('/');
        Ok(TrackedFile {
            name: named.to_owned(),
            plain,
            size: meta.map_or(0, |meta| meta.len()),
        })
    }

    /// The first of these files, relative to the top, that must not be committed from outside, and
    /// what it is: keys and logins.
    pub fn protected_file<'a>(
        &self,
        tree: &WorkTree,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Option<(&'a str, &'static str)> {
        names.into_iter().find_map(|name| {
            let what = self.guard.protects(&tree.top.join(name))?;
            Some((name, what))
        })
    }

    /// Whether git may be asked at all under the contents policy.
    pub fn git_is_kept(&self) -> Result<(), ContentsPolicy> {
        match self.policy() {
            ContentsPolicy::Never => Err(ContentsPolicy::Never),
            ContentsPolicy::TaskOutputs | ContentsPolicy::Workspace => Ok(()),
        }
    }
}

/// The real path of a folder that may be gone: its deepest existing parent, and the rest of it.
fn deepest_real(path: &Path) -> Option<PathBuf> {
    let mut gone: Vec<&OsStr> = Vec::new();
    let mut existing = path;
    loop {
        match existing.canonicalize() {
            Ok(real) => {
                return Some(gone.iter().rev().fold(real, |path, name| path.join(name)));
            }
            // A folder that became a file has lost what was in it too.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) && !existing.is_symlink() =>
            {
                gone.push(existing.file_name()?);
                existing = existing.parent()?;
            }
            Err(_) => return None,
        }
    }
}

/// More than repositories that are looked after have, objects left out.
const MAX_LOOKED_AT: usize = 200_000;
