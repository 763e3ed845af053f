//! wasi:clocks/monotonic-clock on the worker's own timers.
//!
//! wasmtime-wasi's own needs a tokio runtime, which a worker does not have.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::{DynPollable, bindings::clocks::monotonic_clock};
use wasmtime_wasi_io::{async_trait, poll::Pollable, poll::subscribe};

use super::{HasView, View, fault};

/// Links the interface.
pub(crate) fn add_to_linker<T: HasView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    monotonic_clock::add_to_linker::<T, HasSelf<View>>(linker, T::view)
}

impl monotonic_clock::Host for View {
    fn now(&mut self) -> wasmtime::Result<u64> {
        fault::point("clocks.now");
        Ok(now())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_duration(when.saturating_sub(now()))
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        fault::point("clocks.subscribe");
        let at = Instant::now().checked_add(Duration::from_nanos(duration));
        let alarm = self.table.push(Alarm { at })?;
        subscribe(&mut self.table, alarm)
    }
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
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
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
}
