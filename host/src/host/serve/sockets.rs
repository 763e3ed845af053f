//! Listening sockets of handlers, which outlive the versions of their tenants: a reload hands them on, with all that waits
//! in them.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::Arc,
};

use super::super::{
    bind,
    handover::{Handed, Key},
    plan::Plan,
};
use crate::{
    config::file::Served,
    exit::StartError,
    imports::{
        given::{Bound, Given, Named},
        listeners::canonical,
    },
};

/// The open ones.
#[derive(Default)]
pub(super) struct Sockets(HashMap<Key, Arc<Bound>>);

impl Sockets {
    /// Those that the host before this one has handed on.
    pub(super) fn handed(handed: &mut Handed) -> Self {
        let sockets = handed.of_handlers().into_iter();
        Self(sockets.map(|(key, listener)| (key, Arc::new(Bound { listener, held: None }))).collect())
    }

    /// A duplicate of each, to be handed on; but for those given, which are handed on as such.
    pub(super) fn duplicates(&self) -> io::Result<Vec<(Key, OwnedFd)>> {
        let own = self.0.iter().filter(|(_, bound)| bound.held.is_none());
        own.map(|(key, bound)| Ok((key.clone(), bound.listener.try_clone()?.into()))).collect()
    }

    /// Those of these tenants: open ones as they are, the others given or bound now. An error leaves all as it was.
    pub(super) fn for_plans(&self, plans: &[Arc<Plan>], given: &Given) -> Result<Sockets, StartError> {
        let mut sockets = HashMap::new();
        for plan in plans {
            let keepalive = plan.served.config.limits.keepalive;
            for (address, key) in keys(&plan.served) {
                let socket = match self.0.get(&key) {
                    Some(open) => open.clone(),
                    None => Arc::new(bind(given, address, keepalive)?),
                };
                // No file has one twice; what is rolled back may.
                if sockets.contains_key(&key) {
                    let error = io::ErrorKind::AddrInUse.into();
                    return Err(StartError::Bind { address, error });
                }
                sockets.insert(key, socket);
            }
        }
        Ok(Sockets(sockets))
    }

    /// What finds those that are not among the others.
    pub(super) fn beside(&self, others: &Self) -> Vec<Key> {
        self.0.keys().filter(|key| !others.0.contains_key(key)).cloned().collect()
    }

    /// Closes those of these addresses here: peers find nobody once their tenant has closed its own.
    pub(super) fn close(&mut self, addresses: &[SocketAddr]) {
        let is_one =
            |bound: &Bound| bound.listener.local_addr().is_ok_and(|address| addresses.contains(&address));
        self.0.retain(|_, bound| !is_one(bound));
    }

    /// A tenant's, in the order of its addresses.
    pub(super) fn of(&self, served: &Served) -> io::Result<Vec<TcpListener>> {
        let socket = |(_, key)| self.0.get(&key).expect("all were bound").listener.try_clone();
        keys(served).map(socket).collect()
    }
}

/// Those given ones on which none of these tenants listens, or may listen.
pub(super) fn unasked(given: &Given, plans: &[Arc<Plan>]) -> Vec<Named> {
    let asks = |plan: &Plan, address: SocketAddr| {
        let Served { listen, config, .. } = &plan.served;
        match plan.role.is_handler() {
            true => listen.iter().any(|at| canonical(at.value) == address),
            false => config.grants.allows_listen(address).is_ok(),
        }
    };
    let mut given = given.all();
    given.retain(|named| !plans.iter().any(|plan| asks(plan, named.address)));
    given
}

/// Each address of a tenant, and what finds its socket.
pub(super) fn keys(served: &Served) -> impl Iterator<Item = (SocketAddr, Key)> {
    let name = &served.config.name;
    served.listen.iter().enumerate().map(move |(nth, at)| {
        let of = (at.value.port() == 0).then(|| (name.clone(), nth));
        (at.value, Key::Handler { address: at.value, of })
    })
}
