//! How long tasks may run between two looks at the sockets and timers.

use std::time::{Duration, Instant};

/// From one look to the next.
pub(super) struct Pace {
    looked: Instant,
    /// Tasks since.
    ran: usize,
}

impl Pace {
    /// A look has just been.
    pub(super) fn new() -> Pace {
        Pace { looked: Instant::now(), ran: 0 }
    }

    /// A task has run: whether the next look is due. Any one task may have been a guest's whole slice, so the clock is
    /// read after each; that costs some tens of nanoseconds where the system needs no call for it.
    pub(super) fn is_due(&mut self) -> bool {
        self.ran += 1;
        self.ran >= TASKS_BETWEEN_LOOKS || self.looked.elapsed() >= TIME_BETWEEN_LOOKS
    }
}

/// A look costs more than a short task.
const TASKS_BETWEEN_LOOKS: usize = 64;
const TIME_BETWEEN_LOOKS: Duration = Duration::from_millis(1);
