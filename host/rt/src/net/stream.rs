//! Connections.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{self, sockopt};

use super::op::{Connect, Operation, Recv, Send};
use super::owned::{Owned, address, on_worker};
use crate::budget;
use crate::buf::BUF_BYTES;
use crate::driver::{Kind, Op};
use crate::error::busy;
use crate::key::{Direction, SocketKey};
use crate::reactor;
use crate::remote::WorkerId;

/// A connection bound to no worker, with what was received on it and not yet asked for. Dropping it closes it.
#[derive(Debug)]
pub struct Detached(reactor::Detached);

/// A TCP connection. Dropping it closes it.
///
/// Calls other than `drop` panic on another worker's thread. After [`close`](TcpStream::close) they end with
/// [`closed`](crate::error::closed).
#[derive(Debug)]
pub struct TcpStream(Owned);

/// See [`TcpStream::resetter`]. Plain data; it keeps nothing open.
#[derive(Debug, Clone, Copy)]
pub struct Resetter(WorkerId, SocketKey);

impl Resetter {
    /// Whether the connection is still there, and its peer or the system has cut it off; to be called on its worker. It is a system
    /// call. One that both sides have shut down looks like that as well.
    pub fn is_cut_off(self) -> bool {
        // The system tells no peer of a socket that is closed, whether its error has been seen or not.
        let no_peer = |fd: BorrowedFd<'_>| matches!(net::getpeername(fd), Err(Errno::NOTCONN));
        on_worker(self.0, |reactor| reactor.fd(self.1).is_ok_and(no_peer))
    }

    /// As [`TcpStream::reset`], if the connection is still there; to be called on its worker.
    pub fn reset(self) {
        on_worker(self.0, |reactor| reactor.reset(self.1));
    }
}

impl TcpStream {
    /// Connects, on the worker that polls it. TCP_NODELAY is on.
    pub fn connect(address: SocketAddr) -> Connect {
        Connect::new(address)
    }

    /// Takes a connected socket over to this thread's worker.
    pub fn from_fd(fd: OwnedFd) -> io::Result<TcpStream> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        TcpStream::attach(Detached(reactor::Detached::new(fd)))
    }

    /// Takes the connection off its worker, for another. With an operation in flight this is `busy`, and the connection
    /// is closed.
    pub fn detach(self) -> io::Result<Detached> {
        // Dropping `self` then closes nothing: the reactor does not know it any more.
        self.0.reactor(|reactor, key| reactor.deregister(key)).map(Detached)
    }

    /// Takes a connection over to this thread's worker.
    pub fn attach(detached: Detached) -> io::Result<TcpStream> {
        Ok(TcpStream(Owned::new(detached.0, Kind::Stream)?))
    }

    /// Gives the socket back. With an operation in flight, or received bytes that a cancelled one has left, this is
    /// `busy` and the connection is closed.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        let Detached(socket) = self.detach()?;
        if socket.is_plain() { Ok(socket.fd) } else { Err(busy()) }
    }

    /// Waits for bytes, and gives up to `max` of them and at most 64 KiB; none at the end of the stream.
    pub fn recv(&self, max: usize) -> Recv {
        Recv(Operation::new(&self.0, Direction::Read, Op::Recv(max.min(BUF_BYTES))))
    }

    /// As [`recv`](TcpStream::recv), for a task that waits on behalf of another.
    pub fn recv_for_another(&self, max: usize) -> Recv {
        Recv(Operation::new(&self.0, Direction::Read, Op::Recv(max.min(BUF_BYTES))).for_another())
    }

    /// Gives the last bytes that were received back: the next to receive gets them first. While one receives, this is `busy`.
    pub fn unread(&self, bytes: &[u8]) -> io::Result<()> {
        self.0.reactor(|reactor, key| reactor.unread(key, bytes))
    }

    /// Sends a first part of `data`, and tells how many bytes were taken; waits until at least one is.
    ///
    /// Up to 4 KiB leave when the worker next looks at its sockets, which is before it sleeps, after 64 tasks and after
    /// a millisecond of them (250 us where tasks of several groups share it), and whenever it is told to [`flush`](crate::flush): what becomes of them, the next
    /// operation tells.
    pub fn send(&self, data: Vec<u8>) -> Send {
        Send(Operation::new(&self.0, Direction::Write, Op::Send(data)))
    }

    /// As [`send`](TcpStream::send), without waiting and without giving the bytes away: `WouldBlock` if none can be
    /// taken now. It is for the caller not to send much once the task's [budget] is used up.
    pub fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        let sent = self.0.reactor(|reactor, key| reactor.try_send(key, data));
        budget::moved(*sent.as_ref().unwrap_or(&0));
        sent
    }

    /// Ends one direction or both. The peer sees the end of what was sent once all of it has arrived.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => net::Shutdown::Read,
            Shutdown::Write => net::Shutdown::Write,
            Shutdown::Both => net::Shutdown::Both,
        };
        self.0.reactor(|reactor, key| reactor.shutdown(key, how))
    }

    /// The other side's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.call(|fd| address(net::getpeername(fd)?.ok_or(rustix::io::Errno::NOTCONN)?))
    }

    /// This side's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Turns TCP_NODELAY on or off.
    pub fn set_nodelay(&self, enabled: bool) -> io::Result<()> {
        self.0.call(|fd| sockopt::set_tcp_nodelay(fd, enabled))
    }

    /// Whether TCP_NODELAY is on.
    pub fn nodelay(&self) -> io::Result<bool> {
        self.0.call(|fd| sockopt::tcp_nodelay(fd))
    }

    /// Ends the connection now: operations in flight end with `closed`.
    pub fn close(&self) {
        self.0.reactor(|reactor, key| reactor.close(key));
    }

    /// As [`close`](TcpStream::close), but abruptly: the peer gets a reset, and what was not yet sent is lost.
    pub fn reset(&self) {
        self.0.reactor(|reactor, key| reactor.reset(key));
    }

    /// Resets the connection later, for who does not have it.
    pub fn resetter(&self) -> Resetter {
        Resetter(self.0.worker(), self.0.key())
    }

    /// Whether the connection could be used afresh: open on both sides, no error, nothing in flight, nothing unread.
    pub fn is_idle(&self) -> bool {
        self.0.reactor(|reactor, key| reactor.is_idle(key))
    }

    /// Takes over a non-blocking socket on which nothing has been sent.
    pub(super) fn new(fd: OwnedFd) -> io::Result<TcpStream> {
        TcpStream::attach(Detached(reactor::Detached::fresh(fd)))
    }

    pub(super) fn owned(&self) -> &Owned {
        &self.0
    }
}
