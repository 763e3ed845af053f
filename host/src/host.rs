//! The host: components from their files to their end, over workers, signals and drains.
//!
//! `run` has one tenant and ends with it; `serve` has any number, none of which ends it.

mod changes;
mod component;
mod context;
mod design;
mod handover;
mod loading;
mod notify;
mod occurrence;
mod plan;
mod problem;
mod registry;
mod room;
mod run;
mod serve;
mod shares;
mod watchdog;
mod wishes;
mod workers;

use std::{net::SocketAddr, time::Duration};

use conet_rt::net::ListenOptions;
use tracing::{debug, warn};

use crate::{
    config::{file::ServeConfig, file::Source},
    exit::StartError,
    imports::{
        Context,
        given::{Bound, Given},
    },
    sandbox::cache::Cache,
    wall::Wall,
};

pub use changes::{Changes, WatchError};
pub use handover::{MeetError, Predecessor};
pub use run::{Options, run};
pub use serve::{ServeOptions, serve};

/// Looks at all that a file says and compiles its components, without starting anything: an error has everything that is
/// wrong.
pub fn check(config: &ServeConfig, source: &Source) -> Result<(), StartError> {
    let (plans, mut wrong) = plan::plans_and_problems(config);
    if !plans.is_empty() {
        let engines = serve::engines_to_check(config, &plans)?;
        wrong.extend(loading::components_and_problems(&engines, &plans)?.1);
    }
    if wrong.is_empty() { Ok(()) } else { Err(problem::problems(source, wrong).into()) }
}

/// Raises the wall that a file asks for around this process, which serves nothing.
pub fn enclose(config: &ServeConfig, path: &std::path::Path) -> Result<Wall, StartError> {
    Ok(design::design(config, path)?.raise()?)
}

/// The cache in this folder; without one everything works, and starts more slowly.
fn open_cache(path: Option<&std::path::Path>) -> Option<Cache> {
    let opened = Cache::open(path?);
    opened.inspect_err(|error| warn!("running without the compile cache: {error}")).ok()
}

/// Listens on what was given there, or else on a new socket.
fn bind(given: &Given, address: SocketAddr, keepalive: Option<Duration>) -> Result<Bound, StartError> {
    let options = ListenOptions { keepalive, ..ListenOptions::default() };
    given.listen(address, &options).map_err(|error| StartError::Bind { address, error })
}

fn counted(coroutines: u64) -> String {
    format!("{coroutines} coroutine{}", if coroutines == 1 { "" } else { "s" })
}

fn log_counters(context: &Context) {
    let pools = context.pools.stats();
    let counters = context.metrics.snapshot();
    let counters: String = counters.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    debug!(
        tenant = %context.name,
        "counters:{counters} connections_peak={} coroutines_peak={} memory_peak={} pool_opened={} pool_reused={}",
        context.connections.peak(),
        context.coroutines.peak(),
        context.memory.peak(),
        pools.opened,
        pools.reused,
    );
    for times in context.metrics.call_times() {
        debug!("time in the host, waiting not counted, {times}");
    }
}
