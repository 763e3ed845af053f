//! The admin: where the host tells of itself and takes commands, over HTTP, on a thread of its own.
//!
//! There is a Unix socket for this user alone, and perhaps an address of loopback, which tells and takes no commands: who
//! connects there is not asked who they are. Another one, which may be anybody's to reach, answers probes and no more. What is told comes from whoever is [`Observed`]; a command goes to them as
//! an [`Order`], and its answer comes back. Metrics are sent to a collector from here, too.

pub mod client;
mod coroutines;
mod exposition;
mod families;
mod metrics;
mod order;
mod otlp;
mod process;
mod routes;
mod server;
mod socket;
mod status;
mod table;
pub mod terminal;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};

use tokio::{runtime::Builder, sync::oneshot};

pub use coroutines::TenantRoster;
pub use order::{Answer, Command, Order};
pub use otlp::Export;
pub use process::Process;
pub use socket::{AdminSocket, SocketError};
pub use status::{HostStatus, Meter, Phase, PoolStatus, State, TenantStatus};

use crate::metrics::CallHistogram;

/// Who the admin tells of. It is asked on the admin's thread, at each request.
pub trait Observed: Send + Sync {
    /// The host as it is now.
    fn host(&self) -> HostStatus;

    /// Its tenants, in the order of the file.
    fn tenants(&self) -> Vec<Observation>;

    /// Who is there, of all their versions.
    fn rosters(&self) -> Vec<TenantRoster>;

    /// A collector has taken the metrics, or has not.
    fn exported(&self, taken: bool);

    /// Passes a command on, or drops it if the host is ending. It must not wait.
    fn order(&self, order: Order);
}

/// What is told of a tenant.
#[derive(Debug, Clone)]
pub struct Observation {
    /// What everybody is told.
    pub status: TenantStatus,
    /// What its guests' calls took of the host's time.
    pub calls: Vec<CallHistogram>,
}

/// The admin's thread. Dropping this ends it, and removes its socket.
#[derive(Debug)]
pub struct Admin {
    // In this order: nobody else has a socket of this name before it is removed.
    socket: Option<AdminSocket>,
    address: Option<SocketAddr>,
    /// Dropped, it tells the thread to end.
    end: Option<oneshot::Sender<()>>,
    /// None once joined.
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Serves what there is of the three, the second of the addresses for probes alone, and sends metrics where they are wanted.
    pub fn start(
        socket: Option<AdminSocket>,
        [address, probes]: [Option<TcpListener>; 2],
        export: Option<Export>,
        observed: Arc<dyn Observed>,
    ) -> io::Result<Self> {
        let local = address.as_ref().map(TcpListener::local_addr).transpose()?;
        let unix = socket.as_ref().map(AdminSocket::listener).transpose()?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let (end, ended) = oneshot::channel();
        let listeners = {
            // They are registered with the runtime that is entered.
            let _entered = runtime.enter();
            server::Listeners::new(unix, address, probes)?
        };
        let thread = thread::Builder::new().name("admin".into()).spawn(move || {
            // An error tells that the sender was dropped, which is how it tells the end.
            let _ = runtime.block_on(async {
                tokio::select! {
                    ended = ended => ended.ok(),
                    () = work(listeners, export, observed) => None,
                }
            });
            // It may look up a name, on a thread that cannot be hurried.
            runtime.shutdown_background();
        })?;
        Ok(Self { socket, address: local, end: Some(end), thread: Some(thread) })
    }

    /// Where it can be reached over TCP.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

async fn work(listeners: server::Listeners, export: Option<Export>, observed: Arc<dyn Observed>) {
    let exporting = async {
        if let Some(export) = export {
            otlp::export(export, observed.clone()).await;
        }
    };
    tokio::join!(listeners.serve(observed.clone()), exporting);
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.socket = None;
        self.end = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has told of itself.
            let _ = thread.join();
        }
    }
}
