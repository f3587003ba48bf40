//! Which request of git may be carried out when. Pure: requests in, requests that are due out.
//!
//! Looks go side by side; changes of one repository go one after another in the order they came,
//! and never hold up a look. Neither sort can take all places of the other.

use std::collections::VecDeque;

use bridge_proto::model::GitRequest;

/// Requests that wait, and claims of those at work.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: VecDeque<(Claim, T)>,
    working: Vec<(Ticket, Claim)>,
    tickets: u64,
}

/// Names a request at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ticket(u64);

/// What a request does to which folder.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Claim {
    Look,
    /// Components of the folder as it was asked for.
    Change(Vec<String>),
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            working: Vec::new(),
            tickets: 0,
        }
    }
}

impl<T> Queue<T> {
    /// Takes a request in, or gives it back when [`MAX_WAITING`] wait already.
    pub(crate) fn push(&mut self, request: &GitRequest, item: T) -> Result<(), T> {
        if self.waiting.len() >= MAX_WAITING {
            return Err(item);
        }
        self.waiting.push_back((Claim::of(request), item));
        Ok(())
    }

    /// The next request that may be carried out now; it counts as at work until
    /// [`Queue::done`].
    pub(crate) fn next(&mut self) -> Option<(Ticket, T)> {
        let due = (0..self.waiting.len()).find(|index| self.is_due(*index))?;
        let (claim, item) = self.waiting.remove(due)?;
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.working.push((ticket, claim));
        Some((ticket, item))
    }

    /// A request has been answered.
    pub(crate) fn done(&mut self, ticket: Ticket) {
        self.working.retain(|(working, _)| *working != ticket);
    }

    fn is_due(&self, index: usize) -> bool {
        let Some((claim, _)) = self.waiting.get(index) else {
            return false;
        };
        let at_work = self.working.iter().map(|(_, working)| working);
        let busy = at_work.clone().filter(|working| working.same_sort(claim));
        if busy.count() >= claim.places() {
            return false;
        }
        let before = self.waiting.iter().take(index).map(|(earlier, _)| earlier);
        !at_work.chain(before).any(|other| other.excludes(claim))
    }
}

impl Claim {
    fn of(request: &GitRequest) -> Self {
        match request {
            GitRequest::Status { .. } | GitRequest::Diff { .. } => Self::Look,
            GitRequest::Operation { path, .. } => Self::Change(components(path)),
        }
    }

    fn places(&self) -> usize {
        match self {
            Self::Look => LOOKS_AT_ONCE,
            Self::Change(_) => CHANGES_AT_ONCE,
        }
    }

    fn same_sort(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Look, Self::Look) | (Self::Change(_), Self::Change(_))
        )
    }

    /// Whether both may change the same repository: one of the folders holds the other.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Change(a), Self::Change(b)) => a.starts_with(b) || b.starts_with(a),
            (Self::Look, _) | (_, Self::Look) => false,
        }
    }
}

/// An absolute path may be any folder, so it counts as the root of all.
fn components(path: &str) -> Vec<String> {
    let plain = path.replace('\\', "/");
    if plain.starts_with('/') || plain.contains(':') {
        return Vec::new();
    }
    let parts = plain.split('/').filter(|part| !matches!(*part, "" | "."));
    // Some systems take names that differ in case for one folder.
    parts.map(str::to_lowercase).collect()
}

/// Looks that are carried out at the same time. Each starts a handful of processes.
const LOOKS_AT_ONCE: usize = 4;

/// Changes of different repositories at the same time. They may wait for a network.
const CHANGES_AT_ONCE: usize = 2;

/// More than pages ask for at once; beyond it a request is refused at once.
pub(crate) const MAX_WAITING: usize = 1024;

#[cfg(test)]
mod tests {
    use bridge_proto::model::GitOperation;

    use super::*;

    fn look(path: &str) -> GitRequest {
        GitRequest::Status { path: path.into() }
    }

    fn change(path: &str) -> GitRequest {
        GitRequest::Operation {
            path: path.into(),
            operation: GitOperation::Fetch,
        }
    }

    fn queue(requests: &[GitRequest]) -> Queue<usize> {
        let mut queue = Queue::default();
        for (number, request) in requests.iter().enumerate() {
            queue.push(request, number).unwrap();
        }
        queue
    }

    fn due(queue: &mut Queue<usize>) -> Vec<(Ticket, usize)> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    fn numbers(due: &[(Ticket, usize)]) -> Vec<usize> {
        due.iter().map(|(_, number)| *number).collect()
    }

    #[test]
    fn changes_of_one_repository_go_one_after_another_and_in_order() {
        let mut queue = queue(&[change("a"), change("a/sub"), change("./a/"), change("b")]);
        let first = due(&mut queue);
        assert_eq!(numbers(&first), [0, 3]);
        queue.done(first[0].0);
        let second = due(&mut queue);
        assert_eq!(numbers(&second), [1]);
        queue.done(second[0].0);
        assert_eq!(numbers(&due(&mut queue)), [2]);
    }

    #[test]
    fn the_workspace_itself_and_absolute_paths_may_be_any_repository() {
        for anywhere in ["", "/home/u/a", r"C:\a"] {
            let mut queue = queue(&[change("b"), change(anywhere), change("c")]);
            let first = due(&mut queue);
            assert_eq!(numbers(&first), [0], "{anywhere}");
            queue.done(first[0].0);
            assert_eq!(numbers(&due(&mut queue)), [1], "{anywhere}");
        }
    }

    #[test]
    fn changes_that_wait_for_a_network_do_not_hold_up_looks() {
        let mut all: Vec<_> = (0..9).map(|n| change(&format!("r{n}"))).collect();
        all.extend((0..9).map(|_| look("r0")));
        let mut queue = queue(&all);
        assert_eq!(numbers(&due(&mut queue)), [0, 1, 9, 10, 11, 12]);
    }

    #[test]
    fn a_sibling_whose_name_begins_the_same_is_another_repository() {
        let mut queue = queue(&[change("a"), change("ab")]);
        assert_eq!(numbers(&due(&mut queue)), [0, 1]);
    }

    #[test]
    fn what_waits_is_bounded_and_everything_comes_to_its_turn() {
        let mut queue = Queue::default();
        let mut taken = 0;
        while queue.push(&look("a"), taken).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, MAX_WAITING);
        let mut served = 0;
        loop {
            let now = due(&mut queue);
            if now.is_empty() {
                break;
            }
            assert!(now.len() <= LOOKS_AT_ONCE);
            served += now.len();
            for (ticket, _) in now {
                queue.done(ticket);
            }
        }
        assert_eq!(served, MAX_WAITING);
    }
}
