//! `serve`: all tenants of a file, until a signal comes. What one of them does ends no other, and what the file comes to say
//! is taken up without a connection refused or cut off.

mod change;
mod ground;
mod orders;
mod ready;
mod reload;
mod rollback;
mod running;
mod sockets;
mod start;
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

use tracing::error;

use super::{
    changes::Changes,
    counted,
    handover::{Handed, Predecessor, Successor},
    log_counters,
    notify::{Notify, watchdog_period},
    occurrence::{Occurrence, next},
    registry::{Doors, Registered, Registry},
    watchdog::Watchdog,
    wishes::{Wish, Wishes},
};
use crate::{
    access_log::Target,
    admin::{Admin, Phase},
    config::file::{LogFormat, ServeConfig, Source},
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
use reload::Reload;
use rollback::Rollbacks;
use running::{CommonsOfAll, Running};
use sockets::{Sockets, keys};
use upgrade::Upgrade;

/// What a host of many tenants starts with.
pub struct ServeOptions {
    /// What the file says.
    pub config: ServeConfig,
    /// The file.
    pub source: Source,
    /// What the process was started with.
    pub given: Given,
    /// If the file is watched.
    pub changes: Option<Changes>,
    /// Of the log.
    pub format: LogFormat,
    /// The host before this one, whose place is this one's.
    pub predecessor: Option<Predecessor>,
}

/// Serves what the file says, and what it comes to say.
pub fn serve(options: ServeOptions, messages: &Messages) -> Result<Exit, StartError> {
    let (events, happened) = channel();
    // The host has it until its place is this one's, and no longer.
    let predecessor = options.predecessor.clone();
    let started = Host::start(options, messages, events);
    if let (Err(error), Some(predecessor)) = (&started, &predecessor) {
        predecessor.failed(&error.told());
    }
    drop(predecessor);
    let host = started?;
    let access_log = host.access_log.clone();
    let exit = host.watch(&happened);
    if let Some(target) = access_log {
        target.finish();
    }
    Ok(exit)
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
    /// What versions of the same tenant have in common.
    commons: RefCell<CommonsOfAll>,
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

impl Host {
    /// Where the service manager wants it, tells that the host is alive while it is.
    fn begin_watchdog(&mut self) -> Result<(), StartError> {
        let Some(period) = watchdog_period() else { return Ok(()) };
        let notify = self.notify.clone();
        self.watchdog = Some(Watchdog::start(period, self.events.clone(), move || notify.alive())?);
        self.watch_workers();
        Ok(())
    }

    /// The main thread waits for something that may take long: instances of strangers' components are made one by one.
    fn beat(&self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.beat();
        }
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
                        self.end_rising();
                        self.drain();
                    }
                    Some(Wish::CutOff) => {
                        self.end_rising();
                        break Exit::CutOff;
                    }
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
            let sockets = keys(&running.plan.served).map(|(_, key)| key);
            let has_successor = successor.is_some_and(|successor| successor.serves(name, sockets));
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
            // It is judged after every occurrence.
            Event::Trapped => {}
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
