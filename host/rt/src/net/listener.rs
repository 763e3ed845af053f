//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SocketFlags, acceptfrom_with, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::TcpStream;
use super::op::{Accept, Operation};
use super::owned::Owned;
use crate::driver::{Kind, Op};
use crate::key::Direction;
use crate::reactor::Detached;

/// A TCP listener. Dropping it stops listening, once all duplicates of its socket are gone.
///
/// Several workers may share one listening socket: give each a listener [from](TcpListener::from_std) its own
/// `try_clone` of a `std::net::TcpListener`. A connection goes to a worker that is accepting, whichever it is.
#[derive(Debug)]
pub struct TcpListener(Owned);

/// How to listen.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Connections that the system keeps waiting to be accepted; it may allow fewer (net.core.somaxconn).
    pub backlog: u16,
    /// Whether an IPv6 listener leaves IPv4 alone.
    pub ipv6_only: bool,
    /// Whether a port may be taken over while old connections of it linger; not while another listens on it.
    pub reuse_address: bool,
    /// After so long without a sign of a connection's peer the system asks for one, and gives up after as long again.
    pub keepalive: Option<Duration>,
}

impl Default for ListenOptions {
    fn default() -> ListenOptions {
        ListenOptions { backlog: 4096, ipv6_only: true, reuse_address: true, keepalive: None }
    }
}

impl ListenOptions {
    /// Listens on no worker yet: for sockets that several workers will share. Port 0 takes a free port.
    pub fn listen(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        Ok(open(address, self)?.into())
    }

    /// Gives a socket that listens already, of whoever's making, what can still be given it: keepalive.
    pub fn adopt(&self, listener: &std::net::TcpListener) -> io::Result<()> {
        keep_alive(SockRef::from(listener), self.keepalive)
    }
}

impl TcpListener {
    /// Listens on this thread's worker. Port 0 takes a free port.
    pub fn bind(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
        TcpListener::new(open(address, options)?)
    }

    /// Takes a listening socket over to this thread's worker.
    pub fn from_std(listener: std::net::TcpListener) -> io::Result<TcpListener> {
        listener.set_nonblocking(true)?;
        TcpListener::new(listener.into())
    }

    /// Waits for a connection. It comes with TCP_NODELAY on, and belongs to this worker.
    ///
    /// Errors are the system's (`EMFILE`, say, which does not go away by itself: wait before trying again),
    /// `busy` and `closed`.
    pub fn accept(&self) -> Accept {
        Accept(Operation::new(&self.0, Direction::Read, Op::Accept))
    }

    /// A connection that waits already; none if there is none now. It comes as from [`accept`](TcpListener::accept).
    pub fn accept_waiting(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accepted = self.0.call(|fd| retry_on_intr(|| acceptfrom_with(fd, flags)));
        if accepted.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            return None;
        }
        Some(accepted.and_then(|(fd, peer)| {
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::AFNOSUPPORT)?;
            Ok((TcpStream::new(fd)?, peer))
        }))
    }

    /// The address it listens on, with the real port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Stops listening here now; an accept in flight ends with `closed`.
    pub fn close(&self) {
        self.0.reactor(|reactor, key| reactor.close(key));
    }

    fn new(fd: OwnedFd) -> io::Result<TcpListener> {
        // Accepted sockets inherit it, which saves a call for each.
        sockopt::set_tcp_nodelay(&fd, true)?;
        Ok(TcpListener(Owned::new(Detached::new(fd), Kind::Listener)?))
    }
}

fn open(address: SocketAddr, options: &ListenOptions) -> io::Result<OwnedFd> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(options.reuse_address)?;
    if address.is_ipv6() {
        socket.set_only_v6(options.ipv6_only)?;
    }
    keep_alive(SockRef::from(&socket), options.keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(options.backlog.into())?;
    Ok(socket.into())
}

/// Accepted sockets inherit it.
fn keep_alive(socket: SockRef<'_>, idle: Option<Duration>) -> io::Result<()> {
    let Some(idle) = idle else { return Ok(()) };
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(idle / KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
    socket.set_tcp_user_timeout(Some(idle * 2))
}

/// Questions to a peer that is silent before it is given up.
const KEEPALIVE_PROBES: u32 = 4;
