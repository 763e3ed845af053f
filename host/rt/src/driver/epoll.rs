//! The epoll driver: every operation is tried first, and readiness is awaited only after `EAGAIN`.
//!
//! A socket is registered once, edge-triggered for all events, when it first has to wait. What is remembered of it
//! is whether the next try may succeed. After a short read or write it cannot, until the next edge: that saves a
//! system call for every message. It does not hold once the peer has closed, or sent urgent data (a read stops
//! short at its mark), so those are remembered too.

mod inbox;
mod socket;
pub(crate) mod waiting;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::{Cancel, Kind, Op, Outcome};
use crate::key::{Direction, OpKey, SocketKey};
use crate::remote::Remote;
use inbox::Inbox;
use socket::Socket;

/// Epoll and the sockets registered with it.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    remote: Arc<Remote>,
    /// By the index of their key.
    sockets: Vec<Option<Socket>>,
    /// What the last wait brought.
    events: Vec<epoll::Event>,
    inbox: Inbox,
    /// Operations to announce without waiting.
    due: Vec<OpKey>,
    /// Listeners that may hold a connection which no task here is waiting for.
    owing: Vec<SocketKey>,
}

impl Epoll {
    pub(crate) fn new(remote: Arc<Remote>) -> io::Result<Epoll> {
        let driver = Epoll::for_listeners(remote)?;
        // Edge-triggered, every write to it is an event: it need not be read.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&driver.epoll, &driver.remote.wakeup, epoll::EventData::new_u64(WAKEUP), flags)?;
        Ok(driver)
    }

    /// One that does not see when someone wakes the worker: another driver waits for that, and for this one's descriptor.
    pub(super) fn for_listeners(remote: Arc<Remote>) -> io::Result<Epoll> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let events = Vec::with_capacity(EVENTS_MAX);
        let (sockets, due, owing) = Default::default();
        Ok(Epoll { epoll, remote, sockets, events, inbox: Inbox::new(), due, owing })
    }

    pub(crate) fn register(&mut self, key: SocketKey, fd: OwnedFd, kind: Kind) {
        let index = key.index as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        assert!(self.sockets[index].is_none(), "a place is used twice");
        self.sockets[index] = Some(Socket::new(key, fd, kind));
    }

    pub(crate) fn deregister(&mut self, key: SocketKey) -> OwnedFd {
        let mut socket = self.sockets[key.index as usize].take().expect("the reactor knows its sockets");
        assert!(socket.key == key && socket.is_quiet());
        self.withdraw(&mut socket);
        if socket.kind == Kind::Listener && may_accept(&socket.fd) {
            // It was perhaps told to us alone.
            waiting::pass_on(&socket.fd);
        }
        socket.fd
    }

    pub(crate) fn fd(&self, key: SocketKey) -> BorrowedFd<'_> {
        self.socket(key).expect("the reactor knows its sockets").fd.as_fd()
    }

    pub(crate) fn submit(&mut self, key: OpKey, op: Op) -> Poll<io::Result<Outcome>> {
        let Epoll { sockets, due, .. } = self;
        let socket = sockets[key.socket.index as usize].as_mut().expect("the reactor knows its sockets");
        debug_assert!(socket.key == key.socket);
        if socket.accepted_enough(&op) {
            due.push(key);
        }
        socket.start(op);
        self.take(key)
    }

    pub(crate) fn take(&mut self, key: OpKey) -> Poll<io::Result<Outcome>> {
        let socket = self.sockets[key.socket.index as usize].as_mut().expect("the reactor knows its sockets");
        debug_assert!(socket.key == key.socket);
        let polled = socket.attempt(key.direction, &mut self.inbox);
        if polled.is_pending() {
            let entered = match socket.registered {
                true if socket.has_had_its_turn() => self.go_behind(key.socket),
                false if !socket.may_try(key.direction) => self.enter(key.socket),
                _ => Ok(()),
            };
            return match entered {
                Ok(()) => Poll::Pending,
                Err(error) => {
                    self.cancel(key);
                    Poll::Ready(Err(error))
                }
            };
        }
        if socket.kind == Kind::Listener && socket.may_try(Direction::Read) {
            self.owe(key.socket);
        }
        polled
    }

    pub(crate) fn cancel(&mut self, key: OpKey) -> Cancel {
        let socket = self.sockets[key.socket.index as usize].as_mut().expect("the reactor knows its sockets");
        debug_assert!(socket.key == key.socket);
        let result = socket.stop(key.direction, &mut self.inbox);
        if socket.kind == Kind::Listener && socket.may_try(Direction::Read) {
            self.owe(key.socket);
        }
        result.map_or(Cancel::Gone, Cancel::Done)
    }

    pub(crate) fn send_all(&mut self, key: SocketKey, data: &[u8]) -> Poll<io::Result<()>> {
        let socket = self.sockets[key.index as usize].as_mut().expect("the reactor knows its sockets");
        debug_assert!(socket.key == key);
        let sent = socket.send_all(data);
        if sent.is_pending()
            && !socket.registered
            && let Err(error) = self.enter(key)
        {
            self.cancel(OpKey { socket: key, direction: Direction::Write });
            return Poll::Ready(Err(error));
        }
        sent
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, announced: &mut Vec<OpKey>) {
        let timeout = if self.announce_due(announced) { Some(Duration::ZERO) } else { timeout };
        let timeout = timeout.map(whole_milliseconds);
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("epoll_wait: {error}"),
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            self.event(*event, announced);
        }
        self.events = events;
    }

    /// What comes before every wait, and needs none: whether something was announced.
    pub(super) fn announce_due(&mut self, announced: &mut Vec<OpKey>) -> bool {
        self.settle();
        let due = std::mem::take(&mut self.due);
        let any = !due.is_empty();
        for key in due {
            if let Some(socket) = self.socket_mut(key.socket) {
                socket.accepted = 0;
                announced.push(key);
            }
        }
        any
    }

    pub(crate) fn readable(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    pub(crate) fn nudge(&mut self, key: SocketKey) {
        let Some(socket) = self.socket_mut(key) else { return };
        socket.note(epoll::EventFlags::IN);
        let read = OpKey { socket: key, direction: Direction::Read };
        match socket.is_waiting(Direction::Read) {
            true => self.due.push(read),
            false => self.owe(key),
        }
    }

    fn event(&mut self, event: epoll::Event, announced: &mut Vec<OpKey>) {
        let data = event.data;
        if data.u64() == WAKEUP {
            return;
        }
        let key = SocketKey::from_bits(data.u64());
        // A socket closed after its event was fetched is not the one that has its place now.
        let Some(socket) = self.sockets.get_mut(key.index as usize) else { return };
        let Some(socket) = socket.as_mut().filter(|socket| socket.key == key) else { return };
        socket.note(event.flags);
        socket.receive_early(&mut self.inbox);
        for direction in [Direction::Read, Direction::Write] {
            if socket.is_due(direction) {
                announced.push(OpKey { socket: key, direction });
            }
        }
        if socket.kind == Kind::Listener && !socket.is_waiting(Direction::Read) {
            self.owe(key);
        }
    }

    /// The listener may hold a connection which, as things stand, no task here is waiting for.
    fn owe(&mut self, key: SocketKey) {
        if self.owing.last() != Some(&key) {
            self.owing.push(key);
        }
    }

    /// Hands connections that no task here is waiting for to a worker where one is.
    ///
    /// A listener shared by several workers is registered exclusively: of those asleep, the kernel tells one. If
    /// that one does not accept, nobody would. So it withdraws, lest it be told again, and tells another.
    fn settle(&mut self) {
        while let Some(key) = self.owing.pop() {
            let place = key.index as usize;
            let Some(mut socket) = self.sockets.get_mut(place).and_then(Option::take) else { continue };
            if socket.key == key && !socket.is_waiting(Direction::Read) {
                self.withdraw(&mut socket);
                waiting::pass_on(&socket.fd);
            }
            self.sockets[place] = Some(socket);
        }
    }

    /// Registers a socket that has to wait, for as long as it lives.
    fn enter(&mut self, key: SocketKey) -> io::Result<()> {
        let socket = self.sockets[key.index as usize].as_mut().expect("the reactor knows its sockets");
        if socket.kind == Kind::Listener {
            // Before the registration: what comes after it may be another worker's, which will look for us here.
            waiting::enter(&socket.fd, self.remote.id, key);
        }
        let added =
            epoll::add(&self.epoll, &socket.fd, epoll::EventData::new_u64(key.to_bits()), socket.interest());
        socket.registered = added.is_ok();
        if added.is_err() && socket.kind == Kind::Listener {
            waiting::leave(&socket.fd, self.remote.id, key);
        }
        Ok(added?)
    }

    /// Lets others be told of the next connections first: of all that sleep, the kernel tells the one that has been registered
    /// longest, and would never come to the others while they arrive one by one.
    fn go_behind(&mut self, key: SocketKey) -> io::Result<()> {
        let socket = self.sockets[key.index as usize].as_mut().expect("the reactor knows its sockets");
        socket.accepted = 0;
        if waiting::is_alone() {
            return Ok(());
        }
        epoll::delete(&self.epoll, &socket.fd).expect("a registered descriptor");
        // What has come meanwhile is told at once.
        let added =
            epoll::add(&self.epoll, &socket.fd, epoll::EventData::new_u64(key.to_bits()), socket.interest());
        socket.registered = added.is_ok();
        if added.is_err() {
            waiting::leave(&socket.fd, self.remote.id, key);
        }
        Ok(added?)
    }

    /// Undoes `enter`.
    fn withdraw(&self, socket: &mut Socket) {
        if !std::mem::take(&mut socket.registered) {
            return;
        }
        // The descriptor is ours and registered, so this cannot fail. Closing it would not do: a duplicate of a
        // shared listener keeps the registration alive.
        epoll::delete(&self.epoll, &socket.fd).expect("a registered descriptor");
        if socket.kind == Kind::Listener {
            waiting::leave(&socket.fd, self.remote.id, socket.key);
        }
    }

    fn socket(&self, key: SocketKey) -> Option<&Socket> {
        self.sockets.get(key.index as usize)?.as_ref().filter(|socket| socket.key == key)
    }

    fn socket_mut(&mut self, key: SocketKey) -> Option<&mut Socket> {
        self.sockets.get_mut(key.index as usize)?.as_mut().filter(|socket| socket.key == key)
    }
}

impl AsFd for Epoll {
    /// Readable when an event is there.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Rounded up, so that a timer is never asked about too early.
fn whole_milliseconds(timeout: Duration) -> Timespec {
    let up = timeout.saturating_add(Duration::from_nanos(999_999)).min(WAIT_MAX);
    Timespec { tv_sec: up.as_secs() as i64, tv_nsec: i64::from(up.subsec_millis()) * 1_000_000 }
}

/// Whether a connection waits to be accepted.
fn may_accept(fd: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// The token of the worker's wakeup: the key of no socket, as no table has that many places.
const WAKEUP: u64 = u64::MAX;

/// Events taken in one wait. What is received for them, and what their tasks use, is to stay in the caches until they
/// have run.
const EVENTS_MAX: usize = 64;

/// The longest wait; waking once a day is free.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
