//! Listeners and connections: handles of the host.

use std::net::{Shutdown, SocketAddr};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::bindings::tcp;
use super::calls::{calls, plain};
use super::convert;
use super::coroutine::{current, waiting};
use super::fiber::Fiber;
use super::realloc;
use super::returned::{Accepted, List, Returned};
use crate::ErrorCode;
use crate::net::Target;

#[derive(Debug)]
pub(crate) struct Listener(tcp::Listener);

impl Listener {
    pub(crate) fn bind(address: SocketAddr) -> Result<Listener, ErrorCode> {
        Ok(Listener(tcp::Listener::bind(convert::to_wit(address))?))
    }

    pub(crate) fn accept(&self) -> Result<(Connection, SocketAddr), ErrorCode> {
        // SAFETY: `accept` writes its result to the pointer, the accepted pair if it went well.
        let accepted: Accepted = waiting(|| unsafe {
            Returned::by(|returned| (calls().accept)(self.0.handle(), 0, 0, returned))
        })?;
        // SAFETY: the host has just given us this handle.
        let connection = unsafe { Connection::from_handle(accepted.connection) };
        Ok((connection, convert::from_returned(accepted.peer)))
    }

    pub(crate) fn local_addr(&self) -> Result<SocketAddr, ErrorCode> {
        Ok(convert::from_wit(self.0.local_address()?))
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    handle: tcp::Connection,
    /// What `inbox` calls it; 0 before it was asked for.
    key: AtomicU64,
    /// Who has asked.
    asked_by: AtomicPtr<Fiber>,
    /// Much has come at a time, and may go on to.
    streams: AtomicBool,
}

impl Connection {
    /// # Safety
    /// `handle` must be an owned connection of this instance.
    pub(super) unsafe fn from_handle(handle: u32) -> Connection {
        // SAFETY: as the caller promised.
        let handle = unsafe { tcp::Connection::from_handle(handle) };
        Connection {
            handle,
            key: AtomicU64::new(0),
            asked_by: AtomicPtr::new(ptr::null_mut()),
            streams: AtomicBool::new(false),
        }
    }

    pub(super) fn into_wit(self) -> tcp::Connection {
        self.handle
    }

    pub(super) fn handle(&self) -> u32 {
        self.handle.handle()
    }

    pub(super) fn streams(&self) -> bool {
        self.streams.load(Relaxed)
    }

    pub(super) fn set_streams(&self, streams: bool) {
        self.streams.store(streams, Relaxed);
    }

    /// What `inbox` calls it, asked for once by each coroutine that comes to receive from it: the host learns who does.
    pub(super) fn key_or(&self, ask: impl FnOnce(u32) -> u64) -> u64 {
        let (known, me) = (self.key.load(Relaxed), current());
        if known != 0 && self.asked_by.load(Relaxed) == me {
            return known;
        }
        let key = ask(self.handle.handle());
        self.key.store(key, Relaxed);
        self.asked_by.store(me, Relaxed);
        key
    }

    pub(crate) fn connect(target: &Target, timeout: Option<Duration>) -> Result<Connection, ErrorCode> {
        let [t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12] = convert::flat(target);
        let (timed, timeout) = convert::timeout(timeout);
        let connect = calls().connect;
        // SAFETY: the words describe `target`, which outlives the call; the result goes to the pointer, and an `ok` one is
        // a connection that is now ours.
        unsafe {
            let handle = waiting(|| {
                Returned::by(|returned| {
                    connect(t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, t10, t11, t12, timed, timeout, returned)
                })
            })?;
            Ok(Connection::from_handle(handle))
        }
    }

    pub(crate) fn recv(&self, buf: &mut [u8], timeout: Option<Duration>) -> Result<usize, ErrorCode> {
        (calls().recv)(self, buf, timeout)
    }

    pub(crate) fn send(&self, data: &[u8], timeout: Option<Duration>) -> Result<usize, ErrorCode> {
        let data = &data[..data.len().min(CHUNK_BYTES_MAX)];
        // Most often the system takes the bytes at once. That call is a plain one, which costs a shared instance much less.
        let taken = self.handle.try_send(data)?;
        if taken > 0 {
            return Ok(taken as usize);
        }
        let (timed, timeout) = convert::timeout(timeout);
        // SAFETY: `data` outlives the call, which writes its result to the pointer.
        let sent: u32 = waiting(|| unsafe {
            Returned::by(|returned| {
                (calls().send)(self.handle.handle(), data.as_ptr(), data.len(), timed, timeout, returned)
            })
        })?;
        Ok(sent as usize)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<(), ErrorCode> {
        Ok(self.handle.shutdown(convert::shutdown(how))?)
    }

    pub(crate) fn close(&self) {
        self.handle.close();
    }

    pub(crate) fn peer_addr(&self) -> Result<SocketAddr, ErrorCode> {
        Ok(convert::from_wit(self.handle.peer_address()?))
    }

    pub(crate) fn local_addr(&self) -> Result<SocketAddr, ErrorCode> {
        Ok(convert::from_wit(self.handle.local_address()?))
    }

    pub(crate) fn set_nodelay(&self, nodelay: bool) -> Result<(), ErrorCode> {
        Ok(self.handle.set_nodelay(nodelay)?)
    }
}

/// Receives into `buf`, alone in the instance.
pub(super) fn recv_alone(
    connection: &Connection,
    buf: &mut [u8],
    timeout: Option<Duration>,
) -> Result<usize, ErrorCode> {
    let max = buf.len().min(CHUNK_BYTES_MAX);
    let (timed, timeout) = convert::timeout(timeout);
    let handle = connection.handle.handle();
    // SAFETY: `recv` writes its result to the pointer, a list of bytes if it went well.
    let recv =
        || unsafe { Returned::by(|returned| plain::recv(handle, max as u32, timed, timeout, returned)) };
    // SAFETY: no other coroutine runs meanwhile, and a list of bytes is all that comes back.
    let bytes: List<u8> = unsafe { realloc::with_lent(&mut buf[..max], recv) }?;
    // SAFETY: the host has just returned it.
    Ok(unsafe { bytes.move_to(buf) })
}

/// The most the host moves in one call.
pub(super) const CHUNK_BYTES_MAX: usize = 65_536;
