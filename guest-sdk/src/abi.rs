//! Where the SDK meets its surroundings: the host's contract on wasm, `std::net` and threads elsewhere. Both sides offer the
//! same names. All unsafe code is below here.

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
