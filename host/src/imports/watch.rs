//! Peers that keep a handler waiting: one that sends nothing for too long, or does not take what it is sent, is reset.
//!
//! No timer is set for a message. A connection notes what it begins to wait for, and in which tick, and as long as there are
//! connections a task on their worker looks at all of them once a tick. Of a handler that waits for none of its peer's doings, it also
//! asks the system whether the peer is still there.

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

use super::{Context, orphan::Orphan};
use crate::{
    config::{limits::PeerLimits, units::show_duration, warn::Warn},
    metrics::{Counter, Metrics},
    warnings::Warnings,
};

/// The connections that a handler has on one worker.
pub struct Watch {
    limits: PeerLimits,
    tick: Duration,
    now: AtomicU32,
    metrics: Arc<Metrics>,
    warnings: Arc<Warnings>,
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
    /// By limit, where it only warns.
    passed: Option<Box<[Passed; 4]>>,
    /// The guest has ended its side: the end of the other one is no cut.
    send_ended: AtomicBool,
    /// In which tick it was found cut off; 0 if it was not, and [`TOLD`] once its coroutine was told of it.
    gone_since: AtomicU32,
    /// Told when its peer has been gone for too long.
    orphan: Option<Arc<Orphan>>,
}

/// A limit that a peer has passed and that only warns.
#[derive(Debug, Default)]
struct Passed {
    /// Which wait it was: the tick in which that began.
    since: AtomicU32,
    /// How often what would have to be the limit has doubled; 0 before the first time.
    doublings: AtomicU32,
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

impl Overdue {
    const ALL: [Self; 4] = [Self::FirstByte, Self::Idle, Self::Rate, Self::Write];

    fn warn(self) -> Warn {
        match self {
            Self::FirstByte => Warn::FirstByte,
            Self::Idle => Warn::Idle,
            Self::Rate => Warn::ReceiveRateMin,
            Self::Write => Warn::Write,
        }
    }

    fn counter(self, metrics: &Metrics) -> &Counter {
        match self {
            Self::FirstByte => &metrics.first_byte_timeouts,
            Self::Idle => &metrics.idle_timeouts,
            Self::Rate => &metrics.rate_timeouts,
            Self::Write => &metrics.write_timeouts,
        }
    }
}

impl Watched {
    /// Whether it has been reset, by the host or its peer. While the guest waits for it, that is what the guest learns first.
    fn is_gone(&self) -> bool {
        let waits = self.recv_since.load(Relaxed) > 0 || self.send_since.load(Relaxed) > 0;
        self.overdue.load(Relaxed) > 0
            || (!waits && !self.send_ended.load(Relaxed) && self.resetter.is_cut_off())
    }

    fn passed(&self, which: Overdue) -> Option<&Passed> {
        self.passed.as_ref().map(|passed| &passed[which as usize])
    }
}

impl Watch {
    /// For a coroutine that is spawned with connections, and has no other deadlines. None if it may go on.
    pub fn of_spawned(context: &Context) -> Option<Arc<Self>> {
        let limits = PeerLimits { orphan_max: context.limits.peer.orphan_max, ..PeerLimits::default() };
        Self::new(&limits, &context.metrics, &context.warnings)
    }

    /// To be told by it, for a coroutine with so many connections. None if it may go on.
    pub fn orphan(&self, peers: usize) -> Option<Arc<Orphan>> {
        self.limits.orphan_max.map(|_| Orphan::of(peers))
    }

    /// None if there is nothing to look at.
    pub fn new(limits: &PeerLimits, metrics: &Arc<Metrics>, warnings: &Arc<Warnings>) -> Option<Arc<Self>> {
        let shortest = [limits.first_byte_max, limits.idle_max, limits.write_max, limits.orphan_max];
        let shortest = shortest.into_iter().flatten().min();
        let rated = limits.bytes_per_second_min.map(|_| TICK_MAX);
        let tick = shortest.map(|limit| limit / TICKS_OF_A_LIMIT).into_iter().chain(rated).min()?;
        Some(Arc::new(Self {
            limits: limits.clone(),
            tick: tick.clamp(TICK_MIN, TICK_MAX),
            now: AtomicU32::new(1),
            metrics: metrics.clone(),
            warnings: warnings.clone(),
            connections: Mutex::default(),
            looking: AtomicBool::new(false),
        }))
    }

    /// Watches a connection of this worker's, for a coroutine that is told when its peer is gone, if there is one.
    pub fn over(self: &Arc<Self>, stream: &TcpStream, orphan: Option<&Arc<Orphan>>) -> Watching {
        let watched = Arc::new(Watched {
            resetter: stream.resetter(),
            accepted: self.now.load(Relaxed),
            recv_since: AtomicU32::new(0),
            send_since: AtomicU32::new(0),
            received: AtomicU64::new(0),
            held: AtomicU32::new(0),
            holds_sends: AtomicBool::new(false),
            overdue: AtomicU8::new(0),
            passed: Overdue::ALL.iter().any(|limit| self.warnings.lets_pass(limit.warn())).then(Box::default),
            send_ended: AtomicBool::new(false),
            gone_since: AtomicU32::new(0),
            orphan: orphan.cloned(),
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
        let (mut overdue, mut orphans) = (Vec::new(), Vec::new());
        let any = {
            let connections = self.connections();
            for (_, watched) in connections.iter() {
                if let Some(limit) = self.overdue(watched, now) {
                    watched.overdue.store(limit as u8 + 1, Relaxed);
                    overdue.push((watched.resetter, limit));
                }
                orphans.extend(self.orphaned(watched, now));
            }
            !connections.is_empty()
        };
        for (resetter, limit) in overdue {
            limit.counter(&self.metrics).increment();
            resetter.reset();
        }
        orphans.into_iter().for_each(|orphan| orphan.lose());
        any
    }

    /// Its coroutine, if that is to be told that it is gone: once.
    fn orphaned(&self, watched: &Watched, now: u32) -> Option<Arc<Orphan>> {
        let (limit, orphan) = self.limits.orphan_max.zip(watched.orphan.as_ref())?;
        match watched.gone_since.load(Relaxed) {
            TOLD => None,
            0 => {
                if watched.is_gone() {
                    watched.gone_since.store(now, Relaxed);
                }
                None
            }
            since if self.age(since, now) <= limit => None,
            _ => {
                watched.gone_since.store(TOLD, Relaxed);
                Some(orphan.clone())
            }
        }
    }

    /// The first limit that it has passed and that does not only warn.
    fn overdue(&self, watched: &Watched, now: u32) -> Option<Overdue> {
        if watched.overdue.load(Relaxed) > 0 {
            return None;
        }
        let recv_since = watched.recv_since.load(Relaxed);
        let received = watched.received.load(Relaxed);
        // Its peer may have had to wait for what is held up.
        let accepted = watched.accepted.wrapping_add(watched.held.load(Relaxed));
        let waits = recv_since > 0 && !watched.holds_sends.load(Relaxed);
        let PeerLimits { first_byte_max, idle_max, write_max, bytes_per_second_min, .. } = self.limits;
        if waits && received == 0 {
            let age = self.age(accepted, now);
            if let late @ Some(_) =
                self.late(watched, Overdue::FirstByte, first_byte_max, watched.accepted, age)
            {
                return late;
            }
        } else if waits {
            let age = self.age(recv_since, now);
            if let late @ Some(_) = self.late(watched, Overdue::Idle, idle_max, recv_since, age) {
                return late;
            }
            let rated = self.age(accepted, now).saturating_sub(RATE_GRACE).as_secs();
            let least = bytes_per_second_min.map_or(0, |rate| rated.saturating_mul(rate));
            if received < least && !self.slow_passes(watched, received / rated.max(1)) {
                return Some(Overdue::Rate);
            }
        }
        match watched.send_since.load(Relaxed) {
            0 => None,
            since => self.late(watched, Overdue::Write, write_max, since, self.age(since, now)),
        }
    }

    fn age(&self, since: u32, now: u32) -> Duration {
        self.tick * now.wrapping_sub(since)
    }

    /// Whether a wait, which began in that tick, is too long and that is not let pass.
    fn late(
        &self,
        watched: &Watched,
        which: Overdue,
        limit: Option<Duration>,
        since: u32,
        age: Duration,
    ) -> Option<Overdue> {
        let limit = limit?;
        if age <= limit {
            return None;
        }
        let warn = which.warn();
        let Some(passed) = watched.passed(which).filter(|_| self.warnings.lets_pass(warn)) else {
            return Some(which);
        };
        if passed.since.swap(since, Relaxed) != since {
            passed.doublings.store(0, Relaxed);
        }
        let doublings = passed.doublings.load(Relaxed);
        // It is counted once, and told again whenever it has doubled.
        if age > limit * (1 << doublings.min(20)) {
            passed.doublings.store(doublings + 1, Relaxed);
            let would_do = show_duration(limit * (2 << doublings.min(20)));
            let (what, line) =
                (format_args!("a peer that lets wait for {age:?}"), format_args!("{would_do:?}"));
            match doublings {
                0 => self.warnings.would_deny(warn, what, line),
                _ => self.warnings.tell(warn, what, line),
            }
        }
        None
    }

    /// Whether a peer that sends too slowly is let pass; it is counted once.
    fn slow_passes(&self, watched: &Watched, rate: u64) -> bool {
        let Some(passed) =
            watched.passed(Overdue::Rate).filter(|_| self.warnings.lets_pass(Warn::ReceiveRateMin))
        else {
            return false;
        };
        if passed.doublings.swap(1, Relaxed) == 0 {
            let what = format_args!("a peer that sends {rate} bytes a second");
            // A minimum that cannot be 0.
            match rate {
                0 => self.warnings.would_deny(Warn::ReceiveRateMin, what, "\"off\""),
                rate => self.warnings.would_deny(Warn::ReceiveRateMin, what, rate),
            }
        }
        true
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

    /// The guest has ended its side.
    pub(super) fn end_sending(&self) {
        self.watched.send_ended.store(true, Relaxed);
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

/// In place of a tick, which is never reached.
const TOLD: u32 = u32::MAX;
/// How exactly a limit holds: it is passed by up to one of these.
const TICKS_OF_A_LIMIT: u32 = 8;
const TICK_MIN: Duration = Duration::from_millis(5);
const TICK_MAX: Duration = Duration::from_secs(1);
/// The rate of a connection counts from here on.
const RATE_GRACE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::Ending;

    #[test]
    fn what_limits_end_is_counted() {
        for limit in LIMITS {
            assert!(Ending::ALL.contains(&Ending::Timeout(limit)), "{limit}");
        }
    }
}
