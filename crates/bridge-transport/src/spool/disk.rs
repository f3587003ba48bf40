//! What the spool asks of a disk: one folder of files that grow at their end.

use std::{fmt, io};

/// A folder that holds one spool and nothing else.
///
/// Everything behind it is ordinary synchronous work; nothing here knows what a record is. The
/// disk may do less than it was asked for, and may lose whatever was not synced, at any time.
pub trait Disk {
    /// Names the files of the spool with their sizes, in any order. What else lies in the folder
    /// is left out.
    fn list(&mut self) -> io::Result<Vec<(Name, u64)>>;

    /// Makes an empty file of that name; one that was there is emptied.
    fn create(&mut self, name: Name) -> io::Result<()>;

    /// Writes at the end of an existing file and gives how many bytes were written, which may be
    /// fewer than asked for.
    ///
    /// # Errors
    /// After an error the file may have grown by any part of `bytes`.
    fn append(&mut self, name: Name, bytes: &[u8]) -> io::Result<usize>;

    /// Reads from `offset` on and gives how many bytes were read; zero at the end of the file.
    fn read_at(&mut self, name: Name, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Cuts a file to `len` bytes.
    fn truncate(&mut self, name: Name, len: u64) -> io::Result<()>;

    /// Makes what was written to the file survive a power cut. Its name may need
    /// [`sync_folder`](Self::sync_folder) for that.
    fn sync(&mut self, name: Name) -> io::Result<()>;

    /// Gives a file another name; one of that name is replaced at once or not at all.
    fn rename(&mut self, from: Name, to: Name) -> io::Result<()>;

    /// Removes a file.
    fn remove(&mut self, name: Name) -> io::Result<()>;

    /// Makes names survive a power cut: of files that were made, renamed and removed.
    fn sync_folder(&mut self) -> io::Result<()>;

    /// Names the time since the system was started, if it can be told. Within it nothing that was
    /// written is lost, synced or not, however the process ended.
    fn boot(&self) -> Option<[u8; 16]>;
}

impl<D: Disk + ?Sized> Disk for &mut D {
    fn list(&mut self) -> io::Result<Vec<(Name, u64)>> {
        (**self).list()
    }
    fn create(&mut self, name: Name) -> io::Result<()> {
        (**self).create(name)
    }
    fn append(&mut self, name: Name, bytes: &[u8]) -> io::Result<usize> {
        (**self).append(name, bytes)
    }
    fn read_at(&mut self, name: Name, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(name, offset, into)
    }
    fn truncate(&mut self, name: Name, len: u64) -> io::Result<()> {
        (**self).truncate(name, len)
    }
    fn sync(&mut self, name: Name) -> io::Result<()> {
        (**self).sync(name)
    }
    fn rename(&mut self, from: Name, to: Name) -> io::Result<()> {
        (**self).rename(from, to)
    }
    fn remove(&mut self, name: Name) -> io::Result<()> {
        (**self).remove(name)
    }
    fn sync_folder(&mut self) -> io::Result<()> {
        (**self).sync_folder()
    }
    fn boot(&self) -> Option<[u8; 16]> {
        (**self).boot()
    }
}

/// A file in the folder of a spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// Records; the first one has this number or a greater one.
    Segment(u64),
    /// What must be known of the stream besides its records.
    Ledger,
    /// A file that is being written anew and not valid yet.
    Draft,
}

impl Name {
    /// Reads a file name; `None` for what is not a file of the spool.
    pub fn parse(text: &str) -> Option<Self> {
        let name = match text {
            "ledger" => Self::Ledger,
            "draft" => Self::Draft,
            other => Self::Segment(other.strip_suffix(".seg")?.parse().ok()?),
        };
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(first) => write!(f, "{first:020}.seg"),
            Self::Ledger => f.write_str("ledger"),
            Self::Draft => f.write_str("draft"),
        }
    }
}

/// Whether an error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Writes all of `bytes` at the end of a file, in as many pieces as the disk wants.
pub(crate) fn append_all(disk: &mut impl Disk, name: Name, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match disk.append(name, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// These are the bytes.
    Whole,
    /// The disk has a bad spot; there are zeros instead.
    InPart,
}

/// Reads `len` bytes from `offset` on, fewer where the file ends. A piece that cannot be read
/// counts as zeros as long as the disk still answers: it has a bad spot and the rest holds.
pub(crate) fn load(
    disk: &mut impl Disk,
    name: Name,
    offset: u64,
    len: usize,
    into: &mut Vec<u8>,
) -> io::Result<Loaded> {
    into.clear();
    into.resize(len, 0);
    let (read, loaded) = match read_full(disk, name, offset, into) {
        Ok(read) => (read, Loaded::Whole),
        Err(error) => read_around(disk, name, offset, into).ok_or(error)?,
    };
    into.truncate(read);
    Ok(loaded)
}

fn read_full(disk: &mut impl Disk, name: Name, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        let rest = into.get_mut(read..).unwrap_or_default();
        match disk.read_at(name, offset + wide(read), rest) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// `None` when the disk does not answer at the end of it.
fn read_around(
    disk: &mut impl Disk,
    name: Name,
    offset: u64,
    into: &mut [u8],
) -> Option<(usize, Loaded)> {
    let (mut end, mut at, mut loaded, mut good) = (0, 0, Loaded::Whole, 0);
    for piece in into.chunks_mut(PIECE) {
        let from = offset + wide(at);
        let mut tries = (0..TRIES).map(|_| read_full(disk, name, from, piece));
        match tries.find_map(Result::ok) {
            Some(0) => {}
            Some(read) => {
                good = from;
                end = at + read;
            }
            None => {
                piece.fill(0);
                end = at + piece.len();
                loaded = Loaded::InPart;
            }
        }
        at += piece.len();
    }
    // What could be read before, or the beginning of the file, tells a bad spot from a disk that
    // does not answer any more.
    let answers = loaded == Loaded::Whole
        || matches!(disk.read_at(name, good, &mut [0; 8]), Ok(read) if read > 0);
    answers.then_some((end, loaded))
}

/// A length in memory as one on disk.
pub(crate) fn wide(len: usize) -> u64 {
    len as u64
}

/// What a bad spot costs at most.
const PIECE: usize = 4096;

/// How often a piece is tried before it counts as bad.
const TRIES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_read_back_and_strangers_are_none_of_ours() {
        for name in [
            Name::Segment(1),
            Name::Segment(u64::MAX),
            Name::Ledger,
            Name::Draft,
        ] {
            assert_eq!(Name::parse(&name.to_string()), Some(name));
        }
        assert_eq!(Name::Segment(1).to_string(), "00000000000000000001.seg");
        for stranger in ["1.seg", "+0000000000000000001.seg", "lock", "x.seg", ""] {
            assert_eq!(Name::parse(stranger), None, "{stranger}");
        }
    }
}
