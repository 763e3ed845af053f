//! One socket: who waits on it, and what is kept for its next user.

use std::os::fd::OwnedFd;

use slab::Slab;

use super::left::Left;
use super::slot::{Flight, Slot};
use crate::driver::Kind;
use crate::key::{Direction, SocketKey};
use crate::room;

/// A socket of a worker.
pub(super) struct Socket {
    pub(super) key: SocketKey,
    pub(super) kind: Kind,
    /// Closed on this side; what is in flight is still to end.
    pub(super) closing: bool,
    pub(super) read: Slot,
    pub(super) write: Slot,
    pub(super) left: Left,
    /// Some of its bytes are in the outbox.
    pub(super) unsent: bool,
    /// At least so much the kernel will still take of it at once.
    pub(super) room: usize,
    /// Nothing more is to be sent. If a rest is in flight, the peer is told when it has left.
    pub(super) ending: bool,
}

/// The socket of this key, if it is open.
pub(super) fn open(sockets: &mut Slab<Socket>, key: SocketKey) -> Option<&mut Socket> {
    sockets.get_mut(key.index as usize).filter(|socket| socket.key == key && !socket.closing)
}

impl Socket {
    pub(super) fn slot(&mut self, direction: Direction) -> (&mut Slot, &mut Left) {
        match direction {
            Direction::Read => (&mut self.read, &mut self.left),
            Direction::Write => (&mut self.write, &mut self.left),
        }
    }

    /// Nothing is in flight.
    pub(super) fn is_quiet(&self) -> bool {
        self.read.flight == Flight::None && self.write.flight == Flight::None
    }

    /// Nor does anyone wait.
    pub(super) fn is_unused(&self) -> bool {
        self.read.is_idle() && self.write.is_idle()
    }
}

/// A socket that leaves its worker, with what was received for it and not yet asked for.
#[derive(Debug)]
pub(crate) struct Detached {
    pub(crate) fd: OwnedFd,
    pub(super) room: usize,
    pub(super) left: Left,
    /// Nothing more is to be sent.
    pub(super) ending: bool,
}

impl Detached {
    pub(crate) fn new(fd: OwnedFd) -> Detached {
        Detached { fd, room: 0, left: Left::default(), ending: false }
    }

    /// One on which nothing has been sent.
    pub(crate) fn fresh(fd: OwnedFd) -> Detached {
        Detached { room: room::NEW_BYTES, ..Detached::new(fd) }
    }

    /// Whether there is nothing to it but its descriptor.
    pub(crate) fn is_plain(&self) -> bool {
        self.left.is_nothing()
    }
}
