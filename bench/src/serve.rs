//! Native echo servers to compare with: one thread, the same buffer, TCP_NODELAY on.

pub mod epoll;
pub mod io_uring;
pub mod tokio;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes read at a time, by every baseline.
pub const BUFFER_BYTES: usize = 4 * 1024;

/// Bytes read at a time by those that discard what they receive.
pub const DISCARD_BYTES: usize = 64 * 1024;

/// What a server does with what it receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Sends it back.
    Echo,
    /// Nothing.
    Discard,
}

/// Connections the kernel may hold for us before they are accepted.
pub const BACKLOG: i32 = 4096;

/// Raises the soft limit of open files to the hard one; gives the limit then in force.
pub fn raise_open_files() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}
