//! Connecting out: what the grants allow, within the tenant's limit on outbound connections.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use conet_rt::{net::TcpStream, time};

use super::{Context, commons::Commons, error::code, resolve::ResolveError, tcp::within};
use crate::{
    bindings::net::types::{self, ErrorCode},
    config::{net::Denied, warn::Warn},
    pool::Target,
    quota::{Permit, Quota},
    roster::{Coroutine, Doing, meanwhile},
};

/// Connects to a target: an address, or the allowed addresses of a name in the resolver's order.
///
/// It takes `connect_max` at most from when there is a place for the connection, and ends at the deadline. What it waits for is
/// noted of `who`.
///
/// Errors: those of the contract's `connection.connect`.
pub(crate) async fn connect(
    context: &Context,
    target: Target,
    deadline: Option<Instant>,
    connect_max: Duration,
    who: Option<&Coroutine>,
) -> Result<(TcpStream, Permit), ErrorCode> {
    allow(context, &target)?;
    connect_allowed(context, target, deadline, connect_max, who).await
}

/// As [`connect`], to a target of which it is known that it may be tried.
pub(crate) async fn connect_allowed(
    context: &Context,
    target: Target,
    deadline: Option<Instant>,
    connect_max: Duration,
    who: Option<&Coroutine>,
) -> Result<(TcpStream, Permit), ErrorCode> {
    let permit = {
        let _meanwhile = meanwhile(who, Doing::ConnectWait);
        permit(context, deadline).await?
    };
    let limit = time::after(connect_max);
    let until = deadline.map_or(limit, |deadline| deadline.min(limit));
    let connected = async {
        let addresses = within(Some(until), addresses(context, target, who)).await?;
        first_of(&addresses, until).await
    };
    let stream = connected.await.inspect_err(|code| {
        let ours = deadline.is_none_or(|deadline| limit < deadline);
        if *code == ErrorCode::TimedOut && ours {
            context.metrics.connects_timed_out.increment();
        }
    })?;
    context.metrics.connected.increment();
    Ok((stream, permit))
}

/// The first connection that succeeds. Each attempt has its share of the time that is left, so that an address that does
/// not answer leaves some for the others.
async fn first_of(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, ErrorCode> {
    let mut last = ErrorCode::NameNotFound;
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - tried) as u32;
        let attempt = async { TcpStream::connect(*address).await.map_err(|error| code(&error)) };
        match within(Some(time::after(share)), attempt).await {
            Ok(stream) => return Ok(stream),
            Err(code) => last = code,
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
    allowed.or_else(|denied| refuse(context, Warn::AllowConnect, &denied))
}

/// Counts and logs a denial, with what would allow it. Where the grants only warn it may pass.
pub(crate) fn refuse(context: &Context, warn: Warn, denied: &Denied) -> Result<(), ErrorCode> {
    if let Some((_, grant)) = denied.grant()
        && passes(context, warn, denied)
    {
        context.warnings.would_deny(warn, denied, format_args!("[{grant:?}]"));
        return Ok(());
    }
    Err(refused(context, denied))
}

fn passes(context: &Context, warn: Warn, denied: &Denied) -> bool {
    context.warnings.lets_pass(warn) && denied.may_pass(&context.closed)
}

fn refused(context: &Context, denied: &Denied) -> ErrorCode {
    context.metrics.denied.increment();
    if context.commons.log_gate.opens(&context.name, &context.metrics) {
        let tenant = &context.name;
        match denied.grant() {
            Some((kind, grant)) => {
                let line = context.settings.grant(kind, &grant);
                tracing::warn!(%tenant, "denied: {denied}; to allow it: {line}");
            }
            None => tracing::warn!(%tenant, "denied: {denied}"),
        }
    }
    match denied {
        Denied::NotAName(_) | Denied::PortZero => ErrorCode::InvalidArgument,
        _ => ErrorCode::AccessDenied,
    }
}

async fn addresses(
    context: &Context,
    target: Target,
    who: Option<&Coroutine>,
) -> Result<Vec<SocketAddr>, ErrorCode> {
    let (name, port) = match target {
        Target::Address(address) => return Ok(vec![address]),
        Target::Name(name, port) => (name, port),
    };
    if !may_look_up(context) {
        context.metrics.lookups_refused.increment();
        return Err(ErrorCode::LimitExceeded);
    }
    let lookup = meanwhile(who, Doing::Lookup);
    let resolved = context.resolver.resolve(&name, port).await.map_err(|error| {
        tracing::debug!(tenant = %context.name, %error, "lookup failed");
        match error {
            ResolveError::NotFound { .. } => ErrorCode::NameNotFound,
            ResolveError::Failed { .. } => ErrorCode::NameResolutionFailed,
            ResolveError::Busy { .. } => ErrorCode::LimitExceeded,
        }
    })?;
    drop(lookup);
    // Checked now, and connected to as they are: a second lookup could give others.
    let (mut allowed, mut denied) = (Vec::new(), Vec::new());
    for address in resolved {
        match context.grants.checks_resolved(&name, address) {
            Ok(()) => allowed.push(address),
            Err(error) => denied.push((address, error)),
        }
    }
    if !allowed.is_empty() || denied.is_empty() {
        return Ok(allowed);
    }
    let (passed, kept) =
        denied.into_iter().partition::<Vec<_>, _>(|(_, denied)| passes(context, Warn::AllowConnect, denied));
    match (passed.first(), kept.last()) {
        (Some((_, first)), _) => {
            // A name that is not granted has been told of: with it, its addresses would be.
            if context.grants.allows_name(&name, port).is_ok() || first.needs_address() {
                refuse(context, Warn::AllowConnect, first)?;
            }
            Ok(passed.into_iter().map(|(address, _)| address).collect())
        }
        (None, Some((_, denied))) => Err(refused(context, denied)),
        (None, None) => Ok(Vec::new()),
    }
}

fn may_look_up(context: &Context) -> bool {
    let Some(rate) = &context.lookup_rate else { return true };
    let warns = context.warnings.lets_pass(Warn::Lookups);
    let needed = warns.then(|| context.warnings.rate_seen(Warn::Lookups, 1, LOOKUP_BURST));
    if rate.try_take(1) {
        return true;
    }
    if let Some(needed) = needed {
        context.warnings.would_deny(Warn::Lookups, "lookups that come as quickly as these", needed);
    }
    warns
}

/// A permit for one outbound connection. An idle pooled one makes room; else it waits as long as the limit says, which
/// is `limit-exceeded`, or until the deadline if that is sooner, which is `timed-out`.
async fn permit(context: &Context, deadline: Option<Instant>) -> Result<Permit, ErrorCode> {
    let patience = time::after(context.limits.outbound_wait_max);
    let (until, error) = match deadline {
        Some(deadline) if deadline < patience => (deadline, ErrorCode::TimedOut),
        _ => (patience, ErrorCode::LimitExceeded),
    };
    let place = time::timeout_at(Some(until), place(&context.outbound, &context.commons)).await;
    let permit = place.map_err(|_| {
        if error == ErrorCode::LimitExceeded {
            context.metrics.outbound_refused.increment();
        }
        error
    })?;
    // An idle one would have made room.
    if context.outbound.beyond().is_some() && !context.commons.close_oldest_idle() {
        context.warn_beyond(Warn::Outbound, &context.outbound, "opened connections");
    }
    Ok(permit)
}

/// A unit of `outbound`, for which an idle connection of a pool is closed if need be.
async fn place(outbound: &Arc<Quota>, commons: &Commons) -> Permit {
    let mut permit = pin!(outbound.acquire());
    let mut arrives = true;
    poll_fn(|cx| {
        let poll = permit.as_mut().poll(cx);
        // Once it stands in line, connections that would become idle are closed: this is for those that were before.
        if poll.is_pending() && std::mem::take(&mut arrives) && commons.close_oldest_idle() {
            return permit.as_mut().poll(cx);
        }
        poll
    })
    .await
}

/// In which all lookups that may be made at once are.
const LOOKUP_BURST: Duration = Duration::from_secs(1);

impl From<types::Target> for Target {
    fn from(target: types::Target) -> Self {
        match target {
            types::Target::Address(address) => Target::Address(address.into()),
            types::Target::Name(host) => Target::Name(host.name, host.port),
        }
    }
}

#[cfg(test)]
mod tests;
