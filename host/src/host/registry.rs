//! What the admin is told of the host: written by the main thread, read by the admin's.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{SendError, Sender},
    },
    time::{Duration, Instant},
};

use conet_rt::{Group, Handle, net::ListenOptions};

use super::{
    handover::{Handed, Key, Predecessor},
    occurrence::Occurrence,
};
use crate::{
    admin::{
        Admin, AdminSocket, Export, HostStatus, Meter, Observation, Observed, Order, Phase, Process, State,
        TenantRoster, TenantStatus, WorkerLoad,
    },
    config::file::{At, Endpoint, HostSection, OtlpSection},
    exit::StartError,
    imports::{Context, given::Given},
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
    workers: Vec<Handle>,
    tenants: Vec<Registered>,
    /// No commands are taken any more.
    closed: bool,
}

/// Where the admin is asked.
pub(super) struct Doors {
    socket: Option<Entrance>,
    address: Option<Door>,
    probes: Option<Door>,
    /// Both, as they are bound.
    addresses: Vec<SocketAddr>,
    /// Where metrics are sent.
    export: Option<Export>,
}

/// The Unix socket.
enum Entrance {
    /// Nobody has it else.
    Ours(AdminSocket),
    /// The host before this one has it until it leaves.
    Theirs(PathBuf),
    /// The admin has it, at this path.
    Served(PathBuf),
}

/// A TCP address.
struct Door {
    /// As the file has it.
    address: SocketAddr,
    listener: TcpListener,
}

impl Doors {
    /// Opens those that the file asks for, or takes them of what was given or handed on; the socket is this user's, if the host goes on
    /// as another one.
    pub(super) fn open(
        section: &HostSection,
        owner: Option<&Owner>,
        given: &Given,
        predecessor: Option<&Predecessor>,
        handed: &mut Handed,
    ) -> Result<Self, StartError> {
        let entrance = |path: &PathBuf| match predecessor {
            Some(predecessor) if predecessor.has_admin_at(path) => Ok(Entrance::Theirs(path.clone())),
            _ => admin_socket(path, owner).map(Entrance::Ours),
        };
        let mut door = |at: &Option<At<SocketAddr>>, key: fn(SocketAddr) -> Key| {
            let Some(at) = at else { return Ok(None) };
            let address = at.value;
            let bind = || given.take(address, &ListenOptions::default());
            let listener = handed.take(&key(address)).map_or_else(bind, Ok);
            let listener = listener.map_err(|error| StartError::Bind { address, error })?;
            Ok::<_, StartError>(Some(Door { address, listener }))
        };
        let socket = section.admin.as_ref().map(|at| entrance(&at.value)).transpose()?;
        let (address, probes) =
            (door(&section.admin_address, Key::Admin)?, door(&section.probe_address, Key::Probes)?);
        let both = address.iter().chain(&probes);
        let addresses = both.map(|door| door.listener.local_addr()).collect::<Result<_, _>>()?;
        let export = section.otlp.as_ref().and_then(|at| export(&at.value));
        Ok(Self { socket, address, probes, addresses, export })
    }

    /// Whether anybody will be told anything.
    pub(super) fn are_any(&self) -> bool {
        self.socket.is_some() || self.address.is_some() || self.probes.is_some() || self.export.is_some()
    }

    /// Where it can be reached over TCP, for probes, too.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where its Unix socket is.
    pub(super) fn path(&self) -> Option<&Path> {
        self.socket.as_ref().map(|socket| match socket {
            Entrance::Ours(socket) => socket.path(),
            Entrance::Theirs(path) | Entrance::Served(path) => path,
        })
    }

    /// Duplicates of the addresses' sockets, to be handed on.
    pub(super) fn duplicates(&self) -> io::Result<Vec<(Key, OwnedFd)>> {
        let address = self.address.iter().map(|door| (Key::Admin(door.address), &door.listener));
        let probes = self.probes.iter().map(|door| (Key::Probes(door.address), &door.listener));
        address.chain(probes).map(|(key, listener)| Ok((key, listener.try_clone()?.into()))).collect()
    }

    /// The Unix socket, once.
    fn take_socket(&mut self) -> Result<Option<AdminSocket>, StartError> {
        let Some(path) = self.path().map(Path::to_owned) else { return Ok(None) };
        match self.socket.replace(Entrance::Served(path.clone())) {
            Some(Entrance::Ours(socket)) => Ok(Some(socket)),
            Some(Entrance::Theirs(_)) => match AdminSocket::take_over(&path) {
                Ok(socket) => Ok(Some(socket)),
                Err(error) => Err(StartError::Admin { path, error }),
            },
            Some(Entrance::Served(_)) | None => Ok(None),
        }
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
    /// Times a new version has given way to the one before.
    pub(super) rollbacks: u64,
    /// Why the last one did, if it is held back.
    pub(super) rolled_back: Option<String>,
}

impl Registry {
    /// Of a host that starts; commands become `events`.
    pub(super) fn new(events: Sender<Occurrence>, counters: Arc<HostCounters>) -> Self {
        let (phase, workers, tenants) = (Phase::Starting, Vec::new(), Vec::new());
        let now = Mutex::new(Now { phase, workers, tenants, closed: false });
        Self { began: Instant::now(), events, counters, exports: Default::default(), now }
    }

    /// How far the host is now.
    pub(super) fn set_phase(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    /// All tenants, as they are now on these workers.
    pub(super) fn set_tenants(&self, workers: &[Handle], tenants: impl Iterator<Item = Registered>) {
        let (workers, tenants) = (workers.to_vec(), tenants.collect());
        let mut now = self.lock();
        (now.workers, now.tenants) = (workers, tenants);
    }

    /// Starts the admin, if the file asks for one.
    pub(super) fn serve(
        self: &Arc<Self>,
        doors: &mut Doors,
        messages: &Messages,
    ) -> Result<Option<Admin>, StartError> {
        if !doors.are_any() {
            return Ok(None);
        }
        let socket = doors.take_socket()?;
        let listener = |door: &Option<Door>| door.as_ref().map(|door| door.listener.try_clone()).transpose();
        let [address, probes] = [listener(&doors.address)?, listener(&doors.probes)?];
        let [at, probes_at] = [&address, &probes].map(|door| door.as_ref().map(TcpListener::local_addr));
        let path = socket.as_ref().map(|socket| socket.path().to_owned());
        let admin = Admin::start(socket, [address, probes], doors.export.take(), self.clone())?;
        if let Some(path) = path {
            messages.say(format_args!("admin at {}", path.display()));
        }
        if let Some(address) = at.transpose()? {
            messages.say(format_args!("admin at http://{address}/"));
        }
        if let Some(address) = probes_at.transpose()? {
            messages.say(format_args!("probes at http://{address}/"));
        }
        Ok(Some(admin))
    }

    /// Takes no commands any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(worker: &Handle) -> WorkerLoad {
    WorkerLoad { in_flight: worker.in_flight(), stalls: worker.stalls().into() }
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
            (now.phase, now.workers.clone())
        };
        HostStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase,
            uptime_seconds: self.began.elapsed().as_secs_f64(),
            workers: workers.len(),
            loads: workers.iter().map(load).collect(),
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
        if self.lock().closed {
            return;
        }
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
        let Self { context, role, state, older, rollbacks, rolled_back } = self;
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
            closed: context.metrics.closed().map(|(ending, count)| (ending.to_string(), count)).collect(),
            would_deny: context.warnings.counts().map(|(key, count)| (key.to_owned(), count)).collect(),
            rollbacks: *rollbacks,
            rolled_back: rolled_back.clone(),
        };
        Observation { status, calls: context.metrics.call_histograms() }
    }
}

/// As other exporters have it, or oftener: it costs little.
const EXPORT_INTERVAL: Duration = Duration::from_secs(10);
