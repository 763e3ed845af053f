//! Starting coroutines, and giving others the turn.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::abi;
use crate::net::TcpStream;

/// A coroutine's number, unique in the host process (but see [`id`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoroutineId(u64);

impl fmt::Display for CoroutineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Starts a coroutine in this instance. It shares memory with its siblings and begins once this one waits for something.
///
/// The closure needs no `Send`: coroutines run one at a time (see [the crate](crate#sharing-an-instance)). What it returns
/// is dropped. A panic in it ends the instance.
///
/// At a limit the error's code is `limit-exceeded` (or `out-of-resources` for this instance's memory), and the closure is
/// dropped with all it holds; the caller goes on. Where coroutines cannot share an instance (a handler that is not
/// `shared`, a [spawned](spawn) coroutine) the code is `unsupported`.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
///
/// let sum = conet::run(|| {
///     let sum = Rc::new(Cell::new(0));
///     for n in 1..=10 {
///         let sum = Rc::clone(&sum);
///         conet::go(move || sum.set(sum.get() + n))?;
///     }
///     while Rc::strong_count(&sum) > 1 {
///         conet::yield_now();
///     }
///     std::io::Result::Ok(sum.get())
/// })?;
/// assert_eq!(sum, 55);
/// # std::io::Result::Ok(())
/// ```
pub fn go<R>(f: impl FnOnce() -> R + 'static) -> io::Result<CoroutineId> {
    let id = abi::go(Box::new(move || drop(f())))?;
    Ok(CoroutineId(id))
}

/// Starts a coroutine in a fresh instance of this component, with its own memory and limits: what happens to it touches
/// nobody else. The connection moves to it.
///
/// Nothing else crosses, so the function captures nothing; statics have their first values there, and [`go`] is
/// `unsupported`. At a limit the error's code is `limit-exceeded`; a connection from a pool is `unsupported`, and one that
/// another coroutine is inside a call on is `busy`. Whatever the error, the connection is closed.
pub fn spawn(f: fn(TcpStream), connection: TcpStream) -> io::Result<CoroutineId> {
    Ok(CoroutineId(abi::spawn(f, connection)?))
}

/// [`spawn`] for any number of connections, with bytes that say what to do with them.
pub fn spawn_with(
    f: fn(Vec<TcpStream>, Vec<u8>),
    connections: Vec<TcpStream>,
    bytes: Vec<u8>,
) -> io::Result<CoroutineId> {
    Ok(CoroutineId(abi::spawn_with(f, connections, bytes)?))
}

/// Waits. `std::thread::sleep` would freeze the siblings too.
pub fn sleep(duration: Duration) {
    abi::sleep(duration);
}

/// Lets other coroutines run first.
pub fn yield_now() {
    abi::yield_now();
}

/// The calling coroutine's id.
///
/// Connections of a handler that share an instance have none of their own: each gets the instance's id. Those that
/// [`go`] starts have, there too.
pub fn id() -> CoroutineId {
    CoroutineId(abi::id())
}
