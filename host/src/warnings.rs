//! What a tenant's grants and limits would have denied where they only warn: counted, and told with the line that would allow
//! it.

use std::{
    fmt::Display,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::config::warn::{Warn, WarnSet};

/// Those of one tenant.
#[derive(Debug)]
pub struct Warnings {
    tenant: String,
    set: WarnSet,
    began: Instant,
    /// By the number of the grant or limit; empty if none warns.
    denials: Vec<Denials>,
}

#[derive(Debug, Default)]
struct Denials {
    count: AtomicU64,
    /// When the log may be told again, in nanoseconds since `began`.
    tells_at: AtomicU64,
    /// Of a rate, what came of late.
    seen: Mutex<Seen>,
}

/// What came in a window of time, and in the one before.
#[derive(Debug, Default)]
struct Seen {
    window: u128,
    now: u64,
    before: u64,
}

impl Warnings {
    /// For a tenant of which these only warn.
    pub fn new(tenant: &str, set: WarnSet) -> Self {
        let denials = if set == WarnSet::default() { 0 } else { Warn::ALL.len() };
        Self {
            tenant: tenant.to_owned(),
            set,
            began: Instant::now(),
            denials: (0..denials).map(|_| Denials::default()).collect(),
        }
    }

    /// Does it let pass what is beyond it?
    pub fn lets_pass(&self, warn: Warn) -> bool {
        self.set.has(warn)
    }

    /// What would have been denied by each that warns, by its key.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.set.iter().map(|warn| (warn.key(), self.denials[warn as usize].count.load(Relaxed)))
    }

    /// Counts what would have been denied, and tells of it: of each grant or limit now and then. `allows` is what its key would
    /// have to say.
    pub fn would_deny(&self, warn: Warn, what: impl Display, allows: impl Display) {
        if self.lets_pass(warn) {
            self.denials[warn as usize].count.fetch_add(1, Relaxed);
            self.tell(warn, what, allows);
        }
    }

    /// Tells more of what has been counted.
    pub fn tell(&self, warn: Warn, what: impl Display, allows: impl Display) {
        let now = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let next = now.saturating_add(TELLS_EVERY.as_nanos() as u64);
        let gate = &self.denials[warn as usize].tells_at;
        if gate.try_update(Relaxed, Relaxed, |at| (at <= now).then_some(next)).is_err() {
            return;
        }
        let (tenant, key) = (&self.tenant, warn.key());
        let place = match warn {
            Warn::AllowListen | Warn::AllowConnect => "",
            _ => " in its limits",
        };
        tracing::warn!(%tenant, limit = key, "would deny: {what}; to allow it: {key} = {allows}{place}");
    }

    /// Notes `units` of a rate that lets twice as much as in a `window` come at once; gives the least rate a second at which
    /// all that came of late would have passed.
    pub fn rate_seen(&self, warn: Warn, units: u64, window: Duration) -> u64 {
        let number = self.began.elapsed().as_nanos() / window.as_nanos();
        let mut seen = self.denials[warn as usize].seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.window != number {
            seen.before = if seen.window + 1 == number { seen.now } else { 0 };
            (seen.window, seen.now) = (number, 0);
        }
        seen.now += units;
        // No stretch as long as a window has more than the two that it may touch.
        let most = u128::from(seen.now + seen.before);
        u64::try_from((most * 1_000_000_000).div_ceil(window.as_nanos())).unwrap_or(u64::MAX)
    }
}

/// Between two lines about the same.
const TELLS_EVERY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_that_warns_counts_for_itself_and_no_other_does() {
        let warnings = Warnings::new("t", [Warn::Idle, Warn::Cpu].into_iter().collect());
        for _ in 0..3 {
            warnings.would_deny(Warn::Idle, "a peer", "\"2s\"");
        }
        warnings.would_deny(Warn::Connections, "it does not warn", 7);
        assert!(warnings.counts().eq([("idle", 3), ("cpu", 0)]));
        assert!(Warnings::new("t", WarnSet::default()).counts().next().is_none());
    }

    #[test]
    fn a_rate_is_what_the_fullest_stretch_needs() {
        let warnings = Warnings::new("t", [Warn::AcceptRate].into_iter().collect());
        let window = Duration::from_secs(3600);
        assert_eq!(warnings.rate_seen(Warn::AcceptRate, 1800, window), 1);
        assert_eq!(warnings.rate_seen(Warn::AcceptRate, 3600, window), 2);
    }
}
