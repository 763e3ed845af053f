//! What a connection holds of its tenant's limits while it lives.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Context;
use crate::{config::warn::Warn, quota::Permit};

/// A connection's part of the limits: dropping it gives it back.
pub struct Admission {
    _connection: Permit,
    _address: Option<AddressPermit>,
}

impl Admission {
    /// For a connection from that address, which may have as many as it may: then none, and that is counted.
    pub(super) fn of(context: &Context, connection: Permit, peer: SocketAddr) -> Option<Self> {
        let Some(addresses) = &context.addresses else { return Some(connection.into()) };
        let Some(address) = addresses.try_acquire(peer) else {
            context.metrics.refused_per_ip.increment();
            return None;
        };
        if let Some(count) = address.beyond() {
            let what = format_args!("{count} connections at once from {}", peer.ip());
            context.warnings.would_deny(Warn::ConnectionsPerIp, what, count);
        }
        Some(Self { _connection: connection, _address: Some(address) })
    }
}

impl From<Permit> for Admission {
    /// For a connection that counts by itself alone.
    fn from(connection: Permit) -> Self {
        Self { _connection: connection, _address: None }
    }
}

/// Connections by the address they come from, of which each may have so many.
pub struct Addresses {
    max: usize,
    /// More than `max` are let in, too.
    lenient: bool,
    counts: Arc<Counts>,
}

/// How many each address has of all versions of a tenant.
#[derive(Default)]
pub struct Counts(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address.
struct AddressPermit {
    addresses: Arc<Addresses>,
    address: IpAddr,
    /// As many there were, with it, when it came.
    count: usize,
}

impl AddressPermit {
    /// How many its address had with it, if that is more than the limit.
    fn beyond(&self) -> Option<usize> {
        (self.count > self.addresses.max).then_some(self.count)
    }
}

impl Addresses {
    /// With this limit for each, counted there. If it is lenient, others are let in, too.
    pub fn new(max: usize, lenient: bool, counts: &Arc<Counts>) -> Arc<Self> {
        Arc::new(Self { max, lenient, counts: counts.clone() })
    }

    /// Takes one for the peer, if its address has one left.
    fn try_acquire(self: &Arc<Self>, peer: SocketAddr) -> Option<AddressPermit> {
        let address = one_household(peer.ip());
        let mut counts = self.counts();
        let count = counts.entry(address).or_default();
        if *count >= self.max && !self.lenient {
            return None;
        }
        *count += 1;
        let count = *count;
        drop(counts);
        Some(AddressPermit { addresses: self.clone(), address, count })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut counts = self.addresses.counts();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// What one customer has: an address of IPv4, or a network of IPv6 of 64 bits.
fn one_household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_address_has_its_own_and_gives_back() {
        let addresses = Addresses::new(2, false, &Arc::default());
        let first = addresses.try_acquire(peer("10.0.0.1:1")).expect("free");
        let _second = addresses.try_acquire(peer("[::ffff:10.0.0.1]:2")).expect("free");
        assert!(addresses.try_acquire(peer("10.0.0.1:3")).is_none());
        let other = addresses.try_acquire(peer("10.0.0.2:1")).expect("another address");
        drop(first);
        drop(other);
        assert!(addresses.try_acquire(peer("10.0.0.1:4")).is_some());
        assert_eq!(addresses.counts().len(), 1, "what has no connection takes no room");
    }

    #[test]
    fn a_lenient_limit_tells_who_is_beyond_it() {
        let addresses = Addresses::new(1, true, &Arc::default());
        let permits = [1, 2, 3].map(|_| addresses.try_acquire(peer("10.0.0.1:1")).expect("all are let in"));
        assert_eq!(permits.each_ref().map(AddressPermit::beyond), [None, Some(2), Some(3)]);
    }

    /// A customer has a whole network of IPv6, and could come from another address each time.
    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let addresses = Addresses::new(1, false, &Arc::default());
        let _one = addresses.try_acquire(peer("[2001:db8:1:2::1]:1")).expect("free");
        assert!(addresses.try_acquire(peer("[2001:db8:1:2:ffff::9]:1")).is_none());
        assert!(addresses.try_acquire(peer("[2001:db8:1:3::1]:1")).is_some());
    }
}
