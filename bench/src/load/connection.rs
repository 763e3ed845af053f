//! One connection of the generator: bytes owed, sent and received.

use std::collections::VecDeque;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, getsockname, recv, send,
    socket_with, sockopt,
};

use super::pattern::{PERIOD, Pattern};

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// An echo server.
    Server(SocketAddr),
    /// Nobody: each connection is connected to itself, which TCP allows.
    Null,
}

/// Why a connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server closed it.
    Closed,
    /// Something else came back than was sent, at this position of the stream or just behind it.
    WrongBytes { position: u64 },
    /// A system call failed.
    System(Errno),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the server"),
            Self::WrongBytes { .. } => f.write_str("wrong bytes"),
            Self::System(errno) => errno.fmt(f),
        }
    }
}

pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// Where in the pattern this connection's stream starts: no two alike, so that bytes which crossed over
    /// are seen.
    offset: u64,
    /// Bytes of all requests so far.
    due: u64,
    sent: u64,
    received: u64,
    /// When each unanswered request was meant to start, oldest first.
    starts: VecDeque<Instant>,
    answered: u64,
    /// False while connecting, and once the socket takes no more, until the kernel says that it does.
    writable: bool,
}

impl Connection {
    /// Starts to connect.
    pub(super) fn open(peer: Peer, number: usize) -> Result<Self, Errno> {
        let address = match peer {
            Peer::Server(address) => address,
            Peer::Null => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        };
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if peer == Peer::Null {
            reset_when_dropped(&socket)?;
        }
        let connected = match peer {
            Peer::Server(address) => connect(&socket, &address),
            Peer::Null => {
                bind(&socket, &address)?;
                connect(&socket, &getsockname(&socket)?)
            }
        };
        match connected {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(Self {
            socket,
            offset: (number * 7919 % PERIOD) as u64,
            due: 0,
            sent: 0,
            received: 0,
            starts: VecDeque::new(),
            answered: 0,
            writable: false,
        })
    }

    /// Makes its end a reset, which leaves no local port waiting.
    pub(super) fn reset_when_dropped(&self) -> Result<(), Errno> {
        reset_when_dropped(&self.socket)
    }

    /// Adds a request of `size` bytes, to be sent by [`Self::flush`].
    pub(super) fn request(&mut self, start: Instant, size: usize) {
        self.due += size as u64;
        self.starts.push_back(start);
    }

    /// The kernel takes bytes again.
    pub(super) fn writable(&mut self) {
        self.writable = true;
    }

    /// Sends what is due, as far as the kernel takes it.
    pub(super) fn flush(&mut self, pattern: &Pattern) -> Result<(), Fault> {
        while self.writable && self.sent < self.due {
            let part = pattern.part(self.offset + self.sent, self.due - self.sent);
            match send(&self.socket, part, SendFlags::NOSIGNAL) {
                Ok(sent) => self.sent += sent as u64,
                Err(Errno::AGAIN) => self.writable = false,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Receives once and checks it; gives how many bytes, none if the socket is empty.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        pattern: &Pattern,
        full: bool,
    ) -> Result<usize, Fault> {
        let received = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
            Ok((0, _)) => return Err(Fault::Closed),
            Ok((received, _)) => received,
            Err(Errno::AGAIN) => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let position = self.received;
        self.received += received as u64;
        let unasked = self.received > self.sent;
        if unasked || !pattern.matches(self.offset + position, &buffer[..received], full) {
            return Err(Fault::WrongBytes { position });
        }
        Ok(received)
    }

    /// Takes a request of `size` bytes that has been answered whole; gives when it was meant to start.
    pub(super) fn take_answered(&mut self, size: usize) -> Option<Instant> {
        if self.received < (self.answered + 1) * size as u64 {
            return None;
        }
        self.answered += 1;
        self.starts.pop_front()
    }

    /// When each unanswered request was meant to start.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = Instant> {
        self.starts.iter().copied()
    }

    /// Requests not yet answered.
    pub(super) fn in_flight(&self) -> usize {
        self.starts.len()
    }
}

fn reset_when_dropped(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_socket_linger(socket, Some(Duration::ZERO))
}
