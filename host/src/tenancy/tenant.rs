//! A tenant that runs: its accept loops or its program, on the workers.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use conet_rt::{Handle, net::TcpListener, time};

use super::{role::Role, spawner::Spawner, supervisor::Supervisor};
use crate::{
    bindings::net::types::ErrorCode,
    config::{limits::OverLimit, warn::Warn},
    imports::{
        Context,
        accept::{Accepted, accept, refuse, refuse_until, tell_of_circuit},
        incoming::{Incoming, Spare},
        view::noting_wait,
        watch::Watch,
    },
    quota::Permit,
    sandbox::{component::Loaded, coroutine::Sandbox, pooled::Pooled, trap::Ended},
};

/// What a tenant tells the host.
#[derive(Debug)]
pub enum Event {
    /// A copy of the program has ended.
    Ended {
        /// Which.
        copy: usize,
        /// How.
        ended: Ended,
    },
    /// A worker does not accept the host's connections any more, and tries again.
    ListenerFailed {
        /// Why.
        code: ErrorCode,
        /// When.
        wait: Duration,
    },
    /// It does try again.
    ListenerTried,
    /// After the shutdown: no coroutine is left.
    Drained,
    /// Connections have trapped while somebody wanted to know.
    Trapped,
}

/// Takes what tenants tell, on any thread. It must not wait.
pub type Tell = Arc<dyn Fn(Event) + Send + Sync>;

/// A tenant's component on its workers.
pub struct Tenant {
    sandbox: Arc<Sandbox>,
    role: Role,
    workers: Vec<Handle>,
    tell: Tell,
}

impl Tenant {
    /// Puts a loaded component on `workers`. Nothing runs yet.
    pub fn new(sandbox: Sandbox, role: Role, workers: Vec<Handle>, tell: Tell) -> Self {
        let sandbox = Arc::new(sandbox);
        let lines = sandbox.loaded.lines.clone();
        assert!(sandbox.context.lines.set(lines).is_ok(), "a context is one tenant's");
        if sandbox.loaded.entries.start.is_some() {
            let spawner = Box::new(Spawner::new(&sandbox, &workers));
            assert!(sandbox.context.spawner.set(spawner).is_ok(), "a context is one tenant's");
        }
        Self { sandbox, role, workers, tell }
    }

    /// What it is run as.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its component, for another version of it.
    pub fn component(&self) -> (Loaded, Arc<Pooled>) {
        (self.sandbox.loaded.clone(), self.sandbox.pooled.clone())
    }

    /// What its instances share.
    pub fn context(&self) -> &Arc<Context> {
        &self.sandbox.context
    }

    /// Runs a program, in `copies` instances on as many workers.
    pub fn run(&self, copies: usize) -> io::Result<()> {
        (0..copies).try_for_each(|copy| self.run_copy(copy))
    }

    /// Runs one copy of a program, on the worker of that number.
    pub fn run_copy(&self, copy: usize) -> io::Result<()> {
        let (sandbox, tell, role) = (self.sandbox.clone(), self.tell.clone(), self.role);
        let context = self.context();
        // Those of the version before need not have ended.
        let permits = context.coroutines.try_acquire_anyway(1).zip(context.instances.try_acquire(1));
        let permits = permits.ok_or_else(|| io::Error::other("more copies than coroutines or instances"))?;
        let run = move || async move {
            let entries = &sandbox.loaded.entries;
            let ended = match role {
                Role::SharedProgram => sandbox.run_shared().await,
                Role::PlainProgram => {
                    let run = entries.run.expect("a plain program exports it");
                    sandbox.run(run).await
                }
                _ => {
                    let run = entries.command.expect("a command exports it");
                    sandbox.run(run).await
                }
            };
            // Who is told may start it again.
            drop(permits);
            tell(Event::Ended { copy, ended });
        };
        self.workers[copy]
            .spawn_in(&self.context().group, run)
            .map_err(|_| io::Error::other("a worker has stopped"))?;
        Ok(())
    }

    /// Serves a handler's connections from `listener`, on all workers.
    pub fn serve(&self, listener: &StdListener) -> io::Result<SocketAddr> {
        for worker in &self.workers {
            let listener = listener.try_clone()?;
            let (sandbox, tell, role) = (self.sandbox.clone(), self.tell.clone(), self.role);
            let accepting = self.context().accepting.try_acquire(1).expect("it has no limit");
            let serve = move || async move {
                let _accepting = accepting;
                let spare = Spare::new(listener);
                let mut supervisor = Supervisor::new(&sandbox.context.limits);
                while let Err(code) = serve(&sandbox, role, &spare).await {
                    let wait = supervisor.ended(Instant::now());
                    tell(Event::ListenerFailed { code, wait });
                    if sandbox.context.shutdown.or(time::sleep(wait)).await.is_none() {
                        return;
                    }
                    tell(Event::ListenerTried);
                }
            };
            worker
                .spawn_in(&self.context().group, serve)
                .map_err(|_| io::Error::other("a worker has stopped"))?;
        }
        listener.local_addr()
    }

    /// Makes an instance, calls nothing in it and drops it: why that fails. Calls `waits` now and then while it does.
    pub fn rehearse(&self, waits: impl Fn()) -> Result<(), String> {
        let (done, ended) = mpsc::channel();
        let sandbox = self.sandbox.clone();
        let rehearse = move || async move {
            // Who asked has given up: nothing is lost.
            let _ = done.send(sandbox.rehearse().await);
        };
        let worker = self.workers.first().expect("a host has workers");
        let stopped = || "a worker has stopped".to_owned();
        worker.spawn_in(&self.context().group, rehearse).map_err(|_| stopped())?;
        // It has its CPU time in turn with the others.
        let start_max = self.context().limits.start_max.unwrap_or_default();
        let patience = REHEARSAL_MAX + start_max * REHEARSAL_STARTS;
        let until = Instant::now() + patience;
        let ended = loop {
            waits();
            let left = until.saturating_duration_since(Instant::now());
            match ended.recv_timeout(left.min(REHEARSAL_STEP)) {
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => {}
                ended => break ended,
            }
        };
        match ended {
            Ok(Ended::Trapped(trapped)) => Err(trapped.cause),
            Ok(Ended::Exit(code)) => Err(format!("it exits with {code} when an instance is made")),
            Ok(Ended::Returned(_) | Ended::Orphaned) => Ok(()),
            Err(_) => Err(format!("no instance was made within {patience:?}")),
        }
    }

    /// Drops all that is left of it, without waiting: what it has is reset.
    pub fn cut_off(&self) {
        let context = self.context();
        context.cut_off.store(true, Ordering::Relaxed);
        context.shutdown.begin();
        context.group.cancel(&self.workers);
    }

    /// Begins the shutdown: nothing new is accepted; `Event::Drained` follows when no coroutine is left. What waits to be
    /// accepted is left to its successor, or else served still.
    pub fn drain(&self, has_successor: bool) {
        let context = self.context().clone();
        let tell = self.tell.clone();
        match has_successor {
            true => context.shutdown.begin(),
            false => context.shutdown.begin_with_backlog(),
        }
        let drained = move || async move {
            // Who accepts may have a connection that is no coroutine yet.
            context.accepting.drained().await;
            context.coroutines.drained().await;
            tell(Event::Drained);
        };
        // A worker that has stopped has no coroutines.
        let _ = self.workers[0].spawn(drained);
    }
}

/// How long the first instance of a new version may take to be made, on a worker that others use, too.
const REHEARSAL_MAX: Duration = Duration::from_secs(5);
/// And so many times what it may take by its own limit.
const REHEARSAL_STARTS: u32 = 8;
/// How often who waits for that says so.
const REHEARSAL_STEP: Duration = Duration::from_millis(10);

/// Serves on this worker until the shutdown, or until the listener fails.
async fn serve(sandbox: &Arc<Sandbox>, role: Role, spare: &Spare) -> Result<(), ErrorCode> {
    let listener = spare.duplicate().and_then(TcpListener::from_std);
    let bound = listener.and_then(|listener| listener.local_addr().map(|address| (listener, address)));
    let (listener, address) = bound.map_err(|error| crate::imports::error::code(&error))?;
    let incoming = Incoming::new(&sandbox.context, listener, address).with_spare(spare);
    match role {
        Role::SharedHandler => serve_shared(sandbox, &incoming).await,
        _ => serve_isolated(sandbox, &incoming).await,
    }
}

/// A fresh instance for each connection.
async fn serve_isolated(sandbox: &Arc<Sandbox>, incoming: &Incoming) -> Result<(), ErrorCode> {
    let context = &sandbox.context;
    let watch = Watch::new(&context.limits.peer, &context.metrics, &context.warnings);
    loop {
        let accepted = match accept(context, incoming).await {
            Ok(accepted) => accepted,
            Err(ErrorCode::ShuttingDown) => return Ok(()),
            Err(code) => return Err(code),
        };
        let accepted = Waiting { accepted: Some(accepted), context: context.clone() };
        let permits = match context.limits.over_limit {
            OverLimit::Wait => (context.coroutines.acquire().await, context.instances.acquire().await),
            OverLimit::Refuse => {
                match context.coroutines.try_acquire(1).zip(context.instances.try_acquire(1)) {
                    Some(permits) => permits,
                    None => {
                        context.metrics.coroutines_refused.increment();
                        refuse(context, &accepted.take().stream, "`coroutines`");
                        continue;
                    }
                }
            }
        };
        context.warn_beyond(Warn::Coroutines, &context.coroutines, "coroutines");
        let Some(memory) = memory_for_one(sandbox).await else {
            accepted.take().stream.reset();
            continue;
        };
        context.metrics.coroutines.increment();
        let (sandbox, watch) = (sandbox.clone(), watch.clone());
        conet_rt::spawn(async move {
            // The permits outlive the instance.
            let _permits = permits;
            sandbox.handle(accepted.take(), watch, memory).await;
        })
        .detach();
    }
}

/// What a fresh instance begins with, once the tenant has as much free. None if that takes too long.
async fn memory_for_one(sandbox: &Sandbox) -> Option<Permit> {
    let context = &sandbox.context;
    let free = context.fresh_memory.acquire_many(sandbox.fresh_bytes());
    let (memory, waited) = noting_wait(time::timeout(context.limits.memory_wait_max, free)).await;
    if waited {
        context.metrics.memory_waited.increment();
    }
    memory.inspect_err(|_| context.metrics.memory_timeouts.increment()).ok()
}

/// A connection that no instance has yet: dropped at the end of the drain, it is reset as those are that one has.
struct Waiting {
    /// Some until an instance has it.
    accepted: Option<Accepted>,
    context: Arc<Context>,
}

impl Waiting {
    fn take(mut self) -> Accepted {
        self.accepted.take().expect("it is taken once")
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(accepted) = self.accepted.take()
            && self.context.cut_off.load(Ordering::Relaxed)
        {
            accepted.stream.reset();
        }
    }
}

/// One instance, and after a trap the next one, unless the circuit is open.
async fn serve_shared(sandbox: &Arc<Sandbox>, incoming: &Incoming) -> Result<(), ErrorCode> {
    let context = &sandbox.context;
    loop {
        while let Some(until) =
            context.circuit.as_ref().and_then(|circuit| circuit.open_until(Instant::now()))
        {
            match refuse_until(context, incoming, until).await {
                Err(ErrorCode::ShuttingDown) => return Ok(()),
                refused => refused?,
            }
        }
        let _instance = context.instances.acquire().await;
        let served = context.metrics.accepted.value();
        let ended = sandbox.clone().serve_shared(incoming).await?;
        if context.shutdown.begun() {
            return Ok(());
        }
        match &context.circuit {
            Some(circuit) if matches!(ended, Ended::Trapped(_)) => {
                tell_of_circuit(context, circuit.trapped(Instant::now()));
            }
            // An instance that ends before it serves anybody would be made again for ever.
            _ if context.metrics.accepted.value() == served => return Err(ErrorCode::Other),
            _ => {}
        }
    }
}
