//! A limit's live meter. A *limit* is the number, a *quota* counts against it, a *permit* is what was taken.

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
    used: AtomicU64,
    peak: AtomicU64,
    /// Tasks inside `acquire` and `drained`.
    waiting: Waiting,
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
        Arc::new(Self { max, used: AtomicU64::new(0), peak: AtomicU64::new(0), waiting: Waiting::default() })
    }

    /// Takes `units`, if as many are free.
    pub fn try_acquire(self: &Arc<Self>, units: u64) -> Option<Permit> {
        self.take(units).then(|| Permit { quota: self.clone(), units })
    }

    /// Waits until one unit is free, and takes it: first come, first served.
    pub fn acquire(self: &Arc<Self>) -> Acquire {
        Acquire::new(self)
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

    /// The most units that were in use at once.
    pub fn peak(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    fn take(&self, units: u64) -> bool {
        let fits = |used: u64| used.checked_add(units).filter(|after| *after <= self.max);
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
