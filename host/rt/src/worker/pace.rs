//! How long tasks may run between two looks at the sockets and timers.

use std::time::{Duration, Instant};

/// From one look to the next.
pub(crate) struct Pace {
    looked: Instant,
    /// When the last task ended.
    now: Instant,
    /// Tasks since the look.
    ran: usize,
}

impl Pace {
    /// A look has just been.
    pub(super) fn new() -> Pace {
        let now = Instant::now();
        Pace { looked: now, now, ran: 0 }
    }

    /// A task has run. Any one may have been a guest's whole slice, so the clock is read after each; that costs some tens
    /// of nanoseconds where the system needs no call for it.
    #[inline]
    pub(crate) fn ran(&mut self) {
        self.ran += 1;
        self.now = Instant::now();
    }

    /// Whether the next look is due.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        self.ran >= TASKS_BETWEEN_LOOKS || self.now - self.looked >= TIME_BETWEEN_LOOKS
    }

    /// Whether no task has run since the look.
    pub(crate) fn is_fresh(&self) -> bool {
        self.ran == 0
    }

    /// The time, as of the last task or the look.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }
}

/// A look costs more than a short task.
const TASKS_BETWEEN_LOOKS: usize = 64;
const TIME_BETWEEN_LOOKS: Duration = Duration::from_millis(1);
