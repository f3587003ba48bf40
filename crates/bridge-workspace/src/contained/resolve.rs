//! The real path of something beneath a folder: links are followed as far as they stay inside.
//!
//! Each name is looked at from the handle of the folder it is in, and `..` of a link goes back to
//! the handle it came from. No name is ever asked for by its handle: of a file that was replaced
//! meanwhile the system would give another one.

use std::{
    collections::VecDeque,
    io,
    path::{Component, Path},
};

use cap_std::fs::Dir;

use super::{ContainError, ContainedPath, Folder, folder::fault};
use crate::sys;

/// How far a path leads.
enum Found {
    /// All of it exists.
    All(ContainedPath),
    /// The names from here on do not exist; no link names them.
    Until(ContainedPath, Vec<String>),
    /// A link leads to nothing.
    Nowhere,
}

impl Folder {
    /// The real path of something that exists, links followed as far as they stay inside.
    pub fn resolve(&self, path: &ContainedPath) -> Result<ContainedPath, ContainError> {
        match self.follow(path)? {
            Found::All(real) => Ok(real),
            Found::Until(..) | Found::Nowhere => Err(ContainError::Missing {
                path: path.to_string(),
            }),
        }
    }

    /// As [`Folder::resolve`] for something that may not exist yet: the deepest existing parent is
    /// resolved, the rest is kept. A link to nowhere is an error.
    pub fn resolve_new(&self, path: &ContainedPath) -> Result<ContainedPath, ContainError> {
        match self.follow(path)? {
            Found::All(real) => Ok(real),
            Found::Until(real, rest) => Ok(real.extended(&rest)),
            Found::Nowhere => Err(ContainError::Link {
                path: path.to_string(),
            }),
        }
    }

    fn follow(&self, path: &ContainedPath) -> Result<Found, ContainError> {
        let of = |error| fault(path.to_string(), error);
        let outside = || ContainError::Outside {
            path: path.to_string(),
        };
        let mut left: VecDeque<Step> = path.parts().iter().cloned().map(Step::Down).collect();
        // How many of the steps at the front are of links.
        let mut of_links = 0_usize;
        let mut links = 0;
        let mut real: Vec<String> = Vec::new();
        let mut dirs: Vec<Dir> = Vec::new();
        while let Some(step) = left.pop_front() {
            let of_link = of_links > 0;
            of_links = of_links.saturating_sub(1);
            let Step::Down(name) = step else {
                real.pop().ok_or_else(outside)?;
                dirs.truncate(real.len());
                continue;
            };
            if real.len() == dirs.len() + 1 {
                let parent = dirs.last().unwrap_or_else(|| self.dir());
                let last = real.last().map(String::as_str).unwrap_or_default();
                dirs.push(sys::open_dir(parent, last).map_err(of)?);
            }
            let dir = dirs.last().unwrap_or_else(|| self.dir());
            let meta = match dir.symlink_metadata(&name) {
                Ok(meta) => meta,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if of_link {
                        return Ok(Found::Nowhere);
                    }
                    let mut rest = vec![name];
                    for step in left {
                        match step {
                            Step::Down(name) => rest.push(name),
                            Step::Up => return Ok(Found::Nowhere),
                        }
                    }
                    return Ok(Found::Until(ContainedPath::of_parts(real), rest));
                }
                Err(error) => return Err(of(error)),
            };
            if !meta.is_symlink() {
                real.push(name);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(ContainError::Link {
                    path: path.to_string(),
                });
            }
            let target = match dir.read_link_contents(&name) {
                Ok(target) => target,
                // Something else stands there by now, which is looked at in its turn.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    of_links += usize::from(of_link);
                    left.push_front(Step::Down(name));
                    continue;
                }
                Err(error) => return Err(of(error)),
            };
            let steps = steps(&target).ok_or_else(outside)?;
            of_links += steps.len();
            for step in steps.into_iter().rev() {
                left.push_front(step);
            }
        }
        Ok(Found::All(ContainedPath::of_parts(real)))
    }
}

/// One component of a path on its way.
enum Step {
    Down(String),
    Up,
}

/// Those of a link; `None` where it leads out at once or has a name that is not UTF-8.
fn steps(target: &Path) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    for component in target.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => steps.push(Step::Up),
            Component::Normal(name) => steps.push(Step::Down(name.to_str()?.to_owned())),
            Component::Prefix(_) | Component::RootDir => return None,
        }
    }
    Some(steps)
}

/// Links on the way of one path; the limit of Linux.
const MAX_LINKS: usize = 40;
