//! So many units a second, and a burst: a leaky bucket that counts in time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A limit on how often, or how much, over time. Shared by threads.
#[derive(Debug)]
pub struct Rate {
    per_second: AtomicU64,
    /// What may be taken at once, in nanoseconds: the time in which it comes back.
    burst: AtomicU64,
    began: Instant,
    /// When all that was taken will have come back, in nanoseconds since it began.
    full_at: AtomicU64,
}

impl Rate {
    /// `per_second` units, and `burst` at once after a pause.
    pub fn new(per_second: u64, burst: u64) -> Self {
        let rate = Self {
            per_second: AtomicU64::new(1),
            burst: AtomicU64::new(0),
            began: Instant::now(),
            full_at: AtomicU64::new(0),
        };
        rate.set(per_second, burst);
        rate
    }

    /// It is this one from now on. What was taken comes back when it would have.
    pub fn set(&self, per_second: u64, burst: u64) {
        let per_second = per_second.max(1);
        self.per_second.store(per_second, Ordering::Relaxed);
        self.burst.store(nanos(time_of(burst.max(1), per_second)), Ordering::Relaxed);
    }

    /// Takes `units`, if there are as many.
    pub fn try_take(&self, units: u64) -> bool {
        self.try_take_at(Instant::now(), units).is_ok()
    }

    /// Takes `units`; an error says how long until there are as many.
    pub fn take(&self, units: u64) -> Result<(), Duration> {
        self.try_take_at(Instant::now(), units)
    }

    /// Takes `units`, whether there are as many or not; gives when there are.
    pub fn charge(&self, units: u64) -> Instant {
        self.charge_at(Instant::now(), units)
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&self, units: u64) {
        let cost = nanos(self.time_of(units));
        // What is past has come back already.
        let give_back = |full_at: u64| Some(full_at.saturating_sub(cost));
        let (Ok(_) | Err(_)) = self.full_at.try_update(Ordering::Relaxed, Ordering::Relaxed, give_back);
    }

    fn charge_at(&self, now: Instant, units: u64) -> Instant {
        let now = now.saturating_duration_since(self.began);
        let cost = self.time_of(units);
        let after = |full_at| now.max(Duration::from_nanos(full_at)) + cost;
        let charged = |full_at| Some(nanos(after(full_at)));
        let (Ok(before) | Err(before)) =
            self.full_at.try_update(Ordering::Relaxed, Ordering::Relaxed, charged);
        self.began + after(before).saturating_sub(self.burst())
    }

    fn try_take_at(&self, now: Instant, units: u64) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.began);
        let (cost, burst) = (self.time_of(units), self.burst());
        let taken = self.full_at.try_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let after = now.max(Duration::from_nanos(full_at)) + cost;
            (after - now <= burst).then(|| nanos(after))
        });
        match taken {
            Ok(_) => Ok(()),
            Err(full_at) => {
                let after = now.max(Duration::from_nanos(full_at)) + cost;
                Err((after - now).saturating_sub(burst))
            }
        }
    }

    fn time_of(&self, units: u64) -> Duration {
        time_of(units, self.per_second.load(Ordering::Relaxed))
    }

    fn burst(&self) -> Duration {
        Duration::from_nanos(self.burst.load(Ordering::Relaxed))
    }
}

fn time_of(units: u64, per_second: u64) -> Duration {
    let nanos = u128::from(units) * 1_000_000_000 / u128::from(per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4).min(u64::MAX / 4))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rate: &Rate, millis: u64) -> Instant {
        rate.began + Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let rate = Rate::new(1000, 10);
        let taken = |millis| (0..100).filter(|_| rate.try_take_at(after(&rate, millis), 1).is_ok()).count();
        assert_eq!(taken(0), 10);
        assert_eq!(taken(0), 0);
        assert_eq!(taken(4), 4);
        assert_eq!(taken(1000), 10, "no more than a burst is saved up");
    }

    #[test]
    fn what_is_refused_takes_nothing_and_says_how_long() {
        let rate = Rate::new(1000, 10);
        let refused = rate.try_take_at(after(&rate, 0), 15);
        assert_eq!(refused, Err(Duration::from_millis(5)));
        assert_eq!(rate.try_take_at(after(&rate, 0), 10), Ok(()));
        assert_eq!(rate.try_take_at(after(&rate, 0), 3), Err(Duration::from_millis(3)));
        assert_eq!(rate.try_take_at(after(&rate, 3), 3), Ok(()));
    }

    #[test]
    fn what_is_charged_is_paid_in_time() {
        let rate = Rate::new(1000, 10);
        assert!(rate.charge_at(after(&rate, 5), 10) <= after(&rate, 5), "a burst is there at once");
        assert_eq!(rate.charge_at(after(&rate, 5), 20), after(&rate, 25));
        assert_eq!(rate.charge_at(after(&rate, 6), 10), after(&rate, 35));
        rate.give_back(10);
        assert_eq!(rate.charge_at(after(&rate, 7), 5), after(&rate, 30));
        assert!(rate.try_take_at(after(&rate, 29), 1).is_err());
    }

    #[test]
    fn another_rate_goes_on_from_what_was_taken() {
        let rate = Rate::new(1000, 10);
        assert_eq!(rate.try_take_at(after(&rate, 0), 10), Ok(()));
        rate.set(100, 10);
        assert!(rate.try_take_at(after(&rate, 0), 10).is_err());
        assert_eq!(rate.try_take_at(after(&rate, 10), 10), Ok(()));
        assert!(rate.try_take_at(after(&rate, 60), 10).is_err());
        assert_eq!(rate.try_take_at(after(&rate, 110), 10), Ok(()));
    }

    #[test]
    fn nothing_overflows() {
        let slow = Rate::new(1, u64::MAX);
        assert!(slow.try_take(u64::MAX));
        assert!(slow.take(u64::MAX).is_err());
        let fast = Rate::new(u64::MAX, u64::MAX);
        assert!(fast.try_take(u64::MAX) && fast.try_take(1));
    }
}
