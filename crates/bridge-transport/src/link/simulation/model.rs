//! What has to have arrived at the end, and what may be missing or come twice.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    LENGTHS,
    item::{Item, Said},
};
use crate::payload::TextFrame;

/// How much the classes promise towards this far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// Everything once, in order.
    Once,
    /// Everything, in order, and some of it again.
    AtLeastOnce,
    /// Terminal messages as above; of text what no connection took with it.
    Terminal,
}

#[derive(Debug)]
pub(super) struct Model {
    promise: Promise,
    /// The number of the next item of each stream.
    next: BTreeMap<u64, u64>,
    pub(super) newest: BTreeMap<u64, u64>,
    arrived: BTreeMap<u64, BTreeSet<u64>>,
    arrived_newest: BTreeMap<u64, u64>,
    /// The highest item of each stream that this life of the sender brought.
    highest: BTreeMap<u64, u64>,
    /// Items that may come again.
    again: BTreeSet<(u64, u64)>,
    /// Items that a connection took with it when it died, where nothing had to prove them.
    taken: BTreeSet<(u64, u64)>,
    /// Items that waited on the disk for too long.
    too_old: BTreeSet<(u64, u64)>,
    /// Items a plain far end takes no frame of, by what makes them long; of no stream, values.
    too_long: BTreeMap<usize, Option<(u64, u64)>>,
    /// Those that were given up, and told.
    refused: BTreeSet<(u64, u64)>,
    copies: usize,
}

impl Model {
    pub(super) fn new(promise: Promise) -> Self {
        Self {
            promise,
            next: BTreeMap::new(),
            newest: BTreeMap::new(),
            arrived: BTreeMap::new(),
            arrived_newest: BTreeMap::new(),
            highest: BTreeMap::new(),
            again: BTreeSet::new(),
            taken: BTreeSet::new(),
            too_old: BTreeSet::new(),
            too_long: BTreeMap::new(),
            refused: BTreeSet::new(),
            copies: 0,
        }
    }

    /// The next item of a stream.
    pub(super) fn produce(&mut self, stream: u64, too_long: Option<usize>) -> u64 {
        let next = self.next.entry(stream).or_default();
        let item = *next;
        *next += 1;
        // One that was lost with the process before is another one.
        self.refused.remove(&(stream, item));
        if let Some(long) = too_long {
            self.too_long.insert(long, Some((stream, item)));
        }
        item
    }

    /// A value that a plain far end takes no frame of.
    pub(super) fn never_fits(&mut self, long: usize) {
        self.too_long.insert(long, None);
    }

    /// The link gives up a message whose frame has so many bytes.
    pub(super) fn refuse(&mut self, bytes: usize) {
        let (_, item) = self
            .too_long
            .range(..=bytes)
            .next_back()
            .filter(|(long, _)| bytes < **long + LENGTHS)
            .unwrap_or_else(|| panic!("{bytes} bytes fit"));
        self.refused.extend(*item);
    }

    /// The far end has a frame for good.
    pub(super) fn arrive(&mut self, frame: &TextFrame) {
        let (stream, item, terminal) = match Said::read(frame.as_str()) {
            Said::Terminal { stream, item } => (stream, item, true),
            Said::Text { stream, item } => (stream, item, false),
            Said::Latest { slot, value } => {
                self.arrived_newest.insert(slot, value);
                return;
            }
            Said::Reply | Said::Greeting => return,
        };
        let arrived = self.arrived.entry(stream).or_default();
        let highest = self.highest.get(&stream);
        let forward = highest.is_none_or(|highest| item > *highest);
        if forward {
            self.highest.insert(stream, item);
        }
        if !arrived.insert(item) {
            self.copies += 1;
        } else if forward {
            return;
        }
        let may = match self.promise {
            Promise::Once => false,
            Promise::AtLeastOnce => true,
            Promise::Terminal => terminal,
        };
        let known = self.again.contains(&(stream, item));
        assert!(may || known, "{frame:?} came again, or too late");
    }

    /// What may arrive although nobody heard that it was sent, and is then sent again.
    pub(super) fn may_come_again(&mut self, frame: &TextFrame) {
        match Said::read(frame.as_str()) {
            Said::Terminal { stream, item } | Said::Text { stream, item } => {
                self.again.insert((stream, item));
            }
            Said::Latest { .. } | Said::Reply | Said::Greeting => {}
        }
    }

    /// A frame whose write was confirmed is gone with its connection. `proven` says that the link
    /// had reason to believe that it arrived.
    pub(super) fn take(&mut self, frame: &TextFrame, proven: bool) {
        match Said::read(frame.as_str()) {
            Said::Text { stream, item } => {
                self.taken.insert((stream, item));
            }
            Said::Terminal { stream, item } if proven => {
                self.taken.insert((stream, item));
            }
            Said::Terminal { .. } | Said::Latest { .. } | Said::Reply | Said::Greeting => {}
        }
    }

    /// The disk lets go of this for its age; it may still be on its way.
    pub(super) fn let_go(&mut self, message: &Item) {
        if let Some(stream) = message.class.stream() {
            let items = message.items.iter().map(|item| (stream, *item));
            self.too_old.extend(items);
        }
    }

    /// The process died with this on its disk; producers go on behind what is known of.
    pub(super) fn crash<'a>(&mut self, disk: impl Iterator<Item = &'a Item>) {
        self.highest.clear();
        let mut next: BTreeMap<u64, u64> = BTreeMap::new();
        for (stream, items) in &self.arrived {
            next.insert(*stream, items.last().map_or(0, |last| last + 1));
        }
        for (stream, item) in self.taken.iter().chain(&self.too_old) {
            let next = next.entry(*stream).or_default();
            *next = (*next).max(item + 1);
        }
        for message in disk {
            let Some(stream) = message.class.stream() else {
                continue;
            };
            let next = next.entry(stream).or_default();
            for item in &message.items {
                if self.promise != Promise::Once {
                    self.again.insert((stream, *item));
                }
                *next = (*next).max(item + 1);
            }
        }
        for (stream, produced) in &mut self.next {
            let known = next.get(stream).copied().unwrap_or_default();
            assert!(known <= *produced);
            *produced = known;
        }
    }

    /// Everything that was promised is there.
    pub(super) fn check(&self) {
        for (stream, next) in &self.next {
            let arrived = self.arrived.get(stream);
            let excused = |item| {
                let item = (*stream, item);
                let taken = self.promise == Promise::Terminal && self.taken.contains(&item);
                taken || self.too_old.contains(&item) || self.refused.contains(&item)
            };
            let there = |item| arrived.is_some_and(|arrived| arrived.contains(&item));
            let missing = (0..*next).filter(|item| !there(*item) && !excused(*item));
            let missing: Vec<u64> = missing.collect();
            assert!(missing.is_empty(), "stream {stream} misses {missing:?}");
        }
        assert_eq!(self.arrived_newest, self.newest);
    }

    /// How much arrived of each stream, and how many copies.
    pub(super) fn sizes(&self) -> (Vec<usize>, usize) {
        let sizes = self.arrived.values().map(BTreeSet::len).collect();
        (sizes, self.copies)
    }
}
