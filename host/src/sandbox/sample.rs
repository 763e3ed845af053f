//! CPU time of coroutines that somebody may want to see, by samples: whoever runs when a millisecond of the clock ends is charged
//! with it. Over a while that comes to what each has used, and a turn that is short costs no look at a clock.

use std::{cell::Cell, time::Duration};

use super::slice::thread_cpu_time;
use crate::{clock, roster::Coroutine};

thread_local! {
    /// The millisecond up to which all is charged.
    static CHARGED: Cell<u64> = const { Cell::new(0) };
    /// This thread's CPU time at the last charge.
    static CPU: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// A turn begins: what was before is not charged to it.
#[inline]
pub(super) fn begin_turn() {
    CHARGED.set(clock::now_ms());
}

/// The coroutine has run until now.
#[inline]
pub(super) fn charge(coroutine: &Coroutine) {
    let now = clock::now_ms();
    if now != CHARGED.get() {
        add(coroutine, now);
    }
}

#[cold]
fn add(coroutine: &Coroutine, now: u64) {
    let passed = Duration::from_millis(now.saturating_sub(CHARGED.replace(now)));
    let cpu = thread_cpu_time();
    // Other processes may have had the processor for some of it.
    coroutine.charge(passed.min(cpu.saturating_sub(CPU.replace(cpu))));
}
