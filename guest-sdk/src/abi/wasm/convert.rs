//! Between std's types and the contract's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use super::bindings::tcp::ShutdownType;
use super::bindings::types::{self, HostName, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress};
use super::returned::Address;
use crate::ErrorCode;
use crate::abi::nanoseconds;
use crate::net::Target;

/// `option<duration>`, flat.
pub(super) fn timeout(timeout: Option<Duration>) -> (u32, u64) {
    timeout.map_or((0, 0), |timeout| (1, nanoseconds(timeout)))
}

/// `target`, flat. A name is lent: the words hold a pointer to it.
pub(super) fn flat(target: &Target) -> [u32; 13] {
    let mut words = [0; 13];
    match target {
        Target::Address(address) => words[1..].copy_from_slice(&flat_address(*address)),
        Target::Name { name, port } => {
            words[..4].copy_from_slice(&[1, name.as_ptr() as u32, name.len() as u32, u32::from(*port)]);
        }
    }
    words
}

fn flat_address(address: SocketAddr) -> [u32; 12] {
    let mut words = [0; 12];
    words[1] = u32::from(address.port());
    match address {
        SocketAddr::V4(v4) => words[2..6].copy_from_slice(&v4.ip().octets().map(u32::from)),
        SocketAddr::V6(v6) => {
            words[0] = 1;
            words[2] = v6.flowinfo();
            words[3..11].copy_from_slice(&v6.ip().segments().map(u32::from));
            words[11] = v6.scope_id();
        }
    }
    words
}

pub(super) fn from_returned(address: Address) -> SocketAddr {
    // SAFETY: the family tells which variant the host has written; both are plain numbers.
    unsafe {
        if address.family == 0 {
            let v4 = address.socket.ipv4;
            SocketAddr::new(IpAddr::from(v4.address), v4.port)
        } else {
            let v6 = address.socket.ipv6;
            SocketAddrV6::new(Ipv6Addr::from(v6.address), v6.port, v6.flow_info, v6.scope_id).into()
        }
    }
}

pub(super) fn to_wit(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(v4) => {
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address: v4.ip().octets().into() })
        }
        SocketAddr::V6(v6) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port: v6.port(),
            flow_info: v6.flowinfo(),
            address: v6.ip().segments().into(),
            scope_id: v6.scope_id(),
        }),
    }
}

pub(super) fn from_wit(address: IpSocketAddress) -> SocketAddr {
    match address {
        IpSocketAddress::Ipv4(v4) => {
            SocketAddrV4::new(Ipv4Addr::from(<[u8; 4]>::from(v4.address)), v4.port).into()
        }
        IpSocketAddress::Ipv6(v6) => {
            let ip = Ipv6Addr::from(<[u16; 8]>::from(v6.address));
            SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).into()
        }
    }
}

pub(super) fn to_wit_target(target: &Target) -> types::Target {
    match target {
        Target::Address(address) => types::Target::Address(to_wit(*address)),
        Target::Name { name, port } => types::Target::Name(HostName { name: name.clone(), port: *port }),
    }
}

pub(super) fn shutdown(how: Shutdown) -> ShutdownType {
    match how {
        Shutdown::Read => ShutdownType::Receive,
        Shutdown::Write => ShutdownType::Send,
        Shutdown::Both => ShutdownType::Both,
    }
}

impl From<types::ErrorCode> for ErrorCode {
    fn from(code: types::ErrorCode) -> ErrorCode {
        ErrorCode::at(code as u8)
    }
}
