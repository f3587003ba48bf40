//! What waits, by its place: smaller is older, and a place is never given a second time.
//!
//! Nearly all of it comes at the end and leaves at the front. What is taken from between others
//! leaves a hole, so that a place is found by counting; holes are never more than what waits, but for
//! a few.

use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Queue<T> {
    /// By rising places; neither the first nor the last is a hole.
    entries: VecDeque<(u64, Option<T>)>,
    waiting: usize,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            waiting: 0,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Adds what has a place behind all others.
    #[inline]
    pub(super) fn push(&mut self, at: u64, entry: T) {
        debug_assert!(self.entries.back().is_none_or(|(last, _)| *last < at));
        self.entries.push_back((at, Some(entry)));
        self.waiting += 1;
    }

    /// Puts back what was taken.
    pub(super) fn put_back(&mut self, mut entries: Vec<(u64, T)>) {
        entries.sort_by_key(|(at, _)| *at);
        let first = self.entries.front().map_or(u64::MAX, |(at, _)| *at);
        let older = entries.last().is_none_or(|(at, _)| *at < first);
        self.waiting += entries.len();
        if older {
            for (at, entry) in entries.into_iter().rev() {
                self.entries.push_front((at, Some(entry)));
            }
            return;
        }
        self.entries.retain(|(_, entry)| entry.is_some());
        let entries = entries.into_iter();
        self.entries
            .extend(entries.map(|(at, entry)| (at, Some(entry))));
        self.entries.make_contiguous().sort_by_key(|(at, _)| *at);
    }

    /// What waits longest.
    #[inline]
    pub(super) fn first(&self) -> Option<(u64, &T)> {
        let (at, entry) = self.entries.front()?;
        Some((*at, entry.as_ref()?))
    }

    /// Takes what waits longest.
    #[inline]
    pub(super) fn pop_first(&mut self) -> Option<(u64, T)> {
        let (at, entry) = self.entries.pop_front()?;
        let entry = entry?;
        self.waiting -= 1;
        if matches!(self.entries.front(), Some((_, None))) {
            self.close_ends();
        }
        Some((at, entry))
    }

    pub(super) fn get(&self, at: u64) -> Option<&T> {
        let (place, entry) = self.entries.get(self.index(at))?;
        entry.as_ref().filter(|_| *place == at)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: u64) -> Option<&mut T> {
        if self.entries.back().is_some_and(|(last, _)| *last == at) {
            return self.entries.back_mut()?.1.as_mut();
        }
        let index = self.index(at);
        let (place, entry) = self.entries.get_mut(index)?;
        entry.as_mut().filter(|_| *place == at)
    }

    pub(super) fn contains(&self, at: u64) -> bool {
        self.get(at).is_some()
    }

    #[inline]
    pub(super) fn remove(&mut self, at: u64) -> Option<T> {
        if self
            .entries
            .front()
            .is_some_and(|(oldest, _)| *oldest == at)
        {
            self.waiting -= 1;
            let (_, entry) = self.entries.pop_front()?;
            if matches!(self.entries.front(), Some((_, None))) {
                self.close_ends();
            }
            return entry;
        }
        let index = self.index(at);
        let (_, entry) = self.entries.get_mut(index).filter(|it| it.0 == at)?;
        let entry = entry.take()?;
        self.waiting -= 1;
        self.close_ends();
        if self.entries.len() > 2 * self.waiting + FEW {
            self.entries.retain(|(_, entry)| entry.is_some());
        }
        Some(entry)
    }

    /// What waits from a place on.
    pub(super) fn from(&self, at: u64) -> impl Iterator<Item = (u64, &T)> {
        let rest = self.entries.range(self.index(at)..);
        rest.filter_map(|(at, entry)| Some((*at, entry.as_ref()?)))
    }

    /// Removes what is not to wait any longer.
    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) {
        self.entries
            .retain(|(_, entry)| entry.as_ref().is_some_and(&mut keeps));
        self.waiting = self.entries.len();
    }

    /// Where the first one from a place on is.
    fn index(&self, at: u64) -> usize {
        let first = self.entries.front().map_or(at, |(first, _)| *first);
        let counted = usize::try_from(at.saturating_sub(first)).unwrap_or(usize::MAX);
        if self
            .entries
            .get(counted)
            .is_some_and(|(place, _)| *place == at)
        {
            return counted;
        }
        self.entries.partition_point(|(place, _)| *place < at)
    }

    fn close_ends(&mut self) {
        while matches!(self.entries.front(), Some((_, None))) {
            self.entries.pop_front();
        }
        while matches!(self.entries.back(), Some((_, None))) {
            self.entries.pop_back();
        }
    }
}

/// Holes that are not worth closing.
const FEW: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Push,
        Remove(usize),
        PutBack(usize),
        Retain(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Push),
            3 => any::<usize>().prop_map(Step::Remove),
            1 => any::<usize>().prop_map(Step::PutBack),
            1 => (2u64..9).prop_map(Step::Retain),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_map_by_places(steps in prop::collection::vec(step(), 0..200)) {
            let (mut queue, mut model) = (Queue::new(), BTreeMap::new());
            let (mut next, mut taken) = (7u64, BTreeMap::new());
            for step in steps {
                match step {
                    Step::Push => {
                        queue.push(next, next);
                        model.insert(next, next);
                        next += 1;
                    }
                    Step::Remove(which) if !model.is_empty() => {
                        let at = *model.keys().nth(which % model.len()).unwrap();
                        taken.insert(at, at);
                        prop_assert_eq!(queue.remove(at), model.remove(&at));
                        prop_assert_eq!(queue.remove(at), None);
                    }
                    Step::Remove(_) => prop_assert_eq!(queue.remove(next), None),
                    Step::PutBack(from) => {
                        let from = next - (from as u64 % 40).min(next);
                        let back = taken.split_off(&from);
                        model.extend(back.clone());
                        queue.put_back(back.into_iter().collect());
                    }
                    Step::Retain(keeps) => {
                        queue.retain(|it| it % keeps != 0);
                        model.retain(|_, it| *it % keeps != 0);
                    }
                }
                prop_assert_eq!(queue.len(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                for from in 0..next {
                    prop_assert_eq!(queue.get(from), model.get(&from));
                    prop_assert_eq!(queue.get_mut(from), model.get_mut(&from));
                }
                let seen: Vec<_> = queue.from(next / 2).map(|(at, it)| (at, *it)).collect();
                let expected: Vec<_> = model.range(next / 2..).map(|(at, it)| (*at, *it)).collect();
                prop_assert_eq!(seen, expected);
            }
        }
    }

    #[test]
    fn holes_behind_one_that_stays_are_closed_now_and_then() {
        let mut queue = Queue::new();
        queue.push(1, ());
        for at in 2..100_000 {
            queue.push(at, ());
            assert_eq!(queue.remove(at), Some(()));
            queue.push(at + 100_000, ());
            assert_eq!(queue.remove(at + 100_000), Some(()));
            assert!(queue.entries.len() < 3 * FEW);
        }
        assert!(queue.contains(1));
    }
}
