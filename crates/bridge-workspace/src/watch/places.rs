//! The folders that are watched: found below each root without following a link, each of them
//! watched by itself, so that their number is bounded and what is ignored costs nothing.

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use notify::{Config, EventHandler, PollWatcher, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::contained::{ContainedPath, Folder};

/// How folders are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watching {
    /// By looking again and again, everywhere. Folders of a network are always watched so.
    pub polling: bool,
    /// Between two such looks.
    pub interval: Duration,
}

impl Default for Watching {
    fn default() -> Self {
        Self {
            polling: false,
            interval: Duration::from_secs(1),
        }
    }
}

/// The folders under watch.
#[derive(Debug)]
pub(super) struct Places<H> {
    how: Watching,
    handler: H,
    native: Option<RecommendedWatcher>,
    poll: Option<PollWatcher>,
    folders: BTreeSet<PathBuf>,
    /// It was said that there are too many.
    told: bool,
}

impl<H: EventHandler + Clone> Places<H> {
    pub(super) fn new(how: Watching, handler: H) -> Self {
        Self {
            how,
            handler,
            native: None,
            poll: None,
            folders: BTreeSet::new(),
            told: false,
        }
    }

    pub(super) fn holds(&self, folder: &Path) -> bool {
        self.folders.contains(folder)
    }

    /// Watches a folder below a root, and those in it; gives every file that is there now. Each
    /// folder is watched before it is looked into, so that nothing falls in between.
    pub(super) fn enter(&mut self, root: &Folder, below: &ContainedPath) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut left = vec![below.clone()];
        while let Some(folder) = left.pop() {
            if folder.parts().len() > MAX_DEPTH || !self.watch(root, &folder) {
                continue;
            }
            let Ok(children) = root.children(&folder, MAX_FILES) else {
                continue;
            };
            for child in children {
                let Ok(path) = folder.child(&child.name) else {
                    continue;
                };
                if is_ignored(&child.name) {
                    continue;
                }
                if child.is_dir {
                    left.push(path);
                } else if files.len() < MAX_FILES {
                    files.push(root.path().join(path.to_path()));
                }
            }
        }
        files
    }

    fn watch(&mut self, root: &Folder, below: &ContainedPath) -> bool {
        let path = root.path().join(below.to_path());
        if self.folders.contains(&path) {
            return true;
        }
        if self.folders.len() >= MAX_FOLDERS {
            if !self.told {
                tracing::warn!(
                    folders = MAX_FOLDERS,
                    "too many folders in the workspaces of OpenClaw; not all are watched"
                );
                self.told = true;
            }
            return false;
        }
        match self.begin(&path) {
            Ok(()) => {
                self.folders.insert(path);
                true
            }
            Err(error) => {
                tracing::debug!(%error, folder = %path.display(), "a folder cannot be watched");
                false
            }
        }
    }

    fn begin(&mut self, path: &Path) -> notify::Result<()> {
        let config = Config::default()
            .with_poll_interval(self.how.interval)
            .with_follow_symlinks(false);
        if self.how.polling || is_of_a_network(path) {
            let poll = match &mut self.poll {
                Some(poll) => poll,
                None => self
                    .poll
                    .insert(PollWatcher::new(self.handler.clone(), config)?),
            };
            return poll.watch(path, RecursiveMode::NonRecursive);
        }
        let native = match &mut self.native {
            Some(native) => native,
            None => self
                .native
                .insert(RecommendedWatcher::new(self.handler.clone(), config)?),
        };
        native.watch(path, RecursiveMode::NonRecursive)
    }

    /// Watches neither this folder nor those in it any longer.
    pub(super) fn leave(&mut self, folder: &Path) {
        let gone: Vec<PathBuf> = self
            .folders
            .range(folder.to_owned()..)
            .take_while(|other| other.starts_with(folder))
            .cloned()
            .collect();
        for folder in gone {
            self.folders.remove(&folder);
            let native = self.native.as_mut().map(|it| it.unwatch(&folder));
            let poll = self.poll.as_mut().map(|it| it.unwatch(&folder));
            // One of the two never had it, and of what is deleted neither has it any more.
            tracing::trace!(?native, ?poll, "a folder is not watched any longer");
        }
    }

    /// Watches nothing but what lies below these.
    pub(super) fn keep(&mut self, roots: &[&Path]) {
        let lies_below = |folder: &Path| roots.iter().any(|root| folder.starts_with(root));
        let gone: Vec<PathBuf> = self
            .folders
            .iter()
            .filter(|folder| !lies_below(folder))
            .cloned()
            .collect();
        for folder in gone {
            self.leave(&folder);
        }
    }
}

/// The path below the root, unless it is the root itself or something in it is ignored.
pub(super) fn below(root: &Path, path: &Path) -> Option<String> {
    let rest = path.strip_prefix(root).ok()?;
    let mut parts = Vec::new();
    for part in rest.components() {
        let Component::Normal(name) = part else {
            return None;
        };
        let name = name.to_str().filter(|name| !is_ignored(name))?;
        parts.push(name);
    }
    (!parts.is_empty() && parts.len() <= MAX_DEPTH + 1).then(|| parts.join("/"))
}

fn is_ignored(name: &str) -> bool {
    name.starts_with('.') || name == "node_modules" || name == "Thumbs.db"
}

/// Whether nobody tells this machine what others change there.
#[cfg(target_os = "linux")]
fn is_of_a_network(path: &Path) -> bool {
    let of = rustix::fs::statfs(path).map(|found| found.f_type);
    // Some systems give the number with a sign.
    of.is_ok_and(|kind| REMOTE.contains(&(kind & 0xffff_ffff)))
}

#[cfg(not(target_os = "linux"))]
fn is_of_a_network(_path: &Path) -> bool {
    false
}

/// nfs, smb, cifs, smb2, 9p, fuse (with virtiofs), vboxsf.
#[cfg(target_os = "linux")]
const REMOTE: [rustix::fs::FsWord; 7] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x0102_1997,
    0x6573_5546,
    0x786f_4256,
];

/// Folders below a root, one in the other.
const MAX_DEPTH: usize = 10;
/// Folders under watch in all; a system gives a user some ten thousand.
const MAX_FOLDERS: usize = 4096;
/// Files looked at in one go.
const MAX_FILES: usize = 50_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_judged_below_the_root_alone() {
        let root = Path::new("/home/u/.openclaw/workspace");
        let below = |path: &str| below(root, &root.join(path));
        assert_eq!(below("notes/a.md"), Some("notes/a.md".into()));
        for path in [
            "",
            ".env",
            "a/.git/config",
            "a/node_modules/x.js",
            "Thumbs.db",
            "a/.gitkeep",
            "../other/a.md",
            "/etc/passwd",
            "1/2/3/4/5/6/7/8/9/10/11/x",
        ] {
            assert_eq!(below(path), None, "{path}");
        }
        assert!(below("1/2/3/4/5/6/7/8/9/10/x").is_some());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed_and_ignored_folders_not_entered() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let root = home.join("root");
        for folder in ["root/a/b", "root/.git", "root/node_modules/x", "outside"] {
            std::fs::create_dir_all(home.join(folder)).unwrap();
        }
        for file in [
            "root/a/b/f",
            "root/.git/config",
            "root/node_modules/x/f",
            "outside/f",
        ] {
            std::fs::write(home.join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink(home.join("outside"), root.join("out")).unwrap();
        let mut places = Places::new(Watching::default(), |_: notify::Result<notify::Event>| {});
        let folder = Folder::open(&root).unwrap();
        let files = places.enter(&folder, &ContainedPath::root());
        assert!(files.contains(&root.join("a/b/f")), "{files:?}");
        assert!(
            files.iter().all(|file| file.starts_with(&root)),
            "{files:?}"
        );
        let watched: Vec<_> = places.folders.iter().cloned().collect();
        assert_eq!(watched, [root.clone(), root.join("a"), root.join("a/b")]);
        places.leave(&root.join("a"));
        assert!(places.holds(&root) && !places.holds(&root.join("a/b")));
        places.keep(&[]);
        assert!(places.folders.is_empty());
    }
}
