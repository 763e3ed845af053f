//! Client connections kept open, shared by all coroutines of a tenant on all workers.
//!
//! A stream belongs to its worker's reactor, a pool to none. So an idle connection is a bare descriptor, registered
//! nowhere: any worker can take it, the one lock is all there is to get right, and an idle connection costs the reactor
//! nothing. The price is one registration for each time it goes out. That the peer has closed it meanwhile is seen when
//! it is taken: it is looked at when it comes back and again when it goes out.

mod connection;
mod line;
mod options;
mod pooled;
mod pools;
mod stats;
mod sweeping;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use conet_rt::{net::TcpStream, time};
use thiserror::Error;

pub use options::{PoolOptions, Target};
pub use pooled::Pooled;
pub use pools::{Pools, TooManyPools};
pub use stats::{Discard, PoolStats};

use crate::quota::Permit;
use connection::{Connection, Kept};
use line::Line;
use sweeping::Sweeping;

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
        Sweeping::start(shared);
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

#[cfg(test)]
mod tests;
