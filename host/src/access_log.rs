//! The access log: a line for each connection when it ends. Lines are lost rather than waited for, and counted.

mod line;
mod target;

use std::sync::Arc;

pub use line::{Direction, Line};
pub use target::Target;

use crate::{metrics::Metrics, rate::Rate};

/// A tenant's part in it.
pub struct AccessLog {
    target: Arc<Target>,
    rate: Arc<Rate>,
    metrics: Arc<Metrics>,
}

impl AccessLog {
    /// Of a tenant with these counters, at the [`lines_rate`] that it has.
    pub fn new(target: Arc<Target>, rate: Arc<Rate>, metrics: Arc<Metrics>) -> Self {
        Self { target, rate, metrics }
    }

    /// Takes a line, without waiting.
    pub fn write(&self, line: &Line<'_>) {
        if !(self.rate.try_take(1) && self.target.offer(line)) {
            self.metrics.access_lines_lost.increment();
        }
    }
}

/// Of one tenant: as many as it may have in a second.
pub fn lines_rate() -> Arc<Rate> {
    Arc::new(Rate::new(LINES_PER_SECOND, LINES_PER_SECOND))
}

/// No flood of connections to one takes the disk, or the queue, from the others.
const LINES_PER_SECOND: u64 = 10_000;
