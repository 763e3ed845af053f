//! Grants: which addresses a tenant may listen on and connect to. What is not granted is denied.
//!
//! ```text
//! --allow-listen   HOST:PORTS    HOST is an address, a network, or localhost
//! --allow-connect  HOST:PORTS    HOST is one of those, a name, *.suffix, or public
//!
//! 10.0.0.5:6379        one address                   redis.internal:6379   one name, not its sub-domains
//! 10.0.0.0/8:80        a network                     *.example.com:443     its sub-domains, not itself
//! [fd00::1]:443        IPv6 goes in brackets         localhost:8000-8099   127.0.0.0/8 and ::1
//! [fd00::/8]:443       an IPv6 network               public:*              the public Internet
//! ```
//!
//! What an operator may not expect:
//!
//! * A name grant covers the addresses the name resolves to, except loopback, link-local, metadata services and
//!   multicast: whoever runs the name's DNS could point it there. Those need an address grant as well.
//! * An address grant does not let the guest look up names, which could carry data out. `public` and name grants do.
//! * `public` leaves out everything that is not a global unicast address, and every form that embeds an IPv4 address.
//! * Listening on `0.0.0.0` or `[::]` needs a grant for exactly that, or for all addresses (`0.0.0.0/0`).
//! * `::ffff:10.0.0.1` is 10.0.0.1. Connecting to `0.0.0.0` is connecting to 127.0.0.1, as Linux has it.

mod cidr;
mod grant;
mod name;
mod scope;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

pub use cidr::{Cidr, CidrError};
pub use grant::{ConnectGrant, GrantError, ListenGrant};
pub use name::NameError;

use name::Name;

/// What a tenant may listen on and connect to. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    /// Where it may listen.
    pub listen: Vec<ListenGrant>,
    /// What it may connect to.
    pub connect: Vec<ConnectGrant>,
}

impl Grants {
    /// What `conet-host run` gives unasked: listening on loopback ports from 1024, and on a free one (port 0).
    pub fn loopback() -> Grants {
        Grants {
            listen: vec![ListenGrant::localhost(0, 0), ListenGrant::localhost(1024, u16::MAX)],
            connect: Vec::new(),
        }
    }

    /// May the tenant listen on `addr`?
    pub fn allows_listen(&self, addr: SocketAddr) -> Result<(), Denied> {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        if self.listen.iter().any(|grant| grant.covers(addr)) { Ok(()) } else { Err(Denied::Listen { addr }) }
    }

    /// May the tenant connect to `addr`, which it gave as an address?
    pub fn allows_connect_addr(&self, addr: SocketAddr) -> Result<(), Denied> {
        let addr = destination(addr);
        if addr.port() == 0 {
            return Err(Denied::PortZero);
        }
        if self.covers_addr(addr) { Ok(()) } else { Err(Denied::Connect { addr }) }
    }

    /// May the tenant look up `name` to connect to its `port`? What it resolves to is then for [`Grants::checks_resolved`].
    ///
    /// The text of an address is checked as that address.
    pub fn allows_name(&self, name: &str, port: u16) -> Result<(), Denied> {
        if let Ok(ip) = name.parse::<IpAddr>() {
            return self.allows_connect_addr(SocketAddr::new(ip, port));
        }
        let name = Name::parse(name)?;
        if port == 0 {
            return Err(Denied::PortZero);
        }
        if self.connect.iter().any(|grant| grant.covers_lookup(&name, port)) {
            return Ok(());
        }
        Err(Denied::Name { name: name.to_string(), port })
    }

    /// May the tenant connect to `addr`, one of the addresses that `name` resolved to?
    pub fn checks_resolved(&self, name: &str, addr: SocketAddr) -> Result<(), Denied> {
        if name.parse::<IpAddr>().is_ok() {
            return self.allows_connect_addr(addr);
        }
        let name = Name::parse(name)?;
        let addr = destination(addr);
        if addr.port() == 0 {
            return Err(Denied::PortZero);
        }
        if self.covers_addr(addr) {
            return Ok(());
        }
        let by_name = self.connect.iter().any(|grant| grant.covers_name(&name, addr.port()));
        if by_name && !scope::is_guarded(addr.ip()) {
            return Ok(());
        }
        Err(Denied::Resolved { name: name.to_string(), addr })
    }

    /// Whether an address, network, `localhost` or `public` grant covers `addr`.
    fn covers_addr(&self, addr: SocketAddr) -> bool {
        self.connect.iter().any(|grant| grant.covers_addr(addr))
    }
}

/// Why the tenant may not. [`Denied::grant`] is what would allow it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denied {
    /// No grant covers listening there.
    #[error("listening on {addr} is not granted")]
    Listen {
        /// In canonical form.
        addr: SocketAddr,
    },
    /// No grant covers connecting there.
    #[error("connecting to {addr} is not granted")]
    Connect {
        /// In canonical form.
        addr: SocketAddr,
    },
    /// No grant lets the name be looked up for that port.
    #[error("connecting to {name}:{port} is not granted")]
    Name {
        /// In lower case, without a trailing dot.
        name: String,
        /// The port asked for.
        port: u16,
    },
    /// The name may be looked up, but none of the grants covers this address.
    #[error("{name} resolves to {addr}, which is not granted")]
    Resolved {
        /// In lower case, without a trailing dot.
        name: String,
        /// In canonical form.
        addr: SocketAddr,
    },
    /// Nothing listens on port 0.
    #[error("port 0 cannot be connected to")]
    PortZero,
    /// The guest gave something that is not a name.
    #[error(transparent)]
    NotAName(#[from] NameError),
}

impl Denied {
    /// The grant that would allow it: its kind, which is the name of a flag and of a key, and what it says.
    pub fn grant(&self) -> Option<(&'static str, String)> {
        match self {
            Denied::Listen { addr } => Some(("allow-listen", addr.to_string())),
            Denied::Connect { addr } | Denied::Resolved { addr, .. } => {
                Some(("allow-connect", addr.to_string()))
            }
            Denied::Name { name, port } => Some(("allow-connect", format!("{name}:{port}"))),
            Denied::PortZero | Denied::NotAName(_) => None,
        }
    }
}

impl Denied {
    /// May it pass where grants only warn? Not what is no name or port; not to `closed`, the host's own addresses, nor to where
    /// the machine tells secrets to any of its processes.
    pub fn may_pass(&self, closed: &[SocketAddr]) -> bool {
        match self {
            Denied::Listen { .. } | Denied::Name { .. } => true,
            Denied::Connect { addr } | Denied::Resolved { addr, .. } => {
                !closed.iter().any(|closed| leads_to(*addr, *closed))
                    && (scope::is_loopback(addr.ip()) || !scope::is_guarded(addr.ip()))
            }
            Denied::PortZero | Denied::NotAName(_) => false,
        }
    }

    /// A grant of the name would not do.
    pub fn needs_address(&self) -> bool {
        matches!(self, Denied::Resolved { addr, .. } if scope::is_guarded(addr.ip()))
    }
}

/// Whether who listens at `bound` is reached at `addr`. What is bound everywhere is told of its own to the network anyway; here it is
/// this machine's loopback that leads there.
fn leads_to(addr: SocketAddr, bound: SocketAddr) -> bool {
    let everywhere = bound.ip().to_canonical().is_unspecified();
    addr.port() == bound.port()
        && (destination(addr).ip() == destination(bound).ip() || everywhere && scope::is_loopback(addr.ip()))
}

/// Where connecting to `addr` really leads: IPv4 as IPv4, the unspecified address as loopback, no scope or flow.
fn destination(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

#[cfg(test)]
mod tests;
