//! A limit's live meter. A *limit* is the number, a *quota* counts against it, a *permit* is what was taken.

use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Poll, Waker},
};

/// Counts what is in use of one limited thing, over all threads.
#[derive(Debug)]
pub struct Quota {
    max: u64,
    used: AtomicU64,
    peak: AtomicU64,
    /// Tasks inside `acquire`. Few: a task per worker and listener.
    waiting: Mutex<Vec<Waker>>,
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
        Arc::new(Self { max, used: AtomicU64::new(0), peak: AtomicU64::new(0), waiting: Mutex::default() })
    }

    /// Takes `units`, if as many are free.
    pub fn try_acquire(self: &Arc<Self>, units: u64) -> Option<Permit> {
        let fits = |used: u64| used.checked_add(units).filter(|after| *after <= self.max);
        let before = self.used.try_update(Ordering::SeqCst, Ordering::SeqCst, fits).ok()?;
        self.peak.fetch_max(before + units, Ordering::Relaxed);
        Some(Permit { quota: self.clone(), units })
    }

    /// Waits until one unit is free, and takes it.
    pub async fn acquire(self: &Arc<Self>) -> Permit {
        poll_fn(|cx| {
            if let Some(permit) = self.try_acquire(1) {
                return Poll::Ready(permit);
            }
            self.waiters().push(cx.waker().clone());
            // A permit may have come back before the waker was in the list.
            match self.try_acquire(1) {
                Some(permit) => Poll::Ready(permit),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Waits until nothing is in use.
    pub async fn drained(&self) {
        poll_fn(|cx| {
            if self.is_idle() {
                return Poll::Ready(());
            }
            self.waiters().push(cx.waker().clone());
            if self.is_idle() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
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

    fn give_back(&self, units: u64) {
        let before = self.used.fetch_sub(units, Ordering::SeqCst);
        assert!(before >= units, "more units came back than were taken");
        // Drop the lock before waking: a woken task may want it at once.
        let waiting = std::mem::take(&mut *self.waiters());
        waiting.into_iter().for_each(Waker::wake);
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The units it holds.
    pub fn units(&self) -> u64 {
        self.units
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
mod tests {
    use super::*;
    use std::{pin::pin, task::Context};

    #[test]
    fn units_come_back_when_the_permit_drops() {
        let quota = Quota::new(2);
        let first = quota.try_acquire(2).expect("two are free");
        assert!(quota.try_acquire(1).is_none());
        drop(first);
        assert_eq!((quota.used(), quota.peak()), (0, 2));
    }

    #[test]
    fn a_permit_grows_within_the_limit_and_shrinks() {
        let quota = Quota::new(10);
        let mut permit = quota.try_acquire(4).expect("four are free");
        assert!(permit.grow(6));
        assert!(!permit.grow(1));
        permit.shrink(3);
        assert_eq!((permit.units(), quota.used()), (7, 7));
    }

    #[test]
    fn units_cannot_overflow() {
        let quota = Quota::new(u64::MAX);
        let _held = quota.try_acquire(u64::MAX).expect("all are free");
        assert!(quota.try_acquire(u64::MAX).is_none());
    }

    #[test]
    fn a_waiter_gets_the_unit_that_comes_back() {
        let quota = Quota::new(1);
        let held = quota.try_acquire(1).expect("one is free");
        let mut waiting = pin!(quota.acquire());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        drop(held);
        assert!(waiting.as_mut().poll(&mut cx).is_ready());
    }
}
