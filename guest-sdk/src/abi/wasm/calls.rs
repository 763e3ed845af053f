//! The calls that wait, by how the coroutine was entered.
//!
//! One entered by a plain export waits in `conet:net`'s functions; one entered as a fiber must use their twins of
//! `conet:fibers`, so that its siblings can run. Each pair has the same signature. Only fiber entries name the table of
//! twins: the linker drops it, and with it every import of `conet:fibers`, from a guest without such entries.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use std::time::Duration;

use super::inbox;
use super::socket::Connection;
use crate::ErrorCode;

/// A set of functions that wait. An optional timeout is two arguments, whether and how many nanoseconds; what they return
/// they write through the last argument.
pub(super) struct Calls {
    pub(super) accept: unsafe extern "C" fn(u32, u32, u64, *mut u8),
    pub(super) connect: Connect,
    /// Receives into the buffer.
    pub(super) recv: Recv,
    pub(super) send: unsafe extern "C" fn(u32, *const u8, usize, u32, u64, *mut u8),
    pub(super) pool_get: unsafe extern "C" fn(u32, u32, u64, *mut u8),
    pub(super) sleep: unsafe extern "C" fn(u64),
    pub(super) yield_now: unsafe extern "C" fn(),
    /// Before the coroutine waits in any of these but `recv`, or ends.
    pub(super) leave: fn(),
    /// Does not wait, but is for fibers only.
    pub(super) go: unsafe extern "C" fn(u32, *mut u8),
}

/// How many bytes came.
pub(super) type Recv = fn(&Connection, &mut [u8], Option<Duration>) -> Result<usize, ErrorCode>;

/// The target is flattened to 13 words.
pub(super) type Connect =
    unsafe extern "C" fn(u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u32, u64, *mut u8);

/// The calls of the coroutine that has the turn.
pub(super) fn calls() -> &'static Calls {
    // SAFETY: the pointer is only ever set to one of the two statics.
    unsafe { &*CURRENT.load(Relaxed) }
}

/// From now on this instance runs fibers.
pub(super) fn use_twins() {
    CURRENT.store(ptr::from_ref(&TWINS).cast_mut(), Relaxed);
}

/// Runs `f` as a coroutine entered by a plain export. No other can run before it has ended, so the table is set back then.
pub(super) fn with_plain<R>(f: impl FnOnce() -> R) -> R {
    let before = CURRENT.swap(ptr::from_ref(&PLAIN).cast_mut(), Relaxed);
    let result = f();
    CURRENT.store(before, Relaxed);
    result
}

static CURRENT: AtomicPtr<Calls> = AtomicPtr::new(ptr::from_ref(&PLAIN).cast_mut());

static PLAIN: Calls = Calls {
    accept: plain::accept,
    connect: plain::connect,
    recv: super::socket::recv_alone,
    send: plain::send,
    pool_get: plain::pool_get,
    sleep: plain::sleep,
    yield_now: plain::yield_now,
    leave: || {},
    go: go_unsupported,
};

static TWINS: Calls = Calls {
    accept: conet_fiber_accept,
    connect: conet_fiber_connect,
    recv: inbox::recv,
    send: conet_fiber_send,
    pool_get: conet_fiber_pool_get,
    sleep: conet_fiber_sleep,
    yield_now: conet_fiber_yield_now,
    leave: inbox::leave,
    go,
};

/// An alone coroutine's `go`: an error result, as the host would write it.
unsafe extern "C" fn go_unsupported(_entry: u32, returned: *mut u8) {
    // SAFETY: `returned` points to a `Returned<u64>`: the tag comes first, an error at the payload's offset, 8.
    unsafe {
        returned.write(1);
        returned.add(8).write(ErrorCode::Unsupported as u8);
    }
}

pub(super) mod plain {
    #[link(wasm_import_module = "conet:net/tcp@0.1.0")]
    unsafe extern "C" {
        #[link_name = "[method]listener.accept"]
        pub(super) fn accept(listener: u32, timed: u32, timeout: u64, returned: *mut u8);
        #[link_name = "[static]connection.connect"]
        pub(super) fn connect(
            target: u32,
            t1: u32,
            t2: u32,
            t3: u32,
            t4: u32,
            t5: u32,
            t6: u32,
            t7: u32,
            t8: u32,
            t9: u32,
            t10: u32,
            t11: u32,
            t12: u32,
            timed: u32,
            timeout: u64,
            returned: *mut u8,
        );
        #[link_name = "[method]connection.recv"]
        pub(in super::super) fn recv(connection: u32, max: u32, timed: u32, timeout: u64, returned: *mut u8);
        #[link_name = "[method]connection.send"]
        pub(super) fn send(
            connection: u32,
            data: *const u8,
            length: usize,
            timed: u32,
            timeout: u64,
            returned: *mut u8,
        );
    }

    #[link(wasm_import_module = "conet:net/pool@0.1.0")]
    unsafe extern "C" {
        #[link_name = "[method]pool.get"]
        pub(super) fn pool_get(pool: u32, timed: u32, timeout: u64, returned: *mut u8);
    }

    #[link(wasm_import_module = "conet:net/coroutine@0.1.0")]
    unsafe extern "C" {
        #[link_name = "sleep"]
        pub(super) fn sleep(duration: u64);
        #[link_name = "yield-now"]
        pub(super) fn yield_now();
    }
}

// The wrappers of build/fibers.rs.
unsafe extern "C" {
    fn conet_fiber_accept(listener: u32, timed: u32, timeout: u64, returned: *mut u8);
    fn conet_fiber_connect(
        target: u32,
        t1: u32,
        t2: u32,
        t3: u32,
        t4: u32,
        t5: u32,
        t6: u32,
        t7: u32,
        t8: u32,
        t9: u32,
        t10: u32,
        t11: u32,
        t12: u32,
        timed: u32,
        timeout: u64,
        returned: *mut u8,
    );
    fn conet_fiber_send(
        connection: u32,
        data: *const u8,
        length: usize,
        timed: u32,
        timeout: u64,
        returned: *mut u8,
    );
    fn conet_fiber_pool_get(pool: u32, timed: u32, timeout: u64, returned: *mut u8);
    fn conet_fiber_sleep(duration: u64);
    fn conet_fiber_yield_now();
}

#[link(wasm_import_module = "conet:fibers/coroutine@0.1.0")]
unsafe extern "C" {
    fn go(entry: u32, returned: *mut u8);
}
