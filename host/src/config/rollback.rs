//! When a new version of a tenant gives way to the one before it.

use std::time::Duration;

/// It does when it fails by one of these.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rollback {
    /// Of a handler's connections, the greatest share that may trap: 0 to 1 …
    pub traps_max: f64,
    /// … once there have been so many.
    pub connections_min: u64,
    /// So many restarts of a program are too many.
    pub restarts_min: u64,
    /// From its start on; then it is trusted.
    pub within: Duration,
}

impl Default for Rollback {
    fn default() -> Self {
        Self { traps_max: 0.1, connections_min: 20, restarts_min: 3, within: Duration::from_secs(30) }
    }
}
