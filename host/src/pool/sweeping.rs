//! The task that closes idle connections in time.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use conet_rt::time;

use super::Shared;

/// The task that closes idle connections in time. It keeps no pool alive.
pub(super) struct Sweeping(pub(super) Weak<Shared>);

impl Sweeping {
    /// Closes what is due; gives when to look again, or nothing when no connection is open.
    pub(super) fn once(&mut self) -> Option<Instant> {
        let shared = self.0.upgrade()?;
        let oldest = shared.sweep();
        if shared.line.may_stop_sweeping() {
            // Another may sweep from now on.
            self.0 = Weak::new();
            return None;
        }
        let since = oldest.unwrap_or_else(Instant::now);
        let due = since.checked_add(shared.options.idle_age_max);
        // A guest may ask for an age of nothing.
        Some(due.unwrap_or_else(|| time::after(Duration::MAX)).max(time::after(SWEEP_PAUSE_MIN)))
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.line.stop_sweeping();
        }
    }
}

/// The least time between two looks at what is idle.
const SWEEP_PAUSE_MIN: Duration = Duration::from_millis(100);
