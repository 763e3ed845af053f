//! What tenants stand on: workers, Engines, and what the machine has for all of them together.

use std::{
    sync::{Arc, PoisonError, RwLock},
    thread,
};

use conet_rt::{Handle, Worker};
use tracing::warn;

use super::super::{
    design::cache_folder, open_cache, plan::Plan, room::shape, shares::Shares, workers::start_workers,
};
use crate::{
    config::{file::ServeConfig, machine::Machine},
    exit::StartError,
    sandbox::{compiler::Compiler, engine::EngineOptions, engines::Engines, ticker::Ticker},
};

/// The ground. Dropping it ends its workers, and waits for them.
pub(super) struct Ground {
    /// What of `[host]` it was made by.
    section: String,
    pub(super) room: Arc<HostRoom>,
    pub(super) handles: Vec<Handle>,
    /// Empty once they have ended.
    workers: RwLock<Vec<Worker>>,
    /// Ticks as long as the workers run.
    _ticker: Ticker,
}

/// Engines, and what else does not depend on the workers.
pub(super) struct HostRoom {
    pub(super) engines: Engines,
    pub(super) shares: Shares,
}

impl Ground {
    /// Room for these tenants, and for the `spares` in place of some of them. What can be used of the ground `before`, is: a pool has a good part of all memory mappings
    /// that a process may have.
    pub(super) fn new(
        config: &ServeConfig,
        plans: &[Arc<Plan>],
        spares: &[Arc<Plan>],
        before: Option<&Ground>,
        compiler: &Arc<Compiler>,
    ) -> Result<Self, StartError> {
        let count = workers(config);
        let room = match before.filter(|before| before.room.serves(plans, spares, count)) {
            Some(before) => before.room.clone(),
            None => Arc::new(HostRoom::new(config, plans, spares, count, compiler)?),
        };
        let ticking = room.clone();
        let ticker = Ticker::start(move || ticking.engines.advance())?;
        let driver = config.host.driver.as_ref().map(|at| at.value).unwrap_or_default();
        let workers = start_workers(count, driver, Some(&ticker))?;
        Ok(Self {
            section: config.host.fingerprint(),
            room,
            handles: workers.iter().map(Worker::handle).collect(),
            workers: RwLock::new(workers),
            _ticker: ticker,
        })
    }

    /// Whether these tenants have room here, too.
    pub(super) fn serves(&self, config: &ServeConfig, plans: &[Arc<Plan>], spares: &[Arc<Plan>]) -> bool {
        self.section == config.host.fingerprint() && self.room.serves(plans, spares, workers(config))
    }

    /// Ends the workers, and drops all tasks on their own threads.
    pub(super) fn stop(&self) {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        workers.iter().for_each(Worker::stop);
        for worker in workers.drain(..) {
            if worker.join().is_err() {
                warn!("a worker ended by a panic");
            }
        }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.stop();
    }
}

fn workers(config: &ServeConfig) -> usize {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    config.host.workers.as_ref().map_or_else(cores, |at| at.value.0)
}

impl HostRoom {
    fn new(
        config: &ServeConfig,
        plans: &[Arc<Plan>],
        spares: &[Arc<Plan>],
        workers: usize,
        compiler: &Arc<Compiler>,
    ) -> Result<Self, StartError> {
        // Of an earlier one, as long as that is needed.
        let machine = Machine::read().beside(mappings_in_use());
        let shares = shares(&machine, plans, workers)?;
        let options =
            EngineOptions { coroutines_max: shares.coroutines_max, ..options(plans.iter().chain(spares)) };
        let engines = engines(config, options, shares.instances_max, compiler.clone())?;
        Ok(Self { engines, shares })
    }

    fn serves(&self, plans: &[Arc<Plan>], spares: &[Arc<Plan>], workers: usize) -> bool {
        let Ok(wanted) = shares(&Machine::read(), plans, workers) else { return false };
        let ours = self.engines.options();
        let options = EngineOptions { coroutines_max: 0, ..options(plans.iter().chain(spares)) };
        ours.clone().union(&options) == *ours && self.shares.covers(&wanted)
    }
}

/// Engines to load these tenants' components on, and no more.
pub(in super::super) fn engines_to_check(
    config: &ServeConfig,
    plans: &[Arc<Plan>],
) -> Result<Engines, StartError> {
    let options = EngineOptions { coroutines_max: 1, ..options(plans.iter()) };
    engines(config, options, 1, Arc::new(Compiler::in_children(Arc::default())?))
}

fn engines(
    config: &ServeConfig,
    options: EngineOptions,
    instances_max: usize,
    compiler: Arc<Compiler>,
) -> Result<Engines, StartError> {
    let cache = open_cache(cache_folder(&config.host).as_deref());
    let cache = cache.map(|cache| cache.counted(compiler.counters().clone()));
    Engines::new(options, instances_max as u32, cache, compiler)
        .map_err(|error| StartError::Load { path: "the host".into(), error })
}

fn shares(machine: &Machine, plans: &[Arc<Plan>], workers: usize) -> Result<Shares, StartError> {
    let tenants = plans.iter().map(|plan| (&plan.served.config, plan.role, plan.served.listen.len()));
    Ok(Shares::measure(machine, tenants, workers)?)
}

fn mappings_in_use() -> u64 {
    std::fs::read("/proc/self/maps")
        .map_or(0, |maps| maps.iter().filter(|byte| **byte == b'\n').count() as u64)
}

fn options<'a>(plans: impl Iterator<Item = &'a Arc<Plan>>) -> EngineOptions {
    let options = |plan: &Arc<Plan>| {
        let limits = &plan.served.config.limits;
        EngineOptions::new(limits, plan.scan.fibers, shape(limits, plan.role))
    };
    let options = plans.map(options).reduce(|one, other| one.union(&other));
    options.expect("a file has tenants")
}
