//! What signals have asked for so far.

use std::time::{Duration, Instant};

/// The signals until now.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// The last one that was a wish of its own.
    last: Option<Instant>,
    /// Until when the first one leaves what is under way; none before it, or if that is beyond the clock.
    deadline: Option<Instant>,
}

/// What a signal asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// The first: finish what is under way.
    Drain,
    /// Another: end now.
    CutOff,
}

impl Wishes {
    /// A signal has come; none if it belongs to the one before.
    pub(super) fn signal(&mut self, drain_max: Duration) -> Option<Wish> {
        let now = Instant::now();
        // `timeout` and some shells signal a process and its group: that is one wish, not two.
        if self.last.is_some_and(|last| now.duration_since(last) < ONE_WISH) {
            return None;
        }
        if self.last.replace(now).is_some() {
            return Some(Wish::CutOff);
        }
        self.deadline = now.checked_add(drain_max);
        Some(Wish::Drain)
    }

    /// Another process has taken over: what is under way may finish, as after a first signal. The next one is the second.
    pub(super) fn leave(&mut self, drain_max: Duration) {
        let now = Instant::now();
        self.last = Some(now);
        self.deadline = now.checked_add(drain_max);
    }

    /// Has there been any?
    pub(super) fn begun(&self) -> bool {
        self.last.is_some()
    }

    /// When what the first one left must be over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

/// Signals this close together are one.
const ONE_WISH: Duration = Duration::from_millis(100);
