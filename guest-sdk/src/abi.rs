//! Where the SDK meets its surroundings: the host's contract on wasm, `std::net` and threads elsewhere. Both sides offer the
//! same names. All unsafe code is below here.

use std::time::Duration;

#[cfg(target_family = "wasm")]
mod wasm;
#[cfg(target_family = "wasm")]
pub(crate) use wasm::*;

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(not(target_family = "wasm"))]
pub use native::run;
#[cfg(not(target_family = "wasm"))]
pub(crate) use native::*;

/// The contract's `duration`: 584 years at most.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
