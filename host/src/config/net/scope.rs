//! What kind of address it is: on the public Internet, or one that a name must not lead to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::cidr::Cidr;

/// Whether `ip`, in canonical form, is a global unicast address of the Internet.
pub(super) fn is_public(ip: IpAddr) -> bool {
    let excluded = NOT_PUBLIC.iter().chain(METADATA).any(|net| net.contains(ip));
    !excluded && (ip.is_ipv4() || GLOBAL_UNICAST.contains(ip))
}

/// Whether `ip`, in canonical form, is one that a name must not lead to without an address grant.
pub(super) fn is_guarded(ip: IpAddr) -> bool {
    let embedded = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => embedded_v4(ip),
    };
    let guarded = |ip: IpAddr| GUARDED.iter().chain(METADATA).any(|net| net.contains(ip));
    guarded(ip) || embedded.is_some_and(|ip| guarded(ip.into()))
}

/// Whether `ip` is 127.0.0.0/8 or ::1.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.is_loopback()
}

/// The IPv4 address that a translator or tunnel would send `ip` to.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let octets = ip.octets();
    let at = |i: usize| Ipv4Addr::new(octets[i], octets[i + 1], octets[i + 2], octets[i + 3]);
    let within = |nets: &[Cidr]| nets.iter().any(|net| net.contains(ip.into()));
    if within(&[SIX_TO_FOUR]) {
        Some(at(2))
    } else if within(&[COMPATIBLE, NAT64, NAT64_LOCAL]) {
        Some(at(12))
    } else {
        None
    }
}

/// IANA's special-purpose registries, and multicast. Of IPv6 only what lies inside `GLOBAL_UNICAST`.
const NOT_PUBLIC: &[Cidr] = &[
    Cidr::v4(0, 0, 0, 0, 8),        // this network
    Cidr::v4(10, 0, 0, 0, 8),       // private
    Cidr::v4(100, 64, 0, 0, 10),    // carrier-grade NAT
    Cidr::v4(127, 0, 0, 0, 8),      // loopback
    Cidr::v4(169, 254, 0, 0, 16),   // link-local
    Cidr::v4(172, 16, 0, 0, 12),    // private
    Cidr::v4(192, 0, 0, 0, 24),     // protocol assignments
    Cidr::v4(192, 0, 2, 0, 24),     // documentation
    Cidr::v4(192, 88, 99, 0, 24),   // 6to4 relays
    Cidr::v4(192, 168, 0, 0, 16),   // private
    Cidr::v4(198, 18, 0, 0, 15),    // benchmarks
    Cidr::v4(198, 51, 100, 0, 24),  // documentation
    Cidr::v4(203, 0, 113, 0, 24),   // documentation
    Cidr::v4(224, 0, 0, 0, 4),      // multicast
    Cidr::v4(240, 0, 0, 0, 4),      // reserved, broadcast
    Cidr::v6(0x2001, 0, 0, 23),     // protocol assignments: Teredo, benchmarks, ORCHID
    Cidr::v6(0x2001, 0xdb8, 0, 32), // documentation
    SIX_TO_FOUR,
    Cidr::v6(0x3fff, 0, 0, 20), // documentation
];

/// Where a name must not lead: into this host or onto its link.
const GUARDED: &[Cidr] = &[
    Cidr::v4(0, 0, 0, 0, 8),
    Cidr::v4(127, 0, 0, 0, 8),
    Cidr::v4(169, 254, 0, 0, 16),
    Cidr::v4(224, 0, 0, 0, 4),
    Cidr::v4(255, 255, 255, 255, 32),
    Cidr::v6(0, 0, 0, 127), // unspecified and loopback
    Cidr::v6(0xfe80, 0, 0, 10),
    Cidr::v6(0xff00, 0, 0, 8),
];

/// Services of clouds that answer any process of the machine, where they are not link-local.
const METADATA: &[Cidr] = &[
    Cidr::v4(100, 100, 100, 200, 32), // Alibaba
    Cidr::v4(168, 63, 129, 16, 32),   // Azure
    Cidr::v4(192, 0, 0, 192, 32),     // Oracle
    Cidr::v6(0xfd00, 0xec2, 0, 48),   // AWS
    Cidr::v6(0xfd20, 0xce, 0, 48),    // Google
];

const GLOBAL_UNICAST: Cidr = Cidr::v6(0x2000, 0, 0, 3);
const SIX_TO_FOUR: Cidr = Cidr::v6(0x2002, 0, 0, 16);
const COMPATIBLE: Cidr = Cidr::v6(0, 0, 0, 96);
const NAT64: Cidr = Cidr::v6(0x64, 0xff9b, 0, 96);
const NAT64_LOCAL: Cidr = Cidr::v6(0x64, 0xff9b, 1, 48);
