//! `TcpStream`.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::ToTarget;
use crate::{ErrorCode, abi};

/// A connected socket. Dropping it closes it, or returns it to its [pool](crate::pool) if it came from one.
///
/// One coroutine may read while another writes, through `&TcpStream`; a second one in the same direction gets
/// [`ErrorCode::Busy`].
#[derive(Debug)]
pub struct TcpStream {
    connection: abi::Connection,
    read_timeout: Timeout,
    write_timeout: Timeout,
}

impl TcpStream {
    pub(crate) fn new(connection: abi::Connection) -> TcpStream {
        TcpStream { connection, read_timeout: Timeout::none(), write_timeout: Timeout::none() }
    }

    /// Connects. A name is resolved by the host, and its allowed addresses are tried in order.
    ///
    /// It takes no longer than the host's own limit, 5 seconds.
    pub fn connect(target: impl ToTarget) -> io::Result<TcpStream> {
        let connection = abi::Connection::connect(&target.to_target()?, None)?;
        Ok(TcpStream::new(connection))
    }

    /// Connects within `timeout`, which must not be zero, and within the host's own limit.
    pub fn connect_timeout(target: impl ToTarget, timeout: Duration) -> io::Result<TcpStream> {
        let timeout = not_zero(timeout)?;
        let connection = abi::Connection::connect(&target.to_target()?, Some(timeout))?;
        Ok(TcpStream::new(connection))
    }

    /// The other side's address.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.connection.peer_addr()?)
    }

    /// This side's address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.connection.local_addr()?)
    }

    /// Ends one direction or both. After `Write` the peer sees the end of the stream once all sent bytes have arrived.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Ok(self.connection.shutdown(how)?)
    }

    /// Ends the connection now; one from a pool is discarded, not returned. Calls that other coroutines are inside give
    /// [`ErrorCode::Closed`].
    pub fn close(&self) {
        self.connection.close();
    }

    /// Turns TCP_NODELAY on or off; it starts on.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        Ok(self.connection.set_nodelay(nodelay)?)
    }

    /// How long a read may wait; none is without limit. One that runs out gives `TimedOut`, and no byte is lost.
    ///
    /// A timeout of zero is an error, as in std.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.read_timeout.set(timeout)
    }

    /// How long a write may wait; none is without limit. A timeout of zero is an error, as in std.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.write_timeout.set(timeout)
    }

    /// The read timeout.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.read_timeout.value())
    }

    /// The write timeout.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.write_timeout.value())
    }

    #[cfg(target_family = "wasm")]
    pub(crate) fn into_connection(self) -> abi::Connection {
        self.connection
    }
}

impl Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        Ok(self.connection.recv(buf, self.read_timeout.value())?)
    }
}

impl Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        Ok(self.connection.send(buf, self.write_timeout.value())?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nanoseconds; 0 is none.
#[derive(Debug)]
struct Timeout(AtomicU64);

impl Timeout {
    fn none() -> Timeout {
        Timeout(AtomicU64::new(0))
    }

    fn set(&self, timeout: Option<Duration>) -> io::Result<()> {
        let timeout = timeout.map(not_zero).transpose()?;
        self.0.store(timeout.map_or(0, abi::nanoseconds), Relaxed);
        Ok(())
    }

    fn value(&self) -> Option<Duration> {
        match self.0.load(Relaxed) {
            0 => None,
            nanoseconds => Some(Duration::from_nanos(nanoseconds)),
        }
    }
}

fn not_zero(timeout: Duration) -> io::Result<Duration> {
    if timeout.is_zero() { Err(ErrorCode::InvalidArgument.into()) } else { Ok(timeout) }
}
