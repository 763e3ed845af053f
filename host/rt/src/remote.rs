//! What other threads may touch of a worker: its mailbox, its wakeup and its counters.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::executor::Runnable;
use crate::key::{OpKey, SocketKey};
use crate::mailbox::{Mailbox, Sent};
use crate::timer::TimerKey;
use crate::worker::load::Load;

/// Names a worker; never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub(crate) u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The worker has stopped; what was sent to it has been dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the worker has stopped")
    }
}

impl Error for Stopped {}

/// Everything that one thread asks of another's worker.
pub(crate) enum Message {
    /// A task of the worker was woken.
    Wake(Runnable),
    /// Start a task: the closure spawns it.
    Start(Box<dyn FnOnce() + Send>),
    /// A socket's object was dropped elsewhere.
    Close(SocketKey),
    /// An operation's future was dropped elsewhere.
    Cancel(OpKey, u32),
    /// A timer's future was dropped elsewhere.
    Forget(TimerKey),
    /// Another worker was told of a connection on the socket both share, and does not take it.
    Accept(SocketKey),
    /// Drop all tasks and end.
    Stop,
}

/// A worker, as seen from other threads.
pub(crate) struct Remote {
    pub(crate) id: WorkerId,
    pub(crate) mailbox: Mailbox<Message>,
    /// Ends the driver's wait.
    pub(crate) wakeup: OwnedFd,
    /// Tasks that live or are about to be started.
    pub(crate) tasks: AtomicUsize,
    /// Panics of tasks, caught.
    pub(crate) panics: AtomicU64,
    pub(crate) load: Load,
}

impl Remote {
    /// A new worker's, entered in the register.
    pub(crate) fn new() -> io::Result<Arc<Remote>> {
        let remote = Arc::new(Remote {
            id: WorkerId(NEXT.fetch_add(1, Ordering::Relaxed)),
            mailbox: Mailbox::new(),
            wakeup: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            tasks: AtomicUsize::new(0),
            panics: AtomicU64::new(0),
            load: Load::default(),
        });
        register().insert(remote.id, remote.clone());
        Ok(remote)
    }

    /// The worker of this name, unless it is gone.
    pub(crate) fn find(id: WorkerId) -> Option<Arc<Remote>> {
        register().get(&id).cloned()
    }

    /// Sends, and wakes the worker if it sleeps; gives the message back if the worker is gone.
    pub(crate) fn send(&self, message: Message) -> Result<(), Message> {
        if self.mailbox.send(message)? == Sent::Wake {
            self.wake();
        }
        Ok(())
    }

    /// Takes the worker out of the register.
    pub(crate) fn forget(&self) {
        register().remove(&self.id);
    }

    fn wake(&self) {
        // The counter cannot be full: that takes 2^64 wakeups. Nothing else can go wrong with an eventfd.
        let _ = rustix::io::write(&self.wakeup, &1u64.to_ne_bytes());
    }
}

fn register() -> MutexGuard<'static, BTreeMap<WorkerId, Arc<Remote>>> {
    // Nothing that panics runs under this lock.
    WORKERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Workers that are not gone. Only what is rare looks here.
static WORKERS: Mutex<BTreeMap<WorkerId, Arc<Remote>>> = Mutex::new(BTreeMap::new());

/// The next worker's id; 0 stands for no worker.
static NEXT: AtomicU32 = AtomicU32::new(1);
