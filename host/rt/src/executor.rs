//! The tasks of one worker, and which of those that are ready runs next.

mod task;

mod group;
mod meter;
mod run_queue;
mod task_queue;

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::budget;
use crate::remote::{Message, Remote};
use crate::worker::local;
use crate::worker::pace::Pace;
pub use group::Group;
use run_queue::{Burst, RunQueue};
use task::Guarded;
pub use task::{JoinError, Task};

/// A task that is ready. It carries the number of its group's queue on its worker, which lives as long as the future does.
pub(crate) type Runnable = async_task::Runnable<usize>;

/// Runs tasks. It lives and dies on one thread, and so do their futures.
pub(crate) struct Executor {
    remote: Arc<Remote>,
    run_queue: RefCell<RunQueue<Runnable>>,
    /// The queue that new tasks belong to: that of the task which runs now.
    queue: Cell<usize>,
    live: RefCell<Slab<Live>>,
    /// New tasks are dropped at once.
    stopping: Cell<bool>,
}

/// A task whose future lives.
struct Live {
    /// At the end all tasks are found through it. None while it is made.
    waker: Option<Waker>,
    queue: usize,
}

impl Executor {
    pub(crate) fn new(remote: Arc<Remote>) -> Executor {
        let run_queue = RunQueue::new(&Group::new(Group::DEFAULT_WEIGHT), meter::thread_clock);
        Executor {
            remote,
            run_queue: RefCell::new(run_queue),
            queue: Cell::new(run_queue::DEFAULT),
            live: RefCell::default(),
            stopping: Cell::new(false),
        }
    }

    /// Starts a task, in the group of the one that runs now.
    ///
    /// # Safety
    ///
    /// What the future borrows must outlive `clear`, which must be called before this executor is dropped.
    pub(crate) unsafe fn spawn<F: Future>(&self, future: F) -> Task<F::Output> {
        let queue = self.queue.get();
        self.run_queue.borrow_mut().join(queue);
        let index = self.live.borrow_mut().insert(Live { waker: None, queue });
        self.remote.tasks.fetch_add(1, Ordering::Relaxed);
        let future = Guarded::new(future, index, self.remote.clone());
        let remote = self.remote.clone();
        // SAFETY: the future need not be Send: a Runnable is run and dropped by this executor only (`schedule` puts
        // it into the queue of this thread, or sends it there), and `clear` ends only when every future is gone.
        // It need not be 'static by the caller's promise. The schedule function is Send, Sync and 'static.
        let (runnable, task) = unsafe {
            async_task::Builder::new()
                .metadata(queue)
                .spawn_unchecked(move |_| future, move |r| schedule(&remote, r))
        };
        if let Some(live) = self.live.borrow_mut().get_mut(index) {
            live.waker = Some(runnable.waker());
        }
        if self.stopping.get() {
            drop(runnable);
        } else {
            self.push(runnable);
        }
        Task::new(task)
    }

    /// Calls, as a task of this group would.
    pub(crate) fn within<R>(&self, group: &Group, call: impl FnOnce() -> R) -> R {
        let queue = self.run_queue.borrow_mut().enter(group);
        let _within = Within { executor: self, queue, before: self.queue.replace(queue) };
        call()
    }

    pub(crate) fn push(&self, runnable: Runnable) {
        self.run_queue.borrow_mut().push(*runnable.metadata(), runnable);
    }

    /// Whether tasks are ready; while one runs, of other groups than its own.
    pub(crate) fn has_ready(&self) -> bool {
        self.run_queue.borrow().has_waiting()
    }

    /// Whether there are several groups.
    pub(crate) fn is_shared(&self) -> bool {
        self.run_queue.borrow().is_shared()
    }

    /// Whether tasks of the running one's group run for long, of late.
    pub(crate) fn runs_long(&self) -> bool {
        self.run_queue.borrow().runs_long(self.queue.get())
    }

    /// Runs a burst: the tasks of the group whose turn it is that are ready now, not those they wake. It is over when a
    /// look at the sockets is due or, if other groups wait, after a quantum.
    pub(crate) fn turn(&self, pace: &mut Pace) {
        let Some(burst) = self.run_queue.borrow_mut().begin(pace.is_fresh(), pace.now()) else {
            return;
        };
        let Burst { queue, ready, cancelled } = burst;
        self.queue.set(queue);
        let shared = self.run_queue.borrow().is_shared();
        pace.set_shared(shared);
        let began = pace.now();
        for _ in 0..ready {
            let Some(runnable) = self.run_queue.borrow_mut().pop(queue) else { break };
            let resumed = pace.now();
            // The futures are guarded; this is for a destructor of what they leave.
            let run = catch_unwind(AssertUnwindSafe(|| match cancelled {
                false => drop(budget::with(pace.now(), || runnable.run())),
                true => drop(runnable),
            }));
            if run.is_err() {
                self.remote.panics.fetch_add(1, Ordering::Relaxed);
            }
            pace.ran();
            if shared {
                self.run_queue.borrow_mut().ran(queue, pace.now() - resumed);
            }
            if pace.is_due() || self.run_queue.borrow().has_waiting() && pace.now() - began >= QUANTUM {
                break;
            }
        }
        self.queue.set(run_queue::DEFAULT);
        self.run_queue.borrow_mut().end(queue, pace.now());
    }

    /// Has the tasks of a cancelled group dropped when its turn comes. One that another thread is waking at this moment
    /// gets here after it.
    pub(crate) fn cancel(&self, group: &Group) {
        let Some(queue) = self.run_queue.borrow().find(group) else { return };
        let live = self.live.borrow();
        let of_group = live.iter().filter(|(_, live)| live.queue == queue);
        let wakers: Vec<Waker> = of_group.filter_map(|(_, live)| live.waker.clone()).collect();
        drop(live);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Drops all tasks. `drain` must handle what has come from other threads.
    pub(crate) fn clear(&self, mut drain: impl FnMut()) {
        self.stopping.set(true);
        loop {
            drain();
            let wakers: Vec<Waker> =
                self.live.borrow().iter().filter_map(|(_, live)| live.waker.clone()).collect();
            wakers.into_iter().for_each(Waker::wake);
            let ready = self.run_queue.borrow_mut().drain();
            for runnable in ready {
                let _ = catch_unwind(AssertUnwindSafe(|| drop(runnable)));
            }
            if self.live.borrow().is_empty() {
                self.run_queue.borrow_mut().settle(Instant::now());
                return;
            }
            // Another thread is about to send the runnable of a task it has woken.
            std::thread::yield_now();
        }
    }

    /// A future is gone.
    fn forget(&self, index: usize) {
        let live = self.live.borrow_mut().remove(index);
        self.run_queue.borrow_mut().leave(live.queue);
        self.remote.tasks.fetch_sub(1, Ordering::Relaxed);
        drop(live);
    }
}

/// New tasks belong to another group, until this is dropped.
struct Within<'a> {
    executor: &'a Executor,
    queue: usize,
    /// Whose they are then.
    before: usize,
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        self.executor.queue.set(self.before);
        self.executor.run_queue.borrow_mut().leave(self.queue);
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

/// What a burst may take while other groups wait. Each may cost a system call, and caches that have to fill. It is measured by
/// the clock that is read after each task anyway: one that the system has preempted ends early, and is charged less.
const QUANTUM: Duration = Duration::from_micros(250);

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::{WorkerConfig, block_on, spawn_in, time};

    /// A host that is told to reload makes new groups for ever.
    #[test]
    fn groups_leave_nothing_behind() {
        let (rounds, groups) = if cfg!(miri) { (2, 5) } else { (100, 100) };
        let queues = || local::with(|local| local.executor.run_queue.borrow().len()).unwrap();
        block_on(WorkerConfig::default(), async {
            for _ in 0..rounds {
                for weight in 1..=groups {
                    let group = Group::new(NonZeroU32::new(weight).unwrap());
                    spawn_in(&group, async {}).await.unwrap();
                    spawn_in(&group, time::yield_now()).detach();
                    let cancelled = spawn_in(&group, std::future::pending::<()>());
                    time::yield_now().await;
                    drop(cancelled);
                }
                assert!(queues() <= 101, "{} queues", queues());
                // When nothing is ready, nobody waits for what others have had too much.
                while queues() > 1 {
                    time::sleep(Duration::from_millis(1)).await;
                }
            }
        })
        .unwrap();
    }
}
