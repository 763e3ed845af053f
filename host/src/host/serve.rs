//! `serve`: all tenants of a file, until a signal comes. What one of them does ends no other, and what the file comes to say
//! is taken up without a connection refused or cut off.

mod ground;
mod orders;
mod ready;
mod reload;
mod running;
mod sockets;

use std::{
    cell::Cell,
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, Sender, channel},
    },
    time::Instant,
};

use tracing::{error, info};

use super::{
    counted,
    design::design,
    log_counters,
    occurrence::{Occurrence, next, take_signals},
    plan::plans,
    registry::{Doors, Registered, Registry},
    wishes::{Wish, Wishes},
};
use crate::{
    access_log::Target,
    admin::{Admin, Phase},
    config::file::{AccessLogAt, HostSection, LogFormat, ServeConfig, Source},
    exit::{Exit, StartError},
    imports::resolve::Resolver,
    messages::Messages,
    metrics::HostCounters,
    sandbox::compiler::Compiler,
    tenancy::tenant::Event,
    wall::Wall,
};

use ground::Ground;
pub(super) use ground::engines_to_check;
use ready::Ready;
use reload::Reload;
use running::{Maker, Running};
use sockets::Sockets;

/// Serves what the file says.
pub fn serve(
    config: &ServeConfig,
    source: &Source,
    format: LogFormat,
    messages: &Messages,
) -> Result<Exit, StartError> {
    let (events, happened) = channel();
    let signals = take_signals(true)?;
    let plans = plans(config, source)?;
    let path = PathBuf::from(&source.name);
    let design = design(config, &path)?;
    let counters = Arc::new(HostCounters::default());
    let compiler = Arc::new(Compiler::in_children(counters.clone())?);
    // What takes root's powers, and after that nothing has them.
    let sockets = Sockets::default().for_plans(&plans)?;
    let doors = Doors::open(&config.host, design.owner.as_ref())?;
    let wall = design.raise()?;
    // Threads that were there before would not be behind the wall.
    messages.begin()?;
    let starting = signals.begin(events.clone())?;
    // By who goes on, who has to open it anew.
    let access_log = access_log(&config.host, format, messages)?;
    let registry = Arc::new(Registry::new(events.clone(), counters.clone()));
    // Before anything is compiled, to tell that the host starts.
    let admin = registry.serve(doors, messages)?;
    let ready = Ready::new(config, source, plans, None, &compiler)?;
    let mut host = Host {
        path,
        ground: ready.ground.clone(),
        compiler,
        sockets,
        reload: None,
        counters,
        tenants: BTreeMap::new(),
        next_number: Cell::new(0),
        resolver: Arc::new(Resolver::new()),
        wishes: Wishes::default(),
        registry,
        admin,
        messages: messages.clone(),
        wall,
        wall_section: config.host.wall_fingerprint(),
        access_log: access_log.clone(),
        events,
    };
    host.compiler.give_way();
    let change = host.prepare(ready, false)?;
    starting.store(false, Ordering::SeqCst);
    host.carry_out(change)?;
    host.register();
    host.registry.set_phase(Phase::Ready);
    let exit = host.watch(&happened);
    if let Some(target) = access_log {
        target.finish();
    }
    Ok(exit)
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

struct Host {
    /// The file.
    path: PathBuf,
    ground: Arc<Ground>,
    compiler: Arc<Compiler>,
    /// One that is under way.
    reload: Option<Reload>,
    counters: Arc<HostCounters>,
    sockets: Sockets,
    /// Versions of tenants, those that are to end, too.
    tenants: BTreeMap<usize, Running>,
    next_number: Cell<usize>,
    resolver: Arc<Resolver>,
    /// What signals have asked for.
    wishes: Wishes,
    /// What the admin tells.
    registry: Arc<Registry>,
    /// If the file asks for one. It goes when the host has ended.
    admin: Option<Admin>,
    messages: Messages,
    /// What the host is enclosed by.
    wall: Wall,
    /// What of `[host]` it was raised by.
    wall_section: String,
    access_log: Option<Arc<Target>>,
    events: Sender<Occurrence>,
}

/// What a file asks for that is not so yet, made ready.
struct Change {
    ground: Arc<Ground>,
    sockets: Sockets,
    /// New versions, and what they listen on.
    begin: Vec<(usize, Running, Vec<std::net::TcpListener>)>,
    /// Versions that have no place any more.
    end: Vec<usize>,
    summary: String,
}

impl Host {
    /// Makes new versions of what is not so yet. An error has changed nothing.
    fn prepare(&mut self, ready: Ready, rehearse: bool) -> Result<Change, StartError> {
        let Ready { ground, plans, components, .. } = ready;
        let ground = &ground;
        let sockets = self.sockets.for_plans(&plans)?;
        let maker = self.maker(ground);
        let (mut begin, mut stay) = (Vec::new(), Vec::new());
        let (mut added, mut changed) = (0, 0);
        for (plan, component) in plans.iter().zip(components) {
            let name = &plan.served.config.name;
            let serving = self.tenants.iter().filter(|(_, running)| running.leaves_at.is_none());
            let before = serving.clone().find(|(_, running)| running.context().name == *name);
            if let Some((number, running)) = before
                && running.fingerprint == plan.fingerprint()
                && Arc::ptr_eq(&running.ground, ground)
            {
                stay.push(*number);
                continue;
            }
            let number = self.number();
            let running = Running::new(&maker, plan, component, number, before.map(|(_, running)| running))?;
            if rehearse && let Err(why) = running.tenant.rehearse() {
                return Err(StartError::Rehearsal { tenant: name.clone(), why });
            }
            *(if before.is_some() { &mut changed } else { &mut added }) += 1;
            begin.push((number, running, sockets.of(&plan.served)?));
        }
        let serving = self.tenants.iter().filter(|(_, running)| running.leaves_at.is_none());
        let end: Vec<usize> = serving.map(|(number, _)| *number).filter(|n| !stay.contains(n)).collect();
        let removed = end.len() - changed;
        let summary =
            format!("{added} added, {changed} changed, {removed} removed, {} as they were", stay.len());
        Ok(Change { ground: ground.clone(), sockets, begin, end, summary })
    }

    /// That of a new version.
    fn number(&self) -> usize {
        let next = self.next_number.get();
        self.next_number.replace(next + 1)
    }

    fn maker<'a>(&'a self, ground: &'a Arc<Ground>) -> Maker<'a> {
        Maker {
            ground,
            resolver: &self.resolver,
            messages: &self.messages,
            access_log: self.access_log.as_ref(),
            closed: self.admin.as_ref().and_then(Admin::address),
            events: &self.events,
            seen: self.admin.is_some(),
        }
    }

    /// New versions first: for a moment both accept, and no connection is refused. If one cannot be started, those that
    /// were end again, and the old ones stay.
    fn carry_out(&mut self, change: Change) -> Result<(), StartError> {
        let Change { ground, sockets, begin, end, summary } = change;
        let mut begun = Vec::new();
        for (number, mut running, listeners) in begin {
            let started = running.start(listeners);
            // Whatever of it runs tells of its end.
            self.tenants.insert(number, running);
            begun.push(number);
            if let Err(error) = started {
                self.leave(&begun);
                return Err(error);
            }
        }
        self.leave(&end);
        (self.ground, self.sockets) = (ground, sockets);
        info!("tenants: {summary}; {} workers", self.ground.handles.len());
        Ok(())
    }

    fn leave(&mut self, numbers: &[usize]) {
        let now = Instant::now();
        for number in numbers {
            let Some(mut running) = self.tenants.remove(number) else { continue };
            let name = &running.context().name;
            let stays = |other: &Running| other.leaves_at.is_none() && other.context().name == *name;
            let has_successor = self.tenants.values().any(stays);
            running.leave(now, has_successor);
            self.tenants.insert(*number, running);
        }
    }

    /// Waits for the end.
    fn watch(mut self, happened: &Receiver<Occurrence>) -> Exit {
        // While the host ends.
        let mut cut_off = false;
        let exit = loop {
            let due = self.tenants.values().filter_map(Running::due).min();
            let deadline = self.wishes.deadline().into_iter().chain(due).min();
            match next(happened, deadline) {
                Some(Occurrence::Signal) => match self.signalled() {
                    Some(Wish::Drain) => self.drain(),
                    Some(Wish::CutOff) => break Exit::CutOff,
                    None => {}
                },
                Some(Occurrence::Reload) => self.reload(None),
                Some(Occurrence::MadeReady) => self.made_ready(),
                Some(Occurrence::Ordered(order)) => self.ordered(order),
                Some(Occurrence::Tenant(number, event)) => self.happened(number, event),
                Some(Occurrence::Flushed) => {}
                None if self.wishes.deadline().is_some_and(|deadline| deadline <= Instant::now()) => {
                    let left = counted(self.coroutines());
                    self.messages.say(format_args!("the drain's deadline has passed: cutting off {left}"));
                    break Exit::CutOff;
                }
                None => {
                    let now = Instant::now();
                    for running in self.tenants.values_mut() {
                        cut_off |= running.tick(now) && self.wishes.begun();
                    }
                }
            }
            self.register();
            if self.wishes.begun() && self.tenants.is_empty() {
                break if cut_off { Exit::CutOff } else { Exit::Done };
            }
        };
        self.end(exit)
    }

    fn coroutines(&self) -> u64 {
        self.tenants.values().map(|running| running.context().coroutines.used()).sum()
    }

    /// Takes a signal for what it is, and says so.
    fn signalled(&mut self) -> Option<Wish> {
        let drains = self.tenants.values().map(|running| running.context().limits.drain_max);
        let drain_max = drains.max().unwrap_or_default();
        let coroutines = self.coroutines();
        let wish = self.wishes.signal(drain_max)?;
        match wish {
            Wish::Drain if coroutines == 0 => self.messages.say(format_args!("shutting down")),
            Wish::Drain => self.messages.say(format_args!(
                "shutting down: {} may take {drain_max:?} to finish; signal again to end now",
                counted(coroutines)
            )),
            Wish::CutOff => self.messages.say(format_args!("second signal: cutting off what is left")),
        }
        Some(wish)
    }

    /// Tells the admin how the tenants are: of each its last version.
    fn register(&self) {
        let mut last: BTreeMap<&str, Registered> = BTreeMap::new();
        for running in self.tenants.values() {
            let older = last.remove(running.context().name.as_str());
            let older = older.into_iter().flat_map(Registered::into_contexts).collect();
            last.insert(&running.context().name, running.registered(older));
        }
        self.registry.set_tenants(self.ground.handles.len(), last.into_values());
    }

    fn drain(&mut self) {
        self.registry.set_phase(Phase::Draining);
        // What a reload would bring is not wanted any more.
        self.compiler.stop();
        // Nobody shall wait in the backlog of a port that is not served any more.
        self.sockets = Sockets::default();
        let now = Instant::now();
        self.tenants.values_mut().for_each(|running| running.leave(now, false));
    }

    fn happened(&mut self, number: usize, event: Event) {
        let Some(running) = self.tenants.get_mut(&number) else { return };
        match event {
            Event::Drained => self.gone(number),
            Event::ListenerFailed { code, wait } => {
                running.failed += 1;
                let tenant = &running.context().name;
                error!(%tenant, "a worker cannot accept connections, trying again in {wait:?}: {code:?}");
            }
            Event::ListenerTried => running.failed -= 1,
            Event::Ended { copy, ended } => running.ended(copy, &ended),
        }
    }

    /// Nothing of a version is left.
    fn gone(&mut self, number: usize) {
        let Some(running) = self.tenants.remove(&number) else { return };
        running.context().pools.close_idle();
        log_counters(running.context());
        let room = running.ground.room.clone();
        // With the last one on an old ground its workers end.
        drop(running);
        room.engines.forget_unused();
    }

    fn end(self, exit: Exit) -> Exit {
        let grounds: Vec<Arc<Ground>> = self.tenants.values().map(|running| running.ground.clone()).collect();
        for running in self.tenants.values() {
            let context = running.context();
            context.cut_off.store(exit == Exit::CutOff, Ordering::Relaxed);
            context.shutdown.begin();
        }
        self.ground.stop();
        grounds.iter().for_each(|ground| ground.stop());
        for running in self.tenants.values() {
            running.context().pools.close_idle();
            log_counters(running.context());
        }
        exit
    }
}
