//! The ledger: what must be known of a stream besides its records. A file of checked entries.
//!
//! ```text
//! entry  0xFE │ version 1 │ clean 1 │ boot known 1 │ epoch 16 │ boot 16 │ acked 8 │ expired 8
//!        │ next 8 │ reserved 8 │ after 8 │ synced 8 │ segment 8 │ crc 4
//! ```
//!
//! Every entry is whole, and the last one that can be read counts. Each is written twice, so that
//! a damaged spot takes none away. An entry that promises something about numbers is synced
//! before they are given out; what was acknowledged may be a little behind. The file is written
//! anew when it has grown.

use std::io;

use super::{
    disk::{Disk, Loaded, Name, append_all, load, wide},
    record::take_u64,
};

/// What the ledger says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Names the stream.
    pub(crate) epoch: [u8; 16],
    /// The time since which the system ran, if that was known.
    pub(crate) boot: Option<[u8; 16]>,
    /// The spool was closed: everything is on the disk and nothing beyond `next` was given out.
    pub(crate) clean: bool,
    /// Everything up to this number was acknowledged.
    pub(crate) acked: u64,
    /// Everything up to this number was dropped because of its age.
    pub(crate) expired: u64,
    /// The number that was to be given out next.
    pub(crate) next: u64,
    /// No greater number is given out without another entry.
    pub(crate) reserved: u64,
    /// The last number that a record was written for.
    pub(crate) after: u64,
    /// Everything up to this number was synced; of what follows a sync may have failed, which the
    /// system does not remember.
    pub(crate) synced: u64,
    /// The newest segment; zero for none.
    pub(crate) segment: u64,
}

impl Entry {
    fn encode(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[0] = MARK;
        bytes[1] = VERSION;
        bytes[2] = u8::from(self.clean);
        bytes[3] = u8::from(self.boot.is_some());
        bytes[4..20].copy_from_slice(&self.epoch);
        bytes[20..36].copy_from_slice(&self.boot.unwrap_or_default());
        let numbers = [
            self.acked,
            self.expired,
            self.next,
            self.reserved,
            self.after,
            self.synced,
            self.segment,
        ];
        for (place, number) in bytes[36..SUMMED].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = crc32fast::hash(&bytes[..SUMMED]);
        bytes[SUMMED..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The entry, when newer ones may have been lost.
    fn of_unknown_age(self) -> Self {
        Self {
            boot: None,
            clean: false,
            reserved: self.reserved.saturating_add(UNKNOWN),
            ..self
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (covered, sum) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*sum) {
            return None;
        }
        let [MARK, VERSION, clean, booted, rest @ ..] = covered else {
            return None;
        };
        let (epoch, rest) = rest.split_first_chunk::<16>()?;
        let (boot, rest) = rest.split_first_chunk::<16>()?;
        let (acked, rest) = take_u64(rest);
        let (expired, rest) = take_u64(rest);
        let (next, rest) = take_u64(rest);
        let (reserved, rest) = take_u64(rest);
        let (after, rest) = take_u64(rest);
        let (synced, rest) = take_u64(rest);
        let (segment, _) = take_u64(rest);
        if [acked, expired, next, reserved, after, synced, segment]
            .iter()
            .any(|number| *number > LAST_NUMBER)
        {
            return None;
        }
        Some(Self {
            epoch: *epoch,
            boot: (*booted == 1).then_some(*boot),
            clean: *clean == 1,
            acked,
            expired,
            next,
            reserved,
            after,
            synced,
            segment,
        })
    }
}

/// The last entry that can be read.
pub(crate) fn newest(bytes: &[u8]) -> Option<Entry> {
    bytes.chunks_exact(ENTRY).rev().find_map(Entry::decode)
}

/// The file of the entries.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Where the next entry goes; `None` when the file has to be written anew.
    end: Option<u64>,
    /// The file's name may not be on the disk yet: a life before this one may have ended there.
    unsynced_name: bool,
}

impl Ledger {
    /// Reads the file; `size` is what the folder says, `None` when it is not there.
    pub(crate) fn read(
        disk: &mut impl Disk,
        size: Option<u64>,
    ) -> io::Result<(Self, Option<Entry>)> {
        let Some(size) = size else {
            return Ok((Self::at(None), None));
        };
        let mut bytes = Vec::new();
        let len = usize::try_from(size.min(MAX_READ)).unwrap_or(usize::MAX);
        // Where entries begin does not depend on what was read before.
        let skipped = (size - wide(len)).next_multiple_of(wide(ENTRY));
        if load(disk, Name::Ledger, skipped, len, &mut bytes)? == Loaded::InPart {
            // The newest entry may be the one that cannot be read.
            let entry = newest(&bytes).map(Entry::of_unknown_age);
            return Ok((Self::at(None), entry));
        }
        let whole = size == wide(len) && size % wide(ENTRY) == 0;
        Ok((Self::at(whole.then_some(size)), newest(&bytes)))
    }

    fn at(end: Option<u64>) -> Self {
        Self {
            end,
            unsynced_name: true,
        }
    }

    /// Writes an entry; with `durable` it survives a power cut after `Ok`.
    ///
    /// # Errors
    /// The entries before this one still count, or this one does.
    pub(crate) fn write(
        &mut self,
        disk: &mut impl Disk,
        entry: &Entry,
        durable: bool,
    ) -> io::Result<()> {
        let twice = [entry.encode(); 2].concat();
        match self.end {
            Some(end) if end < GROWN => self.add(disk, &twice, end, durable),
            Some(end) => match self.replace(disk, &twice) {
                // The old file is only longer than it must be.
                Err(_) if self.end == Some(end) => self.add(disk, &twice, end, durable),
                replaced => replaced,
            },
            None => self.replace(disk, &twice),
        }
    }

    /// Bytes on the disk.
    pub(crate) fn size(&self) -> u64 {
        self.end.unwrap_or_default()
    }

    fn add(
        &mut self,
        disk: &mut impl Disk,
        bytes: &[u8],
        end: u64,
        durable: bool,
    ) -> io::Result<()> {
        if let Err(error) = append_all(disk, Name::Ledger, bytes) {
            let cut = disk.truncate(Name::Ledger, end);
            self.end = cut.is_ok().then_some(end);
            return Err(error);
        }
        self.end = Some(end + wide(bytes.len()));
        if durable {
            // A second sync of the same bytes would prove nothing.
            self.sync(disk).inspect_err(|_| self.end = None)?;
        }
        Ok(())
    }

    fn sync(&mut self, disk: &mut impl Disk) -> io::Result<()> {
        disk.sync(Name::Ledger)?;
        if self.unsynced_name {
            disk.sync_folder()?;
            self.unsynced_name = false;
        }
        Ok(())
    }

    fn replace(&mut self, disk: &mut impl Disk, bytes: &[u8]) -> io::Result<()> {
        disk.create(Name::Draft)?;
        append_all(disk, Name::Draft, bytes)?;
        disk.sync(Name::Draft)?;
        disk.rename(Name::Draft, Name::Ledger)?;
        self.unsynced_name = true;
        self.end = Some(wide(bytes.len()));
        disk.sync_folder().inspect_err(|_| self.end = None)?;
        self.unsynced_name = false;
        Ok(())
    }
}

/// More numbers than are ever given out without an entry: added where entries are lost.
pub(crate) const UNKNOWN: u64 = 1 << 32;

/// No stream gets that far; what claims to is damage that happens to add up.
pub(crate) const LAST_NUMBER: u64 = 1 << 62;

/// Bytes of an entry.
const ENTRY: usize = 96;

/// Those of them that its sum covers.
const SUMMED: usize = ENTRY - 4;

const MARK: u8 = 0xFE;
const VERSION: u8 = 1;

/// The file is written anew beyond this; some hundred entries, in the histories of tests a few.
const GROWN: u64 = if cfg!(test) { 2048 } else { 64 * 1024 };

/// What is read of the file at most, from its end.
const MAX_READ: u64 = 1024 * 1024;
