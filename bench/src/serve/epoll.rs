//! The reference every ratio is taken against: an echo server that is nothing but its system calls.
//!
//! Edge-triggered with one registration per socket, which measured no slower than level-triggered; a read
//! that does not fill the buffer has consumed the edge, so a message costs one recv and one send. `epoll.c`
//! is the same loop in C.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, anyhow};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, getsockname, listen,
    recv, send, socket_with, sockopt,
};

use super::{BACKLOG, BUFFER_BYTES, DISCARD_BYTES, Service};

/// A bound server, not yet accepting.
pub struct Server {
    epoll: OwnedFd,
    listener: OwnedFd,
    /// By file descriptor, which the kernel keeps small.
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
    service: Service,
}

struct Connection {
    socket: OwnedFd,
    /// Received and not yet taken by the kernel; nothing more is received meanwhile.
    unsent: Vec<u8>,
}

/// What became of a connection after an event.
enum Next {
    Wait,
    Close,
}

impl Server {
    /// Binds and listens.
    pub fn bind(address: SocketAddr, service: Service) -> Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let listener = socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        bind(&listener, &address).with_context(|| format!("cannot listen on {address}"))?;
        listen(&listener, BACKLOG)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN | EventFlags::ET)?;
        let bytes = if service == Service::Echo { BUFFER_BYTES } else { DISCARD_BYTES };
        Ok(Self { epoll, listener, connections: Vec::new(), buffer: vec![0; bytes], service })
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        SocketAddr::try_from(getsockname(&self.listener)?).map_err(|_| anyhow!("not an IP socket"))
    }

    /// Serves until accepting fails.
    pub fn run(mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    fd => self.serve(fd as usize, event.flags),
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error).context("accept"),
            };
            sockopt::set_tcp_nodelay(&socket, true)?;
            let fd = socket.as_raw_fd() as usize;
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &socket, EventData::new_u64(fd as u64), interest)?;
            if self.connections.len() <= fd {
                self.connections.resize_with(fd + 1, || None);
            }
            self.connections[fd] = Some(Connection { socket, unsent: Vec::new() });
        }
    }

    fn serve(&mut self, fd: usize, flags: EventFlags) {
        let Some(connection) = &mut self.connections[fd] else { return };
        if flags == EventFlags::OUT && connection.unsent.is_empty() {
            return;
        }
        let ending = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let next = match self.service {
            Service::Echo => connection.echo(&mut self.buffer, ending),
            Service::Discard => connection.discard(&mut self.buffer, ending),
        };
        if let Ok(Next::Close) | Err(_) = next {
            self.connections[fd] = None;
        }
    }
}

impl Connection {
    /// Echoes until the socket has nothing more to read or takes nothing more.
    fn echo(&mut self, buffer: &mut [u8], ending: bool) -> Result<Next, Errno> {
        loop {
            if !self.flush()? {
                return Ok(Next::Wait);
            }
            let received = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Ok(Next::Close),
                Ok((received, _)) => received,
                Err(Errno::AGAIN) => return Ok(Next::Wait),
                Err(error) => return Err(error),
            };
            let sent = match send(&self.socket, &buffer[..received], SendFlags::NOSIGNAL) {
                Err(Errno::AGAIN) => 0,
                sent => sent?,
            };
            self.unsent.extend_from_slice(&buffer[sent..received]);
            // An end of stream behind these bytes makes no edge of its own.
            if sent == received && received < buffer.len() && !ending {
                return Ok(Next::Wait);
            }
        }
    }

    /// Receives until the socket has nothing more.
    fn discard(&mut self, buffer: &mut [u8], ending: bool) -> Result<Next, Errno> {
        loop {
            match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Ok(Next::Close),
                Ok((received, _)) if received < buffer.len() && !ending => return Ok(Next::Wait),
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(Next::Wait),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what is left over. False: some still is.
    fn flush(&mut self) -> Result<bool, Errno> {
        while !self.unsent.is_empty() {
            match send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// The listener's event key; no file descriptor is as large.
const LISTENER: u64 = u64::MAX;

/// Events taken per wait.
const EVENTS: usize = 1024;
