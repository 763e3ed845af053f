//! A listening socket on a worker, and those who have come through it and have not said yet who they are.

use std::{net::SocketAddr, sync::Arc};

use conet_rt::net::TcpListener;

use super::{Context, proxy::Introductions};

/// The socket.
pub struct Incoming {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    /// Headers are read, if proxies pass the tenant's connections on.
    pub(super) introductions: Option<Arc<Introductions>>,
}

impl Incoming {
    /// A tenant's, of that address.
    pub fn new(context: &Context, socket: TcpListener, address: SocketAddr) -> Self {
        let introductions = (!context.proxies.is_empty()).then(|| Arc::new(Introductions::new(address)));
        Self { socket, address, introductions }
    }

    /// Stops listening.
    pub fn close(&self) {
        self.socket.close();
    }
}
