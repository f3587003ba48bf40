//! The spool as the driver uses it: records in the order of their numbers, tried again until they
//! are on the disk.

mod keeper;
mod thread;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tracing::{info, warn};

pub(crate) use self::keeper::Keeper;
use crate::{
    clock::Now,
    delivery::Epoch,
    link::{ReadBack, Record, Spooled},
    payload::Stored,
    spool::{Cause, Disk, Gap, Item, Spool, SpoolError},
};

/// When what is written is made to survive a power cut.
///
/// Whatever was written survives the end of the process, and nothing is sent before it was written.
/// [`push`](crate::Handle::push) waits for neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncPolicy {
    /// When the system sees fit, and when the link ends.
    ///
    /// The link writes by itself, which takes microseconds: a message is written when it gets its
    /// number, before `push` comes back. A disk that hangs holds up the link.
    #[default]
    Never,
    /// At most this long after it was written, as far as the disk is that fast.
    ///
    /// A thread of its own writes, one batch after the other; what is pushed meanwhile waits in
    /// memory for the next one, and is lost when the process is killed. Messages wait for the disk
    /// and nothing else does: pings, answers and what the peer says go on.
    Group(Duration),
    /// Before it is sent. Otherwise as [`Group`](Self::Group).
    ///
    /// What cannot be synced counts as not written.
    Each,
}

/// What came of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Appended {
    /// Everything up to this number is on the disk.
    Upto(u64),
    /// Nothing was to be written, or it is tried again.
    Nothing,
    /// The disk takes nothing; it is tried again as long as the spool is not given up.
    Lost,
}

/// What came of something that the spool was asked for.
#[derive(Debug)]
pub(crate) enum Answer<P> {
    Appended(Appended),
    Read(ReadBack<P>),
    /// Everything up to this number was too old, and is not on the disk any more.
    Expired(u64),
    /// Nothing more is answered: who does the work is gone.
    Ended,
}

/// A spool in use by a link.
#[derive(Debug)]
pub(crate) struct Kept<P, D> {
    restore: fn(&[u8]) -> Option<P>,
    spool: Spool<D>,
    sync: SyncPolicy,
    /// Not on the disk yet.
    waiting: VecDeque<Record>,
    /// How often in a row it could not be written.
    failures: u32,
    /// Acknowledged, perhaps before it was on the disk.
    acked: u64,
    /// The oldest that is not synced.
    unsynced: Option<Instant>,
    retry: Option<Instant>,
    /// What could not be read, how often in a row, and when it is tried again.
    wanted: Option<(Wanted, u32, Instant)>,
    /// When it is looked for messages that are too old.
    next_look: Option<Instant>,
    /// When this process began to write, by a clock that nobody sets, and its first number.
    began: (Duration, u64),
}

/// What is to be read: from a number on, before another, until about so many bytes are together.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    from: u64,
    upto: u64,
    bytes: usize,
}

impl<P, D: Disk> Kept<P, D> {
    /// Takes over a spool; gives the first so many bytes of what it holds.
    ///
    /// # Errors
    /// Fails when it cannot be read.
    fn new(
        spool: Spool<D>,
        sync: SyncPolicy,
        bytes: usize,
    ) -> Result<(Self, Spooled<P>), SpoolError>
    where
        P: Stored,
    {
        let mut kept = Self {
            restore: P::restore,
            acked: spool.first_seq() - 1,
            spool,
            sync,
            waiting: VecDeque::new(),
            failures: 0,
            unsynced: None,
            retry: None,
            wanted: None,
            next_look: None,
            began: (Duration::ZERO, u64::MAX),
        };
        kept.began = (Now::read().boot, kept.spool.next_seq());
        let expired = kept.expire().map(|Gap { from, to, .. }| (from, to));
        let (first, next) = (kept.spool.first_seq(), kept.spool.next_seq());
        let read = kept.items(Wanted {
            from: first,
            upto: next,
            bytes,
        })?;
        if !read.messages.is_empty() {
            info!("unsent messages were found in the spool");
        }
        let spooled = Spooled {
            epoch: Epoch(u128::from_be_bytes(kept.spool.epoch())),
            first,
            next,
            read,
            store: P::store,
            expired,
        };
        Ok((kept, spooled))
    }

    /// Reads what is on the disk; `None` when it is tried again.
    fn read(&mut self, wanted: Wanted) -> Option<ReadBack<P>> {
        self.try_read(wanted, 0)
    }

    fn try_read(&mut self, wanted: Wanted, failures: u32) -> Option<ReadBack<P>> {
        let error = match self.items(wanted) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        let error = &error as &dyn std::error::Error;
        if failures + 1 < TRIES {
            warn!(error, "it is tried again");
            self.wanted = Some((wanted, failures + 1, Instant::now() + RETRY));
            return None;
        }
        let Wanted { from, upto, .. } = wanted;
        warn!(
            error,
            from, upto, "messages are lost; the other end is told"
        );
        let messages = Vec::new();
        Some(ReadBack {
            from,
            upto,
            messages,
        })
    }

    fn items(&mut self, wanted: Wanted) -> Result<ReadBack<P>, SpoolError> {
        let mut messages = Vec::new();
        let mut missing: u64 = 0;
        let mut next = wanted.from;
        let mut bytes = 0;
        while next < wanted.upto && bytes < wanted.bytes {
            let chunk = READ_BYTES.min(wanted.bytes - bytes);
            for item in self.spool.read(next, chunk, READ_RECORDS)? {
                match item {
                    Item::Record { seq, payload, .. } if seq < wanted.upto => {
                        bytes += payload.len();
                        match (self.restore)(&payload) {
                            Some(message) => messages.push((seq, message)),
                            None => missing += 1,
                        }
                        next = seq + 1;
                    }
                    Item::Record { .. } => next = wanted.upto,
                    Item::Gap { from, to, why } => {
                        let to = to.min(wanted.upto - 1);
                        missing += match why {
                            Cause::Trimmed | Cause::Expired => 0,
                            Cause::Damaged | Cause::LostUnsynced => (to + 1).saturating_sub(from),
                        };
                        next = to + 1;
                    }
                }
            }
        }
        if missing > 0 {
            warn!(
                missing,
                "messages in the spool cannot be read; the other end is told"
            );
        }
        Ok(ReadBack {
            from: wanted.from,
            upto: next,
            messages,
        })
    }

    /// Writes records down.
    fn append(&mut self, records: Vec<Record>) -> Appended {
        self.waiting.extend(records);
        self.go_on()
    }

    /// Does one thing that is due by [`deadline`](Self::deadline).
    fn on_time(&mut self) -> Option<Answer<P>> {
        let now = Instant::now();
        if let Some((wanted, failures, _)) = self.wanted.take_if(|(.., at)| *at <= now) {
            return self.try_read(wanted, failures).map(Answer::Read);
        }
        if self.next_look.is_some_and(|at| at <= now) {
            return self.expire().map(|gone| Answer::Expired(gone.to));
        }
        Some(Answer::Appended(self.go_on()))
    }

    /// Takes what has waited for too long off the disk, and says what that is.
    fn expire(&mut self) -> Option<Gap> {
        let age = self.spool.config().max_age?.max(LEAST_AGE);
        let pause = (age / LOOKS_PER_AGE).clamp(LEAST_AGE, LONGEST_PAUSE);
        self.next_look = Some(Instant::now() + pause);
        // Where the wall clock was set, what this process wrote is no older than the process.
        let (began, first) = self.began;
        let young = Now::read().boot.saturating_sub(began) < age;
        let below = if young { first } else { u64::MAX };
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        match self.spool.expire(now_millis().saturating_sub(age), below) {
            Ok(gap) => {
                let gone = gap?;
                let Gap { from, to, .. } = gone;
                info!(from, to, "messages that waited for too long leave the disk");
                self.trim(to);
                Some(gone)
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(error, "messages that are too old stay on the disk");
                None
            }
        }
    }

    /// Tries again what was not written yet, and syncs what is due.
    fn go_on(&mut self) -> Appended {
        self.retry.take_if(|at| *at <= Instant::now());
        let failures = self.failures;
        let written = self.write();
        let could_write = self.failures <= failures;
        let pending = self.unsynced.is_some();
        self.sync_due();
        self.give_back();
        match written {
            Appended::Upto(_) | Appended::Nothing if pending && could_write => self.synced(written),
            Appended::Upto(_) | Appended::Nothing | Appended::Lost => written,
        }
    }

    /// What is told where something written was to be synced.
    fn synced(&mut self, written: Appended) -> Appended {
        match self.sync {
            SyncPolicy::Never | SyncPolicy::Group(_) => written,
            SyncPolicy::Each if self.unsynced.is_some() => self.failed(),
            SyncPolicy::Each => self.succeeded(),
        }
    }

    fn write(&mut self) -> Appended {
        let Some(first) = self.waiting.front() else {
            return Appended::Nothing;
        };
        let expected = self.spool.next_seq();
        if first.seq != expected {
            // Nothing is sent under a number that the disk would give to another message.
            if self.retry.is_none() {
                warn!(number = first.seq, expected, "the spool counts otherwise");
            }
            self.retry = Some(Instant::now() + RETRY);
            return Appended::Lost;
        }
        let at = now_millis();
        let records = self
            .waiting
            .iter()
            .map(|record| (0, at, record.stored.as_ref()));
        let batch = self.spool.append_batch(records);
        let written = batch.seqs.end - batch.seqs.start;
        for _ in 0..written {
            self.waiting.pop_front();
        }
        if written > 0 {
            self.unsynced.get_or_insert_with(Instant::now);
        }
        let Some(error) = batch.stopped else {
            return self.succeeded();
        };
        if self.failures == 0 {
            let error = &error as &dyn std::error::Error;
            warn!(error, "the spool cannot be written; it is tried again");
        }
        self.failed()
    }

    fn succeeded(&mut self) -> Appended {
        if self.failures > 0 {
            info!("the spool can be written again");
        }
        self.failures = 0;
        Appended::Upto(self.spool.next_seq() - 1)
    }

    fn failed(&mut self) -> Appended {
        self.failures = self.failures.saturating_add(1);
        self.retry = Some(Instant::now() + RETRY);
        if self.failures < TRIES {
            Appended::Nothing
        } else {
            Appended::Lost
        }
    }

    fn sync_due(&mut self) {
        let due = match (self.sync, self.unsynced) {
            (SyncPolicy::Never, _) | (_, None) => false,
            (SyncPolicy::Each, Some(_)) => true,
            (SyncPolicy::Group(within), Some(since)) => since.elapsed() >= within,
        };
        if due {
            match self.spool.sync() {
                Ok(()) => self.unsynced = None,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "the spool cannot be made to survive a power cut");
                    self.unsynced = Some(Instant::now() + RETRY);
                }
            }
        }
    }

    /// Nothing up to this number is needed any more.
    fn trim(&mut self, upto: u64) {
        self.acked = self.acked.max(upto);
        self.give_back();
    }

    fn give_back(&mut self) {
        let upto = self.acked.min(self.spool.next_seq() - 1);
        if upto < self.spool.first_seq() {
            return;
        }
        if let Err(error) = self.spool.trim(upto) {
            let error = &error as &dyn std::error::Error;
            warn!(error, "room on the disk is not given back yet");
        }
    }

    /// When [`on_time`](Self::on_time) is due.
    fn deadline(&self) -> Option<Instant> {
        let sync = match self.sync {
            SyncPolicy::Never | SyncPolicy::Each => None,
            SyncPolicy::Group(within) => self.unsynced.map(|since| since + within),
        };
        let read = self.wanted.map(|(.., at)| at);
        let due = sync.into_iter().chain(self.retry).chain(read);
        due.chain(self.next_look).min()
    }

    /// Ends in order.
    fn close(self) {
        if !self.waiting.is_empty() {
            let messages = self.waiting.len();
            warn!(
                messages,
                "the disk did not take them; they end with this process"
            );
        }
        if let Err(error) = self.spool.close() {
            let error = &error as &dyn std::error::Error;
            warn!(
                error,
                "the spool could not be closed in order; the next start reads it as after a crash"
            );
        }
    }
}

fn now_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

const READ_BYTES: usize = 1 << 20;
const READ_RECORDS: usize = 1000;
/// How often writing is tried before it is done without.
const TRIES: u32 = 3;
/// The shortest bound of a message's age, and the shortest pause between two looks for older ones.
const LEAST_AGE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const LOOKS_PER_AGE: u32 = 16;
/// Between two tries to write.
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::{
        payload::Text,
        spool::{
            Folder, SpoolConfig,
            simulation::{End, Fault, SimulatedDisk},
        },
    };

    fn kept(folder: &Path) -> (Kept<Text, Folder>, Spooled<Text>) {
        let folder = Folder::open(folder).unwrap();
        let (spool, _) = Spool::open(folder, SpoolConfig::default(), [7; 16]).unwrap();
        Kept::new(spool, SyncPolicy::Never, 1 << 20).unwrap()
    }

    fn records(seqs: std::ops::RangeInclusive<u64>) -> Vec<Record> {
        let record = |seq: u64| Record {
            seq,
            stored: seq.to_string().into(),
        };
        seqs.map(record).collect()
    }

    #[test]
    fn what_was_written_down_and_not_given_back_is_found_again() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("spool");
        let (mut first, spooled) = kept(&folder);
        assert_eq!((spooled.first, spooled.next), (1, 1));
        assert_eq!(first.append(records(1..=3)), Appended::Upto(3));
        first.trim(1);
        first.close();
        let (_, spooled) = kept(&folder);
        assert_eq!((spooled.first, spooled.next), (2, 4));
        let found: Vec<_> = spooled
            .read
            .messages
            .iter()
            .map(|(seq, it)| (*seq, it.0.as_str()))
            .collect();
        assert_eq!(found, [(2, "2"), (3, "3")]);
    }

    #[test]
    fn numbers_that_are_lost_with_the_ledger_cost_nothing_each() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("spool");
        let (mut first, _) = kept(&folder);
        assert_eq!(first.append(records(1..=3)), Appended::Upto(3));
        drop(first);
        fs::remove_file(folder.join("ledger")).unwrap();
        let (_, spooled) = kept(&folder);
        assert!(spooled.next > 1 << 32, "{}", spooled.next);
        assert_eq!(spooled.read.messages.len(), 3);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_tried_again_and_then_done_without() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("spool");
        let (mut kept, _) = kept(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(kept.append(records(1..=1)), Appended::Nothing);
        assert!(kept.deadline().is_some(), "it is tried again");
        assert_eq!(kept.go_on(), Appended::Nothing);
        assert_eq!(kept.go_on(), Appended::Lost);
    }

    #[test]
    fn what_waited_for_too_long_is_let_go_at_the_start_and_while_it_runs() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("spool");
        let open = || {
            let folder = Folder::open(&folder).unwrap();
            let config = SpoolConfig {
                max_age: Some(Duration::from_secs(3600)),
                ..SpoolConfig::default()
            };
            Spool::open(folder, config, [7; 16]).unwrap().0
        };
        let long_ago = now_millis() - 2 * 3600 * 1000;
        let mut spool = open();
        for at_ms in [long_ago, long_ago, now_millis()] {
            spool.append(0, at_ms, b"text").unwrap();
        }
        drop(spool);
        let (mut kept, spooled) = Kept::<Text, _>::new(open(), SyncPolicy::Never, 1 << 20).unwrap();
        assert_eq!((spooled.first, spooled.next), (3, 4));
        assert_eq!(spooled.expired, Some((1, 2)));
        assert_eq!(spooled.read.messages.len(), 1);
        let next_look = kept.deadline().unwrap() - Instant::now();
        assert!(next_look <= LONGEST_PAUSE, "{next_look:?}");
        kept.trim(3);
        kept.spool.append(0, long_ago, b"text").unwrap();
        assert_eq!(kept.append(records(5..=5)), Appended::Upto(5));
        kept.next_look = Some(Instant::now());
        assert!(kept.on_time().is_none(), "a clock that was set made it old");
        kept.began.1 = u64::MAX;
        kept.next_look = Some(Instant::now());
        let Some(Answer::Expired(4)) = kept.on_time() else {
            panic!("the older one is let go");
        };
        assert_eq!(kept.spool.first_seq(), 5);
    }

    #[test]
    fn nothing_is_written_under_a_number_the_disk_would_give_to_another_message() {
        let place = tempfile::tempdir().unwrap();
        let (mut kept, _) = kept(&place.path().join("spool"));
        assert_eq!(kept.append(records(5..=5)), Appended::Lost);
    }

    #[test]
    fn with_each_nothing_is_told_that_a_power_cut_costs_wherever_the_disk_fails() {
        let mut failed = 0;
        for operation in 0..30 {
            let disk = SimulatedDisk::new(operation);
            let (spool, _) = Spool::open(disk, SpoolConfig::default(), [7; 16]).unwrap();
            let (mut kept, _) = Kept::<Text, _>::new(spool, SyncPolicy::Each, 1 << 20).unwrap();
            let disk = kept.spool.disk_mut();
            disk.fail_at(disk.operations() + operation, Fault::Error);
            let mut told = kept.append(records(1..=3));
            if told == Appended::Nothing {
                failed += 1;
                assert!(kept.deadline().is_some(), "it is tried again");
                told = kept.go_on();
            }
            assert_eq!(told, Appended::Upto(3), "operation {operation}");
            let mut disk = kept.spool.into_disk();
            disk.restart(End::Power);
            let (spool, _) = Spool::open(disk, SpoolConfig::default(), [7; 16]).unwrap();
            let (_, spooled) = Kept::<Text, _>::new(spool, SyncPolicy::Each, 1 << 20).unwrap();
            assert_eq!(spooled.read.messages.len(), 3, "operation {operation}");
        }
        assert!(failed > 1, "failures are told: {failed}");
    }
}
