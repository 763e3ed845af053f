//! One direction of a socket: who waits, and what is in flight.

use std::task::Waker;

/// At most one operation waits here, and at most one is in flight: they differ after a cancellation.
#[derive(Default)]
pub(super) struct Slot {
    /// Ticket of the operation that waits; 0 for none.
    pub(super) owner: u32,
    pub(super) flight: Flight,
    /// Wakes the owner.
    pub(super) waker: Option<Waker>,
    /// Where the stack of the task that uses what comes was, when it last sent or began to wait.
    pub(super) stack: usize,
    /// Its turn, once it is woken.
    pub(super) turn: u32,
    /// Another task has taken what came, and that one's turn is to come.
    pub(super) handed_on: bool,
}

/// What the driver holds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flight {
    #[default]
    None,
    /// The owner's operation, until its completion is taken.
    Owned,
    /// A cancelled operation, until its completion is announced.
    Orphan,
    /// The rest of what was in the outbox, until it has left.
    Rest,
}

impl Slot {
    /// Nobody waits, nothing is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.owner == 0 && self.flight == Flight::None
    }

    /// Remembers whom to wake; gives back the waker to drop.
    pub(super) fn wait(&mut self, waker: &Waker) -> Option<Waker> {
        match &self.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => self.waker.replace(waker.clone()),
        }
    }
}
