//! Counters of one tenant, and how long its calls take. They go down as handles and come up as snapshots.

use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{ending::Ending, sharded::Sharded};

mod calls;

pub use calls::{CallHistogram, CallTimes, Import, Timing};

use calls::Histogram;

/// What a tenant's coroutines have done since it started. As [`Counters`] it is the calling thread's share: each thread
/// counts for itself, since some counters change with every message.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Sharded<Counters>,
    /// By [`Import`]; made when a thread measures its first call.
    calls: Sharded<OnceLock<Box<[Histogram]>>>,
    /// Accepted connections that have ended, by [`Ending::ALL`].
    closed: Sharded<[Counter; Ending::ALL.len()]>,
}

impl Metrics {
    /// The counters by name, summed over all threads, in the order of this file.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        Counters::sum(self.counters.iter())
    }

    /// Begins to measure a call, if it is one of those that are measured.
    pub fn timing(self: &Arc<Self>, import: Import) -> Timing {
        Timing::start(import, self)
    }

    /// What those took that were measured, by kind.
    pub fn call_times(&self) -> Vec<CallTimes> {
        self.by_import(CallTimes::of)
    }

    /// How many of those took how long, by kind.
    pub fn call_histograms(&self) -> Vec<CallHistogram> {
        self.by_import(CallHistogram::of)
    }

    /// What is made of the histograms of all threads, for each kind.
    fn by_import<T>(&self, of: impl Fn(Import, &[&Histogram]) -> Option<T>) -> Vec<T> {
        let of = |import: &Import| {
            let all = self.calls.iter().filter_map(OnceLock::get).map(|calls| &calls[*import as usize]);
            of(*import, &all.collect::<Vec<_>>())
        };
        Import::ALL.iter().filter_map(of).collect()
    }

    /// An accepted connection has ended.
    pub fn add_closed(&self, ending: Ending) {
        // All are there, as tests of those who make them say.
        if let Some(nth) = Ending::ALL.iter().position(|one| *one == ending) {
            self.closed.mine()[nth].increment();
        }
    }

    /// How many have ended so.
    pub fn closed(&self) -> impl Iterator<Item = (Ending, u64)> {
        let count = |nth: usize| self.closed.iter().map(|counts| counts[nth].value()).sum();
        Ending::ALL.iter().enumerate().map(move |(nth, ending)| (*ending, count(nth)))
    }

    /// Notes what one has taken.
    pub fn add_call(&self, import: Import, time: Duration) {
        let new = || Import::ALL.iter().map(|_| Histogram::default()).collect();
        self.calls.mine().get_or_init(new)[import as usize].add(time);
    }
}

impl Deref for Metrics {
    type Target = Counters;

    fn deref(&self) -> &Counters {
        self.counters.mine()
    }
}

macro_rules! counters {
    ($(#[doc = $about:literal])+ $counters:ident: $($(#[doc = $doc:literal])+ $name:ident,)*) => {
        $(#[doc = $about])+
        #[derive(Debug, Default)]
        pub struct $counters { $($(#[doc = $doc])+ pub $name: Counter,)* }

        impl $counters {
            /// Their names, each with what it counts.
            pub const ABOUT: &[(&str, &str)] = &[$((stringify!($name), concat!($($doc),+)),)*];

            fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Vec<(&'static str, u64)> {
                let mut sums = vec![$((stringify!($name), 0),)*];
                for counters in all {
                    let values = [$(counters.$name.value(),)*];
                    sums.iter_mut().zip(values).for_each(|((_, sum), value)| *sum += value);
                }
                sums
            }
        }
    };
}

counters! {
    /// What the host has done for all tenants together.
    HostCounters:
    /// Times the file was read again, and taken up.
    reloads,
    /// Times it was read again, and refused.
    reloads_refused,
    /// Components refused then, each as often as tenants have it.
    components_refused,
    /// Times another version was to take over, and did not.
    upgrades_refused,
    /// Components compiled.
    components_compiled,
    /// Entries of the compilation cache that were damaged, and removed.
    cache_entries_damaged,
}

impl HostCounters {
    /// The counters by name, in the order of this file.
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        Self::sum(std::iter::once(self))
    }
}

counters! {
    /// What was counted on one thread.
    Counters:
    /// Connections accepted.
    accepted,
    /// Connections reset because their address had as many as it may.
    refused_per_ip,
    /// Connections reset because their peer is none of the proxies.
    proxy_peers_refused,
    /// Connections reset because they began with no right header of the PROXY protocol.
    proxy_headers_refused,
    /// Connections reset because their header did not come in time.
    proxy_header_timeouts,
    /// Connections reset because there were as many as there may be.
    connections_refused,
    /// Connections reset because as many were accepted in a second as may be.
    accepts_refused,
    /// Connections reset because the ones before them trapped.
    circuit_refused,
    /// Times accepting paused because as many were accepted in a second as may be.
    accepts_throttled,
    /// Peers reset because their first byte did not come in time.
    first_byte_timeouts,
    /// Peers reset because they sent nothing for too long.
    idle_timeouts,
    /// Peers reset because they sent too slowly.
    rate_timeouts,
    /// Peers reset because they took nothing of what was sent for too long.
    write_timeouts,
    /// Times accepting paused because the host was out of descriptors or memory.
    accept_pauses,
    /// Connections opened by guests.
    connected,
    /// Coroutines started, of all kinds.
    coroutines,
    /// Instances made.
    instances,
    /// Instances and coroutines ended by a trap.
    traps,
    /// Of them, by the CPU budget.
    kills_cpu,
    /// Of them, because making the instance took too long.
    kills_start,
    /// Of them, by a panic of the host itself.
    host_panics,
    /// Coroutines ended because all their peers were gone for too long.
    orphans_ended,
    /// Times the program was started again.
    restarts,
    /// Handlers that returned an error.
    handler_errors,
    /// Requests beyond a grant.
    denied,
    /// Coroutines refused by a limit.
    coroutines_refused,
    /// Handles refused because an instance had as many as it may.
    handles_refused,
    /// Listeners refused by their limit.
    listeners_refused,
    /// Accepts that had to wait because there were as many connections as there may be.
    connections_waited,
    /// Connects refused because the wait for a place was too long.
    outbound_refused,
    /// Connects that took longer than the host allows.
    connects_timed_out,
    /// Lookups of names refused because there were too many in a second.
    lookups_refused,
    /// Pools refused by their limit.
    pools_refused,
    /// Coroutines cut off because they had not finished within the drain.
    cut_off,
    /// Times memory or a table was not allowed to grow.
    memory_refused,
    /// Connections that had to wait for the memory that their instance begins with.
    memory_waited,
    /// Of them, those that were reset because it took too long.
    memory_timeouts,
    /// Slices that ended with a yield to other coroutines of the worker.
    yields,
    /// Of them, early, because there was something for others of the worker.
    interrupts,
    /// Slices begun afresh because the coroutine had been suspended.
    fresh_slices,
    /// Bytes received by guests.
    bytes_in,
    /// Bytes sent by guests.
    bytes_out,
    /// Of the bytes received, those that had to wait for a limit on bandwidth.
    bytes_in_held,
    /// Of the bytes sent, those that had to.
    bytes_out_held,
    /// Lines that guests printed and that were not logged, as they were more than the rate allows.
    log_lines_lost,
    /// Lines of the host's about traps and denials that were not logged, as there were too many.
    host_lines_left_out,
    /// Connections of which the access log does not tell, as there were more than it takes.
    access_lines_lost,
    /// Bytes of guest output lost because the host's own output was closed.
    output_lost,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
