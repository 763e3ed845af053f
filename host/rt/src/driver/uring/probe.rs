//! Whether this machine lets us have io_uring, and if not, why.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::ring::Ring;
use super::token::{Request, Token};
use crate::key::SocketKey;

/// Why io_uring cannot be had, and what would help.
#[derive(Debug)]
pub struct Unavailable(io::Error);

/// Tries it: makes a ring, and receives a byte with it.
pub(crate) fn check() -> Result<(), Unavailable> {
    try_ring().map_err(Unavailable)
}

fn try_ring() -> io::Result<()> {
    let mut ring = Ring::new()?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    ring.receive(&near, Token::Socket(SocketKey { index: 0, generation: 0 }, Request::Receive));
    let mut completions = Vec::new();
    ring.enter(Some(Duration::ZERO), &mut completions);
    if completions.is_empty() {
        rustix::io::write(&far, b"x")?;
    }
    ring.enter(Some(PATIENCE), &mut completions);
    let completion = completions.pop().ok_or(Errno::TIMEDOUT)?;
    completion.result?;
    match completion.chunk.as_ref().map(|chunk| ring.buffers.bytes(chunk)) {
        Some(b"x") if completion.more => Ok(()),
        // It takes the request for another.
        _ => Err(Errno::INVAL.into()),
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = &self.0;
        let why = match Errno::from_io_error(error) {
            Some(Errno::NOSYS) => "the kernel was built without it, or a seccomp profile hides it",
            Some(Errno::PERM | Errno::ACCESS) => {
                "a seccomp profile (a container's, say) or the sysctl kernel.io_uring_disabled forbids it: allow \
                 io_uring_setup, io_uring_enter and io_uring_register there"
            }
            Some(Errno::INVAL | Errno::OPNOTSUPP) => "the kernel is older than 6.0: update it",
            Some(Errno::NOMEM) => "there is no memory for it: raise the limit on locked memory (ulimit -l)",
            Some(Errno::MFILE | Errno::NFILE) => "there is no descriptor for it: raise the limit (ulimit -n)",
            _ => return write!(f, "there is no io_uring: {error}"),
        };
        write!(f, "there is no io_uring: {why} ({error})")
    }
}

impl Error for Unavailable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl From<Unavailable> for io::Error {
    fn from(unavailable: Unavailable) -> io::Error {
        io::Error::new(unavailable.0.kind(), unavailable)
    }
}

impl From<io::Error> for Unavailable {
    fn from(error: io::Error) -> Unavailable {
        Unavailable(error)
    }
}

/// The byte is there: only where it does not work at all does the wait last.
const PATIENCE: Duration = Duration::from_secs(1);
