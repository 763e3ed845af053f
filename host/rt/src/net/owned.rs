//! A socket that this object owns: plain data, which reaches the reactor through its thread.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use rustix::net::SocketAddrAny;

use crate::driver::Kind;
use crate::key::SocketKey;
use crate::reactor::{Detached, Reactor};
use crate::remote::{Message, Remote, WorkerId};
use crate::worker::local;

/// Closes the socket when dropped, on whatever thread.
#[derive(Debug)]
pub(super) struct Owned {
    worker: WorkerId,
    key: SocketKey,
}

impl Owned {
    /// Gives a non-blocking socket to this thread's worker.
    pub(super) fn new(socket: Detached, kind: Kind) -> io::Result<Owned> {
        local::with(|local| {
            let key = local.reactor(|reactor| reactor.register(socket, kind));
            Owned { worker: local.remote.id, key }
        })
        .ok_or_else(|| io::Error::other("sockets are made on a worker's thread"))
    }

    pub(super) fn worker(&self) -> WorkerId {
        self.worker
    }

    pub(super) fn key(&self) -> SocketKey {
        self.key
    }

    /// Uses the reactor the socket belongs to.
    pub(super) fn reactor<R>(&self, call: impl FnOnce(&mut Reactor, SocketKey) -> R) -> R {
        on_worker(self.worker, |reactor| call(reactor, self.key))
    }

    /// Makes a call that never waits.
    pub(super) fn call<R>(
        &self,
        call: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<R>,
    ) -> io::Result<R> {
        self.reactor(|reactor, key| Ok(call(reactor.fd(key)?)?))
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.call(|fd| address(rustix::net::getsockname(fd)?))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if local::is_current(self.worker) {
            local::with(|local| local.reactor(|reactor| reactor.close(self.key)));
        } else if let Some(remote) = Remote::find(self.worker) {
            // A worker that is gone has closed all its sockets.
            let _ = remote.send(Message::Close(self.key));
        }
    }
}

/// Uses this thread's reactor, which must be that worker's.
pub(super) fn on_worker<R>(worker: WorkerId, call: impl FnOnce(&mut Reactor) -> R) -> R {
    assert!(local::is_current(worker), "a socket of worker {worker} is used on another thread");
    local::with(|local| local.reactor(call)).expect("a worker's thread")
}

pub(super) fn address(address: SocketAddrAny) -> rustix::io::Result<SocketAddr> {
    SocketAddr::try_from(address).map_err(|_| rustix::io::Errno::AFNOSUPPORT)
}
