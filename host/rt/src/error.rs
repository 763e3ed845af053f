//! The errors that are the runtime's own; all others are the system's.
//!
//! They travel as `io::Error`, so that one type holds whatever an operation can end with. Tell them apart with
//! [`is_closed`] and [`is_busy`]: their `ErrorKind` alone is also used by the system.

use std::error::Error;
use std::fmt;
use std::io;

/// The object was closed on this side: before the call, or while it waited.
pub fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, Reason::Closed)
}

/// Another task is inside the same call on the same object, or an operation on it is still in flight.
pub fn busy() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, Reason::Busy)
}

/// Whether this is [`closed`].
pub fn is_closed(error: &io::Error) -> bool {
    reason(error) == Some(Reason::Closed)
}

/// Whether this is [`busy`].
pub fn is_busy(error: &io::Error) -> bool {
    reason(error) == Some(Reason::Busy)
}

fn reason(error: &io::Error) -> Option<Reason> {
    error.get_ref()?.downcast_ref().copied()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Closed,
    Busy,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Closed => "closed on this side",
            Reason::Busy => "another operation of this kind is in flight",
        })
    }
}

impl Error for Reason {}
