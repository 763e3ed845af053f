//! Counters of one tenant. They go down as handles and come up as snapshots.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a tenant's coroutines have done since it started.
        #[derive(Debug, Default)]
        pub struct Metrics { $($(#[$doc])* pub $name: Counter,)* }

        impl Metrics {
            /// The counters by name, in the order of this file.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value()),)*]
            }
        }
    };
}

counters! {
    /// Connections accepted.
    accepted,
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
    /// Of them, by a panic of the host itself.
    host_panics,
    /// Handlers that returned an error.
    handler_errors,
    /// Requests beyond a grant.
    denied,
    /// Coroutines refused by a limit.
    coroutines_refused,
    /// Times memory or a table was not allowed to grow.
    memory_refused,
    /// Slices that ended with a yield to other coroutines of the worker.
    yields,
    /// Slices begun afresh because the coroutine had been suspended.
    fresh_slices,
    /// Bytes received by guests.
    bytes_in,
    /// Bytes sent by guests.
    bytes_out,
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
