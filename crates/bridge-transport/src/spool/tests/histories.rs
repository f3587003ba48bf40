//! Whole histories from a seed: appends, syncs, acknowledgements, faults of the disk, crashes at
//! any operation. A model says what must be there. A failure prints its seed.

use std::collections::BTreeMap;

use super::*;
use crate::jitter::Jitter;

#[test]
fn nothing_that_was_accepted_is_lost_whatever_the_disk_does() {
    for seed in 0..SEEDS {
        let history = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(history.is_ok(), "history of seed {seed} broke a promise");
    }
}

#[test]
fn the_same_seed_tells_the_same_history() {
    let told = |seed| World::new(seed).run();
    assert_eq!(told(7), told(7));
    assert_ne!(told(7), told(8));
}

#[test]
fn a_crash_at_any_operation_costs_nothing_that_was_promised() {
    for end in [End::Process, End::Power] {
        for seed in 0..CRASH_SEEDS {
            let mut operation = 0;
            loop {
                let told = std::panic::catch_unwind(|| {
                    let mut world = World::new(seed);
                    world.calm = true;
                    world.crash_at = Some((operation, end));
                    world.run();
                    world.crash_at.is_none()
                });
                assert!(
                    told.is_ok(),
                    "seed {seed}, {end:?} at operation {operation}"
                );
                if !told.unwrap() {
                    break;
                }
                operation += 1;
            }
            assert!(operation > 50, "seed {seed} did next to nothing");
        }
    }
}

#[test]
fn any_operation_may_fail_and_the_spool_goes_on() {
    for fault in [Fault::Error, Fault::NoSpace, Fault::Short] {
        for seed in 0..CRASH_SEEDS {
            let mut operation = 0;
            loop {
                let told = std::panic::catch_unwind(|| {
                    let mut world = World::new(seed);
                    world.calm = true;
                    world.disk.fail_at(operation, fault);
                    world.run();
                    world.disk.operations()
                });
                assert!(
                    told.is_ok(),
                    "seed {seed}, {fault:?} at operation {operation}"
                );
                if operation >= told.unwrap() {
                    break;
                }
                operation += 1;
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrote {
    flags: u8,
    at_ms: u64,
    payload: Vec<u8>,
}

struct World {
    disk: SimulatedDisk,
    random: Jitter,
    /// What was accepted and must be there, by number.
    accepted: BTreeMap<u64, Wrote>,
    /// What was refused or interrupted; it may be there if its number was never given out.
    tried: BTreeMap<u64, Vec<Wrote>>,
    /// No number up to this one may be given out again.
    given_out: u64,
    acked: u64,
    expired: u64,
    synced: u64,
    clock: u64,
    epoch: Option<[u8; 16]>,
    closed: bool,
    lost_power: bool,
    end: Option<End>,
    /// No faults but the one that was asked for.
    calm: bool,
    crash_at: Option<(u64, End)>,
    digest: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            disk: SimulatedDisk::new(seed),
            random: Jitter::seeded(seed ^ 0x5eed),
            accepted: BTreeMap::new(),
            tried: BTreeMap::new(),
            given_out: 0,
            acked: 0,
            expired: 0,
            synced: 0,
            clock: 0,
            epoch: None,
            closed: false,
            lost_power: false,
            end: None,
            calm: false,
            crash_at: None,
            digest: 0,
        }
    }

    fn run(&mut self) -> u64 {
        let lives = if self.calm { 3 } else { 6 };
        let mut lived = 0;
        // A few more for the lives that ended while opening.
        while lived < lives {
            lived += u32::from(self.live());
        }
        self.disk.heal();
        self.disk.set_room(None);
        self.restart();
        let mut disk = self.disk.clone();
        let (mut spool, found) = self.open(&mut disk).expect("nothing is in the way");
        self.check(&mut spool, &found);
        self.digest
    }

    fn restart(&mut self) {
        if let Some(end) = self.end.take() {
            self.disk.restart(end);
            if end == End::Power {
                self.lost_power = true;
                self.forget_unsynced();
            }
        }
    }

    /// After a power cut only this must be there; the rest may be.
    fn forget_unsynced(&mut self) {
        let unsynced = self.accepted.split_off(&(self.synced + 1));
        for (seq, wrote) in unsynced {
            self.tried.insert(seq, vec![wrote]);
        }
    }

    fn open<'a>(
        &mut self,
        disk: &'a mut SimulatedDisk,
    ) -> Option<(Spool<&'a mut SimulatedDisk>, Found)> {
        let mut epoch = [0; 16];
        epoch[..8].copy_from_slice(&self.random.next().to_le_bytes());
        let (spool, found) = Spool::open(disk, config(), epoch).ok()?;
        if self.given_out > 0 {
            assert_eq!(Some(found.epoch), self.epoch, "the stream got another name");
        }
        self.epoch = Some(found.epoch);
        Some((spool, found))
    }

    /// From an opening to its end; whether it was opened at all.
    fn live(&mut self) -> bool {
        self.restart();
        let mut disk = std::mem::replace(&mut self.disk, SimulatedDisk::new(0));
        let mut end = End::Process;
        if let Some((operation, how)) = self.crash_at {
            disk.fail_at(operation, Fault::Crash);
            end = how;
        } else if !self.calm {
            self.arrange(&mut disk);
            if self.below(2) == 0 {
                end = End::Power;
            }
        }
        let opened = match self.open(&mut disk) {
            Some((mut spool, found)) => {
                self.check(&mut spool, &found);
                self.use_it(spool);
                true
            }
            None => false,
        };
        self.disk = disk;
        if self.disk.is_dead() {
            self.crash_at = None;
        }
        if self.closed && !self.disk.is_dead() {
            // Even the power may go now.
            self.synced = self.given_out;
        }
        if self.disk.is_dead() || !self.calm || self.closed {
            self.end = Some(end);
        }
        self.closed = false;
        opened
    }

    fn arrange(&mut self, disk: &mut SimulatedDisk) {
        let now = disk.operations();
        for _ in 0..self.below(4) {
            let fault = match self.below(6) {
                0 | 1 => Fault::Error,
                2 | 3 => Fault::NoSpace,
                _ => Fault::Short,
            };
            disk.fail_at(now + self.below(150), fault);
        }
        disk.fail_at(now + 3 + self.below(200), Fault::Crash);
        let room = (self.below(3) == 0).then(|| disk.size() + self.below(20_000));
        disk.set_room(room);
    }

    fn use_it(&mut self, mut spool: Spool<&mut SimulatedDisk>) {
        let steps = if self.calm { 25 } else { 60 };
        for _ in 0..steps {
            self.clock += self.below(10);
            match self.below(20) {
                0..=7 => self.append(&mut spool),
                8..=11 => self.append_batch(&mut spool),
                12 | 13 => {
                    if spool.sync().is_ok() {
                        self.synced = self.given_out;
                        let gone = self.acked.max(self.expired);
                        let newest = self.accepted.range(gone + 1..).next_back();
                        assert!(newest.is_none_or(|(seq, _)| spool.synced_up_to() >= *seq));
                    }
                }
                14..=16 => self.acknowledge(&mut spool),
                17 => self.expire(&mut spool),
                18 => self.read_some(&mut spool),
                _ => spool.disk.set_room(None),
            }
            if spool.disk.is_dead() {
                return;
            }
        }
        if self.below(3) == 0 {
            self.closed = spool.close().is_ok();
        }
    }

    fn invent(&mut self) -> Wrote {
        let len = match self.below(100) {
            0..=7 => 0,
            8..=11 => 3000 + self.below(4000),
            // Written without the buffer, into a segment of its own.
            12 => 66_000,
            _ => self.below(200),
        };
        let first = self.random.next().to_le_bytes();
        let payload = first.iter().cycle().take(usize::try_from(len).unwrap());
        Wrote {
            flags: first[0],
            at_ms: self.clock,
            payload: payload.copied().collect(),
        }
    }

    fn append(&mut self, spool: &mut Spool<&mut SimulatedDisk>) {
        let wrote = self.invent();
        match spool.append(wrote.flags, wrote.at_ms, &wrote.payload) {
            Ok(seq) => self.accept(seq, wrote),
            Err(_) => self.refuse(spool.next_seq(), [wrote]),
        }
    }

    fn append_batch(&mut self, spool: &mut Spool<&mut SimulatedDisk>) {
        let count = self.below(20);
        let records: Vec<_> = (0..count).map(|_| self.invent()).collect();
        let borrowed = records
            .iter()
            .map(|it| (it.flags, it.at_ms, &it.payload[..]));
        let batch = spool.append_batch(borrowed);
        assert_eq!(
            batch.stopped.is_none(),
            batch.seqs.end - batch.seqs.start == count
        );
        let mut records = records.into_iter();
        for (seq, wrote) in batch.seqs.zip(&mut records) {
            self.accept(seq, wrote);
        }
        self.refuse(spool.next_seq(), records);
    }

    fn accept(&mut self, seq: u64, wrote: Wrote) {
        assert_eq!(seq, self.given_out.max(seq - 1) + 1, "a number came twice");
        self.given_out = seq;
        self.digest = self.digest.rotate_left(5) ^ seq ^ u64::from(wrote.flags);
        self.accepted.insert(seq, wrote);
    }

    fn refuse(&mut self, next: u64, records: impl IntoIterator<Item = Wrote>) {
        for (n, wrote) in (next..).zip(records) {
            self.tried.entry(n).or_default().push(wrote);
        }
    }

    fn acknowledge(&mut self, spool: &mut Spool<&mut SimulatedDisk>) {
        let next = spool.next_seq();
        assert!(spool.trim(next).is_err(), "what was never given out");
        let waiting = next - spool.first_seq();
        let acked = spool.acked + self.below(waiting + 1);
        // A disk that fails keeps the files longer.
        match spool.trim(acked) {
            Ok(()) | Err(_) => self.acked = self.acked.max(acked),
        }
        assert!(spool.first_seq() > acked);
    }

    fn expire(&mut self, spool: &mut Spool<&mut SimulatedDisk>) {
        let bound = self.clock.saturating_sub(self.below(400));
        match spool.expire(bound, u64::MAX) {
            Ok(None) => {}
            Ok(Some(gap)) => {
                assert_eq!(gap.why, Cause::Expired);
                for (_, wrote) in self.accepted.range(gap.from..=gap.to) {
                    assert!(wrote.at_ms < bound, "it was not old");
                }
            }
            // It may be in the ledger all the same.
            Err(_) => {
                let waiting = self.accepted.range(self.acked + 1..);
                let old = waiting.take_while(|(_, wrote)| wrote.at_ms < bound);
                let old: Vec<_> = old.map(|(seq, _)| *seq).collect();
                for seq in old {
                    let wrote = self.accepted.remove(&seq).unwrap();
                    self.tried.insert(seq, vec![wrote]);
                }
            }
        }
        self.expired = self.expired.max(spool.expired);
    }

    fn read_some(&mut self, spool: &mut Spool<&mut SimulatedDisk>) {
        let from = spool.first_seq();
        let (bytes, records) = (self.below(5000), self.below(20));
        let (bytes, records) = (
            usize::try_from(bytes).unwrap(),
            usize::try_from(records).unwrap(),
        );
        if let Ok(items) = spool.read(from, bytes, records)
            && !spool.disk.is_dead()
        {
            assert!(items.len() <= records.max(1) + 2);
            self.compare(from, &items);
        }
    }

    /// What an opening must have found.
    fn check(&mut self, spool: &mut Spool<&mut SimulatedDisk>, found: &Found) {
        assert!(
            found.next > self.given_out,
            "{} would be given out twice: {found:?}",
            self.given_out
        );
        if spool.disk.is_dead() {
            return;
        }
        let from = self.acked + 1;
        let items = match try_all(spool, from) {
            Ok(items) => items,
            Err(error) => {
                assert!(spool.disk.is_dead(), "{error:?}");
                return;
            }
        };
        self.compare(from, &items);
        if self.calm && !self.lost_power {
            // A batch that was interrupted may be there.
            assert!(found.next <= self.given_out + 21, "{found:?}");
        }
        let end = match items.last() {
            Some(Item::Record { seq, .. }) => *seq,
            Some(Item::Gap { to, .. }) => *to,
            None => from - 1,
        };
        assert_eq!(end, (found.next - 1).max(from - 1), "it ends early");
        self.digest = self.digest.rotate_left(7) ^ found.next;
        let waiting: Vec<_> = gaps(&items)
            .into_iter()
            .filter(|gap| gap.why != Cause::Trimmed && gap.why != Cause::Expired)
            .filter(|gap| gap.to > found.first.max(self.expired + 1))
            .collect();
        assert!(
            waiting.is_empty() || !found.gaps.is_empty(),
            "{waiting:?} was not told"
        );
    }

    /// Items from a number on, against the model.
    fn compare(&mut self, from: u64, items: &[Item]) {
        let mut expected = from;
        for item in items {
            match item {
                Item::Record {
                    seq,
                    flags,
                    at_ms,
                    payload,
                } => {
                    assert_eq!(*seq, expected, "a hole that nobody told of");
                    expected += 1;
                    let read = Wrote {
                        flags: *flags,
                        at_ms: *at_ms,
                        payload: payload.to_vec(),
                    };
                    if let Some(wrote) = self.accepted.get(seq) {
                        assert!(*wrote == read, "record {seq} changed");
                    } else {
                        let tried = self.tried.get(seq);
                        assert!(
                            tried.is_some_and(|tried| tried.contains(&read)),
                            "record {seq} was never written"
                        );
                        // From now on it is one like any other.
                        self.given_out = self.given_out.max(*seq);
                    }
                }
                Item::Gap { from, to, why } => {
                    assert_eq!(*from, expected, "a hole that nobody told of");
                    assert!(from <= to);
                    expected = to + 1;
                    let missing = self.accepted.range(from..=to).map(|(seq, _)| *seq);
                    let missing: Vec<_> = missing
                        .filter(|seq| *seq > self.acked && *seq > self.expired)
                        .collect();
                    assert!(
                        missing.is_empty(),
                        "{missing:?} are lost: {item:?} of {items:?}, {why:?}"
                    );
                }
            }
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.next() % bound.max(1)
    }
}

fn config() -> SpoolConfig {
    SpoolConfig {
        max_bytes: 300_000,
        segment_bytes: 8192,
        max_age: None,
    }
}

const SEEDS: u64 = 1000;
const CRASH_SEEDS: u64 = 1;
