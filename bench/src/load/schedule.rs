//! When the messages of an open loop are meant to be sent.

use std::time::Duration;

/// The sends of one thread: every `threads`th of an even rate, without drift however late they are taken.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    rate: u64,
    threads: u64,
    /// The place in the whole rate of this thread's next send.
    next: u64,
}

impl Schedule {
    pub(super) fn new(rate: u64, thread: usize, threads: usize) -> Self {
        Self { rate, threads: threads as u64, next: thread as u64 }
    }

    /// When the next send is due, since the start.
    pub(super) fn next_due(&self) -> Duration {
        let nanoseconds = u128::from(self.next) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(nanoseconds as u64)
    }

    /// Takes one send that is due `elapsed` after the start, with the time it was meant for.
    pub(super) fn take(&mut self, elapsed: Duration) -> Option<Duration> {
        let due = self.next_due();
        if due > elapsed {
            return None;
        }
        self.next += self.threads;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_are_even_and_do_not_drift() {
        let mut schedule = Schedule::new(3, 0, 1);
        let day = Duration::from_secs(24 * 3600);
        let sends: Vec<_> = std::iter::from_fn(|| schedule.take(day)).collect();
        assert_eq!(sends.len(), 3 * 24 * 3600 + 1);
        assert_eq!(sends[1], Duration::from_nanos(333_333_333));
        assert_eq!(sends[3], Duration::from_secs(1));
        assert_eq!(*sends.last().expect("not empty"), day);
    }

    #[test]
    fn sends_missed_in_a_stall_keep_the_time_they_were_meant_for() {
        let mut schedule = Schedule::new(1000, 0, 1);
        assert_eq!(schedule.take(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(schedule.take(Duration::from_micros(999)), None);
        let late = Duration::from_millis(3);
        let caught_up: Vec<_> = std::iter::from_fn(|| schedule.take(late)).collect();
        assert_eq!(caught_up, [1, 2, 3].map(Duration::from_millis));
    }

    #[test]
    fn threads_share_the_rate_out() {
        let mut all = Vec::new();
        for thread in 0..3 {
            let mut schedule = Schedule::new(100, thread, 3);
            all.extend(std::iter::from_fn(|| schedule.take(Duration::from_secs(1))));
        }
        all.sort();
        assert_eq!(all, (0..=100).map(|send| Duration::from_millis(10 * send)).collect::<Vec<_>>());
    }
}
