//! A network: an address and how many of its leading bits count.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use thiserror::Error;

/// A network; a single address is one whose every bit counts. Mapped IPv4 is held as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
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
    pub fn contains(self, ip: IpAddr) -> bool {
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

/// Why a text is no network. Each says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CidrError {
    /// Neither of the two.
    #[error("`{0}` is no address and no network: write it as in `10.0.0.5`, `10.0.0.0/8` or `fd00::/8`")]
    Neither(String),
    /// The address has bits outside of the network.
    #[error("`{text}` has bits beyond its prefix: write `{network}`")]
    HostBits {
        /// All of it.
        text: String,
        /// The network it is in.
        network: String,
    },
}

/// `10.0.0.5`, `10.0.0.0/8`, `::1` or `fd00::/8`.
impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        if let Ok(ip) = text.parse() {
            return Ok(Cidr::host(ip));
        }
        let neither = || CidrError::Neither(text.into());
        let (ip, prefix) = text.split_once('/').ok_or_else(neither)?;
        let (ip, bits) = (ip.parse().map_err(|_| neither())?, prefix.parse().map_err(|_| neither())?);
        // A sign, or zeros before it.
        if u8::to_string(&bits) != prefix {
            return Err(neither());
        }
        Cidr::new(ip, bits).map_err(|meant| match meant {
            Some(network) => CidrError::HostBits {
                text: text.into(),
                network: network.to_string().replace(['[', ']'], ""),
            },
            None => neither(),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_read_by_itself() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.0.0.5", "10.0.0.5", "10.0.0.6"),
            ("::1", "::1", "::2"),
            ("fd00::/8", "fd12::1", "fe00::1"),
            ("0.0.0.0/0", "9.9.9.9", "::1"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.0.0.1"),
        ] {
            let network: Cidr = text.parse().expect(text);
            let contains = |ip: &str| network.contains(ip.parse().expect("an address"));
            assert!(contains(inside) && !contains(outside), "{text}");
        }
        for text in
            ["", "ten", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0:80", "[::1]", "::1/129", "/8"]
        {
            let error = text.parse::<Cidr>().expect_err(text).to_string();
            assert!(error.contains("10.0.0.0/8"), "{error}");
        }
        let error = "fd00::1/8".parse::<Cidr>().expect_err("bits beyond");
        assert!(error.to_string().ends_with("write `fd00::/8`"), "{error}");
    }
}
