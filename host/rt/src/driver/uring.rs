//! The io_uring driver: the kernel receives by itself, and one call a turn submits all that is asked and waits.
//!
//! What it is asked of a connection outlives the operation that needed it: to receive again and again, or to tell when a
//! call may succeed. So an operation is cancelled at once and without effect. A connection leaves when the last of these
//! requests has completed, and takes along what they have brought.
//!
//! Listeners stay with epoll, whose descriptor the ring watches: a kernel that accepts by itself takes connections that no
//! task here waits for, from workers that would have served them and from a backlog that is the limit of what may wait.

mod buffers;
mod kept;
mod probe;
mod ring;
mod stream;
#[cfg(all(test, not(miri)))]
mod tests;
mod token;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::event::PollFlags;

use super::epoll::Epoll;
use super::{Cancel, Kind, Op, Outcome};
use crate::key::{OpKey, SocketKey};
use crate::remote::Remote;
pub use probe::Unavailable;
pub(super) use probe::check;
use ring::{Completion, Ring};
use stream::Stream;
use token::{Request, Token};

/// A ring and the connections served with it.
pub(crate) struct Uring {
    ring: Ring,
    remote: Arc<Remote>,
    listeners: Epoll,
    /// By the index of their key.
    streams: Vec<Option<Stream>>,
    /// Closed, but not yet quiet. By the bits of their key.
    closing: BTreeMap<u64, Stream>,
    /// What the last look brought.
    completions: Vec<Completion>,
    /// Operations to announce without waiting.
    due: Vec<OpKey>,
}

impl Uring {
    pub(crate) fn new(remote: Arc<Remote>) -> io::Result<Uring> {
        let ring = Ring::new().map_err(Unavailable::from)?;
        let listeners = Epoll::for_listeners(remote.clone())?;
        let (streams, closing, completions, due) = Default::default();
        let mut uring = Uring { ring, remote, listeners, streams, closing, completions, due };
        uring.await_wakeup();
        uring.await_listeners();
        Ok(uring)
    }

    pub(crate) fn register(&mut self, key: SocketKey, fd: OwnedFd, kind: Kind) {
        if kind == Kind::Listener {
            return self.listeners.register(key, fd, kind);
        }
        let index = key.index as usize;
        if self.streams.len() <= index {
            self.streams.resize_with(index + 1, || None);
        }
        assert!(self.streams[index].is_none(), "a place is used twice");
        self.streams[index] = Some(Stream::new(key, fd));
    }

    /// Waits, for as long as the kernel takes to end what it does for the socket.
    pub(crate) fn deregister(&mut self, key: SocketKey) -> (OwnedFd, Vec<io::Result<Outcome>>) {
        let Some(stream) = find(&mut self.streams, key) else {
            return (self.listeners.deregister(key), Vec::new());
        };
        assert!(stream.is_unused());
        stream.end(&mut self.ring);
        while find(&mut self.streams, key).is_some_and(|stream| !stream.is_quiet()) {
            self.look(None);
        }
        let stream = self.streams[key.index as usize].take().expect("just seen");
        stream.into_parts(&mut self.ring)
    }

    /// Closes a socket, when the kernel has ended what it does for it.
    pub(crate) fn close(&mut self, key: SocketKey) {
        if find(&mut self.streams, key).is_none() {
            return drop(self.listeners.deregister(key));
        }
        let mut stream = self.streams[key.index as usize].take().expect("just seen");
        assert!(stream.is_unused());
        stream.forget(&mut self.ring);
        stream.end(&mut self.ring);
        if !stream.is_quiet() {
            self.closing.insert(key.to_bits(), stream);
        }
    }

    pub(crate) fn fd(&self, key: SocketKey) -> BorrowedFd<'_> {
        let place = self.streams.get(key.index as usize).and_then(Option::as_ref);
        match place.filter(|stream| stream.key == key) {
            Some(stream) => stream.fd().as_fd(),
            None => self.listeners.fd(key),
        }
    }

    pub(crate) fn submit(&mut self, key: OpKey, op: Op) -> Poll<io::Result<Outcome>> {
        match find(&mut self.streams, key.socket) {
            Some(stream) => {
                stream.start(op);
                stream.attempt(key.direction, &mut self.ring)
            }
            None => self.listeners.submit(key, op),
        }
    }

    pub(crate) fn take(&mut self, key: OpKey) -> Poll<io::Result<Outcome>> {
        match find(&mut self.streams, key.socket) {
            Some(stream) => stream.attempt(key.direction, &mut self.ring),
            None => self.listeners.take(key),
        }
    }

    pub(crate) fn cancel(&mut self, key: OpKey) -> Cancel {
        match find(&mut self.streams, key.socket) {
            Some(stream) => stream.cancel(key.direction, &mut self.ring),
            None => self.listeners.cancel(key),
        }
    }

    pub(crate) fn send_all(&mut self, key: SocketKey, data: &[u8]) -> Poll<io::Result<()>> {
        let stream = find(&mut self.streams, key).expect("the reactor knows its sockets");
        stream.send_all(data, &mut self.ring)
    }

    pub(crate) fn send_soon(&mut self, key: SocketKey, data: &[u8]) {
        let stream = find(&mut self.streams, key).expect("the reactor knows its sockets");
        stream.send_soon(data, &mut self.ring);
    }

    /// Whether something was received that no operation has come to.
    pub(crate) fn holds_bytes(&mut self, key: SocketKey) -> bool {
        if self.ring.has_completions() {
            self.ring.take(&mut self.completions);
            self.complete();
        }
        find(&mut self.streams, key).is_some_and(|stream| stream.holds_bytes())
    }

    /// Ends receiving, until a recv begins it anew.
    pub(crate) fn pause(&mut self, key: SocketKey) {
        if let Some(stream) = find(&mut self.streams, key) {
            stream.pause(&mut self.ring);
        }
    }

    /// Submits what is asked, now.
    pub(crate) fn flush(&mut self) {
        if self.ring.has_requests() {
            self.look(Some(Duration::ZERO));
        }
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, announced: &mut Vec<OpKey>) {
        self.listeners.announce_due(&mut self.due);
        let timeout = if self.due.is_empty() { timeout } else { Some(Duration::ZERO) };
        if timeout != Some(Duration::ZERO) || !self.ring.is_calm() {
            let mut events = self.look(timeout);
            let mut last = events;
            while last >= EVENTS_MANY && events < EVENTS_MAX {
                last = self.look(Some(Duration::ZERO));
                events += last;
            }
        }
        announced.append(&mut self.due);
    }

    pub(crate) fn readable(&self) -> BorrowedFd<'_> {
        self.ring.readable()
    }

    pub(crate) fn watch(&mut self) -> bool {
        self.ring.watch()
    }

    pub(crate) fn unwatch(&mut self) {
        self.ring.unwatch();
    }

    pub(crate) fn nudge(&mut self, key: SocketKey) {
        self.listeners.nudge(key);
    }

    /// Enters the kernel; what comes of it is due. Tells how much that is, sends not counted.
    fn look(&mut self, timeout: Option<Duration>) -> usize {
        self.ring.enter(timeout, &mut self.completions);
        let is_event =
            |completion: &&Completion| !matches!(completion.token, Token::Socket(_, Request::Send));
        let events = self.completions.iter().filter(is_event).count();
        self.complete();
        events
    }

    fn complete(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            match completion.token {
                Token::Wakeup if !completion.more => self.await_wakeup(),
                Token::Wakeup | Token::Cancel | Token::Send(_) => {}
                Token::Listeners => {
                    self.listeners.wait(Some(Duration::ZERO), &mut self.due);
                    self.await_listeners();
                }
                Token::Socket(key, request) => self.complete_request(key, request, completion),
            }
        }
        self.completions = completions;
    }

    fn complete_request(&mut self, key: SocketKey, request: Request, completion: Completion) {
        if let Some(stream) = find(&mut self.streams, key) {
            let direction = stream.complete(request, completion, &mut self.ring);
            return self.due.extend(direction.map(|direction| OpKey { socket: key, direction }));
        }
        let stream = self.closing.get_mut(&key.to_bits()).expect("a socket stays until all has completed");
        stream.complete(request, completion, &mut self.ring);
        stream.forget(&mut self.ring);
        if stream.is_quiet() {
            self.closing.remove(&key.to_bits());
        }
    }

    /// Its counter is never read: each time it is written to is an event.
    fn await_wakeup(&mut self) {
        self.ring.poll_again_and_again(&self.remote.wakeup, PollFlags::IN, Token::Wakeup);
    }

    /// Asked for anew each time, which tells at once if one look has not seen all.
    fn await_listeners(&mut self) {
        self.ring.poll(&self.listeners, PollFlags::IN, Token::Listeners);
    }
}

/// From so many on, the kernel may have more ready: since 6.13 it brings 20 at a time.
const EVENTS_MANY: usize = 16;

/// Events to be had in one wait, before their tasks run: see epoll's.
const EVENTS_MAX: usize = 64;

/// The stream of this key; none if it is a listener's.
fn find(streams: &mut [Option<Stream>], key: SocketKey) -> Option<&mut Stream> {
    streams.get_mut(key.index as usize)?.as_mut().filter(|stream| stream.key == key)
}

impl Drop for Uring {
    /// Sockets go when nothing is in flight on them.
    fn drop(&mut self) {
        while !self.closing.is_empty() {
            self.look(None);
        }
    }
}
