//! A circuit breaker for a handler. One that traps on every connection costs an instance for each; after some in a row they
//! are refused instead, and one is let through now and then, to see whether it still does.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::config::limits::CircuitLimits;

/// Of one version of a tenant, for all its workers.
#[derive(Debug)]
pub struct Circuit {
    limits: CircuitLimits,
    state: Mutex<State>,
    /// What each connection looks at: not closed.
    open: AtomicBool,
    /// Traps since the last success.
    streak: AtomicUsize,
}

#[derive(Debug)]
enum State {
    /// Connections are served, until so many in a row have trapped.
    Closed {
        /// When they did, oldest first.
        traps: VecDeque<Instant>,
        /// When it was closed again, after which wait.
        before: Option<(Instant, Duration)>,
    },
    /// Connections are refused until then. The next one is let through.
    Open { until: Instant, wait: Duration },
    /// One is let through, and the others are refused until its end is known.
    Probing { since: Instant, wait: Duration },
}

/// A connection that was let in. What comes of it is to be told; dropped, nothing came of it.
#[derive(Debug)]
pub struct Pass {
    circuit: Arc<Circuit>,
    since: Instant,
    /// It is the one that was let through, and has not told yet.
    probes: bool,
}

/// What is to be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// So many have trapped in a row: refused for so long.
    Opened(usize, Duration),
    /// The one that was let through has trapped, too.
    StillOpen(Duration),
    /// It has not.
    Closed,
}

impl Circuit {
    /// Closed at first.
    pub fn new(limits: &CircuitLimits) -> Arc<Self> {
        Arc::new(Self {
            limits: limits.clone(),
            state: Mutex::new(State::Closed { traps: VecDeque::new(), before: None }),
            open: AtomicBool::new(false),
            streak: AtomicUsize::new(0),
        })
    }

    /// Are connections refused?
    pub fn is_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Until when none is let through, if so.
    pub fn open_until(&self, now: Instant) -> Option<Instant> {
        if !self.is_open() {
            return None;
        }
        match *self.lock() {
            State::Open { until, .. } if until > now => Some(until),
            _ => None,
        }
    }

    /// Lets a connection in; none refuses it.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Option<Pass> {
        let pass = |probes| Pass { circuit: self.clone(), since: now, probes };
        if !self.is_open() {
            return Some(pass(false));
        }
        let mut state = self.lock();
        match *state {
            State::Closed { .. } => Some(pass(false)),
            State::Open { until, .. } if until > now => None,
            State::Open { wait, .. } => {
                *state = State::Probing { since: now, wait };
                Some(pass(true))
            }
            // One that lives for so long is served.
            State::Probing { since, wait } if now.duration_since(since) >= self.limits.window => {
                self.close(&mut state, now, wait);
                Some(pass(false))
            }
            State::Probing { .. } => None,
        }
    }

    /// One has trapped: an instance of many connections, or before it had any.
    pub fn trapped(&self, now: Instant) -> Option<Change> {
        let mut state = self.lock();
        match &mut *state {
            State::Closed { traps, before } => {
                traps.push_back(now);
                traps.retain(|trap| now.duration_since(*trap) < self.limits.window);
                self.streak.store(traps.len(), Relaxed);
                if traps.len() < self.limits.traps_max {
                    return None;
                }
                let lately = before.filter(|(closed, _)| now.duration_since(*closed) < self.limits.window);
                let wait = lately.map_or(WAIT_MIN, |(_, wait)| longer(wait));
                let count = traps.len();
                self.open(&mut state, now, wait);
                Some(Change::Opened(count, wait))
            }
            // The one that was let through, of an instance that is gone with it.
            State::Open { until, wait } if *until <= now => {
                let wait = longer(*wait);
                self.open(&mut state, now, wait);
                Some(Change::StillOpen(wait))
            }
            // They began before.
            State::Open { .. } | State::Probing { .. } => None,
        }
    }

    fn succeeded(&self) {
        if self.streak.load(Relaxed) > 0
            && let State::Closed { traps, .. } = &mut *self.lock()
        {
            traps.clear();
            self.streak.store(0, Relaxed);
        }
    }

    fn probed(&self, now: Instant, trapped: bool) -> Option<Change> {
        let mut state = self.lock();
        let State::Probing { wait, .. } = *state else { return None };
        if trapped {
            let wait = longer(wait);
            self.open(&mut state, now, wait);
            return Some(Change::StillOpen(wait));
        }
        self.close(&mut state, now, wait);
        Some(Change::Closed)
    }

    fn open(&self, state: &mut State, now: Instant, wait: Duration) {
        *state = State::Open { until: now + wait, wait };
        self.open.store(true, Relaxed);
    }

    fn close(&self, state: &mut State, now: Instant, wait: Duration) {
        *state = State::Closed { traps: VecDeque::new(), before: Some((now, wait)) };
        self.streak.store(0, Relaxed);
        self.open.store(false, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// It has ended without a trap.
    pub fn succeeded(mut self) -> Option<Change> {
        if mem::take(&mut self.probes) {
            return self.circuit.probed(Instant::now(), false);
        }
        self.circuit.succeeded();
        None
    }

    /// It has ended with one. After a long time, that says nothing of the others.
    pub fn trapped(mut self) -> Option<Change> {
        let now = Instant::now();
        if mem::take(&mut self.probes) {
            return self.circuit.probed(now, true);
        }
        let lately = now.duration_since(self.since) < self.circuit.limits.window;
        if lately { self.circuit.trapped(now) } else { None }
    }
}

impl Drop for Pass {
    /// The next one is let through in its place.
    fn drop(&mut self) {
        if !self.probes {
            return;
        }
        let mut state = self.circuit.lock();
        if let State::Probing { wait, .. } = *state {
            *state = State::Open { until: Instant::now(), wait };
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Opened(traps, wait) => {
                write!(
                    f,
                    "the last {traps} connections trapped: refusing more, and letting one through in {wait:?}"
                )
            }
            Change::StillOpen(wait) => {
                write!(
                    f,
                    "the connection that was let through trapped: letting the next one through in {wait:?}"
                )
            }
            Change::Closed => {
                f.write_str("the connection that was let through did not trap: serving them again")
            }
        }
    }
}

fn longer(wait: Duration) -> Duration {
    (wait * 2).min(WAIT_MAX)
}

const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
