//! The count of an accepted connection, and of its end by how it ended. It goes along with the connection, from its accept on.

use std::sync::Arc;

use crate::{ending::Ending, metrics::Metrics};

/// It. Dropping it counts the end: as of a connection that no coroutine ever got, if nothing else is said before.
pub struct Tally {
    metrics: Arc<Metrics>,
    ending: Ending,
}

impl Tally {
    /// Counts a connection that the tenant with these counters has accepted.
    pub(super) fn begin(metrics: &Arc<Metrics>) -> Self {
        metrics.accepted.increment();
        Self { metrics: metrics.clone(), ending: Ending::Unserved }
    }

    /// The connection ends so.
    pub(super) fn end(&mut self, ending: Ending) {
        self.ending = ending;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.metrics.add_closed(self.ending);
    }
}
