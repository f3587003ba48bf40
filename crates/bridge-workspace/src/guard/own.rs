//! Places of this machine that are protected by where they lie: the state folder of a hub, the
//! logins and settings of agents that were put elsewhere, the files the bridge itself is set by.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Kept, names::names};

/// A file or folder of this machine that is protected where it lies, whatever it is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPlace {
    /// Absolute. It need not be there yet, and links on the way to it are followed.
    pub path: PathBuf,
    /// What it is, in a few words.
    pub what: &'static str,
    /// What it is kept from.
    pub keep: Keep,
}

/// What a place is kept from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// From being read, listed, written and worked in.
    Always,
    /// From being written.
    FromWrites,
}

/// All of them, as far as they matter for one workspace.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnPlaces(Vec<Own>);

#[derive(Debug, Clone)]
struct Own {
    /// The [`names`] of the path.
    parts: Vec<String>,
    what: &'static str,
    keep: Keep,
}

/// What is about to happen to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Look,
    Change,
}

impl OwnPlaces {
    /// A place that holds all of `base` protects nothing in it, because nothing would be left.
    pub(super) fn new(places: &[OwnPlace], base: &Path) -> Self {
        let base = names(base);
        let mut own: Vec<Own> = Vec::new();
        for place in places {
            let spelled = [Some(place.path.clone()), deepest_real(&place.path)];
            for path in spelled.into_iter().flatten() {
                let parts = names(&path);
                if base.starts_with(&parts) || own.iter().any(|known| known.parts == parts) {
                    continue;
                }
                own.push(Own {
                    parts,
                    what: place.what,
                    keep: place.keep,
                });
            }
        }
        Self(own)
    }

    /// Says no for what lies in one of them. `open` are folders of the bridge that may lie in such
    /// a place and are decided about by themselves.
    pub(super) fn check(&self, parts: &[String], to: Use, open: &[&[String]]) -> Result<(), Kept> {
        for own in &self.0 {
            let matters = to == Use::Change || own.keep == Keep::Always;
            let opened =
                |inner: &&[String]| inner.starts_with(&own.parts) && parts.starts_with(inner);
            if matters && parts.starts_with(&own.parts) && !open.iter().any(opened) {
                return Err(Kept::Protected(own.what));
            }
        }
        Ok(())
    }

    /// Whether one of them lies in this folder.
    pub(super) fn is_in(&self, folder: &[String]) -> bool {
        self.0.iter().any(|own| own.parts.starts_with(folder))
    }
}

/// The real path of something that may not be there: its deepest existing parent, and the rest.
fn deepest_real(path: &Path) -> Option<PathBuf> {
    let mut missing = Vec::new();
    let mut existing = path;
    loop {
        match existing.canonicalize() {
            Ok(real) => {
                return Some(
                    missing
                        .iter()
                        .rev()
                        .fold(real, |path, name| path.join(name)),
                );
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing.push(existing.file_name()?);
                existing = existing.parent()?;
            }
            Err(_) => return None,
        }
    }
}
