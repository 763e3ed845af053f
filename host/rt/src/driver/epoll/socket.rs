//! One socket of the epoll driver: what is in flight on it, and which tries may succeed.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::task::Poll;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SocketFlags};

use super::inbox::{CHUNK_BYTES_MAX, Chunk, Inbox};
use crate::buf::Buf;
use crate::driver::writing::{Write, Writing, again};
use crate::driver::{Kind, Op, Outcome};
use crate::key::{Direction, SocketKey};

/// A socket and its operations in flight.
pub(super) struct Socket {
    pub(super) key: SocketKey,
    pub(super) fd: OwnedFd,
    pub(super) kind: Kind,
    /// Whether epoll knows it.
    pub(super) registered: bool,
    /// Accepts since it last had to wait.
    pub(super) accepted: u8,
    /// A read may succeed now.
    readable: bool,
    /// The peer has closed, or sent urgent data: a short read says nothing any more.
    unusual: bool,
    /// The last message received was no small one.
    bulky: bool,
    read: Option<Read>,
    writing: Writing,
}

enum Read {
    Accept,
    Recv(usize),
    /// A recv that is complete, but for its task to take it.
    Received(Result<Chunk, Errno>),
}

impl Socket {
    pub(super) fn new(key: SocketKey, fd: OwnedFd, kind: Kind) -> Socket {
        Socket {
            key,
            fd,
            kind,
            registered: false,
            accepted: 0,
            readable: true,
            unusual: false,
            bulky: false,
            read: None,
            writing: Writing::new(),
        }
    }

    /// The events to register for.
    pub(super) fn interest(&self) -> EventFlags {
        match self.kind {
            Kind::Stream => {
                EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::PRI | EventFlags::ET
            }
            Kind::Listener => EventFlags::IN | EventFlags::ET | EventFlags::EXCLUSIVE,
        }
    }

    /// Remembers what epoll says.
    pub(super) fn note(&mut self, flags: EventFlags) {
        let over = EventFlags::ERR | EventFlags::HUP;
        self.accepted = 0;
        self.unusual |= flags.intersects(over | EventFlags::RDHUP | EventFlags::PRI);
        self.readable |= flags.intersects(over | EventFlags::IN | EventFlags::RDHUP | EventFlags::PRI);
        if flags.intersects(over | EventFlags::OUT) {
            self.writing.note_writable();
        }
    }

    pub(super) fn start(&mut self, op: Op) {
        match op {
            Op::Accept => self.read = Some(Read::Accept),
            Op::Recv(max) => self.read = Some(Read::Recv(max)),
            Op::Connect(address) => self.writing.start(Write::Connect(Some(address))),
            Op::Send(data) => self.writing.start(Write::Send(data)),
        }
    }

    /// Ends an operation; gives what it has come to all the same.
    pub(super) fn stop(&mut self, direction: Direction, inbox: &mut Inbox) -> Option<io::Result<Outcome>> {
        match direction {
            Direction::Read => match self.read.take()? {
                Read::Received(result) => Some(received(result, inbox)),
                Read::Accept | Read::Recv(_) => None,
            },
            Direction::Write => {
                self.writing.stop();
                None
            }
        }
    }

    /// Sends all of it: now as much as goes, the rest as an operation in flight.
    pub(super) fn send_all(&mut self, data: &[u8]) -> Poll<io::Result<()>> {
        self.writing.send_all(&self.fd, data)
    }

    pub(super) fn is_waiting(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.read.is_some(),
            Direction::Write => self.writing.is_waiting(),
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.read.is_none() && !self.writing.is_waiting()
    }

    pub(super) fn may_try(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.readable,
            Direction::Write => self.writing.may_try(),
        }
    }

    /// Whether the operation in flight may come to something now.
    pub(super) fn is_due(&self, direction: Direction) -> bool {
        match (direction, &self.read) {
            (Direction::Read, Some(Read::Received(_))) => true,
            _ => self.is_waiting(direction) && self.may_try(direction),
        }
    }

    /// Receives a small message before its task asks, while the kernel's code is at hand.
    pub(super) fn receive_early(&mut self, inbox: &mut Inbox) {
        let Some(Read::Recv(max)) = self.read else { return };
        if !self.readable || self.bulky {
            return;
        }
        let Some(space) = inbox.space() else { return };
        let wanted = max.min(space.len());
        let received = again(|| net::recv(&self.fd, &mut space[..wanted], RecvFlags::empty()));
        let received = received.map(|(len, _)| len);
        if let Err(Errno::AGAIN) = received {
            self.readable = false;
            return;
        }
        self.read = Some(Read::Received(received.map(|len| {
            self.note_received(len, wanted);
            inbox.keep(len)
        })));
    }

    /// Whether this is an accept that should first let other work run.
    pub(super) fn accepted_enough(&self, op: &Op) -> bool {
        matches!(op, Op::Accept) && self.accepted >= ACCEPTS_MAX
    }

    /// Whether this is a listener that has accepted since it was told of connections, all that there were.
    pub(super) fn has_had_its_turn(&self) -> bool {
        self.kind == Kind::Listener && self.accepted > 0 && !self.readable
    }

    /// Carries out the operation in flight, if it may succeed and does.
    pub(super) fn attempt(&mut self, direction: Direction, inbox: &mut Inbox) -> Poll<io::Result<Outcome>> {
        if !self.is_due(direction) {
            return Poll::Pending;
        }
        if direction == Direction::Write {
            return self.writing.attempt(&self.fd);
        }
        let result = match self.read {
            Some(Read::Recv(max)) => self.recv(max),
            Some(Read::Accept) => self.accept(),
            Some(Read::Received(_)) | None => {
                return self.stop(direction, inbox).map_or(Poll::Pending, Poll::Ready);
            }
        };
        if let Err(Errno::AGAIN) = result {
            return Poll::Pending;
        }
        self.stop(direction, inbox);
        Poll::Ready(result.map_err(io::Error::from))
    }

    fn recv(&mut self, max: usize) -> Result<Outcome, Errno> {
        let mut buf = Buf::lend();
        let space = buf.spare(max);
        let len = again(|| net::recv(&self.fd, &mut *space, RecvFlags::empty())).map(|(len, _)| len);
        let len = len.inspect_err(|error| self.readable = *error != Errno::AGAIN)?;
        self.note_received(len, max);
        Ok(Outcome::Received(buf.filled(len)))
    }

    fn note_received(&mut self, len: usize, wanted: usize) {
        // At the end of the stream every further read gives it again.
        self.readable = len == wanted || len == 0 || self.unusual;
        self.bulky = len >= CHUNK_BYTES_MAX;
    }

    fn accept(&mut self) -> Result<Outcome, Errno> {
        if self.accepted >= ACCEPTS_MAX {
            return Err(Errno::AGAIN);
        }
        let accepted = again(|| net::acceptfrom_with(&self.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC));
        let (fd, address) = accepted.inspect_err(|error| self.readable = *error != Errno::AGAIN)?;
        self.accepted += 1;
        let address =
            address.and_then(|address| SocketAddr::try_from(address).ok()).ok_or(Errno::AFNOSUPPORT)?;
        Ok(Outcome::Accepted(fd, address))
    }
}

/// What an early recv came to.
fn received(result: Result<Chunk, Errno>, inbox: &mut Inbox) -> io::Result<Outcome> {
    Ok(Outcome::Received(inbox.take(result?)))
}

/// Connections accepted on a listener before other work runs.
const ACCEPTS_MAX: u8 = 16;
