//! How long a guest may run: a slice until others get their turn, a CPU budget until it must wait for something.

use std::{
    cell::Cell,
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use conet_rt::alarm;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::{AsContextMut, StoreContextMut, UpdateDeadline};

use super::{
    sample,
    store::State,
    ticker::{SLICE_MAX_IF_SHARED, SLICE_MIN, interrupt, interrupt::SoFar},
};
use crate::{
    config::{units::show_duration, warn::Warn},
    imports::crew,
    kill::Kill,
    metrics::Import,
    warnings::Warnings,
};

thread_local! {
    /// Polls of coroutine tasks on this worker. A new number is a new turn.
    static TURN: Cell<u64> = const { Cell::new(0) };
}

/// What a store has used of its slice and its budget.
#[derive(Debug, Default)]
pub struct Slice {
    /// The turn whose slice has begun.
    turn: u64,
    /// That slice began with a deadline of its own, which has not come yet.
    renewed: bool,
    /// The blocking point since which the budget is counted.
    blocking_points: u64,
    /// CPU time used since then, up to `since`.
    used: Duration,
    /// This thread's CPU time when `used` was last brought up to date; none before the first time.
    since: Option<Duration>,
    /// The instance is being made: the budget is that of its start, which nothing renews.
    starting: bool,
    /// Where the budget only warns: what of it would have to be there for what has been used, as it was told last.
    told: Option<Duration>,
    /// The store's last yield, which returns while the store is out of reach.
    pub(super) last_yield: Arc<Yield>,
}

/// A yield, at a slice's end or of a turn's operations: under way, or when it returned.
#[derive(Debug, Default)]
pub(super) struct Yield {
    under_way: AtomicBool,
    /// The turn in which it returned.
    turn: AtomicU64,
    /// This thread's CPU time then.
    cpu_nanos: AtomicU64,
}

impl Yield {
    /// Is the store waiting for its next slice?
    pub(super) fn under_way(&self) -> bool {
        self.under_way.load(Relaxed)
    }

    async fn run(self: Arc<Self>) {
        self.under_way.store(true, Relaxed);
        conet_rt::time::yield_now().await;
        // It computes for long: what others have sent in their turns does not wait for the end of its slice.
        conet_rt::flush();
        self.returned();
        self.under_way.store(false, Relaxed);
        interrupt::computing();
    }

    /// The store goes on in this turn, having made room for others without waiting for anything.
    pub(super) fn returned(&self) {
        self.turn.store(TURN.get(), Relaxed);
        self.cpu_nanos.store(thread_cpu_time().as_nanos() as u64, Relaxed);
    }
}

/// Notes that a coroutine's task is being polled anew.
pub(super) fn begin_turn() {
    TURN.set(TURN.get().wrapping_add(1));
    if conet_rt::runs_long() {
        // What others have sent in their turns does not wait for this one's end, nor does what comes meanwhile.
        conet_rt::flush();
        interrupt::computing();
    }
}

/// It has been polled.
pub(super) fn end_turn() {
    interrupt::computed();
}

/// Called from the guest's code whenever the epoch has passed the store's deadline.
///
/// Deadlines are absolute in wasmtime, so a coroutine that was suspended finds its deadline passed although it has
/// only just begun to run: the first call in its turn renews the slice, the next one ends it. One that was given a deadline
/// instead may have begun right before it: it, too, is told of twice.
pub(super) fn at_deadline(mut store: StoreContextMut<'_, State>) -> wasmtime::Result<UpdateDeadline> {
    // What it has sent does not wait for the end of its computation.
    conet_rt::flush();
    let State { view, slice, .. } = store.data_mut();
    let limits = &view.context.limits;
    let metrics = &view.context.metrics;
    let used = slice.charge(view.blocking_points);
    let starts = limits.start_max.filter(|_| slice.starting);
    let (limit, warn) = starts.map_or((limits.cpu_max, Warn::Cpu), |limit| (limit, Warn::Start));
    if used >= limit {
        if !view.context.warnings.lets_pass(warn) {
            metrics.add_call(Import::KillLatency, used - limit);
            return Err(match starts {
                Some(limit) => {
                    metrics.kills_start.increment();
                    Kill::Start { limit }
                }
                None => {
                    metrics.kills_cpu.increment();
                    Kill::CpuBudget { budget: limit }
                }
            }
            .into());
        }
        slice.passes(&view.context.warnings, warn, limit);
    }
    let renewed = slice.is_renewed();
    let begins = slice.begins();
    if begins {
        metrics.fresh_slices.increment();
    }
    let so_far = interrupt::so_far();
    // It goes on at a deadline that may have passed before its turn.
    let goes_on = begins || renewed;
    let over = match &so_far {
        // The epoch may be another worker's doing.
        Some(SoFar { told: false, time, shared: true }) => *time >= SLICE_MAX_IF_SHARED,
        Some(SoFar { told: true, time, .. }) => !goes_on || *time + ALARM_MIN >= SLICE_MIN,
        _ => !goes_on,
    };
    if !over {
        match so_far {
            Some(SoFar { told: true, time, shared: true }) => alarm::set(SLICE_MIN - time),
            Some(_) => {}
            None => interrupt::computing(),
        }
        return Ok(UpdateDeadline::Continue(SLICE_TICKS));
    }
    interrupt::computed();
    metrics.yields.increment();
    if so_far.is_some_and(|so_far| so_far.told) {
        metrics.interrupts.increment();
        conet_rt::look_soon();
    }
    if view.context.roster.is_some()
        && !slice.starting
        && let Some(coroutine) = crew::caller(store.as_context_mut())
    {
        coroutine.runs();
        sample::charge(&coroutine);
    }
    let slice = &store.data().slice;
    Ok(UpdateDeadline::YieldCustom(SLICE_TICKS, Box::pin(slice.last_yield.clone().run())))
}

impl Slice {
    /// That of a store whose instance is to be made.
    pub(super) fn starting(within_limit: bool) -> Self {
        Self { starting: within_limit, ..Self::default() }
    }

    /// What is beyond the budget passes: counted once, and told again whenever it has doubled.
    fn passes(&mut self, warnings: &Warnings, warn: Warn, limit: Duration) {
        let told = self.told.unwrap_or(limit);
        if self.used < told {
            return;
        }
        let would_do = told.max(self.used) * 2;
        let what = format_args!("{:?} of CPU time without waiting", self.used);
        let line = format_args!("{:?}", show_duration(would_do));
        match self.told.replace(would_do) {
            None => warnings.would_deny(warn, what, line),
            Some(_) => warnings.tell(warn, what, line),
        }
    }

    /// The instance has been made: what it uses from now on is charged afresh.
    pub(super) fn started(&mut self) {
        self.starting = false;
        self.told = None;
        self.used = Duration::ZERO;
        self.since = None;
    }

    /// Brings the CPU time used since the last blocking point up to date.
    ///
    /// Measuring begins with the second deadline after one: most coroutines wait again long before, and reading this
    /// clock is a system call.
    fn charge(&mut self, blocking_points: u64) -> Duration {
        if self.blocking_points != blocking_points && !self.starting {
            self.blocking_points = blocking_points;
            self.used = Duration::ZERO;
            self.since = None;
            self.told = None;
            return Duration::ZERO;
        }
        let now = thread_cpu_time();
        if let Some(since) = self.since.filter(|_| self.goes_on()) {
            // What others used between a yield and its return is not ours.
            let resumed = Duration::from_nanos(self.last_yield.cpu_nanos.load(Relaxed));
            self.used += now.saturating_sub(since.max(resumed));
        }
        self.since = Some(now);
        self.used
    }

    /// The store has just been given a deadline of its own.
    pub(super) fn begin(&mut self) {
        self.turn = TURN.get();
        self.renewed = true;
    }

    /// Is this the deadline that it was given as its slice began?
    fn is_renewed(&mut self) -> bool {
        mem::take(&mut self.renewed)
    }

    /// Is this the first deadline of its turn?
    fn begins(&mut self) -> bool {
        // A slice that began with a deadline of its own, or with the return from a yield, goes on.
        let running = self.goes_on();
        self.turn = TURN.get();
        !running
    }

    /// Has it run in this turn before, or is it back from a yield? Otherwise it has waited while others had the thread.
    fn goes_on(&self) -> bool {
        self.turn == TURN.get() || self.last_yield.turn.load(Relaxed) == TURN.get()
    }
}

/// CPU time of this thread: a stopped process or a busy neighbour charges nobody.
pub(super) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// An alarm sooner than that would go off before the deadline that it is to be compared with is set.
const ALARM_MIN: Duration = Duration::from_micros(20);

/// A slice, in ticks; and until a slice that begins anywhere between two is counted.
pub(super) const SLICE_TICKS: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_use_while_it_waits_is_not_charged() {
        let mut slice = Slice::default();
        begin_turn();
        deadline(&mut slice);
        deadline(&mut slice);
        compute();
        begin_turn();
        assert_eq!(
            deadline(&mut slice),
            Duration::ZERO,
            "it has waited, in a call that is no blocking point"
        );
        compute();
        assert!(deadline(&mut slice) >= CPU, "its own is charged");
    }

    #[test]
    fn what_it_uses_after_a_yield_is_charged_and_what_others_use_meanwhile_is_not() {
        let mut slice = Slice::default();
        begin_turn();
        deadline(&mut slice);
        let used = deadline(&mut slice);
        compute();
        begin_turn();
        slice.last_yield.returned();
        assert!(deadline(&mut slice) < used + CPU, "others' is not");
        compute();
        assert!(deadline(&mut slice) >= used + CPU, "its own is");
    }

    /// A start function that sleeps now and then is no quicker for it.
    #[test]
    fn a_wait_renews_the_budget_but_that_of_a_start() {
        for starting in [false, true] {
            let mut slice = Slice::starting(starting);
            begin_turn();
            deadline(&mut slice);
            deadline(&mut slice);
            compute();
            assert!(deadline(&mut slice) >= CPU);
            let used = slice.charge(2);
            assert_eq!(used >= CPU, starting, "{used:?}");
            slice.started();
            assert_eq!(deadline(&mut slice), Duration::ZERO, "once it is made all begins afresh");
        }
    }

    /// As `at_deadline` does it.
    fn deadline(slice: &mut Slice) -> Duration {
        let used = slice.charge(1);
        slice.begins();
        used
    }

    /// Uses at least `CPU` of this thread's.
    fn compute() {
        let start = thread_cpu_time();
        while thread_cpu_time() < start + CPU {}
    }

    const CPU: Duration = Duration::from_millis(20);
}
