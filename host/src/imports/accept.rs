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

use super::Context;
use crate::{bindings::net::types::ErrorCode, imports::error, quota::Permit};

/// The next connection of `listener`, with its permit. Over the limit, peers wait in the listener's backlog.
///
/// Errors: `shutting-down`, and what the system says of the listener itself.
pub async fn accept(
    context: &Context,
    listener: &TcpListener,
) -> Result<(TcpStream, SocketAddr, Permit), ErrorCode> {
    let accepted = context.shutdown.or(async {
        let permit = context.connections.acquire().await;
        let _held = Held::new(&context.held_for_accepts);
        let (stream, peer) = past_shortages(context, listener).await?;
        Ok((stream, peer, permit))
    });
    if context.shutdown.begun() {
        return Err(ErrorCode::ShuttingDown);
    }
    let accepted = accepted.await.ok_or(ErrorCode::ShuttingDown)?;
    if accepted.is_ok() {
        context.metrics.accepted.increment();
    }
    accepted.map_err(|e: io::Error| error::code(&e))
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
