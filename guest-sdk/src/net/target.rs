//! What to connect to, and where to listen.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};

use crate::ErrorCode;

/// An address, or a name that the host resolves.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// This address.
    Address(SocketAddr),
    /// The addresses of a name, tried in the resolver's order.
    Name {
        /// A DNS name.
        name: String,
        /// TCP port.
        port: u16,
    },
}

impl Target {
    /// The address. A name is no place to listen on: `invalid-argument`.
    pub(crate) fn address(self) -> io::Result<SocketAddr> {
        match self {
            Target::Address(address) => Ok(address),
            Target::Name { .. } => Err(ErrorCode::InvalidArgument.into()),
        }
    }
}

/// What can be given as an address: `"127.0.0.1:7000"`, `"db.example:5432"`, `("db.example", 5432)`, a `SocketAddr`.
///
/// Unlike std's `ToSocketAddrs` it resolves nothing: names go to the host, which checks what they resolve to.
///
/// ```
/// use conet::net::{Target, ToTarget};
///
/// let target = "db.example:5432".to_target()?;
/// assert_eq!(target, Target::Name { name: "db.example".into(), port: 5432 });
/// # std::io::Result::Ok(())
/// ```
pub trait ToTarget {
    /// The target, or `invalid-argument`.
    fn to_target(&self) -> io::Result<Target>;
}

impl ToTarget for Target {
    fn to_target(&self) -> io::Result<Target> {
        Ok(self.clone())
    }
}

impl ToTarget for str {
    fn to_target(&self) -> io::Result<Target> {
        if let Ok(address) = self.parse() {
            return Ok(Target::Address(address));
        }
        let (name, port) = self.rsplit_once(':').ok_or(ErrorCode::InvalidArgument)?;
        let port: u16 = port.parse().map_err(|_| ErrorCode::InvalidArgument)?;
        // In one string an IPv6 address has brackets, or its end and the port could not be told apart.
        if name.contains(':') {
            return Err(ErrorCode::InvalidArgument.into());
        }
        (name, port).to_target()
    }
}

impl ToTarget for String {
    fn to_target(&self) -> io::Result<Target> {
        self.as_str().to_target()
    }
}

impl ToTarget for (&str, u16) {
    fn to_target(&self) -> io::Result<Target> {
        let (name, port) = *self;
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(Target::Address(SocketAddr::new(ip, port)));
        }
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains([':', '[', ']']) {
            return Err(ErrorCode::InvalidArgument.into());
        }
        Ok(Target::Name { name: name.into(), port })
    }
}

impl ToTarget for (String, u16) {
    fn to_target(&self) -> io::Result<Target> {
        (self.0.as_str(), self.1).to_target()
    }
}

impl ToTarget for (IpAddr, u16) {
    fn to_target(&self) -> io::Result<Target> {
        Ok(Target::Address(SocketAddr::from(*self)))
    }
}

impl ToTarget for SocketAddr {
    fn to_target(&self) -> io::Result<Target> {
        Ok(Target::Address(*self))
    }
}

impl ToTarget for SocketAddrV4 {
    fn to_target(&self) -> io::Result<Target> {
        Ok(Target::Address(SocketAddr::V4(*self)))
    }
}

impl ToTarget for SocketAddrV6 {
    fn to_target(&self) -> io::Result<Target> {
        Ok(Target::Address(SocketAddr::V6(*self)))
    }
}

impl<T: ToTarget + ?Sized> ToTarget for &T {
    fn to_target(&self) -> io::Result<Target> {
        (**self).to_target()
    }
}

/// The longest DNS name in text form.
const NAME_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str, port: u16) -> Target {
        Target::Name { name: name.into(), port }
    }

    #[test]
    fn addresses_and_names_are_told_apart() {
        let address = |text: &str| Target::Address(text.parse().unwrap());
        assert_eq!("127.0.0.1:80".to_target().unwrap(), address("127.0.0.1:80"));
        assert_eq!("[::1]:80".to_target().unwrap(), address("[::1]:80"));
        assert_eq!(("::1", 80).to_target().unwrap(), address("[::1]:80"));
        assert_eq!("localhost:80".to_target().unwrap(), name("localhost", 80));
        assert_eq!(String::from("a.b:1").to_target().unwrap(), name("a.b", 1));
    }

    #[test]
    fn what_is_neither_is_an_invalid_argument() {
        let long = format!("{}:80", "a".repeat(NAME_BYTES_MAX + 1));
        for text in
            ["", "host", "host:", "host:http", "host:65536", ":80", "::1:80", "[::1:80", "a:b:80", &long]
        {
            let error = text.to_target().expect_err(text);
            assert_eq!(ErrorCode::of(&error), Some(ErrorCode::InvalidArgument), "{text}");
        }
    }

    #[test]
    fn a_name_is_no_place_to_listen() {
        let error = name("localhost", 80).address().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
