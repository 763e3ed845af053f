//! A worker, from anywhere.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::load::Stalls;
use super::local;
use crate::executor::Group;
use crate::remote::{Message, Remote, Stopped, WorkerId};

/// A handle on a worker, for any thread. It does not keep the worker alive.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Remote>);

impl Handle {
    /// This thread's worker.
    pub fn current() -> Option<Handle> {
        local::with(|local| Handle(local.remote.clone()))
    }

    /// The worker's name among all of the process.
    pub fn id(&self) -> WorkerId {
        self.0.id
    }

    /// Tasks that live or are about to start there. It says where a new one is best placed.
    pub fn tasks(&self) -> usize {
        self.0.tasks.load(Ordering::Relaxed)
    }

    /// Panics of tasks that were caught there.
    pub fn panics(&self) -> u64 {
        self.0.panics.load(Ordering::Relaxed)
    }

    /// Operations on sockets that had not come to anything when it last looked at them: accepts, receives, sends.
    pub fn in_flight(&self) -> usize {
        self.0.load.in_flight()
    }

    /// When it did not look at its sockets for too long.
    pub fn stalls(&self) -> Stalls {
        self.0.load.stalls()
    }

    /// Runs `start` on the worker, and the future it gives as a detached task there, in the worker's own group.
    ///
    /// If the worker has stopped, or stops before it gets there, the closure is dropped.
    pub fn spawn<F, Fut>(&self, start: F) -> Result<(), Stopped>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        self.start(move || super::spawn(start()).detach())
    }

    /// As [`spawn`](Handle::spawn), in this group. What `start` itself spawns is in it, too.
    pub fn spawn_in<F, Fut>(&self, group: &Group, start: F) -> Result<(), Stopped>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let group = group.clone();
        self.start(move || super::within(&group, || super::spawn(start()).detach()))
    }

    /// Drops the tasks of a group that is cancelled.
    pub(crate) fn cancel(&self, group: &Group) {
        let group = group.clone();
        // If it is gone, so are they.
        let _ = self.start(move || {
            local::with(|local| local.executor.cancel(&group));
        });
    }

    /// Tells the worker to drop all its tasks, on its own thread, and end.
    pub fn stop(&self) {
        // If it is gone, it has stopped.
        let _ = self.0.send(Message::Stop);
    }

    fn start(&self, start: impl FnOnce() + Send + 'static) -> Result<(), Stopped> {
        let place = Place::taken(self.0.clone());
        let start = Box::new(move || {
            start();
            drop(place);
        });
        self.0.send(Message::Start(start)).map_err(|_| Stopped)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("id", &self.id()).field("tasks", &self.tasks()).finish()
    }
}

/// Counts a task that is about to start.
struct Place(Arc<Remote>);

impl Place {
    fn taken(remote: Arc<Remote>) -> Place {
        remote.tasks.fetch_add(1, Ordering::Relaxed);
        Place(remote)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::Relaxed);
    }
}
