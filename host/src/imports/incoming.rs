//! A listening socket on a worker, and those who have come through it and have not said yet who they are.

use std::sync::Arc;

use conet_rt::net::TcpListener;

use super::{Context, proxy::Introductions};

/// The socket.
pub struct Incoming {
    pub(super) socket: TcpListener,
    /// Headers are read, if proxies pass the tenant's connections on.
    pub(super) introductions: Option<Arc<Introductions>>,
}

impl Incoming {
    /// A tenant's.
    pub fn new(context: &Context, socket: TcpListener) -> Self {
        let introductions = (!context.proxies.is_empty()).then(Arc::default);
        Self { socket, introductions }
    }

    /// Stops listening.
    pub fn close(&self) {
        self.socket.close();
    }
}
