//! Coroutine ids, unique in the process.

use std::sync::atomic::{AtomicU64, Ordering};

/// The next id. Ids start at 1 and are never used again.
pub fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
