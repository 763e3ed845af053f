//! The addresses that a tenant listens on now.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// They are here as often as there are listeners: copies of a program may share an address.
#[derive(Debug, Default)]
pub struct Listening(Mutex<Vec<SocketAddr>>);

/// A listener's address. It goes when this drops.
#[derive(Debug)]
pub struct Listens {
    listening: Arc<Listening>,
    address: SocketAddr,
}

impl Listening {
    /// Adds a listener's.
    pub fn add(self: &Arc<Self>, address: SocketAddr) -> Listens {
        self.lock().push(address);
        Listens { listening: self.clone(), address }
    }

    /// Each once, in order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses = self.lock().clone();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listens {
    /// Which one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listens {
    fn drop(&mut self) {
        let mut addresses = self.listening.lock();
        if let Some(place) = addresses.iter().position(|address| *address == self.address) {
            addresses.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_goes_with_its_last_listener() {
        let listening = Arc::new(Listening::default());
        let [one, other] = ["127.0.0.1:2", "127.0.0.1:1"].map(|address| address.parse().expect("an address"));
        let (first, second, third) = (listening.add(one), listening.add(one), listening.add(other));
        assert_eq!(listening.addresses(), [other, one]);
        drop((first, third));
        assert_eq!(listening.addresses(), [one]);
        drop(second);
        assert_eq!(listening.addresses(), []);
    }
}
