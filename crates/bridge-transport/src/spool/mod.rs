//! The spool: messages of one stream on disk, numbered, until they are acknowledged.
//!
//! It knows numbers and bytes, and nothing of what the bytes mean or where they are sent. It reads
//! no clock and starts no thread; every call is ordinary work with files.
//!
//! What it is built for:
//! - records are appended at the end, read forward, and dropped from the head; nothing in between
//!   ever changes;
//! - a number is given to one record only, dense, also over a crash: numbers that may have been
//!   given out and whose records are gone are told as a [gap](Gap);
//! - what can be read is what was written, bit for bit; damage costs the record it hits;
//! - a disk that is full, fails or lies about what it wrote costs nothing that was accepted
//!   and synced;
//! - memory is a few hundred bytes a segment, whatever waits.
//!
//! ```text
//! folder/  00000000000000000001.seg    records of 1 and more, about 1 MiB
//!          00000000000000004711.seg    …
//!          ledger                      acknowledged, reserved, boundary of the last life
//!          lock                        held while a process has it open
//! ```
//!
//! Recovery, in the order of [`Spool::open`]: the last readable ledger entry names the stream;
//! each segment is read whole, and where bytes are no record the next one that is whole is looked
//! for; the end of the newest segment is cut after its last record. Then the next number: after
//! [`close`](Spool::close) it goes on; after a process that died, while the system kept running, it
//! goes on too, because nothing written is lost by that; otherwise it goes on above everything
//! that was reserved.
//!
//! Reading order: [`Spool`], [`Item`], [`Disk`]; then `record` (bytes), `ledger` (what else must
//! be known), `index` (what is kept in memory), `open`, `append`, `read`.

mod append;
mod disk;
mod folder;
mod gap;
mod index;
mod ledger;
mod open;
mod read;
mod record;
#[cfg(any(test, feature = "simulation"))]
#[doc(hidden)]
pub mod simulation;
mod store;
#[cfg(test)]
mod tests;

pub use append::{AppendError, Batch};
pub use disk::{Disk, Name};
pub use folder::{Folder, FolderError};
pub use gap::{Cause, Found, Gap, Item, MAX_TOLD, Usage};
pub use record::MAX_PAYLOAD;
pub use store::{Spool, SpoolConfig, SpoolError};
