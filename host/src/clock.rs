//! The time to a millisecond, for what is noted with each message: reading it is a load.
//!
//! It is set by the ticker, once a millisecond while any worker runs, and by the worker that wakes a ticker which sleeps. Without a
//! ticker it stands still.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// Milliseconds since it was first set.
#[inline]
pub fn now_ms() -> u64 {
    NOW_MS.load(Relaxed)
}

/// Sets it right.
pub fn set() {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let now = BEGAN.get_or_init(Instant::now).elapsed().as_millis();
    // Of two who set it at once, the later one may come first.
    NOW_MS.fetch_max(u64::try_from(now).unwrap_or(u64::MAX), Relaxed);
}

/// Alone in its cache lines, as it changes a thousand times a second.
#[repr(align(128))]
struct Line(AtomicU64);

impl std::ops::Deref for Line {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        &self.0
    }
}

static NOW_MS: Line = Line(AtomicU64::new(0));
