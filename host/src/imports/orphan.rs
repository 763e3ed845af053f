//! A coroutine that goes on though all its peers are gone.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Poll, Waker},
};

/// What tells it: a coroutine of this worker, which has an instance to itself.
pub struct Orphan {
    /// Those of the connections it was started for that are not gone.
    peers: AtomicUsize,
    orphaned: AtomicBool,
    /// The coroutine's.
    waker: Mutex<Option<Waker>>,
}

impl Orphan {
    /// Of one that is started for so many connections.
    pub fn of(peers: usize) -> Arc<Self> {
        let (orphaned, waker) = Default::default();
        Arc::new(Self { peers: AtomicUsize::new(peers), orphaned, waker })
    }

    /// One of them has been gone for as long as may be. After the last one the coroutine ends.
    pub(super) fn lose(&self) {
        if self.peers.fetch_sub(1, Relaxed) == 1 {
            self.orphaned.store(true, Relaxed);
            let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

/// What the coroutine's future comes to; none if it is to end before.
pub async fn unless_orphaned<F: Future>(orphan: Option<&Orphan>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut begun = false;
    poll_fn(|cx| {
        if let Some(orphan) = orphan {
            if orphan.orphaned.load(Relaxed) {
                return Poll::Ready(None);
            }
            // A task has the same one all its life.
            if !std::mem::replace(&mut begun, true) {
                *orphan.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            }
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
