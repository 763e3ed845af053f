//! Client connections kept open, shared by all coroutines of a tenant on all workers.
//!
//! A stream belongs to its worker's reactor, a pool to none. So an idle connection is a bare descriptor, registered
//! nowhere: any worker can take it, the one lock is all there is to get right, and an idle connection costs the reactor
//! nothing. The price is one registration for each time it goes out. That the peer has closed it meanwhile is seen when
//! it is taken: it is looked at when it comes back and again when it goes out.

mod line;

use std::{
    collections::HashMap,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use conet_rt::{Handle, WorkerId, net::TcpStream, time};
use thiserror::Error;

use crate::{config::limits::Limits, quota::Permit};
use line::{Line, Place};

/// A tenant's pools. A connection of one tenant is never in another's.
pub struct Pools {
    state: Mutex<State>,
    limits: Limits,
}

#[derive(Default)]
struct State {
    /// By what they connect to and how; the number says when it was last opened.
    pools: HashMap<(Target, PoolOptions), (u64, Pool)>,
    opens: u64,
}

/// What a pool connects to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// This address.
    Address(SocketAddr),
    /// The addresses of this name, and a port.
    Name(String, u16),
}

/// How a pool behaves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolOptions {
    /// Connections open at once, in use and idle; more `get`s wait in line. At least 1.
    pub open_max: usize,
    /// Idle connections kept.
    pub idle_max: usize,
    /// How long an idle connection is kept.
    pub idle_age_max: Duration,
    /// How old a connection may be when it is kept or goes out again; zero is as long as the tenant's limits allow.
    pub age_max: Duration,
    /// How long opening a connection may take; for whoever opens it, the pool itself does not look.
    pub connect_max: Duration,
}

/// The tenant has as many pools in use as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("all of the tenant's pools are in use")]
pub struct TooManyPools;

impl Pools {
    /// None yet. The limits are the most that a guest may ask for.
    pub fn new(limits: &Limits) -> Pools {
        Pools { state: Mutex::default(), limits: limits.clone() }
    }

    /// The pool of `target` with these options, cut to the limits, or with the limits themselves.
    ///
    /// A pool stays when its last handle drops, so that it serves the next coroutine; when there are too many, the one
    /// longest unused makes room.
    pub fn open(&self, target: Target, options: Option<PoolOptions>) -> Result<Pool, TooManyPools> {
        let options = cut(options, &self.limits);
        let key = (target, options);
        let mut state = self.lock();
        state.opens += 1;
        let opens = state.opens;
        if let Some((last, pool)) = state.pools.get_mut(&key) {
            *last = opens;
            return Ok(pool.clone());
        }
        let mut evicted = None;
        if state.pools.len() >= self.limits.pools_max {
            let unused = state.pools.iter().filter(|(_, (_, pool))| Arc::strong_count(&pool.0) == 1);
            let longest = unused.min_by_key(|(_, (last, _))| *last).map(|(key, _)| key.clone());
            evicted = state.pools.remove(&longest.ok_or(TooManyPools)?);
        }
        let pool = Pool::new(key.1.clone());
        state.pools.insert(key, (opens, pool.clone()));
        drop(state);
        drop(evicted);
        Ok(pool)
    }

    /// Closes the connection that is idle longest in any pool, so that one can be opened elsewhere; false if none is idle.
    pub fn close_oldest_idle(&self) -> bool {
        let oldest = self.all().into_iter().filter_map(|pool| Some((pool.0.line.oldest()?, pool)));
        let Some((_, pool)) = oldest.min_by_key(|(since, _)| *since) else { return false };
        pool.0.make_room()
    }

    /// Closes all idle connections, as at the end.
    pub fn close_idle(&self) {
        for Pool(shared) in self.all() {
            let (closed, _) = shared.line.expire(Instant::now());
            shared.discard_all(Discard::IdleAge, closed);
        }
    }

    /// The counters of all pools together.
    pub fn stats(&self) -> PoolStats {
        self.all().iter().map(Pool::stats).fold(PoolStats::default(), PoolStats::plus)
    }

    fn all(&self) -> Vec<Pool> {
        self.lock().pools.values().map(|(_, pool)| pool.clone()).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle on a pool.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    line: Arc<Line<Kept>>,
    options: PoolOptions,
    opened: AtomicU64,
    reused: AtomicU64,
    discarded: [AtomicU64; Discard::COUNT],
}

/// A connection without a worker. In this order: closed first, then its permit given back.
struct Kept {
    fd: OwnedFd,
    permit: Permit,
    opened: Instant,
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GetError<E> {
    /// The deadline came while waiting in line, or while connecting.
    #[error("timed out waiting for a pooled connection")]
    TimedOut,
    /// What connecting came to.
    #[error(transparent)]
    Connect(E),
}

impl Pool {
    fn new(options: PoolOptions) -> Pool {
        Pool(Arc::new(Shared {
            line: Line::new(options.open_max, options.idle_max),
            options,
            opened: AtomicU64::new(0),
            reused: AtomicU64::new(0),
            discarded: Default::default(),
        }))
    }

    /// An idle connection, or a new one from `connect`, for the current worker. With as many open as may be, it waits
    /// in line, first come first served, until the deadline.
    pub async fn get<E, F>(
        &self,
        deadline: Option<Instant>,
        connect: impl FnOnce() -> F,
    ) -> Result<Pooled, GetError<E>>
    where
        F: Future<Output = Result<(TcpStream, Permit), E>>,
    {
        let shared = &self.0;
        shared.sweep();
        let acquired = time::timeout_at(deadline, shared.line.acquire()).await;
        let (mut place, mut kept) = acquired.map_err(|_| GetError::TimedOut)?;
        while let Some(candidate) = kept {
            match shared.revive(candidate) {
                Some(connection) => {
                    shared.reused.fetch_add(1, Ordering::Relaxed);
                    return Ok(Pooled::new(shared, place, connection));
                }
                None => kept = place.swap(),
            }
        }
        let connected = time::timeout_at(deadline, connect()).await.map_err(|_| GetError::TimedOut)?;
        let (stream, permit) = connected.map_err(GetError::Connect)?;
        shared.opened.fetch_add(1, Ordering::Relaxed);
        shared.start_sweeping();
        Ok(Pooled::new(shared, place, Connection { stream, permit, opened: Instant::now() }))
    }

    /// How long opening a connection may take.
    pub fn connect_max(&self) -> Duration {
        self.0.options.connect_max
    }

    /// The counters.
    pub fn stats(&self) -> PoolStats {
        let counts = self.0.line.counts();
        PoolStats {
            opened: self.0.opened.load(Ordering::Relaxed),
            reused: self.0.reused.load(Ordering::Relaxed),
            discarded: self.0.discarded.each_ref().map(|count| count.load(Ordering::Relaxed)),
            waited: counts.waited,
            open: counts.open,
            idle: counts.idle,
        }
    }
}

impl Shared {
    /// The connection on this worker, if it is as good as when it was kept.
    fn revive(&self, kept: Kept) -> Option<Connection> {
        let Kept { fd, permit, opened } = kept;
        if opened.elapsed() >= self.options.age_max {
            self.count(Discard::Age);
            return None;
        }
        match TcpStream::from_fd(fd) {
            Ok(stream) if stream.is_idle() => Some(Connection { stream, permit, opened }),
            _ => {
                self.count(Discard::UnhealthyAtGet);
                None
            }
        }
    }

    /// Closes what is idle for too long; gives since when the oldest left is.
    fn sweep(&self) -> Option<Instant> {
        match Instant::now().checked_sub(self.options.idle_age_max) {
            Some(until) => {
                let (expired, oldest) = self.line.expire(until);
                self.discard_all(Discard::IdleAge, expired);
                oldest
            }
            // Nothing is older than the clock.
            None => self.line.oldest(),
        }
    }

    /// Has this worker close idle connections in time, until none is open. One task at a time does it for all workers;
    /// should it end with its worker, the next connection opened starts another.
    fn start_sweeping(self: &Arc<Shared>) {
        if !self.line.start_sweeping() {
            return;
        }
        let mut sweeping = Sweeping(Arc::downgrade(self));
        conet_rt::spawn(async move {
            while let Some(next) = sweeping.once() {
                time::sleep_until(next).await;
            }
        })
        .detach();
    }

    /// Closes the connection that is idle longest, if one is.
    fn make_room(&self) -> bool {
        self.discard_all(Discard::IdleAge, self.line.expire_oldest().into_iter().collect()) > 0
    }

    /// Closes connections; gives how many.
    fn discard_all(&self, why: Discard, closed: Vec<Kept>) -> usize {
        closed.iter().for_each(|_| self.count(why));
        closed.len()
    }

    fn count(&self, why: Discard) {
        self.discarded[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// The task that closes idle connections in time. It keeps no pool alive.
struct Sweeping(Weak<Shared>);

impl Sweeping {
    /// Closes what is due; gives when to look again, or nothing when no connection is open.
    fn once(&mut self) -> Option<Instant> {
        let shared = self.0.upgrade()?;
        let oldest = shared.sweep();
        if shared.line.may_stop_sweeping() {
            // Another may sweep from now on.
            self.0 = Weak::new();
            return None;
        }
        let since = oldest.unwrap_or_else(Instant::now);
        let due = since.checked_add(shared.options.idle_age_max);
        // A guest may ask for an age of nothing.
        Some(due.unwrap_or_else(|| time::after(Duration::MAX)).max(time::after(SWEEP_PAUSE_MIN)))
    }
}

impl Drop for Sweeping {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.line.stop_sweeping();
        }
    }
}

/// A connection lent by a pool. Dropping it returns it, if it is still good and dropped on its own worker.
pub struct Pooled {
    shared: Arc<Shared>,
    worker: Option<WorkerId>,
    /// A call on it has failed, or ended a half of it.
    spoiled: bool,
    /// TCP_NODELAY is off.
    delayed: bool,
    /// Some until it is dropped or discarded.
    lent: Option<(Connection, Place<Kept>)>,
}

/// A connection on its worker. In this order: closed first, then its permit given back.
struct Connection {
    stream: TcpStream,
    permit: Permit,
    opened: Instant,
}

impl Pooled {
    fn new(shared: &Arc<Shared>, place: Place<Kept>, connection: Connection) -> Pooled {
        let worker = Handle::current().map(|worker| worker.id());
        let lent = Some((connection, place));
        Pooled { shared: shared.clone(), worker, spoiled: false, delayed: false, lent }
    }

    /// The connection.
    pub fn stream(&self) -> &TcpStream {
        let (connection, _) = self.lent.as_ref().expect("it is lent until it is dropped");
        &connection.stream
    }

    /// It does not go back: an answer may still come that the next one would take for its own, or half of it is closed.
    pub fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Notes that TCP_NODELAY is off, or on again as the next one expects it.
    pub fn set_delayed(&mut self, delayed: bool) {
        self.delayed = delayed;
    }

    /// Closes it: it is not to be used again.
    pub fn discard(mut self) {
        self.end(Discard::Closed, |stream| stream.close());
    }

    /// Resets it: it was cut off.
    pub fn reset(mut self) {
        self.end(Discard::Closed, |stream| stream.reset());
    }

    fn end(&mut self, why: Discard, close: impl FnOnce(&TcpStream)) {
        if let Some((connection, place)) = self.lent.take() {
            close(&connection.stream);
            self.shared.count(why);
            // The connection and its permit first, or the next in line would find the permit taken.
            drop(connection);
            drop(place);
        }
    }

    /// Whether it may go back, as far as can be told from outside of it.
    fn flaw(&self, connection: &Connection) -> Option<Discard> {
        let here = Handle::current().map(|worker| worker.id());
        if here != self.worker || thread::panicking() {
            Some(Discard::Abandoned)
        } else if self.spoiled {
            Some(Discard::Spoiled)
        } else if connection.opened.elapsed() >= self.shared.options.age_max {
            Some(Discard::Age)
        } else if !connection.stream.is_idle()
            || (self.delayed && connection.stream.set_nodelay(true).is_err())
        {
            Some(Discard::UnhealthyAtPut)
        } else {
            None
        }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let Some((connection, _)) = &self.lent else { return };
        if let Some(flaw) = self.flaw(connection) {
            return self.end(flaw, |_| {});
        }
        let Some((Connection { stream, permit, opened }, place)) = self.lent.take() else { return };
        match stream.into_fd() {
            Ok(fd) => {
                let outbound = permit.quota().clone();
                match place.keep(Kept { fd, permit, opened }) {
                    Err(_) => self.shared.count(Discard::IdleMax),
                    // Looked at only now, when whoever comes to wait finds it idle.
                    Ok(()) if outbound.is_wanted() => drop(self.shared.make_room()),
                    Ok(()) => {}
                }
            }
            Err(_) => {
                self.shared.count(Discard::UnhealthyAtPut);
                drop(permit);
                drop(place);
            }
        }
    }
}

/// What a pool has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Connections opened.
    pub opened: u64,
    /// Times an idle connection went out again.
    pub reused: u64,
    /// Connections closed instead of kept, by [`Discard`] in its order.
    pub discarded: [u64; Discard::COUNT],
    /// Times a `get` had to wait in line.
    pub waited: u64,
    /// Connections open now: in use, idle, and being opened.
    pub open: usize,
    /// Of them, idle now.
    pub idle: usize,
}

impl PoolStats {
    /// Connections closed instead of kept, for whatever reason.
    pub fn discarded_total(&self) -> u64 {
        self.discarded.iter().sum()
    }

    fn plus(mut self, other: PoolStats) -> PoolStats {
        self.opened += other.opened;
        self.reused += other.reused;
        self.discarded.iter_mut().zip(other.discarded).for_each(|(sum, count)| *sum += count);
        self.waited += other.waited;
        self.open += other.open;
        self.idle += other.idle;
        self
    }
}

/// Why a connection was closed instead of kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// It came back with unread bytes, an error, or its peer gone.
    UnhealthyAtPut,
    /// The same, found when it was to go out again.
    UnhealthyAtGet,
    /// It was idle for too long, or made room for another.
    IdleAge,
    /// It was too old.
    Age,
    /// Enough others were idle.
    IdleMax,
    /// The guest closed it.
    Closed,
    /// Its worker ended, or a panic dropped it.
    Abandoned,
    /// A call on it failed or timed out, or it was shut down.
    Spoiled,
}

impl Discard {
    /// How many reasons there are.
    pub const COUNT: usize = 8;

    /// All of them, with their names in counters.
    pub const ALL: [(Discard, &str); Discard::COUNT] = [
        (Discard::UnhealthyAtPut, "unhealthy-at-put"),
        (Discard::UnhealthyAtGet, "unhealthy-at-get"),
        (Discard::IdleAge, "idle-age"),
        (Discard::Age, "age"),
        (Discard::IdleMax, "idle-max"),
        (Discard::Closed, "closed"),
        (Discard::Abandoned, "abandoned"),
        (Discard::Spoiled, "spoiled"),
    ];
}

/// What was asked for, cut to what the tenant may have.
fn cut(options: Option<PoolOptions>, limits: &Limits) -> PoolOptions {
    let max = PoolOptions {
        open_max: limits.pool.open_max,
        idle_max: limits.pool.idle_max,
        idle_age_max: limits.pool.idle_age_max,
        age_max: limits.pool.age_max,
        connect_max: limits.connect_max,
    };
    let Some(asked) = options else { return max };
    let age_max = if asked.age_max.is_zero() { max.age_max } else { asked.age_max.min(max.age_max) };
    PoolOptions {
        open_max: asked.open_max.clamp(1, max.open_max.max(1)),
        idle_max: asked.idle_max.min(max.idle_max),
        idle_age_max: asked.idle_age_max.min(max.idle_age_max),
        age_max,
        connect_max: asked.connect_max.min(max.connect_max),
    }
}

/// The least time between two looks at what is idle.
const SWEEP_PAUSE_MIN: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
