//! The newest message of each stream: what the next one may be merged into.
//!
//! Invariant: of a stream with messages in the queue it is the newest that was pushed. Of others it
//! may name one that is gone, though never many times more of them than the queue has messages.

use foldhash::HashMap;

use super::queue::Queue;

#[derive(Debug, Default)]
pub(super) struct Tails {
    /// Of the stream that was pushed to last; it is not in the table.
    last: Option<(u64, u64)>,
    /// By stream.
    newest: HashMap<u64, u64>,
}

impl Tails {
    /// The place of the newest message of a stream, to be set when one is added; `next` where none
    /// is known.
    #[inline]
    pub(super) fn of(&mut self, stream: u64, next: u64) -> &mut u64 {
        if self.last.is_none_or(|(last, _)| last != stream) {
            self.turn_to(stream, next);
        }
        let (_, at) = self.last.get_or_insert((stream, next));
        at
    }

    fn turn_to(&mut self, stream: u64, next: u64) {
        let at = self.newest.remove(&stream).unwrap_or(next);
        if let Some((stream, at)) = self.last.replace((stream, at)) {
            self.newest.insert(stream, at);
        }
    }

    pub(super) fn is_newest(&self, stream: u64, at: u64) -> bool {
        match self.last {
            Some((last, newest)) if last == stream => newest == at,
            Some(_) | None => self.newest.get(&stream) == Some(&at),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = u64> {
        let last = self.last.map(|(_, at)| at);
        self.newest.values().copied().chain(last)
    }

    /// Forgets streams whose messages have all left the queue, where there are many.
    #[inline]
    pub(super) fn forget_gone<T>(&mut self, queue: &Queue<T>) {
        if self.newest.len() > 2 * queue.len() + FEW {
            self.keep_waiting(queue);
        }
    }

    fn keep_waiting<T>(&mut self, queue: &Queue<T>) {
        self.newest.retain(|_, at| queue.contains(*at));
        self.newest.shrink_to(2 * self.newest.len() + FEW);
    }
}

/// Streams that are not worth looking for.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_that_are_gone_are_not_remembered_for_ever() {
        let (mut tails, mut queue) = (Tails::default(), Queue::new());
        for at in 0..100_000 {
            *tails.of(at, at) = at;
            queue.push(at, ());
            if at >= 10 {
                assert!(queue.remove(at - 10).is_some());
                tails.forget_gone(&queue);
            }
            assert!(tails.newest.len() <= 2 * 11 + FEW);
            assert!(tails.newest.capacity() < 8 * FEW);
        }
        for at in 99_990..100_000 {
            assert!(tails.is_newest(at, at));
        }
    }
}
