//! So many lines a second of the host's log about one tenant: what a guest or a peer does again and again is counted, and
//! logged in part.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{metrics::Metrics, rate::Rate};

/// The gate of one tenant.
#[derive(Debug)]
pub struct LogGate {
    rate: Rate,
    /// Lines left out since the last one.
    left_out: AtomicU64,
}

impl LogGate {
    /// Whether a line may be logged; says before it how many were not.
    pub fn opens(&self, tenant: &str, metrics: &Metrics) -> bool {
        if !self.rate.try_take(1) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            metrics.host_lines_left_out.increment();
            return false;
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            tracing::warn!(tenant, left_out, "lines about this tenant were left out: there were too many");
        }
        true
    }
}

impl Default for LogGate {
    fn default() -> Self {
        Self { rate: Rate::new(LINES_PER_SECOND, LINES_BURST), left_out: AtomicU64::new(0) }
    }
}

/// A line now and then about what happens at any rate, with how often it has.
#[derive(Debug)]
pub struct Seldom {
    began: Instant,
    /// In milliseconds from there; 0 for the first.
    next: AtomicU64,
    /// Since the last line.
    count: AtomicU64,
}

impl Seldom {
    /// It has happened: how often since the last line, if it is time for one.
    pub fn note(&self) -> Option<u64> {
        self.note_at(Instant::now())
    }

    fn note_at(&self, now: Instant) -> Option<u64> {
        self.count.fetch_add(1, Ordering::Relaxed);
        // No process lasts for so long that it would not fit.
        let now = now.duration_since(self.began).as_millis() as u64;
        let next = self.next.load(Ordering::Relaxed);
        let after = now + SELDOM.as_millis() as u64;
        if now < next
            || self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return None;
        }
        Some(self.count.swap(0, Ordering::Relaxed))
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self { began: Instant::now(), next: AtomicU64::new(0), count: AtomicU64::new(0) }
    }
}

/// Between two such lines.
const SELDOM: Duration = Duration::from_secs(10);
const LINES_PER_SECOND: u64 = 50;
/// At once, after a pause.
const LINES_BURST: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_at_once_and_then_seldom_with_the_count() {
        let seldom = Seldom::default();
        let at = |seconds| seldom.began + Duration::from_secs(seconds);
        assert_eq!(seldom.note_at(at(3)), Some(1));
        assert!((0..50).all(|_| seldom.note_at(at(12)).is_none()));
        assert_eq!(seldom.note_at(at(13)), Some(51));
    }
}
