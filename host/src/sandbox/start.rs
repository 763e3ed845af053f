//! Making an instance: what its start functions may wait for. What they compute is charged as all that guests compute
//! (`slice`).

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Poll, ready},
    time::{Duration, Instant},
};

use conet_rt::{
    budget,
    time::{Sleep, sleep},
};

use super::slice::Yield;
use crate::{
    config::{units::show_duration, warn::Warn},
    imports::Context as Tenant,
    kill::Kill,
};

/// What `making` comes to, or a [`Kill::Start`] once it has waited for longer than the limit. To make room for others, at
/// the end of a slice, is not waiting.
///
/// The time is counted in steps, so that a process that was stopped meanwhile has waited for one of them.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    context: &Tenant,
    last_yield: &Yield,
    making: impl Future<Output = wasmtime::Result<T>>,
) -> wasmtime::Result<T> {
    let mut making = pin!(making);
    let Some(limit) = limit else { return making.await };
    let (mut waited, mut passed) = (Duration::ZERO, false);
    let mut wait: Option<(Instant, Pin<Box<Sleep>>)> = None;
    let step = (limit / STEPS).max(STEP_MIN);
    poll_fn(|cx| {
        loop {
            if let Some((since, _)) = wait.take() {
                waited += since.elapsed().min(step);
            }
            let made = making.as_mut().poll(cx);
            if made.is_ready() || last_yield.under_way() || budget::is_exhausted() {
                return made;
            }
            if waited >= limit && context.warnings.lets_pass(Warn::Start) {
                if !std::mem::replace(&mut passed, true) {
                    let line = format_args!("{:?}", show_duration(limit * 2));
                    context.warnings.would_deny(Warn::Start, format_args!("{waited:?} of waiting"), line);
                }
            } else if waited >= limit {
                context.metrics.kills_start.increment();
                return Poll::Ready(Err(Kill::Start { limit }.into()));
            }
            let (_, timer) = wait.insert((Instant::now(), Box::pin(sleep(step))));
            ready!(timer.as_mut().poll(cx));
        }
    })
    .await
}

/// How exactly the limit holds.
const STEPS: u32 = 16;
const STEP_MIN: Duration = Duration::from_millis(1);
