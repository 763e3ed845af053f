//! Listeners and connections of `std::net`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::name;
use super::pool::Lease;
use super::turn::waiting;
use crate::ErrorCode;
use crate::net::Target;

#[derive(Debug)]
pub(crate) struct Listener(TcpListener);

impl Listener {
    pub(crate) fn bind(address: SocketAddr) -> Result<Listener, ErrorCode> {
        Ok(Listener(TcpListener::bind(address).map_err(code)?))
    }

    pub(crate) fn accept(&self) -> Result<(Connection, SocketAddr), ErrorCode> {
        let (socket, peer) = waiting(|| self.0.accept()).map_err(code)?;
        Ok((Connection::new(socket)?, peer))
    }

    pub(crate) fn local_addr(&self) -> Result<SocketAddr, ErrorCode> {
        self.0.local_addr().map_err(code)
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: Arc<TcpStream>,
    receiving: AtomicBool,
    sending: AtomicBool,
    send_ended: AtomicBool,
    closed: AtomicBool,
    /// Brings the socket back to its pool.
    lease: Option<Lease>,
}

impl Connection {
    pub(crate) fn connect(target: &Target, timeout: Option<Duration>) -> Result<Connection, ErrorCode> {
        name::check(target)?;
        Connection::new(waiting(|| connect(target, timeout))?)
    }

    fn new(socket: TcpStream) -> Result<Connection, ErrorCode> {
        socket.set_nodelay(true).map_err(code)?;
        Ok(Connection::of(Arc::new(socket), None))
    }

    pub(super) fn leased(socket: Arc<TcpStream>, lease: Lease) -> Connection {
        Connection::of(socket, Some(lease))
    }

    fn of(socket: Arc<TcpStream>, lease: Option<Lease>) -> Connection {
        Connection {
            socket,
            receiving: AtomicBool::new(false),
            sending: AtomicBool::new(false),
            send_ended: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            lease,
        }
    }

    pub(crate) fn recv(&self, buf: &mut [u8], timeout: Option<Duration>) -> Result<usize, ErrorCode> {
        let max = buf.len().min(CHUNK_BYTES_MAX);
        let received = self.transfer(&self.receiving, |mut socket| {
            socket.set_read_timeout(timeout)?;
            socket.read(&mut buf[..max])
        })?;
        // `close` wakes the call with an end of stream.
        if received == 0 {
            self.open()?
        }
        Ok(received)
    }

    pub(crate) fn send(&self, data: &[u8], timeout: Option<Duration>) -> Result<usize, ErrorCode> {
        let data = &data[..data.len().min(CHUNK_BYTES_MAX)];
        self.transfer(&self.sending, |mut socket| {
            socket.set_write_timeout(timeout)?;
            socket.write(data)
        })
    }

    /// One call in a direction at a time.
    fn transfer(
        &self,
        direction: &AtomicBool,
        mut call: impl FnMut(&TcpStream) -> io::Result<usize> + Send,
    ) -> Result<usize, ErrorCode> {
        self.open()?;
        if direction.swap(true, Relaxed) {
            return Err(ErrorCode::Busy);
        }
        let result = waiting(|| {
            loop {
                match call(&self.socket) {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    result => return result,
                }
            }
        });
        direction.store(false, Relaxed);
        result.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> ErrorCode {
        if let Some(lease) = &self.lease {
            lease.discard();
        }
        match error.kind() {
            ErrorKind::BrokenPipe if !self.send_ended.load(Relaxed) => ErrorCode::ConnectionReset,
            _ if self.closed.load(Relaxed) => ErrorCode::Closed,
            kind => from_kind(kind),
        }
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> Result<(), ErrorCode> {
        self.open()?;
        if how != Shutdown::Read {
            self.send_ended.store(true, Relaxed);
        }
        // Half of it is no connection for the next one.
        if let Some(lease) = &self.lease {
            lease.discard();
        }
        self.socket.shutdown(how).map_err(code)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
        self.send_ended.store(true, Relaxed);
        if let Some(lease) = &self.lease {
            lease.discard();
        }
        // An error means that the peer has ended it already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    pub(crate) fn peer_addr(&self) -> Result<SocketAddr, ErrorCode> {
        self.open()?;
        self.socket.peer_addr().map_err(code)
    }

    pub(crate) fn local_addr(&self) -> Result<SocketAddr, ErrorCode> {
        self.open()?;
        self.socket.local_addr().map_err(code)
    }

    pub(crate) fn set_nodelay(&self, nodelay: bool) -> Result<(), ErrorCode> {
        self.open()?;
        self.socket.set_nodelay(nodelay).map_err(code)
    }

    fn open(&self) -> Result<(), ErrorCode> {
        if self.closed.load(Relaxed) { Err(ErrorCode::Closed) } else { Ok(()) }
    }
}

/// Without the turn.
pub(super) fn connect(target: &Target, timeout: Option<Duration>) -> Result<TcpStream, ErrorCode> {
    let addresses = match target {
        Target::Address(address) => vec![*address],
        Target::Name { name, port } => {
            let found = (name.as_str(), *port).to_socket_addrs();
            found.map_err(|_| ErrorCode::NameNotFound)?.collect()
        }
    };
    let mut result = Err(ErrorCode::NameNotFound);
    for address in addresses {
        let socket = match timeout {
            Some(timeout) => TcpStream::connect_timeout(&address, timeout),
            None => TcpStream::connect(address),
        };
        result = socket.map_err(code);
        if result.is_ok() {
            break;
        }
    }
    result
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub(super) fn code(error: io::Error) -> ErrorCode {
    match error.raw_os_error() {
        Some(ENFILE | EMFILE) => ErrorCode::OutOfResources,
        Some(EAFNOSUPPORT) => ErrorCode::AddressFamilyNotSupported,
        _ => from_kind(error.kind()),
    }
}

fn from_kind(kind: ErrorKind) -> ErrorCode {
    match kind {
        ErrorKind::PermissionDenied => ErrorCode::AccessDenied,
        ErrorKind::AddrInUse => ErrorCode::AddressInUse,
        ErrorKind::AddrNotAvailable => ErrorCode::AddressNotAvailable,
        ErrorKind::BrokenPipe => ErrorCode::Closed,
        ErrorKind::ConnectionAborted => ErrorCode::ConnectionAborted,
        ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
        ErrorKind::ConnectionReset => ErrorCode::ConnectionReset,
        ErrorKind::HostUnreachable => ErrorCode::HostUnreachable,
        ErrorKind::InvalidInput => ErrorCode::InvalidArgument,
        ErrorKind::NotConnected => ErrorCode::InvalidState,
        ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => ErrorCode::NetworkUnreachable,
        ErrorKind::OutOfMemory => ErrorCode::OutOfResources,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => ErrorCode::TimedOut,
        _ => ErrorCode::Other,
    }
}

/// The most that one call moves, as on the host.
const CHUNK_BYTES_MAX: usize = 65_536;

// Linux's numbers, for which std has no kind.
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const EAFNOSUPPORT: i32 = 97;
