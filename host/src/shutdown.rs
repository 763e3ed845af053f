//! The one event that every waiting accept must notice: nothing new is accepted any more.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Begins once, is seen by all. Threads and tasks share it in an `Arc`.
#[derive(Debug, Default)]
pub struct Shutdown {
    begun: AtomicBool,
    next_key: AtomicU64,
    waiting: Mutex<HashMap<u64, Waker>>,
}

impl Shutdown {
    /// Has it begun?
    pub fn begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Begins it and wakes everyone who waits.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        // Drop the lock before waking: a woken task may want it at once.
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_values().for_each(Waker::wake);
    }

    /// Waits until it begins.
    pub fn wait(self: &Arc<Self>) -> Wait {
        Wait { shutdown: self.clone(), key: self.next_key.fetch_add(1, Ordering::Relaxed), waker: None }
    }

    /// `future`'s output, or none if the shutdown begins first.
    pub async fn or<F: Future>(self: &Arc<Self>, future: F) -> Option<F::Output> {
        let mut future = std::pin::pin!(future);
        let mut wait = self.wait();
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Some(output));
            }
            Pin::new(&mut wait).poll(cx).map(|()| None)
        })
        .await
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ready when the shutdown has begun.
#[derive(Debug)]
pub struct Wait {
    shutdown: Arc<Shutdown>,
    key: u64,
    /// What stands in the map for `key`.
    waker: Option<Waker>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shutdown.begun() {
            return Poll::Ready(());
        }
        // Polled at every turn of a busy instance: the map is for the first time, and for a new waker.
        if self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        self.shutdown.waiting().insert(self.key, cx.waker().clone());
        // It may have begun before the waker was in the map.
        if self.shutdown.begun() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.shutdown.waiting().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[test]
    fn wakes_and_leaves_nobody_behind() {
        let shutdown = Arc::new(Shutdown::default());
        let mut cx = Context::from_waker(Waker::noop());
        let mut wait = pin!(shutdown.wait());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        {
            let mut dropped = pin!(shutdown.wait());
            assert!(dropped.as_mut().poll(&mut cx).is_pending());
            assert_eq!(shutdown.waiting().len(), 2);
        }
        assert_eq!(shutdown.waiting().len(), 1);
        shutdown.begin();
        assert!(wait.as_mut().poll(&mut cx).is_ready());
    }
}
