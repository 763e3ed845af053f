//! From the system's errors to the contract's, and between the two address types.

use std::{
    io::{Error, ErrorKind},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    time::{Duration, Instant},
};

use rustix::io::Errno;

use crate::bindings::net::types::{ErrorCode, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};

/// The contract's word for an I/O error.
pub(crate) fn code(error: &Error) -> ErrorCode {
    if let Some(code) = error.raw_os_error().and_then(from_errno) {
        return code;
    }
    match error.kind() {
        ErrorKind::PermissionDenied => ErrorCode::AccessDenied,
        ErrorKind::AddrInUse => ErrorCode::AddressInUse,
        ErrorKind::AddrNotAvailable => ErrorCode::AddressNotAvailable,
        ErrorKind::ResourceBusy => ErrorCode::Busy,
        ErrorKind::NotConnected | ErrorKind::BrokenPipe => ErrorCode::Closed,
        ErrorKind::ConnectionAborted => ErrorCode::ConnectionAborted,
        ErrorKind::ConnectionRefused => ErrorCode::ConnectionRefused,
        ErrorKind::ConnectionReset => ErrorCode::ConnectionReset,
        ErrorKind::HostUnreachable => ErrorCode::HostUnreachable,
        ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => ErrorCode::NetworkUnreachable,
        ErrorKind::InvalidInput => ErrorCode::InvalidArgument,
        ErrorKind::QuotaExceeded => ErrorCode::LimitExceeded,
        ErrorKind::TimedOut => ErrorCode::TimedOut,
        ErrorKind::Unsupported => ErrorCode::Unsupported,
        _ => ErrorCode::Other,
    }
}

fn from_errno(raw: i32) -> Option<ErrorCode> {
    Some(match Errno::from_raw_os_error(raw) {
        Errno::ACCESS | Errno::PERM => ErrorCode::AccessDenied,
        Errno::AFNOSUPPORT => ErrorCode::AddressFamilyNotSupported,
        Errno::ADDRINUSE => ErrorCode::AddressInUse,
        Errno::ADDRNOTAVAIL => ErrorCode::AddressNotAvailable,
        Errno::BUSY => ErrorCode::Busy,
        Errno::CANCELED => ErrorCode::Cancelled,
        Errno::PIPE | Errno::BADF => ErrorCode::Closed,
        Errno::CONNABORTED => ErrorCode::ConnectionAborted,
        Errno::CONNREFUSED => ErrorCode::ConnectionRefused,
        Errno::CONNRESET => ErrorCode::ConnectionReset,
        Errno::HOSTUNREACH => ErrorCode::HostUnreachable,
        Errno::INVAL => ErrorCode::InvalidArgument,
        Errno::NOTCONN | Errno::ISCONN | Errno::ALREADY => ErrorCode::InvalidState,
        Errno::DQUOT => ErrorCode::LimitExceeded,
        Errno::MSGSIZE => ErrorCode::MessageTooLarge,
        Errno::NETUNREACH | Errno::NETDOWN => ErrorCode::NetworkUnreachable,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => ErrorCode::OutOfResources,
        Errno::PROTO => ErrorCode::ProtocolError,
        Errno::TIMEDOUT => ErrorCode::TimedOut,
        Errno::OPNOTSUPP | Errno::NOSYS => ErrorCode::Unsupported,
        _ => return None,
    })
}

/// The instant at which a timeout that starts now runs out; none if there is none, or if it is beyond all clocks.
pub(crate) fn deadline(timeout: Option<u64>) -> Option<Instant> {
    let timeout = Duration::from_nanos(timeout?);
    Instant::now().checked_add(timeout)
}

impl From<SocketAddr> for IpSocketAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(v4) => {
                let [a, b, c, d] = v4.ip().octets();
                IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address: (a, b, c, d) })
            }
            SocketAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h] = v6.ip().segments();
                IpSocketAddress::Ipv6(Ipv6SocketAddress {
                    port: v6.port(),
                    flow_info: v6.flowinfo(),
                    address: (a, b, c, d, e, f, g, h),
                    scope_id: v6.scope_id(),
                })
            }
        }
    }
}

impl From<IpSocketAddress> for SocketAddr {
    fn from(address: IpSocketAddress) -> Self {
        match address {
            IpSocketAddress::Ipv4(v4) => {
                let (a, b, c, d) = v4.address;
                SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), v4.port).into()
            }
            IpSocketAddress::Ipv6(v6) => {
                let (a, b, c, d, e, f, g, h) = v6.address;
                let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
                SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["1.2.3.4:5", "[2001:db8::1:2]:65535", "[fe80::1%3]:7"] {
            let address: SocketAddr = text.parse().expect("valid");
            assert_eq!(SocketAddr::from(IpSocketAddress::from(address)), address);
        }
    }

    #[test]
    fn an_errno_wins_over_the_kind() {
        assert_eq!(code(&Errno::MFILE.into()), ErrorCode::OutOfResources);
        assert_eq!(code(&ErrorKind::TimedOut.into()), ErrorCode::TimedOut);
        assert_eq!(code(&ErrorKind::UnexpectedEof.into()), ErrorCode::Other);
    }

    #[test]
    fn a_timeout_beyond_all_clocks_is_none() {
        assert!(deadline(Some(0)).is_some());
        assert!(deadline(None).is_none());
    }
}
