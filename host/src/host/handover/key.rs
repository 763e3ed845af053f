//! Which listening socket is which: as each is found again.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use rustix::net::sockopt;
use serde::{Deserialize, Serialize};

use crate::imports::listeners::canonical;

/// What a socket is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in super::super) enum Key {
    /// Handlers: an address as it is written. Of port 0, which is another one each time, whose it is and which of them.
    Handler {
        /// As in the file.
        address: SocketAddr,
        /// The tenant, and the place among its addresses.
        of: Option<(String, usize)>,
    },
    /// Copies of a program, that have bound it.
    Program {
        /// Its name.
        tenant: String,
        /// As it was asked for.
        address: SocketAddr,
        /// Of those that a copy has there.
        nth: usize,
    },
    /// Whoever comes to listen there: it was given to the process, by systemd.
    Given {
        /// What systemd calls it.
        name: String,
        /// Where it listens.
        address: SocketAddr,
    },
    /// The admin, at the address that the file has.
    Admin(SocketAddr),
    /// Probes, at the address that the file has.
    Probes(SocketAddr),
}

impl Key {
    fn address(&self) -> SocketAddr {
        match self {
            Key::Handler { address, .. } | Key::Program { address, .. } | Key::Given { address, .. } => {
                *address
            }
            Key::Admin(address) | Key::Probes(address) => *address,
        }
    }
}

/// Sockets that the host before this one has handed on. What is not taken of them stays the other's.
#[derive(Debug, Default)]
pub(in super::super) struct Handed(HashMap<Key, TcpListener>);

impl Handed {
    /// Adds one, which must be what its key says.
    pub(super) fn add(&mut self, key: Key, socket: OwnedFd) -> io::Result<()> {
        let wrong = || io::Error::other(format!("what was handed on as {key:?} is another socket"));
        if !sockopt::socket_acceptconn(&socket)? {
            return Err(wrong());
        }
        let socket = TcpListener::from(socket);
        let (bound, mut wanted) = (canonical(socket.local_addr()?), canonical(key.address()));
        if wanted.port() == 0 {
            wanted.set_port(bound.port());
        }
        if bound != wanted {
            return Err(wrong());
        }
        self.0.insert(key, socket);
        Ok(())
    }

    /// The one of this key.
    pub(in super::super) fn take(&mut self, key: &Key) -> Option<TcpListener> {
        self.0.remove(key)
    }

    /// All that a program had bound: what it asked for, which of several there, and the socket.
    pub(in super::super) fn of_program(&mut self, name: &str) -> Vec<(SocketAddr, usize, TcpListener)> {
        let is_its =
            |key: &Key, _: &mut TcpListener| matches!(key, Key::Program { tenant, .. } if tenant == name);
        let sockets = self.0.extract_if(is_its);
        let parts = |(key, socket): (Key, TcpListener)| match key {
            Key::Program { address, nth, .. } => Some((address, nth, socket)),
            _ => None,
        };
        sockets.filter_map(parts).collect()
    }

    /// All that were given to it, each with its name.
    pub(in super::super) fn given(&mut self) -> Vec<(String, TcpListener)> {
        let sockets = self.0.extract_if(|key, _| matches!(key, Key::Given { .. }));
        let parts = |(key, socket): (Key, TcpListener)| match key {
            Key::Given { name, .. } => Some((name, socket)),
            _ => None,
        };
        sockets.filter_map(parts).collect()
    }

    /// All of handlers.
    pub(in super::super) fn of_handlers(&mut self) -> HashMap<Key, TcpListener> {
        self.0.extract_if(|key, _| matches!(key, Key::Handler { .. })).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_listens_at_the_address_is_taken() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let socket = || TcpListener::bind(any).expect("a free port");
        let mut handed = Handed::default();
        let elsewhere = "127.0.0.1:1".parse().expect("an address");
        handed.add(Key::Admin(elsewhere), socket().into()).expect_err("it listens elsewhere");
        let plain = std::net::UdpSocket::bind(any).expect("a free port");
        handed.add(Key::Admin(any), plain.into()).expect_err("it does not listen");
        handed.add(Key::Admin(any), socket().into()).expect("it does");
        assert!(handed.take(&Key::Probes(any)).is_none());
        assert!(handed.take(&Key::Admin(any)).is_some());
    }

    #[test]
    fn a_program_finds_its_own() {
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut handed = Handed::default();
        for (tenant, nth) in [("one", 0), ("one", 1), ("other", 0)] {
            let key = Key::Program { tenant: tenant.to_owned(), address: any, nth };
            handed.add(key, TcpListener::bind(any).expect("a free port").into()).expect("it listens");
        }
        let key = Key::Handler { address: any, of: Some(("one".to_owned(), 0)) };
        handed.add(key, TcpListener::bind(any).expect("a free port").into()).expect("it listens");
        let mut numbers: Vec<usize> = handed.of_program("one").iter().map(|(_, nth, _)| *nth).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [0, 1]);
        assert_eq!(handed.of_program("one").len(), 0);
        assert_eq!((handed.of_handlers().len(), handed.of_program("other").len()), (1, 1));
    }
}
