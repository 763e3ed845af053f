//! Who a connection is with, where its socket does not say it.

use std::net::SocketAddr;

/// A connection that a proxy has passed on.
#[derive(Debug, Clone)]
pub struct Visit {
    /// The client that connected to the proxy.
    pub client: SocketAddr,
    /// What it connected to.
    pub destination: SocketAddr,
    /// The proxy.
    pub proxy: SocketAddr,
}
