//! The task that closes idle connections in time.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use conet_rt::time;

use super::Shared;

/// The task that closes idle connections in time. It keeps no pool alive.
pub(super) struct Sweeping(Weak<Shared>);

impl Sweeping {
    /// Has this worker close idle connections in time, until none is open. One task at a time does it for all workers;
    /// should it end with its worker, the next connection opened starts another.
    pub(super) fn start(shared: &Arc<Shared>) {
        if !shared.line.start_sweeping() {
            return;
        }
        let mut sweeping = Sweeping(Arc::downgrade(shared));
        conet_rt::spawn(async move {
            while let Some(next) = sweeping.once() {
                time::sleep_until(next).await;
            }
        })
        .detach();
    }

    /// Closes what is due; gives when to look again, or nothing when no connection is open.
    fn once(&mut self) -> Option<Instant> {
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
