//! The driver for tests: real sockets underneath, but it behaves as io_uring may at its worst.
//!
//! Completions are announced some turns late and in another order, and a cancelled operation stays in flight for a
//! while: it ends without effect, or with data after all.

use std::io;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::Duration;

use super::{Cancel, Op, Outcome, epoll::Epoll};
use crate::key::{Direction, OpKey, SocketKey};

/// Holds back what epoll completes.
pub(crate) struct Test {
    pub(super) inner: Epoll,
    /// State of the random numbers.
    random: u64,
    held: Vec<Held>,
    /// What the inner driver has announced.
    announced: Vec<OpKey>,
}

/// An operation between its submission and the taking of its completion.
struct Held {
    key: OpKey,
    state: State,
    /// Turns left until something becomes of it; none while it waits for its socket.
    turns: Option<u8>,
}

enum State {
    /// Submitted to the inner driver.
    Running,
    /// Cancelled, which the inner driver does not know yet.
    Cancelled,
    /// Complete.
    Done(io::Result<Outcome>),
    /// Complete and announced.
    Announced(io::Result<Outcome>),
}

impl Test {
    pub(crate) fn new(inner: Epoll, seed: u64) -> Test {
        Test { inner, random: seed | 1, held: Vec::new(), announced: Vec::new() }
    }

    pub(crate) fn deregister(&mut self, socket: SocketKey) -> OwnedFd {
        assert!(self.held.iter().all(|held| held.key.socket != socket), "closed with an operation in flight");
        self.inner.deregister(socket)
    }

    pub(crate) fn submit(&mut self, key: OpKey, op: Op) -> Poll<io::Result<Outcome>> {
        assert!(self.find(key).is_none(), "two operations in one direction");
        let (state, turns) = match self.inner.submit(key, op) {
            Poll::Ready(result) if self.one_in(4) => return Poll::Ready(result),
            Poll::Ready(result) => (State::Done(result), Some(self.delay())),
            Poll::Pending => (State::Running, None),
        };
        self.held.push(Held { key, state, turns });
        Poll::Pending
    }

    pub(crate) fn send_all(&mut self, socket: SocketKey, data: &[u8]) -> Poll<io::Result<()>> {
        let key = OpKey { socket, direction: Direction::Write };
        assert!(self.find(key).is_none(), "two operations in one direction");
        let (state, turns) = match self.inner.send_all(socket, data) {
            Poll::Ready(result) if self.one_in(4) => return Poll::Ready(result),
            Poll::Ready(result) => {
                (State::Done(result.map(|()| Outcome::Sent(data.len()))), Some(self.delay()))
            }
            Poll::Pending => (State::Running, None),
        };
        self.held.push(Held { key, state, turns });
        Poll::Pending
    }

    pub(crate) fn take(&mut self, key: OpKey) -> Poll<io::Result<Outcome>> {
        let at = self.find(key).expect("an operation in flight");
        if !matches!(self.held[at].state, State::Announced(_)) {
            return Poll::Pending;
        }
        match self.held.swap_remove(at).state {
            State::Announced(result) => Poll::Ready(result),
            _ => unreachable!(),
        }
    }

    pub(crate) fn cancel(&mut self, key: OpKey) -> Cancel {
        let at = self.find(key).expect("an operation in flight");
        let delay = self.delay();
        match &mut self.held[at] {
            Held { state: State::Announced(_), .. } => match self.held.swap_remove(at).state {
                State::Announced(result) => return Cancel::Done(result),
                _ => unreachable!(),
            },
            Held { state: state @ State::Running, turns, .. } => {
                (*state, *turns) = (State::Cancelled, Some(delay))
            }
            _ => {}
        }
        Cancel::Later
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>, announced: &mut Vec<OpKey>) {
        let turning = self.held.iter().any(|held| held.turns.is_some());
        let timeout = if turning { Some(Duration::ZERO) } else { timeout };
        self.inner.wait(timeout, &mut self.announced);
        for key in std::mem::take(&mut self.announced) {
            self.complete(key);
        }
        let first = announced.len();
        for at in 0..self.held.len() {
            if let Some(key) = self.turn(at) {
                announced.push(key);
            }
        }
        self.shuffle(&mut announced[first..]);
    }

    /// Takes a completion from the inner driver, and holds it back.
    fn complete(&mut self, key: OpKey) {
        let Some(at) = self.find(key) else { return };
        if !matches!(self.held[at].state, State::Running | State::Cancelled) {
            return;
        }
        if let Poll::Ready(result) = self.inner.take(key) {
            self.held[at].state = State::Done(result);
            self.held[at].turns = Some(self.delay());
        }
    }

    /// Lets a turn pass for an operation; its key if that makes it announced.
    fn turn(&mut self, at: usize) -> Option<OpKey> {
        let held = &mut self.held[at];
        let turns = held.turns?;
        if turns > 0 {
            held.turns = Some(turns - 1);
            return None;
        }
        held.turns = None;
        let key = held.key;
        let result = match std::mem::replace(&mut held.state, State::Running) {
            State::Done(result) => result,
            State::Cancelled => self.end(key),
            State::Running | State::Announced(_) => unreachable!("nothing becomes of it by itself"),
        };
        self.held[at].state = State::Announced(result);
        Some(key)
    }

    /// The end of a cancelled operation: sometimes it succeeds at the last moment.
    fn end(&mut self, key: OpKey) -> io::Result<Outcome> {
        if self.one_in(2)
            && let Poll::Ready(result) = self.inner.take(key)
        {
            return result;
        }
        match self.inner.cancel(key) {
            Cancel::Done(result) => result,
            _ => Ok(Outcome::Cancelled),
        }
    }

    fn find(&self, key: OpKey) -> Option<usize> {
        self.held.iter().position(|held| held.key == key)
    }

    fn delay(&mut self) -> u8 {
        (self.random() % 8) as u8
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.random().is_multiple_of(n)
    }

    fn shuffle(&mut self, keys: &mut [OpKey]) {
        for last in (1..keys.len()).rev() {
            let other = self.random() as usize % (last + 1);
            keys.swap(last, other);
        }
    }

    /// Xorshift: quick, and the same for the same seed.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 16
    }
}
