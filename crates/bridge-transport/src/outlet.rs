//! The way to the inbox: what waits for room there, and the room itself.

use std::{collections::VecDeque, future::pending, sync::Arc};

use tokio::sync::{
    OwnedSemaphorePermit, Semaphore,
    mpsc::{self, UnboundedSender},
};
use tracing::trace;

use crate::inbound::{Inbound, Inbox};

/// The sending end of an inbox. The inbox is bounded in bytes: every message holds its share of
/// the room until the embedder takes it.
pub(crate) struct Outlet {
    inbox: UnboundedSender<(Inbound, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    all_room: u32,
    /// What had no room yet. Nothing is read from the socket meanwhile, so these are the texts of one
    /// frame at most, and what the link itself has to say.
    queue: VecDeque<Inbound>,
}

impl Outlet {
    /// Makes an outlet and the inbox it leads to, which holds about this many bytes.
    pub(crate) fn new(bytes: usize) -> (Self, Inbox) {
        let all_room = u32::try_from(bytes / UNIT)
            .unwrap_or(MOST_ROOM)
            .clamp(1, MOST_ROOM);
        let (inbox, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(all_room as usize));
        (
            Self {
                inbox,
                room,
                all_room,
                queue: VecDeque::new(),
            },
            Inbox { receiver },
        )
    }

    /// Tells whether something waits for room.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Delivers now if there is room, later otherwise; the order is kept.
    pub(crate) fn push(&mut self, inbound: Inbound) {
        self.queue.push_back(inbound);
        while let Some(cost) = self.next_cost()
            && let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(cost)
        {
            self.deliver(room);
        }
    }

    /// Waits until what waits longest has room and delivers it; for ever if nothing waits.
    ///
    /// Cancel safe.
    pub(crate) async fn deliver_next(&mut self) {
        let Some(cost) = self.next_cost() else {
            return pending().await;
        };
        match Arc::clone(&self.room).acquire_many_owned(cost).await {
            Ok(room) => self.deliver(room),
            Err(_) => pending().await,
        }
    }

    fn next_cost(&self) -> Option<u32> {
        let bytes = match self.queue.front()? {
            Inbound::Frame { text, .. } => text.len(),
            Inbound::Opened { .. }
            | Inbound::Refused { .. }
            | Inbound::Gap { .. }
            | Inbound::Missed { .. }
            | Inbound::Closed { .. } => 0,
        };
        Some(u32::try_from(bytes / UNIT + 1).map_or(self.all_room, |cost| cost.min(self.all_room)))
    }

    fn deliver(&mut self, room: OwnedSemaphorePermit) {
        if let Some(inbound) = self.queue.pop_front()
            && self.inbox.send((inbound, room)).is_err()
        {
            trace!("nobody reads the inbox");
        }
        if self.queue.is_empty() && self.queue.capacity() > SHORT {
            self.queue.shrink_to(SHORT);
        }
    }
}

/// How many places a queue keeps that has nothing in it.
const SHORT: usize = 64;
/// Room is counted in units of this many bytes.
const UNIT: usize = 1024;
/// What a semaphore holds on every platform.
const MOST_ROOM: u32 = u32::MAX >> 3;
