//! The other reference: an echo server on io_uring as its authors recommend it.
//!
//! Multishot accept and multishot recv, each asked for once; buffers that the kernel picks from a ring; sends
//! from the very buffer that was received into, submitted together, with one system call for all that a turn
//! brings; direct descriptors; task work deferred to that call.
//!
//! For a benchmark, not for the world: a peer that sends much and reads nothing takes the others' buffers.

mod ring;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, anyhow};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use self::ring::{Chunk, Completion, Ring};
use super::{BACKLOG, raise_open_files};

/// A bound server, not yet accepting. It stays on its thread, as the ring does.
pub struct Server {
    ring: Ring,
    listener: OwnedFd,
    /// By slot.
    connections: Vec<Connection>,
    /// Slots that found no free buffer.
    starved: Vec<u32>,
}

#[derive(Default)]
struct Connection {
    /// Whether the kernel still receives on it.
    receiving: bool,
    /// A send failed: nothing more is sent, and it is closed when the receiving ends.
    broken: bool,
    /// Being sent is the first: one at a time, or they could overtake each other.
    unsent: VecDeque<Chunk>,
}

/// Whether this system lets us have an io_uring with all that the server needs.
pub fn is_available() -> bool {
    Ring::new(1).is_ok()
}

impl Server {
    /// Binds and listens.
    pub fn bind(address: SocketAddr) -> Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let listener = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_reuseaddr(&listener, true)?;
        // Accepted connections inherit it, and have no descriptor to set it on.
        sockopt::set_tcp_nodelay(&listener, true)?;
        bind(&listener, &address).with_context(|| format!("cannot listen on {address}"))?;
        listen(&listener, BACKLOG)?;
        let slots = raise_open_files()?.min(SLOTS_MAX) as u32;
        Ok(Self { ring: Ring::new(slots)?, listener, connections: Vec::new(), starved: Vec::new() })
    }

    /// Where it listens, with the real port.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        SocketAddr::try_from(getsockname(&self.listener)?).map_err(|_| anyhow!("not an IP socket"))
    }

    /// Serves until accepting fails.
    pub fn run(mut self) -> Result<()> {
        self.ring.accept(&self.listener)?;
        let mut completions = Vec::new();
        loop {
            self.ring.wait(&mut completions)?;
            for completion in completions.drain(..) {
                match completion {
                    Completion::Accepted { slot, more } => self.accepted(slot, more)?,
                    Completion::Received { slot, outcome, more } => self.received(slot, outcome, more)?,
                    Completion::Sent { slot, outcome } => self.sent(slot, outcome)?,
                }
            }
        }
    }

    fn accepted(&mut self, slot: Result<u32, Errno>, more: bool) -> Result<()> {
        match slot {
            Ok(slot) => {
                let index = slot as usize;
                if self.connections.len() <= index {
                    self.connections.resize_with(index + 1, Connection::default);
                }
                self.connections[index] = Connection { receiving: true, ..Connection::default() };
                self.ring.receive(slot)?;
            }
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error).context("accept"),
        }
        if more { Ok(()) } else { self.ring.accept(&self.listener) }
    }

    fn received(&mut self, slot: u32, outcome: Result<Option<Chunk>, Errno>, more: bool) -> Result<()> {
        let connection = &mut self.connections[slot as usize];
        connection.receiving = more;
        match outcome {
            Ok(Some(chunk)) if connection.broken => self.give_back(chunk)?,
            Ok(Some(chunk)) => {
                if connection.unsent.is_empty() {
                    self.ring.send(slot, &chunk)?;
                }
                connection.unsent.push_back(chunk);
                if !more {
                    connection.receiving = true;
                    self.ring.receive(slot)?;
                }
            }
            Err(Errno::NOBUFS) => {
                connection.receiving = true;
                // Some may have been given back since.
                if self.ring.has_free_buffers() {
                    self.ring.receive(slot)?;
                } else {
                    self.starved.push(slot);
                }
            }
            // The end of the stream, or of the connection.
            Ok(None) | Err(_) => {}
        }
        self.close_if_over(slot)
    }

    fn sent(&mut self, slot: u32, outcome: Result<u32, Errno>) -> Result<()> {
        let connection = &mut self.connections[slot as usize];
        let chunk = connection.unsent.pop_front().context("a send is done that was not begun")?;
        if outcome == Ok(chunk.len) {
            if let Some(next) = connection.unsent.front() {
                self.ring.send(slot, next)?;
            }
        } else {
            connection.broken = true;
            let unsent = std::mem::take(&mut connection.unsent);
            unsent.into_iter().try_for_each(|chunk| self.give_back(chunk))?;
            self.ring.shut_down(slot)?;
        }
        self.give_back(chunk)?;
        self.close_if_over(slot)
    }

    /// Gives a buffer back; those that found none before ask again.
    fn give_back(&mut self, chunk: Chunk) -> Result<()> {
        self.ring.give_back(chunk);
        while let Some(slot) = self.starved.pop() {
            self.ring.receive(slot)?;
        }
        Ok(())
    }

    /// Closes a connection that neither receives nor sends any more, so that no completion comes for it
    /// later.
    fn close_if_over(&mut self, slot: u32) -> Result<()> {
        let connection = &self.connections[slot as usize];
        if connection.receiving || !connection.unsent.is_empty() {
            return Ok(());
        }
        self.ring.close(slot)
    }
}

/// Connections at most; as many as files that may be open if that is less.
const SLOTS_MAX: u64 = 1 << 16;
