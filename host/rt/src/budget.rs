//! The operation budget: so that I/O which is always ready cannot keep a worker.
//!
//! Each time a task is polled it may complete [`OPS`] operations on the spot. Then the next one wakes its task and
//! is pending once, and the other tasks have their turn. Outside a task of a worker there is no budget.

use std::cell::Cell;
use std::task::{Context, Poll};

/// Operations for each poll of a task.
pub const OPS: u32 = 128;

/// Pending, with the task woken, when the budget is used up. To be asked before an operation is tried.
pub(crate) fn poll_proceed(cx: &mut Context<'_>) -> Poll<()> {
    if LEFT.get() > 0 {
        return Poll::Ready(());
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// Whether this poll's budget is used up: an operation that is pending now has not waited for anything.
pub fn is_exhausted() -> bool {
    LEFT.get() == 0
}

/// Uses one up: an operation has completed.
pub(crate) fn spend() {
    LEFT.set(LEFT.get().saturating_sub(1));
}

/// Runs one poll of a task with a fresh budget.
pub(crate) fn with<R>(poll: impl FnOnce() -> R) -> R {
    LEFT.set(OPS);
    let result = poll();
    LEFT.set(u32::MAX);
    result
}

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
}
