//! What the machine and the configuration leave room for.

use super::shares::Shares;
use crate::{
    config::{
        limits::Limits,
        machine::{Machine, Needs},
        tenant::{Instances, TenantConfig},
    },
    exit::StartError,
    sandbox::engine::Shape,
    tenancy::role::Role,
};

/// What a component may be made of that is run in this role.
pub(super) fn shape(limits: &Limits, role: Role) -> Shape {
    let memory = match role {
        Role::IsolatedHandler => limits.fresh_memory_bytes_max,
        _ => limits.fresh_memory_bytes_max.max(limits.shared_memory_bytes_max),
    };
    Shape::new(limits, memory)
}

/// How much of everything the configuration comes to on this machine.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Instances at once.
    pub(super) instances: usize,
    /// Copies of a program; none of a handler.
    pub(super) copies: usize,
    /// Memories and tables of all instances together.
    pub(super) memory_bytes: usize,
}

impl Room {
    /// An error if the machine cannot hold what `config` allows, or `config` what it asks for itself.
    pub(super) fn measure(
        machine: &Machine,
        config: &TenantConfig,
        role: Role,
        workers: usize,
    ) -> Result<Self, StartError> {
        let limits = &config.limits;
        let copies = copies(config.instances, role, workers);
        if copies > limits.coroutines_max {
            return Err(StartError::Options(format!(
                "--instances per-worker runs {copies} copies, each with a coroutine of its own, and --coroutines-max \
                 allows {}: raise that, or lower --workers",
                limits.coroutines_max
            )));
        }
        let coroutines = limits.coroutines_max as u64;
        let (instances, fibers) = match role {
            // As many as there are coroutines: each connection has one, and its stack is the pool's.
            Role::IsolatedHandler => (coroutines, 0),
            Role::SharedHandler | Role::SharedProgram | Role::PlainProgram | Role::Command => {
                // Its own, and spawned ones as far as they fit beside all the stacks.
                let fit = machine.spawned_instances_max(coroutines);
                (fit.min(coroutines).max(workers as u64 + 1), coroutines)
            }
        };
        let connections = limits.connections_max as u64 + limits.outbound_max as u64;
        // A handler has one for each worker, a program what it binds; a copy's share of a socket is a descriptor too.
        let listeners = (workers + limits.listeners_max * copies) as u64 + 1;
        machine.check(&Needs { instances, fibers, connections, listeners })?;
        Ok(Self { instances: instances as usize, copies, memory_bytes: memory_bytes(machine, limits) })
    }

    /// A tenant's part of `shares`.
    pub(super) fn within(
        shares: &Shares,
        config: &TenantConfig,
        role: Role,
        workers: usize,
    ) -> Result<Self, String> {
        let limits = &config.limits;
        let copies = copies(config.instances, role, workers);
        if copies > limits.coroutines_max {
            return Err(format!(
                "{copies} copies have a coroutine each, and limits.coroutines allows {}",
                limits.coroutines_max
            ));
        }
        let lasting = if role == Role::SharedHandler { workers } else { copies };
        let instances = (config.roomy().coroutines_max + lasting).min(shares.instances_max);
        Ok(Self { instances, copies, memory_bytes: limits.tenant_memory_bytes_max })
    }
}

pub(super) fn copies(instances: Instances, role: Role, workers: usize) -> usize {
    match instances {
        _ if role.is_handler() => 0,
        Instances::One => 1,
        Instances::PerWorker => workers,
    }
}

/// A tenant alone on its host: the machine's memory bounds the sum.
fn memory_bytes(machine: &Machine, limits: &Limits) -> usize {
    usize::try_from(machine.memory_bytes_max).unwrap_or(usize::MAX).max(limits.shared_memory_bytes_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    const WORKERS: usize = 2;

    fn stock() -> Machine {
        Machine {
            mappings_max: 65_530,
            descriptors_max: 20_000,
            mappings_per_stack: 2,
            memory_bytes_max: 8 << 30,
        }
    }

    fn room(
        machine: &Machine,
        role: Role,
        change: impl FnOnce(&mut TenantConfig),
    ) -> Result<Room, StartError> {
        let mut config = TenantConfig::new("t");
        config.limits.coroutines_max = 8_000;
        config.limits.connections_max = 8_000;
        change(&mut config);
        Room::measure(machine, &config, role, WORKERS)
    }

    #[test]
    fn an_isolated_handler_has_an_instance_for_each_coroutine() {
        let room = room(&stock(), Role::IsolatedHandler, |_| {}).expect("it fits");
        assert_eq!(room, Room { instances: 8_000, copies: 0, memory_bytes: 8 << 30 });
    }

    #[test]
    fn a_program_spawns_what_its_coroutines_leave_room_for() {
        let many = |config: &mut TenantConfig| config.limits.coroutines_max = 20_000;
        let room = room(&stock(), Role::SharedProgram, many).expect("it fits");
        assert_eq!((room.instances as u64, room.copies), (stock().spawned_instances_max(20_000), 1));
    }

    #[test]
    fn even_one_coroutine_leaves_each_worker_its_instance() {
        let one = |config: &mut TenantConfig| config.limits.coroutines_max = 1;
        assert_eq!(room(&stock(), Role::SharedHandler, one).expect("it fits").instances, WORKERS + 1);
    }

    #[test]
    fn copies_are_coroutines_and_share_what_descriptors_there_are() {
        let copied = |config: &mut TenantConfig| config.instances = Instances::PerWorker;
        assert_eq!(room(&stock(), Role::SharedProgram, copied).expect("it fits").copies, WORKERS);
        let few = |config: &mut TenantConfig| {
            copied(config);
            config.limits.coroutines_max = WORKERS - 1;
        };
        let error = room(&stock(), Role::SharedProgram, few).expect_err("one for each copy");
        assert_eq!(error.exit(), Exit::Usage);
        // Room for the listeners of one copy.
        let one_copy = Needs { connections: 8_064, listeners: 2 + 64 + 1, ..Needs::default() }.descriptors();
        let tight = Machine { descriptors_max: one_copy, ..stock() };
        assert!(room(&tight, Role::SharedProgram, |_| {}).is_ok());
        let error = room(&tight, Role::SharedProgram, copied).expect_err("a share of each socket is one");
        assert_eq!(error.exit(), Exit::Machine);
    }

    #[test]
    fn memory_is_what_the_machine_has_and_one_instance_at_least() {
        let small = Machine { memory_bytes_max: 1, ..stock() };
        let room = room(&small, Role::PlainProgram, |_| {}).expect("it fits");
        assert_eq!(room.memory_bytes, TenantConfig::new("t").limits.shared_memory_bytes_max);
    }
}
