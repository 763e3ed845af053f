//! The host's start, up to the moment at which it serves.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
};

use tracing::warn;

use super::{
    super::{
        design::design,
        handover::{Key, Predecessor},
        notify::Notify,
        occurrence::{Occurrence, take_signals},
        plan::{Plan, plans},
        registry::{Doors, Registry},
        wishes::Wishes,
    },
    Host, ServeOptions,
    ready::Ready,
    rollback::{Rollbacks, refuse_held_back},
    sockets::{Sockets, unasked},
};
use crate::{
    access_log::Target,
    admin::Phase,
    config::file::{AccessLogAt, HostSection, LogFormat},
    exit::StartError,
    imports::{given::Given, resolve::Resolver},
    messages::Messages,
    metrics::HostCounters,
    sandbox::compiler::Compiler,
};

impl Host {
    /// All listens and accepts, and nothing has happened yet.
    pub(super) fn start(
        options: ServeOptions,
        messages: &Messages,
        events: Sender<Occurrence>,
    ) -> Result<Self, StartError> {
        let ServeOptions { config, source, given, changes, format, predecessor } = options;
        let signals = take_signals(true)?;
        let plans = plans(&config, &source)?;
        if let Some(predecessor) = &predecessor {
            refuse_held_back(predecessor, &plans)?;
        }
        let path = PathBuf::from(&source.name);
        let design = design(&config, &path)?;
        let counters = Arc::new(HostCounters::default());
        let compiler = Arc::new(Compiler::in_children(counters.clone())?);
        let mut handed = predecessor.as_ref().map(Predecessor::handed).unwrap_or_default();
        let given = Arc::new(given.with(handed.given())?);
        let notify = Notify::from_environment();
        // What takes root's powers, and after that nothing has them.
        let mut doors =
            Doors::open(&config.host, design.owner.as_ref(), &given, predecessor.as_ref(), &mut handed)?;
        tell_unasked(&given, &plans);
        let inherited = Sockets::handed(&mut handed);
        let sockets = inherited.for_plans(&plans, &given)?;
        let left = inherited.beside(&sockets);
        // What nobody has asked for stays the other's.
        drop(inherited);
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
        let ready = Ready::first(&config, &source, plans, &compiler)?;
        let host = Self {
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
            predecessor,
            handed: RefCell::new(handed),
            commons: RefCell::default(),
            messages: messages.clone(),
            notify,
            watchdog: None,
            wall,
            wall_section: config.host.wall_fingerprint(),
            access_log,
            events,
        };
        host.compiler.give_way();
        host.serve_from(ready, left, &starting)
    }

    /// Begins what is ready; beside the host before this one, where there is one, which has `left` still. `starting` is cleared
    /// before anything runs that a signal should leave time.
    fn serve_from(mut self, ready: Ready, left: Vec<Key>, starting: &AtomicBool) -> Result<Self, StartError> {
        let predecessor = self.predecessor.clone();
        let change = self.prepare(ready, predecessor.is_some())?;
        // As it was above: programs have been asked now.
        self.handed.take();
        if let Some(predecessor) = &predecessor {
            predecessor.ready(change.tenants(), left)?;
        }
        starting.store(false, Ordering::SeqCst);
        self.carry_out(change)?;
        self.register();
        self.registry.set_phase(Phase::Ready);
        if predecessor.is_none() {
            self.notify.ready(&self.summary());
        }
        self.begin_watchdog()?;
        if let Some(predecessor) = &predecessor {
            // The last that may fail: from here on the other one ends. The service manager takes from it what it is told then.
            self.take_place_of(predecessor)?;
        }
        Ok(self)
    }
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
