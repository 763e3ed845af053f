//! Places for connections: which are free, which hold an idle one, and who waits in line. Knows no sockets.
//!
//! Places are given first come, first served: a place that comes free goes to the head of the line under the same lock,
//! so nobody can slip in before, on whatever worker. Always:
//!
//! * idle + held == open <= the most places there are;
//! * somebody waits only while nothing is idle and every place is taken.
//!
//! Nothing is woken, and no connection dropped, with the lock held.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Instant,
};

/// The places of one pool, with idle connections `T` in some.
pub(super) struct Line<T> {
    state: Mutex<State<T>>,
    open_max: usize,
    idle_max: usize,
}

struct State<T> {
    /// Idle connections and since when, the latest last. The latest goes out first, so that those too many grow old.
    idle: VecDeque<(Instant, T)>,
    /// Places taken: idle ones and held ones.
    open: usize,
    /// Places that a `Place` stands for, or that were granted to a waiter who has not looked yet.
    held: usize,
    /// Who waits, by ticket: the lowest is the first.
    waiting: BTreeMap<u64, Waker>,
    /// Places given to waiters who have not looked yet, with the connections in them.
    granted: BTreeMap<u64, Option<T>>,
    next_ticket: u64,
    /// Times somebody had to wait.
    waited: u64,
    /// Is there a task that closes idle connections in time?
    swept: bool,
}

/// What a line counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) open: usize,
    pub(super) idle: usize,
    pub(super) waited: u64,
}

impl<T> Line<T> {
    pub(super) fn new(open_max: usize, idle_max: usize) -> Arc<Line<T>> {
        let state = State {
            idle: VecDeque::new(),
            open: 0,
            held: 0,
            waiting: BTreeMap::new(),
            granted: BTreeMap::new(),
            next_ticket: 0,
            waited: 0,
            swept: false,
        };
        Arc::new(Line { state: Mutex::new(state), open_max: open_max.max(1), idle_max })
    }

    /// Waits for a place, which may hold an idle connection. Whoever polls first is served first.
    pub(super) fn acquire(self: &Arc<Line<T>>) -> Acquire<T> {
        Acquire { line: self.clone(), ticket: None }
    }

    /// Takes out the connections that are idle since `until` or longer; gives also since when the oldest left is.
    pub(super) fn expire(&self, until: Instant) -> (Vec<T>, Option<Instant>) {
        let mut state = self.lock();
        let expired = state.idle.partition_point(|(since, _)| *since <= until);
        state.open -= expired;
        let expired = state.idle.drain(..expired).map(|(_, connection)| connection).collect();
        (expired, state.idle.front().map(|(since, _)| *since))
    }

    /// Takes out the connection that is idle longest.
    pub(super) fn expire_oldest(&self) -> Option<T> {
        let mut state = self.lock();
        let (_, connection) = state.idle.pop_front()?;
        state.open -= 1;
        Some(connection)
    }

    /// Since when the connection that is idle longest is.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lock().idle.front().map(|(since, _)| *since)
    }

    /// Makes the caller the one who sweeps, if there is none.
    pub(super) fn start_sweeping(&self) -> bool {
        !std::mem::replace(&mut self.lock().swept, true)
    }

    /// Ends sweeping if nothing is open; `start_sweeping` and this exclude each other.
    pub(super) fn may_stop_sweeping(&self) -> bool {
        let mut state = self.lock();
        state.swept = state.open > 0;
        !state.swept
    }

    /// The one who sweeps is gone.
    pub(super) fn stop_sweeping(&self) {
        self.lock().swept = false;
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.lock();
        Counts { open: state.open, idle: state.idle.len(), waited: state.waited }
    }

    /// Frees a held place for whoever is first in line.
    fn release(&self) {
        let mut state = self.lock();
        let woken = match state.waiting.pop_first() {
            Some((ticket, waker)) => {
                state.granted.insert(ticket, None);
                Some(waker)
            }
            None => {
                state.held -= 1;
                state.open -= 1;
                None
            }
        };
        self.check(&state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Makes a held place an idle one, or hands it with its connection to whoever is first in line. A connection
    /// that is one too many comes back, its place freed.
    fn keep(&self, connection: T) -> Result<(), T> {
        let mut state = self.lock();
        let mut woken = None;
        let mut refused = None;
        if let Some((ticket, waker)) = state.waiting.pop_first() {
            state.granted.insert(ticket, Some(connection));
            woken = Some(waker);
        } else {
            state.held -= 1;
            if state.idle.len() < self.idle_max {
                state.idle.push_back((Instant::now(), connection));
            } else {
                state.open -= 1;
                refused = Some(connection);
            }
        }
        self.check(&state);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        refused.map_or(Ok(()), Err)
    }

    fn check(&self, state: &State<T>) {
        debug_assert_eq!(state.idle.len() + state.held, state.open);
        debug_assert!(state.open <= self.open_max && state.idle.len() <= self.idle_max);
        debug_assert!(state.waiting.is_empty() || (state.idle.is_empty() && state.open == self.open_max));
    }

    /// No code that could panic runs half-way through a change.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See [`Line::acquire`]. Dropping it leaves the line, and passes on what it was granted.
#[must_use = "futures do nothing unless awaited"]
pub(super) struct Acquire<T> {
    line: Arc<Line<T>>,
    /// While it waits in line, or has a grant to look at.
    ticket: Option<u64>,
}

impl<T> Future for Acquire<T> {
    type Output = (Place<T>, Option<T>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let taken = match self.ticket {
            None => self.arrive(cx.waker()),
            Some(ticket) => self.look(ticket, cx.waker()),
        };
        match taken {
            None => Poll::Pending,
            Some(connection) => {
                self.ticket = None;
                Poll::Ready((Place { line: Some(self.line.clone()) }, connection))
            }
        }
    }
}

impl<T> Acquire<T> {
    /// Takes a place if there is one, and else the end of the line.
    fn arrive(&mut self, waker: &Waker) -> Option<Option<T>> {
        let mut state = self.line.lock();
        if let Some((_, connection)) = state.idle.pop_back() {
            state.held += 1;
            return Some(Some(connection));
        }
        if state.open < self.line.open_max {
            state.open += 1;
            state.held += 1;
            return Some(None);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waited += 1;
        state.waiting.insert(ticket, waker.clone());
        self.line.check(&state);
        drop(state);
        self.ticket = Some(ticket);
        None
    }

    /// Takes what was granted, if anything was.
    fn look(&self, ticket: u64, waker: &Waker) -> Option<Option<T>> {
        let mut state = self.line.lock();
        if let Some(connection) = state.granted.remove(&ticket) {
            return Some(connection);
        }
        let before = state.waiting.insert(ticket, waker.clone());
        drop(state);
        debug_assert!(before.is_some(), "a ticket waits or is granted");
        None
    }
}

impl<T> Drop for Acquire<T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut state = self.line.lock();
        let left = state.waiting.remove(&ticket);
        let granted = state.granted.remove(&ticket);
        drop(state);
        drop(left);
        match granted {
            None => {}
            Some(None) => self.line.release(),
            // One too many is dropped.
            Some(Some(connection)) => drop(self.line.keep(connection)),
        }
    }
}

/// A place held: for a connection in use, or one being opened. Dropping it frees it for the next in line.
#[must_use = "dropping it frees the place"]
pub(super) struct Place<T> {
    /// None once given back.
    line: Option<Arc<Line<T>>>,
}

impl<T> Place<T> {
    /// Gives the place back with its connection. One that is too many to keep comes back.
    pub(super) fn keep(mut self, connection: T) -> Result<(), T> {
        self.line.take().map_or(Ok(()), |line| line.keep(connection))
    }

    /// Takes over another idle connection, this place's own being of no use. Frees one place; the line is empty then.
    pub(super) fn swap(&mut self) -> Option<T> {
        let mut state = self.line.as_ref()?.lock();
        let (_, connection) = state.idle.pop_back()?;
        state.open -= 1;
        Some(connection)
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        if let Some(line) = self.line.take() {
            line.release();
        }
    }
}

#[cfg(test)]
mod tests;
