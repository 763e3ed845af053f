//! Peers that keep a handler waiting: one that sends nothing for too long, or does not take what it is sent, is reset.
//!
//! No timer is set for a message. A connection notes what it begins to wait for, and in which tick, and as long as there are
//! connections a task on their worker looks at all of them once a tick.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use conet_rt::{
    net::{Resetter, TcpStream},
    time,
};
use slab::Slab;

use crate::{config::limits::PeerLimits, metrics::Metrics};

/// The connections that a handler has on one worker.
pub struct Watch {
    limits: PeerLimits,
    tick: Duration,
    now: AtomicU32,
    metrics: Arc<Metrics>,
    connections: Mutex<Slab<Arc<Watched>>>,
    /// The task that looks at them is there.
    looking: AtomicBool,
}

/// What is known of one.
struct Watched {
    resetter: Resetter,
    accepted: u32,
    /// Since which tick the guest waits for the peer to send; 0 if it does not. While it waits, what the peer takes
    /// begins it anew.
    recv_since: AtomicU32,
    /// Since which it waits for the peer to take what is sent.
    send_since: AtomicU32,
    received: AtomicU64,
    /// For so many ticks the host itself has held it up.
    held: AtomicU32,
    /// It holds up what is sent now.
    holds_sends: AtomicBool,
    /// Which limit it has passed: 0 none, or one more than that.
    overdue: AtomicU8,
}

/// One way of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// What its peer sends.
    In,
    /// What it is sent.
    Out,
}

/// Stops the clocks of a connection while the host itself holds it up.
#[derive(Clone)]
pub(super) struct Held {
    watch: Arc<Watch>,
    watched: Arc<Watched>,
}

/// A connection's place, which it leaves with this.
pub struct Watching {
    watch: Arc<Watch>,
    place: usize,
    watched: Arc<Watched>,
}

/// Which limit a peer has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overdue {
    FirstByte,
    Idle,
    Rate,
    Write,
}

/// Their keys, in that order.
const LIMITS: [&str; 4] = ["first-byte", "idle", "receive-rate-min", "write"];

impl Watch {
    /// None if there is nothing to look at.
    pub fn new(limits: &PeerLimits, metrics: &Arc<Metrics>) -> Option<Arc<Self>> {
        let shortest = [limits.first_byte_max, limits.idle_max, limits.write_max];
        let shortest = shortest.into_iter().flatten().min();
        let rated = limits.bytes_per_second_min.map(|_| TICK_MAX);
        let tick = shortest.map(|limit| limit / TICKS_OF_A_LIMIT).into_iter().chain(rated).min()?;
        Some(Arc::new(Self {
            limits: limits.clone(),
            tick: tick.clamp(TICK_MIN, TICK_MAX),
            now: AtomicU32::new(1),
            metrics: metrics.clone(),
            connections: Mutex::default(),
            looking: AtomicBool::new(false),
        }))
    }

    /// Watches a connection of this worker's.
    pub fn over(self: &Arc<Self>, stream: &TcpStream) -> Watching {
        let watched = Arc::new(Watched {
            resetter: stream.resetter(),
            accepted: self.now.load(Relaxed),
            recv_since: AtomicU32::new(0),
            send_since: AtomicU32::new(0),
            received: AtomicU64::new(0),
            held: AtomicU32::new(0),
            holds_sends: AtomicBool::new(false),
            overdue: AtomicU8::new(0),
        });
        let place = self.connections().insert(watched.clone());
        if !self.looking.swap(true, Relaxed) {
            conet_rt::spawn(look(self.clone())).detach();
        }
        Watching { watch: self.clone(), place, watched }
    }

    /// Resets those that are overdue; whether there are any connections.
    fn look(&self) -> bool {
        let now = self.now.fetch_add(1, Relaxed).wrapping_add(1);
        let mut overdue = Vec::new();
        let any = {
            let connections = self.connections();
            for (_, watched) in connections.iter() {
                if let Some(limit) = self.overdue(watched, now) {
                    watched.overdue.store(limit as u8 + 1, Relaxed);
                    overdue.push((watched.resetter, limit));
                }
            }
            !connections.is_empty()
        };
        for (resetter, limit) in overdue {
            let counter = match limit {
                Overdue::FirstByte => &self.metrics.first_byte_timeouts,
                Overdue::Idle => &self.metrics.idle_timeouts,
                Overdue::Rate => &self.metrics.rate_timeouts,
                Overdue::Write => &self.metrics.write_timeouts,
            };
            counter.increment();
            resetter.reset();
        }
        any
    }

    fn overdue(&self, watched: &Watched, now: u32) -> Option<Overdue> {
        if watched.overdue.load(Relaxed) > 0 {
            return None;
        }
        let age = |since: u32| self.tick * now.wrapping_sub(since);
        let beyond = |since, limit: Option<Duration>| limit.is_some_and(|limit| age(since) > limit);
        let PeerLimits { first_byte_max, idle_max, write_max, bytes_per_second_min } = self.limits;
        let received = watched.received.load(Relaxed);
        // Its peer may have had to wait for what is held up.
        let accepted = watched.accepted.wrapping_add(watched.held.load(Relaxed));
        match watched.recv_since.load(Relaxed) {
            0 => {}
            _ if watched.holds_sends.load(Relaxed) => {}
            _ if received == 0 && beyond(accepted, first_byte_max) => {
                return Some(Overdue::FirstByte);
            }
            since if received > 0 && beyond(since, idle_max) => return Some(Overdue::Idle),
            _ if received > 0 => {
                let rated = age(accepted).saturating_sub(RATE_GRACE).as_secs();
                let least = bytes_per_second_min.map_or(0, |rate| rated.saturating_mul(rate));
                if received < least {
                    return Some(Overdue::Rate);
                }
            }
            _ => {}
        }
        match watched.send_since.load(Relaxed) {
            since if since > 0 && beyond(since, write_max) => Some(Overdue::Write),
            _ => None,
        }
    }

    fn connections(&self) -> MutexGuard<'_, Slab<Arc<Watched>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look(watch: Arc<Watch>) {
    loop {
        time::sleep(watch.tick).await;
        if watch.look() {
            continue;
        }
        watch.looking.store(false, Relaxed);
        // Nothing else runs on this worker between the two, and connections come and are moved here only.
        return;
    }
}

impl Watching {
    /// A call to receive begins, and may have to wait.
    pub(super) fn begin_recv(&self) {
        self.watched.recv_since.store(self.watch.now.load(Relaxed), Relaxed);
    }

    /// It has ended, with so many bytes.
    pub(super) fn end_recv(&self, bytes: usize) {
        self.watched.recv_since.store(0, Relaxed);
        if bytes > 0 {
            // Only this connection's calls write here, one at a time.
            let before = self.watched.received.load(Relaxed);
            self.watched.received.store(before + bytes as u64, Relaxed);
        }
    }

    /// A call to send begins, and may have to wait.
    pub(super) fn begin_send(&self) {
        self.watched.send_since.store(self.watch.now.load(Relaxed), Relaxed);
    }

    /// It has ended, with so many bytes taken.
    pub(super) fn end_send(&self, bytes: usize) {
        self.watched.send_since.store(0, Relaxed);
        if bytes > 0 && self.watched.recv_since.load(Relaxed) > 0 {
            self.begin_recv();
        }
    }

    /// Its peer was too slow, and has been reset.
    pub(super) fn is_overdue(&self) -> bool {
        self.watched.overdue.load(Relaxed) > 0
    }

    /// By which limit, as its key is called.
    pub(super) fn overdue(&self) -> Option<&'static str> {
        let limit = self.watched.overdue.load(Relaxed).checked_sub(1)?;
        LIMITS.get(usize::from(limit)).copied()
    }

    /// To stop its clocks by.
    pub(super) fn held(&self) -> Held {
        Held { watch: self.watch.clone(), watched: self.watched.clone() }
    }
}

impl Held {
    /// It is held up from now on; gives since which tick.
    pub(super) fn begin(&self, direction: Direction) -> u32 {
        match direction {
            Direction::In => self.watched.recv_since.store(0, Relaxed),
            Direction::Out => {
                self.watched.send_since.store(0, Relaxed);
                self.watched.holds_sends.store(true, Relaxed);
            }
        }
        self.watch.now.load(Relaxed)
    }

    /// No longer: what it waits for begins anew.
    pub(super) fn end(&self, direction: Direction, since: u32) {
        let now = self.watch.now.load(Relaxed);
        let watched = &self.watched;
        if direction == Direction::Out {
            watched.holds_sends.store(false, Relaxed);
            watched.send_since.store(now, Relaxed);
            if watched.recv_since.load(Relaxed) > 0 {
                watched.recv_since.store(now, Relaxed);
            }
        }
        // Both ways may be held up at once: it is never more than since it was accepted.
        let whole = now.wrapping_sub(watched.accepted);
        let held = watched.held.load(Relaxed).saturating_add(now.wrapping_sub(since));
        watched.held.store(held.min(whole), Relaxed);
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.watch.connections().remove(self.place);
    }
}

/// How exactly a limit holds: it is passed by up to one of these.
const TICKS_OF_A_LIMIT: u32 = 8;
const TICK_MIN: Duration = Duration::from_millis(5);
const TICK_MAX: Duration = Duration::from_secs(1);
/// The rate of a connection counts from here on.
const RATE_GRACE: Duration = Duration::from_secs(10);
