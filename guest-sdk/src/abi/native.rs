//! The same program without a host, for tests: coroutines are threads that pass one turn around, on `std::net`.

mod coroutine;
pub(crate) mod entry;
mod name;
mod pool;
mod socket;
mod turn;

pub use coroutine::run;
pub(crate) use coroutine::{go, id, sleep, spawn, spawn_with, yield_now};
pub(crate) use pool::Pool;
pub(crate) use socket::{Connection, Listener};

pub(crate) fn exit(code: u8) -> ! {
    std::process::exit(code.into())
}
