//! The disk under the spool: what is on it, what it gives back, and what a crash leaves.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Event, OUTBOX, World, item::Item, link};
use crate::{
    delivery::Epoch,
    link::{Input, ReadBack, Record, Spooled},
    payload::{Payload as _, Stored as _},
};

/// What a spool with this on its disk holds, of which nothing before `first` is needed.
pub(super) fn spooled(disk: &BTreeMap<u64, Bytes>, first: u64) -> Spooled<Item> {
    let next = disk.last_key_value().map_or(first, |(seq, _)| seq + 1);
    Spooled {
        epoch: Epoch(7),
        first,
        next,
        read: read(disk, first, next, OUTBOX / 4),
        store: Item::store,
        expired: None,
    }
}

/// As much of it as was asked for.
fn read(disk: &BTreeMap<u64, Bytes>, from: u64, upto: u64, bytes: usize) -> ReadBack<Item> {
    let mut messages = Vec::new();
    let mut reached = from;
    let mut size = 0;
    for (seq, stored) in disk.range(from..upto) {
        if size >= bytes {
            break;
        }
        let item = Item::restore(stored).expect("what was written");
        size += item.size();
        messages.push((*seq, item));
        reached = seq + 1;
    }
    ReadBack {
        from,
        upto: if size < bytes { upto } else { reached },
        messages,
    }
}

impl World {
    /// Written down soon; now and then the disk needs a while.
    pub(super) fn append(&mut self, records: Vec<Record>) {
        for record in records {
            assert_eq!(record.seq, self.last_number + 1, "numbers are dense");
            self.last_number = record.seq;
            self.unwritten.push(record);
        }
        let within = if self.chance(10) { 5000 } else { 1 };
        self.plan(within, Event::Appended(self.last_number));
    }

    pub(super) fn on_appended(&mut self, upto: u64) {
        if upto != self.last_number {
            return;
        }
        let written = std::mem::take(&mut self.unwritten);
        if let Some(disk) = &mut self.disk {
            disk.extend(written.into_iter().map(|it| (it.seq, it.stored)));
            self.input(Input::Appended { upto });
        }
    }

    pub(super) fn on_disk_gives(&mut self, from: u64, upto: u64, bytes: usize) {
        if let Some(disk) = &self.disk {
            let read = read(disk, from, upto, bytes);
            self.input(Input::Read(read));
        }
    }

    pub(super) fn trim(&mut self, upto: u64) {
        self.acked = self.acked.max(upto);
        if let Some(disk) = &mut self.disk {
            disk.retain(|seq, _| *seq > upto);
        }
    }

    /// The driver goes on trying as long as something is on the disk alone.
    pub(super) fn on_spool_lost(&mut self) {
        if !self.link.is_all_here() {
            self.plan(1000, Event::SpoolLost);
            return;
        }
        self.tell(|| "the disk takes nothing any more".to_owned());
        self.disk = None;
        self.unwritten.clear();
        let epoch = Epoch(8);
        self.input(Input::SpoolLost { epoch });
    }

    /// Some of the oldest on the disk has waited for too long.
    pub(super) fn expire(&mut self) {
        self.plan(100_000, Event::Expire);
        let chosen = self.random.next();
        let Some(disk) = &mut self.disk else { return };
        let count = u64::try_from(disk.len()).unwrap();
        let Some(upto) = disk
            .keys()
            .nth(usize::try_from(chosen % count.max(1)).unwrap())
        else {
            return;
        };
        let behind = disk.split_off(&(upto + 1));
        let gone = std::mem::replace(disk, behind);
        let upto = *gone.last_key_value().unwrap().0;
        for stored in gone.values() {
            self.model.let_go(&Item::restore(stored).unwrap());
        }
        self.acked = self.acked.max(upto);
        self.tell(|| format!("too old: everything up to {upto}"));
        self.input(Input::Expired { upto });
    }

    /// What was written down and what arrived is a beginning of what was pushed; the producers go
    /// on behind it.
    pub(super) fn crash(&mut self) {
        self.tell(|| "the process dies".to_owned());
        self.take_away();
        self.store();
        let disk = self.disk.clone().expect("only one with a spool dies");
        self.unwritten.clear();
        let last = disk.last_key_value().map(|(seq, _)| *seq);
        self.last_number = last.unwrap_or(self.acked);
        let kept = disk.values().filter_map(|stored| Item::restore(stored));
        let kept: Vec<Item> = kept.collect();
        assert_eq!(kept.len(), disk.len());
        self.model.crash(kept.iter());
        self.waiting = None;
        self.dialling = None;
        let link = link(Epoch(99), self.now);
        self.link = link.with_spool(spooled(&disk, self.acked + 1));
        // The new life counts its connections anew; the network knows none of the old ones.
        self.agenda.clear();
        self.begin();
        self.perform();
    }
}
