//! Opening: what is on the disk, what is missing, and which number comes next.

use std::io;

use super::{
    disk::{Disk, Loaded, Name, load, wide},
    gap::{Found, Gap, MAX_TOLD},
    index::{Index, Segment, hole},
    ledger::{Entry, LAST_NUMBER, Ledger, UNKNOWN},
    record::{HEAD, MAX_PAYLOAD, Piece, SEGMENT_HEAD, Scan, SegmentHead},
    store::{Spool, SpoolConfig, SpoolError},
};

impl<D: Disk> Spool<D> {
    /// Opens the spool that the disk has, or begins a stream of the name `fresh_epoch`, which
    /// nobody must be able to guess and nobody has had before.
    ///
    /// Reads everything once; that takes about 0.3 ms a megabyte when the system has it in memory.
    ///
    /// # Errors
    /// Fails when a file cannot be read. A disk that cannot be written is no error: what is there
    /// can be read.
    pub fn open(
        mut disk: D,
        config: SpoolConfig,
        fresh_epoch: [u8; 16],
    ) -> Result<(Self, Found), SpoolError> {
        let files = Files::look(&mut disk)?;
        let (ledger, entry) = Ledger::read(&mut disk, files.ledger)
            .map_err(|source| unreadable(Name::Ledger, source))?;
        let mut survey = Survey::new(&mut disk, entry, files.segments, fresh_epoch)?;
        survey.scan(&mut disk)?;
        let boot = disk.boot();
        let same_boot = entry.is_some_and(|entry| entry.boot.is_some() && entry.boot == boot);
        let clean = entry.is_some_and(|entry| entry.clean);
        let numbers = survey.numbers(entry, same_boot);
        let restarted = entry.is_some_and(
            |entry| matches!((entry.boot, boot), (Some(then), Some(now)) if then != now),
        );
        let unsynced = !clean && !restarted;
        let synced = entry.map_or(0, |entry| entry.synced);
        let active = survey.ready_for_more(&mut disk, numbers.next, config);
        let found = survey.found(&numbers, clean);
        let mut spool = Self {
            disk,
            config,
            epoch: survey.epoch,
            boot,
            index: survey.index,
            active,
            may_come_back: false,
            told_segment: entry.map_or(0, |entry| entry.segment),
            told_acked: entry.map_or(0, |entry| entry.acked),
            acked: numbers.acked,
            expired: numbers.expired,
            next: numbers.next,
            // What the ledger promises may not be synced: the first record makes it promise anew.
            reserved: numbers.next - 1,
            after: numbers.written,
            synced: if unsynced { synced } else { numbers.written },
            unsynced_names: unsynced,
            opened_at: numbers.next,
            cursor: None,
            buffer: Vec::new(),
            staged: Vec::new(),
            ledger,
        };
        if unsynced {
            spool.index.distrust_behind(synced, &survey.sealed);
        }
        if found.fresh {
            spool.begin();
        }
        Ok((spool, found))
    }

    /// Writes the name of a fresh stream down. Should that not work, the first record tries again.
    fn begin(&mut self) {
        let entry = self.entry();
        match self.ledger.write(&mut self.disk, &entry, true) {
            Ok(()) => self.told(&entry),
            Err(error) => tracing::debug!(%error, "the spool is not on the disk yet"),
        }
    }
}

fn unreadable(name: Name, source: io::Error) -> SpoolError {
    SpoolError::Read {
        name: name.to_string(),
        source,
    }
}

/// The files of the folder.
struct Files {
    ledger: Option<u64>,
    /// First number and size, oldest first.
    segments: Vec<(u64, u64)>,
}

impl Files {
    fn look(disk: &mut impl Disk) -> Result<Self, SpoolError> {
        let listed = disk.list().map_err(|source| SpoolError::Read {
            name: "folder".to_owned(),
            source,
        })?;
        let mut files = Self {
            ledger: None,
            segments: Vec::new(),
        };
        for (name, size) in listed {
            match name {
                Name::Ledger => files.ledger = Some(size),
                Name::Segment(first) => files.segments.push((first, size)),
                Name::Draft => {
                    if let Err(error) = disk.remove(name) {
                        tracing::debug!(%error, "an unfinished file stays");
                    }
                }
            }
        }
        files.segments.sort_unstable();
        Ok(files)
    }
}

/// Everything that the segments say.
struct Survey {
    epoch: [u8; 16],
    /// The epoch was found, not made.
    known: bool,
    segments: Vec<(u64, u64)>,
    index: Index,
    /// The last record's number, zero for none.
    last: u64,
    /// Everything up to here was acknowledged or dropped, as the ledger knows.
    dropped: u64,
    /// Records behind that.
    records: u64,
    gaps: Gaps,
    /// The next number, if nothing is missing.
    expected: u64,
    damaged: u64,
    cut: u64,
    strangers: u64,
    /// The newest segment ends as a process leaves it that died.
    ends_well: bool,
    /// Where the newest segment has to be cut, if so.
    torn: Option<u64>,
    /// The newest segment that was begun in order.
    newest: u64,
    /// Segments that must stay as they are.
    sealed: Vec<u64>,
}

impl Survey {
    fn new(
        disk: &mut impl Disk,
        entry: Option<Entry>,
        segments: Vec<(u64, u64)>,
        fresh_epoch: [u8; 16],
    ) -> Result<Self, SpoolError> {
        let mut known = entry.map(|entry| entry.epoch);
        let mut of_segments = segments.iter().rev();
        while known.is_none()
            && let Some((first, _)) = of_segments.next()
        {
            known = read_head(disk, *first)?.map(|head| head.epoch);
        }
        let dropped = entry.map_or(0, |entry| entry.acked.max(entry.expired));
        Ok(Self {
            epoch: known.unwrap_or(fresh_epoch),
            known: known.is_some(),
            segments,
            index: Index::default(),
            last: 0,
            dropped,
            records: 0,
            gaps: Gaps::default(),
            expected: dropped + 1,
            damaged: 0,
            cut: 0,
            strangers: 0,
            ends_well: true,
            torn: None,
            newest: 0,
            sealed: Vec::new(),
        })
    }

    fn scan(&mut self, disk: &mut impl Disk) -> Result<(), SpoolError> {
        let mut bytes = Vec::new();
        let mut files = Vec::new();
        for (first, size) in std::mem::take(&mut self.segments) {
            files.push((first, size, read_head(disk, first)?));
        }
        for (n, (first, size, head)) in files.iter().enumerate() {
            let name = Name::Segment(*first);
            let is_ours = self.known && head.is_none_or(|head| head.epoch == self.epoch);
            if !is_ours || *first == 0 || *first > LAST_NUMBER {
                self.strangers += 1;
                remove(disk, name);
                continue;
            }
            let len = usize::try_from(*size)
                .unwrap_or(usize::MAX)
                .min(MAX_SEGMENT);
            let loaded =
                load(disk, name, 0, len, &mut bytes).map_err(|source| unreadable(name, source))?;
            if loaded == Loaded::InPart {
                self.sealed.push(*first);
            }
            let rest = files.get(n + 1..).unwrap_or_default();
            let behind = rest
                .iter()
                .find(|(first, _, head)| head.is_some_and(|head| head.first == *first));
            self.scan_segment(&SegmentFile {
                first: *first,
                after: head
                    .filter(|head| head.first == *first)
                    .map(|head| head.after.min(first - 1)),
                behind: behind.map(|(first, ..)| *first),
                is_last: rest.is_empty(),
                bytes: &bytes,
                loaded,
            });
            if self.index.get(*first).is_none() && loaded == Loaded::Whole {
                remove(disk, name);
            }
        }
        Ok(())
    }

    /// Takes the records of a segment into the index. One without a head and without a record says
    /// nothing: not even its name is believed.
    fn scan_segment(&mut self, file: &SegmentFile<'_>) {
        let first = file.first;
        let mut segment = Segment::new(&self.epoch, first, file.after.unwrap_or(first - 1));
        segment.unsynced = false;
        if file.after.is_some() {
            self.missing(first - 1, segment.after);
        }
        let below = file.behind.map_or(u64::MAX, |behind| behind - first);
        let records = file.bytes.get(SEGMENT_HEAD..).unwrap_or_default();
        let mut scan = Scan::new(records, segment.salt, 0, below, true);
        let mut torn = None;
        self.ends_well = file.loaded == Loaded::Whole;
        loop {
            match scan.next() {
                Piece::Record(record) => {
                    let seq = first + u64::from(record.place);
                    self.missing(seq - 1, seq - 1);
                    let start = wide(SEGMENT_HEAD + record.start);
                    segment.note(seq, start, record.payload.len(), record.at_ms);
                    self.records += u64::from(seq > self.dropped);
                    self.expected = self.expected.max(seq + 1);
                }
                Piece::Damage(range) => self.damaged += wide(range.len()),
                Piece::End | Piece::More { .. } => break,
                Piece::Torn { from, cut_short } => {
                    self.ends_well &= cut_short;
                    torn = Some(wide(SEGMENT_HEAD + from));
                    let rest = wide(records.len() - from);
                    if file.is_last {
                        self.cut += rest;
                    } else if !cut_short {
                        self.damaged += rest;
                    }
                    break;
                }
            }
        }
        if file.bytes.len() >= SEGMENT_HEAD {
            self.newest = first;
        }
        if file.after.is_none() && segment.records == 0 {
            return;
        }
        self.torn = torn;
        self.last = self.last.max(segment.last);
        self.index.insert(segment);
    }

    /// All up to `to` should have come by now.
    fn missing(&mut self, to: u64, written: u64) {
        for gap in hole(self.expected, to, written) {
            self.gaps.push(gap);
        }
        self.expected = self.expected.max(to + 1);
    }

    /// Settles the numbers of the stream, and what is missing at both ends.
    fn numbers(&mut self, entry: Option<Entry>, same_boot: bool) -> Numbers {
        let oldest = self.index.oldest().map(|segment| segment.after);
        let Some(entry) = entry else {
            let acked = oldest.unwrap_or(0);
            let any = self.index.len() > 0;
            let next = if any { self.last + 1 + UNKNOWN } else { 1 };
            return self.settle(Numbers {
                acked,
                expired: 0,
                next,
                written: self.last,
            });
        };
        let process_died = same_boot && self.ends_well && self.newest >= entry.segment;
        let next = if entry.clean || process_died {
            entry.next
        } else {
            entry.reserved + 1
        };
        let next = next.max(self.last + 1).max(entry.next);
        let mut written = entry.after.max(self.last).max(self.dropped);
        let mut acked = entry.acked;
        if !(entry.clean || same_boot) {
            // The files that went may have outrun the ledger.
            match oldest {
                Some(after) => acked = acked.max(after),
                None => written = self.dropped,
            }
        }
        self.settle(Numbers {
            acked,
            expired: entry.expired,
            next,
            written,
        })
    }

    fn settle(&mut self, numbers: Numbers) -> Numbers {
        self.missing(numbers.next - 1, numbers.written);
        self.gaps.clip(numbers.acked);
        numbers
    }

    /// Cuts the newest segment after its last record; gives it when the next record goes there.
    fn ready_for_more(&self, disk: &mut impl Disk, next: u64, config: SpoolConfig) -> Option<u64> {
        let newest = self.index.newest()?;
        if self.sealed.contains(&newest.first) {
            return None;
        }
        if let Some(torn) = self.torn
            && let Err(error) = disk.truncate(Name::Segment(newest.first), torn)
        {
            tracing::debug!(%error, "the end of a segment stays as it is");
            return None;
        }
        let goes_on = newest.last + 1 == next && newest.end < config.segment_bytes;
        goes_on.then_some(newest.first)
    }

    fn found(&mut self, numbers: &Numbers, clean: bool) -> Found {
        Found {
            epoch: self.epoch,
            fresh: !self.known,
            clean,
            first: numbers.acked + 1,
            next: numbers.next,
            records: self.records,
            gaps: std::mem::take(&mut self.gaps.told),
            more_gaps: self.gaps.more,
            cut: self.cut,
            damaged: self.damaged,
            strangers: self.strangers,
        }
    }
}

/// A segment's file.
struct SegmentFile<'a> {
    /// The number in its name.
    first: u64,
    /// What its head says; `None` without a head that fits the name.
    after: Option<u64>,
    /// The first number of the next segment.
    behind: Option<u64>,
    /// No file has a greater number.
    is_last: bool,
    bytes: &'a [u8],
    loaded: Loaded,
}

/// Where the stream is.
struct Numbers {
    acked: u64,
    expired: u64,
    next: u64,
    written: u64,
}

#[derive(Default)]
struct Gaps {
    told: Vec<Gap>,
    more: u64,
}

impl Gaps {
    fn push(&mut self, gap: Gap) {
        let is_full = self.told.len() >= MAX_TOLD;
        match self.told.last_mut() {
            Some(last) if last.to + 1 == gap.from && last.why == gap.why => last.to = gap.to,
            Some(_) if is_full => self.more += 1,
            Some(_) | None => self.told.push(gap),
        }
    }

    /// Nobody waits for what was acknowledged.
    fn clip(&mut self, acked: u64) {
        self.told.retain_mut(|gap| {
            gap.from = gap.from.max(acked + 1);
            gap.from <= gap.to
        });
    }
}

fn read_head(disk: &mut impl Disk, first: u64) -> Result<Option<SegmentHead>, SpoolError> {
    let mut bytes = Vec::new();
    let name = Name::Segment(first);
    load(disk, name, 0, SEGMENT_HEAD, &mut bytes).map_err(|source| unreadable(name, source))?;
    Ok(SegmentHead::decode(&bytes))
}

fn remove(disk: &mut impl Disk, name: Name) {
    if let Err(error) = disk.remove(name) {
        tracing::debug!(%name, %error, "a file that is not needed stays");
    }
}

/// What is read of a segment at most: the largest one with the largest record behind it.
const MAX_SEGMENT: usize = 64 * 1024 * 1024 + SEGMENT_HEAD + HEAD + MAX_PAYLOAD;
