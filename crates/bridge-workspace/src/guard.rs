//! What may be read, written, listed and worked in: protected places (never), the contents policy
//! (what may leave this machine) and the bridge's own files. Pure: real absolute paths in, a
//! verdict out.

mod lists;
mod names;
mod own;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::LazyLock,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::own::{Keep, OwnPlace};
use self::{
    lists::{INTERNAL, KEY_FILES, OPENCLAW_OWN, READ, WRITE},
    names::{known_as, names},
    own::{OwnPlaces, Use},
};

/// Which file contents may leave this machine. Streamed answer text is not file content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContentsPolicy {
    /// None; nothing is listed either.
    Never,
    /// Only those of the task folders, with their `input/`, `output/` and logs.
    #[default]
    TaskOutputs,
    /// All below `BASE_PATH` but the protected places.
    Workspace,
}

impl ContentsPolicy {
    /// As written in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::TaskOutputs => "task-outputs",
            Self::Workspace => "workspace",
        }
    }
}

impl fmt::Display for ContentsPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no contents policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is none of never, task-outputs, workspace")]
pub struct UnknownPolicy(pub String);

impl FromStr for ContentsPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        [Self::Never, Self::TaskOutputs, Self::Workspace]
            .into_iter()
            .find(|policy| policy.as_str().eq_ignore_ascii_case(text.trim()))
            .ok_or_else(|| UnknownPolicy(text.chars().take(40).collect()))
    }
}

/// Why a place is kept from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Kept {
    /// Neither in `BASE_PATH` nor in `CTRLNODE_ROOT`.
    #[error("it lies outside of the workspace")]
    Outside,
    /// Keys, logins, browser profiles, and for writes what would run by itself.
    #[error("it is a protected place ({0})")]
    Protected(&'static str),
    /// Files of the bridge itself.
    #[error("it belongs to the bridge itself")]
    Internal,
    /// The contents policy.
    #[error("the contents policy {0} keeps it")]
    Policy(ContentsPolicy),
}

/// Decides by real, absolute paths (links resolved).
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    pub(crate) base: PathBuf,
    pub(crate) root: PathBuf,
    /// Those of `root`.
    root_names: Vec<String>,
    /// A tree of OpenClaw that the request at hand is about.
    pub(crate) tree: Option<PathBuf>,
    pub(crate) policy: ContentsPolicy,
    own: OwnPlaces,
}

impl Guard {
    pub(crate) fn new(base: &Path, root: &Path) -> Self {
        Self {
            base: base.to_owned(),
            root: root.to_owned(),
            root_names: names(root),
            tree: None,
            policy: ContentsPolicy::default(),
            own: OwnPlaces::default(),
        }
    }

    /// Protects these places too, in place of those that were named before.
    pub(crate) fn protect(&mut self, places: &[OwnPlace]) {
        self.own = OwnPlaces::new(places, &self.base);
    }

    /// The same for a request about a tree of OpenClaw.
    pub(crate) fn about(&self, tree: &Path) -> Self {
        Self {
            tree: Some(tree.to_owned()),
            ..self.clone()
        }
    }

    /// May the content of this file leave the machine?
    pub(crate) fn may_leave(&self, path: &Path) -> Result<(), Kept> {
        self.may_leave_as(path, &names(path))
    }

    fn may_leave_as(&self, path: &Path, parts: &[String]) -> Result<(), Kept> {
        let place = self.place(path, parts)?;
        self.may_be_seen(parts)?;
        match self.policy {
            ContentsPolicy::Never => Err(Kept::Policy(self.policy)),
            ContentsPolicy::TaskOutputs if !place.is_task_file() => Err(Kept::Policy(self.policy)),
            ContentsPolicy::TaskOutputs | ContentsPolicy::Workspace => place.not_internal(),
        }
    }

    /// May its name appear in a listing? Folders on the way to what may leave are shown.
    pub(crate) fn may_list(&self, path: &Path, is_dir: bool) -> bool {
        let parts = names(path);
        if self.may_leave_as(path, &parts).is_ok() {
            return true;
        }
        let on_the_way = match self.place(path, &parts) {
            Ok(Place::Root(rest) | Place::Tree(rest)) => rest.is_empty() || rest == ["tasks"],
            Ok(Place::Base) => self.root.starts_with(path),
            Err(_) => false,
        };
        is_dir && on_the_way && self.policy != ContentsPolicy::Never
    }

    /// May the other side create or change this file?
    pub(crate) fn may_write(&self, path: &Path) -> Result<(), Kept> {
        let parts = names(path);
        let place = self.place(path, &parts)?;
        self.may_change(&parts, &place)?;
        match place {
            // Beside what lies there are the files of the bridge itself.
            Place::Root(rest) if rest.len() < 2 => Err(Kept::Internal),
            Place::Tree(rest) if rest.is_empty() => Err(Kept::Internal),
            Place::Root(_) | Place::Tree(_) | Place::Base => Ok(()),
        }
    }

    /// May this file be made in the tree at hand? In a new one nothing is there that could be
    /// replaced, so the policy does not matter.
    pub(crate) fn may_fill(&self, path: &Path, is_new: bool) -> Result<(), Kept> {
        match self.may_write(path) {
            Err(Kept::Policy(_)) if is_new => Ok(()),
            other => other,
        }
    }

    /// May the other side create a folder here?
    pub(crate) fn may_make_folder(&self, path: &Path) -> Result<(), Kept> {
        let parts = names(path);
        let place = self.place(path, &parts)?;
        self.may_change(&parts, &place)?;
        match place {
            Place::Root(rest) | Place::Tree(rest) if rest.is_empty() => Err(Kept::Internal),
            Place::Root(_) | Place::Tree(_) | Place::Base => Ok(()),
        }
    }

    /// May the other side delete this, or give it another name? Of what is in it,
    /// [`Self::goes_whole`], [`Self::may_vanish`] and [`Self::may_become`] decide.
    pub(crate) fn may_remove(&self, path: &Path) -> Result<(), Kept> {
        let above = names(path);
        let holds = |place: &Path| names(place).starts_with(&above);
        if holds(&self.base) || holds(&self.root) || self.own.is_in(&above) {
            return Err(Kept::Internal);
        }
        let parts = names(path);
        let place = self.place(path, &parts)?;
        self.may_change(&parts, &place)?;
        match place {
            Place::Root(rest) | Place::Tree(rest) if rest.is_empty() || rest == ["tasks"] => {
                Err(Kept::Internal)
            }
            Place::Root(_) | Place::Tree(_) | Place::Base => Ok(()),
        }
    }

    /// Whether the name alone says that nothing here may be changed, so that nobody learns whether
    /// it exists. A link may still lead to such a place.
    pub(crate) fn is_guarded(&self, path: &Path) -> bool {
        let parts = names(path);
        let kept = self
            .place(path, &parts)
            .and_then(|place| self.may_change(&parts, &place));
        matches!(kept, Err(Kept::Protected(_) | Kept::Internal))
    }

    /// Whether this may be removed with all that is in it: a task folder goes with whatever agents
    /// left in it.
    pub(crate) fn goes_whole(&self, path: &Path) -> bool {
        let place = self.place(path, &names(path));
        place.is_ok_and(|place| place.is_task_file())
    }

    /// May this go together with a folder around it that does not go whole?
    pub(crate) fn may_vanish(path: &Path) -> Result<(), Kept> {
        let parts = names(path);
        protected(&parts, &READ_RULES)?;
        protected(&parts, &WRITE_RULES)
    }

    /// May what is `old` be `new` from now on? Not if it could be read or written then, and could
    /// not before; nor if what could be written so far would be in a protected place.
    pub(crate) fn may_become(&self, old: &Path, new: &Path) -> Result<(), Kept> {
        let freed = |before: Result<(), Kept>, after: Result<(), Kept>| match (before, after) {
            (Err(kept), Ok(())) => Err(kept),
            (Ok(()) | Err(_), _) => Ok(()),
        };
        freed(self.may_leave(old), self.may_leave(new))?;
        let (before, after) = (self.may_write(old), self.may_write(new));
        match (before, after) {
            // Written under one name, it would be run or obeyed under the other.
            (Ok(()), Err(kept @ Kept::Protected(_))) => Err(kept),
            (before, after) => freed(before, after),
        }
    }

    fn may_change(&self, parts: &[String], place: &Place) -> Result<(), Kept> {
        self.may_be_seen(parts)?;
        self.kept_where_it_lies(parts, Use::Change)?;
        match place {
            Place::Root(_) => {
                protected(parts, &WRITE_RULES)?;
                place.not_internal()
            }
            Place::Tree(rest) => {
                // Where the tree itself lies was decided when it was opened.
                protected(rest, &WRITE_RULES)?;
                if self.policy == ContentsPolicy::Workspace || place.is_task_file() {
                    place.not_internal()
                } else {
                    Err(Kept::Policy(self.policy))
                }
            }
            Place::Base => {
                protected(parts, &WRITE_RULES)?;
                if self.policy == ContentsPolicy::Workspace {
                    Ok(())
                } else {
                    Err(Kept::Policy(self.policy))
                }
            }
        }
    }

    /// May this folder be a tree of OpenClaw? `own` is OpenClaw's own folder; elsewhere the tree
    /// must be somewhere an agent may work, and its files leave under the policy of all.
    pub(crate) fn may_be_tree(&self, path: &Path, own: &Path) -> Result<(), Kept> {
        let parts = names(path);
        self.may_be_seen(&parts)?;
        if let Some(rest) = parts.strip_prefix(names(own).as_slice()) {
            return match rest.first() {
                Some(first) if !first.starts_with('.') && !OPENCLAW_OWN.contains(&&**first) => {
                    Ok(())
                }
                Some(_) | None => Err(Kept::Internal),
            };
        }
        self.may_work_in(path)?;
        match self.policy {
            ContentsPolicy::Workspace => Ok(()),
            ContentsPolicy::Never | ContentsPolicy::TaskOutputs => Err(Kept::Policy(self.policy)),
        }
    }

    /// May an agent be started in this folder?
    pub(crate) fn may_work_in(&self, path: &Path) -> Result<(), Kept> {
        let parts = names(path);
        match self.place(path, &parts)? {
            // The root may hold the base when the state is kept elsewhere.
            Place::Root(_) if !self.base.starts_with(&self.root) => return Err(Kept::Internal),
            Place::Root(_) | Place::Tree(_) | Place::Base => {}
        }
        if !path.starts_with(&self.base) {
            return Err(Kept::Outside);
        }
        self.may_be_seen(&parts)?;
        // Not all of WRITE: agents keep work trees of their own below their settings.
        if parts.iter().any(|part| part == ".git") {
            return Err(Kept::Protected("git internals"));
        }
        Ok(())
    }

    /// May the objects of a repository be here? They are read to be shown.
    pub(crate) fn may_hold_objects(&self, path: &Path) -> Result<(), Kept> {
        let parts = names(path);
        match self.place(path, &parts)? {
            Place::Root(_) if !self.base.starts_with(&self.root) => return Err(Kept::Internal),
            Place::Root(_) | Place::Tree(_) | Place::Base => {}
        }
        if !path.starts_with(&self.base) {
            return Err(Kept::Outside);
        }
        self.may_be_seen(&parts)
    }

    /// Whether no protected place keeps it from being read.
    fn may_be_seen(&self, parts: &[String]) -> Result<(), Kept> {
        protected(parts, &READ_RULES)?;
        self.kept_where_it_lies(parts, Use::Look)
    }

    fn kept_where_it_lies(&self, parts: &[String], to: Use) -> Result<(), Kept> {
        let tree = self.tree.as_deref().map(names).unwrap_or_default();
        let open: [&[String]; 2] = [&self.root_names, &tree];
        self.own.check(parts, to, &open)
    }

    /// What a protected place is, if it is one.
    pub(crate) fn protects(&self, path: &Path) -> Option<&'static str> {
        match self.may_be_seen(&names(path)) {
            Err(Kept::Protected(what)) => Some(what),
            Ok(()) | Err(Kept::Outside | Kept::Internal | Kept::Policy(_)) => None,
        }
    }

    /// May this path below `CTRLNODE_ROOT` be a task folder?
    pub(crate) fn may_be_task_folder(parts: &[String]) -> Result<(), Kept> {
        let parts: Vec<String> = parts.iter().map(|part| known_as(part)).collect();
        if parts.len() < 2 {
            return Err(Kept::Internal);
        }
        Place::Root(parts).not_internal()
    }

    /// `parts` are the [`names()`] of the path.
    fn place(&self, path: &Path, parts: &[String]) -> Result<Place, Kept> {
        if let Some(rest) = parts.strip_prefix(self.root_names.as_slice()) {
            return Ok(Place::Root(rest.to_vec()));
        }
        if let Some(tree) = &self.tree
            && let Ok(rest) = path.strip_prefix(tree)
        {
            return Ok(Place::Tree(names(rest)));
        }
        if path.starts_with(&self.base) {
            Ok(Place::Base)
        } else {
            Err(Kept::Outside)
        }
    }
}

enum Place {
    /// Below `CTRLNODE_ROOT`, with the components as [`names()`] gives them.
    Root(Vec<String>),
    /// Below a tree of OpenClaw, likewise.
    Tree(Vec<String>),
    /// Elsewhere below `BASE_PATH`.
    Base,
}

impl Place {
    fn is_task_file(&self) -> bool {
        match self {
            Self::Root(rest) | Self::Tree(rest) => {
                let deliveries = || {
                    rest.iter()
                        .skip(1)
                        .any(|part| part == "input" || part == "output")
                };
                rest.len() >= 2 && (rest[0] == "tasks" || deliveries())
            }
            Self::Base => false,
        }
    }

    fn not_internal(&self) -> Result<(), Kept> {
        match self {
            Self::Root(rest) => match rest.first() {
                Some(first) if first.starts_with('.') || INTERNAL.contains(&first.as_str()) => {
                    Err(Kept::Internal)
                }
                // Agents keep their conversations in it, and with them any file they have read.
                Some(_) if rest.iter().any(|part| part == TEMP) => Err(Kept::Internal),
                Some(_) | None => Ok(()),
            },
            Self::Tree(rest) if rest.iter().any(|part| part == TEMP) => Err(Kept::Internal),
            Self::Tree(_) | Self::Base => Ok(()),
        }
    }
}

/// What is protected, by the first name of each place: the other names, and what it is.
type Rules = HashMap<&'static str, Vec<(Vec<&'static str>, &'static str)>>;

static READ_RULES: LazyLock<Rules> = LazyLock::new(|| by_first_name(READ));
static WRITE_RULES: LazyLock<Rules> = LazyLock::new(|| by_first_name(WRITE));

fn by_first_name(places: &[(&'static str, &'static str)]) -> Rules {
    let mut rules = Rules::new();
    for (place, what) in places {
        let mut parts = place.split('/');
        let first = parts.next().unwrap_or_default();
        rules
            .entry(first)
            .or_default()
            .push((parts.collect(), what));
    }
    rules
}

/// Whole names in a row, anywhere in the path.
fn protected(parts: &[String], rules: &Rules) -> Result<(), Kept> {
    let mut rest = parts;
    while let Some((first, behind)) = rest.split_first() {
        for (others, what) in rules.get(first.as_str()).into_iter().flatten() {
            let next = behind.iter().take(others.len()).map(String::as_str);
            if next.eq(others.iter().copied()) {
                return Err(Kept::Protected(what));
            }
        }
        rest = behind;
    }
    let extension = parts
        .last()
        .and_then(|name| name.rsplit_once('.'))
        .map(|(_, last)| last);
    match extension {
        Some(extension) if KEY_FILES.contains(&extension) => Err(Kept::Protected("a key store")),
        Some(_) | None => Ok(()),
    }
}

/// The folder for temporary files of an agent, in each task folder.
pub(crate) const TEMP: &str = ".tmp";
