//! Accepting for a tenant: within its connection limit, through the host's own shortages, until the shutdown.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use conet_rt::{
    net::{TcpListener, TcpStream},
    time,
};
use rustix::io::Errno;
use tracing::warn;

use super::{Context, admission::Admission, view::noting_wait};
use crate::{bindings::net::types::ErrorCode, imports::error};

/// A connection that has been accepted, and what it holds.
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// The other side's address.
    pub peer: SocketAddr,
    /// Its part of the limits.
    pub admission: Admission,
}

/// The next connection of `listener`. Over the limits, peers wait in the listener's backlog; one whose address has as many
/// connections as it may is reset.
///
/// Errors: `shutting-down`, and what the system says of the listener itself.
pub async fn accept(context: &Context, listener: &TcpListener) -> Result<Accepted, ErrorCode> {
    let accepted = context.shutdown.or(admitted(context, listener));
    if context.shutdown.begun() {
        return Err(ErrorCode::ShuttingDown);
    }
    let accepted = accepted.await.ok_or(ErrorCode::ShuttingDown)?;
    if accepted.is_ok() {
        context.metrics.accepted.increment();
    }
    accepted.map_err(|e: io::Error| error::code(&e))
}

async fn admitted(context: &Context, listener: &TcpListener) -> io::Result<Accepted> {
    loop {
        let (permit, waited) = noting_wait(context.connections.acquire()).await;
        if waited {
            context.metrics.connections_waited.increment();
        }
        let _held = Held::new(&context.held_for_accepts);
        if let Some(rate) = &context.accept_rate {
            while let Err(wait) = rate.take(1) {
                context.metrics.accepts_throttled.increment();
                time::sleep(wait).await;
            }
        }
        let (stream, peer) = past_shortages(context, listener).await?;
        let Some(addresses) = &context.addresses else {
            return Ok(Accepted { stream, peer, admission: permit.into() });
        };
        match addresses.try_acquire(peer) {
            Some(address) => {
                let admission = Admission::from(permit, Some(address));
                return Ok(Accepted { stream, peer, admission });
            }
            None => {
                context.metrics.refused_per_ip.increment();
                stream.reset();
            }
        }
    }
}

/// A permit for a connection that is not there yet.
struct Held<'a>(&'a AtomicU64);

impl<'a> Held<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Accepts. A connection that died in the backlog is skipped; out of descriptors or memory, waits and tries again.
async fn past_shortages(context: &Context, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let mut pause = PAUSE_MIN;
    loop {
        let error = match listener.accept().await {
            Ok(accepted) => return Ok(accepted),
            Err(error) => error,
        };
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::CONNABORTED | Errno::PROTO | Errno::NETDOWN | Errno::HOSTUNREACH) => continue,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {}
            _ => return Err(error),
        }
        context.metrics.accept_pauses.increment();
        // Once for each shortage, not for each attempt.
        if pause == PAUSE_MIN {
            warn!(tenant = %context.name, %error, "cannot accept: waiting until descriptors or memory are free");
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Waits between attempts, as Go's net package does, but shorter at the end: a listener should recover soon.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);
