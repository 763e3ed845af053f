//! What the tenants of a host have together: what the machine has, of which each one's limits are a part.

use std::sync::Arc;

use super::room::copies;
use crate::{
    config::{
        machine::{Machine, MachineError, Needs},
        tenant::TenantConfig,
    },
    quota::Quota,
    tenancy::role::Role,
};

/// What all tenants of a host have together. Their limits may come to more: then they share what there is.
pub(super) struct Shares {
    /// Accepted and opened connections, and listeners.
    pub(super) sockets: Arc<Quota>,
    pub(super) instances: Arc<Quota>,
    pub(super) coroutines: Arc<Quota>,
    /// Bytes of memories and tables, of those tenants that may take more than they have.
    pub(super) memory: Arc<Quota>,
    /// What the tenants it was made for want, which is more where the machine has less.
    wanted: Wanted,
    /// Units of `instances`.
    pub(super) instances_max: usize,
    /// Units of `coroutines`.
    pub(super) coroutines_max: usize,
}

/// What a tenant's limits come to.
#[derive(Debug, Default, Clone, Copy)]
struct Wanted {
    sockets: u64,
    instances: u64,
    /// Coroutines whose stacks are our own.
    fibers: u64,
    coroutines: u64,
    /// Descriptors of the host's own listening sockets.
    listeners: u64,
    /// Instances without which it cannot run at all.
    instances_min: u64,
}

impl Wanted {
    fn new(config: &TenantConfig, role: Role, addresses: usize, workers: usize) -> Self {
        let limits = &config.roomy();
        let copies = copies(config.instances, role, workers);
        let coroutines = limits.coroutines_max as u64;
        let lasting = match role {
            Role::IsolatedHandler => 0,
            Role::SharedHandler => workers as u64,
            _ => copies as u64,
        };
        let listeners = if role.is_handler() { 0 } else { limits.listeners_max * copies };
        Self {
            sockets: (limits.connections_max + limits.outbound_max + listeners) as u64,
            instances: coroutines + lasting,
            fibers: if role == Role::IsolatedHandler { 0 } else { coroutines },
            coroutines,
            listeners: (addresses * (workers + 1)) as u64,
            instances_min: lasting + 1,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            sockets: self.sockets + other.sockets,
            instances: self.instances + other.instances,
            fibers: self.fibers + other.fibers,
            coroutines: self.coroutines + other.coroutines,
            listeners: self.listeners + other.listeners,
            instances_min: self.instances_min + other.instances_min,
        }
    }
}

impl Shares {
    /// What the machine has for these tenants: each with its role, and on how many addresses the host listens for it.
    pub(super) fn measure<'a>(
        machine: &Machine,
        tenants: impl Iterator<Item = (&'a TenantConfig, Role, usize)>,
        workers: usize,
    ) -> Result<Self, MachineError> {
        let wanted = tenants
            .map(|(config, role, addresses)| Wanted::new(config, role, addresses, workers))
            .fold(Wanted::default(), Wanted::and);
        let fibers = wanted.fibers.min(FIBERS_MAX);
        let coroutines = wanted.coroutines.min(FIBERS_MAX);
        // The least that must fit: one instance of each at a time, and a connection for it.
        machine.check(&Needs {
            instances: wanted.instances_min,
            fibers,
            connections: wanted.instances_min,
            listeners: wanted.listeners,
        })?;
        let fit = machine.spawned_instances_max(fibers);
        let sockets = machine.connections_max(wanted.listeners);
        if wanted.instances > fit || wanted.sockets > sockets {
            tracing::info!(
                "the tenants' limits come to {} sockets and {} instances; this machine has room for {sockets} and {fit} \
                 (`ulimit -n`, `vm.max_map_count`), which they share",
                wanted.sockets,
                wanted.instances
            );
        }
        let (sockets, instances) = (wanted.sockets.min(sockets), wanted.instances.min(fit));
        Ok(Self {
            sockets: Quota::new(sockets),
            instances: Quota::new(instances),
            coroutines: Quota::new(coroutines),
            memory: Quota::new(machine.memory_bytes_max),
            wanted,
            instances_max: instances as usize,
            coroutines_max: coroutines as usize,
        })
    }

    /// Whether there is as much of all as the other has.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let (ours, others) = (&self.wanted, &other.wanted);
        ours.sockets >= others.sockets
            && ours.instances >= others.instances
            && ours.coroutines >= others.coroutines
            && ours.fibers >= others.fibers
    }
}

/// Coroutines of all tenants whose stacks are reserved, in addresses: with the largest stacks of all there is room.
const FIBERS_MAX: u64 = 100_000;
