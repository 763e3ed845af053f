//! `serve`: all tenants of a file, until a signal comes. What one of them does ends no other.

use std::{
    net::TcpListener,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use conet_rt::{Group, Handle, Worker};
use tracing::{error, info, warn};

use super::{
    bind,
    context::{Around, Streams, context},
    counted, log_counters,
    occurrence::{Occurrence, next, tell, watch_signals},
    open_cache,
    plan::{Plan, plans},
    registry::{Registered, Registry},
    room::{Room, Shares, shape},
    wishes::{Wish, Wishes},
    workers::start_workers,
};
use crate::{
    admin::{Phase, State},
    config::{
        file::{Restart, ServeConfig, Source},
        machine::Machine,
    },
    exit::{Exit, StartError},
    guest_log::GuestLog,
    imports::{Context, context::GuestOutput, listening::Listens, resolve::Resolver},
    messages::Messages,
    metrics::Metrics,
    sandbox::{
        cache::Cache, coroutine::Sandbox, engine::EngineOptions, engines::Engines, ticker::Ticker,
        trap::Ended,
    },
    tenancy::{
        role::Role,
        supervisor::Supervisor,
        tenant::{Event, Tenant},
    },
};

/// Serves what the file says.
pub fn serve(config: &ServeConfig, source: &Source, messages: &Messages) -> Result<Exit, StartError> {
    let (events, happened) = channel();
    let starting = watch_signals(events.clone())?;
    let plans = plans(config, source)?;
    let workers = config.host.workers.as_ref().map_or_else(cores, |at| at.value.0);
    let registry = Arc::new(Registry::new(workers, events.clone()));
    let _admin = registry.serve(&config.host, messages)?;
    let tenants = plans.iter().map(|plan| (&plan.served.config, plan.role, plan.served.listen.len()));
    let shares = Shares::measure(&Machine::read(), tenants, workers)?;
    let engines = Arc::new(engines(config, &plans, &shares)?);

    let mut loaded = Vec::new();
    for Plan { served, bytes, scan, role } in &plans {
        let of = engines.load(bytes, scan, &shape(&served.config.limits, *role));
        let path = served.component.value.clone();
        loaded.push(of.map_err(|error| StartError::Load { path, error })?);
    }
    // Before there are threads that would have to be taken down again.
    let mut sockets = Vec::new();
    for plan in &plans {
        let of: Result<Vec<TcpListener>, _> = plan.served.listen.iter().map(|at| bind(at.value)).collect();
        sockets.push(of?);
    }

    let ticking = engines.clone();
    let ticker = Ticker::start(move || ticking.advance())?;
    let driver = config.host.driver.as_ref().map(|at| at.value).unwrap_or_default();
    let workers = start_workers(workers, driver, Some(&ticker))?;
    let handles: Vec<Handle> = workers.iter().map(Worker::handle).collect();
    let resolver = Arc::new(Resolver::new());
    let mut tenants = Vec::new();
    for (number, (plan, (loaded, pooled))) in plans.into_iter().zip(loaded).enumerate() {
        let Plan { served, role, .. } = plan;
        let room = Room::within(&shares, &served.config, role, workers.len())
            .map_err(|why| StartError::Options(format!("the tenant `{}`: {why}", served.config.name)))?;
        let metrics = Arc::new(Metrics::default());
        let around = Around {
            streams: streams(&served.config, &metrics),
            metrics,
            resolver: resolver.clone(),
            messages,
            group: group(served.weight),
            shares: Some(&shares),
        };
        let context = context(served.config, &room, around)?;
        let sandbox = Sandbox { context: Arc::new(context), loaded, pooled };
        let tenant = Tenant::new(sandbox, role, handles.clone(), tell(&events, number));
        let copies = (0..room.copies).map(|_| Copy::new()).collect();
        let (restart, weight) = (served.restart, served.weight.get());
        let listens = Vec::new();
        tenants.push(Running { tenant, restart, weight, copies, listens, failed: false, drained: false });
    }
    starting.store(false, Ordering::SeqCst);
    for (running, sockets) in tenants.iter_mut().zip(sockets) {
        running.tenant.run(running.copies.len())?;
        for socket in sockets {
            let address = running.tenant.serve(&socket)?;
            running.listens.push(running.context().listening.add(address));
            running.context().announce(address);
        }
    }
    let names: Vec<&str> = tenants.iter().map(|running| running.context().name.as_str()).collect();
    info!("serving {} tenants on {} workers: {}", tenants.len(), workers.len(), names.join(", "));
    let host = Host {
        tenants,
        workers,
        wishes: Wishes::default(),
        registry,
        messages: messages.clone(),
        _ticker: ticker,
    };
    host.register();
    host.registry.set_phase(Phase::Ready);
    Ok(host.watch(&happened))
}

/// The share of a tenant: with a weight of 1 that of the host's own tasks.
fn group(weight: NonZeroU32) -> Group {
    Group::new(Group::DEFAULT_WEIGHT.saturating_mul(weight))
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn engines(config: &ServeConfig, plans: &[Plan], shares: &Shares) -> Result<Engines, StartError> {
    let options = |plan: &Plan| {
        let limits = &plan.served.config.limits;
        EngineOptions::new(limits, plan.scan.fibers, shape(limits, plan.role))
    };
    let options = plans.iter().map(options).reduce(|one, other| one.union(&other));
    let options = options.expect("a file has tenants");
    let options = EngineOptions { coroutines_max: shares.coroutines_max, ..options };
    let cache = match &config.host.cache {
        None => Cache::default_path(),
        Some(at) => Some(at.value.clone()).filter(|path| path.as_os_str() != "off"),
    };
    Engines::new(options, shares.instances_max as u32, open_cache(cache.as_deref()))
        .map_err(|error| StartError::Load { path: "the host".into(), error })
}

fn streams(config: &crate::config::tenant::TenantConfig, metrics: &Arc<Metrics>) -> Streams {
    let limits = &config.limits;
    let (rate, line) = (limits.log_bytes_per_second_max, limits.log_line_bytes_max);
    let log = GuestLog::new(&config.name, rate, line, metrics.clone());
    Streams {
        stdin: false,
        stdout: GuestOutput::Log { log: log.clone(), stream: "stdout" },
        stderr: GuestOutput::Log { log, stream: "stderr" },
    }
}

pub(super) struct Host {
    pub(super) tenants: Vec<Running>,
    workers: Vec<Worker>,
    /// What signals have asked for.
    wishes: Wishes,
    /// What the admin tells.
    registry: Arc<Registry>,
    messages: Messages,
    /// Ticks as long as the workers run.
    _ticker: Ticker,
}

pub(super) struct Running {
    tenant: Tenant,
    restart: Restart,
    /// As in the file.
    weight: u32,
    /// Of its program; none of a handler.
    pub(super) copies: Vec<Copy>,
    /// Where the host listens for it, until its shutdown.
    listens: Vec<Listens>,
    /// A listener of the host does not accept any more.
    failed: bool,
    /// After the shutdown began: nothing of it is left.
    drained: bool,
}

/// A copy of a program.
pub(super) struct Copy {
    supervisor: Supervisor,
    /// It has not ended.
    pub(super) runs: bool,
    /// It has ended, and is started again then.
    pub(super) start_at: Option<Instant>,
}

impl Copy {
    /// One that is about to run.
    fn new() -> Self {
        Self { supervisor: Supervisor::default(), runs: true, start_at: None }
    }
}

impl Running {
    pub(super) fn context(&self) -> &Arc<Context> {
        self.tenant.context()
    }
}

impl Host {
    /// Waits for the end.
    fn watch(mut self, happened: &Receiver<Occurrence>) -> Exit {
        let exit = loop {
            let restart = self.tenants.iter().flat_map(|running| &running.copies);
            let restart = restart.filter_map(|copy| copy.start_at).min();
            let deadline = self.wishes.deadline().into_iter().chain(restart).min();
            match next(happened, deadline) {
                Some(Occurrence::Signal) => match self.signalled() {
                    Some(Wish::Drain) => self.drain(),
                    Some(Wish::CutOff) => break Exit::CutOff,
                    None => {}
                },
                Some(Occurrence::Tenant(number, event)) => self.happened(number, event),
                Some(Occurrence::Ordered(order)) => self.ordered(order),
                Some(Occurrence::Flushed) => {}
                None if self.wishes.deadline().is_some_and(|deadline| deadline <= Instant::now()) => {
                    let left = counted(self.coroutines());
                    self.messages.say(format_args!("the drain's deadline has passed: cutting off {left}"));
                    break Exit::CutOff;
                }
                None => self.restart_due(),
            }
            self.register();
            if self.wishes.begun() && self.tenants.iter().all(|running| running.drained) {
                break Exit::Done;
            }
        };
        self.end(exit)
    }

    fn coroutines(&self) -> u64 {
        self.tenants.iter().map(|running| running.context().coroutines.used()).sum()
    }

    /// Takes a signal for what it is, and says so.
    fn signalled(&mut self) -> Option<Wish> {
        let drains = self.tenants.iter().map(|running| running.context().limits.drain_max);
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

    fn drain(&mut self) {
        self.registry.set_phase(Phase::Draining);
        for running in self.tenants.iter_mut().filter(|running| !running.context().shutdown.begun()) {
            running.drain();
        }
    }

    /// Tells the admin how the tenants are.
    pub(super) fn register(&self) {
        self.registry.set_tenants(self.tenants.iter().map(|running| Registered {
            context: running.context().clone(),
            role: running.role(),
            weight: running.weight,
            state: running.state(),
        }));
    }

    fn happened(&mut self, number: usize, event: Event) {
        let running = &mut self.tenants[number];
        let begun = running.context().shutdown.begun();
        match event {
            Event::Drained => running.drained = true,
            Event::ListenerFailed(code) => {
                running.failed = true;
                error!(tenant = %running.context().name, "cannot accept connections any more: {code:?}");
            }
            Event::Ended { copy, ended } if !begun => running.ended(copy, &ended),
            Event::Ended { copy, .. } => running.copies[copy].runs = false,
        }
    }

    fn restart_due(&mut self) {
        let now = Instant::now();
        for running in &mut self.tenants {
            running.restart_due(now);
        }
    }

    fn end(mut self, exit: Exit) -> Exit {
        for running in &self.tenants {
            let context = running.context();
            context.cut_off.store(exit == Exit::CutOff, Ordering::Relaxed);
            context.shutdown.begin();
        }
        // Tasks, and with them instances and connections, are dropped on their own threads.
        self.workers.iter().for_each(Worker::stop);
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                warn!("a worker ended by a panic");
            }
        }
        for running in &self.tenants {
            running.context().pools.close_idle();
            log_counters(running.context());
        }
        exit
    }
}

impl Running {
    pub(super) fn role(&self) -> Role {
        self.tenant.role()
    }

    fn state(&self) -> State {
        let runs = self.role().is_handler() || self.copies.iter().any(|copy| copy.runs);
        let waits = self.copies.iter().any(|copy| copy.start_at.is_some());
        match (self.drained, self.context().shutdown.begun()) {
            (true, _) => State::Drained,
            (false, true) => State::Draining,
            _ if self.failed => State::Failed,
            _ if runs => State::Running,
            _ if waits => State::Waiting,
            _ => State::Ended,
        }
    }

    /// Begins its shutdown.
    pub(super) fn drain(&mut self) {
        self.listens.clear();
        self.copies.iter_mut().for_each(|copy| copy.start_at = None);
        self.tenant.drain();
    }

    /// A copy of its program has: it is started again, if that is wanted.
    fn ended(&mut self, number: usize, ended: &Ended) {
        self.copies[number].runs = false;
        let failed = !matches!(ended, Ended::Returned(Ok(())) | Ended::Exit(0));
        let how = match ended {
            Ended::Returned(Ok(())) => "returned".to_owned(),
            Ended::Returned(Err(())) => "returned an error".to_owned(),
            Ended::Exit(code) => format!("exited with {code}"),
            Ended::Trapped(_) => "trapped".to_owned(),
        };
        let again = match self.restart {
            Restart::Always => true,
            Restart::OnFailure => failed,
            Restart::Never => false,
        };
        let name = self.context().name.clone();
        if !again {
            info!(tenant = %name, "the program {how}, and is not started again");
            return;
        }
        let now = Instant::now();
        let copy = &mut self.copies[number];
        let wait = copy.supervisor.ended(now);
        copy.start_at = Some(now + wait);
        match wait {
            Duration::ZERO => warn!(tenant = %name, "the program {how}: starting it again"),
            wait => warn!(tenant = %name, "the program {how}, too often: starting it again in {wait:?}"),
        }
        self.restart_due(now);
    }

    pub(super) fn restart_due(&mut self, now: Instant) {
        for number in 0..self.copies.len() {
            if self.copies[number].start_at.is_none_or(|at| at > now) {
                continue;
            }
            self.copies[number].start_at = None;
            self.context().metrics.restarts.increment();
            if let Err(error) = self.tenant.run_copy(number) {
                let wait = self.copies[number].supervisor.ended(now);
                let wait = wait.max(RETRY);
                self.copies[number].start_at = Some(now + wait);
                warn!(tenant = %self.context().name, "cannot start the program, trying again in {wait:?}: {error}");
                continue;
            }
            self.copies[number].runs = true;
        }
    }
}

/// Before another attempt to start what could not be started.
const RETRY: Duration = Duration::from_secs(1);
