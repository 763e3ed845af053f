//! Workers: a thread each, with an executor and a reactor of its own.

mod handle;
pub(crate) mod load;
pub(crate) mod local;
pub(crate) mod pace;

use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use std::os::fd::BorrowedFd;

use crate::driver::DriverKind;
use crate::executor::{Group, JoinError, Task};
pub use handle::Handle;
pub use load::Stalls;
use local::{Local, Parts};
pub use pace::look_soon;

/// How a worker is made.
#[derive(Default)]
pub struct WorkerConfig {
    /// The thread's name; the system shows its first 15 bytes.
    pub name: String,
    /// What carries out its operations.
    pub driver: DriverKind,
    /// Told when the worker begins, and when it sleeps.
    pub hooks: Option<Box<dyn Hooks + Send>>,
}

/// Called on the worker's thread.
pub trait Hooks {
    /// The worker begins. `sockets` is readable when a look at its sockets would bring something, while they are
    /// [watched](watch). It is open until the worker ends.
    fn begins(&mut self, _sockets: BorrowedFd<'_>) {}
    /// The worker may fall asleep now: no task runs until `after_wait`.
    fn before_wait(&mut self) {}
    /// It is awake.
    fn after_wait(&mut self) {}
}

/// A worker thread. Dropping this tells it to stop, but does not wait.
#[derive(Debug)]
pub struct Worker {
    handle: Handle,
    /// None once joined.
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread with nothing to do yet.
    pub fn start(config: WorkerConfig) -> io::Result<Worker> {
        let (made, making) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name(config.name.clone()).spawn(move || {
            let parts = match Parts::new(config) {
                Ok(parts) => parts,
                Err(error) => return drop(made.send(Err(error))),
            };
            let local = Local::enter(parts).expect("a new thread has no worker");
            // Nobody can have stopped listening: see below.
            let _ = made.send(Ok(local.remote.clone()));
            local.run(|| false);
        })?;
        let remote = making.recv().map_err(|_| io::Error::other("the worker's thread died"))??;
        let handle = Handle(remote);
        Ok(Worker { handle, thread: Some(thread) })
    }

    /// A handle on it, for any thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Tells it to drop all its tasks, on its own thread, and end.
    pub fn stop(&self) {
        self.handle.stop();
    }

    /// Waits until its thread has ended. It does not tell it to.
    pub fn join(mut self) -> thread::Result<()> {
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop();
        }
    }
}

/// Starts a task on this thread's worker, in the [group](Group) of the task that runs now. Outside of tasks, that is the
/// worker's own.
///
/// # Panics
///
/// If this thread is not a worker.
pub fn spawn<F: Future + 'static>(future: F) -> Task<F::Output>
where
    F::Output: 'static,
{
    // SAFETY: the future is 'static, and `Local` clears its executor.
    local::with(|local| unsafe { local.executor.spawn(future) })
        .expect("spawn is called on a worker's thread")
}

/// Starts a task on this thread's worker, in this group.
///
/// # Panics
///
/// If this thread is not a worker.
pub fn spawn_in<F: Future + 'static>(group: &Group, future: F) -> Task<F::Output>
where
    F::Output: 'static,
{
    within(group, || spawn(future))
}

/// Calls, as a task of this group on this thread's worker would.
fn within<R>(group: &Group, call: impl FnOnce() -> R) -> R {
    local::with(|local| local.executor.within(group, call)).expect("a worker's thread")
}

/// Gives the system what tasks of this thread's worker have sent and it still holds. A task that goes on for long without
/// waiting calls this now and then.
pub fn flush() {
    local::with(|local| local.reactor(|reactor| reactor.flush()));
}

/// Whether this thread's worker has no task besides the one that runs now, so that nobody waits while that goes on.
pub fn is_alone() -> bool {
    local::with(|local| local.remote.tasks.load(Ordering::Relaxed) <= 1).unwrap_or_default()
}

/// Whether this thread's worker has tasks of more than one group.
pub fn is_shared() -> bool {
    local::with(|local| local.executor.is_shared()).unwrap_or_default()
}

/// Whether tasks of another group are ready on this thread's worker, and wait until the one that runs now makes room.
pub fn others_wait() -> bool {
    local::with(|local| local.executor.has_ready()).unwrap_or_default()
}

/// Whether the task that runs now is likely to go on for long, as others of its group did of late. Known only where there is
/// more than one group.
pub fn runs_long() -> bool {
    local::with(|local| local.executor.runs_long()).unwrap_or_default()
}

/// Watches the sockets of this thread's worker while a task goes on for long: what was given to [`Hooks::begins`] tells when
/// there is something. True if there is already, of which it may not tell.
pub fn watch() -> bool {
    local::with(|local| local.reactor(|reactor| reactor.watch())).unwrap_or_default()
}

/// Watches them no more.
pub fn unwatch() {
    local::with(|local| local.reactor(|reactor| reactor.unwatch()));
}

/// Runs a worker on this thread until the future is done, and drops all its other tasks.
///
/// It fails if the worker cannot be made, or if this thread is one already, or if the worker is stopped before the
/// future is done. A panic of the future goes on here.
pub fn block_on<F: Future>(config: WorkerConfig, future: F) -> io::Result<F::Output> {
    let local = Local::enter(Parts::new(config)?)?;
    // SAFETY: `local` is dropped before `future`'s borrows end, unwinding or not, and clears its executor then.
    let mut task = unsafe { local.executor.spawn(future) };
    local.run(|| task.is_finished());
    drop(local);
    match output_of(&mut task) {
        Ok(output) => Ok(output),
        Err(JoinError::Panicked(payload)) => resume_unwind(payload),
        Err(JoinError::Cancelled) => Err(io::Error::other("the worker was stopped")),
    }
}

/// The result of a task that has ended.
fn output_of<T>(task: &mut Task<T>) -> Result<T, JoinError> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(task).poll(&mut cx) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => unreachable!("all tasks of a worker that has ended have ended"),
    }
}
