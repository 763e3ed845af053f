//! What tenants stand on: workers, Engines, and what the machine has for all of them together.

use std::{
    sync::{Arc, PoisonError, RwLock},
    thread,
};

use conet_rt::{Handle, Worker};
use tracing::warn;

use super::super::{
    open_cache,
    plan::Plan,
    room::{Shares, shape},
    workers::start_workers,
};
use crate::{
    config::{file::ServeConfig, machine::Machine},
    exit::StartError,
    sandbox::{cache::Cache, engine::EngineOptions, engines::Engines, ticker::Ticker},
};

/// The ground. Dropping it ends its workers, and waits for them.
pub(super) struct Ground {
    /// What of `[host]` it was made by.
    section: String,
    pub(super) engines: Arc<Engines>,
    pub(super) shares: Shares,
    pub(super) handles: Vec<Handle>,
    /// Empty once they have ended.
    workers: RwLock<Vec<Worker>>,
    /// Ticks as long as the workers run.
    _ticker: Ticker,
}

impl Ground {
    /// Room for these tenants.
    pub(super) fn new(config: &ServeConfig, plans: &[Plan]) -> Result<Self, StartError> {
        let workers = workers(config);
        let shares = shares(plans, workers)?;
        let cache = match &config.host.cache {
            None => Cache::default_path(),
            Some(at) => Some(at.value.clone()).filter(|path| path.as_os_str() != "off"),
        };
        let options = EngineOptions { coroutines_max: shares.coroutines_max, ..options(plans) };
        let engines = Engines::new(options, shares.instances_max as u32, open_cache(cache.as_deref()))
            .map_err(|error| StartError::Load { path: "the host".into(), error })?;
        let engines = Arc::new(engines);
        let ticking = engines.clone();
        let ticker = Ticker::start(move || ticking.advance())?;
        let driver = config.host.driver.as_ref().map(|at| at.value).unwrap_or_default();
        let workers = start_workers(workers, driver, Some(&ticker))?;
        Ok(Self {
            section: config.host.fingerprint(),
            engines,
            shares,
            handles: workers.iter().map(Worker::handle).collect(),
            workers: RwLock::new(workers),
            _ticker: ticker,
        })
    }

    /// Whether these tenants have room here, too.
    pub(super) fn serves(&self, config: &ServeConfig, plans: &[Plan]) -> bool {
        let Ok(wanted) = shares(plans, workers(config)) else { return false };
        let (ours, wanted_options) = (self.engines.options(), options(plans));
        let wanted_options = EngineOptions { coroutines_max: 0, ..wanted_options };
        self.section == config.host.fingerprint()
            && ours.clone().union(&wanted_options) == *ours
            && wanted.instances_max <= self.shares.instances_max
            && wanted.coroutines_max <= self.shares.coroutines_max
            && wanted.sockets_max <= self.shares.sockets_max
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

fn shares(plans: &[Plan], workers: usize) -> Result<Shares, StartError> {
    let tenants = plans.iter().map(|plan| (&plan.served.config, plan.role, plan.served.listen.len()));
    Ok(Shares::measure(&Machine::read(), tenants, workers)?)
}

fn options(plans: &[Plan]) -> EngineOptions {
    let options = |plan: &Plan| {
        let limits = &plan.served.config.limits;
        EngineOptions::new(limits, plan.scan.fibers, shape(limits, plan.role))
    };
    let options = plans.iter().map(options).reduce(|one, other| one.union(&other));
    options.expect("a file has tenants")
}
