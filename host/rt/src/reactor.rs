//! The sockets and timers of one worker: who waits for what, and what becomes of operations nobody waits for any more.

mod slot;
mod upcoming;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, Shutdown, sockopt};
use slab::Slab;

use crate::driver::{Cancel, Driver, Kind, Op, Outcome};
use crate::error;
use crate::key::{Direction, OpKey, SocketKey};
use crate::prefetch;
use crate::timer::{TimerKey, Timers};
use slot::{Flight, Slot};
use upcoming::Upcoming;

/// Maps completions to futures.
pub(crate) struct Reactor {
    driver: Driver,
    /// A closed socket stays until nothing is in flight on it.
    sockets: Slab<Socket>,
    pub(crate) timers: Timers,
    /// Generation of the next socket.
    generation: u32,
    /// Ticket of the next operation; 0 stands for none.
    ticket: u32,
    /// What the last wait announced.
    announced: Vec<OpKey>,
    /// Kept only while there are many sockets.
    upcoming: Upcoming,
    /// To be woken once the reactor is not borrowed.
    pub(crate) woken: Vec<Waker>,
    /// To be dropped then.
    pub(crate) discarded: Vec<Waker>,
}

struct Socket {
    key: SocketKey,
    kind: Kind,
    /// Closed on this side; what is in flight is still to end.
    closing: bool,
    read: Slot,
    write: Slot,
    /// What a cancelled read came to all the same: the next one gets it.
    kept: Option<Box<io::Result<Outcome>>>,
}

impl Reactor {
    pub(crate) fn new(driver: Driver) -> Reactor {
        Reactor {
            driver,
            sockets: Slab::new(),
            timers: Timers::default(),
            generation: 0,
            ticket: 0,
            announced: Vec::new(),
            upcoming: Upcoming::default(),
            woken: Vec::new(),
            discarded: Vec::new(),
        }
    }

    /// Takes a non-blocking socket over.
    pub(crate) fn register(&mut self, fd: OwnedFd, kind: Kind) -> SocketKey {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.sockets.vacant_entry();
        // No machine has 2^32 descriptors, so the index fits.
        let key = SocketKey { index: entry.key() as u32, generation: self.generation };
        let (read, write) = Default::default();
        entry.insert(Socket { key, kind, closing: false, read, write, kept: None });
        self.driver.register(key, fd, kind);
        key
    }

    /// Polls an operation. `op` is its request until it is submitted, `ticket` says that its place is taken.
    pub(crate) fn poll(
        &mut self,
        key: OpKey,
        ticket: &mut u32,
        op: &mut Option<Op>,
        waker: &Waker,
    ) -> Poll<io::Result<Outcome>> {
        let Some(socket) = open(&mut self.sockets, key.socket) else {
            return Poll::Ready(Err(error::closed()));
        };
        let (slot, kept) = socket.slot(key.direction);
        if *ticket == NO_TICKET {
            if slot.owner != NO_TICKET {
                return Poll::Ready(Err(error::busy()));
            }
            self.ticket = self.ticket.wrapping_add(1).max(1);
            (*ticket, slot.owner) = (self.ticket, self.ticket);
        }
        debug_assert!(slot.owner == *ticket, "an operation lost its place");
        let first = slot.flight == Flight::None;
        let polled = match (slot.flight, op.take()) {
            (Flight::None, Some(request)) => match take_kept(kept, &request) {
                Some(result) => Poll::Ready(result),
                None => self.driver.submit(key, request),
            },
            (Flight::Owned, None) => self.driver.take(key),
            // What a cancelled one left must end first: the bytes are in order, and there is one buffer.
            (Flight::Orphan, request @ Some(_)) => {
                *op = request;
                self.discarded.extend(slot.wait(waker));
                return Poll::Pending;
            }
            (flight, request) => unreachable!("{flight:?} with {request:?}"),
        };
        match polled {
            Poll::Pending => {
                slot.flight = Flight::Owned;
                if first {
                    slot.stack = prefetch::here();
                }
                self.discarded.extend(slot.wait(waker));
            }
            Poll::Ready(_) => {
                if slot.flight == Flight::Owned {
                    self.upcoming.taken(slot.turn);
                }
                slot.flight = Flight::None;
                slot.owner = NO_TICKET;
                *ticket = NO_TICKET;
                self.discarded.extend(slot.waker.take());
            }
        }
        polled
    }

    /// Ends an operation whose future is gone.
    pub(crate) fn cancel(&mut self, key: OpKey, ticket: u32) {
        let Some(socket) = open(&mut self.sockets, key.socket) else { return };
        let (slot, kept) = socket.slot(key.direction);
        if slot.owner != ticket {
            return;
        }
        slot.owner = NO_TICKET;
        self.discarded.extend(slot.waker.take());
        if slot.flight == Flight::Owned {
            slot.flight = Flight::None;
            match self.driver.cancel(key) {
                Cancel::Gone => {}
                Cancel::Done(result) => keep(key, result, kept),
                Cancel::Later => slot.flight = Flight::Orphan,
            }
        }
    }

    /// Closes a socket: what waits on it ends with `closed`, and its descriptor goes when nothing is in flight.
    pub(crate) fn close(&mut self, key: SocketKey) {
        if self.end(key) == Some(Kind::Stream) {
            // The peer need not wait for what is in flight here. This fails if it is not connected: just as well.
            let _ = rustix::net::shutdown(self.driver.fd(key), Shutdown::Both);
        }
    }

    /// Closes a connection abruptly: the peer gets a reset, not the end of the stream.
    pub(crate) fn reset(&mut self, key: SocketKey) {
        if let Ok(fd) = self.fd(key) {
            // It cannot fail on a socket of ours; if it did, the peer would get the end instead.
            let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
        }
        self.end(key);
    }

    /// Closes a socket; tells its kind if it stays open for what is in flight.
    fn end(&mut self, key: SocketKey) -> Option<Kind> {
        let socket = open(&mut self.sockets, key)?;
        socket.closing = true;
        socket.kept = None;
        for direction in [Direction::Read, Direction::Write] {
            let (slot, _) = socket.slot(direction);
            self.woken.extend(slot.waker.take());
            if slot.flight == Flight::Owned {
                slot.flight = match self.driver.cancel(OpKey { socket: key, direction }) {
                    Cancel::Gone | Cancel::Done(_) => Flight::None,
                    Cancel::Later => Flight::Orphan,
                };
            }
        }
        if !socket.is_quiet() {
            return Some(socket.kind);
        }
        self.remove(key);
        None
    }

    /// Gives the descriptor back, unless something is in flight or undelivered.
    pub(crate) fn deregister(&mut self, key: SocketKey) -> io::Result<OwnedFd> {
        let socket = open(&mut self.sockets, key).ok_or_else(error::closed)?;
        if !socket.is_idle() {
            return Err(error::busy());
        }
        Ok(self.remove(key))
    }

    /// Whether a pooled connection may be used again: nothing in flight, nothing unread, open.
    pub(crate) fn is_idle(&mut self, key: SocketKey) -> bool {
        let Some(socket) = open(&mut self.sockets, key) else { return false };
        let mut byte = [0u8];
        let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        socket.is_idle()
            && rustix::net::recv(self.driver.fd(key), &mut byte, peek) == Err(rustix::io::Errno::AGAIN)
    }

    /// The descriptor of an open socket, for calls that never wait.
    pub(crate) fn fd(&mut self, key: SocketKey) -> io::Result<BorrowedFd<'_>> {
        open(&mut self.sockets, key).ok_or_else(error::closed)?;
        Ok(self.driver.fd(key))
    }

    /// Whether a send is in flight, its owner gone or not.
    pub(crate) fn is_sending(&mut self, key: SocketKey) -> bool {
        open(&mut self.sockets, key).is_some_and(|socket| !socket.write.is_idle())
    }

    /// Makes a timer wake another task; false if it has fired.
    pub(crate) fn renew(&mut self, key: TimerKey, waker: &Waker) -> bool {
        let Some(known) = self.timers.waker(key) else { return false };
        if !known.will_wake(waker) {
            self.discarded.push(std::mem::replace(known, waker.clone()));
        }
        true
    }

    /// A connection may wait on this listener.
    pub(crate) fn nudge(&mut self, key: SocketKey) {
        if open(&mut self.sockets, key).is_some() {
            self.driver.nudge(key);
        }
    }

    /// Waits for completions and timers, and moves those to wake into `woken`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) {
        let timeout = match self.timers.timeout(Instant::now) {
            Some(first) => Some(timeout.map_or(first, |timeout| timeout.min(first))),
            None => timeout,
        };
        let mut announced = std::mem::take(&mut self.announced);
        self.driver.wait(timeout, &mut announced);
        for key in announced.drain(..) {
            self.announce(key);
        }
        self.announced = announced;
        if !self.timers.is_empty() {
            self.timers.fire(Instant::now(), &mut self.woken);
        }
    }

    fn announce(&mut self, key: OpKey) {
        let many = self.sockets.len() >= SOCKETS_MANY;
        // A socket may have been closed, and its place taken by another, since the driver saw this.
        let Some(socket) = self.sockets.get_mut(key.socket.index as usize) else { return };
        if socket.key != key.socket {
            return;
        }
        let closing = socket.closing;
        let (slot, kept) = socket.slot(key.direction);
        if slot.flight == Flight::Orphan {
            let Poll::Ready(result) = self.driver.take(key) else { return };
            slot.flight = Flight::None;
            if !closing {
                keep(key, result, kept);
            }
        }
        if let Some(waker) = slot.waker.take() {
            if many {
                slot.turn = self.upcoming.push(slot.stack);
            }
            self.woken.push(waker);
        }
        if closing && socket.is_quiet() {
            self.remove(key.socket);
        }
    }

    fn remove(&mut self, key: SocketKey) -> OwnedFd {
        self.sockets.remove(key.index as usize);
        self.driver.deregister(key)
    }
}

impl Drop for Reactor {
    /// Waits for what is in flight, so that no buffer or descriptor goes while it is used.
    fn drop(&mut self) {
        let open: Vec<SocketKey> = self.sockets.iter().map(|(_, socket)| socket.key).collect();
        for key in open {
            self.close(key);
        }
        while !self.sockets.is_empty() {
            let mut announced = Vec::new();
            self.driver.wait(None, &mut announced);
            for key in announced {
                self.announce(key);
            }
        }
    }
}

impl Socket {
    fn slot(&mut self, direction: Direction) -> (&mut Slot, &mut Option<Box<io::Result<Outcome>>>) {
        match direction {
            Direction::Read => (&mut self.read, &mut self.kept),
            Direction::Write => (&mut self.write, &mut self.kept),
        }
    }

    /// Nothing is in flight.
    fn is_quiet(&self) -> bool {
        self.read.flight == Flight::None && self.write.flight == Flight::None
    }

    /// Nor does anyone wait, nor is anything undelivered.
    fn is_idle(&self) -> bool {
        self.read.is_idle() && self.write.is_idle() && self.kept.is_none()
    }
}

/// The socket of this key, if it is open.
fn open(sockets: &mut Slab<Socket>, key: SocketKey) -> Option<&mut Socket> {
    sockets.get_mut(key.index as usize).filter(|socket| socket.key == key && !socket.closing)
}

/// Keeps what a cancelled read came to. What a cancelled write came to is of no use to the next.
fn keep(key: OpKey, result: io::Result<Outcome>, kept: &mut Option<Box<io::Result<Outcome>>>) {
    if key.direction == Direction::Read && !matches!(result, Ok(Outcome::Cancelled)) {
        *kept = Some(Box::new(result));
    }
}

/// What was kept for the next read, or as much of it as this one takes.
fn take_kept(kept: &mut Option<Box<io::Result<Outcome>>>, op: &Op) -> Option<io::Result<Outcome>> {
    match (op, kept.as_deref_mut()?) {
        (Op::Connect(_) | Op::Send(_), _) => None,
        (Op::Recv(max), Ok(Outcome::Received(buf))) if buf.len() > *max => {
            Some(Ok(Outcome::Received(buf.split_to(*max))))
        }
        (Op::Recv(_) | Op::Accept, _) => kept.take().map(|result| *result),
    }
}

/// From so many sockets on, the caches no longer hold what belongs to them.
const SOCKETS_MANY: usize = 256;

/// No operation.
pub(crate) const NO_TICKET: u32 = 0;
