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
    net::TcpListener,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::Builder,
    sync::{Notify, oneshot},
    time::timeout,
};

pub use coroutines::TenantRoster;
pub use order::{Answer, Command, Order};
pub use otlp::Export;
pub use process::Process;
pub use socket::{AdminSocket, SocketError};
pub use status::{HostStatus, Meter, Phase, PoolStatus, State, TenantStatus, WorkerLoad};

use crate::metrics::CallHistogram;
use server::Answering;

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
    /// Told when the addresses are left to another process.
    leave: Arc<Notify>,
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
        let unix = socket.as_ref().map(AdminSocket::listener).transpose()?;
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let (end, ended) = oneshot::channel();
        let leave = Arc::new(Notify::new());
        let left = leave.clone();
        let listeners = {
            // They are registered with the runtime that is entered.
            let _entered = runtime.enter();
            server::Listeners::new(unix, address, probes)?
        };
        let thread = thread::Builder::new().name("admin".into()).spawn(move || {
            let answering = Answering::new();
            runtime.block_on(async {
                // An error tells that the sender was dropped, which is how it tells the end.
                tokio::select! {
                    _ = ended => {}
                    () = work(&listeners, export, &observed, &answering, &left) => {}
                }
                // What was asked gets its answer, which is a write or two away: who has waited for it does not take it.
                let _ = listeners.serve_last(&observed, &answering);
                let _ = timeout(LAST_ANSWERS_MAX, answering.done()).await;
            });
            // It may look up a name, on a thread that cannot be hurried.
            runtime.shutdown_background();
        })?;
        Ok(Self { socket, leave, end: Some(end), thread: Some(thread) })
    }

    /// Accepts nothing more at the addresses, which another process has, too. Who has reached the socket is served still.
    pub fn leave_addresses(&self) {
        self.leave.notify_one();
    }
}

async fn work(
    listeners: &server::Listeners,
    export: Option<Export>,
    observed: &Arc<dyn Observed>,
    answering: &Answering,
    leave: &Notify,
) {
    let exporting = async {
        if let Some(export) = export {
            otlp::export(export, observed.clone()).await;
        }
    };
    tokio::join!(listeners.serve(observed, answering, leave), exporting);
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

/// At the end, for answers that are under way.
const LAST_ANSWERS_MAX: Duration = Duration::from_secs(1);
