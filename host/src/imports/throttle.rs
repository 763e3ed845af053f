//! Limits on bandwidth, as they hold up one connection. A limit delays and loses nothing: what may not leave yet is not
//! taken, and what was received and may not be had yet is kept here, while the peer waits for the kernel's window.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{self, Poll, Waker},
    time::Instant,
};

use conet_rt::{
    Buf, error,
    net::{Recv, Send},
    time,
};

use super::{
    Context,
    commons::Commons,
    watch::{Direction, Held, Watching},
};
use crate::{
    bandwidth::{Bandwidth, Progress, burst_bytes, chunk_bytes},
    config::limits::BandwidthLimits,
    metrics::Metrics,
    rate::Rate,
};

/// A tenant's limits on bandwidth.
#[derive(Debug, Default)]
pub struct Bandwidths {
    /// What its connections receive together.
    receiving: Option<Arc<Bandwidth>>,
    /// What they send.
    sending: Option<Arc<Bandwidth>>,
}

/// What holds up one connection.
pub(super) struct Throttle {
    receiving: Option<Flow>,
    sending: Option<Flow>,
    metrics: Arc<Metrics>,
    /// Its peer, if that has deadlines.
    held: OnceLock<Held>,
    closing: Mutex<Closing>,
}

/// One direction of it.
struct Flow {
    /// The connection's own limit.
    own: Option<Rate>,
    tenant: Option<Arc<Bandwidth>>,
    progress: Progress,
    chunk_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// A call is in it.
    busy: bool,
    /// Received, and not had by the guest.
    kept: Vec<u8>,
    /// When its own limit lets it go on.
    own_until: Option<Instant>,
    /// What is kept may be had.
    paid: bool,
}

/// It is closed, or whom to tell: one for each direction.
#[derive(Default)]
struct Closing {
    closed: bool,
    wakers: [Option<Waker>; 2],
}

impl Bandwidths {
    /// Those of a version of a tenant, as far as it has limits: of what all its versions have together.
    pub fn new(limits: &BandwidthLimits, commons: &Commons) -> Self {
        Self {
            receiving: limits.tenant_in_max.map(|_| commons.receiving.clone()),
            sending: limits.tenant_out_max.map(|_| commons.sending.clone()),
        }
    }
}

impl Throttle {
    /// For a connection of the tenant; none if nothing is limited.
    pub(super) fn new(context: &Context) -> Option<Arc<Self>> {
        let limits = &context.limits.bandwidth;
        let receiving =
            Flow::new(limits.tenant_in_max, limits.connection_in_max, &context.bandwidths.receiving);
        let sending =
            Flow::new(limits.tenant_out_max, limits.connection_out_max, &context.bandwidths.sending);
        if receiving.is_none() && sending.is_none() {
            return None;
        }
        let metrics = context.metrics.clone();
        let (held, closing) = Default::default();
        Some(Arc::new(Self { receiving, sending, metrics, held, closing }))
    }

    /// While it holds the connection up, the peer's deadlines stand still.
    pub(super) fn spare(&self, watching: &Watching) {
        // It is said once, when the connection is made.
        let _ = self.held.set(watching.held());
    }

    /// As many bytes as a recv may be for; none if that is not limited.
    #[cold]
    pub(super) fn recv_max(&self) -> Option<usize> {
        self.receiving.as_ref().map(|flow| flow.chunk_bytes)
    }

    /// As many bytes as a send may be for.
    pub(super) fn send_max(&self) -> Option<usize> {
        self.sending.as_ref().map(|flow| flow.chunk_bytes)
    }

    /// Something was received that the guest has not had.
    pub(super) fn keeps_bytes(&self) -> bool {
        self.receiving.as_ref().is_some_and(|flow| !flow.lock().kept.is_empty())
    }

    /// A call is held up, or waits.
    pub(super) fn is_busy(&self) -> bool {
        [&self.receiving, &self.sending].into_iter().flatten().any(|flow| flow.lock().busy)
    }

    /// Those who are held up end with `closed`.
    pub(super) fn close(&self) {
        let wakers = {
            let mut closing = self.closing();
            closing.closed = true;
            std::mem::take(&mut closing.wakers)
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Sends as much of it as may leave now, and gives how much that was, by `send`.
    #[cold]
    pub(super) fn try_send(
        &self,
        data: &[u8],
        send: impl FnOnce(&[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(flow) = &self.sending else { return send(data) };
        let data = &data[..data.len().min(flow.chunk_bytes)];
        if flow.lock().busy {
            return Err(error::busy());
        }
        let mut charge = flow.try_charge(data.len()).ok_or(io::ErrorKind::WouldBlock)?;
        let sent = send(data)?;
        charge.spend(sent);
        Ok(sent)
    }

    async fn recv(&self, mut op: Recv, max: usize) -> io::Result<Buf> {
        let Some(flow) = &self.receiving else { return op.await };
        let _turn = flow.enter()?;
        if flow.lock().kept.is_empty() {
            let received = (&mut op).await?;
            if received.is_empty() || flow.may_have(received.len()) {
                return Ok(received);
            }
            op.pause();
            self.metrics.bytes_in_held.add(received.len() as u64);
            flow.lock().kept = received.into_vec();
        }
        let _held = self.hold(Direction::In);
        self.unless_closed(Direction::In, flow.pay()).await?;
        Ok(flow.release(max))
    }

    async fn send(&self, op: Send, bytes: usize) -> io::Result<usize> {
        let Some(flow) = &self.sending else { return op.await };
        let _turn = flow.enter()?;
        let mut charge = match flow.try_charge(bytes) {
            Some(charge) => charge,
            None => {
                self.metrics.bytes_out_held.add(bytes as u64);
                let _held = self.hold(Direction::Out);
                self.unless_closed(Direction::Out, flow.charge(bytes)).await?
            }
        };
        let sent = op.await?;
        charge.spend(sent);
        Ok(sent)
    }

    /// Until what it gives is dropped.
    fn hold(&self, direction: Direction) -> Holding {
        Holding(self.held.get().map(|held| (held.clone(), held.begin(direction), direction)))
    }

    async fn unless_closed<T>(&self, direction: Direction, future: impl Future<Output = T>) -> io::Result<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let mut closing = self.closing();
            if closing.closed {
                return Poll::Ready(Err(error::closed()));
            }
            let waker = &mut closing.wakers[direction as usize];
            if waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn closing(&self) -> MutexGuard<'_, Closing> {
        self.closing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flow {
    fn new(tenant_max: Option<u64>, own_max: Option<u64>, tenant: &Option<Arc<Bandwidth>>) -> Option<Self> {
        let slowest = tenant_max.into_iter().chain(own_max).min()?;
        Some(Self {
            own: own_max.map(|max| Rate::new(max, burst_bytes(max))),
            tenant: tenant.clone(),
            progress: Progress::default(),
            // Some KiB.
            chunk_bytes: chunk_bytes(slowest) as usize,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call at a time is in it.
    fn enter(&self) -> io::Result<Turn<'_>> {
        let mut state = self.lock();
        if state.busy {
            return Err(error::busy());
        }
        state.busy = true;
        Ok(Turn(self))
    }

    /// Whether the guest may have what was received now. If not, its own limit has been charged.
    fn may_have(&self, bytes: usize) -> bool {
        let until = self.own.as_ref().map(|own| own.charge(bytes as u64));
        let now = until.is_none_or(|until| until <= Instant::now());
        if now && self.tenant.as_ref().is_none_or(|tenant| tenant.try_take(bytes as u64)) {
            return true;
        }
        let mut state = self.lock();
        (state.own_until, state.paid) = (until, false);
        false
    }

    /// Until what is kept may be had.
    async fn pay(&self) {
        let (bytes, until, paid) = {
            let state = self.lock();
            (state.kept.len() as u64, state.own_until, state.paid)
        };
        if paid {
            return;
        }
        if let Some(until) = until {
            time::sleep_until(until).await;
        }
        if let Some(tenant) = &self.tenant {
            tenant.take(bytes, &self.progress).await;
        }
        self.lock().paid = true;
    }

    /// The first part of what is kept.
    fn release(&self, max: usize) -> Buf {
        let mut state = self.lock();
        let max = max.min(state.kept.len());
        let first = Buf::from(&state.kept[..max]);
        state.kept.drain(..max);
        if state.kept.is_empty() {
            // Most connections are not held up for long.
            state.kept = Vec::new();
        }
        first
    }

    fn try_charge(&self, bytes: usize) -> Option<Charge<'_>> {
        let bytes = bytes as u64;
        if self.own.as_ref().is_some_and(|own| !own.try_take(bytes)) {
            return None;
        }
        let mut charge = Charge { flow: self, own: bytes, tenant: 0 };
        if self.tenant.as_ref().is_some_and(|tenant| !tenant.try_take(bytes)) {
            return None;
        }
        charge.tenant = bytes;
        Some(charge)
    }

    async fn charge(&self, bytes: usize) -> Charge<'_> {
        let bytes = bytes as u64;
        let mut charge = Charge { flow: self, own: bytes, tenant: 0 };
        if let Some(own) = &self.own {
            time::sleep_until(own.charge(bytes)).await;
        }
        if let Some(tenant) = &self.tenant {
            tenant.take(bytes, &self.progress).await;
        }
        charge.tenant = bytes;
        charge
    }
}

/// Bytes that may leave. What is not spent goes back.
struct Charge<'a> {
    flow: &'a Flow,
    own: u64,
    tenant: u64,
}

impl Charge<'_> {
    fn spend(&mut self, bytes: usize) {
        self.own = self.own.saturating_sub(bytes as u64);
        self.tenant = self.tenant.saturating_sub(bytes as u64);
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        if let Some(own) = self.flow.own.as_ref().filter(|_| self.own > 0) {
            own.give_back(self.own);
        }
        if let Some(tenant) = self.flow.tenant.as_ref().filter(|_| self.tenant > 0) {
            tenant.give_back(self.tenant);
        }
    }
}

/// A call's turn in one direction.
struct Turn<'a>(&'a Flow);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.lock().busy = false;
    }
}

/// The peer's deadlines stand still.
struct Holding(Option<(Held, u32, Direction)>);

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some((held, since, direction)) = &self.0 {
            held.end(*direction, *since);
        }
    }
}

/// A recv, held up or not. Small, because one waits in every idle connection.
pub(super) enum Receive {
    /// Nothing is limited.
    Free(Recv),
    Throttled(Pin<Box<dyn Future<Output = io::Result<Buf>> + std::marker::Send>>),
}

/// A send, held up or not.
pub(super) enum Transmit {
    Free(Send),
    Throttled(Pin<Box<dyn Future<Output = io::Result<usize>> + std::marker::Send>>),
}

impl Receive {
    #[inline]
    pub(super) fn new(op: Recv, max: usize, throttle: Option<&Arc<Throttle>>) -> Self {
        match throttle {
            None => Self::Free(op),
            Some(throttle) => Self::throttled(op, max, throttle.clone()),
        }
    }

    #[cold]
    fn throttled(op: Recv, max: usize, throttle: Arc<Throttle>) -> Self {
        Self::Throttled(Box::pin(async move { throttle.recv(op, max).await }))
    }
}

impl Transmit {
    #[inline]
    pub(super) fn new(op: Send, bytes: usize, throttle: Option<&Arc<Throttle>>) -> Self {
        match throttle {
            None => Self::Free(op),
            Some(throttle) => Self::throttled(op, bytes, throttle.clone()),
        }
    }

    #[cold]
    fn throttled(op: Send, bytes: usize, throttle: Arc<Throttle>) -> Self {
        Self::Throttled(Box::pin(async move { throttle.send(op, bytes).await }))
    }
}

impl Future for Receive {
    type Output = io::Result<Buf>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Free(op) => Pin::new(op).poll(cx),
            Self::Throttled(op) => op.as_mut().poll(cx),
        }
    }
}

impl Future for Transmit {
    type Output = io::Result<usize>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Free(op) => Pin::new(op).poll(cx),
            Self::Throttled(op) => op.as_mut().poll(cx),
        }
    }
}
