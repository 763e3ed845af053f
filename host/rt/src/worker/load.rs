//! How a worker keeps up with its sockets, for others to read.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// What one worker alone writes, in cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Load {
    stalls: [AtomicU64; BOUNDS.len() + 1],
    stalled_ns: AtomicU64,
    in_flight: AtomicUsize,
}

/// How often a worker ran tasks for more than 2 ms without a look at its sockets, and for how long: then what came meanwhile
/// had to wait. With tasks that make room for others in time, hardly ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stalls {
    /// Ever longer times, each with how many took at most that.
    pub at_most: Vec<(Duration, u64)>,
    /// All of them.
    pub count: u64,
    /// What they took together.
    pub sum: Duration,
}

impl Load {
    #[cold]
    pub(super) fn add_stall(&self, time: Duration) {
        let bucket = BOUNDS.iter().position(|bound| time <= *bound).unwrap_or(BOUNDS.len());
        add(&self.stalls[bucket], 1);
        add(&self.stalled_ns, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn set_in_flight(&self, operations: usize) {
        self.in_flight.store(operations, Relaxed);
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn stalls(&self) -> Stalls {
        let mut count = 0;
        let mut up_to = |bucket: &AtomicU64| {
            count += bucket.load(Relaxed);
            count
        };
        let at_most =
            BOUNDS.iter().zip(&self.stalls).map(|(bound, bucket)| (*bound, up_to(bucket))).collect();
        up_to(&self.stalls[BOUNDS.len()]);
        Stalls { at_most, count, sum: Duration::from_nanos(self.stalled_ns.load(Relaxed)) }
    }
}

/// Nobody else writes.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Relaxed).wrapping_add(more), Relaxed);
}

/// Up to where stalls are told apart.
const BOUNDS: [Duration; 8] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_counts_all_that_are_shorter() {
        let load = Load::default();
        for ms in [3, 5, 6, 80, 7000] {
            load.add_stall(Duration::from_millis(ms));
        }
        let Stalls { at_most, count, sum } = load.stalls();
        let counts: Vec<u64> = at_most.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 3, 3, 3, 4, 4, 4, 4]);
        assert_eq!((count, sum), (5, Duration::from_millis(7094)));
    }
}
