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
    rate: Rate,
    metrics: Arc<Metrics>,
}

impl AccessLog {
    /// Of a tenant with these counters.
    pub fn new(target: Arc<Target>, metrics: Arc<Metrics>) -> Self {
        Self { target, rate: Rate::new(LINES_PER_SECOND, LINES_PER_SECOND), metrics }
    }

    /// Takes a line, without waiting.
    pub fn write(&self, line: &Line<'_>) {
        if !(self.rate.try_take(1) && self.target.offer(line)) {
            self.metrics.access_lines_lost.increment();
        }
    }
}

/// Of one tenant: no flood of connections to one takes the disk, or the queue, from the others.
const LINES_PER_SECOND: u64 = 10_000;
