//! Coroutines: in this instance by `conet:fibers`, in others by `conet:net`.

use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use std::time::Duration;

use super::bindings::coroutine;
use super::calls::calls;
use super::fiber::Fiber;
use super::returned::Returned;
use super::socket::Connection;
use crate::ErrorCode;
use crate::abi::nanoseconds;
use crate::net::TcpStream;

pub(crate) fn go(body: Box<dyn FnOnce()>) -> Result<u64, ErrorCode> {
    // The stack is taken now, so that running out of memory is this call's error and not the new coroutine's end.
    let fiber = Box::into_raw(Fiber::new(Box::new(move || {
        body();
        true
    }))?);
    // SAFETY: `go` writes its result to the pointer. If it went well the host owns the fiber, which cannot begin before
    // this coroutine waits; otherwise it is still ours to free.
    unsafe {
        match Returned::<u64>::by(|returned| (calls().go)(fiber as u32, returned)) {
            Ok(id) => {
                (*fiber).id = Some(id);
                Ok(id)
            }
            Err(code) => {
                Fiber::free(fiber);
                Err(code)
            }
        }
    }
}

pub(crate) fn spawn(f: fn(TcpStream), connection: TcpStream) -> Result<u64, ErrorCode> {
    let entry = f as usize as u32 | ONE_CONNECTION;
    spawn_entry(entry, vec![connection], Vec::new())
}

pub(crate) fn spawn_with(
    f: fn(Vec<TcpStream>, Vec<u8>),
    connections: Vec<TcpStream>,
    bytes: Vec<u8>,
) -> Result<u64, ErrorCode> {
    spawn_entry(f as usize as u32, connections, bytes)
}

fn spawn_entry(entry: u32, connections: Vec<TcpStream>, bytes: Vec<u8>) -> Result<u64, ErrorCode> {
    let connections = connections.into_iter().map(|stream| stream.into_connection().into_wit()).collect();
    Ok(coroutine::spawn(entry, connections, &bytes)?)
}

/// Runs what `spawn` asked for, in the new instance: a function is at the same place of the same component's table.
///
/// # Safety
/// `entry` must come from [`spawn`] or [`spawn_with`] of this component.
pub(super) unsafe fn start(entry: u32, connections: Vec<Connection>, bytes: Vec<u8>) {
    let mut connections = connections.into_iter().map(TcpStream::new);
    let place = (entry & !ONE_CONNECTION) as usize;
    if entry & ONE_CONNECTION == 0 {
        // SAFETY: `spawn_with` made the entry from a function of this type.
        let f: fn(Vec<TcpStream>, Vec<u8>) = unsafe { mem::transmute(place) };
        f(connections.collect(), bytes);
    } else if let Some(connection) = connections.next() {
        // SAFETY: `spawn` made the entry from a function of this type.
        let f: fn(TcpStream) = unsafe { mem::transmute(place) };
        f(connection);
    }
}

pub(crate) fn sleep(duration: Duration) {
    // SAFETY: it takes a number.
    waiting(|| unsafe { (calls().sleep)(nanoseconds(duration)) });
}

pub(crate) fn yield_now() {
    // SAFETY: it takes nothing.
    waiting(|| unsafe { (calls().yield_now)() });
}

pub(crate) fn id() -> u64 {
    let fiber = current();
    // SAFETY: the fiber that has the turn is set while it runs and freed after.
    let known = unsafe { fiber.as_ref() }.and_then(|fiber| fiber.id);
    // The instance's, which only a handler's connections share.
    known.unwrap_or_else(coroutine::id)
}

/// Does `call`, during which other coroutines may have the turn.
pub(super) fn waiting<R>(call: impl FnOnce() -> R) -> R {
    let me = current();
    (calls().leave)();
    let result = call();
    CURRENT.store(me, Relaxed);
    result
}

/// Who has the turn; null is a coroutine that is alone in its instance.
pub(super) fn current() -> *mut Fiber {
    CURRENT.load(Relaxed)
}

/// `fiber` has the turn now; null is a coroutine that is alone in its instance.
pub(super) fn set_current(fiber: *mut Fiber) {
    CURRENT.store(fiber, Relaxed);
}

static CURRENT: AtomicPtr<Fiber> = AtomicPtr::new(ptr::null_mut());

/// Marks the entry of a function that takes one connection. A function table has far fewer places.
const ONE_CONNECTION: u32 = 1 << 31;
