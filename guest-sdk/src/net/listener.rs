//! `TcpListener`.

use std::io;
use std::net::SocketAddr;

use super::{TcpStream, ToTarget};
use crate::{ErrorCode, abi};

/// A listening socket. Dropping it stops listening.
///
/// ```
/// use conet::net::{TcpListener, TcpStream};
///
/// let (here, there) = conet::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let client = TcpStream::connect(listener.local_addr()?)?;
///     let (server, peer) = listener.accept()?;
///     assert_eq!(server.peer_addr()?, peer);
///     std::io::Result::Ok((client.local_addr()?, peer))
/// })?;
/// assert_eq!(here, there);
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct TcpListener {
    listener: abi::Listener,
}

impl TcpListener {
    /// Listens on `address`, an IP address and a port; port 0 takes a free one.
    pub fn bind(address: impl ToTarget) -> io::Result<TcpListener> {
        let address = address.to_target()?.address()?;
        Ok(TcpListener { listener: abi::Listener::bind(address)? })
    }

    /// Waits for a connection; gives it with the peer's address.
    ///
    /// When the host is ending the error's code is [`ErrorCode::ShuttingDown`]: nothing more will come.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (connection, peer) = self.listener.accept()?;
        Ok((TcpStream::new(connection), peer))
    }

    /// The connections, as they come, until the host is ending.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { listener: self }
    }

    /// The address it listens on, with the real port.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }
}

/// The connections of a listener; made by [`TcpListener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a TcpListener,
}

impl Iterator for Incoming<'_> {
    type Item = io::Result<TcpStream>;

    fn next(&mut self) -> Option<io::Result<TcpStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Some(Ok(stream)),
            Err(error) if ErrorCode::of(&error) == Some(ErrorCode::ShuttingDown) => None,
            Err(error) => Some(Err(error)),
        }
    }
}
