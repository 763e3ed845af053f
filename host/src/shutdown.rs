//! The one event that every waiting accept must notice: nothing new is accepted any more.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::{Context, Poll, Waker},
};

use crate::sharded::{self, Sharded};

/// Begins once, is seen by all. Threads and tasks share it in an `Arc`.
#[derive(Debug, Default)]
pub struct Shutdown {
    begun: AtomicBool,
    /// Connections that may still be accepted of those that wait for it.
    backlog: AtomicU32,
    /// Each thread its own: every accept that has to wait comes here.
    waiting: Sharded<Mutex<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    next_key: u64,
    wakers: HashMap<u64, Waker>,
}

impl Shutdown {
    /// Has it begun?
    pub fn begun(&self) -> bool {
        self.begun.load(Ordering::SeqCst)
    }

    /// Begins it and wakes everyone who waits.
    pub fn begin(&self) {
        self.begun.store(true, Ordering::SeqCst);
        for waiting in self.waiting.iter() {
            // Drop the lock before waking: a woken task may want it at once.
            let wakers = std::mem::take(&mut lock(waiting).wakers);
            wakers.into_values().for_each(Waker::wake);
        }
    }

    /// Begins it where nobody else will accept what waits in the listeners' backlogs: that has been connected, and is served
    /// still, no more than a backlog has.
    pub fn begin_with_backlog(&self) {
        self.backlog.store(BACKLOG, Ordering::SeqCst);
        self.begin();
    }

    /// Whether one more connection that waits may be accepted.
    pub fn take_of_backlog(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        self.backlog.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok()
    }

    /// Waits until it begins.
    pub fn wait(self: &Arc<Self>) -> Wait {
        Wait { shutdown: self.clone(), entered: None }
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
}

/// What a listener's backlog has at most, unless the system was told otherwise.
const BACKLOG: u32 = 4096;

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ready when the shutdown has begun.
#[derive(Debug)]
pub struct Wait {
    shutdown: Arc<Shutdown>,
    /// Once it had to wait.
    entered: Option<Entry>,
}

/// Where a waker stands, and a copy of it.
#[derive(Debug)]
struct Entry {
    place: usize,
    key: u64,
    waker: Waker,
}

impl Wait {
    /// Puts the waker where `begin` finds it, in place of the one before.
    fn enter(&mut self, waker: &Waker) {
        let known = self.entered.as_ref().map(|entry| (entry.place, entry.key));
        let place = known.map_or_else(sharded::place, |(place, _)| place);
        let mut waiting = lock(self.shutdown.waiting.at(place));
        let key = known.map_or(waiting.next_key, |(_, key)| key);
        waiting.next_key = waiting.next_key.max(key + 1);
        let replaced = waiting.wakers.insert(key, waker.clone());
        drop(waiting);
        drop(replaced);
        self.entered = Some(Entry { place, key, waker: waker.clone() });
    }
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.shutdown.begun() {
            return Poll::Ready(());
        }
        // Polled at every turn of a busy instance: the map is for the first time, and for a new waker.
        if self.entered.as_ref().is_some_and(|entry| entry.waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.enter(cx.waker());
        // It may have begun before the waker was in the map.
        if self.shutdown.begun() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(Entry { place, key, .. }) = self.entered else { return };
        let left = lock(self.shutdown.waiting.at(place)).wakers.remove(&key);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{pin::pin, sync::atomic::AtomicUsize, task::Wake, thread};

    #[test]
    fn wakes_and_leaves_nobody_behind() {
        let shutdown = Arc::new(Shutdown::default());
        let mut cx = Context::from_waker(Waker::noop());
        let mut wait = pin!(shutdown.wait());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        {
            let mut dropped = pin!(shutdown.wait());
            assert!(dropped.as_mut().poll(&mut cx).is_pending());
            assert_eq!(waiting(&shutdown), 2);
        }
        assert_eq!(waiting(&shutdown), 1);
        shutdown.begin();
        assert!(wait.as_mut().poll(&mut cx).is_ready());
    }

    /// Who waited on another thread is found, and leaves from there.
    #[test]
    fn it_reaches_all_threads() {
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let shutdown = Arc::new(Shutdown::default());
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let enter = || {
            let mut wait = Box::pin(shutdown.wait());
            let waker = Waker::from(woken.clone());
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            wait
        };
        let on_a_thread = || thread::scope(|scope| scope.spawn(enter).join()).expect("it does not panic");
        let waits = [on_a_thread(), on_a_thread()];
        drop(on_a_thread());
        assert_eq!(waiting(&shutdown), 2);
        shutdown.begin();
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
        drop(waits);
    }

    fn waiting(shutdown: &Shutdown) -> usize {
        shutdown.waiting.iter().map(|waiting| lock(waiting).wakers.len()).sum()
    }
}
