//! What a task is made of, and the handle on its result.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use async_task::FallibleTask;

use crate::remote::Remote;
use crate::worker::local;

/// A started task. Await it for its result; dropping it cancels the task, [`Task::detach`] does not.
#[must_use = "dropping a task cancels it; call `detach` to let it run"]
pub struct Task<T>(FallibleTask<Result<T, JoinError>, usize>);

impl<T> Task<T> {
    /// Lets the task run to its end by itself.
    pub fn detach(self) {
        self.0.detach();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    pub(super) fn new(task: async_task::Task<Result<T, JoinError>, usize>) -> Task<T> {
        Task(task.fallible())
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or(Err(JoinError::Cancelled)))
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("finished", &self.is_finished()).finish()
    }
}

/// Why a task gave no result.
pub enum JoinError {
    /// It panicked, with this.
    Panicked(Box<dyn Any + Send>),
    /// Its worker stopped.
    Cancelled,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Panicked(payload) => write!(f, "the task panicked: {}", text(payload.as_ref())),
            JoinError::Cancelled => f.write_str("the task's worker stopped"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl Error for JoinError {}

fn text(payload: &(dyn Any + Send)) -> &str {
    let string = || payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or_else(string).unwrap_or("(no message)")
}

/// A task's future: it catches panics, and tells the executor when it is gone.
pub(super) struct Guarded<F> {
    /// None once it has ended.
    future: Option<F>,
    /// Its place among the live tasks.
    index: usize,
    remote: Arc<Remote>,
}

impl<F> Guarded<F> {
    pub(super) fn new(future: F, index: usize, remote: Arc<Remote>) -> Guarded<F> {
        Guarded { future: Some(future), index, remote }
    }

    /// The future in its place.
    fn future(self: Pin<&mut Self>) -> Pin<&mut Option<F>> {
        // SAFETY: `future` is pinned with the whole: it is only reached through here, or dropped in place; there is
        // no way to move it out, `Guarded` is `Unpin` only if `F` is, and its `drop` goes through here too.
        unsafe { self.map_unchecked_mut(|guarded| &mut guarded.future) }
    }

    /// Counts a panic.
    fn caught<R>(self: Pin<&mut Self>, result: Result<R, Box<dyn Any + Send>>) -> Result<R, JoinError> {
        result.map_err(|payload| {
            self.remote.panics.fetch_add(1, Ordering::Relaxed);
            JoinError::Panicked(payload)
        })
    }

    /// Drops the future. A destructor's panic is caught: it would end the process.
    fn end(mut self: Pin<&mut Self>) -> Result<(), JoinError> {
        let mut future = self.as_mut().future();
        let ended = catch_unwind(AssertUnwindSafe(|| future.set(None)));
        self.caught(ended)
    }
}

impl<F: Future> Future for Guarded<F> {
    type Output = Result<F::Output, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.as_mut().future().as_pin_mut().expect("not polled after its end");
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
        match self.as_mut().caught(polled) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(self.end().map(|()| output)),
            Err(error) => {
                let _ = self.end();
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<F> Drop for Guarded<F> {
    fn drop(&mut self) {
        // SAFETY: a value being dropped is not moved again, so it may be pinned here.
        let this = unsafe { Pin::new_unchecked(&mut *self) };
        let _ = this.end();
        local::with(|local| local.executor.forget(self.index))
            .expect("a future is dropped on its own thread");
    }
}
