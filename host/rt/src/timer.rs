//! Timers of one worker: who wants to be woken, in the order of their deadlines.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Names a timer: its deadline, and a number that no other timer of the worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    deadline: Instant,
    number: u64,
}

/// Ordered by deadline; setting, dropping and firing cost O(log n).
#[derive(Default)]
pub(crate) struct Timers {
    timers: BTreeMap<TimerKey, Waker>,
    number: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        self.number += 1;
        let key = TimerKey { deadline, number: self.number };
        self.timers.insert(key, waker);
        key
    }

    /// The timer's waker, to replace it; none once it has fired.
    pub(crate) fn waker(&mut self, key: TimerKey) -> Option<&mut Waker> {
        self.timers.get_mut(&key)
    }

    pub(crate) fn remove(&mut self, key: TimerKey) -> Option<Waker> {
        self.timers.remove(&key)
    }

    /// Moves the wakers of all timers that are due into `woken`, the earliest first.
    pub(crate) fn fire(&mut self, now: Instant, woken: &mut Vec<Waker>) {
        while let Some(first) = self.timers.first_entry() {
            if first.key().deadline > now {
                return;
            }
            woken.push(first.remove());
        }
    }

    /// How long from `now` to the first deadline; none without timers.
    pub(crate) fn timeout(&self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        let (first, _) = self.timers.first_key_value()?;
        Some(first.deadline.saturating_duration_since(now()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.timers.is_empty()
    }
}
