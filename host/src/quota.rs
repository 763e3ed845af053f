//! A limit's live meter. A *limit* is the number, a *quota* counts against it, a *permit* is what was taken.
//!
//! A quota may lie within another, as a tenant's within its host's: what is taken from one is taken from both.

mod waiting;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

pub use waiting::{Acquire, Drained};

use waiting::Waiting;

/// Counts what is in use of one limited thing, over all threads.
#[derive(Debug)]
pub struct Quota {
    max: u64,
    /// What is beyond `max` is given, too, as far as what it lies within has it.
    lenient: bool,
    used: AtomicU64,
    peak: AtomicU64,
    /// Tasks inside `acquire` and `drained`.
    waiting: Waiting,
    /// What all it gives comes out of, too.
    within: Option<Arc<Quota>>,
}

/// Units taken from a quota; they go back when it drops.
#[derive(Debug)]
pub struct Permit {
    quota: Arc<Quota>,
    units: u64,
}

impl Quota {
    /// A quota of `max` units, none used.
    pub fn new(max: u64) -> Arc<Self> {
        Arc::new(Self::made(max, None, false))
    }

    /// A quota of `max` units, each of which is one of `within`, too.
    pub fn within(within: &Arc<Quota>, max: u64) -> Arc<Self> {
        Arc::new(Self::made(max, Some(within.clone()), false))
    }

    /// As [`within`](Quota::within), but that nobody is refused, or waits, for more than `max`: [`beyond`](Quota::beyond) tells.
    pub fn lenient(within: &Arc<Quota>, max: u64) -> Arc<Self> {
        Arc::new(Self::made(max, Some(within.clone()), true))
    }

    fn made(max: u64, within: Option<Arc<Quota>>, lenient: bool) -> Self {
        Self {
            max,
            lenient,
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            waiting: Waiting::default(),
            within,
        }
    }

    /// Takes `units`, if as many are free.
    pub fn try_acquire(self: &Arc<Self>, units: u64) -> Option<Permit> {
        self.take_with_rest(units).then(|| Permit { quota: self.clone(), units })
    }

    /// Waits until one unit is free, and takes it: first come, first served.
    pub fn acquire(self: &Arc<Self>) -> Acquire {
        self.acquire_many(1)
    }

    /// Waits until as many units are free, and takes them: first come, first served, whoever asks for less. It waits for ever
    /// for more than there are.
    pub fn acquire_many(self: &Arc<Self>, units: u64) -> Acquire {
        Acquire::new(self, units)
    }

    /// Waits until nothing is in use.
    pub fn drained(self: &Arc<Self>) -> Drained {
        Drained::new(self)
    }

    /// Does anybody wait in [`acquire`](Quota::acquire)?
    pub fn is_wanted(&self) -> bool {
        self.waiting.is_wanted()
    }

    fn is_idle(&self) -> bool {
        self.used.load(Ordering::SeqCst) == 0
    }

    /// Units in use now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Units in use if they are more than its own.
    #[inline]
    pub fn beyond(&self) -> Option<u64> {
        let used = self.lenient.then(|| self.used())?;
        (used > self.max).then_some(used)
    }

    /// All its units.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The most units that were in use at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// From this quota and those it lies within.
    fn take_with_rest(&self, units: u64) -> bool {
        if !self.take(units) {
            return false;
        }
        let rest = self.within.as_ref().is_none_or(|within| within.take_with_rest(units));
        if !rest {
            self.put_back(units);
        }
        rest
    }

    /// From this quota alone.
    fn take(&self, units: u64) -> bool {
        let fits = |used: u64| used.checked_add(units).filter(|after| self.lenient || *after <= self.max);
        let taken = self.used.try_update(Ordering::SeqCst, Ordering::SeqCst, fits);
        if let Ok(before) = taken {
            let after = before + units;
            // Mostly it is no new one, and reading leaves the line where it is.
            if after > self.peak.load(Ordering::Relaxed) {
                self.peak.fetch_max(after, Ordering::Relaxed);
            }
        }
        taken.is_ok()
    }

    fn give_back(&self, units: u64) {
        if let Some(within) = &self.within {
            within.give_back(units);
        }
        self.put_back(units);
    }

    /// To this quota alone.
    fn put_back(&self, units: u64) {
        let before = self.used.fetch_sub(units, Ordering::SeqCst);
        assert!(before >= units, "more units came back than were taken");
        self.waiting.serve(self);
    }
}

impl Permit {
    /// The units it holds.
    pub fn units(&self) -> u64 {
        self.units
    }

    /// What it was taken from.
    pub fn quota(&self) -> &Arc<Quota> {
        &self.quota
    }

    /// Takes `units` more into this permit, if as many are free.
    pub fn grow(&mut self, units: u64) -> bool {
        match self.quota.try_acquire(units) {
            Some(mut more) => {
                self.units += std::mem::take(&mut more.units);
                true
            }
            None => false,
        }
    }

    /// Drops it and gives nothing back.
    fn forget(mut self) {
        self.units = 0;
    }

    /// Gives `units` of it back.
    pub fn shrink(&mut self, units: u64) {
        let units = units.min(self.units);
        self.units -= units;
        self.quota.give_back(units);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.units > 0 {
            self.quota.give_back(self.units);
        }
    }
}

#[cfg(test)]
mod tests;
