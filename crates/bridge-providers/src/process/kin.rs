//! Who works for a program at the moment, and who of them came later than another look.

use std::collections::BTreeSet;

/// Everybody a running program has started who lives, the program itself left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kin(BTreeSet<(u32, u64)>);

impl Kin {
    /// Looks now: whoever stands below the program, and whoever else carries the marker of its
    /// launch. Reads the process table, so it takes milliseconds. `None` where the system does not
    /// tell (only Linux does), or the program is gone.
    #[cfg(target_os = "linux")]
    pub fn of(pid: u32) -> Option<Self> {
        super::linux::kin(pid).map(Self)
    }

    /// This system does not tell.
    #[cfg(not(target_os = "linux"))]
    pub fn of(_: u32) -> Option<Self> {
        None
    }

    /// How many of them were not there at the earlier look.
    pub fn came_after(&self, earlier: &Self) -> usize {
        self.0.difference(&earlier.0).count()
    }
}
