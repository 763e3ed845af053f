//! How long guests' calls take the host itself, from one call in 64: waiting is not counted.
//!
//! What a worker does for many sockets at once, between its tasks' turns, belongs to no call: the system calls of small
//! messages are there, and not here.

use std::{
    array,
    cell::Cell,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use conet_rt::Stalls;

use super::Metrics;

macro_rules! imports {
    ($($import:ident $name:literal,)*) => {
        /// A call that is measured, or something else that takes a guest's time.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Import { $(#[doc = concat!("`", $name, "`.")] $import,)* }

        impl Import {
            pub(super) const ALL: &[Self] = &[$(Self::$import,)*];

            fn name(self) -> &'static str {
                match self { $(Self::$import => $name,)* }
            }
        }
    };
}

imports! {
    Accept "accept",
    Connect "connect",
    Recv "recv",
    Send "send",
    TrySend "try-send",
    PoolGet "pool-get",
    Go "go",
    Spawn "spawn",
    AcceptToGuest "accept-to-guest",
    Slice "slice",
    KillLatency "kill-latency",
}

/// The stopwatch of one call: none, for most. It starts at once, stands while the call waits, and what it shows counts when
/// it drops running: a call that is dropped while it waits has not come to its end.
#[must_use]
#[derive(Debug)]
pub struct Timing(Option<Box<Sample>>);

/// What the few have. It drops, and not what is in every call, so that the many pay for no more than a look.
#[derive(Debug)]
struct Sample {
    import: Import,
    metrics: Arc<Metrics>,
    spent: Duration,
    /// None while it stands.
    since: Option<Instant>,
}

impl Timing {
    /// Begins a call of this kind.
    #[inline]
    pub(super) fn start(import: Import, metrics: &Arc<Metrics>) -> Self {
        if is_due(import) { Self::sample(import, metrics) } else { Self(None) }
    }

    #[cold]
    fn sample(import: Import, metrics: &Arc<Metrics>) -> Self {
        let (metrics, since) = (metrics.clone(), Some(Instant::now()));
        Self(Some(Box::new(Sample { import, metrics, spent: Duration::ZERO, since })))
    }

    /// The call has to wait.
    #[inline]
    pub fn pause(&mut self) {
        if let Some(sample) = &mut self.0 {
            sample.pause();
        }
    }

    /// It may go on.
    #[inline]
    pub fn resume(&mut self) {
        if let Some(sample) = &mut self.0 {
            sample.resume();
        }
    }
}

impl Sample {
    #[cold]
    fn pause(&mut self) {
        self.spent += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
    }

    #[cold]
    fn resume(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            self.metrics.add_call(self.import, self.spent + since.elapsed());
        }
    }
}

/// Is this call the one in so many? Each kind is counted by itself, as they come in patterns.
#[inline]
fn is_due(import: Import) -> bool {
    thread_local! {
        static CALLS: [Cell<u32>; Import::ALL.len()] = const { [const { Cell::new(0) }; Import::ALL.len()] };
    }
    CALLS.with(|calls| {
        let count = &calls[import as usize];
        count.set(count.get().wrapping_add(1));
        count.get() % SAMPLED_ONE_IN == 1
    })
}

/// Times of one kind of call.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    max_ns: AtomicU64,
    sum_ns: AtomicU64,
}

impl Histogram {
    pub(super) fn add(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)].fetch_add(1, Relaxed);
        self.max_ns.fetch_max(ns, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = array::from_fn(|_| AtomicU64::new(0));
        Self { buckets, max_ns: AtomicU64::new(0), sum_ns: AtomicU64::new(0) }
    }
}

/// How many of each bucket, on all threads.
fn counts(all: &[&Histogram]) -> Vec<u64> {
    let count = |bucket: usize| all.iter().map(|one| one.buckets[bucket].load(Relaxed)).sum();
    (0..BUCKETS).map(count).collect()
}

/// What the calls of one kind took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallTimes {
    import: Import,
    sampled: u64,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
}

impl CallTimes {
    /// From the histograms of all threads; none if no call was measured.
    pub(super) fn of(import: Import, all: &[&Histogram]) -> Option<Self> {
        let counts = counts(all);
        let sampled: u64 = counts.iter().sum();
        let max_ns = all.iter().map(|one| one.max_ns.load(Relaxed)).max()?;
        // The greatest that the bucket of this one could hold.
        let quantile = |percent: u64| {
            let mut below = (sampled * percent).div_ceil(100);
            let found = counts.iter().position(|&count| {
                let reached = count >= below;
                below = below.saturating_sub(count);
                reached
            });
            found.map_or(max_ns, |bucket| upper_bound(bucket).min(max_ns))
        };
        (sampled > 0).then(|| Self { import, sampled, p50_ns: quantile(50), p99_ns: quantile(99), max_ns })
    }
}

impl fmt::Display for CallTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { import, sampled, p50_ns, p99_ns, max_ns } = self;
        let name = import.name();
        write!(f, "{name}: sampled={sampled} p50_ns={p50_ns} p99_ns={p99_ns} max_ns={max_ns}")
    }
}

/// How many of the calls of one kind took how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallHistogram {
    /// The kind.
    pub name: &'static str,
    /// Ever longer times, each with how many took at most that.
    pub at_most: Vec<(Duration, u64)>,
    /// All that were measured.
    pub sampled: u64,
    /// What they took together.
    pub sum: Duration,
}

impl CallHistogram {
    /// From the histograms of all threads; none if no call was measured.
    pub(super) fn of(import: Import, all: &[&Histogram]) -> Option<Self> {
        let counts = counts(all);
        let sampled = counts.iter().sum();
        let up_to =
            |ns| (0..BUCKETS).take_while(|bucket| upper_bound(*bucket) <= ns).map(|at| counts[at]).sum();
        // The last one of a bucket, as the next begins with a power of two.
        let bounds = TOLD_POWERS.map(|power| (1 << power) - 1);
        let at_most = bounds.map(|ns| (Duration::from_nanos(ns), up_to(ns))).to_vec();
        let sum = Duration::from_nanos(all.iter().map(|one| one.sum_ns.load(Relaxed)).sum());
        (sampled > 0).then(|| Self { name: import.name(), at_most, sampled, sum })
    }
}

impl From<Stalls> for CallHistogram {
    fn from(Stalls { at_most, count, sum }: Stalls) -> Self {
        Self { name: "stall", at_most, sampled: count, sum }
    }
}

/// Eight to each power of two, so that none is wider than an eighth of what it holds. The last is for all beyond.
fn bucket(ns: u64) -> usize {
    if ns < LINEAR {
        return ns as usize;
    }
    let power = ns.ilog2();
    let eighth = (ns >> (power - LINEAR.ilog2())) % LINEAR;
    let bucket = u64::from(power - LINEAR.ilog2() + 1) * LINEAR + eighth;
    (bucket as usize).min(BUCKETS - 1)
}

/// The greatest time that belongs into a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    match (next / LINEAR).checked_sub(1) {
        Some(shift @ 1..) => ((LINEAR + next % LINEAR) << shift) - 1,
        _ => next - 1,
    }
}

/// Of so many calls one is measured: two looks at the clock cost as much as a small call.
const SAMPLED_ONE_IN: u32 = 64;

/// Nanoseconds below which each has a bucket.
const LINEAR: u64 = 8;

/// Up to a minute.
const BUCKETS: usize = 272;

/// Powers of two, in nanoseconds, that a [`CallHistogram`] has: from a quarter of a microsecond to 67 ms, every other one, as each
/// is a line of a scrape.
const TOLD_POWERS: [u32; 10] = [8, 10, 12, 14, 16, 18, 20, 22, 24, 26];

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_bucket_is_an_eighth_wide_and_they_follow_each_other() {
        for ns in (0..10_000).chain((0..36).map(|power| (1 << power) + 12_345)) {
            let (bucket, most) = (bucket(ns), upper_bound(bucket(ns)));
            assert!(ns <= most && most - ns <= ns / 8, "{ns}: {bucket} up to {most}");
            assert_eq!(super::bucket(most), bucket, "{ns}");
            assert_eq!(super::bucket(most + 1), bucket + 1, "{ns}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_over_all_threads() {
        let (one, other) = (Histogram::default(), Histogram::default());
        (0..98).for_each(|_| one.add(Duration::from_nanos(1000)));
        other.add(Duration::from_nanos(5000));
        other.add(Duration::from_nanos(70_000));
        let times = CallTimes::of(Import::Recv, &[&one, &other]).expect("a hundred");
        assert_eq!((times.sampled, times.max_ns), (100, 70_000));
        assert!((1000..1125).contains(&times.p50_ns), "{times}");
        assert!((5000..5625).contains(&times.p99_ns), "{times}");
        assert_eq!(CallTimes::of(Import::Recv, &[&Histogram::default()]), None);
    }

    #[test]
    fn a_histogram_counts_all_up_to_each_bound() {
        let (one, other) = (Histogram::default(), Histogram::default());
        for ns in [255, 256, 1023, 1024, 70_000_000_000] {
            one.add(Duration::from_nanos(ns));
            other.add(Duration::from_nanos(ns));
        }
        let told = CallHistogram::of(Import::Recv, &[&one, &other]).expect("ten");
        let at_most =
            |ns| told.at_most.iter().find(|(bound, _)| *bound == Duration::from_nanos(ns)).map(|at| at.1);
        assert_eq!((at_most(255), at_most(1023), at_most(4095)), (Some(2), Some(6), Some(8)));
        assert_eq!((told.sampled, told.sum), (10, Duration::from_nanos(2 * 70_000_002_558)));
        assert_eq!(CallHistogram::of(Import::Recv, &[&Histogram::default()]), None);
    }

    /// The first call of each kind is measured, then one in 64; what waits for ever is not.
    #[test]
    fn a_call_counts_when_it_ends() {
        let metrics = Arc::new(Metrics::default());
        let calls = || {
            for _ in 0..SAMPLED_ONE_IN + 1 {
                let mut timing = metrics.timing(Import::Connect);
                timing.pause();
                timing.resume();
            }
            metrics.timing(Import::Accept).pause();
        };
        // A new thread has counted none yet.
        thread::scope(|scope| scope.spawn(calls).join()).expect("it only measures");
        let times = metrics.call_times();
        assert_eq!(times.len(), 1, "{times:?}");
        assert_eq!((times[0].import, times[0].sampled), (Import::Connect, 2));
    }
}
