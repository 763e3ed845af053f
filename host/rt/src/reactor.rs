//! The sockets and timers of one worker: who waits for what, and what becomes of operations nobody waits for any more.

mod closing;
mod left;
mod outbox;
mod outgoing;
mod slot;
mod socket;
mod upcoming;

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, Shutdown};
use slab::Slab;

use crate::buf::Buf;
use crate::driver::{Cancel, Driver, Kind, Op, Outcome};
use crate::error;
use crate::key::{OpKey, SocketKey};
use crate::prefetch;
use crate::timer::{TimerKey, Timers};
use outbox::Outbox;
use slot::Flight;
pub(crate) use socket::Detached;
use socket::{Socket, open};
use upcoming::Upcoming;

/// Maps completions to futures.
pub(crate) struct Reactor {
    driver: Driver,
    /// A closed socket stays until nothing is in flight on it.
    sockets: Slab<Socket>,
    pub(crate) timers: Timers,
    /// Operations that the driver holds.
    in_flight: usize,
    /// Generation of the next socket.
    generation: u32,
    /// Ticket of the next operation; 0 stands for none.
    ticket: u32,
    /// What the last wait announced.
    announced: Vec<OpKey>,
    outbox: Outbox,
    /// Closed connections whose rest has not left, and how long each may take.
    lingering: VecDeque<(Instant, SocketKey)>,
    /// Kept only while there are many sockets.
    upcoming: Upcoming,
    /// To be woken once the reactor is not borrowed.
    pub(crate) woken: Vec<Waker>,
    /// To be dropped then.
    pub(crate) discarded: Vec<Waker>,
}

impl Reactor {
    pub(crate) fn new(driver: Driver) -> Reactor {
        Reactor {
            driver,
            sockets: Slab::new(),
            timers: Timers::default(),
            in_flight: 0,
            generation: 0,
            ticket: 0,
            announced: Vec::new(),
            outbox: Outbox::default(),
            lingering: VecDeque::new(),
            upcoming: Upcoming::default(),
            woken: Vec::new(),
            discarded: Vec::new(),
        }
    }

    /// Takes a non-blocking socket over.
    pub(crate) fn register(&mut self, socket: Detached, kind: Kind) -> SocketKey {
        let Detached { fd, room, left, ending } = socket;
        self.generation = self.generation.wrapping_add(1);
        let entry = self.sockets.vacant_entry();
        // No machine has 2^32 descriptors, so the index fits.
        let key = SocketKey { index: entry.key() as u32, generation: self.generation };
        let (read, write) = Default::default();
        let (closing, unsent) = Default::default();
        entry.insert(Socket { key, kind, closing, read, write, left, unsent, room, ending });
        self.driver.register(key, fd, kind);
        key
    }

    /// Polls an operation. `op` is its request until it is submitted, `ticket` says that its place is taken. One that is
    /// polled for another hands on what comes.
    pub(crate) fn poll(
        &mut self,
        key: OpKey,
        ticket: &mut u32,
        op: &mut Option<Op>,
        waker: &Waker,
        for_another: bool,
    ) -> Poll<io::Result<Outcome>> {
        if *ticket == NO_TICKET
            && let Some(Op::Send(data)) = op
            && let Some(result) = self.take_small(key.socket, data)
        {
            *op = None;
            return Poll::Ready(result.map(Outcome::Sent));
        }
        let Some(socket) = open(&mut self.sockets, key.socket) else {
            return Poll::Ready(Err(error::closed()));
        };
        let (slot, left) = socket.slot(key.direction);
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
            (Flight::None, Some(request)) => match left.take_for(&request) {
                Some(result) => Poll::Ready(result),
                None => self.driver.submit(key, request),
            },
            (Flight::Owned, None) => self.driver.take(key),
            // What a cancelled one left must end first: the bytes are in order, and there is one buffer.
            (Flight::Orphan | Flight::Rest, request @ Some(_)) => {
                *op = request;
                self.discarded.extend(slot.wait(waker));
                return Poll::Pending;
            }
            (flight, request) => unreachable!("{flight:?} with {request:?}"),
        };
        match polled {
            Poll::Pending => {
                slot.flight = Flight::Owned;
                self.in_flight += usize::from(first);
                if first && !for_another {
                    slot.stack = prefetch::here();
                }
                self.discarded.extend(slot.wait(waker));
            }
            Poll::Ready(_) => {
                if slot.flight == Flight::Owned {
                    self.in_flight -= 1;
                    match for_another {
                        true => slot.handed_on = true,
                        false => self.upcoming.taken(slot.turn),
                    }
                }
                slot.flight = Flight::None;
                slot.owner = NO_TICKET;
                *ticket = NO_TICKET;
                self.discarded.extend(slot.waker.take());
            }
        }
        polled.map(|result| left.amend(result))
    }

    /// Ends an operation whose future is gone.
    pub(crate) fn cancel(&mut self, key: OpKey, ticket: u32) {
        let Some(socket) = open(&mut self.sockets, key.socket) else { return };
        let (slot, left) = socket.slot(key.direction);
        if slot.owner != ticket {
            return;
        }
        slot.owner = NO_TICKET;
        self.discarded.extend(slot.waker.take());
        if slot.flight == Flight::Owned {
            slot.flight = Flight::None;
            self.in_flight -= 1;
            match self.driver.cancel(key) {
                Cancel::Gone => {}
                Cancel::Done(result) => left.keep(key.direction, result),
                Cancel::Later => {
                    slot.flight = Flight::Orphan;
                    self.in_flight += 1;
                }
            }
        }
    }

    /// Operations that have not come to anything.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Gives bytes that were received to the next who receives. Nobody may be receiving.
    pub(crate) fn unread(&mut self, key: SocketKey, bytes: &[u8]) -> io::Result<()> {
        let socket = open(&mut self.sockets, key).ok_or_else(error::closed)?;
        if socket.read.owner != NO_TICKET {
            return Err(error::busy());
        }
        socket.left.put_back(Buf::copy_of(bytes));
        Ok(())
    }

    /// Whether a pooled connection may be used again: nothing in flight, nothing unread, open.
    pub(crate) fn is_idle(&mut self, key: SocketKey) -> bool {
        self.flush_socket(key);
        let Some(socket) = open(&mut self.sockets, key) else { return false };
        let mut byte = [0u8];
        let peek = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        // In this order: the kernel may move bytes from the socket to the driver meanwhile.
        socket.is_unused()
            && socket.left.is_nothing()
            && rustix::net::recv(self.driver.fd(key), &mut byte, peek) == Err(rustix::io::Errno::AGAIN)
            && !self.driver.holds_bytes(key)
    }

    /// Nothing is to be received on a socket until it is asked for.
    pub(crate) fn pause(&mut self, key: SocketKey) {
        if open(&mut self.sockets, key).is_some() {
            self.driver.pause(key);
        }
    }

    /// The descriptor of an open socket, for calls that never wait.
    pub(crate) fn fd(&mut self, key: SocketKey) -> io::Result<BorrowedFd<'_>> {
        open(&mut self.sockets, key).ok_or_else(error::closed)?;
        Ok(self.driver.fd(key))
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

    /// See [`Driver::readable`].
    pub(crate) fn readable(&self) -> BorrowedFd<'_> {
        self.driver.readable()
    }

    /// See [`Driver::watch`].
    pub(crate) fn watch(&mut self) -> bool {
        self.driver.watch()
    }

    /// See [`Driver::unwatch`].
    pub(crate) fn unwatch(&mut self) {
        self.driver.unwatch();
    }

    /// Sends what is to be sent, waits for completions and timers, and moves those to wake into `woken`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) {
        self.flush_soon();
        let timeout = match self.timers.timeout(Instant::now) {
            Some(first) => Some(timeout.map_or(first, |timeout| timeout.min(first))),
            None => timeout,
        };
        self.look(timeout);
        if !self.timers.is_empty() {
            self.timers.fire(Instant::now(), &mut self.woken);
        }
    }

    /// Waits for completions.
    fn look(&mut self, timeout: Option<Duration>) {
        let until = self.lingering.front().map(|(until, _)| until.saturating_duration_since(Instant::now()));
        let timeout = [timeout, until].into_iter().flatten().min();
        let mut announced = std::mem::take(&mut self.announced);
        self.driver.wait(timeout, &mut announced);
        for key in announced.drain(..) {
            self.announce(key);
        }
        self.announced = announced;
        while let Some((until, key)) = self.lingering.front().copied()
            && until <= Instant::now()
        {
            self.lingering.pop_front();
            self.cut(key);
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
        let (slot, left) = socket.slot(key.direction);
        let mut rested = false;
        if let Flight::Orphan | Flight::Rest = slot.flight {
            let Poll::Ready(result) = self.driver.take(key) else { return };
            rested = std::mem::take(&mut slot.flight) == Flight::Rest;
            self.in_flight -= 1;
            match result {
                Err(error) if rested => left.keep_error(error),
                result => left.keep(key.direction, result),
            }
        }
        if let Some(waker) = slot.waker.take() {
            if many {
                slot.turn = self.upcoming.push(slot.stack);
            }
            self.woken.push(waker);
        }
        if rested && socket.ending {
            // It fails if the connection is gone, which is told otherwise.
            let _ = rustix::net::shutdown(self.driver.fd(key.socket), Shutdown::Write);
        }
        if closing && socket.is_quiet() {
            self.remove(key.socket);
        }
    }

    fn remove(&mut self, key: SocketKey) {
        self.sockets.remove(key.index as usize);
        self.driver.close(key);
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
            self.look(None);
        }
        debug_assert!(self.in_flight == 0, "{} operations of no socket", self.in_flight);
    }
}

/// From so many sockets on, the caches no longer hold what belongs to them.
const SOCKETS_MANY: usize = 256;

/// No operation.
pub(crate) const NO_TICKET: u32 = 0;
