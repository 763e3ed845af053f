//! What a guest can call: conet:net and conet:fibers over conet-rt, and WASI, one interface per file.
//!
//! An import sees a [`View`] of the store, never the store. Each blocking call has a first half that takes what it
//! needs out of the view, a future that owns it, and a second half that puts the result back: the plain function
//! and its async twin are thin skins over the same three.

pub mod accept;
pub mod admission;
pub mod backtrace;
pub mod clocks;
pub mod commons;
pub mod connection;
pub mod context;
pub mod coroutine;
pub mod crew;
pub mod egress;
pub mod error;
pub mod fault;
pub mod given;
pub mod inbox;
pub mod incoming;
pub mod io;
pub mod lines;
pub mod listeners;
pub mod listening;
pub mod orphan;
pub mod pool;
mod proxy;
pub mod resolve;
pub mod stdio;
mod tally;
pub mod tcp;
pub mod throttle;
pub mod view;
pub mod visit;
mod waiting;
pub mod wasi;
pub mod watch;

use wasmtime::component::{HasSelf, Linker};

pub use context::Context;
pub use view::{HasView, View};

/// Links every interface a guest may import. `fibers` adds conet:fibers, which needs an Engine with concurrency on.
pub fn add_to_linker<T: HasView>(linker: &mut Linker<T>, fibers: bool) -> wasmtime::Result<()> {
    use crate::bindings::{fibers as twins, net};

    net::types::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
    tcp::add_to_linker(linker)?;
    net::pool::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
    net::coroutine::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
    if fibers {
        twins::tcp::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
        twins::inbox::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
        twins::threads::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
        twins::pool::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
        twins::coroutine::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
    }
    wasi::add_to_linker(linker)
}
