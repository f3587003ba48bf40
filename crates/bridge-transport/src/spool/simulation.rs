//! A disk in memory that crashes, fills up and fails where a test wants it.
//!
//! It is as hostile as disks are allowed to be: what was not synced may be lost, torn at any
//! byte or arrive as zeros, sector by sector; names that were not synced may be as they were at
//! any moment since; a sync that failed is forgotten by the next one. Everything follows from a
//! seed.

use std::{collections::BTreeMap, io};

use super::disk::{Disk, Name};
use crate::jitter::Jitter;

/// What goes wrong, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies in the middle; everything fails until [`SimulatedDisk::restart`].
    Crash,
    /// The disk answers with an error, having done a part of it.
    Error,
    /// The disk is full, having written a part of it.
    NoSpace,
    /// Fewer bytes than asked for are written or read, and no error is told.
    Short,
}

/// What ends a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process died; the system goes on and has everything that was written.
    Process,
    /// The machine lost its power.
    Power,
}

/// A disk in memory.
#[derive(Debug, Clone)]
pub struct SimulatedDisk {
    /// What a process sees.
    names: BTreeMap<Name, u64>,
    /// The names as the disk has them.
    synced_names: BTreeMap<Name, u64>,
    /// Changes of names since then, oldest first.
    changes: Vec<Change>,
    files: BTreeMap<u64, Content>,
    made: u64,
    boots: u8,
    random: Jitter,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    dead: bool,
    room: Option<u64>,
}

#[derive(Debug, Clone, Default)]
struct Content {
    /// What a process sees.
    seen: Vec<u8>,
    /// What the disk has for sure.
    synced: Vec<u8>,
    /// What the disk may have as well: it was written on the system's own account, and cut since.
    stale: Vec<u8>,
    /// A sync of this failed, and the next one will not write it either.
    forgotten: Vec<(usize, usize)>,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Set(Name, u64),
    /// At once or not at all.
    Renamed(Name, Name, u64),
    Gone(Name),
}

impl SimulatedDisk {
    /// An empty disk whose mishaps follow from a seed.
    pub fn new(seed: u64) -> Self {
        Self {
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            changes: Vec::new(),
            files: BTreeMap::new(),
            made: 0,
            boots: 1,
            random: Jitter::seeded(seed),
            operations: 0,
            faults: BTreeMap::new(),
            dead: false,
            room: None,
        }
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// Lets the operation with this number go wrong; the first one is 0.
    pub fn fail_at(&mut self, operation: u64, fault: Fault) {
        self.faults.insert(operation, fault);
    }

    /// Takes back what [`fail_at`](Self::fail_at) arranged.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    /// Bounds the bytes of all files together.
    pub fn set_room(&mut self, room: Option<u64>) {
        self.room = room;
    }

    /// Whether the process died at a [`Fault::Crash`].
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        let sizes = self.names.values().filter_map(|id| self.files.get(id));
        sizes.map(|content| content.seen.len() as u64).sum()
    }

    /// The bytes of a file, to be looked at or damaged.
    pub fn bytes_mut(&mut self, name: Name) -> Option<&mut Vec<u8>> {
        let content = self.files.get_mut(self.names.get(&name)?)?;
        Some(&mut content.seen)
    }

    /// Begins another life after the last one ended in this way.
    pub fn restart(&mut self, end: End) {
        self.dead = false;
        self.heal();
        match end {
            End::Process => {}
            End::Power => self.lose_power(),
        }
    }

    fn lose_power(&mut self) {
        self.boots = self.boots.wrapping_add(1);
        let survived = self.below(self.changes.len() + 1);
        let mut names = std::mem::take(&mut self.synced_names);
        for change in self.changes.drain(..).take(survived) {
            change.apply(&mut names);
        }
        let mut files = std::mem::take(&mut self.files);
        for id in names.values() {
            let content = files.remove(id).unwrap_or_default();
            let bytes = self.after_power_cut(content);
            self.files.insert(
                *id,
                Content {
                    seen: bytes.clone(),
                    synced: bytes,
                    stale: Vec::new(),
                    forgotten: Vec::new(),
                },
            );
        }
        self.synced_names.clone_from(&names);
        self.names = names;
    }

    /// Every sector has what was synced, what was written, or zeros where there was nothing.
    fn after_power_cut(&mut self, content: Content) -> Vec<u8> {
        let Content {
            seen,
            synced,
            stale,
            forgotten,
        } = content;
        let (short, long) = (seen.len().min(synced.len()), seen.len().max(synced.len()));
        let len = if self.below(4) == 0 {
            seen.len()
        } else {
            short + self.below(long - short + 1)
        };
        let mut bytes = vec![0; len];
        for start in (0..len).step_by(SECTOR) {
            let end = (start + SECTOR).min(len);
            let is_forgotten = forgotten
                .iter()
                .any(|(from, to)| start < *to && *from < end);
            let unchanged = seen.get(start..end) == synced.get(start..end);
            let source = match self.below(6) {
                _ if unchanged => &synced,
                0..=2 if !is_forgotten => &seen,
                3 if !stale.is_empty() => &stale,
                _ => &synced,
            };
            let there = source.len().clamp(start, end);
            if let (Some(into), Some(from)) =
                (bytes.get_mut(start..there), source.get(start..there))
            {
                into.copy_from_slice(from);
            }
        }
        bytes
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.random.next() % bound).unwrap_or_default()
    }

    /// Counts an operation; what goes wrong with it.
    fn operate(&mut self) -> io::Result<Option<Fault>> {
        if self.dead {
            return Err(io::Error::other("the process is dead"));
        }
        let fault = self.faults.get(&self.operations).copied();
        self.operations += 1;
        self.dead = fault == Some(Fault::Crash);
        Ok(fault)
    }

    /// An operation that is done or not done, whatever is told of it.
    fn whole(&mut self) -> io::Result<(bool, io::Result<()>)> {
        let fault = self.operate()?;
        let done = self.below(2) == 0;
        Ok(match fault {
            None | Some(Fault::Short) => (true, Ok(())),
            Some(Fault::Crash | Fault::Error) => (done, Err(failed())),
            Some(Fault::NoSpace) => (false, Err(io::ErrorKind::StorageFull.into())),
        })
    }

    fn content(&mut self, name: Name) -> io::Result<&mut Content> {
        let id = self.names.get(&name).ok_or(io::ErrorKind::NotFound)?;
        self.files
            .get_mut(id)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }
}

impl Content {
    fn cut(&mut self, len: usize) {
        self.stale = std::mem::take(&mut self.seen);
        self.seen = self.stale.clone();
        self.seen.resize(len, 0);
        // What is written there from now on is new to the system.
        self.forgotten.retain_mut(|(from, to)| {
            *to = len.min(*to);
            from < to
        });
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<Name, u64>) {
        match self {
            Self::Set(name, id) => {
                names.insert(name, id);
            }
            Self::Renamed(from, to, id) => {
                names.remove(&from);
                names.insert(to, id);
            }
            Self::Gone(name) => {
                names.remove(&name);
            }
        }
    }
}

impl Disk for SimulatedDisk {
    fn list(&mut self) -> io::Result<Vec<(Name, u64)>> {
        self.whole()?.1?;
        let files = self.names.iter().filter_map(|(name, id)| {
            let content = self.files.get(id)?;
            Some((*name, content.seen.len() as u64))
        });
        Ok(files.collect())
    }

    fn create(&mut self, name: Name) -> io::Result<()> {
        let (done, told) = self.whole()?;
        if done {
            if let Ok(content) = self.content(name) {
                content.cut(0);
            } else {
                self.made += 1;
                self.files.insert(self.made, Content::default());
                self.change(Change::Set(name, self.made));
            }
        }
        told
    }

    fn append(&mut self, name: Name, bytes: &[u8]) -> io::Result<usize> {
        let fault = self.operate()?;
        let part = self.below(bytes.len() + 1);
        let room = self.room.map_or(usize::MAX, |room| {
            usize::try_from(room.saturating_sub(self.size())).unwrap_or(usize::MAX)
        });
        let written = match fault {
            None => bytes.len(),
            Some(Fault::Short) => part.max(1),
            Some(Fault::Crash | Fault::Error | Fault::NoSpace) => part,
        }
        .min(room)
        .min(bytes.len());
        self.content(name)?
            .seen
            .extend_from_slice(bytes.get(..written).unwrap_or_default());
        match fault {
            Some(Fault::Crash | Fault::Error) => Err(failed()),
            Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            None | Some(Fault::Short) if written == 0 && !bytes.is_empty() => {
                Err(io::ErrorKind::StorageFull.into())
            }
            None | Some(Fault::Short) => Ok(written),
        }
    }

    fn read_at(&mut self, name: Name, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let fault = self.operate()?;
        let part = self.below(into.len() + 1).max(1);
        let content = self.content(name)?;
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| content.seen.get(offset..))
            .unwrap_or_default();
        let len = match fault {
            Some(Fault::Crash | Fault::Error | Fault::NoSpace) => return Err(failed()),
            Some(Fault::Short) => part,
            None => into.len(),
        }
        .min(rest.len())
        .min(into.len());
        if let (Some(into), Some(from)) = (into.get_mut(..len), rest.get(..len)) {
            into.copy_from_slice(from);
        }
        Ok(len)
    }

    fn truncate(&mut self, name: Name, len: u64) -> io::Result<()> {
        let (done, told) = self.whole()?;
        let content = self.content(name)?;
        if done {
            let len = usize::try_from(len).map_err(io::Error::other)?;
            content.cut(len);
        }
        told
    }

    fn sync(&mut self, name: Name) -> io::Result<()> {
        let (_, told) = self.whole()?;
        let content = self.content(name)?;
        if told.is_err() {
            let (from, to) = (content.synced.len(), content.seen.len());
            content.forgotten.push((from.min(to), to));
            return told;
        }
        let mut synced = content.seen.clone();
        for (from, to) in &content.forgotten {
            for at in *from..(*to).min(synced.len()) {
                let before = content.synced.get(at).copied().unwrap_or_default();
                if let Some(byte) = synced.get_mut(at) {
                    *byte = before;
                }
            }
        }
        content.synced = synced;
        content.stale.clear();
        Ok(())
    }

    fn rename(&mut self, from: Name, to: Name) -> io::Result<()> {
        let (done, told) = self.whole()?;
        let id = *self.names.get(&from).ok_or(io::ErrorKind::NotFound)?;
        if done {
            self.change(Change::Renamed(from, to, id));
        }
        told
    }

    fn remove(&mut self, name: Name) -> io::Result<()> {
        let (done, told) = self.whole()?;
        if !self.names.contains_key(&name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if done {
            self.change(Change::Gone(name));
        }
        told
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let (_, told) = self.whole()?;
        if told.is_ok() {
            self.changes.clear();
            self.synced_names.clone_from(&self.names);
        }
        told
    }

    fn boot(&self) -> Option<[u8; 16]> {
        Some([self.boots; 16])
    }
}

fn failed() -> io::Error {
    io::Error::other("the disk failed")
}

/// What a disk writes at once.
const SECTOR: usize = 512;
