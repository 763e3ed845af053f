//! What all instances of a tenant share, as their imports see it.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, OnceLock, PoisonError, atomic::AtomicBool},
};

use super::{resolve::Resolver, stdio::Output, tcp::Parcel};
use crate::{
    bindings::net::types::ErrorCode,
    config::{limits::Limits, net::Grants},
    metrics::Metrics,
    pool::Pools,
    quota::Quota,
    shutdown::Shutdown,
};

/// One tenant's grants, limits, quotas, pools and counters. Shared by its instances on all workers.
pub struct Context {
    /// The tenant's name, for logs.
    pub name: String,
    /// What may be listened on and connected to.
    pub grants: Grants,
    /// The limits its quotas were made from.
    pub limits: Limits,
    /// The guest's arguments; the first is its own name.
    pub args: Vec<String>,
    /// The guest's environment.
    pub env: Vec<(String, String)>,
    /// Granted folders, each opened once.
    pub dirs: Vec<Folder>,
    /// Does the guest read the host's standard input?
    pub stdin: bool,
    /// Where the guest's standard output goes.
    pub stdout: Arc<Output>,
    /// Where the guest's standard error goes.
    pub stderr: Arc<Output>,
    /// Counters.
    pub metrics: Metrics,
    /// Accepted connections.
    pub connections: Arc<Quota>,
    /// Opened connections.
    pub outbound: Arc<Quota>,
    /// Coroutines, in shared instances and in their own.
    pub coroutines: Arc<Quota>,
    /// Instances.
    pub instances: Arc<Quota>,
    /// Bytes of memory and tables.
    pub memory: Arc<Quota>,
    /// Client connections kept open.
    pub pools: Pools,
    /// Names to addresses.
    pub resolver: Arc<Resolver>,
    /// Listening sockets that the copies of a program share, if it runs in several.
    pub listeners: Option<SharedListeners>,
    /// Begins when nothing new is to be accepted.
    pub shutdown: Arc<Shutdown>,
    /// The log has told of a blocking call that held up an instance.
    pub freeze_told: AtomicBool,
    /// The drain's deadline has passed: connections that end now are reset.
    pub cut_off: AtomicBool,
    /// Starts coroutines in instances of their own; set once the component is loaded, and only if it can be entered so.
    pub spawner: OnceLock<Box<dyn Spawn>>,
    /// Told of every address the tenant listens on.
    pub announce: fn(SocketAddr),
}

/// A granted folder.
pub struct Folder {
    /// The open folder.
    pub dir: cap_std::fs::Dir,
    /// Where the guest sees it.
    pub guest_path: String,
    /// May the guest change it?
    pub writable: bool,
}

/// Starts coroutines in fresh instances of the tenant's component.
pub trait Spawn: Send + Sync {
    /// Places one; gives its id.
    fn spawn(&self, request: SpawnRequest) -> Result<u64, ErrorCode>;
}

/// What `coroutine.spawn` asks for.
pub struct SpawnRequest {
    /// Passed to the guest's `start` as it is.
    pub entry: u32,
    /// The connections that move, off their worker.
    pub connections: Vec<Parcel>,
    /// Passed to the guest's `start` as they are.
    pub bytes: Vec<u8>,
}

/// Sockets bound by one copy of a program, for the other copies to share.
///
/// A copy's n-th bind of an address meets the other copies' n-th: so all of them accept from one socket, port 0 is
/// resolved once, and a second process still finds the address in use.
#[derive(Default)]
pub struct SharedListeners(Mutex<HashMap<(SocketAddr, usize), OwnedFd>>);

impl SharedListeners {
    /// The copies' socket for the `nth` bind of `address`, made by `bind` if this copy is the first to ask.
    pub fn get_or_bind(
        &self,
        address: SocketAddr,
        nth: usize,
        bind: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<(OwnedFd, bool)> {
        let mut sockets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = sockets.get(&(address, nth)) {
            return Ok((socket.try_clone()?, false));
        }
        let socket = bind()?;
        sockets.insert((address, nth), socket.try_clone()?);
        Ok((socket, true))
    }

    /// Closes the tenant's own handles: the addresses are free once the instances have dropped theirs.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
