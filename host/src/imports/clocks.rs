//! wasi:clocks, monotonic on the worker's own timers and wall, in steps as coarse as the tenant's limits say.
//!
//! wasmtime-wasi's own timers need a tokio runtime, which a worker does not have.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::{
    DynPollable,
    bindings::clocks::{
        monotonic_clock,
        wall_clock::{self, Datetime},
    },
};
use wasmtime_wasi_io::{async_trait, poll::Pollable, poll::subscribe};

use super::{HasView, View, fault};

/// Links both interfaces.
pub(crate) fn add_to_linker<T: HasView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    monotonic_clock::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
    wall_clock::add_to_linker::<T, HasSelf<View>>(linker, T::view)
}

impl monotonic_clock::Host for View {
    fn now(&mut self) -> wasmtime::Result<u64> {
        fault::point("clocks.now");
        Ok(self.grain().at_or_before(now()))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(self.grain().0)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        fault::point("clocks.subscribe");
        let alarm = self.table.push(self.grain().alarm(when))?;
        subscribe(&mut self.table, alarm)
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_instant(now().saturating_add(duration))
    }
}

impl wall_clock::Host for View {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        // A clock before 1970 has not been set.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Ok(datetime(Duration::from_nanos(self.grain().at_or_before(nanos))))
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        Ok(datetime(Duration::from_nanos(self.grain().0)))
    }
}

impl View {
    fn grain(&self) -> Grain {
        self.context.limits.clock_granularity.map_or(Grain(1), Grain::new)
    }
}

/// What a clock goes in steps of, in nanoseconds; at least 1.
#[derive(Debug, Clone, Copy)]
struct Grain(u64);

impl Grain {
    fn new(step: Duration) -> Self {
        Self(u64::try_from(step.as_nanos()).unwrap_or(u64::MAX).max(1))
    }

    fn at_or_before(self, nanos: u64) -> u64 {
        nanos - nanos % self.0
    }

    fn at_or_after(self, nanos: u64) -> u64 {
        nanos.div_ceil(self.0).saturating_mul(self.0)
    }

    /// On a step of the clock: many alarms a little apart would else be a finer one.
    fn alarm(self, when: u64) -> Alarm {
        Alarm { at: start().checked_add(Duration::from_nanos(self.at_or_after(when))) }
    }
}

fn datetime(since_epoch: Duration) -> Datetime {
    Datetime { seconds: since_epoch.as_secs(), nanoseconds: since_epoch.subsec_nanos() }
}

/// A pollable that is ready at an instant; one too far off to name never is.
struct Alarm {
    at: Option<Instant>,
}

#[async_trait]
impl Pollable for Alarm {
    async fn ready(&mut self) {
        let Some(at) = self.at else { return std::future::pending().await };
        // One gone by is ready at the first look, which is all that `pollable.ready` gives it. A guest that looks in
        // a loop is preempted as any other that computes.
        if Instant::now() < at {
            conet_rt::time::sleep_until(at).await;
        }
    }
}

/// Nanoseconds since the first use in this process: guests need not know how long the machine has been up.
fn now() -> u64 {
    start().elapsed().as_nanos() as u64
}

fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Waker},
    };

    use super::*;

    #[test]
    fn alarm_that_is_over_is_ready_at_the_first_look() {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..1000 {
            let mut alarm = Alarm { at: Some(Instant::now()) };
            assert!(pin!(alarm.ready()).poll(&mut cx).is_ready());
        }
    }

    #[test]
    fn a_timer_goes_off_at_a_step_and_not_before() {
        let grain = Grain::new(Duration::from_millis(1));
        for (nanos, before, after) in [
            (0, 0, 0),
            (1, 0, 1_000_000),
            (1_999_999, 1_000_000, 2_000_000),
            (5_000_000, 5_000_000, 5_000_000),
        ] {
            assert_eq!((grain.at_or_before(nanos), grain.at_or_after(nanos)), (before, after));
        }
        assert_eq!(Grain::new(Duration::ZERO).at_or_before(7), 7);
        assert_eq!(grain.at_or_after(u64::MAX), u64::MAX, "one too far off stays too far off");
    }

    /// Armed a microsecond apart, none tells of a time between two steps.
    #[test]
    fn alarms_are_no_finer_clock() {
        let step = Duration::from_millis(1);
        let grain = Grain::new(step);
        let begun = now();
        let alarms = (0..3000).map(|micros| grain.alarm(begun + micros * 1000).at.expect("it can be named"));
        let mut all: Vec<_> = alarms.map(|at| at.duration_since(start())).collect();
        assert!(all.iter().all(|since| since.as_nanos() % step.as_nanos() == 0));
        all.dedup();
        assert!((3..=4).contains(&all.len()), "three milliseconds: {all:?}");
    }
}
