//! What all instances of a tenant share, as their imports see it.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
};

use conet_rt::Group;

use super::{
    admission::Addresses, commons::Commons, connection::Parcel, given::Given, lines::Lines,
    listeners::SharedListeners, listening::Listening, resolve::Resolver, throttle::Bandwidths,
};
use crate::{
    access_log::AccessLog,
    alarm::Alarm,
    bindings::net::types::ErrorCode,
    circuit::Circuit,
    config::{
        limits::Limits,
        net::{Cidr, Grants},
        warn::Warn,
    },
    guest_log::GuestLog,
    log_gate::Seldom,
    messages::Messages,
    metrics::Metrics,
    output::Output,
    pool::Pools,
    quota::{Permit, Quota},
    rate::Rate,
    roster::Roster,
    shutdown::Shutdown,
    warnings::Warnings,
};

/// One tenant's grants, limits, quotas, pools and counters. Shared by its instances on all workers.
pub struct Context {
    /// The tenant's name, for logs.
    pub name: String,
    /// What may be listened on and connected to.
    pub grants: Grants,
    /// Who passes connections on, with a header that says whose they are; if there are any, they alone connect.
    pub proxies: Vec<Cidr>,
    /// The limits its quotas were made from.
    pub limits: Limits,
    /// The guest's arguments; the first is its own name.
    pub args: Vec<String>,
    /// The guest's environment.
    pub env: Vec<(String, String)>,
    /// Granted folders, each opened once.
    pub dirs: Vec<Folder>,
    /// Does the guest read the host's standard input?
    pub stdin: bool,
    /// Where the guest's standard output goes.
    pub stdout: GuestOutput,
    /// Where the guest's standard error goes.
    pub stderr: GuestOutput,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What only warns, and what it would have denied.
    pub warnings: Arc<Warnings>,
    /// What stays denied, whatever only warns: addresses of the host itself.
    pub closed: Vec<SocketAddr>,
    /// What it has in common with the tenant's other versions.
    pub commons: Arc<Commons>,
    /// Loops of the host's that accept.
    pub accepting: Arc<Quota>,
    /// Accepted connections.
    pub connections: Arc<Quota>,
    /// Of them, permits of accepts that wait for a connection.
    pub held_for_accepts: AtomicU64,
    /// Those of each address, if they are limited.
    pub addresses: Option<Arc<Addresses>>,
    /// How often one is accepted, if that is limited.
    pub accept_rate: Option<Arc<Rate>>,
    /// Of a handler that may trap, and goes on.
    pub circuit: Option<Arc<Circuit>>,
    /// Tells that something of it has trapped, when somebody wants to know.
    pub alarm: Alarm,
    /// Lets lines about refused connections into the log.
    pub refusals: Seldom,
    /// How much its connections send and receive in a second, if that is limited.
    pub bandwidths: Bandwidths,
    /// What connections' calls come to is of use: peers of a handler have deadlines, or the access log tells of them.
    pub attends: bool,
    /// Told of each connection that ends, if it is wanted.
    pub access_log: Option<AccessLog>,
    /// Opened connections.
    pub outbound: Arc<Quota>,
    /// Coroutines, in shared instances and in their own.
    pub coroutines: Arc<Quota>,
    /// Instances.
    pub instances: Arc<Quota>,
    /// Bytes of memory and tables.
    pub memory: Arc<Quota>,
    /// Of them, those of instances that have one coroutine.
    pub fresh_memory: Arc<Quota>,
    /// Client connections kept open.
    pub pools: Arc<Pools>,
    /// How often a name is looked up, if that is limited.
    pub lookup_rate: Option<Arc<Rate>>,
    /// Names to addresses.
    pub resolver: Arc<Resolver>,
    /// Listeners; each copy's handle on a shared one counts.
    pub listeners: Arc<Quota>,
    /// Where it listens.
    pub listening: Arc<Listening>,
    /// Listening sockets that this process was given.
    pub given: Arc<Given>,
    /// Listening sockets that the copies of a program share, if it runs in several.
    pub shared_listeners: Option<Arc<SharedListeners>>,
    /// Begins when nothing new is to be accepted.
    pub shutdown: Arc<Shutdown>,
    /// The log has told of a blocking call that held up an instance.
    pub freeze_told: AtomicBool,
    /// The drain's deadline has passed: connections that end now are reset.
    pub cut_off: AtomicBool,
    /// Starts coroutines in instances of their own; set once the component is loaded, and only if it can be entered so.
    pub spawner: OnceLock<Box<dyn Spawn>>,
    /// The lines that its component's code is from; set once that is loaded.
    pub lines: OnceLock<Lines>,
    /// Its share of the workers' time, and what it has used of it.
    pub group: Group,
    /// Where its grants and limits stand.
    pub settings: Settings,
    /// Its coroutines, if somebody may want to see them.
    pub roster: Option<Arc<Roster>>,
    /// Told of every address the tenant listens on.
    pub messages: Messages,
}

impl Context {
    /// Warns if more of a quota's units are in use than the limit says, of which one has just been taken.
    pub fn warn_beyond(&self, warn: Warn, quota: &Quota, what: &str) {
        if let Some(used) = quota.beyond() {
            self.warnings.would_deny(warn, format_args!("{used} {what} at once"), used);
        }
    }

    /// Tells that the tenant listens on an address.
    pub fn announce(&self, address: SocketAddr) {
        match self.stdout {
            GuestOutput::Stream(_) => self.messages.say(format_args!("listening on {address}")),
            GuestOutput::Log { .. } => {
                self.messages.say(format_args!("listening on {address} for {}", self.name));
            }
        }
    }
}

/// Where a tenant's grants and limits stand, to say what to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settings {
    /// In the flags of `run`.
    Flags,
    /// In the file of `serve`.
    File,
}

impl Settings {
    /// What to write for a grant of this kind.
    pub fn grant(self, kind: &str, grant: &str) -> String {
        match self {
            Settings::Flags => format!("--{kind} {grant}"),
            Settings::File => format!("{kind} = [{grant:?}]"),
        }
    }
}

/// Where one of a guest's standard streams goes.
pub enum GuestOutput {
    /// To the host's own, byte by byte.
    Stream(Arc<Output>),
    /// Into the log, line by line.
    Log {
        /// The tenant's.
        log: Arc<GuestLog>,
        /// `stdout` or `stderr`.
        stream: &'static str,
    },
}

/// A granted folder.
pub struct Folder {
    /// The open folder.
    pub dir: cap_std::fs::Dir,
    /// Where the guest sees it.
    pub guest_path: String,
    /// May the guest change it?
    pub writable: bool,
}

/// Starts coroutines in fresh instances of the tenant's component.
pub trait Spawn: Send + Sync {
    /// Places one; gives its id.
    fn spawn(&self, request: SpawnRequest) -> Result<u64, ErrorCode>;
}

/// What `coroutine.spawn` asks for.
pub struct SpawnRequest {
    /// Passed to the guest's `start` as it is.
    pub entry: u32,
    /// The connections that move, off their worker.
    pub connections: Vec<Parcel>,
    /// Passed to the guest's `start` as they are.
    pub bytes: Vec<u8>,
    /// What the bytes take of the tenant's memory while the host holds them.
    pub memory: Permit,
}

#[cfg(test)]
use crate::config::warn::WarnSet;

#[cfg(test)]
impl Context {
    /// One that may listen on loopback, and whose output goes nowhere.
    pub(crate) fn test(limits: Limits) -> Arc<Context> {
        let output = || Output::start("test", std::io::sink()).expect("a thread starts");
        let sink = || GuestOutput::Stream(output());
        let commons = Commons::new();
        let memory = Quota::new(limits.tenant_memory_bytes_max as u64);
        Arc::new(Context {
            name: "test".to_owned(),
            grants: Grants::loopback(),
            proxies: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            dirs: Vec::new(),
            stdin: false,
            stdout: sink(),
            stderr: sink(),
            metrics: Arc::default(),
            warnings: Arc::new(Warnings::new("test", WarnSet::default())),
            closed: Vec::new(),
            accepting: Quota::new(u64::MAX),
            connections: Quota::new(limits.connections_max as u64),
            held_for_accepts: AtomicU64::default(),
            addresses: None,
            accept_rate: None,
            circuit: None,
            alarm: Alarm::default(),
            refusals: Seldom::default(),
            bandwidths: Bandwidths::new(&limits.bandwidth, &commons),
            commons,
            attends: false,
            access_log: None,
            outbound: Quota::new(limits.outbound_max as u64),
            listeners: Quota::new(limits.listeners_max as u64),
            coroutines: Quota::new(limits.coroutines_max as u64),
            instances: Quota::new(limits.coroutines_max as u64),
            fresh_memory: Quota::within(&memory, u64::MAX),
            memory,
            pools: Arc::new(Pools::new(&limits, false)),
            lookup_rate: None,
            resolver: Arc::new(Resolver::new()),
            listening: Arc::default(),
            given: Arc::default(),
            shared_listeners: None,
            shutdown: Arc::new(Shutdown::default()),
            freeze_told: AtomicBool::new(false),
            cut_off: AtomicBool::new(false),
            spawner: OnceLock::new(),
            lines: OnceLock::new(),
            group: Group::new(Group::DEFAULT_WEIGHT),
            settings: Settings::Flags,
            roster: None,
            messages: Messages::start(std::io::sink()).expect("a thread starts"),
            limits,
        })
    }
}
