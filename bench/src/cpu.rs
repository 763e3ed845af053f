//! CPU time that was spent, and time spent waiting for it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// CPU time the calling thread has used.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Time the calling thread was ready to run while something else had its core, if this kernel counts it.
pub fn thread_waited() -> Option<Duration> {
    waited(Path::new("/proc/thread-self/schedstat"))
}

/// The same over the threads that a process has now.
pub fn process_waited(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    threads.map(|thread| waited(&thread.ok()?.path().join("schedstat"))).sum()
}

/// The second of the file's three numbers, in nanoseconds.
fn waited(schedstat: &Path) -> Option<Duration> {
    let text = fs::read_to_string(schedstat).ok()?;
    Some(Duration::from_nanos(text.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

/// CPU time a process has used, over all its threads, to the kernel's tick (10 ms on most machines).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProcessTime {
    /// In its own code.
    pub user: Duration,
    /// In the kernel on its behalf.
    pub system: Duration,
}

impl ProcessTime {
    /// Reads it from `/proc/PID/stat`.
    pub fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Self::parse(&stat, clock_ticks_per_second()).with_context(|| format!("{path} has an unknown form"))
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }

    fn parse(stat: &str, ticks_per_second: u64) -> Option<Self> {
        // The second field is the command's name in parentheses, and may hold spaces and parentheses itself.
        let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
        let mut next = || {
            let ticks: u64 = fields.next()?.parse().ok()?;
            Some(Duration::from_nanos(ticks * (1_000_000_000 / ticks_per_second)))
        };
        Some(Self { user: next()?, system: next()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_time_is_read_past_a_hostile_command_name() {
        let stat = "7 (a) b 1 2 (c) S 1 7 7 0 -1 4194560 9 0 0 0 250 31 0 0 20 0 1 0 5";
        let time = ProcessTime::parse(stat, 100).expect("a well-formed line");
        assert_eq!(time.user, Duration::from_millis(2500));
        assert_eq!(time.system, Duration::from_millis(310));
    }

    #[test]
    fn own_process_has_used_some_time() {
        ProcessTime::of(std::process::id()).expect("this process exists");
        assert!(thread_time() > Duration::ZERO);
    }
}
