//! How long tasks may run between two looks at the sockets and timers.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// From one look to the next.
pub(crate) struct Pace {
    looked: Instant,
    /// When the last task ended.
    now: Instant,
    /// Tasks since the look.
    ran: usize,
    /// The look is wanted.
    wanted: bool,
    /// Others may wait for what the look brings.
    shared: bool,
}

/// Has this thread's worker look at its sockets once the task that runs now has made room for others: something is there.
pub fn look_soon() {
    WANTED.set(true);
}

impl Pace {
    /// A look has just been.
    pub(super) fn new() -> Pace {
        let now = Instant::now();
        Pace { looked: now, now, ran: 0, wanted: false, shared: false }
    }

    /// A task has run. Any one may have been a guest's whole slice, so the clock is read after each; that costs some tens
    /// of nanoseconds where the system needs no call for it.
    #[inline]
    pub(crate) fn ran(&mut self) {
        self.ran += 1;
        self.now = Instant::now();
        self.wanted = WANTED.replace(false);
    }

    /// Whether the next look is due.
    #[inline]
    pub(crate) fn is_due(&self) -> bool {
        let time = if self.shared { TIME_IF_SHARED } else { TIME_BETWEEN_LOOKS };
        self.ran >= TASKS_BETWEEN_LOOKS || self.now - self.looked >= time || self.wanted
    }

    /// Whether the worker has tasks of several groups.
    #[inline]
    pub(crate) fn set_shared(&mut self, shared: bool) {
        self.shared = shared;
    }

    /// How long ago the look was, if that is too long for what has come meanwhile.
    #[inline]
    pub(super) fn stalled(&self) -> Option<Duration> {
        let time = self.now - self.looked;
        (time > STALL_MIN).then_some(time)
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

thread_local! {
    static WANTED: Cell<bool> = const { Cell::new(false) };
}

/// A look costs more than a short task.
const TASKS_BETWEEN_LOOKS: usize = 64;
const TIME_BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// What one group's tasks are woken by must not wait for those of another for as long. Alone, a group's are quicker in batches.
const TIME_IF_SHARED: Duration = Duration::from_micros(250);
/// The last task before a look may begin when the time is nearly over, and have as long again.
const STALL_MIN: Duration = Duration::from_millis(2);
