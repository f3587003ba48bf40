//! Trees of processes on Linux, read from `/proc`.
//!
//! A process group is not the whole tree: agents put the commands they run into sessions of their
//! own, and orphans change their parent. So the members of a tree are the program, everything
//! seen below it at any time, its session, and whoever carries its launch marker.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
};

use rustix::{
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitOptions, geteuid, getpid, kill_process, kill_process_group,
        pidfd_open, pidfd_send_signal, set_child_subreaper, waitpid,
    },
};

pub(super) use super::unix::prepare;
use super::{LAUNCH_MARKER, RUN_MARKER, strays::Stray, terminate::Census};

/// A program and all it started.
#[derive(Debug)]
pub(super) struct Tree {
    /// The leader; strays have several, and the tree is over when all are.
    roots: Vec<Id>,
    /// Variables, as `NAME=value`, that only members have.
    markers: BTreeSet<String>,
    /// Everybody ever seen in the tree, so that orphans are not lost.
    known: BTreeSet<Id>,
    /// Who was sent SIGTERM.
    asked: BTreeSet<Id>,
    over: bool,
}

/// A process; the start time (in clock ticks since boot) tells it from a later one with its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    pid: u32,
    start: u64,
}

impl Tree {
    pub(super) fn of_child(_: &tokio::process::Child, pid: u32, launch: &str) -> io::Result<Self> {
        let root = Entry::read(pid)
            .ok_or_else(|| io::Error::other("/proc does not show the new process"))?;
        Ok(Self::new(
            vec![root.id],
            [format!("{LAUNCH_MARKER}={launch}")].into(),
        ))
    }

    pub(super) fn of_strays(strays: &[Stray]) -> Self {
        let roots = strays.iter().map(|stray| Id {
            pid: stray.pid,
            start: stray.start_time,
        });
        let markers = strays
            .iter()
            .map(|stray| format!("{RUN_MARKER}={}", stray.marker));
        Self::new(roots.collect(), markers.collect())
    }

    fn new(roots: Vec<Id>, markers: BTreeSet<String>) -> Self {
        let known = roots.iter().copied().collect();
        Self {
            roots,
            markers,
            known,
            asked: BTreeSet::new(),
            over: false,
        }
    }

    /// Counts.
    pub(super) fn census(&mut self) -> Census {
        self.count(&table())
    }

    /// Sends SIGTERM to everybody who did not get it yet.
    pub(super) fn terminate(&mut self) -> Census {
        let census = self.count(&table());
        for id in self.known.difference(&self.asked) {
            signal(*id, Signal::TERM);
        }
        self.asked.clone_from(&self.known);
        census
    }

    /// Sends SIGKILL to everybody.
    pub(super) fn kill(&mut self) -> Census {
        let table = table();
        let census = self.count(&table);
        for root in &self.roots {
            // The group in one go, so that nobody forks out of it. The number is theirs as long
            // as the leader is there, dead or alive.
            if table
                .values()
                .any(|entry| entry.id == *root && entry.group == root.pid)
                && let Some(group) = pid(root.pid)
            {
                ignore_gone(kill_process_group(group, Signal::KILL));
            }
        }
        for id in &self.known {
            signal(*id, Signal::KILL);
        }
        census
    }

    /// The end is known; nothing is left to do.
    pub(super) fn let_go(mut self) {
        self.over = true;
    }

    /// Brings `known` up to date: the living members.
    fn count(&mut self, table: &BTreeMap<u32, Entry>) -> Census {
        let above = self_and_above(table);
        let mut members: BTreeSet<u32> = table
            .values()
            .filter(|entry| !above.contains(&entry.id.pid))
            .filter(|entry| self.known.contains(&entry.id) || self.is_founder(entry))
            .map(|entry| entry.id.pid)
            .collect();
        with_all_below(&mut members, table, |pid| !above.contains(&pid));
        self.known = members
            .iter()
            .filter_map(|member| table.get(member))
            .filter(|entry| !entry.dead)
            .map(|entry| entry.id)
            .collect();
        Census {
            alive: self.known.len(),
            leader: self.roots.iter().any(|root| self.known.contains(root)),
        }
    }

    /// Whether the entry belongs here whoever its parent is now.
    fn is_founder(&self, entry: &Entry) -> bool {
        if entry.dead || !self.roots.iter().any(|root| entry.id.start >= root.start) {
            return false;
        }
        self.roots
            .iter()
            .any(|root| entry.session == root.pid && entry.id.start >= root.start)
            || carries(entry.id.pid, &self.markers)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Those who forked while the first round went on are in the next.
        for _ in 0..LAST_ROUNDS {
            if self.over || self.kill().alive == 0 {
                return;
            }
        }
    }
}

/// Orphans that come to this process because it is the nearest subreaper.
#[derive(Debug, Default)]
pub(super) struct Orphanage {
    open: bool,
    /// Children that were there before.
    strangers: BTreeSet<Id>,
}

impl Orphanage {
    /// From now on orphans come here.
    pub(super) fn open(&mut self) -> io::Result<()> {
        if !self.open {
            self.strangers = orphans().map(|entry| entry.id).collect();
            set_child_subreaper(Some(getpid()))?;
            self.open = true;
        }
        Ok(())
    }

    /// Takes the exit status of dead orphans, never of a child in `own`: somebody waits for those.
    pub(super) fn reap(&self, own: &BTreeSet<u32>) {
        for orphan in self
            .orphans()
            .filter(|orphan| orphan.dead && !own.contains(&orphan.id.pid))
        {
            if let Some(pid) = pid(orphan.id.pid)
                && let Err(error) = waitpid(Some(pid), WaitOptions::NOHANG)
            {
                tracing::debug!(pid = orphan.id.pid, %error, "an orphan could not be reaped");
            }
        }
    }

    /// Kills the orphans that live; right only when no program runs that they could belong to.
    pub(super) fn end_unclaimed(&self) -> usize {
        self.orphans()
            .filter(|orphan| !orphan.dead)
            .map(|orphan| signal(orphan.id, Signal::KILL))
            .count()
    }

    fn orphans(&self) -> impl Iterator<Item = Entry> {
        orphans().filter(|orphan| !self.strangers.contains(&orphan.id))
    }
}

/// Strikes out who is no child any more: a runtime that shut down waited for it.
pub(super) fn forget_gone(own: &mut BTreeSet<u32>) {
    let this = std::process::id();
    own.retain(|pid| Entry::read(*pid).is_some_and(|entry| entry.parent == this));
}

/// Children of this process in another session. Programs started by the spawner are among them;
/// children of other parts of this process are not, because they stay in its session.
fn orphans() -> impl Iterator<Item = Entry> {
    let this = std::process::id();
    // From the same source as the sessions it is compared with: in a container the leader of this
    // process's session may be outside, and then both are 0.
    let session = Entry::read(this).map_or(0, |entry| entry.session);
    table()
        .into_values()
        .filter(move |entry| entry.parent == this && entry.session != session)
}

/// Processes of this user that carry a run marker, this one and those above it left out.
pub(super) fn marked() -> Vec<Stray> {
    let table = table();
    let above = self_and_above(&table);
    let user = geteuid().as_raw();
    let ours =
        |pid: u32| fs::metadata(format!("/proc/{pid}")).is_ok_and(|folder| folder.uid() == user);
    table
        .into_values()
        .filter(|entry| !entry.dead && !above.contains(&entry.id.pid) && ours(entry.id.pid))
        .filter_map(|entry| {
            let marker = variable(entry.id.pid, RUN_MARKER)?;
            Some(Stray {
                pid: entry.id.pid,
                start_time: entry.id.start,
                marker,
            })
        })
        .collect()
}

/// Number and start time of everybody who lives below the program, or carries its launch marker
/// and is an orphan by now; `None` when the program is gone.
pub(super) fn kin(leader: u32) -> Option<BTreeSet<(u32, u64)>> {
    let table = table();
    let root = table.get(&leader).filter(|entry| !entry.dead)?;
    let marker = variable(leader, LAUNCH_MARKER);
    let markers: BTreeSet<String> = marker
        .map(|marker| format!("{LAUNCH_MARKER}={marker}"))
        .into_iter()
        .collect();
    let mut members: BTreeSet<u32> = table
        .values()
        .filter(|entry| !entry.dead && entry.id.start >= root.id.start)
        .filter(|entry| carries(entry.id.pid, &markers))
        .map(|entry| entry.id.pid)
        .collect();
    members.insert(leader);
    with_all_below(&mut members, &table, |_| true);
    members.remove(&leader);
    let living = members
        .iter()
        .filter_map(|member| table.get(member))
        .filter(|entry| !entry.dead)
        .map(|entry| (entry.id.pid, entry.id.start));
    Some(living.collect())
}

/// Adds the children of members, their children, and so on.
fn with_all_below(
    members: &mut BTreeSet<u32>,
    table: &BTreeMap<u32, Entry>,
    counts: impl Fn(u32) -> bool,
) {
    loop {
        let before = members.len();
        for entry in table.values() {
            if members.contains(&entry.parent) && counts(entry.id.pid) {
                members.insert(entry.id.pid);
            }
        }
        if members.len() == before {
            return;
        }
    }
}

/// Whether the very process lives.
pub(super) fn is_alive(stray: &Stray) -> bool {
    Entry::read(stray.pid).is_some_and(|entry| entry.id.start == stray.start_time && !entry.dead)
}

/// One line of the process table.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: Id,
    parent: u32,
    group: u32,
    session: u32,
    /// Only its exit status is left.
    dead: bool,
}

impl Entry {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `pid (name) state parent group session …`, the start time being the 22nd field. The name
    /// may hold anything, also brackets.
    fn parse(pid: u32, stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            id: Id {
                pid,
                start: field(22)?.parse().ok()?,
            },
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            dead: matches!(field(3)?, "Z" | "X" | "x"),
        })
    }
}

fn table() -> BTreeMap<u32, Entry> {
    let Ok(folder) = fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    folder
        .filter_map(|item| item.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Entry::read(pid)?)))
        .collect()
}

/// This process and those it descends from, who are never ended.
fn self_and_above(table: &BTreeMap<u32, Entry>) -> BTreeSet<u32> {
    let mut above = BTreeSet::new();
    let mut next = std::process::id();
    while let Some(entry) = table.get(&next).filter(|_| above.insert(next)) {
        next = entry.parent;
    }
    above
}

/// Whether a process was started with one of these variables (`NAME=value`).
fn carries(pid: u32, markers: &BTreeSet<String>) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
        environment
            .split(|byte| *byte == 0)
            .filter_map(|pair| str::from_utf8(pair).ok())
            .any(|pair| markers.contains(pair))
    })
}

/// A variable a process was started with; `None` too when it may not be looked at.
fn variable(pid: u32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    environment.split(|byte| *byte == 0).find_map(|pair| {
        let value = pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

/// Signals the very process, never one that got its number later: the handle is taken first and
/// the start time is compared through it.
fn signal(id: Id, signal: Signal) {
    let Some(number) = pid(id.pid) else { return };
    let handle = pidfd_open(number, PidfdFlags::empty());
    if Entry::read(id.pid).is_none_or(|entry| entry.id != id) {
        return;
    }
    match handle {
        Ok(handle) => ignore_gone(pidfd_send_signal(handle, signal)),
        // Kernels before 5.3 have no handles.
        Err(Errno::NOSYS) => ignore_gone(kill_process(number, signal)),
        Err(error) => ignore_gone(Err(error)),
    }
}

fn ignore_gone(outcome: Result<(), Errno>) {
    if let Err(error) = outcome
        && error != Errno::SRCH
    {
        tracing::debug!(%error, "a process could not be signalled");
    }
}

fn pid(number: u32) -> Option<Pid> {
    Pid::from_raw(number.try_into().ok()?)
}

const LAST_ROUNDS: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "77 (a) Z (b c) S 5 6 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        let entry = Entry::parse(77, stat).expect("a good line");
        assert_eq!(
            entry.id,
            Id {
                pid: 77,
                start: 987_654
            }
        );
        assert_eq!(
            (entry.parent, entry.group, entry.session, entry.dead),
            (5, 6, 7, false)
        );
    }

    #[test]
    fn this_process_is_in_the_table_and_broken_lines_are_not() {
        assert!(table().contains_key(&std::process::id()));
        assert!(Entry::parse(1, "1 (x) S 0").is_none());
        assert!(Entry::parse(1, "").is_none());
    }

    #[test]
    fn a_signal_for_an_earlier_owner_of_the_number_does_not_arrive() {
        // SIGKILL to this very process, had the start time not been compared.
        signal(
            Id {
                pid: std::process::id(),
                start: 1,
            },
            Signal::KILL,
        );
    }
}
