//! Which workers wait for connections on a shared listening socket, so that they can tell each other.
//!
//! The lock is taken when a worker registers the socket or withdraws it. One that accepts all the time does neither again;
//! one that is told of connections while no task of it accepts does both, each time.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::net::sockopt;

use crate::key::SocketKey;
use crate::remote::{Message, Remote, WorkerId};

/// The worker waits on this socket from now on.
pub(super) fn enter(fd: &OwnedFd, worker: WorkerId, key: SocketKey) {
    let Some(cookie) = cookie(fd) else { return };
    let mut waiting = waiting();
    waiting.entry(cookie).or_default().push((worker, key));
    count(&waiting);
}

/// It does not any more.
pub(super) fn leave(fd: &OwnedFd, worker: WorkerId, key: SocketKey) {
    let Some(cookie) = cookie(fd) else { return };
    let mut waiting = waiting();
    let Some(entries) = waiting.get_mut(&cookie) else { return };
    entries.retain(|entry| *entry != (worker, key));
    if entries.is_empty() {
        waiting.remove(&cookie);
    }
    count(&waiting);
}

/// Whether nobody else waits on any socket.
pub(super) fn is_alone() -> bool {
    COUNT.load(Ordering::Relaxed) <= 1
}

fn count(waiting: &BTreeMap<u64, Vec<(WorkerId, SocketKey)>>) {
    COUNT.store(waiting.values().map(Vec::len).sum(), Ordering::Relaxed);
}

/// Tells one of the workers that wait on this socket that a connection may be there; if there is none, who else is to know.
pub(super) fn pass_on(fd: &OwnedFd) {
    let Some(cookie) = cookie(fd) else { return };
    let entries = waiting().get(&cookie).cloned().unwrap_or_default();
    if !tell_one(&entries)
        && let Some(heir) = HEIR.get()
    {
        heir();
    }
}

/// Tells a worker of each socket that is waited on, and who else is to know.
pub(crate) fn look_again() {
    let sockets: Vec<_> = waiting().values().cloned().collect();
    for entries in sockets {
        tell_one(&entries);
    }
    // Whoever says so knows nothing of an heir that has come meanwhile.
    if let Some(heir) = HEIR.get() {
        heir();
    }
}

/// Has this called for each connection that may be there and that no worker waits for, from now on and for ever.
pub(crate) fn set_heir(heir: Box<Heir>) {
    // The first one has the sockets.
    let _ = HEIR.set(heir);
}

pub(crate) type Heir = dyn Fn() + Send + Sync;

fn tell_one(entries: &[(WorkerId, SocketKey)]) -> bool {
    // One that has just ended has passed on what it was told.
    entries.iter().any(|(worker, key)| {
        Remote::find(*worker).is_some_and(|remote| remote.send(Message::Accept(*key)).is_ok())
    })
}

/// Names the socket, whichever duplicate of its descriptor is asked.
fn cookie(fd: &OwnedFd) -> Option<u64> {
    sockopt::socket_cookie(fd).ok()
}

fn waiting() -> MutexGuard<'static, BTreeMap<u64, Vec<(WorkerId, SocketKey)>>> {
    // Nothing that panics runs under this lock.
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Who waits, over all sockets. A worker that sees too few is told of connections before the others for a while longer.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Called where no worker is left to be told.
static HEIR: OnceLock<Box<Heir>> = OnceLock::new();

/// By the socket's cookie.
static WAITING: Mutex<BTreeMap<u64, Vec<(WorkerId, SocketKey)>>> = Mutex::new(BTreeMap::new());

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        /// By this test's thread, as others may have connections that nobody waits for.
        static TOLD: Cell<u32> = const { Cell::new(0) };
    }

    /// The first of three processes has been told of a connection, and knows of the second alone.
    #[test]
    fn what_is_passed_on_goes_to_the_last_heir() {
        set_heir(Box::new(|| TOLD.set(TOLD.get() + 1)));
        look_again();
        assert_eq!(TOLD.get(), 1);
    }
}
