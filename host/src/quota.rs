//! A limit's live meter. A *limit* is the number, a *quota* counts against it, a *permit* is what was taken.
//!
//! A quota may lie within another, as a tenant's within its host's: what is taken from one is taken from both. It may also have
//! one in common with others of its kind, as the versions of a tenant have, whose hosts' may be different ones.

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
    max: AtomicU64,
    /// What is beyond `max` is given, too, as far as what it lies within has it.
    lenient: bool,
    used: AtomicU64,
    peak: AtomicU64,
    /// Tasks inside `acquire` and `drained`.
    waiting: Waiting,
    /// What it and others give comes out of together.
    common: Option<Arc<Quota>>,
    /// What all it gives comes out of, too.
    within: Option<Arc<Quota>>,
}

/// What a quota is besides its number.
#[derive(Debug, Default)]
pub struct Bounds {
    /// Nobody is refused, or waits, for more than its own units: [`beyond`](Quota::beyond) tells.
    pub lenient: bool,
    /// What it and others give comes out of together.
    pub common: Option<Arc<Quota>>,
    /// What all it gives comes out of, too.
    pub within: Option<Arc<Quota>>,
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
        Self::of(max, Bounds::default())
    }

    /// A quota of `max` units, each of which is one of `within`, too.
    pub fn within(within: &Arc<Quota>, max: u64) -> Arc<Self> {
        Self::of(max, Bounds { within: Some(within.clone()), ..Bounds::default() })
    }

    /// A quota of `max` units, none used, with these bounds.
    pub fn of(max: u64, bounds: Bounds) -> Arc<Self> {
        let Bounds { lenient, common, within } = bounds;
        Arc::new(Self {
            max: AtomicU64::new(max),
            lenient,
            used: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            waiting: Waiting::default(),
            common,
            within,
        })
    }

    /// It has so many units from now on. Those in use beyond that stay.
    pub fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::SeqCst);
        self.waiting.serve(self);
    }

    /// Takes `units`, if as many are free.
    pub fn try_acquire(self: &Arc<Self>, units: u64) -> Option<Permit> {
        self.take_with_rest(units).then(|| Permit { quota: self.clone(), units })
    }

    /// As [`try_acquire`](Quota::try_acquire), but that what others have taken of what is common refuses nothing: it is counted there.
    pub fn try_acquire_anyway(self: &Arc<Self>, units: u64) -> Option<Permit> {
        if !self.take(units) {
            return None;
        }
        if !self.within.as_ref().is_none_or(|within| within.take_with_rest(units)) {
            self.put_back(units);
            return None;
        }
        if let Some(common) = &self.common {
            common.note(common.used.fetch_add(units, Ordering::SeqCst) + units);
        }
        Some(Permit { quota: self.clone(), units })
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
        self.waiting.is_wanted() || self.common.as_ref().is_some_and(|common| common.is_wanted())
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
        (used > self.max()).then_some(used)
    }

    /// All its units.
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// The most units that were in use at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// From this quota and those that bound it.
    fn take_with_rest(&self, units: u64) -> bool {
        if !self.take(units) {
            return false;
        }
        if !self.common.as_ref().is_none_or(|common| common.take_with_rest(units)) {
            self.put_back(units);
            return false;
        }
        if !self.within.as_ref().is_none_or(|within| within.take_with_rest(units)) {
            self.give_back_common(units);
            self.put_back(units);
            return false;
        }
        true
    }

    /// From this quota alone.
    fn take(&self, units: u64) -> bool {
        // One that has just become less may be passed by one who saw it before.
        let max = if self.lenient { u64::MAX } else { self.max.load(Ordering::SeqCst) };
        let fits = |used: u64| used.checked_add(units).filter(|after| *after <= max);
        let taken = self.used.try_update(Ordering::SeqCst, Ordering::SeqCst, fits);
        if let Ok(before) = taken {
            self.note(before + units);
        }
        taken.is_ok()
    }

    /// So many have come to be in use.
    fn note(&self, used: u64) {
        // Mostly it is no new peak, and reading leaves the line where it is.
        if used > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(used, Ordering::Relaxed);
        }
    }

    /// Whether nobody waits for it, or for what bounds it.
    fn is_at_rest(&self) -> bool {
        let mut bounds = self.common.iter().chain(&self.within);
        !self.waiting.is_wanted() && bounds.all(|bound| bound.is_at_rest())
    }

    fn give_back(&self, units: u64) {
        if let Some(within) = &self.within {
            within.give_back(units);
        }
        self.give_back_common(units);
        self.put_back(units);
    }

    fn give_back_common(&self, units: u64) {
        if let Some(common) = &self.common {
            common.give_back(units);
        }
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
