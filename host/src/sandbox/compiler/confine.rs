//! What a child gives up before it looks at a component.

use std::{fs, io};

use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, Signal, getppid, set_dumpable_behavior,
    set_parent_process_death_signal, setpriority_process, setrlimit,
};

use crate::wall::shut_in;

/// The limits of a child, which is a process with a group, but not a session, of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// Who made it. It does not outlive them.
    pub parent: i32,
    /// CPU time of all its threads.
    pub cpu_seconds: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Tenants run beside it, and go first.
    pub gives_way: bool,
}

impl Confinement {
    /// Puts them on the process, for good. Nothing that a stranger wrote may have been read yet.
    pub(super) fn take_effect(&self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have ended before that.
        if getppid() != Pid::from_raw(self.parent) {
            return Err(io::Error::other("who started this is gone"));
        }
        // Nothing of it goes into a dump, which no limit prevents where a program takes dumps from a pipe.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        limit(Resource::Core, 0)?;
        // Of all processes this is the one to lose where memory runs out. It is the system's to know about that.
        let _ = fs::write("/proc/self/oom_score_adj", "1000");
        if self.gives_way {
            // Not SCHED_IDLE: where tenants keep all processors busy, a child would get next to nothing of them, and no
            // reload would come to its end. In a session of its own it would be weighed against the session's other
            // processes only, and not against the host.
            setpriority_process(None, PRIORITY)?;
        }
        setrlimit(
            Resource::Cpu,
            Rlimit { current: Some(self.cpu_seconds), maximum: Some(self.cpu_seconds + 1) },
        )?;
        limit(Resource::Data, self.memory_bytes)?;
        limit(Resource::As, self.memory_bytes.saturating_add(ADDRESSES_BESIDE_MEMORY))?;
        // It has pipes to write to, and no files.
        limit(Resource::Fsize, 0)?;
        // From now on it reads stdin to its end, compiles on threads that it makes, and writes to stdout and stderr.
        shut_in()
    }
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

/// The least: 1.5 % of a processor that others want all of, and all that they leave.
const PRIORITY: i32 = 19;
/// The program and its libraries, and what the allocator sets aside for each thread without using it, which is not
/// counted as data.
const ADDRESSES_BESIDE_MEMORY: u64 = 1 << 30;
