//! What sockets send: small pieces by way of the outbox, large ones at once, all in order.
//!
//! A task is told that a small send is done when its bytes are in the outbox, as it would be told when they are in the
//! kernel's buffer, and only if there is room for them. What becomes of them is kept: an error is told to the socket's
//! next user, and what the kernel does not take all the same, short of memory, goes on as an operation of nobody's.

use std::io;
use std::task::Poll;

use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

use super::slot::Flight;
use super::socket::open;
use super::{NO_TICKET, Reactor};
use crate::driver::Driver;
use crate::error;
use crate::key::SocketKey;
use crate::prefetch;
use crate::room::{OVERHEAD_BYTES, send_room};

impl Reactor {
    /// Sends a first part of `data`, and tells how many bytes were taken; `WouldBlock` if none are.
    pub(crate) fn try_send(&mut self, key: SocketKey, data: &[u8]) -> io::Result<usize> {
        self.goes_on(key);
        if let Some(result) = self.take_small(key, data) {
            return result;
        }
        let socket = open(&mut self.sockets, key).ok_or_else(error::closed)?;
        if socket.write.flight != Flight::None {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        socket.room = 0;
        Ok(send(self.driver.fd(key), data, SendFlags::NOSIGNAL)?)
    }

    /// The task that was handed what came has its turn.
    fn goes_on(&mut self, key: SocketKey) {
        let Some(socket) = open(&mut self.sockets, key) else { return };
        socket.read.stack = prefetch::here();
        if std::mem::take(&mut socket.read.handed_on) {
            self.upcoming.taken(socket.read.turn);
        }
    }

    /// Takes `data` if it is small and nothing is in its way. Otherwise, what was taken before is on its way now.
    pub(super) fn take_small(&mut self, key: SocketKey, data: &[u8]) -> Option<io::Result<usize>> {
        let Some(socket) = open(&mut self.sockets, key) else { return Some(Err(error::closed())) };
        if socket.write.owner != NO_TICKET {
            return Some(Err(error::busy()));
        }
        if let Some(error) = socket.left.take_error() {
            return Some(Err(error));
        }
        if socket.ending {
            return Some(Err(Errno::PIPE.into()));
        }
        if data.is_empty() {
            return Some(Ok(0));
        }
        let needed = data.len() + OVERHEAD_BYTES;
        let small = data.len() <= SMALL_BYTES_MAX && !socket.left.failed();
        if small && socket.unsent && socket.room >= needed && self.outbox.append(key, data) {
            socket.room -= needed;
            return Some(Ok(data.len()));
        }
        if self.outbox.is_full(data.len()) {
            self.give_all(Driver::send_all);
        } else {
            self.flush_socket(key);
        }
        let socket = &mut self.sockets[key.index as usize];
        if !small || socket.write.flight != Flight::None {
            return None;
        }
        if socket.room < needed {
            socket.room = send_room(self.driver.fd(key));
        }
        // What is left is to be waited for by the task, not here.
        socket.room = socket.room.checked_sub(needed)?;
        socket.unsent = true;
        self.outbox.push(key, data);
        Some(Ok(data.len()))
    }

    /// Gives the system all that is in the outbox, now.
    pub(crate) fn flush(&mut self) {
        self.give_all(Driver::send_all);
        self.driver.flush();
    }

    /// As `flush`, together with the wait that comes next.
    pub(super) fn flush_soon(&mut self) {
        self.give_all(Driver::send_soon);
    }

    fn give_all(&mut self, send: Send) {
        if self.outbox.is_empty() {
            return;
        }
        let batch = self.outbox.take();
        for part in &batch.parts {
            self.give(part.socket, &batch.bytes[part.bytes.clone()], send);
        }
        self.outbox.recycle(batch);
    }

    /// As `flush`, for one socket. Tells whether a rest is still on its way.
    pub(crate) fn flush_socket(&mut self, key: SocketKey) -> bool {
        let Some(socket) = open(&mut self.sockets, key) else { return false };
        if socket.unsent
            && let Some(bytes) = self.outbox.remove(key)
        {
            self.give(key, &bytes, Driver::send_all);
        }
        self.sockets[key.index as usize].write.flight == Flight::Rest
    }

    fn give(&mut self, key: SocketKey, bytes: &[u8], send: Send) {
        // One that was reset sends nothing more.
        let Some(socket) = open(&mut self.sockets, key) else { return };
        socket.unsent = false;
        match send(&mut self.driver, key, bytes) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => socket.left.keep_error(error),
            Poll::Pending => {
                socket.write.flight = Flight::Rest;
                self.in_flight += 1;
            }
        }
    }

    /// Ends one direction or both, sending once all that was taken has left.
    pub(crate) fn shutdown(&mut self, key: SocketKey, how: Shutdown) -> io::Result<()> {
        let resting = self.flush_socket(key);
        let socket = open(&mut self.sockets, key).ok_or_else(error::closed)?;
        let mut now = Some(how);
        if how != Shutdown::Read {
            socket.ending = true;
            if resting {
                now = (how == Shutdown::Both).then_some(Shutdown::Read);
            }
        }
        if let Some(how) = now {
            shutdown(self.driver.fd(key), how)?;
        }
        Ok(())
    }
}

/// One of the driver's ways to send all of something.
type Send = fn(&mut Driver, SocketKey, &[u8]) -> Poll<io::Result<()>>;

/// What is sent by way of the outbox: more is not worth the copy.
const SMALL_BYTES_MAX: usize = 4 << 10;
