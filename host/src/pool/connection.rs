//! A pool's connections, in use and idle.

use std::{os::fd::OwnedFd, time::Instant};

use conet_rt::net::TcpStream;

use crate::quota::Permit;

/// A connection on its worker. In this order: closed first, then its permit given back.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) permit: Permit,
    pub(super) opened: Instant,
}

/// A connection without a worker. In this order: closed first, then its permit given back.
pub(super) struct Kept {
    pub(super) fd: OwnedFd,
    pub(super) permit: Permit,
    pub(super) opened: Instant,
}
