//! Watching the workspaces of OpenClaw's agents, and telling what is new in them. A thread of its
//! own, because looking at files blocks.
//!
//! Reading order: [`changes`] (what is told and when, pure), [`places`] (which folders are
//! watched), then this file.

mod changes;
mod places;

use std::{
    collections::BTreeMap,
    fs, io,
    io::Read as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::Instant,
};

use bridge_proto::{AgentId, model::FileChange};
use notify::{
    Event, EventKind,
    event::{MetadataKind, ModifyKind},
};

pub use self::places::Watching;
use self::{
    changes::Changes,
    places::{Places, below},
};
use crate::{
    contained::{ContainedPath, Folder},
    guard::{ContentsPolicy, Kept},
    reader,
    root::Workspace,
    sys,
    trees::Tree,
};

/// A file in an agent's workspace is new or different.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNews {
    /// Whose workspace.
    pub agent: AgentId,
    /// Below it, with `/`.
    pub path: String,
    /// What happened.
    pub change: FileChange,
    /// Its text, if that may leave the machine; at most 1 MiB.
    pub content: Option<String>,
}

/// A thread that watches; ends when this is dropped.
#[derive(Debug)]
pub struct Watch {
    thread: Sender<Told>,
}

#[derive(Debug)]
enum Told {
    /// Whose workspaces are watched from now on.
    Agents(Vec<(AgentId, PathBuf)>),
    /// This bridge wrote a file.
    Wrote(PathBuf),
    Seen(notify::Result<Event>),
    Stop,
}

impl Watch {
    /// Starts it. `tell` gets what is new, one file after the other, and may block; the thread
    /// ends when it says `false`. Under the policy `never` nothing is told.
    ///
    /// # Errors
    ///
    /// The system gave no thread.
    pub fn start(
        workspace: Arc<Workspace>,
        how: Watching,
        tell: impl FnMut(FileNews) -> bool + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, told) = mpsc::channel();
        let (to_thread, waiting) = (sender.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&waiting);
        let handler = move |event| {
            // More than that are a burst of which each file is told once anyway.
            if counted.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING
                || to_thread.send(Told::Seen(event)).is_err()
            {
                counted.fetch_sub(1, Ordering::Relaxed);
            }
        };
        let watcher = Watcher {
            workspace,
            roots: BTreeMap::new(),
            changes: Changes::default(),
            places: Places::new(how, handler),
            waiting,
        };
        thread::Builder::new()
            .name("file-watch".into())
            .spawn(move || watcher.run(&told, tell))?;
        Ok(Self { thread: sender })
    }

    /// Watches the workspaces of these agents, and no other any more. May be said again and again:
    /// a workspace that was not there is looked for each time.
    pub fn agents(&self, agents: Vec<(AgentId, PathBuf)>) {
        self.say(Told::Agents(agents));
    }

    /// A file was written by the bridge; that is no news for three seconds.
    pub fn wrote(&self, file: &Path) {
        self.say(Told::Wrote(file.to_owned()));
    }

    fn say(&self, told: Told) {
        if self.thread.send(told).is_err() {
            tracing::debug!("nobody watches files any more");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.say(Told::Stop);
    }
}

/// One workspace under watch.
#[derive(Debug)]
struct Root {
    folder: Folder,
    agents: Vec<(AgentId, Tree)>,
}

struct Watcher<H> {
    workspace: Arc<Workspace>,
    /// By their real path.
    roots: BTreeMap<PathBuf, Root>,
    changes: Changes,
    places: Places<H>,
    /// Events on their way.
    waiting: Arc<AtomicUsize>,
}

impl<H: notify::EventHandler + Clone> Watcher<H> {
    fn run(mut self, told: &Receiver<Told>, mut tell: impl FnMut(FileNews) -> bool) {
        loop {
            let next = match self.changes.deadline() {
                None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => told.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            let mut next = match next {
                Ok(next) => Some(next),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while let Some(one) = next {
                match one {
                    Told::Agents(agents) => self.on_agents(agents),
                    Told::Wrote(path) => self.changes.wrote(Instant::now(), path),
                    Told::Seen(event) => self.on_event(event),
                    Told::Stop => return,
                }
                next = told.try_recv().ok();
            }
            for path in self.changes.due(Instant::now()) {
                for news in self.news(&path) {
                    if !tell(news) {
                        return;
                    }
                }
            }
            let lost = self.changes.take_lost();
            if lost > 0 {
                tracing::warn!(lost, "too many files changed at once; not all are told");
            }
        }
    }

    fn on_agents(&mut self, agents: Vec<(AgentId, PathBuf)>) {
        let mut roots: BTreeMap<PathBuf, Root> = BTreeMap::new();
        for (agent, named) in agents.into_iter().take(MAX_AGENTS) {
            let tree = Tree::OpenclawAgent(named);
            let Some(folder) = self.workspace.watched(&tree) else {
                continue;
            };
            let path = folder.path().to_owned();
            let root = roots.entry(path).or_insert_with(|| Root {
                folder,
                agents: Vec::new(),
            });
            root.agents.push((agent, tree));
        }
        let kept: Vec<&Path> = roots.keys().map(PathBuf::as_path).collect();
        self.places.keep(&kept);
        for (path, root) in &roots {
            if !self.places.holds(path) {
                let files = self.places.enter(&root.folder, &ContainedPath::root());
                for file in files {
                    self.changes.found(&file);
                }
            }
        }
        self.roots = roots;
    }

    fn on_event(&mut self, event: notify::Result<Event>) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::debug!(%error, "watching files went wrong");
                return;
            }
        };
        let moved = match event.kind {
            EventKind::Access(_) => return,
            EventKind::Modify(ModifyKind::Metadata(kind)) if kind != MetadataKind::WriteTime => {
                return;
            }
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => false,
            EventKind::Any
            | EventKind::Other
            | EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(_) => true,
        };
        for path in event.paths {
            self.on_path(path, moved);
        }
    }

    /// `moved`: it may have come, gone or become something else.
    fn on_path(&mut self, path: PathBuf, moved: bool) {
        let is_folder = moved && fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        if self.places.holds(&path) {
            if moved && !is_folder {
                self.places.leave(&path);
            }
            return;
        }
        let mut inside = self.roots.iter();
        let Some((below, root)) = inside.find_map(|(root, it)| Some((below(root, &path)?, it)))
        else {
            return;
        };
        if !is_folder {
            self.changes.touched(Instant::now(), path);
            return;
        }
        let Ok(below) = ContainedPath::parse_wire(&below) else {
            return;
        };
        // A name that leads through a link is none of this root.
        if root.folder.resolve(&below).is_ok_and(|real| real == below) {
            for file in self.places.enter(&root.folder, &below) {
                self.changes.touched(Instant::now(), file);
            }
        }
    }

    /// What is told of a file, to each agent in whose workspace it is.
    fn news(&mut self, path: &Path) -> Vec<FileNews> {
        let mut news = Vec::new();
        let mut change = None;
        for (root, it) in &self.roots {
            let Some(below) = below(root, path) else {
                continue;
            };
            for (agent, tree) in &it.agents {
                let content = match self.workspace.changed_file(tree, &below) {
                    Some(Shown::Text(text)) => Some(text),
                    Some(Shown::Name) => None,
                    None => continue,
                };
                let change = *change.get_or_insert_with(|| self.changes.told(path));
                news.push(FileNews {
                    agent: agent.clone(),
                    path: below.clone(),
                    change,
                    content,
                });
            }
        }
        if news.is_empty() {
            self.changes.gone(path);
        }
        news
    }
}

/// What may be told of a file.
enum Shown {
    Text(String),
    /// That it is there.
    Name,
}

impl Workspace {
    /// The folder of a tree that may be watched.
    fn watched(&self, tree: &Tree) -> Option<Folder> {
        if self.policy() == ContentsPolicy::Never {
            return None;
        }
        let opened = self.open_tree(tree, "")?;
        Folder::open(opened.folder().path()).ok()
    }

    /// `None`: nothing, because it is not there, or in a protected place, or reached by a link out of
    /// the tree.
    fn changed_file(&self, tree: &Tree, path: &str) -> Option<Shown> {
        let opened = self.open_tree(tree, path)?;
        let asked = ContainedPath::parse_wire(path).ok()?;
        let (real, file, meta) = reader::open(opened.folder(), &asked).ok()?;
        match opened.guard.may_leave(&opened.absolute(&real)) {
            Ok(()) => {}
            Err(Kept::Policy(_)) => return Some(Shown::Name),
            Err(Kept::Outside | Kept::Protected(_) | Kept::Internal) => return None,
        }
        // Another name of the same file may lie anywhere.
        if sys::has_other_names(&meta) || meta.len() > MAX_CONTENT {
            return Some(Shown::Name);
        }
        let mut bytes = Vec::new();
        file.take(MAX_CONTENT + 1).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8(bytes).ok();
        let fits = |text: &String| text.len() as u64 <= MAX_CONTENT && !text.contains('\0');
        Some(text.filter(fits).map_or(Shown::Name, Shown::Text))
    }
}

/// Agents whose workspaces are watched.
const MAX_AGENTS: usize = 200;
/// Events that wait for the thread.
const MAX_WAITING: usize = 20_000;
/// Bytes of a file that are told.
const MAX_CONTENT: u64 = 1 << 20;
