//! When a program that has ended is started again: at once, unless it keeps ending.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::config::limits::Limits;

/// The restarts of one copy of a program.
#[derive(Debug)]
pub struct Supervisor {
    /// So many restarts at once …
    restarts_max: usize,
    /// … within this time; beyond that, they wait.
    window: Duration,
    /// Restarts within the window, oldest first.
    restarts: VecDeque<Instant>,
    /// Before the next restart, once there were too many.
    backoff: Option<Duration>,
}

impl Supervisor {
    /// With what the tenant's limits say.
    pub fn new(limits: &Limits) -> Self {
        let (restarts, backoff) = Default::default();
        Self { restarts_max: limits.restarts_max, window: limits.restart_window, restarts, backoff }
    }

    /// How long to wait before the restart of what has ended now.
    pub fn ended(&mut self, now: Instant) -> Duration {
        while self.restarts.front().is_some_and(|first| now.duration_since(*first) > self.window) {
            self.restarts.pop_front();
        }
        if self.restarts.is_empty() {
            self.backoff = None;
        }
        let wait = match self.backoff {
            None if self.restarts.len() < self.restarts_max => Duration::ZERO,
            None => BACKOFF_MIN,
            Some(before) => (before * 2).min(BACKOFF_MAX),
        };
        if !wait.is_zero() {
            self.backoff = Some(wait);
        }
        self.restarts.push_back(now + wait);
        wait
    }
}

const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn five_at_once_and_then_ever_later() {
        let mut supervisor = Supervisor::new(&Limits::serve());
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..14 {
            let wait = supervisor.ended(now);
            waits.push(wait.as_secs());
            // It ends as soon as it runs.
            now += wait;
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn one_that_ran_for_long_begins_afresh() {
        let mut supervisor = Supervisor::new(&Limits::serve());
        let mut now = Instant::now();
        for _ in 0..8 {
            now += supervisor.ended(now);
        }
        assert_eq!(supervisor.ended(now + seconds(31)), Duration::ZERO);
    }

    #[test]
    fn one_restart_in_ten_seconds_is_always_at_once() {
        let mut supervisor = Supervisor::new(&Limits::serve());
        let now = Instant::now();
        assert!((0..100).all(|nth| supervisor.ended(now + seconds(nth * 10)).is_zero()));
    }
}
