//! Memory a process holds, as the kernel counts it.

use std::fs;

use anyhow::{Context, Result};

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// VmRSS: pages in memory.
    pub rss_kib: u64,
    /// VmPTE: page tables, which grow with address space even where nothing is resident.
    pub page_tables_kib: u64,
}

impl Memory {
    /// Reads it from `/proc/PID/status`.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&status).with_context(|| format!("{path} has no VmRSS and VmPTE"))
    }

    /// Both together.
    pub fn total_kib(self) -> u64 {
        self.rss_kib + self.page_tables_kib
    }

    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_end_matches("kB").trim().parse().ok()
        };
        Some(Self { rss_kib: field("VmRSS:")?, page_tables_kib: field("VmPTE:")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_name() {
        let status = "Name:\techo\nVmHWM:\t 9000 kB\nVmRSS:\t    5120 kB\nVmPTE:\t      88 kB\nThreads:\t1\n";
        let memory = Memory::parse(status).expect("a well-formed file");
        assert_eq!(memory, Memory { rss_kib: 5120, page_tables_kib: 88 });
        assert_eq!(memory.total_kib(), 5208);
        assert_eq!(Memory::parse("Name:\tkthreadd\n"), None);
    }
}
