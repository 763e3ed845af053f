//! `serve`: all tenants of a file, until a signal comes. What one of them does ends no other, and what the file comes to say
//! is taken up without a connection refused or cut off.

mod ground;
mod orders;
mod ready;
mod reload;
mod rollback;
mod running;
mod sockets;
mod trial;
mod upgrade;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use super::{
    changes::Changes,
    counted,
    design::design,
    handover::{Handed, Predecessor, Successor},
    log_counters,
    notify::{Notify, watchdog_period},
    occurrence::{Occurrence, next, take_signals},
    plan::{Plan, plans},
    registry::{Doors, Registered, Registry},
    watchdog::Watchdog,
    wishes::{Wish, Wishes},
};
use crate::{
    access_log::Target,
    admin::{Admin, Phase},
    config::file::{AccessLogAt, HostSection, LogFormat, ServeConfig, Source},
    exit::{Exit, StartError},
    imports::{given::Given, resolve::Resolver},
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
use rollback::Rollbacks;
use running::{Maker, Running};
use sockets::{Sockets, unasked};
use trial::Trial;
use upgrade::Upgrade;

/// Serves what the file says, on sockets that are `given` where there are, and what it comes to say: of `changes` by itself. In the
/// place of the host before this one, if there is one.
pub fn serve(
    config: &ServeConfig,
    source: &Source,
    given: Given,
    changes: Option<Changes>,
    format: LogFormat,
    messages: &Messages,
    predecessor: Option<Predecessor>,
) -> Result<Exit, StartError> {
    let (events, happened) = channel();
    let started = start(config, source, given, changes, format, messages, predecessor.as_ref(), events);
    if let (Err(error), Some(predecessor)) = (&started, &predecessor) {
        predecessor.failed(&error.told());
    }
    // From here on the host has it, until its place is this one's.
    drop(predecessor);
    let host = started?;
    let access_log = host.access_log.clone();
    let exit = host.watch(&happened);
    if let Some(target) = access_log {
        target.finish();
    }
    Ok(exit)
}

/// All listens and accepts, and nothing has happened yet.
#[expect(clippy::too_many_arguments, reason = "it is the second half of `serve`, with where its events go")]
fn start(
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
fn tell_unasked(given: &Given, plans: &[Arc<Plan>]) {
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

struct Host {
    /// The file.
    path: PathBuf,
    ground: Arc<Ground>,
    compiler: Arc<Compiler>,
    /// If it is watched.
    changes: Option<Changes>,
    /// One that is under way.
    reload: Option<Reload>,
    /// The same.
    upgrade: Option<Upgrade>,
    rollbacks: Rollbacks,
    counters: Arc<HostCounters>,
    /// What the process was started with.
    given: Arc<Given>,
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
    /// Where it is asked.
    doors: Doors,
    /// The host before this one, until its place is this one's.
    predecessor: Option<Predecessor>,
    /// What it has handed on, and nobody has asked for yet.
    handed: RefCell<Handed>,
    messages: Messages,
    /// What the service manager is told.
    notify: Notify,
    /// Where it wants to hear that the host is alive.
    watchdog: Option<Watchdog>,
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

impl Change {
    /// Those that begin.
    fn tenants(&self) -> impl Iterator<Item = &str> {
        self.begin.iter().map(|(_, running, _)| running.context().name.as_str())
    }
}

impl Host {
    /// Makes new versions of what is not so yet. An error has changed nothing.
    fn prepare(&mut self, ready: Ready, rehearse: bool) -> Result<Change, StartError> {
        let Ready { ground, plans, components, mut spares, .. } = ready;
        let ground = &ground;
        let sockets = self.sockets.for_plans(&plans, &self.given)?;
        let maker = self.maker(ground);
        let (mut begin, mut stay) = (Vec::new(), Vec::new());
        let (mut added, mut changed) = (0, 0);
        for (plan, component) in plans.iter().zip(components) {
            let name = plan.name();
            let serving = self.tenants.iter().filter(|(_, running)| running.leaves_at.is_none());
            let before = serving.clone().find(|(_, running)| running.context().name == *name);
            let is_same = before.is_some_and(|(_, running)| running.plan.fingerprint() == plan.fingerprint());
            if let Some((number, running)) = before
                && is_same
                && Arc::ptr_eq(&running.ground, ground)
            {
                stay.push(*number);
                continue;
            }
            let number = self.number();
            let before = before.map(|(_, running)| running);
            let running = Running::new(&maker, plan, component, number, before)?;
            if let Some(watchdog) = &self.watchdog {
                // Instances of strangers' components are made one by one.
                watchdog.beat();
            }
            let is_new = !is_same || before.is_some_and(Running::is_on_trial);
            let rule = plan.served.rollback.filter(|_| is_new);
            let running = running.on_trial(rule.map(|rule| Trial::new(rule, spares.remove(name))));
            if rehearse && let Err(why) = running.tenant.rehearse() {
                return Err(StartError::Rehearsal { tenant: name.to_owned(), why });
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
            closed: self.doors.addresses(),
            given: &self.given,
            events: &self.events,
            seen: self.doors.are_any(),
            handed: &self.handed,
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
        self.watch_workers();
        info!("tenants: {summary}; {} workers", self.ground.handles.len());
        Ok(())
    }

    /// Starts the version `next` in the place of the one of this number, which stays if it cannot be started.
    fn succeed(
        &mut self,
        number: usize,
        next: usize,
        mut running: Running,
        listeners: Vec<std::net::TcpListener>,
    ) -> Result<(), StartError> {
        let started = running.start(listeners);
        // Whatever of it runs tells of its end.
        self.tenants.insert(next, running);
        self.leave(&[if started.is_ok() { number } else { next }]);
        started
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

    /// Where the service manager wants it, tells that the host is alive while it is.
    fn begin_watchdog(&mut self) -> Result<(), StartError> {
        let Some(period) = watchdog_period() else { return Ok(()) };
        let notify = self.notify.clone();
        self.watchdog = Some(Watchdog::start(period, self.events.clone(), move || notify.alive())?);
        self.watch_workers();
        Ok(())
    }

    /// Those of a ground that only old versions stand on as well.
    fn watch_workers(&self) {
        let Some(watchdog) = &self.watchdog else { return };
        let mut grounds = vec![&self.ground];
        for running in self.tenants.values() {
            if !grounds.iter().any(|ground| Arc::ptr_eq(ground, &running.ground)) {
                grounds.push(&running.ground);
            }
        }
        watchdog.set_workers(grounds.into_iter().flat_map(|ground| ground.handles.iter().cloned()));
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
                    Some(Wish::Drain) => {
                        self.withdraw();
                        self.drain();
                    }
                    Some(Wish::CutOff) => break Exit::CutOff,
                    None => {}
                },
                Some(Occurrence::Reload) => self.reload(None),
                Some(Occurrence::MadeReady) => self.made_ready(),
                Some(Occurrence::Upgrade) => self.upgrade(None),
                Some(Occurrence::UpgradeCame) => self.upgrade_came(),
                Some(Occurrence::Predecessor(word)) => self.told(word),
                Some(Occurrence::Ordered(order)) => self.ordered(order),
                Some(Occurrence::Tenant(number, event)) => self.happened(number, event),
                Some(Occurrence::Asked(question)) => question.answer(),
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
            if !self.wishes.begun() {
                self.judge();
            }
            self.register();
            if self.wishes.begun() && self.tenants.is_empty() && !self.upgrade_is_under_way() {
                break if cut_off { Exit::CutOff } else { Exit::Done };
            }
        };
        // Who has asked for something is told that it is too late.
        self.registry.close();
        while happened.try_recv().is_ok() {}
        self.end(exit)
    }

    fn coroutines(&self) -> u64 {
        self.tenants.values().map(|running| running.context().coroutines.used()).sum()
    }

    /// That of the tenant that may take the longest.
    fn drain_max(&self) -> Duration {
        self.tenants.values().map(|running| running.context().limits.drain_max).max().unwrap_or_default()
    }

    /// What the service manager's users see.
    fn summary(&self) -> String {
        let tenants = self.tenants.values().filter(|running| running.leaves_at.is_none()).count();
        format!("{tenants} tenants on {} workers", self.ground.handles.len())
    }

    /// Takes a signal for what it is, and says so.
    fn signalled(&mut self) -> Option<Wish> {
        let drain_max = self.drain_max();
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
            let name = &running.context().name;
            last.insert(name, running.registered(older, self.rollbacks.of(name)));
        }
        self.registry.set_tenants(&self.ground.handles, last.into_values());
    }

    fn drain(&mut self) {
        self.leave_to(None);
    }

    /// All that is under way may finish, and nothing new begins. The tenants that a successor serves leave it what waits to be
    /// accepted.
    fn leave_to(&mut self, successor: Option<&Successor>) {
        // Who asks this process still, as they came before the other had its place, asks whether they can connect: they can.
        if successor.is_none() {
            self.registry.set_phase(Phase::Draining);
            let drain_max = self.drain_max();
            self.notify.stopping(drain_max, &format!("finishing {}", counted(self.coroutines())));
        }
        // What a reload would bring is not wanted any more.
        self.compiler.stop();
        // Nobody shall wait in the backlog of a port that is not served any more.
        self.sockets = Sockets::default();
        self.given.close();
        let now = Instant::now();
        for running in self.tenants.values_mut() {
            let name = &running.context().name;
            let has_successor = successor.is_some_and(|successor| successor.serves(name));
            running.leave(now, has_successor);
        }
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
        self.watch_workers();
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
