//! Listening sockets that the copies of a program share.
//!
//! A copy that binds an address meets the socket another copy has bound there: so all of them accept from one socket,
//! port 0 is resolved once, and a second process still finds the address in use. A copy that binds the same address
//! again while it still has the first gets a second socket, and so do the others. The last copy to drop its listener
//! frees the address.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::given::{Bound, Held};
use crate::ids;

/// The shared sockets of a tenant.
#[derive(Default)]
pub struct SharedListeners(Mutex<HashMap<Key, Shared>>);

/// An address, and which of the sockets that a copy has there.
type Key = (SocketAddr, usize);

struct Shared {
    socket: TcpListener,
    /// The copies that have it.
    copies: HashSet<u64>,
    /// It was given to this process.
    held: Option<Held>,
}

/// A copy's part in a shared socket.
pub struct Share {
    listeners: Arc<SharedListeners>,
    key: Key,
    copy: u64,
}

/// One of them: its address as it was asked for, which of the sockets there, and a duplicate.
type Duplicate = (SocketAddr, usize, TcpListener);

impl SharedListeners {
    /// Those that the program of another process has bound. They stay open until their shares are dropped, or those of the
    /// copies that have come to bind them.
    pub fn handed(sockets: Vec<Duplicate>) -> (Arc<Self>, Vec<Share>) {
        let listeners = Arc::new(Self::default());
        if sockets.is_empty() {
            return (listeners, Vec::new());
        }
        let keeper = ids::next();
        let keep = |(address, nth, socket)| {
            let key = (address, nth);
            listeners.lock().insert(key, Shared { socket, copies: HashSet::from([keeper]), held: None });
            Share { listeners: listeners.clone(), key, copy: keeper }
        };
        let shares = sockets.into_iter().map(keep).collect();
        (listeners, shares)
    }

    /// A duplicate of each, for another process; but for those given, which it finds as such.
    pub fn duplicates(&self) -> io::Result<Vec<Duplicate>> {
        let duplicate =
            |((address, nth), shared): (&Key, &Shared)| Ok((*address, *nth, shared.socket.try_clone()?));
        self.lock().iter().filter(|(_, shared)| shared.held.is_none()).map(duplicate).collect()
    }

    /// The socket of `copy` for `address`: one that another copy has bound and this one has not, or else what `bind`
    /// makes. Tells whether it is new.
    pub fn get_or_bind(
        self: &Arc<Self>,
        address: SocketAddr,
        copy: u64,
        bind: impl FnOnce() -> io::Result<Bound>,
    ) -> io::Result<(TcpListener, Share, bool)> {
        let mut sockets = self.lock();
        let has = |nth: &usize| sockets.get(&(address, *nth)).is_some_and(|one| one.copies.contains(&copy));
        let nth = (0..).find(|nth| !has(nth)).expect("a copy has finitely many");
        let key = (address, nth);
        let share = || Share { listeners: self.clone(), key, copy };
        match sockets.entry(key) {
            Entry::Occupied(mut shared) => {
                let socket = shared.get().socket.try_clone()?;
                shared.get_mut().copies.insert(copy);
                Ok((socket, share(), false))
            }
            Entry::Vacant(place) => {
                let Bound { listener, held } = bind()?;
                let copies = HashSet::from([copy]);
                place.insert(Shared { socket: listener.try_clone()?, copies, held });
                Ok((listener, share(), true))
            }
        }
    }

    /// Keeps the sockets that there are open until this is dropped, whoever gives them up: one version of a program
    /// hands them to the next.
    pub fn kept(self: &Arc<Self>) -> Vec<Share> {
        let keeper = ids::next();
        let mut sockets = self.lock();
        let keep = |(key, shared): (&Key, &mut Shared)| {
            shared.copies.insert(keeper);
            Share { listeners: self.clone(), key: *key, copy: keeper }
        };
        sockets.iter_mut().map(keep).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Shared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut sockets = self.listeners.lock();
        let Entry::Occupied(mut shared) = sockets.entry(self.key) else { return };
        shared.get_mut().copies.remove(&self.copy);
        if shared.get().copies.is_empty() {
            shared.remove();
        }
    }
}

/// `address` without what does not tell one socket from another: the flow label, and a scope outside of link-local.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(mut v6) => {
            v6.set_flowinfo(0);
            if !v6.ip().is_unicast_link_local() && !v6.ip().is_multicast() {
                v6.set_scope_id(0);
            }
            v6.into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, SocketAddrV6};

    const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn bind(address: SocketAddr) -> impl FnOnce() -> io::Result<Bound> {
        move || TcpListener::bind(address).map(|listener| Bound { listener, held: None })
    }

    fn port(socket: TcpListener) -> u16 {
        socket.local_addr().expect("it is bound").port()
    }

    #[test]
    fn copies_meet_at_each_of_their_sockets() {
        let shared = Arc::new(SharedListeners::default());
        let get = |copy| shared.get_or_bind(ANY, copy, bind(ANY)).expect("a free port");
        let (one, _keep_one, new) = get(1);
        let (other, _keep_other, also_new) = get(1);
        assert!(new && also_new);
        let (one, other) = (port(one), port(other));
        assert_ne!(one, other);
        let (second, _keep_second, new) = get(2);
        assert_eq!((port(second), new), (one, false));
        assert_eq!(port(get(2).0), other);
    }

    #[test]
    fn the_last_copy_frees_the_address() {
        let shared = Arc::new(SharedListeners::default());
        let (first, share_of_first, _) = shared.get_or_bind(ANY, 1, bind(ANY)).expect("a free port");
        let (second, share_of_second, _) = shared.get_or_bind(ANY, 2, bind(ANY)).expect("shared");
        let address = SocketAddr::new(ANY.ip(), port(first));
        drop((second, share_of_first));
        assert!(bind(address)().is_err(), "the second copy has it");
        drop(share_of_second);
        bind(address)().expect("nobody has it");
        assert!(shared.lock().is_empty());
    }

    /// The next version of a program finds the socket that the one before it has left.
    #[test]
    fn what_is_kept_is_there_for_the_next_one() {
        let shared = Arc::new(SharedListeners::default());
        let (first, share, _) = shared.get_or_bind(ANY, ids::next(), bind(ANY)).expect("a free port");
        let kept = shared.kept();
        drop(share);
        let (second, next, new) = shared.get_or_bind(ANY, ids::next(), bind(ANY)).expect("shared");
        assert_eq!((port(second), new), (port(first), false));
        drop(kept);
        assert_eq!(shared.lock().len(), 1);
        drop(next);
        assert!(shared.lock().is_empty());
    }

    /// So does the program of another process.
    #[test]
    fn what_was_bound_elsewhere_is_found() {
        let there = Arc::new(SharedListeners::default());
        let (first, _share, _) = there.get_or_bind(ANY, 1, bind(ANY)).expect("a free port");
        let first = port(first);
        let (here, kept) = SharedListeners::handed(there.duplicates().expect("there are descriptors"));
        let (second, share, new) = here.get_or_bind(ANY, 2, bind(ANY)).expect("it was handed on");
        assert_eq!((port(second), new), (first, false));
        drop(kept);
        assert_eq!(here.lock().len(), 1);
        drop(share);
        assert!(here.lock().is_empty());
        assert_eq!(there.lock().len(), 1, "the other's is still there");
    }

    /// Else the copies would get out of step.
    #[test]
    fn a_failed_bind_counts_for_nothing() {
        let shared = Arc::new(SharedListeners::default());
        let failed = shared.get_or_bind(ANY, 1, || Err(io::ErrorKind::AddrInUse.into()));
        assert!(failed.is_err() && shared.lock().is_empty());
        let (one, _keep, _) = shared.get_or_bind(ANY, 2, bind(ANY)).expect("a free port");
        let (same, _keep, new) = shared.get_or_bind(ANY, 1, bind(ANY)).expect("shared");
        assert_eq!((port(same), new), (port(one), false));
    }

    #[test]
    fn what_tells_no_sockets_apart_is_left_out() {
        for (text, flow, expected) in
            [("[::1]:7", 5, "[::1]:7"), ("[::1%9]:7", 0, "[::1]:7"), ("[fe80::1%3]:7", 5, "[fe80::1%3]:7")]
        {
            let mut address: SocketAddrV6 = text.parse().expect("valid");
            address.set_flowinfo(flow);
            assert_eq!(canonical(address.into()).to_string(), expected);
        }
        assert_eq!(canonical(ANY), ANY);
    }
}
