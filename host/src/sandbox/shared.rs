//! An instance with many coroutines: a program that calls `go`, or a shared handler on one worker.

use std::{
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
};

use wasmtime::{
    AsContextMut, Store,
    component::{Accessor, AccessorTask, HasSelf, Instance, Resource, TypedFunc},
};

use super::{
    coroutine::Sandbox,
    slice::Yield,
    store::{Occupancy, State},
    trap::Ended,
};
use crate::{
    bindings::net::types::ErrorCode,
    circuit::Pass,
    config::warn::Warn,
    ids,
    imports::{
        Context,
        accept::{accept, tell_of_circuit},
        connection::Connection,
        crew,
        incoming::Incoming,
        view::{Fibers, Live, LiveCount},
        watch::Watch,
    },
    quota::Permit,
    roster::{self, Kind, Present},
};

type Handle = TypedFunc<(Resource<Connection>,), (Result<(), ()>,)>;

impl Sandbox {
    /// Runs a program whose coroutines share its instance, until its main coroutine returns: the others end with it.
    /// During the shutdown they may finish first.
    pub async fn run_shared(self: Arc<Self>) -> Ended {
        let id = ids::next();
        let context = self.context.clone();
        let run = self.loaded.entries.fiber_run.expect("only programs with this entry are run so");
        let seen = roster::Instance::new(id, true);
        let mut culprit = Culprit::new(id);
        let body = async |store: &mut Store<State>, instance: Instance| {
            let live = self.set_fibers(store, &instance)?;
            let crew = store.data().view.crew.as_ref();
            let present = crew.map(|crew| crew.enter(id, Kind::Main, None));
            let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut *store, run)?;
            let guard = Freeze::new(&context, store, live.clone(), 1);
            let main = async |accessor: &Accessor<State>| {
                let returned = crew::run(accessor, run, (), present.as_ref()).await;
                if context.shutdown.begun() && returned.is_ok() {
                    all_ended(&live).await;
                }
                returned
            };
            let returned = guard.watch(store, main).await.flatten();
            culprit.find(store, &returned);
            let (result,) = returned?;
            Ok(result)
        };
        let mut store = self.store(id, Occupancy::Many);
        store.data_mut().set_crew(&seen);
        let ended = self.enter(store, body).await;
        culprit.report(&ended, &self.context, "the program");
        ended
    }

    /// Serves a listener's connections as coroutines of one instance, until the shutdown or a trap.
    ///
    /// Errors of the listener itself come back as `Err`.
    pub async fn serve_shared(self: Arc<Self>, incoming: &Incoming) -> Result<Ended, ErrorCode> {
        let id = ids::next();
        let context = self.context.clone();
        let handle = self.loaded.entries.fiber_handle.expect("only handlers with this entry are served so");
        let mut store = self.store(id, Occupancy::Many);
        store.data_mut().set_crew(&roster::Instance::new(id, true));
        let fate = store.data().view.fate.clone();
        // Out here it lives until the fate is known, should no coroutine get it.
        let mut waiting = None;
        let watch = Watch::new(&context.limits.peer, &context.metrics, &context.warnings);
        let mut broken = None;
        let mut culprit = Culprit::new(id);
        let body = async |store: &mut Store<State>, instance: Instance| {
            let live = self.set_fibers(store, &instance)?;
            let handle: Handle = instance.get_typed_func(&mut *store, handle)?;
            let guard = Freeze::new(&context, store, live.clone(), 2);
            let main = async |accessor: &Accessor<State>| -> wasmtime::Result<()> {
                loop {
                    let mut accepted = match accept(&context, incoming).await {
                        Ok(accepted) => accepted,
                        // Nobody shall wait in the backlog of a port that is not served any more.
                        Err(ErrorCode::ShuttingDown) => break incoming.close(),
                        Err(code) => {
                            broken = Some(code);
                            break;
                        }
                    };
                    let (peer, pass) = (accepted.peer, accepted.pass.take());
                    waiting = Some(Connection::of_handler(accepted, fate.clone(), watch.as_ref(), None));
                    let coroutine = context.coroutines.acquire().await;
                    context.warn_beyond(Warn::Coroutines, &context.coroutines, "coroutines");
                    context.metrics.coroutines.increment();
                    let connection = waiting.take().expect("it has just come");
                    let (connection, present) = accessor.with(|mut a| {
                        let view = &mut a.get().view;
                        let crew = view.crew.as_ref();
                        let present = crew.map(|crew| crew.enter(ids::next(), Kind::Connection, Some(peer)));
                        view.table.push(connection).map(|connection| (connection, present))
                    })?;
                    accessor.spawn(Serve {
                        handle,
                        connection,
                        pass,
                        present,
                        _live: live.enter(),
                        _coroutine: coroutine,
                    })?;
                }
                all_ended(&live).await;
                Ok(())
            };
            let returned = guard.watch(store, main).await.flatten();
            culprit.find(store, &returned);
            returned?;
            Ok(Ok(()))
        };
        let ended = self.enter(store, body).await;
        culprit.report(&ended, &self.context, "a shared handler's instance");
        broken.map_or(Ok(ended), Err)
    }

    fn set_fibers(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<LiveCount> {
        let live = LiveCount::default();
        if let Some(start) = &self.loaded.entries.fiber_start {
            let start = instance.get_typed_func(&mut *store, start)?;
            store.data_mut().view.fibers = Some(Fibers { start, live: live.clone() });
        }
        Ok(live)
    }
}

/// Which coroutine has ended an instance by its trap, as far as that is known.
struct Culprit {
    id: u64,
    peer: Option<SocketAddr>,
}

impl Culprit {
    /// The instance's first one, unless another is found.
    fn new(id: u64) -> Self {
        Self { id, peer: None }
    }

    /// Whose code or call ran last.
    fn find<R>(&mut self, store: &mut Store<State>, returned: &wasmtime::Result<R>) {
        if returned.is_err()
            && let Some(coroutine) = crew::caller(store.as_context_mut())
        {
            *self = Self { id: coroutine.id, peer: coroutine.peer() };
        }
    }

    fn report(&self, ended: &Ended, context: &Context, what: &str) {
        ended.report(context, self.id, self.peer, what);
    }
}

/// A connection's coroutine in a shared handler.
struct Serve {
    handle: Handle,
    connection: Resource<Connection>,
    /// With its instance it is dropped: that has trapped once, whatever the number of its connections.
    pass: Option<Pass>,
    /// If somebody may want to see it.
    present: Option<Present>,
    _live: Live,
    _coroutine: Permit,
}

impl AccessorTask<State> for Serve {
    async fn run(self, accessor: &Accessor<State, HasSelf<State>>) -> wasmtime::Result<()> {
        // An error of the handler is its connection's end, and no more.
        let (result,) = crew::run(accessor, self.handle, (self.connection,), self.present.as_ref()).await?;
        if result.is_err() {
            accessor.with(|mut a| a.get().view.context.metrics.handler_errors.increment());
        }
        if let Some(change) = self.pass.and_then(Pass::succeeded) {
            accessor.with(|mut a| tell_of_circuit(&a.get().view.context, Some(change)));
        }
        Ok(())
    }
}

/// Ready when no coroutine of the instance is left. The instance's main future is polled at each of its turns.
async fn all_ended(live: &LiveCount) {
    std::future::poll_fn(|_| if live.value() == 0 { Poll::Ready(()) } else { Poll::Pending }).await
}

/// Notices when a blocking call holds the whole instance, and says so once.
///
/// wasmtime polls the instance's main future at each turn of its event loop. If a poll of the whole leaves it out,
/// some coroutine is inside a call that does not let go of the store.
struct Freeze {
    context: Arc<Context>,
    last_yield: Arc<Yield>,
    live: LiveCount,
    /// So many coroutines started by `go` or by connections mean that somebody else is held up.
    live_min: usize,
}

impl Freeze {
    fn new(context: &Arc<Context>, store: &Store<State>, live: LiveCount, live_min: usize) -> Self {
        let last_yield = store.data().slice.last_yield.clone();
        Self { context: context.clone(), last_yield, live, live_min }
    }

    async fn watch<R>(
        &self,
        store: &mut Store<State>,
        main: impl AsyncFnOnce(&Accessor<State>) -> R,
    ) -> wasmtime::Result<R> {
        let turned = AtomicBool::new(false);
        let mut whole = pin!(store.run_concurrent(async |accessor| {
            let mut main = pin!(main(accessor));
            std::future::poll_fn(|cx| {
                turned.store(true, Relaxed);
                main.as_mut().poll(cx)
            })
            .await
        }));
        std::future::poll_fn(|cx| {
            turned.store(false, Relaxed);
            let poll = whole.as_mut().poll(cx);
            if poll.is_pending() && !turned.load(Relaxed) {
                self.held();
            }
            poll
        })
        .await
    }

    fn held(&self) {
        if self.last_yield.under_way() || self.live.value() < self.live_min {
            return;
        }
        if !self.context.freeze_told.swap(true, Relaxed) {
            tracing::warn!(
                tenant = %self.context.name,
                "a blocking WASI call (std::thread::sleep, file or terminal I/O) holds up {} other coroutines of its \
                 instance: call conet::sleep instead of std::thread::sleep, and do file I/O in a coroutine of \
                 conet::spawn",
                self.live.value(),
            );
        }
    }
}
