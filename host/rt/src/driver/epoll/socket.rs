//! One socket of the epoll driver: what is in flight on it, and which tries may succeed.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::task::Poll;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, SocketFlags, sockopt};

use super::inbox::{CHUNK_BYTES_MAX, Chunk, Inbox};
use crate::buf::Buf;
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
    /// A write may succeed now.
    writable: bool,
    /// The peer has closed, or sent urgent data: a short read says nothing any more.
    unusual: bool,
    /// The last message received was no small one.
    bulky: bool,
    read: Option<Read>,
    write: Option<Write>,
}

enum Read {
    Accept,
    Recv(usize),
    /// A recv that is complete, but for its task to take it.
    Received(Result<Chunk, Errno>),
}

enum Write {
    /// The address, until the attempt has begun.
    Connect(Option<SocketAddr>),
    Send(Vec<u8>),
    /// All of it is to be sent; so many bytes are.
    SendAll(Vec<u8>, usize),
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
            writable: true,
            unusual: false,
            bulky: false,
            read: None,
            write: None,
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
        self.writable |= flags.intersects(over | EventFlags::OUT);
    }

    pub(super) fn start(&mut self, op: Op) {
        match op {
            Op::Accept => self.read = Some(Read::Accept),
            Op::Recv(max) => self.read = Some(Read::Recv(max)),
            Op::Connect(address) => self.write = Some(Write::Connect(Some(address))),
            Op::Send(data) => self.write = Some(Write::Send(data)),
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
                self.write = None;
                None
            }
        }
    }

    /// Sends all of it: now as much as goes, the rest as an operation in flight.
    pub(super) fn send_all(&mut self, data: &[u8]) -> Poll<io::Result<()>> {
        let sent = match again(|| net::send(&self.fd, data, SendFlags::NOSIGNAL)) {
            Ok(sent) if sent == data.len() => return Poll::Ready(Ok(())),
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(error) => return Poll::Ready(Err(error.into())),
        };
        self.writable = false;
        self.write = Some(Write::SendAll(data[sent..].to_vec(), 0));
        Poll::Pending
    }

    pub(super) fn is_waiting(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.read.is_some(),
            Direction::Write => self.write.is_some(),
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.read.is_none() && self.write.is_none()
    }

    pub(super) fn may_try(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.readable,
            Direction::Write => self.writable,
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
        let result = match direction {
            Direction::Read => match self.read {
                Some(Read::Recv(max)) => self.recv(max),
                Some(Read::Accept) => self.accept(),
                Some(Read::Received(_)) | None => {
                    return self.stop(direction, inbox).map_or(Poll::Pending, Poll::Ready);
                }
            },
            Direction::Write => match &mut self.write {
                Some(Write::Send(_)) => self.send(),
                Some(Write::SendAll(..)) => self.go_on_sending(),
                Some(Write::Connect(address)) => match address.take() {
                    Some(address) => self.begin_connect(address),
                    None => self.finish_connect(),
                },
                None => return Poll::Pending,
            },
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

    fn send(&mut self) -> Result<Outcome, Errno> {
        let Some(Write::Send(data)) = &self.write else { return Err(Errno::AGAIN) };
        let taken = again(|| net::send(&self.fd, data, SendFlags::NOSIGNAL));
        let taken = taken.inspect_err(|error| self.writable = *error != Errno::AGAIN)?;
        self.writable = taken == data.len();
        Ok(Outcome::Sent(taken))
    }

    fn go_on_sending(&mut self) -> Result<Outcome, Errno> {
        let Some(Write::SendAll(data, sent)) = &mut self.write else { return Err(Errno::AGAIN) };
        while *sent < data.len() {
            let taken = again(|| net::send(&self.fd, &data[*sent..], SendFlags::NOSIGNAL));
            *sent += taken.inspect_err(|error| self.writable = *error != Errno::AGAIN)?;
        }
        Ok(Outcome::Sent(*sent))
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

    fn begin_connect(&mut self, address: SocketAddr) -> Result<Outcome, Errno> {
        match net::connect(&self.fd, &address) {
            Ok(()) => Ok(Outcome::Connected),
            Err(Errno::INPROGRESS | Errno::INTR) => {
                self.writable = false;
                Err(Errno::AGAIN)
            }
            // As a refusal on the spot: there is no local port left, or no memory.
            Err(Errno::AGAIN) => Err(Errno::ADDRNOTAVAIL),
            Err(error) => Err(error),
        }
    }

    fn finish_connect(&mut self) -> Result<Outcome, Errno> {
        sockopt::socket_error(&self.fd)??;
        match net::getpeername(&self.fd) {
            Ok(_) => Ok(Outcome::Connected),
            Err(Errno::NOTCONN) => {
                self.writable = false;
                Err(Errno::AGAIN)
            }
            Err(error) => Err(error),
        }
    }
}

/// What an early recv came to.
fn received(result: Result<Chunk, Errno>, inbox: &mut Inbox) -> io::Result<Outcome> {
    Ok(Outcome::Received(inbox.take(result?)))
}

/// Repeats what a signal has interrupted.
fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Connections accepted on a listener before other work runs.
const ACCEPTS_MAX: u8 = 16;
