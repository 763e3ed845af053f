//! What the machine and the configuration leave room for.

use crate::{
    config::{
        machine::{Machine, Needs},
        tenant::{Instances, TenantConfig},
    },
    exit::StartError,
    tenancy::role::Role,
};

/// How much of everything the configuration comes to on this machine.
pub(super) struct Room {
    pub(super) instances: usize,
}

impl Room {
    pub(super) fn measure(config: &mut TenantConfig, role: Role, workers: usize) -> Result<Self, StartError> {
        let machine = Machine::read();
        let copies = copies(config, role, workers);
        let limits = &mut config.limits;
        if copies > limits.coroutines_max {
            return Err(StartError::Options(format!(
                "--instances per-worker runs {copies} copies, each with a coroutine of its own, and --coroutines-max \
                 allows {}: raise that, or lower --workers",
                limits.coroutines_max
            )));
        }
        let fibers = limits.coroutines_max as u64;
        let instances = match role {
            // As many as there are coroutines: each connection has one.
            Role::IsolatedHandler => fibers,
            Role::SharedHandler | Role::SharedProgram | Role::PlainProgram | Role::Command => {
                // Its own, and spawned ones as far as they fit beside all the stacks.
                let fit = machine.spawned_instances_max(fibers);
                fit.min(fibers).max(workers as u64 + 1)
            }
        };
        let connections = limits.connections_max as u64 + limits.outbound_max as u64;
        // A handler has one for each worker, a program what it binds; a copy's share of a socket is a descriptor too.
        let listeners = (workers + limits.listeners_max * copies) as u64 + 1;
        machine.check(&Needs { instances, fibers, connections, listeners })?;
        // A tenant alone on its host: the machine's memory bounds the sum.
        limits.tenant_memory_bytes_max = limits
            .shared_memory_bytes_max
            .max(usize::try_from(machine.memory_bytes_max).unwrap_or(usize::MAX));
        Ok(Self { instances: instances as usize })
    }
}

/// Copies of a program; none of a handler.
pub(super) fn copies(config: &TenantConfig, role: Role, workers: usize) -> usize {
    match config.instances {
        _ if role.is_handler() => 0,
        Instances::One => 1,
        Instances::PerWorker => workers,
    }
}
