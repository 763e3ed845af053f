//! What carries out operations. One interface, shaped by completions, over a closed set of drivers.
//!
//! From `submit` until its completion is taken, an operation's buffer and the descriptor it works on belong to the
//! driver. A driver may complete an operation on its own (`wait` announces it) or only once it is asked (`take`). Epoll
//! receives small messages in the wait, while the kernel's code for it is warm, and large ones when asked, into a buffer
//! that is warm when their task reads it. io_uring does the same, but that the kernel receives and sends the small ones by itself.

mod epoll;
mod test;
mod uring;
mod writing;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::buf::Buf;
use crate::key::{OpKey, SocketKey};
use crate::remote::Remote;
use epoll::Epoll;
pub(crate) use epoll::waiting::{Heir, look_again, set_heir};
use test::Test;
pub use uring::Unavailable;
use uring::Uring;

/// Which driver a worker uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DriverKind {
    /// Readiness by epoll, the system call tried first.
    #[default]
    Epoll,
    /// Completions by io_uring, of Linux 6.0 or later, where it is allowed: see [`check`](DriverKind::check).
    IoUring,
    /// For tests: real sockets, but completions come late and out of order, those of cancelled operations too.
    /// The number is the seed.
    Test(u64),
}

impl DriverKind {
    /// Whether this thread could have a worker with this driver now. Making one fails in the same way.
    pub fn check(self) -> Result<(), Unavailable> {
        match self {
            DriverKind::IoUring => uring::check(),
            DriverKind::Epoll | DriverKind::Test(_) => Ok(()),
        }
    }

    /// This driver, or epoll where it cannot be had, with the reason.
    pub fn or_epoll(self) -> (DriverKind, Option<Unavailable>) {
        match self.check() {
            Ok(()) => (self, None),
            Err(why) => (DriverKind::Epoll, Some(why)),
        }
    }
}

/// What a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Stream,
    Listener,
}

/// What can be asked of a socket.
#[derive(Debug)]
pub(crate) enum Op {
    Accept,
    Connect(SocketAddr),
    /// The most bytes wanted, 1 to `BUF_BYTES`. The driver brings the buffer.
    Recv(usize),
    /// Not empty.
    Send(Vec<u8>),
}

/// What an operation came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Accepted(OwnedFd, SocketAddr),
    Connected,
    Received(Buf),
    /// How many bytes were taken.
    Sent(usize),
    /// It was cancelled and has done nothing.
    Cancelled,
}

impl Outcome {
    /// How many were moved.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Outcome::Received(buf) => buf.len(),
            Outcome::Sent(bytes) => *bytes,
            Outcome::Accepted(..) | Outcome::Connected | Outcome::Cancelled => 0,
        }
    }
}

/// What became of a cancelled operation.
#[derive(Debug)]
pub(crate) enum Cancel {
    /// It is over and has done nothing.
    Gone,
    /// It had completed.
    Done(io::Result<Outcome>),
    /// It is still in flight: its completion will be announced.
    Later,
}

/// The driver of a worker. The set is closed.
pub(crate) enum Driver {
    Epoll(Epoll),
    Uring(Box<Uring>),
    Test(Box<Test>),
}

/// A socket that is its driver's no more: its descriptor, and what was received on it early, in order.
pub(crate) type Released = (OwnedFd, Vec<io::Result<Outcome>>);

impl Driver {
    pub(crate) fn new(kind: DriverKind, remote: Arc<Remote>) -> io::Result<Driver> {
        Ok(match kind {
            DriverKind::Epoll => Driver::Epoll(Epoll::new(remote)?),
            DriverKind::IoUring => Driver::Uring(Box::new(Uring::new(remote)?)),
            DriverKind::Test(seed) => Driver::Test(Box::new(Test::new(Epoll::new(remote)?, seed))),
        })
    }

    /// Takes a non-blocking socket over.
    pub(crate) fn register(&mut self, socket: SocketKey, fd: OwnedFd, kind: Kind) {
        match self {
            Driver::Epoll(driver) => driver.register(socket, fd, kind),
            Driver::Uring(driver) => driver.register(socket, fd, kind),
            Driver::Test(driver) => driver.inner.register(socket, fd, kind),
        }
    }

    /// Gives a socket back. No operation may be in flight on it.
    pub(crate) fn deregister(&mut self, socket: SocketKey) -> Released {
        match self {
            Driver::Epoll(driver) => (driver.deregister(socket), Vec::new()),
            Driver::Uring(driver) => driver.deregister(socket),
            Driver::Test(driver) => (driver.deregister(socket), Vec::new()),
        }
    }

    /// Closes a socket, at the next wait at the latest. No operation may be in flight on it.
    pub(crate) fn close(&mut self, socket: SocketKey) {
        match self {
            Driver::Epoll(driver) => drop(driver.deregister(socket)),
            Driver::Uring(driver) => driver.close(socket),
            Driver::Test(driver) => drop(driver.deregister(socket)),
        }
    }

    /// Whether something was received on a socket on which no operation is in flight.
    pub(crate) fn holds_bytes(&mut self, socket: SocketKey) -> bool {
        match self {
            Driver::Uring(driver) => driver.holds_bytes(socket),
            Driver::Epoll(_) | Driver::Test(_) => false,
        }
    }

    /// Has the kernel receive nothing more by itself on a socket, until a recv asks it to.
    pub(crate) fn pause(&mut self, socket: SocketKey) {
        match self {
            Driver::Uring(driver) => driver.pause(socket),
            Driver::Epoll(_) | Driver::Test(_) => {}
        }
    }

    /// Gives the kernel what it gets at the next wait otherwise.
    pub(crate) fn flush(&mut self) {
        match self {
            Driver::Uring(driver) => driver.flush(),
            Driver::Epoll(_) | Driver::Test(_) => {}
        }
    }

    /// The socket's descriptor, for calls that never wait.
    pub(crate) fn fd(&self, socket: SocketKey) -> BorrowedFd<'_> {
        match self {
            Driver::Epoll(driver) => driver.fd(socket),
            Driver::Uring(driver) => driver.fd(socket),
            Driver::Test(driver) => driver.inner.fd(socket),
        }
    }

    /// Starts an operation, or completes it at once. Nothing else may be in flight in its direction.
    pub(crate) fn submit(&mut self, key: OpKey, op: Op) -> Poll<io::Result<Outcome>> {
        match self {
            Driver::Epoll(driver) => driver.submit(key, op),
            Driver::Uring(driver) => driver.submit(key, op),
            Driver::Test(driver) => driver.submit(key, op),
        }
    }

    /// Sends all of it: done at once, or in flight as an operation that comes to `Sent`. No write may be in flight.
    pub(crate) fn send_all(&mut self, socket: SocketKey, data: &[u8]) -> Poll<io::Result<()>> {
        match self {
            Driver::Epoll(driver) => driver.send_all(socket, data),
            Driver::Uring(driver) => driver.send_all(socket, data),
            Driver::Test(driver) => driver.send_all(socket, data),
        }
    }

    /// As `send_all`, at the next wait at the latest.
    pub(crate) fn send_soon(&mut self, socket: SocketKey, data: &[u8]) -> Poll<io::Result<()>> {
        match self {
            Driver::Uring(driver) => {
                driver.send_soon(socket, data);
                Poll::Pending
            }
            Driver::Epoll(_) | Driver::Test(_) => self.send_all(socket, data),
        }
    }

    /// The completion of an operation in flight; worth asking after `wait` announced it.
    pub(crate) fn take(&mut self, key: OpKey) -> Poll<io::Result<Outcome>> {
        match self {
            Driver::Epoll(driver) => driver.take(key),
            Driver::Uring(driver) => driver.take(key),
            Driver::Test(driver) => driver.take(key),
        }
    }

    /// Asks that an operation in flight end without effect.
    pub(crate) fn cancel(&mut self, key: OpKey) -> Cancel {
        match self {
            Driver::Epoll(driver) => driver.cancel(key),
            Driver::Uring(driver) => driver.cancel(key),
            Driver::Test(driver) => driver.cancel(key),
        }
    }

    /// Waits until something can be announced, someone wakes the worker, or the time is over (none: no limit).
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, announced: &mut Vec<OpKey>) {
        match self {
            Driver::Epoll(driver) => driver.wait(timeout, announced),
            Driver::Uring(driver) => driver.wait(timeout, announced),
            Driver::Test(driver) => driver.wait(timeout, announced),
        }
    }

    /// A descriptor that is readable, while this is watched, when there is something that a `wait` would bring.
    pub(crate) fn readable(&self) -> BorrowedFd<'_> {
        match self {
            Driver::Epoll(driver) => driver.readable(),
            Driver::Uring(driver) => driver.readable(),
            Driver::Test(driver) => driver.inner.readable(),
        }
    }

    /// Has that descriptor tell of what comes from now on; true if something is there already.
    pub(crate) fn watch(&mut self) -> bool {
        match self {
            Driver::Uring(driver) => driver.watch(),
            // Its own descriptor tells of all, at any time.
            Driver::Epoll(_) | Driver::Test(_) => false,
        }
    }

    /// It need not tell any more.
    pub(crate) fn unwatch(&mut self) {
        match self {
            Driver::Uring(driver) => driver.unwatch(),
            Driver::Epoll(_) | Driver::Test(_) => {}
        }
    }

    /// A connection waits on the listener that another worker was told of: tries it here.
    pub(crate) fn nudge(&mut self, socket: SocketKey) {
        match self {
            Driver::Epoll(driver) => driver.nudge(socket),
            Driver::Uring(driver) => driver.nudge(socket),
            Driver::Test(driver) => driver.inner.nudge(socket),
        }
    }
}
