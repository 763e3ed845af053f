//! Network programs written as plain blocking code, run by conet as sandboxes.
//!
//! A coroutine for each connection, no `async`: a call that waits suspends the coroutine only, and the host runs another.
//!
//! ```no_run
//! use conet::net::{TcpListener, TcpStream};
//! use std::io::{self, Read, Write};
//!
//! #[conet::main]
//! fn main() -> io::Result<()> {
//!     let listener = TcpListener::bind("127.0.0.1:7000")?;
//!     for conn in listener.incoming() {
//!         let conn = conn?;
//!         let _ = conet::go(move || echo(conn));
//!     }
//!     Ok(())
//! }
//!
//! fn echo(mut conn: TcpStream) -> io::Result<()> {
//!     let mut buf = [0; 4096];
//!     loop {
//!         match conn.read(&mut buf)? {
//!             0 => return Ok(()),
//!             n => conn.write_all(&buf[..n])?,
//!         }
//!     }
//! }
//! ```
//!
//! # Sharing an instance
//!
//! Coroutines started with [`go`] share memory and run one at a time; the turn passes only inside a call of this crate that
//! waits. So `Rc`, `Cell` and `RefCell` are enough to share state, and four habits from threads need care:
//!
//! * A `RefCell` borrow or a `std::sync::Mutex` guard must not live across a call that waits: a sibling that wants it
//!   panics, and a panic ends the instance with all its coroutines.
//! * A `thread_local!` is shared by all coroutines of the instance.
//! * `std::thread::sleep`, and reading a file or stdin, freeze all of them: call [`sleep`] instead.
//! * A loop that computes for long keeps the turn: call [`yield_now`] in it.
//!
//! # Native builds
//!
//! The same code compiles for the native target on `std::net`, where coroutines are threads that pass one turn around.
//! It is meant for tests: there `conet::run` runs a closure as the main coroutine, and gives its result.

#![warn(missing_docs)]

mod abi;
mod coroutine;
mod error;
pub mod net;
mod outcome;
pub mod pool;

pub use conet_macros::{handler, main};
pub use coroutine::{CoroutineId, go, id, sleep, spawn, spawn_with, yield_now};
pub use error::ErrorCode;

/// Ends this instance with all its coroutines.
///
/// If it is the program's, the program ends, and the host with this exit code. A handler's instance, or that of a
/// [spawned](spawn) coroutine, ends alone, and the code is lost. Natively the process ends.
///
/// `std::process::exit` does the same, but on wasm32-wasip2 its code arrives as 0 or 1.
pub fn exit(code: u8) -> ! {
    abi::exit(code)
}

#[cfg(not(target_family = "wasm"))]
pub use abi::run;

#[doc(hidden)]
pub mod __rt {
    //! What the macros expand to; not for use by hand.

    pub use crate::abi::entry::*;
    pub use crate::outcome::Outcome;
}
