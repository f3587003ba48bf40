//! What became of messages: compares what was pushed with what a far end has committed.

use std::collections::HashMap;

use super::{far_end::Ledger, table::Row};

/// How many messages of each stream were pushed; they are numbered from 0.
pub(super) type Pushed = HashMap<u32, u32>;

/// What is wrong with what arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) reordered: u64,
    /// Told as gaps, or against the rules of the envelope.
    pub(super) wrong: u64,
}

impl Account {
    pub(super) fn of(pushed: &Pushed, ledger: &Ledger) -> Self {
        let mut seen: HashMap<u32, Vec<bool>> = HashMap::new();
        let mut last: HashMap<u32, u32> = HashMap::new();
        let mut account = Self::default();
        for (stream, n) in &ledger.taken {
            let count = pushed.get(stream).copied().unwrap_or(0);
            let seen = seen.entry(*stream);
            let seen = seen.or_insert_with(|| vec![false; count as usize]);
            match seen.get_mut(*n as usize) {
                Some(seen) if !*seen => *seen = true,
                // What nobody pushed is no message of ours; it cannot be right either.
                Some(_) | None => account.doubled += 1,
            }
            let before = last.insert(*stream, *n);
            account.reordered += u64::from(before.is_some_and(|before| before > *n));
        }
        let arrived: u64 = seen.values().flatten().map(|seen| u64::from(*seen)).sum();
        let all: u64 = pushed.values().map(|count| u64::from(*count)).sum();
        account.lost = all - arrived;
        account.wrong = ledger.gaps + ledger.broken + ledger.others;
        account
    }

    pub(super) fn rows(self, when: &str) -> Vec<Row> {
        vec![
            Row::none(format!("lost {when}"), self.lost),
            Row::none("  doubled", self.doubled),
            Row::none("  reordered within a stream", self.reordered),
            Row::none("  gaps told, frames that break the envelope", self.wrong),
        ]
    }
}
