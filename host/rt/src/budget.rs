//! The operation budget: so that I/O which is always ready cannot keep a worker.
//!
//! Each time a task is polled it may complete [`OPS`] operations on the spot, and large ones for as long as a [`TURN`]. Then
//! the next one wakes its task and is pending once, and the other tasks have their turn. Outside a task of a worker there is
//! no budget.

use std::cell::Cell;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::worker::look_soon;

/// Operations for each poll of a task.
pub const OPS: u32 = 128;
/// For so long a poll of a task may go on with large ones. What has come meanwhile is then looked at.
pub const TURN: Duration = Duration::from_micros(100);

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

/// An operation has moved so many bytes. Of a large one the kernel's copy alone takes longer than the look at the clock.
#[inline]
pub(crate) fn moved(bytes: usize) {
    if bytes >= LARGE_BYTES {
        end_if_over();
    }
}

fn end_if_over() {
    if BEGAN.get().is_some_and(|began| began.elapsed() >= TURN) {
        LEFT.set(0);
        look_soon();
    }
}

/// Runs one poll of a task with a fresh budget. It begins `now`.
pub(crate) fn with<R>(now: Instant, poll: impl FnOnce() -> R) -> R {
    LEFT.set(OPS);
    BEGAN.set(Some(now));
    let result = poll();
    LEFT.set(u32::MAX);
    BEGAN.set(None);
    result
}

thread_local! {
    static LEFT: Cell<u32> = const { Cell::new(u32::MAX) };
    /// This poll, if there is one.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// From here on an operation is large.
pub const LARGE_BYTES: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_of_large_operations_ends_by_the_clock() {
        let long_ago = Instant::now().checked_sub(2 * TURN).expect("the machine has been up for as long");
        with(long_ago, || {
            moved(LARGE_BYTES - 1);
            assert!(!is_exhausted(), "small ones are counted");
            moved(LARGE_BYTES);
            assert!(is_exhausted());
        });
        assert!(!is_exhausted());
        moved(LARGE_BYTES);
        assert!(!is_exhausted(), "outside of a task there is none");
    }
}
