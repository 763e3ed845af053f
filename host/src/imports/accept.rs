//! Accepting for a tenant: within its connection limit, through the host's own shortages, until the shutdown.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use conet_rt::{
    net::{TcpListener, TcpStream},
    time,
};
use rustix::io::Errno;
use tracing::warn;

use super::{
    Context,
    admission::Admission,
    incoming::Incoming,
    proxy::{Arrival, Introductions, is_trusted},
    tally::Tally,
    view::noting_wait,
    visit::Visit,
};
use crate::{
    bindings::net::types::ErrorCode,
    circuit::{Change, Pass},
    config::{limits::OverLimit, warn::Warn},
    imports::error,
    metrics::Counter,
    quota::Permit,
    rate::Rate,
};

/// A connection that has been accepted, and what it holds.
pub struct Accepted {
    /// The connection.
    pub stream: TcpStream,
    /// The other side's address; of a connection that a proxy has passed on, its client's.
    pub peer: SocketAddr,
    /// What else is known of it.
    pub visit: Option<Box<Visit>>,
    /// Its part of the limits.
    pub admission: Admission,
    /// Counts it, from when somebody has accepted it.
    pub tally: Option<Tally>,
    /// Of a handler: what comes of it is to be told there.
    pub pass: Option<Pass>,
}

/// The next connection of a listener. Over the limits, peers wait in the listener's backlog or are reset, as the tenant's
/// policy says; one whose address has as many connections as it may is reset, and so are those of a handler that has trapped
/// on each. Where proxies pass connections on, those are given whose header has come; the shutdown leaves
/// the others as long as their headers may take.
///
/// Once the shutdown has begun nobody is waited for. What waits already, and nobody else will accept, comes still.
///
/// Errors: `shutting-down`, and what the system says of the listener itself.
pub async fn accept(context: &Arc<Context>, incoming: &Incoming) -> Result<Accepted, ErrorCode> {
    loop {
        let accepted = match &incoming.introductions {
            Some(introductions) => introduced(context, incoming, introductions).await,
            None if context.shutdown.begun() => last_admitted(context, incoming),
            None => {
                let admitted = context.shutdown.or(admitted(context, incoming)).await;
                admitted.or_else(|| last_admitted(context, incoming))
            }
        };
        let accepted = accepted.ok_or(ErrorCode::ShuttingDown)?;
        let mut accepted = accepted.map_err(|e: io::Error| error::code(&e))?;
        if let Some(circuit) = &context.circuit {
            accepted.pass = circuit.admit(Instant::now());
            if accepted.pass.is_none() {
                context.metrics.circuit_refused.increment();
                accepted.visit.iter_mut().for_each(|visit| visit.refuse());
                accepted.stream.reset();
                continue;
            }
        }
        accepted.tally = Some(Tally::begin(&context.metrics));
        return Ok(accepted);
    }
}

/// The next one that there is room for.
async fn admitted(context: &Arc<Context>, incoming: &Incoming) -> io::Result<Accepted> {
    loop {
        if let Some(accepted) = admit(context, incoming, arrival(context, &incoming.socket).await?) {
            return Ok(accepted);
        }
    }
}

/// The next one of those that wait at the end, if there is room for one.
fn last_admitted(context: &Arc<Context>, incoming: &Incoming) -> Option<io::Result<Accepted>> {
    loop {
        if let Some(accepted) = admit(context, incoming, last_arrival(context, incoming)?) {
            return Some(Ok(accepted));
        }
    }
}

/// None: its address has as many connections as it may, and it is reset.
fn admit(context: &Arc<Context>, incoming: &Incoming, arrival: Arrival) -> Option<Accepted> {
    let Arrival { stream, peer, permit } = arrival;
    match Admission::of(context, permit, peer) {
        Some(admission) => {
            let visit = Visit::accepted(context, incoming.address, peer, None);
            Some(Accepted { stream, peer, visit, admission, tally: None, pass: None })
        }
        None => {
            refuse(context, &stream, "`connections-per-ip`");
            None
        }
    }
}

/// The next one whom a proxy's header has introduced; none once the shutdown has begun and no header is waited for.
async fn introduced(
    context: &Arc<Context>,
    incoming: &Incoming,
    introductions: &Arc<Introductions>,
) -> Option<io::Result<Accepted>> {
    let next = || context.shutdown.or(trusted(context, &incoming.socket));
    let mut arriving = pin!((!context.shutdown.begun()).then(next));
    let mut place = introductions.place();
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(accepted) = introductions.poll(cx, &mut place) {
                return Poll::Ready(Some(Ok(accepted)));
            }
            let Some(arrival) = arriving.as_mut().as_pin_mut() else {
                let Some(arrival) = last_arrival(context, incoming) else { break };
                if let Some(arrival) = of_a_proxy(context, arrival) {
                    introductions.begin(context, arrival);
                }
                continue;
            };
            match arrival.poll(cx) {
                Poll::Ready(Some(Ok(arrival))) => {
                    introductions.begin(context, arrival);
                    arriving.set(Some(next()));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => arriving.set(None),
                Poll::Pending => return Poll::Pending,
            }
        }
        if introductions.is_idle() { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// The next one of a proxy's.
async fn trusted(context: &Context, listener: &TcpListener) -> io::Result<Arrival> {
    loop {
        if let Some(arrival) = of_a_proxy(context, arrival(context, listener).await?) {
            return Ok(arrival);
        }
    }
}

/// None: it is nobody's who may tell for whom they come, and it is reset.
fn of_a_proxy(context: &Context, arrival: Arrival) -> Option<Arrival> {
    if is_trusted(context, arrival.peer) {
        return Some(arrival);
    }
    arrival.stream.reset();
    None
}

/// The next one, as many and as often as there may be. Those beyond that wait or are reset.
async fn arrival(context: &Context, listener: &TcpListener) -> io::Result<Arrival> {
    match context.limits.over_limit {
        OverLimit::Wait => arrival_in_turn(context, listener).await,
        OverLimit::Refuse => loop {
            let (stream, peer) = past_shortages(context, listener).await?;
            match room(context) {
                Ok(permit) => return Ok(Arrival { stream, peer, permit }),
                Err((counter, limit)) => {
                    counter.increment();
                    refuse(context, &stream, limit);
                }
            }
        },
    }
}

async fn arrival_in_turn(context: &Context, listener: &TcpListener) -> io::Result<Arrival> {
    let (permit, waited) = noting_wait(context.connections.acquire()).await;
    if waited {
        context.metrics.connections_waited.increment();
    }
    let _held = Held::new(&context.held_for_accepts);
    let (stream, peer) = accept_in_time(context, listener).await?;
    warn_of_connections(context);
    Ok(Arrival { stream, peer, permit })
}

/// The next one, as often as there may be.
async fn accept_in_time(context: &Context, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let mut turn = Turn(None);
    let rate_warns = context.warnings.lets_pass(Warn::AcceptRate);
    if let Some(rate) = context.accept_rate.as_ref().filter(|_| !rate_warns) {
        while let Err(wait) = rate.take(1) {
            context.metrics.accepts_throttled.increment();
            time::sleep(wait).await;
        }
        turn.0 = Some(rate);
    }
    let accepted = past_shortages(context, listener).await?;
    turn.0 = None;
    if let Some(rate) = context.accept_rate.as_ref().filter(|_| rate_warns) {
        warn_of_rate(context, rate);
    }
    Ok(accepted)
}

/// Room for one that is there already, or which counter and limit say that there is none.
fn room(context: &Context) -> Result<Permit, (&Counter, &'static str)> {
    let metrics = &context.metrics;
    match &context.accept_rate {
        Some(rate) if context.warnings.lets_pass(Warn::AcceptRate) => warn_of_rate(context, rate),
        Some(rate) if !rate.try_take(1) => return Err((&metrics.accepts_refused, "`accept-rate`")),
        _ => {}
    }
    let permit = context.connections.try_acquire(1);
    let permit = permit.ok_or((&metrics.connections_refused, "`connections`"))?;
    context.warn_beyond(Warn::Connections, &context.connections, "connections");
    Ok(permit)
}

/// Resets one that is over a limit, and logs some of those.
pub fn refuse(context: &Context, stream: &TcpStream, limit: &str) {
    stream.reset();
    if let Some(count) = context.refusals.note() {
        warn!(tenant = %context.name, "connections refused: {count}, the last one over {limit}");
    }
}

/// Refuses all connections until then, as the circuit is open; or until the shutdown.
pub async fn refuse_until(context: &Context, incoming: &Incoming, until: Instant) -> Result<(), ErrorCode> {
    let refused = time::timeout_at(Some(until), refuse_all(context, &incoming.socket));
    match context.shutdown.or(refused).await {
        Some(Ok(error)) => Err(error::code(&error)),
        Some(Err(_)) => Ok(()),
        None => Err(ErrorCode::ShuttingDown),
    }
}

/// Gives what the listener fails with.
async fn refuse_all(context: &Context, listener: &TcpListener) -> io::Error {
    loop {
        match accept_in_time(context, listener).await {
            Ok((stream, _)) => stream.reset(),
            Err(error) => return error,
        }
        context.metrics.circuit_refused.increment();
    }
}

/// Logs that connections are refused from now on, or served again.
pub fn tell_of_circuit(context: &Context, change: Option<Change>) {
    if let Some(change) = change {
        warn!(tenant = %context.name, "{change}");
        context.alarm.ring();
    }
}

/// One of those that waited in the backlog at the end: to close the listener would reset them. They are taken out at once and
/// once only, or peers who go on connecting would go on being served.
fn last_arrival(context: &Context, incoming: &Incoming) -> Option<Arrival> {
    incoming.last(|| std::iter::from_fn(|| waiting_arrival(context, &incoming.socket)).collect())
}

/// No rate counts any more, and who is beyond the limit goes with the listener.
fn waiting_arrival(context: &Context, listener: &TcpListener) -> Option<Arrival> {
    while context.shutdown.take_of_backlog() {
        let permit = context.connections.try_acquire(1)?;
        match listener.accept_waiting()? {
            Ok((stream, peer)) => return Some(Arrival { stream, peer, permit }),
            Err(error) if died_waiting(&error) => {}
            Err(_) => return None,
        }
    }
    None
}

/// One of the accepts that there may be in a second. An accept that ends without a connection has used none.
struct Turn<'a>(Option<&'a Rate>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(rate) = self.0 {
            rate.give_back(1);
        }
    }
}

/// One has come, whose permit is still among those that wait for one.
fn warn_of_connections(context: &Context) {
    let waiting = context.held_for_accepts.load(Ordering::Relaxed).saturating_sub(1);
    let count = context.connections.beyond().map(|used| used.saturating_sub(waiting));
    if let Some(count) = count.filter(|count| *count > context.connections.max()) {
        context.warnings.would_deny(Warn::Connections, format_args!("{count} connections at once"), count);
    }
}

/// One has come that may be one too many.
fn warn_of_rate(context: &Context, rate: &Rate) {
    let needed = context.warnings.rate_seen(Warn::AcceptRate, 1, ACCEPT_BURST);
    if !rate.try_take(1) {
        context.warnings.would_deny(Warn::AcceptRate, "connections that come as quickly as these", needed);
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
            _ if died_waiting(&error) => continue,
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

/// A connection has ended before it was accepted.
fn died_waiting(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::CONNABORTED | Errno::PROTO | Errno::NETDOWN | Errno::HOSTUNREACH))
}

/// The time in which as many may be accepted as at once: see the tenant's context.
const ACCEPT_BURST: Duration = Duration::from_millis(100);
/// Waits between attempts, as Go's net package does, but shorter at the end: a listener should recover soon.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(500);
