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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::task::Wake;

    use super::*;

    /// Notes its number when woken.
    struct Note(u64, Arc<Mutex<Vec<u64>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn they_fire_in_order_and_once() {
        let (mut timers, start, woken) = (Timers::default(), Instant::now(), Arc::default());
        let after = |n| start + Duration::from_secs(n);
        for n in [5, 1, 4, 1, 3] {
            timers.set(after(n), Waker::from(Arc::new(Note(n, Arc::clone(&woken)))));
        }
        let mut fire = |now| {
            let mut due = Vec::new();
            timers.fire(now, &mut due);
            due.into_iter().for_each(Waker::wake);
            std::mem::take(&mut *woken.lock().unwrap())
        };
        assert_eq!(fire(start), []);
        assert_eq!(fire(after(3)), [1, 1, 3]);
        assert_eq!(fire(after(3)), []);
        assert_eq!(fire(after(100)), [4, 5]);
        assert!(timers.is_empty());
    }

    #[test]
    fn a_removed_timer_does_not_fire() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        let keys = [1, 2, 2].map(|n| timers.set(start + Duration::from_secs(n), Waker::noop().clone()));
        assert!(timers.remove(keys[1]).is_some());
        assert!(timers.remove(keys[1]).is_none());
        let mut due = Vec::new();
        timers.fire(start + Duration::from_secs(9), &mut due);
        assert_eq!(due.len(), 2);
        assert!(timers.waker(keys[2]).is_none());
    }

    #[test]
    fn the_timeout_is_that_of_the_first() {
        let (mut timers, start) = (Timers::default(), Instant::now());
        assert_eq!(timers.timeout(|| start), None);
        timers.set(start + Duration::from_secs(2), Waker::noop().clone());
        timers.set(start + Duration::from_secs(1), Waker::noop().clone());
        assert_eq!(timers.timeout(|| start), Some(Duration::from_secs(1)));
        assert_eq!(timers.timeout(|| start + Duration::from_secs(9)), Some(Duration::ZERO));
    }
}
