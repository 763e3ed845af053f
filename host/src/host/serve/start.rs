//! The host's start, up to the moment at which it serves.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::Ordering, mpsc::Sender},
};

use tracing::warn;

use super::{
    super::{
        changes::Changes,
        design::design,
        handover::Predecessor,
        notify::Notify,
        occurrence::{Occurrence, take_signals},
        plan::{Plan, plans},
        registry::{Doors, Registry},
        wishes::Wishes,
    },
    Host,
    ready::Ready,
    rollback::Rollbacks,
    sockets::{Sockets, unasked},
};
use crate::{
    access_log::Target,
    admin::Phase,
    config::file::{AccessLogAt, HostSection, LogFormat, ServeConfig, Source},
    exit::StartError,
    imports::{given::Given, resolve::Resolver},
    messages::Messages,
    metrics::HostCounters,
    sandbox::compiler::Compiler,
};

/// All listens and accepts, and nothing has happened yet.
#[expect(clippy::too_many_arguments, reason = "it is the second half of `serve`, with where its events go")]
pub(super) fn start(
    config: &ServeConfig,
    source: &Source,
    given: Given,
    changes: Option<Changes>,
    format: LogFormat,
    messages: &Messages,
    predecessor: Option<&Predecessor>,
    events: Sender<Occurrence>,
) -> Result<Host, StartError> {
    let signals = take_signals(true)?;
    let plans = plans(config, source)?;
    let path = PathBuf::from(&source.name);
    let design = design(config, &path)?;
    let counters = Arc::new(HostCounters::default());
    let compiler = Arc::new(Compiler::in_children(counters.clone())?);
    let mut handed = predecessor.map(Predecessor::handed).unwrap_or_default();
    let given = Arc::new(given.with(handed.given())?);
    let notify = Notify::from_environment();
    // What takes root's powers, and after that nothing has them.
    let mut doors = Doors::open(&config.host, design.owner.as_ref(), &given, predecessor, &mut handed)?;
    tell_unasked(&given, &plans);
    let sockets = Sockets::handed(&mut handed).for_plans(&plans, &given)?;
    let wall = design.raise()?;
    // Threads that were there before would not be behind the wall.
    messages.begin()?;
    let starting = signals.begin(events.clone())?;
    changes.as_ref().map(|changes| changes.tell(events.clone())).transpose()?;
    // By who goes on, who has to open it anew.
    let access_log = access_log(&config.host, format, messages)?;
    let registry = Arc::new(Registry::new(events.clone(), counters.clone()));
    // Before anything is compiled, to tell that the host starts; unless another one tells of itself meanwhile.
    let admin = if predecessor.is_none() { registry.serve(&mut doors, messages)? } else { None };
    let ready = Ready::first(config, source, plans, &compiler)?;
    let mut host = Host {
        path,
        ground: ready.ground.clone(),
        compiler,
        given,
        sockets,
        changes,
        reload: None,
        upgrade: None,
        rollbacks: Rollbacks::default(),
        counters,
        tenants: BTreeMap::new(),
        next_number: Cell::new(0),
        resolver: Arc::new(Resolver::new()),
        wishes: Wishes::default(),
        registry,
        admin,
        doors,
        predecessor: predecessor.cloned(),
        handed: RefCell::new(handed),
        messages: messages.clone(),
        notify,
        watchdog: None,
        wall,
        wall_section: config.host.wall_fingerprint(),
        access_log,
        events,
    };
    host.compiler.give_way();
    let change = host.prepare(ready, predecessor.is_some())?;
    // What nobody has asked for stays the other's.
    host.handed.take();
    if let Some(predecessor) = predecessor {
        predecessor.ready(change.tenants())?;
    }
    starting.store(false, Ordering::SeqCst);
    host.carry_out(change)?;
    host.register();
    host.registry.set_phase(Phase::Ready);
    match predecessor {
        // What it is told then, the service manager takes from this one.
        Some(predecessor) => host.take_place_of(predecessor)?,
        None => host.notify.ready(&host.summary()),
    }
    host.begin_watchdog()?;
    Ok(host)
}

/// They wait for a file that names them; who connects meanwhile waits, too.
pub(super) fn tell_unasked(given: &Given, plans: &[Arc<Plan>]) {
    for socket in unasked(given, plans) {
        warn!(
            "this process was given the socket {socket}, and no tenant listens there: who connects to it waits. Write that \
             address, exactly, into the `listen` of a handler or the `allow-listen` of a program, or take it out of the \
             socket unit"
        );
    }
}

fn access_log(
    section: &HostSection,
    format: LogFormat,
    messages: &Messages,
) -> Result<Option<Arc<Target>>, StartError> {
    let target = match section.access_log.as_ref().map(|at| &at.value) {
        None | Some(AccessLogAt::Off) => return Ok(None),
        Some(AccessLogAt::Stderr) => Target::messages(messages, format),
        Some(AccessLogAt::File(path)) => {
            Target::file(path, format).map_err(|error| StartError::AccessLog { path: path.clone(), error })?
        }
    };
    Ok(Some(Arc::new(target)))
}
