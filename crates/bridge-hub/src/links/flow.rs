//! What was heard and what was told on one link, by numbers: so that a request that is made again,
//! because its answer was lost, neither doubles nor loses a line. Pure.
//!
//! ```text
//!  bridge ── lines first..first+n ─► heard: those up to here are known, a hole is refused
//!  bridge ◄─ told: kept until the bridge says that they arrived, then let go
//! ```

use std::collections::VecDeque;

use bridge_transport::carrier::line::{Batch, Line};

/// Both directions of a link.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// The last line of the bridge that was taken.
    heard: u64,
    /// The last line that the bridge said it has.
    arrived: u64,
    /// The lines above it.
    told: VecDeque<String>,
    bytes: usize,
}

/// The bridge says something about numbers that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the numbers of the lines do not fit")]
pub(crate) struct OutOfStep;

/// Some of the lines that were told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    /// The number of the first one.
    pub(crate) first: u64,
    /// The last line of the bridge that was taken.
    pub(crate) heard: u64,
    pub(crate) lines: Vec<String>,
}

impl Flow {
    /// The lines of a batch that are not known yet.
    pub(crate) fn fresh(&mut self, batch: Batch) -> Result<VecDeque<Line>, OutOfStep> {
        self.on_arrived(batch.heard)?;
        let due = self.heard + 1;
        let known = due.checked_sub(batch.first).ok_or(OutOfStep)?;
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        Ok(batch.lines.into_iter().skip(known).collect())
    }

    /// The next of them was taken.
    pub(crate) fn on_taken(&mut self) {
        self.heard += 1;
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard
    }

    /// Keeps one more line for the bridge.
    pub(crate) fn tell(&mut self, line: &Line) {
        let line = line.encode();
        self.bytes += line.len();
        self.told.push_back(line);
    }

    /// Whether more lines should be told now.
    pub(crate) fn has_room(&self) -> bool {
        self.told.len() < MOST_LINES && self.bytes < MOST_BYTES
    }

    /// Whether the bridge has everything that it was told.
    pub(crate) fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// The number of the last line for the bridge.
    pub(crate) fn last(&self) -> u64 {
        self.arrived + self.told.len() as u64
    }

    /// Lets go of what the bridge has.
    pub(crate) fn on_arrived(&mut self, upto: u64) -> Result<(), OutOfStep> {
        if upto > self.last() {
            return Err(OutOfStep);
        }
        while self.arrived < upto {
            if let Some(line) = self.told.pop_front() {
                self.bytes -= line.len();
            }
            self.arrived += 1;
        }
        Ok(())
    }

    /// What comes after a number: as many lines as go together, none when there are none yet.
    pub(crate) fn after(&self, number: u64) -> Result<Told, OutOfStep> {
        let known = number.checked_sub(self.arrived).ok_or(OutOfStep)?;
        let known = usize::try_from(known).map_err(|_| OutOfStep)?;
        if known > self.told.len() {
            return Err(OutOfStep);
        }
        let mut lines = Vec::new();
        let mut bytes = 0;
        for line in self.told.iter().skip(known) {
            bytes += line.len();
            if !lines.is_empty() && bytes > TOGETHER {
                break;
            }
            lines.push(line.clone());
        }
        Ok(Told {
            first: number + 1,
            heard: self.heard,
            lines,
        })
    }
}

/// What waits for a bridge that does not say that it has it; one line may be longer.
const MOST_LINES: usize = 512;
const MOST_BYTES: usize = 1 << 20;
/// What is told in one go; one line may be longer.
const TOGETHER: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line::Text(text.into())
    }

    fn batch(first: u64, heard: u64, lines: &[&str]) -> Batch {
        Batch {
            first,
            heard,
            lines: lines.iter().map(|text| line(text)).collect(),
        }
    }

    /// Takes a batch as far as it is new.
    fn take(flow: &mut Flow, batch: Batch) -> Vec<Line> {
        let fresh: Vec<Line> = flow.fresh(batch).unwrap().into();
        for _ in &fresh {
            flow.on_taken();
        }
        fresh
    }

    #[test]
    fn a_batch_that_comes_again_in_any_cut_gives_every_line_once() {
        let mut flow = Flow::default();
        assert_eq!(
            take(&mut flow, batch(1, 0, &["a", "b"])),
            [line("a"), line("b")]
        );
        assert_eq!(take(&mut flow, batch(1, 0, &["a", "b"])), []);
        assert_eq!(take(&mut flow, batch(1, 0, &["a", "b", "c"])), [line("c")]);
        assert_eq!(take(&mut flow, batch(2, 0, &["b"])), []);
        assert_eq!(
            take(&mut flow, batch(3, 0, &["c", "d", "e"])),
            [line("d"), line("e")]
        );
        assert_eq!(flow.heard(), 5);
        assert_eq!(flow.fresh(batch(7, 0, &["g"])), Err(OutOfStep));
    }

    #[test]
    fn what_was_told_is_told_again_until_it_arrived() {
        let mut flow = Flow::default();
        for text in ["a", "b", "c"] {
            flow.tell(&line(text));
        }
        let told = |flow: &Flow, after| flow.after(after).map(|told| (told.first, told.lines));
        let all = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert_eq!(told(&flow, 0), Ok((1, all.clone())));
        assert_eq!(told(&flow, 0), Ok((1, all.clone())));
        assert_eq!(told(&flow, 2), Ok((3, all[2..].to_vec())));
        assert_eq!(told(&flow, 3), Ok((4, Vec::new())));
        flow.on_arrived(2).unwrap();
        assert_eq!(told(&flow, 1), Err(OutOfStep));
        assert_eq!(told(&flow, 2), Ok((3, all[2..].to_vec())));
        assert_eq!(flow.fresh(batch(1, 4, &[])), Err(OutOfStep));
        assert_eq!(told(&flow, 4), Err(OutOfStep));
        flow.on_arrived(1).unwrap();
        flow.on_arrived(3).unwrap();
        assert!(flow.is_empty() && flow.bytes == 0);
    }

    #[test]
    fn a_bridge_that_takes_nothing_fills_the_room_and_empties_it_again() {
        let mut flow = Flow::default();
        let long = "x".repeat(100_000);
        while flow.has_room() {
            flow.tell(&line(&long));
        }
        assert_eq!(flow.told.len(), 11);
        assert_eq!(flow.after(0).unwrap().lines.len(), 2);
        flow.on_arrived(11).unwrap();
        assert!(flow.has_room());
        flow.tell(&line(&"x".repeat(2 * TOGETHER)));
        assert_eq!(flow.after(11).unwrap().lines.len(), 1);
    }
}
