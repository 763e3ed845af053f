//! One grant: its text, and what it covers.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use thiserror::Error;

use super::{
    cidr::Cidr,
    name::{Name, NameError},
    scope,
};

/// Where a tenant may listen: `127.0.0.1:7000`, `10.0.0.0/8:8000-8099`, `[::]:443`, `localhost:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenGrant {
    host: ListenHost,
    ports: Ports,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ListenHost {
    Net(Cidr),
    Localhost,
}

impl ListenGrant {
    pub(super) fn localhost(first: u16, last: u16) -> ListenGrant {
        ListenGrant { host: ListenHost::Localhost, ports: Ports { first, last } }
    }

    pub(super) fn covers(&self, addr: SocketAddr) -> bool {
        let host = match self.host {
            // The unspecified address means every address: being inside a small network does not suffice.
            ListenHost::Net(net) if addr.ip().is_unspecified() => {
                net.contains(addr.ip()) && (net.is_everything() || net.single().is_some())
            }
            ListenHost::Net(net) => net.contains(addr.ip()),
            ListenHost::Localhost => scope::is_loopback(addr.ip()),
        };
        host && self.ports.contain(addr.port())
    }
}

impl FromStr for ListenGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<ListenGrant, GrantError> {
        let (host, ports) = split(text)?;
        let host = match host {
            Host::Net(net) => ListenHost::Net(net),
            Host::Localhost => ListenHost::Localhost,
            Host::Public | Host::Name(_) | Host::Below(_) => return Err(GrantError::ListenName(text.into())),
        };
        Ok(ListenGrant { host, ports })
    }
}

impl fmt::Display for ListenGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            ListenHost::Net(net) => write!(f, "{net}:{}", self.ports),
            ListenHost::Localhost => write!(f, "localhost:{}", self.ports),
        }
    }
}

/// What a tenant may connect to: as [`ListenGrant`], or `redis.internal:6379`, `*.example.com:443`, `public:443`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectGrant {
    host: Host,
    ports: Ports,
}

impl ConnectGrant {
    /// Whether it covers an address, in canonical form, without regard to names.
    pub(super) fn covers_addr(&self, addr: SocketAddr) -> bool {
        let host = match &self.host {
            Host::Net(net) => net.contains(addr.ip()),
            Host::Localhost => scope::is_loopback(addr.ip()),
            Host::Public => scope::is_public(addr.ip()),
            Host::Name(_) | Host::Below(_) => false,
        };
        host && self.ports.contain(addr.port())
    }

    /// Whether it covers a name as such.
    pub(super) fn covers_name(&self, name: &Name, port: u16) -> bool {
        let host = match &self.host {
            Host::Name(granted) => granted == name,
            Host::Below(suffix) => name.is_below(suffix),
            Host::Net(_) | Host::Localhost | Host::Public => false,
        };
        host && self.ports.contain(port)
    }

    /// Whether it lets a name be looked up. `localhost` never leaves the machine, so a loopback grant suffices for it.
    pub(super) fn covers_lookup(&self, name: &Name, port: u16) -> bool {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        self.covers_name(name, port)
            || (self.is_public() && self.ports.contain(port))
            || (name.is_localhost() && loopback.iter().any(|ip| self.covers_addr(SocketAddr::new(*ip, port))))
    }

    fn is_public(&self) -> bool {
        self.host == Host::Public
    }
}

impl FromStr for ConnectGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<ConnectGrant, GrantError> {
        let (host, ports) = split(text)?;
        if let Host::Net(net) = host
            && net.single().is_some_and(|ip| ip.is_unspecified())
        {
            return Err(GrantError::Unspecified(text.into()));
        }
        if ports.last == 0 {
            return Err(GrantError::PortZero(text.into()));
        }
        Ok(ConnectGrant { host, ports })
    }
}

impl fmt::Display for ConnectGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Net(net) => write!(f, "{net}:{}", self.ports),
            Host::Localhost => write!(f, "localhost:{}", self.ports),
            Host::Public => write!(f, "public:{}", self.ports),
            Host::Name(name) => write!(f, "{name}:{}", self.ports),
            Host::Below(name) => write!(f, "*.{name}:{}", self.ports),
        }
    }
}

/// Why a grant could not be read. Each says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GrantError {
    /// Ports are never implied.
    #[error("`{0}` names no port: write `{0}:443`, `{0}:8000-8099`, or `{0}:*` for every port")]
    NoPort(String),
    /// The colons of IPv6 and of the port cannot be told apart.
    #[error("`{0}`: IPv6 goes in brackets: `[fd00::1]:443`, or `[fd00::/8]:443` for a network")]
    Brackets(String),
    /// Not a port, range, or `*`.
    #[error("`{ports}` in `{text}` is not a port: write `:443`, `:8000-8099`, or `:*` for every port")]
    Ports {
        /// The whole grant.
        text: String,
        /// What stands after the colon.
        ports: String,
    },
    /// A listener may ask for a free port; nothing can connect to port 0.
    #[error("`{0}`: port 0 cannot be connected to")]
    PortZero(String),
    /// No such prefix length.
    #[error("`{0}`: a network's prefix is 0 to 32 for IPv4 and 0 to 128 for IPv6, as in `10.0.0.0/8:443`")]
    Prefix(String),
    /// The address has bits outside of the network.
    #[error(
        "`{text}` has bits beyond its prefix: write `{network}` for the network, or the address without a prefix"
    )]
    HostBits {
        /// The whole grant.
        text: String,
        /// The network it is in.
        network: String,
    },
    /// `*` would hide what is granted.
    #[error(
        "`{0}`: write `public:443` for the Internet, `*.example.com:443` for sub-domains, or `0.0.0.0/0:443` and `[::/0]:443` \
         for every address, this host's own included"
    )]
    Star(String),
    /// A URL.
    #[error("`{0}` is a URL: write only the host and the port, as in `example.com:443`")]
    Url(String),
    /// Names cannot be listened on.
    #[error(
        "`{0}`: a listener needs an address (`0.0.0.0:80`), a network (`10.0.0.0/8:80`) or `localhost:8080`"
    )]
    ListenName(String),
    /// Linux would connect to loopback.
    #[error(
        "`{0}`: the unspecified address is no destination: write `localhost` for this host, or `0.0.0.0/0` for every address"
    )]
    Unspecified(String),
    /// Neither an address nor a name.
    #[error("`{text}`: {source}")]
    Name {
        /// The whole grant.
        text: String,
        /// What is wrong with the name.
        source: NameError,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Net(Cidr),
    Localhost,
    Public,
    Name(Name),
    /// Every sub-domain.
    Below(Name),
}

/// Ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    fn contain(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    fn parse(text: &str) -> Option<Ports> {
        if text == "*" {
            return Some(Ports { first: 0, last: u16::MAX });
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = Ports { first: number(first)?, last: number(last)? };
        (ports.first <= ports.last).then_some(ports)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (0, u16::MAX) => f.write_str("*"),
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

fn split(text: &str) -> Result<(Host, Ports), GrantError> {
    if text.contains("://") {
        return Err(GrantError::Url(text.into()));
    }
    let (host, ports) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']').ok_or_else(|| GrantError::Brackets(text.into()))?;
            if after.is_empty() {
                return Err(GrantError::NoPort(text.into()));
            }
            let ports = after.strip_prefix(':').ok_or_else(|| GrantError::Brackets(text.into()))?;
            let ip = inside.split('/').next().unwrap_or_default();
            if ip.parse::<Ipv6Addr>().is_err() {
                return Err(GrantError::Brackets(text.into()));
            }
            (inside, ports)
        }
        None if text.matches(':').count() > 1 => return Err(GrantError::Brackets(text.into())),
        None => text.split_once(':').ok_or_else(|| GrantError::NoPort(text.into()))?,
    };
    let ports =
        Ports::parse(ports).ok_or_else(|| GrantError::Ports { text: text.into(), ports: ports.into() })?;
    Ok((parse_host(text, host)?, ports))
}

fn parse_host(text: &str, host: &str) -> Result<Host, GrantError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(Host::Net(Cidr::host(ip)));
    }
    if let Some((ip, prefix)) = host.split_once('/') {
        return parse_net(text, ip, prefix).map(Host::Net);
    }
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(Host::Localhost);
    }
    if host.eq_ignore_ascii_case("public") {
        return Ok(Host::Public);
    }
    let parse = |name| Name::parse(name).map_err(|source| GrantError::Name { text: text.into(), source });
    match host.strip_prefix("*.") {
        Some(suffix) if !suffix.contains('*') => parse(suffix).map(Host::Below),
        None if !host.contains('*') => parse(host).map(Host::Name),
        _ => Err(GrantError::Star(text.into())),
    }
}

fn parse_net(text: &str, ip: &str, prefix: &str) -> Result<Cidr, GrantError> {
    let (Ok(ip), Some(prefix)) = (ip.parse::<IpAddr>(), number(prefix)) else {
        return Err(GrantError::Prefix(text.into()));
    };
    let prefix = u8::try_from(prefix).map_err(|_| GrantError::Prefix(text.into()))?;
    Cidr::new(ip, prefix).map_err(|meant| match meant {
        Some(network) => GrantError::HostBits { text: text.into(), network: network.to_string() },
        None => GrantError::Prefix(text.into()),
    })
}

/// Digits only: `u16::from_str` would also take a plus sign.
fn number(text: &str) -> Option<u16> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}
