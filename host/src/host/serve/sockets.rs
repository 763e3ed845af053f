//! Listening sockets of handlers, which outlive the versions of their tenants: a reload hands them on, with all that waits
//! in them.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
};

use super::super::{bind, plan::Plan};
use crate::{config::file::Served, exit::StartError};

/// The open ones.
#[derive(Default)]
pub(super) struct Sockets(HashMap<Key, TcpListener>);

/// An address as it is written. Of port 0, which is another one each time, whose it is and which of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    of: Option<(String, usize)>,
}

impl Sockets {
    /// Those of these tenants: open ones as they are, the others bound now. An error leaves all as it was.
    pub(super) fn for_plans(&self, plans: &[Plan]) -> Result<Sockets, StartError> {
        let mut sockets = HashMap::new();
        for plan in plans {
            let keepalive = plan.served.config.limits.keepalive;
            for key in keys(&plan.served) {
                let socket = match self.0.get(&key) {
                    Some(open) => open.try_clone()?,
                    None => bind(key.address, keepalive)?,
                };
                sockets.insert(key, socket);
            }
        }
        Ok(Sockets(sockets))
    }

    /// Closes those of these addresses here: peers find nobody once their tenant has closed its own.
    pub(super) fn close(&mut self, addresses: &[SocketAddr]) {
        self.0.retain(|_, socket| !socket.local_addr().is_ok_and(|address| addresses.contains(&address)));
    }

    /// A tenant's, in the order of its addresses.
    pub(super) fn of(&self, served: &Served) -> io::Result<Vec<TcpListener>> {
        let socket = |key| self.0.get(&key).expect("all were bound").try_clone();
        keys(served).map(socket).collect()
    }
}

fn keys(served: &Served) -> impl Iterator<Item = Key> {
    let name = &served.config.name;
    served.listen.iter().enumerate().map(move |(nth, at)| {
        let of = (at.value.port() == 0).then(|| (name.clone(), nth));
        Key { address: at.value, of }
    })
}
