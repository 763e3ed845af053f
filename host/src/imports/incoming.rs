//! A listening socket on a worker, and those who have come through it and have not said yet who they are.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{Arc, Mutex, PoisonError},
};

use conet_rt::net::TcpListener;

use super::{
    Context,
    proxy::{Arrival, Introductions},
};

/// The socket.
pub struct Incoming {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    /// Headers are read, if proxies pass the tenant's connections on.
    pub(super) introductions: Option<Arc<Introductions>>,
    /// Once the shutdown has begun: those who waited to be accepted, and have not been yet.
    last: Mutex<Option<VecDeque<Arrival>>>,
    /// Closed with it.
    spare: Option<Spare>,
}

/// A duplicate of the socket, to listen again after a failure. As long as there is one, the port is open.
#[derive(Clone)]
pub struct Spare(Arc<Mutex<Option<StdListener>>>);

impl Spare {
    /// Of this one.
    pub fn new(listener: StdListener) -> Self {
        Self(Arc::new(Mutex::new(Some(listener))))
    }

    /// One to listen on. An error once it has been closed.
    pub fn duplicate(&self) -> io::Result<StdListener> {
        let listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listener.as_ref().ok_or(io::ErrorKind::NotConnected)?.try_clone()
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Incoming {
    /// A tenant's, of that address.
    pub fn new(context: &Context, socket: TcpListener, address: SocketAddr) -> Self {
        let introductions = (!context.proxies.is_empty()).then(|| Arc::new(Introductions::new(address)));
        Self { socket, address, introductions, last: Mutex::default(), spare: None }
    }

    /// The next of those who waited at the end, who are looked for once.
    pub(super) fn last(&self, look: impl FnOnce() -> VecDeque<Arrival>) -> Option<Arrival> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get_or_insert_with(look).pop_front()
    }

    /// With one that is closed when it is.
    pub fn with_spare(self, spare: &Spare) -> Self {
        Self { spare: Some(spare.clone()), ..self }
    }

    /// Stops listening.
    pub fn close(&self) {
        if let Some(spare) = &self.spare {
            spare.close();
        }
        self.socket.close();
    }
}
