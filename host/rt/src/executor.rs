//! The tasks of one worker, and the queue of those that are ready.

mod task;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use async_task::Runnable;
use slab::Slab;

use crate::budget;
use crate::remote::{Message, Remote};
use crate::worker::local;
use task::Guarded;
pub use task::{JoinError, Task};

/// Runs tasks. It lives and dies on one thread, and so do their futures.
pub(crate) struct Executor {
    remote: Arc<Remote>,
    ready: RefCell<VecDeque<Runnable>>,
    /// A waker of each task whose future lives: at the end they are all found through it.
    live: RefCell<Slab<Option<Waker>>>,
    /// New tasks are dropped at once.
    stopping: Cell<bool>,
}

impl Executor {
    pub(crate) fn new(remote: Arc<Remote>) -> Executor {
        let (ready, live) = Default::default();
        Executor { remote, ready, live, stopping: Cell::new(false) }
    }

    /// Starts a task.
    ///
    /// # Safety
    ///
    /// What the future borrows must outlive `clear`, which must be called before this executor is dropped.
    pub(crate) unsafe fn spawn<F: Future>(&self, future: F) -> Task<F::Output> {
        let index = self.live.borrow_mut().insert(None);
        self.remote.tasks.fetch_add(1, Ordering::Relaxed);
        let future = Guarded::new(future, index, self.remote.clone());
        let remote = self.remote.clone();
        // SAFETY: the future need not be Send: a Runnable is run and dropped by this executor only (`schedule` puts
        // it into the queue of this thread, or sends it there), and `clear` ends only when every future is gone.
        // It need not be 'static by the caller's promise. The schedule function is Send, Sync and 'static.
        let (runnable, task) = unsafe {
            async_task::Builder::new().spawn_unchecked(move |()| future, move |r| schedule(&remote, r))
        };
        if let Some(waker) = self.live.borrow_mut().get_mut(index) {
            *waker = Some(runnable.waker());
        }
        if self.stopping.get() {
            drop(runnable);
        } else {
            self.push(runnable);
        }
        Task::new(task)
    }

    pub(crate) fn push(&self, runnable: Runnable) {
        self.ready.borrow_mut().push_back(runnable);
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    /// Runs the tasks that are ready now, not those they wake, until `enough`, which is asked after each. Tells whether
    /// it was.
    pub(crate) fn turn(&self, mut enough: impl FnMut() -> bool) -> bool {
        let count = self.ready.borrow().len();
        for _ in 0..count {
            let Some(runnable) = self.ready.borrow_mut().pop_front() else { return false };
            // The futures are guarded; this is for a destructor of what they leave.
            let run = catch_unwind(AssertUnwindSafe(|| budget::with(|| runnable.run())));
            if run.is_err() {
                self.remote.panics.fetch_add(1, Ordering::Relaxed);
            }
            if enough() {
                return true;
            }
        }
        false
    }

    /// Drops all tasks. `drain` must handle what has come from other threads.
    pub(crate) fn clear(&self, mut drain: impl FnMut()) {
        self.stopping.set(true);
        loop {
            drain();
            let wakers: Vec<Waker> =
                self.live.borrow().iter().filter_map(|(_, waker)| waker.clone()).collect();
            wakers.into_iter().for_each(Waker::wake);
            while let Some(runnable) = { self.ready.borrow_mut().pop_front() } {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(runnable)));
            }
            if self.live.borrow().is_empty() {
                return;
            }
            // Another thread is about to send the runnable of a task it has woken.
            std::thread::yield_now();
        }
    }

    /// A future is gone.
    fn forget(&self, index: usize) {
        let waker = self.live.borrow_mut().remove(index);
        self.remote.tasks.fetch_sub(1, Ordering::Relaxed);
        drop(waker);
    }
}

fn schedule(remote: &Arc<Remote>, runnable: Runnable) {
    if local::is_current(remote.id) {
        local::with(|local| local.executor.push(runnable));
    } else if let Err(message) = remote.send(Message::Wake(runnable)) {
        // The mailbox closes when all futures are gone, so this cannot be. Were it so, the future must not be
        // dropped on this thread.
        std::mem::forget(message);
    }
}
