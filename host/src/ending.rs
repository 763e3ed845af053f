//! How a connection ended, in a word or two for who looks through many of them.

use std::fmt;

/// Why there is no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The guest was through with it.
    Finished,
    /// The peer had ended its side, and the guest saw that.
    Eof,
    /// The peer cut it off.
    PeerReset,
    /// The guest trapped.
    Trap,
    /// A limit of this name ended the guest.
    Limit(&'static str),
    /// The peer passed its limit of this name.
    Timeout(&'static str),
    /// It had not finished within the drain.
    Drain,
    /// No coroutine ever got it.
    Unserved,
}

impl Ending {
    /// All there are: what bounds the host's memory for counting them.
    pub const ALL: [Self; 15] = [
        Self::Finished,
        Self::Eof,
        Self::PeerReset,
        Self::Trap,
        Self::Limit("cpu"),
        Self::Limit("start"),
        Self::Limit("stack"),
        Self::Limit("wasm-stack"),
        Self::Limit("orphan"),
        Self::Timeout("first-byte"),
        Self::Timeout("idle"),
        Self::Timeout("receive-rate-min"),
        Self::Timeout("write"),
        Self::Drain,
        Self::Unserved,
    ];
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ending::Finished => f.write_str("finished"),
            Ending::Eof => f.write_str("eof"),
            Ending::PeerReset => f.write_str("peer-reset"),
            Ending::Trap => f.write_str("trap"),
            Ending::Limit(name) => write!(f, "limit:{name}"),
            Ending::Timeout(name) => write!(f, "timeout:{name}"),
            Ending::Drain => f.write_str("drain"),
            Ending::Unserved => f.write_str("unserved"),
        }
    }
}
