//! What this machine can give, checked at start so that a host never finds out by failing under load.

use std::{fs, io};

use conet_rt::Stacks;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

/// What this machine allows one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Memory mappings of a process: `vm.max_map_count`.
    pub mappings_max: u64,
    /// Open descriptors of this process: RLIMIT_NOFILE.
    pub descriptors_max: u64,
    /// Mappings that each of our own stacks takes here: none if the kernel can mark guards.
    pub mappings_per_stack: u64,
    /// Memory that can be used without swapping: the machine's or this control group's, whichever is less.
    pub memory_bytes_max: u64,
}

/// What a configuration can come to need at its limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Instances at once, each with a memory.
    pub instances: u64,
    /// Coroutines at once whose stacks are our own.
    pub fibers: u64,
    /// Connections at once.
    pub connections: u64,
    /// Listening sockets, on all workers together.
    pub listeners: u64,
}

impl Machine {
    /// Reads what is allowed, having raised the soft limit on descriptors to the hard one.
    ///
    /// What this kernel does not tell (a container may hide /proc) is taken as the stock value, or as no limit.
    pub fn read() -> Machine {
        let proc_value = |path| fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        Machine {
            mappings_max: proc_value("/proc/sys/vm/max_map_count").unwrap_or(STOCK_MAPPINGS_MAX),
            descriptors_max: raise_descriptors().unwrap_or(STOCK_DESCRIPTORS_MAX),
            mappings_per_stack: Stacks::mappings_per_stack(),
            memory_bytes_max: available_memory(),
        }
    }

    /// What it allows besides so many mappings that are there already.
    pub fn beside(self, mappings: u64) -> Machine {
        // Some are those of every process.
        let taken = mappings.saturating_sub(MAPPINGS_BASE);
        Machine { mappings_max: self.mappings_max.saturating_sub(taken), ..self }
    }

    /// Whether the machine can meet `needs`. An error names the numbers and the remedy.
    pub fn check(&self, needs: &Needs) -> Result<(), MachineError> {
        let mappings = self.mappings(needs);
        if mappings > self.mappings_max {
            let (Needs { instances, fibers, .. }, each) = (*needs, self.mappings_per_stack);
            return Err(MachineError::Mappings { mappings, instances, fibers, each, max: self.mappings_max });
        }
        let descriptors = needs.descriptors();
        if descriptors > self.descriptors_max {
            let (connections, max) = (needs.connections, self.descriptors_max);
            return Err(MachineError::Descriptors { descriptors, connections, max });
        }
        Ok(())
    }

    fn mappings(&self, needs: &Needs) -> u64 {
        let instances = needs.instances.saturating_mul(MAPPINGS_PER_INSTANCE);
        let fibers = needs.fibers.saturating_mul(self.mappings_per_stack);
        MAPPINGS_BASE.saturating_add(instances).saturating_add(fibers)
    }

    /// How many connections fit beside so many listening sockets.
    pub fn connections_max(&self, listeners: u64) -> u64 {
        self.descriptors_max.saturating_sub(DESCRIPTORS_BASE).saturating_sub(listeners)
    }

    /// How many instances fit beside `fibers` stacks of our own.
    pub fn spawned_instances_max(&self, fibers: u64) -> u64 {
        let stacks = fibers.saturating_mul(self.mappings_per_stack);
        self.mappings_max.saturating_sub(MAPPINGS_BASE).saturating_sub(stacks) / MAPPINGS_PER_INSTANCE
    }
}

impl Needs {
    /// Open descriptors.
    pub fn descriptors(&self) -> u64 {
        DESCRIPTORS_BASE.saturating_add(self.connections).saturating_add(self.listeners)
    }
}

/// A limit of this machine that the configuration does not fit in (exit code 6).
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MachineError {
    /// Too many memory mappings.
    #[error(
        "{mappings} memory mappings are needed ({MAPPINGS_PER_INSTANCE} for each of {instances} instances, \
         {each} for each of {fibers} coroutines, {MAPPINGS_BASE} besides), and this machine allows {max}: \
         run `sysctl -w vm.max_map_count={mappings}`, or lower --connections-max"
    )]
    Mappings {
        /// Needed in all.
        mappings: u64,
        /// As configured.
        instances: u64,
        /// As configured.
        fibers: u64,
        /// Of each of them.
        each: u64,
        /// `vm.max_map_count`.
        max: u64,
    },
    /// Too many descriptors.
    #[error(
        "{descriptors} open files are needed ({connections} connections and some besides), and this process may have {max}: \
         raise the hard limit (`ulimit -Hn {descriptors}` as root, or LimitNOFILE={descriptors} in a systemd unit), \
         or lower --connections-max"
    )]
    Descriptors {
        /// Needed in all.
        descriptors: u64,
        /// As configured.
        connections: u64,
        /// The hard RLIMIT_NOFILE.
        max: u64,
    },
}

/// Raises the soft limit to the hard one; gives what holds then.
fn raise_descriptors() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX))
}

fn available_memory() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let group = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| group_headroom(&text));
    machine.unwrap_or(u64::MAX).min(group.unwrap_or(u64::MAX))
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the control groups above this process leave it (cgroup v2); none if no group limits memory.
fn group_headroom(own_groups: &str) -> Option<u64> {
    let mut group = own_groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mut headroom = None;
    loop {
        let value = |file| {
            let text = fs::read_to_string(format!("/sys/fs/cgroup/{group}/{file}")).ok()?;
            text.trim().parse::<u64>().ok()
        };
        if let (Some(max), Some(used)) = (value("memory.max"), value("memory.current")) {
            headroom = Some(headroom.unwrap_or(u64::MAX).min(max.saturating_sub(used)));
        }
        match group.rsplit_once('/') {
            Some((above, _)) => group = above,
            None if group.is_empty() => return headroom,
            None => group = "",
        }
    }
}

/// Counted in /proc/self/maps with wasmtime 48's pool and copy-on-write images: what is before the image, the
/// image, what is after it, the addresses that the memory may grow into; a stack and its guard.
const MAPPINGS_PER_INSTANCE: u64 = 6;

/// The host's own: libraries, threads, compiled code, the allocator's arenas.
const MAPPINGS_BASE: u64 = 1_000;

/// The host's own: standard streams, workers' pollers, the cache, granted folders, the log, files that guests open.
const DESCRIPTORS_BASE: u64 = 128;

/// The kernel's default of `vm.max_map_count`.
const STOCK_MAPPINGS_MAX: u64 = 65_530;

/// The kernel's default soft RLIMIT_NOFILE.
const STOCK_DESCRIPTORS_MAX: u64 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    fn stock() -> Machine {
        Machine {
            mappings_max: 65_530,
            descriptors_max: 20_000,
            mappings_per_stack: 2,
            memory_bytes_max: 8 << 30,
        }
    }

    #[test]
    fn ten_thousand_isolated_connections_fit_a_stock_machine() {
        let needs = Needs { instances: 10_000, fibers: 0, connections: 10_000, listeners: 2 };
        assert_eq!(stock().check(&needs), Ok(()));
    }

    #[test]
    fn each_shortage_names_its_numbers_and_remedy() {
        for (needs, says) in [
            (
                Needs { instances: 10_000, fibers: 3_000, ..Needs::default() },
                vec!["67000 memory mappings", "allows 65530", "sysctl -w vm.max_map_count=67000"],
            ),
            (
                Needs { connections: 20_000, ..Needs::default() },
                vec!["20128 open files", "may have 20000", "ulimit -Hn 20128"],
            ),
        ] {
            let error = stock().check(&needs).expect_err("does not fit").to_string();
            for part in says {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn what_is_said_to_fit_fits_and_one_more_does_not() {
        for (fibers, each) in [(0, 2), (1, 2), (10_000, 2), (10_000, 0)] {
            let machine = Machine { mappings_per_stack: each, ..stock() };
            let max = machine.spawned_instances_max(fibers);
            let needs = |instances| Needs { instances, fibers, ..Needs::default() };
            assert_eq!(machine.check(&needs(max)), Ok(()));
            assert!(machine.check(&needs(max + 1)).is_err());
        }
    }

    #[test]
    fn absurd_needs_are_refused_without_overflow() {
        let most = u64::MAX;
        let needs = Needs { instances: most, fibers: most, connections: most, listeners: most };
        assert!(stock().check(&needs).is_err());
    }

    #[test]
    fn this_machine_can_be_read() {
        let machine = Machine::read();
        assert_eq!(Some(machine.descriptors_max), getrlimit(Resource::Nofile).maximum.or(Some(u64::MAX)));
        assert!(machine.mappings_max > MAPPINGS_BASE);
        assert!(machine.memory_bytes_max > 1 << 20);
    }

    #[test]
    fn meminfo_is_read_in_bytes() {
        assert_eq!(mem_available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(mem_available("MemTotal: 9 kB\n"), None);
    }
}
