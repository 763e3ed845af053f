//! What imports see of the store they are called from.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Instant,
};

use conet_rt::{
    budget,
    time::{Sleep, sleep_until},
};
use wasmtime::{
    StoreContextMut,
    component::{Resource, ResourceTable, ResourceTableError, TypedFunc},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::{Context, crew::Crew, error::code, inbox::Inbox, wasi};
use crate::{
    bindings::net::types::ErrorCode,
    ending::Ending,
    metrics::Timing,
    roster::{Coroutine, Doing},
};

/// The part of a store's data that imports work on.
pub struct View {
    /// What the tenant's instances share.
    pub context: Arc<Context>,
    /// The host's side of the guest's handles.
    pub table: ResourceTable,
    /// The calling coroutine's id; in a shared instance, that of its first one.
    pub id: u64,
    /// Who prints; in a shared instance the first one, if it is not known who calls.
    pub printing: Arc<AtomicU64>,
    /// How the instance ends, which its connections look at when they drop.
    pub fate: Arc<Fate>,
    /// Blocking points passed by any coroutine of this store: CPU between two of them is bounded.
    pub blocking_points: u64,
    /// The coroutine that has the store to itself, if somebody may want to see it.
    pub coroutine: Option<Arc<Coroutine>>,
    /// In a shared instance, its coroutines, if somebody may want to see them.
    pub crew: Option<Box<Crew>>,
    /// In a shared instance, how its coroutines are started.
    pub fibers: Option<Fibers>,
    /// In a shared instance, what its coroutines wait to receive.
    pub inbox: Option<Box<Inbox>>,
    /// Made on the first call that needs it: most handlers never do.
    wasi: Option<WasiCtx>,
}

/// Store data that has a view in it.
pub trait HasView: Send + 'static {
    /// The view.
    fn view(&mut self) -> &mut View;

    /// The view, to be read.
    fn view_ref(&self) -> &View;

    /// A coroutine with the store to itself has waited and goes on: its slice begins now.
    fn begin_slice(store: StoreContextMut<'_, Self>)
    where
        Self: Sized;
}

/// Starting coroutines in a shared instance.
pub struct Fibers {
    /// The guest's `coroutine-entry.start`.
    pub start: TypedFunc<(u32,), ()>,
    /// Counts the coroutines of this instance.
    pub live: LiveCount,
}

/// How many coroutines of an instance have not ended.
#[derive(Debug, Default, Clone)]
pub struct LiveCount(Arc<AtomicUsize>);

/// One coroutine, counted while this lives.
#[derive(Debug)]
pub struct Live(LiveCount);

impl LiveCount {
    /// Counts a coroutine.
    pub fn enter(&self) -> Live {
        self.0.fetch_add(1, Ordering::Relaxed);
        Live(self.clone())
    }

    /// The count.
    pub fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How an instance ends: its connections close with FIN after a normal end, with RST if they are cut off.
pub struct Fate {
    /// Set when it has trapped.
    trapped: OnceLock<Ending>,
    /// Who entered it first.
    coroutine: u64,
    pub(super) context: Arc<Context>,
}

impl Fate {
    fn new(context: Arc<Context>, coroutine: u64) -> Arc<Self> {
        Arc::new(Self { trapped: OnceLock::new(), coroutine, context })
    }

    /// The instance has trapped, or was ended, which is that ending to its connections.
    pub fn trap(&self, ending: Ending) {
        // The first trap is the one.
        let _ = self.trapped.set(ending);
    }

    /// How its connections end, if it did not end by itself.
    pub(super) fn ending(&self) -> Option<Ending> {
        let drained = self.context.cut_off.load(Ordering::Relaxed).then_some(Ending::Drain);
        self.trapped.get().copied().or(drained)
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn coroutine(&self) -> u64 {
        self.coroutine
    }

    /// Has the instance trapped, or the drain's deadline passed?
    pub fn cut_off(&self) -> bool {
        self.trapped.get().is_some() || self.context.cut_off.load(Ordering::Relaxed)
    }
}

impl View {
    /// A view with nothing in it, for an instance of the tenant; `handles_max` bounds its resource table.
    pub fn new(context: Arc<Context>, id: u64, handles_max: usize) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles_max);
        Self {
            fate: Fate::new(context.clone(), id),
            context,
            table,
            id,
            printing: Arc::new(AtomicU64::new(id)),
            blocking_points: 0,
            coroutine: None,
            crew: None,
            fibers: None,
            inbox: None,
            wasi: None,
        }
    }

    /// A handle for the guest, or `limit-exceeded` if it has as many as it may.
    pub(crate) fn push<T: Send + 'static>(
        &mut self,
        entry: T,
    ) -> wasmtime::Result<Result<Resource<T>, ErrorCode>> {
        match self.table.push(entry) {
            Ok(handle) => Ok(Ok(handle)),
            Err(ResourceTableError::Full) => {
                self.context.metrics.handles_refused.increment();
                Ok(Err(ErrorCode::LimitExceeded))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Notes the end of a blocking call. One that neither waited nor moved anything is no blocking point: a guest
    /// that spins on the end of a stream spends its CPU budget. Letting others run, because it has had its share of
    /// operations, is not waiting.
    pub(crate) fn blocked(&mut self, waited: bool, moved: bool) {
        self.blocking_points += u64::from(waited || moved);
        if waited && let Some(coroutine) = &self.coroutine {
            coroutine.begin(Doing::Running);
        }
    }
}

impl WasiView for View {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let ctx = self.wasi.get_or_insert_with(|| wasi::context(&self.context));
        WasiCtxView { ctx, table: &mut self.table }
    }
}

impl crate::bindings::net::types::Host for View {}

/// How a blocking call came out, and whether it had to wait.
pub(crate) struct Called<R> {
    pub(crate) result: Result<R, ErrorCode>,
    pub(crate) waited: bool,
}

impl<R> Called<R> {
    /// It was refused before it began.
    pub(crate) fn refused(code: ErrorCode) -> Self {
        Self { result: Err(code), waited: false }
    }
}

/// An operation with its deadline. Small and flat, because one waits in every idle connection, and is copied on its way
/// there.
pub(crate) struct Call<F> {
    op: F,
    deadline: Option<Instant>,
    /// Made when the operation has to wait.
    timer: Option<Pin<Box<Sleep>>>,
    waited: bool,
    /// Counts when this drops, which is at once when it is ready.
    timing: Timing,
}

impl<F> Call<F> {
    pub(crate) fn new(timing: Timing, op: F, deadline: Option<Instant>) -> Self {
        Self { op, deadline, timer: None, waited: false, timing }
    }

    /// It has had to wait.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited
    }
}

impl<R, F: Future<Output = io::Result<R>> + Unpin> Call<F> {
    /// As a future's `poll`.
    pub(crate) fn poll_now(&mut self, cx: &mut TaskContext<'_>) -> Poll<Called<R>> {
        let call = self;
        call.timing.resume();
        if let Poll::Ready(result) = Pin::new(&mut call.op).poll(cx) {
            return Poll::Ready(Called { result: result.map_err(|e| code(&e)), waited: call.waited });
        }
        if let Some(deadline) = call.deadline {
            let timer = call.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Called { result: Err(ErrorCode::TimedOut), waited: call.waited });
            }
        }
        call.waited |= !budget::is_exhausted();
        call.timing.pause();
        Poll::Pending
    }
}

impl<R, F: Future<Output = io::Result<R>> + Unpin> Future for Call<F> {
    type Output = Called<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Called<R>> {
        self.poll_now(cx)
    }
}

/// `future`'s output, with `timing` standing while it waits.
pub(crate) async fn timed<F: Future>(mut timing: Timing, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        timing.resume();
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() {
            timing.pause();
        }
        polled
    })
    .await
}

/// `future`'s output, and whether it had to wait.
pub(crate) async fn noting_wait<F: Future>(future: F) -> (F::Output, bool) {
    let mut future = std::pin::pin!(future);
    let mut waited = false;
    let output = std::future::poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        waited |= polled.is_pending() && !budget::is_exhausted();
        polled
    })
    .await;
    (output, waited)
}
