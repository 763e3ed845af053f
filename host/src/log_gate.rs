//! So many lines a second of the host's log about one tenant: what a guest or a peer does again and again is counted, and
//! logged in part.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rate::Rate;

/// The gate of one tenant.
#[derive(Debug)]
pub struct LogGate {
    rate: Rate,
    /// Lines left out since the last one.
    left_out: AtomicU64,
}

impl LogGate {
    /// Whether a line may be logged; says before it how many were not.
    pub fn opens(&self, tenant: &str) -> bool {
        if !self.rate.try_take(1) {
            self.left_out.fetch_add(1, Ordering::Relaxed);
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

const LINES_PER_SECOND: u64 = 50;
/// At once, after a pause.
const LINES_BURST: u64 = 500;
