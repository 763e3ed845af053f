//! The contract's guest side.

mod bindings;
mod calls;
mod convert;
mod coroutine;
pub(crate) mod entry;
mod exit;
mod fiber;
mod inbox;
mod pool;
mod realloc;
mod returned;
mod socket;
mod stack;

pub(crate) use coroutine::{go, id, sleep, spawn, spawn_with, yield_now};
pub(crate) use exit::exit;
pub(crate) use pool::Pool;
pub(crate) use socket::{Connection, Listener};
