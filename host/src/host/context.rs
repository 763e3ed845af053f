//! What the instances of the tenant are to share, made of its configuration.

use std::sync::{Arc, OnceLock, atomic::AtomicBool};

use super::room::Room;
use crate::{
    config::{limits::Limits, tenant::TenantConfig},
    exit::StartError,
    imports::{Context, context::Folder, resolve::Resolver},
    messages::Messages,
    output::Output,
    pool::Pools,
    quota::Quota,
    shutdown::Shutdown,
    tenancy::role::Role,
};

/// Opens what is granted and starts the threads that write the guests' output.
pub(super) fn context(
    config: TenantConfig,
    role: Role,
    room: &Room,
    messages: &Messages,
) -> Result<Context, StartError> {
    let limits = Limits { tenant_memory_bytes_max: room.memory_bytes, ..config.limits };
    let mut dirs = Vec::new();
    for grant in config.dirs {
        let dir = cap_std::fs::Dir::open_ambient_dir(&grant.host, cap_std::ambient_authority())
            .map_err(|error| StartError::Folder { path: grant.host, error })?;
        dirs.push(Folder { dir, guest_path: grant.guest, writable: !grant.read_only });
    }
    Ok(Context {
        name: config.name,
        grants: config.grants,
        args: config.args,
        env: config.env.into_iter().map(|variable| (variable.name, variable.value)).collect(),
        dirs,
        stdin: !role.is_handler(),
        stdout: Output::start("stdout", std::io::stdout())?,
        stderr: Output::start("stderr", std::io::stderr())?,
        metrics: Arc::default(),
        connections: Quota::new(limits.connections_max as u64),
        outbound: Quota::new(limits.outbound_max as u64),
        coroutines: Quota::new(limits.coroutines_max as u64),
        instances: Quota::new(room.instances as u64),
        memory: Quota::new(limits.tenant_memory_bytes_max as u64),
        pools: Pools::new(&limits),
        resolver: Arc::new(Resolver::new()),
        listeners: Quota::new((limits.listeners_max * room.copies.max(1)) as u64),
        shared_listeners: (room.copies > 1).then(Arc::default),
        shutdown: Arc::new(Shutdown::default()),
        spawner: OnceLock::new(),
        messages: messages.clone(),
        freeze_told: AtomicBool::new(false),
        cut_off: AtomicBool::new(false),
        limits,
    })
}
