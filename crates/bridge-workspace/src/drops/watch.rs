//! Hearing of changes where tasks are dropped. It only says that it is time to look: what has
//! changed is always found by looking, so that an event too few or too many does no harm.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{
    EventKind, RecommendedWatcher, RecursiveMode,
    event::{AccessKind, AccessMode},
};
use notify_debouncer_full::{DebounceEventResult, Debouncer, RecommendedCache, new_debouncer};
use thiserror::Error;

/// Watches single folders, none of them with what lies below it: agents work there, and their
/// trees can be large.
#[derive(Debug)]
pub struct DropWatcher {
    debouncer: Debouncer<RecommendedWatcher, RecommendedCache>,
    watched: BTreeSet<PathBuf>,
    /// Folders the system did not want to watch; told once.
    refused: BTreeSet<PathBuf>,
}

/// The system tells nothing of its files.
#[derive(Debug, Error)]
#[error("changes of files are not told by this system")]
pub struct WatchError(#[from] notify::Error);

impl DropWatcher {
    /// Begins to watch; `wake` is called on a thread of its own and must not block.
    pub fn start(wake: impl Fn() + Send + 'static) -> Result<Self, WatchError> {
        let heard = move |result: DebounceEventResult| {
            let changed = match result {
                Ok(events) => events.iter().any(|event| is_change(event.kind)),
                Err(errors) => {
                    tracing::debug!(?errors, "an event of the disk was lost");
                    true
                }
            };
            if changed {
                wake();
            }
        };
        Ok(Self {
            debouncer: new_debouncer(TOGETHER, None, heard)?,
            watched: BTreeSet::new(),
            refused: BTreeSet::new(),
        })
    }

    /// Watches these folders and no others; whether one of them was not watched before, so that
    /// something may have appeared in it unseen.
    pub fn watch(&mut self, places: Vec<PathBuf>) -> bool {
        let wanted: BTreeSet<PathBuf> = places.into_iter().take(MOST_WATCHED).collect();
        for gone in self.watched.difference(&wanted) {
            if let Err(error) = self.debouncer.unwatch(gone) {
                tracing::trace!(folder = %gone.display(), %error, "was not watched any more");
            }
        }
        self.watched.retain(|place| wanted.contains(place));
        let mut new = false;
        for place in wanted {
            if self.watched.contains(&place) {
                continue;
            }
            match self.debouncer.watch(&place, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    new = true;
                    self.watched.insert(place);
                }
                Err(error) => self.refuse(&place, &error),
            }
        }
        new
    }

    fn refuse(&mut self, place: &Path, error: &notify::Error) {
        if self.refused.len() < MOST_WATCHED && self.refused.insert(place.to_owned()) {
            tracing::warn!(
                folder = %place.display(),
                %error,
                "a folder is not watched; tasks dropped there are found within a minute"
            );
        }
    }
}

/// Whether something may have come, gone or changed; looking itself makes events too.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// Events that come within this time are one.
const TOGETHER: Duration = Duration::from_millis(200);
/// Each is one of the watches the system gives a user.
const MOST_WATCHED: usize = 4_096;
