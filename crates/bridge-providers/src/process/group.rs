//! Trees of processes on Unix systems without `/proc`: the process group of the program.
//!
//! What left the group (a command in a session of its own) is not found here; programs that take
//! commands down with them on SIGTERM are the remedy.

use std::{collections::BTreeSet, io};

use rustix::process::{
    Pid, Signal, kill_process_group, test_kill_process, test_kill_process_group,
};

use super::terminate::Census;
pub(super) use super::unix::prepare;

/// A program and all it started within its group.
#[derive(Debug)]
pub(super) struct Tree {
    group: Pid,
    over: bool,
}

impl Tree {
    pub(super) fn of_child(_: &tokio::process::Child, pid: u32, _: &str) -> io::Result<Self> {
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let group = group.ok_or_else(|| io::Error::other("a process without a number"))?;
        Ok(Self { group, over: false })
    }

    pub(super) fn census(&mut self) -> Census {
        Census {
            alive: usize::from(test_kill_process_group(self.group).is_ok()),
            leader: test_kill_process(self.group).is_ok(),
        }
    }

    pub(super) fn terminate(&mut self) -> Census {
        self.signal(Signal::TERM)
    }

    pub(super) fn kill(&mut self) -> Census {
        self.signal(Signal::KILL)
    }

    pub(super) fn let_go(mut self) {
        self.over = true;
    }

    fn signal(&mut self, signal: Signal) -> Census {
        let census = self.census();
        if census.alive > 0
            && let Err(error) = kill_process_group(self.group, signal)
        {
            tracing::debug!(%error, "a process group could not be signalled");
        }
        census
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if !self.over {
            self.kill();
        }
    }
}

/// Orphans go to the system's first process here, which reaps them.
#[derive(Debug, Default)]
pub(super) struct Orphanage;

#[expect(clippy::unused_self, reason = "the shape of the Linux version")]
impl Orphanage {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of the Linux version")]
    pub(super) fn open(&mut self) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn reap(&self, _: &BTreeSet<u32>) {}

    pub(super) fn end_unclaimed(&self) -> usize {
        0
    }
}

pub(super) fn forget_gone(_: &mut BTreeSet<u32>) {}
