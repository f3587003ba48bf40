//! Messages of streams under the numbers of the writer: what the outbox knows of them, how they get
//! one that has to be written down first, and how they come back without it.
//!
//! Invariant: of the messages of a stream the oldest gets the lowest number, and all of them come
//! back in that order, before what waits.

use std::{num::NonZero, time::Instant};

use bytes::Bytes;

use super::{Entry, Outbox, batch::BATCH_BYTES};
use crate::{
    delivery::{self, MOST_TEXTS, Writer},
    inbound::FrameRefused,
    payload::{Class, Payload, TextFrame},
};

/// What has to be written down.
#[derive(Debug, Default)]
pub(in crate::link) struct Records {
    pub(in crate::link) taken: Vec<Record>,
    /// What is wrong with each message that was taken out.
    pub(in crate::link) refused: Vec<FrameRefused>,
}

/// A message with its number, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) stored: Bytes,
}

/// A message under a number, with what the outbox knew of it.
#[derive(Debug)]
pub(in crate::link) struct Numbered<P> {
    /// Its place in the queue; 0 for one that was read from the disk.
    pub(super) at: u64,
    pub(super) class: Class,
    pub(super) payload: P,
    /// How long its longest frame is, if it is a suspect as an [`Entry`] is.
    pub(super) suspect: Option<NonZero<u32>>,
}

impl<P: Payload> Numbered<P> {
    /// One that was read from the disk, with its stream; nothing for one of no stream.
    pub(in crate::link) fn read_back(payload: P) -> Option<(Self, u64)> {
        let class = payload.class();
        let stream = class.stream()?;
        let numbered = Self {
            at: 0,
            class,
            payload,
            suspect: None,
        };
        Some((numbered, stream))
    }

    pub(in crate::link) fn size(&self) -> usize {
        self.payload.size()
    }

    /// Writes the list of its texts; an empty one, and what is wrong, of a message that has so many that
    /// the peer would end every connection over it.
    pub(in crate::link) fn write_to(&self, list: &mut String) -> Result<(), FrameRefused> {
        let frames = self.payload.seal(true);
        let texts = frames.len();
        if texts > MOST_TEXTS {
            write_list(list, &[]);
            return Err(FrameRefused::TooManyToSend { texts });
        }
        write_list(list, &frames);
        Ok(())
    }
}

impl<P: Payload> Outbox<P> {
    /// Gives numbers to what may go, to be written down before it goes. What does not fit into a
    /// window of bytes is then on the disk alone.
    pub(in crate::link) fn store(
        &mut self,
        now: Instant,
        paced: bool,
        writer: &mut Writer<Numbered<P>>,
        window: usize,
        store: fn(&P) -> Option<Bytes>,
        limit: usize,
    ) -> Records {
        let mut records = Records::default();
        let mut from = 0;
        let mut bytes = 0;
        let of_stream = |class: Class| class.stream().is_some();
        while records.taken.len() < STORED_MESSAGES
            && bytes < BATCH_BYTES
            && let Some((at, _)) = self.next_from(from, now, paced, of_stream)
            && let Some(entry) = self.take_out(at, now)
        {
            from = at + 1;
            let Entry {
                class,
                payload,
                size,
                ..
            } = entry;
            let (Some(stored), Some(stream)) = (store(&payload), class.stream()) else {
                continue;
            };
            if stored.len() > limit {
                let bytes = stored.len();
                records.refused.push(FrameRefused::TooLargeToSend { bytes });
                continue;
            }
            bytes += stored.len();
            let held = self.used.saturating_add(writer.bytes());
            let fits = held == 0 || held.saturating_add(size) <= window;
            let seq = if fits && writer.is_all_here() {
                let numbered = Numbered {
                    at,
                    class,
                    payload,
                    suspect: None,
                };
                writer.keep(numbered, stream, size)
            } else {
                writer.leave()
            };
            records.taken.push(Record { seq, stored });
        }
        records
    }

    /// Takes back, in its order and before what waits of its streams, what was numbered for a peer
    /// that is no longer one with the envelope, or for a disk that takes nothing any more.
    pub(in crate::link) fn take_back(&mut self, numbered: Vec<Numbered<P>>) {
        // What was read from the disk has no place of its own; then all of them get new ones, because
        // some that were never away from here may be older. Nothing else is below the first place.
        let placeless = numbered.iter().any(|message| message.at == 0);
        let mut back = Vec::with_capacity(numbered.len());
        for (place, message) in (1..).zip(numbered) {
            let size = message.size();
            self.used += size;
            let entry = Entry {
                class: message.class,
                payload: message.payload,
                size,
                sealed: true,
                longest: message.suspect.map_or(0, NonZero::get),
                suspect: message.suspect.is_some(),
                lent: None,
            };
            let at = if placeless { place } else { message.at };
            back.push((at, entry));
        }
        self.queue.put_back(back);
    }
}

pub(super) fn write_list(list: &mut String, frames: &[TextFrame]) {
    delivery::write_list(list, frames.iter().map(TextFrame::as_str));
}

/// Written down together, because each time may cost a sync.
const STORED_MESSAGES: usize = 1024;
