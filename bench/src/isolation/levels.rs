//! What the host holds.

use std::fs;

use anyhow::{Context, Result};

use crate::hosted::{Hosted, Told};

/// Counts that must not stay up after an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Levels {
    pub(super) descriptors: u64,
    /// Memory mappings.
    pub(super) mappings: u64,
    pub(super) connections: u64,
    pub(super) coroutines: u64,
    pub(super) instances: u64,
    /// The most instances that there were at once, of each tenant.
    pub(super) instances_peak: u64,
    pub(super) resident_bytes: u64,
}

impl Levels {
    pub(super) fn of(host: &Hosted) -> Result<Self> {
        let path = format!("/proc/{}/maps", host.pid());
        let maps = fs::read(&path).with_context(|| format!("cannot read {path}"))?;
        let mappings = maps.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let Told { host, tenants } = host.told()?;
        Ok(Self {
            descriptors: host.process.descriptors,
            mappings,
            connections: tenants.iter().map(|tenant| tenant.connections.used).sum(),
            coroutines: tenants.iter().map(|tenant| tenant.coroutines.used).sum(),
            instances: tenants.iter().map(|tenant| tenant.instances.used).sum(),
            instances_peak: tenants.iter().map(|tenant| tenant.instances.peak).sum(),
            resident_bytes: host.process.resident_bytes,
        })
    }

    /// What is more than before, of all that has to be given back.
    pub(super) fn left_since(&self, before: &Self) -> Option<String> {
        // A place in the pool that has once been used stays mapped for the next instance.
        let mappings_kept = MAPPINGS_KEPT + self.instances_peak * MAPPINGS_PER_PLACE;
        let counts = [
            ("descriptors", self.descriptors, before.descriptors + DESCRIPTORS_KEPT),
            ("mappings", self.mappings, before.mappings + mappings_kept),
            ("connections", self.connections, before.connections),
            ("coroutines", self.coroutines, before.coroutines),
            ("instances", self.instances, before.instances),
        ];
        let left = counts.iter().filter(|(_, after, before)| after > before);
        let left: Vec<_> = left.map(|(name, after, before)| format!("{} {name}", after - before)).collect();
        (!left.is_empty()).then(|| left.join(", "))
    }
}

/// The admin's, while it is asked.
const DESCRIPTORS_KEPT: u64 = 2;

/// Of an instance: its memories, table and stack, each with its guards.
const MAPPINGS_PER_PLACE: u64 = 6;

/// Mappings that the allocator may keep.
const MAPPINGS_KEPT: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named() {
        let before = Levels {
            descriptors: 20,
            mappings: 300,
            connections: 0,
            coroutines: 1,
            instances: 1,
            instances_peak: 10,
            resident_bytes: 0,
        };
        assert_eq!(before.left_since(&before), None);
        assert_eq!(Levels { resident_bytes: 1 << 30, mappings: 420, ..before }.left_since(&before), None);
        let after = Levels { descriptors: 24, coroutines: 4, mappings: 460, ..before };
        assert_eq!(after.left_since(&before).as_deref(), Some("2 descriptors, 36 mappings, 3 coroutines"));
    }
}
