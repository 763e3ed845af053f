//! The writing side of a socket: the system call is tried, and readiness awaited only after `EAGAIN`.
//!
//! The kernel is never left with a buffer here, so a cancelled write has done nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::task::Poll;

use rustix::io::Errno;
use rustix::net::{self, SendFlags, sockopt};

use super::Outcome;

/// What is in flight, and whether a try may succeed.
pub(super) struct Writing {
    write: Option<Write>,
    /// A write may succeed now.
    writable: bool,
}

/// What is to be written.
pub(super) enum Write {
    /// The address, until the attempt has begun.
    Connect(Option<SocketAddr>),
    Send(Vec<u8>),
    /// All of it is to be sent; so many bytes are.
    SendAll(Vec<u8>, usize),
}

impl Writing {
    pub(super) fn new() -> Writing {
        Writing { write: None, writable: true }
    }

    pub(super) fn start(&mut self, write: Write) {
        self.write = Some(write);
    }

    /// Ends what is in flight.
    pub(super) fn stop(&mut self) {
        self.write = None;
    }

    /// The socket is ready.
    pub(super) fn note_writable(&mut self) {
        self.writable = true;
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.write.is_some()
    }

    pub(super) fn may_try(&self) -> bool {
        self.writable
    }

    /// Whether what is in flight may come to something now.
    pub(super) fn is_due(&self) -> bool {
        self.is_waiting() && self.writable
    }

    /// Sends all of it: now as much as goes, the rest as an operation in flight.
    pub(super) fn send_all(&mut self, fd: &OwnedFd, data: &[u8]) -> Poll<io::Result<()>> {
        let sent = match again(|| net::send(fd, data, SendFlags::NOSIGNAL)) {
            Ok(sent) if sent == data.len() => return Poll::Ready(Ok(())),
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        self.writable = false;
        self.write = Some(Write::SendAll(data[sent..].to_vec(), 0));
        Poll::Pending
    }

    /// Carries out what is in flight, if it may succeed and does.
    pub(super) fn attempt(&mut self, fd: &OwnedFd) -> Poll<io::Result<Outcome>> {
        if !self.is_due() {
            return Poll::Pending;
        }
        let result = match &mut self.write {
            Some(Write::Send(data)) => send(fd, data),
            Some(Write::SendAll(data, sent)) => go_on_sending(fd, data, sent),
            Some(Write::Connect(address)) => match address.take() {
                Some(address) => begin_connect(fd, address),
                None => finish_connect(fd),
            },
            None => return Poll::Pending,
        };
        if let Err(Errno::AGAIN) = result {
            self.writable = false;
            return Poll::Pending;
        }
        if let (Ok(Outcome::Sent(taken)), Some(Write::Send(data))) = (&result, &self.write) {
            self.writable = *taken == data.len();
        }
        self.write = None;
        Poll::Ready(result.map_err(io::Error::from))
    }
}

fn send(fd: &OwnedFd, data: &[u8]) -> Result<Outcome, Errno> {
    again(|| net::send(fd, data, SendFlags::NOSIGNAL)).map(Outcome::Sent)
}

fn go_on_sending(fd: &OwnedFd, data: &[u8], sent: &mut usize) -> Result<Outcome, Errno> {
    while *sent < data.len() {
        *sent += again(|| net::send(fd, &data[*sent..], SendFlags::NOSIGNAL))?;
    }
    Ok(Outcome::Sent(*sent))
}

fn begin_connect(fd: &OwnedFd, address: SocketAddr) -> Result<Outcome, Errno> {
    match net::connect(fd, &address) {
        Ok(()) => Ok(Outcome::Connected),
        Err(Errno::INPROGRESS | Errno::INTR) => Err(Errno::AGAIN),
        // As a refusal on the spot: there is no local port left, or no memory.
        Err(Errno::AGAIN) => Err(Errno::ADDRNOTAVAIL),
        Err(error) => Err(error),
    }
}

fn finish_connect(fd: &OwnedFd) -> Result<Outcome, Errno> {
    sockopt::socket_error(fd)??;
    match net::getpeername(fd) {
        Ok(_) => Ok(Outcome::Connected),
        Err(Errno::NOTCONN) => Err(Errno::AGAIN),
        Err(error) => Err(error),
    }
}

/// Repeats what a signal has interrupted.
pub(super) fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
