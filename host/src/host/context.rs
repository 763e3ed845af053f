//! What the instances of a tenant are to share, made of its configuration.

use std::{
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
};

use conet_rt::Group;

use super::{room::Room, shares::Shares};
use crate::{
    access_log::{AccessLog, Target},
    alarm::Alarm,
    circuit::Circuit,
    config::{
        limits::{Limits, PeerLimits},
        tenant::TenantConfig,
        warn::Warn,
    },
    exit::StartError,
    imports::{
        Context,
        admission::Addresses,
        commons::Commons,
        context::{Folder, GuestOutput, Settings},
        given::Given,
        resolve::Resolver,
        throttle::Bandwidths,
    },
    log_gate::Seldom,
    messages::Messages,
    metrics::Metrics,
    pool::Pools,
    quota::{Bounds, Quota},
    roster::Roster,
    shutdown::Shutdown,
    warnings::Warnings,
};

/// A guest's standard streams.
pub(super) struct Streams {
    /// It reads the host's standard input.
    pub(super) stdin: bool,
    pub(super) stdout: GuestOutput,
    pub(super) stderr: GuestOutput,
}

/// What a tenant is given besides what its configuration says.
pub(super) struct Around<'a> {
    pub(super) streams: Streams,
    pub(super) metrics: Arc<Metrics>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) messages: &'a Messages,
    pub(super) group: Group,
    /// Where the access log goes, if there is one.
    pub(super) access_log: Option<&'a Arc<Target>>,
    /// A part of what the host has for all its tenants, if there are several.
    pub(super) shares: Option<&'a Shares>,
    /// Its coroutines are to be seen in it.
    pub(super) roster: Option<Arc<Roster>>,
    pub(super) warnings: Arc<Warnings>,
    /// Told that something of it has trapped.
    pub(super) alarm: Alarm,
    /// Of all its versions.
    pub(super) commons: Arc<Commons>,
    /// Where the host itself listens.
    pub(super) closed: Vec<SocketAddr>,
    /// Listened on in place of new sockets.
    pub(super) given: Arc<Given>,
}

/// Opens what is granted.
pub(super) fn context(config: TenantConfig, room: &Room, around: Around<'_>) -> Result<Context, StartError> {
    let Around {
        streams,
        metrics,
        resolver,
        messages,
        group,
        access_log,
        shares,
        roster,
        warnings,
        alarm,
        commons,
        closed,
        given,
    } = around;
    let access_log = access_log
        .map(|target| AccessLog::new(target.clone(), commons.access_lines.clone(), metrics.clone()));
    let limits = Limits { tenant_memory_bytes_max: room.memory_bytes, ..config.limits };
    let mut dirs = Vec::new();
    for grant in config.dirs {
        let dir = cap_std::fs::Dir::open_ambient_dir(&grant.host, cap_std::ambient_authority())
            .map_err(|error| StartError::Folder { path: grant.host, error })?;
        dirs.push(Folder { dir, guest_path: grant.guest, writable: !grant.read_only });
    }
    let sockets = shares.map(|shares| &shares.sockets);
    let passes = |warn: Warn| shares.is_some() && warnings.lets_pass(warn);
    let part = |within: Option<&Arc<Quota>>, max: usize, warn: Warn, common: Option<&Arc<Quota>>| {
        let (common, within) = (common.cloned(), within.cloned());
        Quota::of(max as u64, Bounds { lenient: passes(warn), common, within })
    };
    let lenient_memory = shares.filter(|_| passes(Warn::TenantMemory));
    let memory = part(
        lenient_memory.map(|shares| &shares.memory),
        limits.tenant_memory_bytes_max,
        Warn::TenantMemory,
        None,
    );
    let pools = Arc::new(Pools::new(&limits, warnings.lets_pass(Warn::Pools)));
    commons.add_pools(&pools);
    let context = Context {
        name: config.name,
        grants: config.grants,
        proxies: config.proxies,
        args: config.args,
        env: config.env.into_iter().map(|variable| (variable.name, variable.value)).collect(),
        dirs,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        metrics,
        accepting: Quota::new(u64::MAX),
        connections: part(sockets, limits.connections_max, Warn::Connections, Some(&commons.connections)),
        held_for_accepts: AtomicU64::default(),
        addresses: limits
            .connections_per_ip_max
            .map(|max| Addresses::new(max, warnings.lets_pass(Warn::ConnectionsPerIp), &commons.addresses)),
        accept_rate: limits.accepts_per_second_max.map(|_| commons.accepts.clone()),
        // Of the host's accept loops, which a program has none of.
        circuit: limits.circuit.as_ref().filter(|_| room.copies == 0).map(Circuit::new),
        alarm,
        refusals: Seldom::default(),
        bandwidths: Bandwidths::new(&limits.bandwidth, &commons),
        attends: limits.peer != PeerLimits::default() || access_log.is_some(),
        access_log,
        outbound: part(sockets, limits.outbound_max, Warn::Outbound, Some(&commons.outbound)),
        coroutines: part(
            shares.map(|shares| &shares.coroutines),
            limits.coroutines_max,
            Warn::Coroutines,
            Some(&commons.coroutines),
        ),
        instances: Quota::of(
            room.instances as u64,
            Bounds { within: shares.map(|shares| shares.instances.clone()), ..Bounds::default() },
        ),
        fresh_memory: Quota::of(
            u64::MAX,
            Bounds {
                common: Some(commons.fresh_memory.clone()),
                within: Some(memory.clone()),
                ..Bounds::default()
            },
        ),
        memory,
        pools,
        lookup_rate: limits.lookups_per_second_max.map(|_| commons.lookups.clone()),
        resolver,
        listeners: part(sockets, limits.listeners_max * room.copies.max(1), Warn::Listeners, None),
        listening: Arc::default(),
        given,
        shared_listeners: (room.copies > 1).then(Arc::default),
        shutdown: Arc::new(Shutdown::default()),
        spawner: OnceLock::new(),
        lines: OnceLock::new(),
        group,
        settings: if shares.is_some() { Settings::File } else { Settings::Flags },
        roster,
        messages: messages.clone(),
        freeze_told: AtomicBool::new(false),
        cut_off: AtomicBool::new(false),
        closed,
        warnings,
        commons,
        limits,
    };
    Ok(context)
}
