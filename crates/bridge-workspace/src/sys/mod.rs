//! The few system calls that differ between platforms: opening without following links, locking,
//! owners, flushing a folder, start times of processes.

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub(crate) use unix::*;

#[cfg(not(unix))]
mod portable;
#[cfg(not(unix))]
pub(crate) use portable::*;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// An existing file, to read.
    Read,
    /// To add at the end; created when missing.
    Append,
    /// To write; must not exist.
    CreateNew,
}

/// When the process started, in the system's own unit since the machine started. `None` where it
/// cannot be told or the process is gone.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the fields behind it are numbers.
    let (_, fields) = stat.rsplit_once(')')?;
    fields
        .split_ascii_whitespace()
        .nth(FIELDS_BEFORE_START)?
        .parse()
        .ok()
}

/// `starttime` is field 22 of `/proc/<pid>/stat`; the first field behind the name is number 3.
const FIELDS_BEFORE_START: usize = 19;
