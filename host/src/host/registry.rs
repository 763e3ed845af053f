//! What the admin is told of the host: written by the main thread, read by the admin's.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{SendError, Sender},
    },
    time::{Duration, Instant},
};

use conet_rt::Group;

use super::{bind, occurrence::Occurrence};
use crate::{
    admin::{
        Admin, AdminSocket, Export, HostStatus, Meter, Observation, Observed, Order, Phase, Process, State,
        TenantRoster, TenantStatus,
    },
    config::file::{At, Endpoint, HostSection, OtlpSection},
    exit::StartError,
    imports::Context,
    messages::Messages,
    metrics::HostCounters,
    tenancy::role::Role,
    wall::Owner,
};

/// How the host is, and its tenants.
pub(super) struct Registry {
    began: Instant,
    events: Sender<Occurrence>,
    counters: Arc<HostCounters>,
    /// Times the metrics were sent to a collector: it took them, or did not.
    exports: [AtomicU64; 2],
    now: Mutex<Now>,
}

struct Now {
    phase: Phase,
    workers: usize,
    tenants: Vec<Registered>,
}

/// Where the admin will be asked.
pub(super) struct Doors {
    socket: Option<AdminSocket>,
    address: Option<TcpListener>,
    probes: Option<TcpListener>,
    /// Where metrics are sent.
    export: Option<Export>,
}

impl Doors {
    /// Opens those that the file asks for; the socket is this user's, if the host goes on as another one.
    pub(super) fn open(section: &HostSection, owner: Option<&Owner>) -> Result<Self, StartError> {
        let socket = section.admin.as_ref().map(|at| admin_socket(&at.value, owner)).transpose()?;
        let listener = |at: &Option<At<SocketAddr>>| at.as_ref().map(|at| bind(at.value, None)).transpose();
        let (address, probes) = (listener(&section.admin_address)?, listener(&section.probe_address)?);
        let export = section.otlp.as_ref().and_then(|at| export(&at.value));
        Ok(Self { socket, address, probes, export })
    }
}

/// A tenant in it.
#[derive(Clone)]
pub(super) struct Registered {
    pub(super) context: Arc<Context>,
    pub(super) role: Role,
    pub(super) state: State,
    /// Of versions that end, from before the file was read again.
    pub(super) older: Vec<Arc<Context>>,
}

impl Registry {
    /// Of a host that starts; commands become `events`.
    pub(super) fn new(events: Sender<Occurrence>, counters: Arc<HostCounters>) -> Self {
        let now = Mutex::new(Now { phase: Phase::Starting, workers: 0, tenants: Vec::new() });
        Self { began: Instant::now(), events, counters, exports: Default::default(), now }
    }

    /// How far the host is now.
    pub(super) fn set_phase(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// All tenants, as they are now on so many workers.
    pub(super) fn set_tenants(&self, workers: usize, tenants: impl Iterator<Item = Registered>) {
        let tenants = tenants.collect();
        let mut now = self.lock();
        (now.workers, now.tenants) = (workers, tenants);
    }

    /// Starts the admin, if the file asks for one.
    pub(super) fn serve(
        self: &Arc<Self>,
        doors: Doors,
        messages: &Messages,
    ) -> Result<Option<Admin>, StartError> {
        let Doors { socket, address: listener, probes, export } = doors;
        if socket.is_none() && listener.is_none() && probes.is_none() && export.is_none() {
            return Ok(None);
        }
        let path = socket.as_ref().map(|socket| socket.path().to_owned());
        let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let probe_address = probes.as_ref().map(TcpListener::local_addr).transpose()?;
        let admin = Admin::start(socket, [listener, probes], export, self.clone())?;
        if let Some(path) = path {
            messages.say(format_args!("admin at {}", path.display()));
        }
        if let Some(address) = address {
            messages.say(format_args!("admin at http://{address}/"));
        }
        if let Some(address) = probe_address {
            messages.say(format_args!("probes at http://{address}/"));
        }
        Ok(Some(admin))
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owned(counters: Vec<(&'static str, u64)>) -> BTreeMap<String, u64> {
    counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

fn admin_socket(path: &Path, owner: Option<&Owner>) -> Result<AdminSocket, StartError> {
    let socket = AdminSocket::bind(path).and_then(|socket| match owner {
        Some(owner) => socket.hand_to(owner.ids()).map(|()| socket),
        None => Ok(socket),
    });
    socket.map_err(|error| StartError::Admin { path: path.to_owned(), error })
}

/// As the file has it. None without an endpoint, with which it would have been refused.
fn export(section: &OtlpSection) -> Option<Export> {
    let Endpoint { authority, path } = section.endpoint.as_ref()?.value.clone();
    let own = [
        ("service.name", "conet".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", instance_id()),
        ("host.name", rustix::system::uname().nodename().to_string_lossy().into_owned()),
        ("process.pid", std::process::id().to_string()),
    ];
    let mut resource: BTreeMap<String, String> =
        own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    resource.extend(section.resource.iter().flat_map(|at| at.value.clone()));
    Some(Export {
        authority,
        path,
        interval: section.interval.as_ref().map_or(EXPORT_INTERVAL, |at| at.value),
        headers: section.headers.as_ref().map(|at| at.value.0.clone()).unwrap_or_default(),
        resource: resource.into_iter().collect(),
    })
}

/// A random UUID, as it is recommended.
fn instance_id() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    let id = u128::from_be_bytes(bytes);
    let id = id & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{id:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

impl Observed for Registry {
    fn host(&self) -> HostStatus {
        let (phase, workers) = {
            let now = self.lock();
            (now.phase, now.workers)
        };
        HostStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase,
            uptime_seconds: self.began.elapsed().as_secs_f64(),
            workers,
            counters: owned(self.counters.snapshot()),
            exports: self.exports[usize::from(true)].load(Ordering::Relaxed),
            export_failures: self.exports[usize::from(false)].load(Ordering::Relaxed),
            process: Process::read(),
        }
    }

    fn tenants(&self) -> Vec<Observation> {
        // The lock is not held while counters are summed.
        let tenants = self.lock().tenants.clone();
        tenants.iter().map(Registered::observe).collect()
    }

    fn rosters(&self) -> Vec<TenantRoster> {
        let tenants = self.lock().tenants.clone();
        let contexts = tenants.into_iter().flat_map(Registered::into_contexts);
        contexts.filter_map(|context| roster(&context)).collect()
    }

    fn exported(&self, taken: bool) {
        self.exports[usize::from(taken)].fetch_add(1, Ordering::Relaxed);
    }

    fn order(&self, order: Order) {
        // The main thread has gone: without an answer, that is told.
        let (Ok(()) | Err(SendError(_))) = self.events.send(Occurrence::Ordered(order));
    }
}

fn roster(context: &Context) -> Option<TenantRoster> {
    let roster = context.roster.clone()?;
    Some(TenantRoster { tenant: context.name.clone(), draining: context.shutdown.begun(), roster })
}

impl Registered {
    /// It, and those before it.
    pub(super) fn into_contexts(mut self) -> Vec<Arc<Context>> {
        self.older.push(self.context);
        self.older
    }

    fn observe(&self) -> Observation {
        let Self { context, role, state, older } = self;
        let counters = context.metrics.snapshot();
        let mut connections = Meter::from(&*context.connections);
        // An accept takes its permit first: with nobody connected, each worker may hold one.
        connections.used = connections.used.saturating_sub(context.held_for_accepts.load(Ordering::Relaxed));
        let open = context.circuit.as_ref().is_some_and(|circuit| circuit.is_open());
        let status = TenantStatus {
            name: context.name.clone(),
            state: if *state == State::Running && open { State::CircuitOpen } else { *state },
            role: role.name().to_owned(),
            listeners: context.listening.addresses(),
            weight: context.group.weight().get() / Group::DEFAULT_WEIGHT,
            older_coroutines: older.iter().map(|context| context.coroutines.used()).sum(),
            cpu_seconds: context.group.cpu_time().as_secs_f64(),
            connections,
            outbound: (&*context.outbound).into(),
            coroutines: (&*context.coroutines).into(),
            instances: (&*context.instances).into(),
            memory_bytes: (&*context.memory).into(),
            pools: context.pools.stats().into(),
            counters: owned(counters),
            would_deny: context.warnings.counts().map(|(key, count)| (key.to_owned(), count)).collect(),
        };
        Observation { status, calls: context.metrics.call_histograms() }
    }
}

/// As other exporters have it, or oftener: it costs little.
const EXPORT_INTERVAL: Duration = Duration::from_secs(10);
