//! Connections.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{self, SendFlags, sockopt};

use super::op::{Connect, Operation, Recv, Send};
use super::owned::{Owned, address};
use crate::buf::BUF_BYTES;
use crate::driver::{Kind, Op};
use crate::key::Direction;

/// A TCP connection. Dropping it closes it.
///
/// Calls other than `drop` panic on another worker's thread. After [`close`](TcpStream::close) they end with
/// [`closed`](crate::error::closed).
#[derive(Debug)]
pub struct TcpStream(Owned);

impl TcpStream {
    /// Connects, on the worker that polls it. TCP_NODELAY is on.
    pub fn connect(address: SocketAddr) -> Connect {
        Connect::new(address)
    }

    /// Takes a connected socket over to this thread's worker.
    pub fn from_fd(fd: OwnedFd) -> io::Result<TcpStream> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        TcpStream::new(fd)
    }

    /// Gives the socket back, to be taken over by another worker.
    ///
    /// With an operation in flight, or received bytes that a cancelled one has left, this is `busy` and the
    /// connection is closed.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        // Dropping `self` then closes nothing: the reactor does not know it any more.
        self.0.reactor(|reactor, key| reactor.deregister(key))
    }

    /// Waits for bytes, and gives up to `max` of them and at most 64 KiB; none at the end of the stream.
    pub fn recv(&self, max: usize) -> Recv {
        Recv(Operation::new(&self.0, Direction::Read, Op::Recv(max.min(BUF_BYTES))))
    }

    /// Sends a first part of `data`, and tells how many bytes were taken; waits until at least one is.
    pub fn send(&self, data: Vec<u8>) -> Send {
        Send(Operation::new(&self.0, Direction::Write, Op::Send(data)))
    }

    /// As [`send`](TcpStream::send), without waiting and without giving the bytes away: `WouldBlock` if none can be
    /// taken now.
    pub fn try_send(&self, data: &[u8]) -> io::Result<usize> {
        if self.0.reactor(|reactor, key| reactor.is_sending(key)) {
            return Err(crate::error::busy());
        }
        self.0.call(|fd| net::send(fd, data, SendFlags::NOSIGNAL))
    }

    /// Ends one direction or both. The peer sees the end of what was sent once all of it has arrived.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        let how = match how {
            Shutdown::Read => net::Shutdown::Read,
            Shutdown::Write => net::Shutdown::Write,
            Shutdown::Both => net::Shutdown::Both,
        };
        self.0.call(|fd| net::shutdown(fd, how))
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

    /// Whether the connection could be used afresh: open on both sides, no error, nothing in flight, nothing unread.
    pub fn is_idle(&self) -> bool {
        self.0.reactor(|reactor, key| reactor.is_idle(key))
    }

    /// Takes over a connected, non-blocking socket.
    pub(super) fn new(fd: OwnedFd) -> io::Result<TcpStream> {
        Ok(TcpStream(Owned::new(fd, Kind::Stream)?))
    }

    pub(super) fn owned(&self) -> &Owned {
        &self.0
    }
}
