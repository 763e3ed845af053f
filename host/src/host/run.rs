//! `run`: one component, until it ends or a signal comes.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use conet_rt::{Group, Handle, Stacks, Worker};
use tracing::{info, warn};

use super::{
    bind,
    component::read,
    context::{Around, Streams, context},
    counted, log_counters,
    notify::{Notify, watchdog_period},
    occurrence::{Occurrence, next, take_signals, tell},
    open_cache,
    room::{Room, shape},
    watchdog::Watchdog,
    wishes::{Wish, Wishes},
    workers::start_workers,
};
use crate::{
    alarm::Alarm,
    config::{driver::Driver, machine::Machine, tenant::TenantConfig},
    exit::{Exit, StartError},
    imports::{
        commons::Commons,
        context::GuestOutput,
        given::{Bound, Given},
        listeners::canonical,
        resolve::Resolver,
    },
    messages::Messages,
    output::Output,
    sandbox::{
        compiler::Compiler, coroutine::Sandbox, engine::EngineOptions, engines::Engines, scan::scan,
        ticker::Ticker, trap::Ended,
    },
    tenancy::{
        role::Role,
        tenant::{Event, Tenant},
    },
    wall::no_new_privs,
    warnings::Warnings,
};

/// What to run, and how.
pub struct Options {
    /// The component's file.
    pub component: PathBuf,
    /// The tenant it is run for.
    pub tenant: TenantConfig,
    /// Where to listen for a handler; none is where it is given a socket, or else the default, and all that a program may have.
    pub listen: Option<SocketAddr>,
    /// What the process was started with.
    pub given: Given,
    /// Worker threads.
    pub workers: usize,
    /// What they wait for their sockets with.
    pub driver: Driver,
    /// Where compiled code is kept; none keeps none.
    pub cache: Option<PathBuf>,
    /// Guests are preempted. Only a measurement does without: then one that spins has its worker for ever.
    pub preemption: bool,
}

/// Runs it to its end.
pub fn run(options: Options, messages: &Messages) -> Result<Exit, StartError> {
    let (events, happened) = channel();
    // What is built is built, and what runs from here on is of this process.
    no_new_privs()?;
    messages.begin()?;
    let starting = take_signals(false)?.begin(events.clone())?;
    let host = Host::start(options, messages, events, &starting)?;
    host.notify.ready("running");
    let _watchdog = watchdog_period().map(|period| host.watched(period)).transpose()?;
    Ok(host.watch(&happened))
}

struct Host {
    tenant: Tenant,
    /// Copies of the program that have not ended; none for a handler.
    copies: usize,
    workers: Vec<Worker>,
    /// What signals have asked for.
    wishes: Wishes,
    /// What the service manager is told.
    notify: Notify,
    events: Sender<Occurrence>,
    /// What the guest prints to.
    outputs: [Arc<Output>; 2],
    /// Ticks as long as the workers run, if guests are preempted.
    _ticker: Option<Ticker>,
}

impl Host {
    /// `starting` is cleared before anything runs that a signal should leave time.
    fn start(
        options: Options,
        messages: &Messages,
        events: Sender<Occurrence>,
        starting: &AtomicBool,
    ) -> Result<Self, StartError> {
        let Options { component: path, tenant: config, listen, given, workers, driver, cache, preemption } =
            options;
        let given = Arc::new(given);
        let bytes = read(&path, config.limits.component_bytes_max)?;
        let scan = scan(&bytes, config.limits.nested_instances_max as u64)
            .map_err(|error| StartError::Scan { path: path.clone(), error })?;
        let role = Role::choose(&scan, &config).map_err(StartError::Options)?;
        if listen.is_some() && !role.is_handler() {
            let why = "--listen is for handlers, and this component is a program: it listens itself, often where its \
                       arguments say";
            return Err(StartError::Options(why.to_owned()));
        }
        let room = Room::measure(&Machine::read(), &config, role, workers)?;

        let shape = shape(&config.limits, role);
        let options = EngineOptions { preemption, ..EngineOptions::new(&config.limits, scan.fibers, shape) };
        if !preemption {
            warn!(
                "guests are not preempted: one that spins holds its worker for ever, and no CPU budget ends it"
            );
        }
        let refused = |error| StartError::Load { path: path.clone(), error };
        // Who runs a component here brings it as well as the machine. A child would cost 8 ms of CPU time, and 40 ms by the
        // clock where other processes keep the machine busy, as it yields to them.
        let compiler = Arc::new(Compiler::here());
        let engines = Engines::new(options, room.instances as u32, open_cache(cache.as_deref()), compiler);
        let engines = Arc::new(engines.map_err(refused)?);
        let started = Instant::now();
        let (loaded, pooled) =
            engines.load(&bytes, &scan, &shape, &config.limits.compile).map_err(refused)?;
        info!("engine: concurrency {}", if scan.fibers { "on" } else { "off" });
        info!("loaded as {role:?} in {:?}", started.elapsed());

        // Before there are threads that would have to be taken down again.
        let sockets = match role.is_handler() {
            true => sockets(&given, listen)?,
            false => Vec::new(),
        };
        if role == Role::IsolatedHandler
            && let Some(making) = pooled.begin(&loaded)
            && Stacks::mappings_per_stack() > 0
        {
            // Those of our own stacks are not counted for a handler. A panic has been told of.
            let _ = making.join();
        }
        let ticker = preemption.then(|| Ticker::start(move || engines.advance())).transpose()?;
        let workers = start_workers(workers, driver, ticker.as_ref())?;
        let handles: Vec<Handle> = workers.iter().map(Worker::handle).collect();
        let outputs =
            [Output::start("stdout", std::io::stdout())?, Output::start("stderr", std::io::stderr())?];
        let streams = Streams {
            stdin: !role.is_handler(),
            stdout: GuestOutput::Stream(outputs[0].clone()),
            stderr: GuestOutput::Stream(outputs[1].clone()),
        };
        let around = Around {
            streams,
            metrics: Arc::default(),
            resolver: Arc::new(Resolver::new()),
            messages,
            group: Group::new(Group::DEFAULT_WEIGHT),
            access_log: None,
            shares: None,
            // It has no admin.
            roster: None,
            warnings: Arc::new(Warnings::new(&config.name, config.warn)),
            alarm: Alarm::default(),
            commons: Commons::new(),
            closed: Vec::new(),
            given: given.clone(),
        };
        let context = context(config, &room, around)?;
        context.commons.hold_to(&context);
        let sandbox = Sandbox { context: Arc::new(context), loaded, pooled };
        let tenant = Tenant::new(sandbox, role, handles, tell(&events, 0));
        starting.store(false, Ordering::SeqCst);
        tenant.run(room.copies)?;
        for socket in &sockets {
            tenant.context().announce(tenant.serve(&socket.listener)?);
        }
        let (wishes, notify) = (Wishes::default(), Notify::from_environment());
        Ok(Self { tenant, copies: room.copies, workers, wishes, notify, events, outputs, _ticker: ticker })
    }

    /// Tells the service manager that it is alive while it is.
    fn watched(&self, period: Duration) -> std::io::Result<Watchdog> {
        let notify = self.notify.clone();
        let watchdog = Watchdog::start(period, self.events.clone(), move || notify.alive())?;
        watchdog.set_workers(self.workers.iter().map(Worker::handle));
        Ok(watchdog)
    }

    /// Waits for the end.
    fn watch(mut self, happened: &Receiver<Occurrence>) -> Exit {
        let exit = loop {
            match next(happened, self.wishes.deadline()) {
                Some(Occurrence::Signal) => match self.signalled() {
                    Some(Wish::Drain) => self.drain(),
                    Some(Wish::CutOff) => break Exit::CutOff,
                    None => {}
                },
                Some(Occurrence::Tenant(_, event)) => {
                    if let Some(exit) = self.happened(event) {
                        break exit;
                    }
                }
                Some(Occurrence::Asked(question)) => question.answer(),
                // Only `serve` has a file and an admin.
                Some(
                    Occurrence::Flushed
                    | Occurrence::Reload
                    | Occurrence::MadeReady
                    | Occurrence::Upgrade
                    | Occurrence::UpgradeCame
                    | Occurrence::Predecessor(_)
                    | Occurrence::Ordered(_),
                ) => {}
                None => {
                    let left = counted(self.tenant.context().coroutines.used());
                    self.say(format_args!("the drain's deadline has passed: cutting off {left}"));
                    break Exit::CutOff;
                }
            }
        };
        self.end(exit, happened)
    }

    fn drain(&mut self) {
        let context = self.tenant.context();
        let finishing = format!("finishing {}", counted(context.coroutines.used()));
        self.notify.stopping(context.limits.drain_max, &finishing);
        // What the tenant closes shall be closed, unless whoever has given it has it still.
        context.given.close();
        self.tenant.drain(false);
    }

    /// Takes a signal for what it is, and says so.
    fn signalled(&mut self) -> Option<Wish> {
        let context = self.tenant.context();
        let drain_max = context.limits.drain_max;
        let coroutines = context.coroutines.used();
        let wish = self.wishes.signal(drain_max)?;
        match wish {
            Wish::Drain if coroutines == 0 => self.say(format_args!("shutting down")),
            Wish::Drain => self.say(format_args!(
                "shutting down: {} may take {drain_max:?} to finish; signal again to end now",
                counted(coroutines)
            )),
            Wish::CutOff => self.say(format_args!("second signal: cutting off what is left")),
        }
        Some(wish)
    }

    fn happened(&mut self, event: Event) -> Option<Exit> {
        match event {
            Event::Ended { ended: Ended::Exit(code), .. } => Some(Exit::of_guest(code)),
            Event::Ended { ended: Ended::Trapped(_) | Ended::Orphaned, .. } => Some(Exit::Guest(1)),
            // Its accept was told that the host is ending: an error of the program's own making, or none.
            Event::Ended { ended: Ended::Returned(_), .. } if self.wishes.begun() => None,
            Event::Ended { ended: Ended::Returned(Err(())), .. } => Some(Exit::Guest(1)),
            Event::Ended { ended: Ended::Returned(Ok(())), .. } => {
                self.copies -= 1;
                (self.copies == 0).then_some(Exit::Done)
            }
            Event::ListenerFailed { code, .. } => {
                self.say(format_args!("cannot accept connections any more: {code:?}"));
                Some(Exit::Guest(1))
            }
            Event::ListenerTried | Event::Trapped => None,
            Event::Drained => Some(Exit::Done),
        }
    }

    fn end(mut self, exit: Exit, happened: &Receiver<Occurrence>) -> Exit {
        let context = self.tenant.context().clone();
        if exit == Exit::CutOff {
            context.cut_off.store(true, Ordering::Relaxed);
        }
        context.shutdown.begin();
        // Tasks, and with them instances and connections, are dropped on their own threads.
        self.workers.iter().for_each(Worker::stop);
        for worker in self.workers.drain(..) {
            if worker.join().is_err() {
                warn!("a worker ended by a panic");
            }
        }
        context.pools.close_idle();
        let exit = self.flush(exit, happened);
        context.metrics.output_lost.add(self.unwritten_bytes());
        log_counters(&context);
        exit
    }

    /// Waits until what the guests have printed is written: as any process for who reads it, but after a signal no
    /// longer than the drain may take, and a moment at least.
    fn flush(&mut self, exit: Exit, happened: &Receiver<Occurrence>) -> Exit {
        let patience = Instant::now() + FLUSH_PATIENCE;
        let events = self.events.clone();
        let outputs = self.outputs.clone();
        let flush = move || {
            for output in outputs {
                output.flush(None);
            }
            // Nobody waits any more.
            let _ = events.send(Occurrence::Flushed);
        };
        if let Err(error) = thread::Builder::new().name("flush".into()).spawn(flush) {
            warn!("cannot wait for the guest's output to be written: {error}");
            return exit;
        }
        loop {
            let deadline = match exit {
                Exit::CutOff => Some(patience),
                _ => self.wishes.deadline().map(|deadline| deadline.max(patience)),
            };
            match next(happened, deadline) {
                Some(Occurrence::Flushed) => return exit,
                Some(Occurrence::Signal) if self.signalled() == Some(Wish::CutOff) => break,
                Some(_) => {}
                None => break,
            }
        }
        let bytes = self.unwritten_bytes();
        self.say(format_args!("{bytes} bytes of the guest's output are lost: they were not read in time"));
        if exit == Exit::Done { Exit::CutOff } else { exit }
    }

    fn unwritten_bytes(&self) -> u64 {
        self.outputs.iter().map(|output| output.unwritten_bytes()).sum()
    }

    fn say(&self, line: fmt::Arguments<'_>) {
        self.tenant.context().messages.say(line);
    }
}

/// A handler's: where it is told to listen, or else on all that is given.
fn sockets(given: &Given, listen: Option<SocketAddr>) -> Result<Vec<Bound>, StartError> {
    let all = given.all();
    let addresses = match listen {
        Some(address) => vec![canonical(address)],
        None if all.is_empty() => vec![LISTEN_DEFAULT],
        None => all.iter().map(|named| named.address).collect(),
    };
    for named in all.iter().filter(|named| !addresses.contains(&named.address)) {
        warn!(
            "this process was given the socket {named}, and --listen says another address: who connects to it waits"
        );
    }
    addresses.into_iter().map(|address| bind(given, address, None)).collect()
}

/// Where a handler listens if nothing is said, and nothing is given.
const LISTEN_DEFAULT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7000));
/// How long the guest's output may take to be written after the drain at least.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);
