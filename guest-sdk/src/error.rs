//! Why a call failed.

use std::io::{self, ErrorKind};
use std::{error, fmt};

/// The contract's `error-code`. Calls return it inside an [`io::Error`]; [`ErrorCode::of`] takes it out.
///
/// ```
/// use conet::ErrorCode;
/// use std::io;
///
/// let error = io::Error::from(ErrorCode::LimitExceeded);
/// assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
/// assert_eq!(ErrorCode::of(&error), Some(ErrorCode::LimitExceeded));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// The host did not grant this, or the system forbids it.
    AccessDenied,
    /// This host has no such address family, for instance no IPv6.
    AddressFamilyNotSupported,
    /// Another listener holds the address.
    AddressInUse,
    /// The address is not one of this host's, or no local port is free.
    AddressNotAvailable,
    /// Another coroutine is inside the same call on the same object.
    Busy,
    /// The call was ended from outside.
    Cancelled,
    /// This side has closed the object, or shut down this direction.
    Closed,
    /// The connection was given up by the system before it was accepted.
    ConnectionAborted,
    /// Nothing listens at the address.
    ConnectionRefused,
    /// The peer ended the connection abruptly.
    ConnectionReset,
    /// No route to the host.
    HostUnreachable,
    /// An argument is not valid.
    InvalidArgument,
    /// The object is not in a state that allows this call.
    InvalidState,
    /// One of the tenant's limits is reached.
    LimitExceeded,
    /// A message is larger than the transport can carry.
    MessageTooLarge,
    /// The name has no address.
    NameNotFound,
    /// The name could not be resolved now; it may work later.
    NameResolutionFailed,
    /// No route to the network.
    NetworkUnreachable,
    /// The host itself is out of descriptors or memory.
    OutOfResources,
    /// The peer broke the protocol.
    ProtocolError,
    /// The host is ending: nothing new is accepted.
    ShuttingDown,
    /// The timeout ran out first.
    TimedOut,
    /// The TLS handshake or record layer failed; no bytes of the session are valid.
    TlsFailed,
    /// This host, or this kind of instance, does not offer the call.
    Unsupported,
    /// Anything else.
    Other,
}

impl ErrorCode {
    /// The code inside `error`, if the error came from this crate.
    pub fn of(error: &io::Error) -> Option<ErrorCode> {
        error.get_ref()?.downcast_ref::<ErrorCode>().copied()
    }

    /// The code at `index` of the contract's list.
    #[cfg(target_family = "wasm")]
    pub(crate) fn at(index: u8) -> ErrorCode {
        TABLE.get(usize::from(index)).map_or(ErrorCode::Other, |entry| entry.0)
    }

    fn entry(self) -> &'static Entry {
        // The table lists the codes in the order of their declaration: a test holds it to that.
        &TABLE[self as usize]
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name, text, _) = self.entry();
        write!(f, "{name}: {text}")
    }
}

impl error::Error for ErrorCode {}

impl From<ErrorCode> for io::Error {
    fn from(code: ErrorCode) -> io::Error {
        io::Error::new(code.entry().3, code)
    }
}

/// Code, name in the contract, explanation, the kind std knows it by.
///
/// `Interrupted` and `WouldBlock` are not used: std's loops retry the one, and programs poll on the other.
type Entry = (ErrorCode, &'static str, &'static str, ErrorKind);

#[rustfmt::skip]
const TABLE: &[Entry] = &[
    (ErrorCode::AccessDenied, "access-denied", "the host did not grant this", ErrorKind::PermissionDenied),
    (ErrorCode::AddressFamilyNotSupported, "address-family-not-supported", "this host has no such address family", ErrorKind::Unsupported),
    (ErrorCode::AddressInUse, "address-in-use", "another listener holds the address", ErrorKind::AddrInUse),
    (ErrorCode::AddressNotAvailable, "address-not-available", "not an address of this host, or no free port", ErrorKind::AddrNotAvailable),
    (ErrorCode::Busy, "busy", "another coroutine is inside the same call", ErrorKind::ResourceBusy),
    (ErrorCode::Cancelled, "cancelled", "ended from outside", ErrorKind::Other),
    (ErrorCode::Closed, "closed", "closed on this side", ErrorKind::BrokenPipe),
    (ErrorCode::ConnectionAborted, "connection-aborted", "given up before it was accepted", ErrorKind::ConnectionAborted),
    (ErrorCode::ConnectionRefused, "connection-refused", "nothing listens at the address", ErrorKind::ConnectionRefused),
    (ErrorCode::ConnectionReset, "connection-reset", "the peer ended the connection abruptly", ErrorKind::ConnectionReset),
    (ErrorCode::HostUnreachable, "host-unreachable", "no route to the host", ErrorKind::HostUnreachable),
    (ErrorCode::InvalidArgument, "invalid-argument", "an argument is not valid", ErrorKind::InvalidInput),
    (ErrorCode::InvalidState, "invalid-state", "not possible in this state", ErrorKind::NotConnected),
    (ErrorCode::LimitExceeded, "limit-exceeded", "a limit of this tenant is reached", ErrorKind::QuotaExceeded),
    (ErrorCode::MessageTooLarge, "message-too-large", "larger than the transport can carry", ErrorKind::InvalidInput),
    (ErrorCode::NameNotFound, "name-not-found", "the name has no address", ErrorKind::NotFound),
    (ErrorCode::NameResolutionFailed, "name-resolution-failed", "the name could not be resolved now", ErrorKind::Other),
    (ErrorCode::NetworkUnreachable, "network-unreachable", "no route to the network", ErrorKind::NetworkUnreachable),
    (ErrorCode::OutOfResources, "out-of-resources", "the host is out of descriptors or memory", ErrorKind::OutOfMemory),
    (ErrorCode::ProtocolError, "protocol-error", "the peer broke the protocol", ErrorKind::InvalidData),
    (ErrorCode::ShuttingDown, "shutting-down", "the host is ending", ErrorKind::Other),
    (ErrorCode::TimedOut, "timed-out", "the timeout ran out", ErrorKind::TimedOut),
    (ErrorCode::TlsFailed, "tls-failed", "TLS failed", ErrorKind::InvalidData),
    (ErrorCode::Unsupported, "unsupported", "not offered by this host or kind of instance", ErrorKind::Unsupported),
    (ErrorCode::Other, "other", "unknown error", ErrorKind::Other),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_codes() {
        for (index, (code, ..)) in TABLE.iter().enumerate() {
            assert_eq!(*code as usize, index, "{code:?}");
        }
        assert_eq!(TABLE.len(), ErrorCode::Other as usize + 1);
    }

    /// The contract's list, read from its source, is the same list in the same order.
    #[test]
    fn the_names_are_the_contracts() {
        let types = include_str!("../../wit/net/types.wit");
        let start = types.find("enum error-code {").unwrap();
        let list = &types[start..start + types[start..].find('}').unwrap()];
        let names: Vec<&str> = list
            .lines()
            .skip(1)
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .map(|line| line.trim_end_matches(','))
            .collect();
        assert_eq!(names, TABLE.iter().map(|entry| entry.1).collect::<Vec<_>>());
    }

    #[test]
    fn no_kind_makes_std_retry() {
        for (code, _, _, kind) in TABLE {
            assert!(!matches!(kind, ErrorKind::Interrupted | ErrorKind::WouldBlock), "{code:?}");
        }
    }

    #[test]
    fn an_error_of_another_origin_has_no_code() {
        assert_eq!(ErrorCode::of(&io::Error::from(ErrorKind::TimedOut)), None);
    }

    #[test]
    fn the_message_names_the_code() {
        let text = io::Error::from(ErrorCode::Busy).to_string();
        assert_eq!(text, "busy: another coroutine is inside the same call");
    }
}
