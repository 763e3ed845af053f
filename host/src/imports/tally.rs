//! The count of an accepted connection's end, by how it ended. It goes along with the connection, from its accept on.

use std::sync::Arc;

use crate::{ending::Ending, metrics::Metrics};

/// It. Dropping it counts: as a connection that no coroutine ever got, if nothing else is said before.
pub struct Tally {
    metrics: Arc<Metrics>,
    /// None if there is nothing to be counted.
    ending: Option<Ending>,
}

impl Tally {
    /// For a connection of the tenant with these counters.
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: metrics.clone(), ending: Some(Ending::Unserved) }
    }

    /// The connection is turned away, which others count.
    pub(super) fn refuse(&mut self) {
        self.ending = None;
    }

    /// It ends so.
    pub(super) fn end(&mut self, ending: Ending) {
        self.ending = Some(ending);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        if let Some(ending) = self.ending {
            self.metrics.add_closed(ending);
        }
    }
}
