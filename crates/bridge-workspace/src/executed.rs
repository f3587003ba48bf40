//! Which commands of a hub were carried out: those up to a number, and some above it.
//!
//! Invariant: a number is in the set once what it stands for was done, and stays in it as long as
//! the hub counts in the same numbering. Bounded by how far the hub may run ahead of the first
//! number that is missing.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Names a numbering of a hub; 32 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Numbering(pub u128);

/// One command of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandId {
    /// In which numbering.
    pub numbering: Numbering,
    /// Its number there, from 1.
    pub seq: u64,
}

/// The commands that were carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Executed {
    numbering: Option<Numbering>,
    last: u64,
    above: BTreeSet<u64>,
}

impl Executed {
    /// Returns the numbering that counts, and the last number up to which everything was done.
    pub fn upto(&self) -> Option<CommandId> {
        self.numbering.map(|numbering| CommandId {
            numbering,
            seq: self.last,
        })
    }

    /// Tells whether it was carried out.
    pub fn contains(&self, id: CommandId) -> bool {
        self.numbering == Some(id.numbering)
            && (id.seq <= self.last || self.above.contains(&id.seq))
    }

    /// Returns the numbers above [`upto`](Self::upto), rising.
    pub fn above(&self) -> impl Iterator<Item = CommandId> {
        let numbering = self.numbering;
        let numbers = self.above.iter();
        numbers.filter_map(move |seq| {
            Some(CommandId {
                numbering: numbering?,
                seq: *seq,
            })
        })
    }

    /// This one was carried out. Of another numbering than before, those before count no more.
    pub(crate) fn insert(&mut self, id: CommandId) {
        self.count_in(id.numbering);
        if id.seq > self.last {
            self.above.insert(id.seq);
        }
        self.close_up();
    }

    /// Nothing up to this one is waited for: it was carried out, or will never come.
    pub(crate) fn pass(&mut self, id: CommandId) {
        self.count_in(id.numbering);
        self.last = self.last.max(id.seq);
        self.above = self.above.split_off(&self.last.saturating_add(1));
        self.close_up();
    }

    fn count_in(&mut self, numbering: Numbering) {
        if self.numbering != Some(numbering) {
            *self = Self {
                numbering: Some(numbering),
                ..Self::default()
            };
        }
    }

    fn close_up(&mut self) {
        while self.above.first() == Some(&self.last.saturating_add(1)) {
            self.above.pop_first();
            self.last += 1;
        }
    }
}

impl fmt::Display for Numbering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Numbering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Numbering({self})")
    }
}

impl Serialize for Numbering {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Numbering {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let number = u128::from_str_radix(&text, 16).map_err(D::Error::custom)?;
        Ok(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(numbering: u128, seq: u64) -> CommandId {
        let numbering = Numbering(numbering);
        CommandId { numbering, seq }
    }

    #[test]
    fn numbers_that_were_done_out_of_order_are_known_and_counted_when_the_hole_is_filled() {
        let mut done = Executed::default();
        assert_eq!(done.upto(), None);
        for seq in [2, 4, 1] {
            assert!(!done.contains(id(7, seq)));
            done.insert(id(7, seq));
            assert!(done.contains(id(7, seq)));
        }
        assert_eq!(done.upto(), Some(id(7, 2)));
        assert!(!done.contains(id(7, 3)));
        assert_eq!(done.above().collect::<Vec<_>>(), [id(7, 4)]);
        done.insert(id(7, 3));
        assert_eq!((done.upto(), done.above().count()), (Some(id(7, 4)), 0));
    }

    #[test]
    fn another_numbering_makes_no_number_known() {
        let mut done = Executed::default();
        done.pass(id(7, 9));
        done.insert(id(8, 2));
        assert!(!done.contains(id(7, 3)) && !done.contains(id(8, 1)));
        assert_eq!(done.upto(), Some(id(8, 0)));
        done.pass(id(8, 1));
        assert_eq!(done.upto(), Some(id(8, 2)));
    }
}
