//! A network: an address and how many of its leading bits count.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A network; a single address is one whose every bit counts. Mapped IPv4 is held as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    /// Its first address.
    first: IpAddr,
    /// Leading bits that count, at most 32 or 128.
    prefix: u8,
}

impl Cidr {
    pub(super) const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Cidr {
        Cidr { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix }
    }

    /// An IPv6 network by its first three groups, which is as far as the assigned ones go.
    pub(super) const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Cidr {
        Cidr { first: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)), prefix }
    }

    pub(super) fn host(ip: IpAddr) -> Cidr {
        let first = ip.to_canonical();
        Cidr { first, prefix: width(first) }
    }

    /// The network `ip/prefix`; `Err` gives the network that was probably meant when `ip` has bits beyond the prefix,
    /// or nothing when there is no such prefix.
    pub(super) fn new(ip: IpAddr, prefix: u8) -> Result<Cidr, Option<Cidr>> {
        let (ip, prefix) = match (ip, ip.to_canonical()) {
            (IpAddr::V6(_), v4 @ IpAddr::V4(_)) if (96..=128).contains(&prefix) => (v4, prefix - 96),
            _ => (ip, prefix),
        };
        if prefix > width(ip) {
            return Err(None);
        }
        let network = Cidr { first: mask(ip, prefix), prefix };
        if network.first == ip { Ok(network) } else { Err(Some(network)) }
    }

    /// Whether `ip`, in canonical form, is in the network.
    pub(super) fn contains(self, ip: IpAddr) -> bool {
        self.first.is_ipv4() == ip.is_ipv4() && mask(ip, self.prefix) == self.first
    }

    /// Whether it is all of IPv4 or all of IPv6.
    pub(super) fn is_everything(self) -> bool {
        self.prefix == 0
    }

    /// Its address, if it holds just one.
    pub(super) fn single(self) -> Option<IpAddr> {
        (self.prefix == width(self.first)).then_some(self.first)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.single()) {
            (IpAddr::V4(ip), Some(_)) => write!(f, "{ip}"),
            (IpAddr::V4(ip), None) => write!(f, "{ip}/{}", self.prefix),
            (IpAddr::V6(ip), Some(_)) => write!(f, "[{ip}]"),
            (IpAddr::V6(ip), None) => write!(f, "[{ip}/{}]", self.prefix),
        }
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn mask(ip: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match ip {
        IpAddr::V4(ip) => {
            Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into()
        }
        IpAddr::V6(ip) => {
            Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into()
        }
    }
}
