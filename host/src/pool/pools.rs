//! All pools of a tenant.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use thiserror::Error;

use super::{
    Pool,
    options::{PoolOptions, Target, cut},
    stats::{Discard, PoolStats},
};
use crate::config::limits::Limits;

/// A tenant's pools. A connection of one tenant is never in another's.
pub struct Pools {
    state: Mutex<State>,
    limits: Limits,
    /// There may be more than the limit says.
    lenient: bool,
}

#[derive(Default)]
struct State {
    /// By what they connect to and how; the number says when it was last opened.
    pools: HashMap<(Target, PoolOptions), (u64, Pool)>,
    opens: u64,
}

/// The tenant has as many pools in use as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("all of the tenant's pools are in use")]
pub struct TooManyPools;

impl Pools {
    /// None yet. The limits are the most that a guest may ask for.
    pub fn new(limits: &Limits, lenient: bool) -> Pools {
        Pools { state: Mutex::default(), limits: limits.clone(), lenient }
    }

    /// The pool of `target` with these options, cut to the limits, or with the limits themselves.
    ///
    /// A pool stays when its last handle drops, so that it serves the next coroutine; when there are too many, the one
    /// longest unused makes room.
    pub fn open(&self, target: Target, options: Option<PoolOptions>) -> Result<Pool, TooManyPools> {
        self.open_counted(target, options).map(|(pool, _)| pool)
    }

    /// As [`open`](Pools::open), with how many there are if this one is beyond the limit.
    pub fn open_counted(
        &self,
        target: Target,
        options: Option<PoolOptions>,
    ) -> Result<(Pool, Option<usize>), TooManyPools> {
        let options = cut(options, &self.limits);
        let key = (target, options);
        let mut state = self.lock();
        state.opens += 1;
        let opens = state.opens;
        if let Some((last, pool)) = state.pools.get_mut(&key) {
            *last = opens;
            return Ok((pool.clone(), None));
        }
        let mut evicted = None;
        if state.pools.len() >= self.limits.pools_max {
            let unused = state.pools.iter().filter(|(_, (_, pool))| Arc::strong_count(&pool.0) == 1);
            let longest = unused.min_by_key(|(_, (last, _))| *last).map(|(key, _)| key.clone());
            evicted = match longest {
                Some(longest) => state.pools.remove(&longest),
                None if self.lenient => None,
                None => return Err(TooManyPools),
            };
        }
        let pool = Pool::new(key.1.clone());
        state.pools.insert(key, (opens, pool.clone()));
        let count = state.pools.len();
        drop(state);
        drop(evicted);
        Ok((pool, (count > self.limits.pools_max).then_some(count)))
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

#[cfg(test)]
mod tests;
