//! A queue that any thread fills and one thread drains, and the flag that tells when a wakeup is needed.
//!
//! The drainer is `RUNNING`, or `PARKED` when it is about to block or blocks. Whoever finds it parked, and nobody
//! else, must wake it: so a busy worker is never woken, and a blocked one once.

use super::sync::{AtomicU8, Mutex, Ordering};

/// What `send` found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Sent {
    /// The drainer will look by itself.
    Seen,
    /// The drainer is parked: the sender must wake it.
    Wake,
}

/// Many senders, one drainer.
pub(crate) struct Mailbox<T> {
    /// None once closed.
    queue: Mutex<Option<Vec<T>>>,
    state: AtomicU8,
}

impl<T> Mailbox<T> {
    pub(crate) fn new() -> Mailbox<T> {
        Mailbox { queue: Mutex::new(Some(Vec::new())), state: AtomicU8::new(RUNNING) }
    }

    /// Queues an item; gives it back once the mailbox is closed.
    pub(crate) fn send(&self, item: T) -> Result<Sent, T> {
        // Pushing cannot panic halfway, so neither can the lock be poisoned.
        match self.queue.lock().unwrap().as_mut() {
            Some(queue) => queue.push(item),
            None => return Err(item),
        }
        // After the push: a drainer that sees NOTIFIED sees the item.
        match self.state.swap(NOTIFIED, Ordering::AcqRel) {
            PARKED => Ok(Sent::Wake),
            _ => Ok(Sent::Seen),
        }
    }

    /// Moves what has come into `into`. Without news this is one load.
    pub(crate) fn drain(&self, into: &mut Vec<T>) {
        if self.state.load(Ordering::Acquire) != NOTIFIED {
            return;
        }
        // Before the look: an item that comes after it notifies again.
        self.state.swap(RUNNING, Ordering::AcqRel);
        if let Some(queue) = self.queue.lock().unwrap().as_mut() {
            into.append(queue);
        }
    }

    /// The drainer is about to block. False if there is news, and it must not.
    pub(crate) fn park(&self) -> bool {
        self.state.compare_exchange(RUNNING, PARKED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The drainer is back.
    pub(crate) fn unpark(&self) {
        // If this fails there is news, and `drain` will find it.
        let _ = self.state.compare_exchange(PARKED, RUNNING, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Takes what is left; from now on `send` gives its item back.
    pub(crate) fn close(&self) -> Vec<T> {
        self.queue.lock().unwrap().take().unwrap_or_default()
    }
}

const RUNNING: u8 = 0;
const PARKED: u8 = 1;
const NOTIFIED: u8 = 2;
