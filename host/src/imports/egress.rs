//! Connecting out: what the grants allow, within the tenant's limit on outbound connections.

use std::net::SocketAddr;

use conet_rt::{net::TcpStream, time};

use super::{Context, error::code, resolve::ResolveError};
use crate::{
    bindings::net::types::{self, ErrorCode},
    config::net::Denied,
    pool::Target,
    quota::Permit,
};

/// Connects to a target: an address, or the allowed addresses of a name in the resolver's order.
///
/// Errors: those of the contract's `connection.connect`.
pub(crate) async fn connect(context: &Context, target: Target) -> Result<(TcpStream, Permit), ErrorCode> {
    allow(context, &target)?;
    let permit = permit(context).await?;
    let mut last = ErrorCode::NameNotFound;
    for address in addresses(context, target).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                context.metrics.connected.increment();
                return Ok((stream, permit));
            }
            Err(error) => last = code(&error),
        }
    }
    Err(last)
}

/// May the target be tried at all? For a name, whether it may be looked up.
pub(crate) fn allow(context: &Context, target: &Target) -> Result<(), ErrorCode> {
    let allowed = match target {
        Target::Address(address) => context.grants.allows_connect_addr(*address),
        Target::Name(name, port) => context.grants.allows_name(name, *port),
    };
    allowed.map_err(|denied| refuse(context, &denied))
}

/// Counts and logs a denial, with the flag that would allow it.
pub(crate) fn refuse(context: &Context, denied: &Denied) -> ErrorCode {
    context.metrics.denied.increment();
    tracing::warn!(tenant = %context.name, "denied: {denied}");
    match denied {
        Denied::NotAName(_) | Denied::PortZero => ErrorCode::InvalidArgument,
        _ => ErrorCode::AccessDenied,
    }
}

async fn addresses(context: &Context, target: Target) -> Result<Vec<SocketAddr>, ErrorCode> {
    let (name, port) = match target {
        Target::Address(address) => return Ok(vec![address]),
        Target::Name(name, port) => (name, port),
    };
    let resolved = context.resolver.resolve(&name, port).await.map_err(|error| {
        tracing::debug!(tenant = %context.name, %error, "lookup failed");
        match error {
            ResolveError::NotFound { .. } => ErrorCode::NameNotFound,
            ResolveError::Failed { .. } => ErrorCode::NameResolutionFailed,
            ResolveError::Busy { .. } => ErrorCode::LimitExceeded,
        }
    })?;
    // Checked now, and connected to as they are: a second lookup could give others.
    let mut denied = None;
    let allowed: Vec<_> = resolved
        .into_iter()
        .filter(|address| match context.grants.checks_resolved(&name, *address) {
            Ok(()) => true,
            Err(error) => {
                denied = Some(error);
                false
            }
        })
        .collect();
    match denied {
        Some(denied) if allowed.is_empty() => Err(refuse(context, &denied)),
        _ => Ok(allowed),
    }
}

/// A permit for one outbound connection. Idle pooled ones make room; else it waits as long as the limit says.
async fn permit(context: &Context) -> Result<Permit, ErrorCode> {
    loop {
        if let Some(permit) = context.outbound.try_acquire(1) {
            return Ok(permit);
        }
        if !context.pools.close_oldest_idle() {
            break;
        }
    }
    let patience = time::after(context.limits.outbound_wait_max);
    time::timeout_at(Some(patience), context.outbound.acquire()).await.map_err(|_| ErrorCode::LimitExceeded)
}

impl From<types::Target> for Target {
    fn from(target: types::Target) -> Self {
        match target {
            types::Target::Address(address) => Target::Address(address.into()),
            types::Target::Name(host) => Target::Name(host.name, host.port),
        }
    }
}
