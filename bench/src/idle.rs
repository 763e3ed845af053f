//! Memory a server spends on an idle connection.

use std::fmt;
use std::net::SocketAddr;

use anyhow::Result;
use serde::Serialize;

use crate::load::Idle;
use crate::memory::Memory;

/// What [`run`] found.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct IdleReport {
    /// Connections open.
    pub connections: usize,
    /// VmRSS + VmPTE before the first, in KiB.
    pub before_kib: u64,
    /// VmRSS + VmPTE with all open, after one echo on each, in KiB.
    pub after_kib: u64,
    /// (after − before) / connections, in KiB.
    pub per_connection_kib: f64,
}

/// Opens `connections` to `server`, has one echo on each, and compares the memory of process `pid`.
pub fn run(server: SocketAddr, pid: u32, connections: usize) -> Result<IdleReport> {
    let before_kib = Memory::of(pid)?.total_kib();
    let _idle = Idle::open(server, connections)?;
    let after_kib = Memory::of(pid)?.total_kib();
    let per_connection_kib = (after_kib as f64 - before_kib as f64) / connections as f64;
    Ok(IdleReport { connections, before_kib, after_kib, per_connection_kib })
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, before_kib, after_kib, per_connection_kib } = self;
        write!(
            f,
            "{per_connection_kib:.1} KiB per idle connection ({before_kib} KiB, then {after_kib} KiB with {connections})"
        )
    }
}
