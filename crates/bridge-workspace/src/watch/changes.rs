//! Which changes of files are told, and when: a burst becomes one, what is still being written
//! waits, and what this bridge wrote itself is no news. Pure: paths and times in, paths out.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bridge_proto::model::FileChange;

/// The changes that are not told yet.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pending: HashMap<PathBuf, Pending>,
    /// Until when a change of a file is that of this bridge.
    own: HashMap<PathBuf, Instant>,
    /// Files that were there before, by the hash of their path.
    known: HashSet<u64>,
    lost: u64,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    first: Instant,
    last: Instant,
}

impl Pending {
    fn due(self) -> Instant {
        (self.last + SETTLED).min(self.first + LONGEST)
    }
}

impl Changes {
    /// The file was there when it was looked for.
    pub(super) fn found(&mut self, path: &Path) {
        if self.known.len() < MAX_KNOWN {
            self.known.insert(hash(path));
        }
    }

    /// Something happened to the file.
    pub(super) fn touched(&mut self, now: Instant, path: PathBuf) {
        let room = self.pending.len() < MAX_PENDING;
        match self.pending.entry(path) {
            Entry::Occupied(mut known) => known.get_mut().last = now,
            Entry::Vacant(new) if room => {
                let (first, last) = (now, now);
                new.insert(Pending { first, last });
            }
            Entry::Vacant(_) => self.lost += 1,
        }
    }

    /// This bridge wrote the file just now.
    pub(super) fn wrote(&mut self, now: Instant, path: PathBuf) {
        self.own.retain(|_, until| *until + LONGEST > now);
        if self.own.len() < MAX_PENDING {
            self.own.insert(path, now + ECHO);
        }
    }

    /// The files to tell of now, in the order in which they changed.
    pub(super) fn due(&mut self, now: Instant) -> Vec<PathBuf> {
        let due = self.pending.iter().filter(|(_, it)| it.due() <= now);
        let mut due: Vec<(Instant, PathBuf)> =
            due.map(|(path, it)| (it.last, path.clone())).collect();
        due.sort();
        let mut news = Vec::new();
        for (last, path) in due {
            self.pending.remove(&path);
            let own = self.own.get(&path).is_some_and(|until| last <= *until);
            if own {
                self.found(&path);
            } else {
                news.push(path);
            }
        }
        news
    }

    /// When something is due next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.values().map(|it| it.due()).min()
    }

    /// What is said of a file that is there: the first time that it is new.
    pub(super) fn told(&mut self, path: &Path) -> FileChange {
        if self.known.contains(&hash(path)) || self.known.len() >= MAX_KNOWN {
            return FileChange::Change;
        }
        self.known.insert(hash(path));
        FileChange::Add
    }

    /// The file is not there any more.
    pub(super) fn gone(&mut self, path: &Path) {
        self.known.remove(&hash(path));
    }

    /// How many changes were left out for want of room since the last time.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// Without a change for this long a file counts as written.
const SETTLED: Duration = Duration::from_millis(800);
/// One that never settles is told this often.
const LONGEST: Duration = Duration::from_secs(10);
/// For this long after it wrote a file a change of it is the bridge's own.
const ECHO: Duration = Duration::from_secs(3);
const MAX_PENDING: usize = 4096;
const MAX_KNOWN: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        start: Instant,
        changes: Changes,
    }

    impl World {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                changes: Changes::default(),
            }
        }

        fn at(&self, millis: u64) -> Instant {
            self.start + Duration::from_millis(millis)
        }

        fn touch(&mut self, millis: u64, path: &str) {
            let now = self.at(millis);
            self.changes.touched(now, path.into());
        }

        fn due(&mut self, millis: u64) -> Vec<String> {
            let now = self.at(millis);
            let due = self.changes.due(now);
            due.iter().map(|path| path.display().to_string()).collect()
        }
    }

    #[test]
    fn a_burst_is_one_change_after_it_has_settled() {
        let mut world = World::new();
        for millis in (0..500).step_by(10) {
            world.touch(millis, "/w/a");
        }
        world.touch(100, "/w/b");
        assert_eq!(world.changes.deadline(), Some(world.at(900)));
        assert_eq!(world.due(899), Vec::<String>::new());
        assert_eq!(world.due(1290), ["/w/b", "/w/a"]);
        assert_eq!(world.due(9000), Vec::<String>::new());
        assert_eq!(world.changes.deadline(), None);
    }

    #[test]
    fn a_file_that_never_rests_is_told_all_the_same() {
        let mut world = World::new();
        let mut told = 0;
        for millis in (0..60_000).step_by(100) {
            world.touch(millis, "/w/log");
            told += world.due(millis).len();
        }
        assert!((5..=6).contains(&told), "{told}");
    }

    #[test]
    fn what_the_bridge_wrote_is_no_news_for_three_seconds() {
        let mut world = World::new();
        world.touch(0, "/w/a");
        let now = world.at(10);
        world.changes.wrote(now, "/w/a".into());
        assert_eq!(world.due(1000), Vec::<String>::new());
        world.touch(2900, "/w/a");
        assert_eq!(world.due(4000), Vec::<String>::new());
        world.touch(3100, "/w/a");
        assert_eq!(world.due(4000), ["/w/a"]);
        assert_eq!(world.changes.told(Path::new("/w/a")), FileChange::Change);
    }

    #[test]
    fn a_file_is_new_once_and_again_after_it_was_gone() {
        let mut changes = Changes::default();
        let path = Path::new("/w/a");
        assert_eq!(changes.told(path), FileChange::Add);
        assert_eq!(changes.told(path), FileChange::Change);
        changes.gone(path);
        assert_eq!(changes.told(path), FileChange::Add);
        let old = Path::new("/w/old");
        changes.found(old);
        assert_eq!(changes.told(old), FileChange::Change);
    }

    #[test]
    fn a_million_files_take_bounded_room_and_are_counted() {
        let mut world = World::new();
        for n in 0..10_000 {
            world.touch(0, &format!("/w/{n}"));
        }
        assert_eq!(world.due(5000).len(), MAX_PENDING);
        let lost = 10_000 - MAX_PENDING as u64;
        assert_eq!(
            (world.changes.take_lost(), world.changes.take_lost()),
            (lost, 0)
        );
    }
}
