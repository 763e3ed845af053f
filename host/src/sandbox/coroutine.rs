//! A coroutine with an instance of its own: a connection of a plain handler, a spawned function, a plain program.

use std::{
    any::Any,
    collections::VecDeque,
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use conet_rt::budget;
use wasmtime::{
    Engine, Store,
    component::{ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, Resource},
};

use super::{
    component::Loaded,
    pooled::Pooled,
    sample,
    slice::{self, Yield},
    start,
    store::{Occupancy, State, store},
    trap::Ended,
    trusted,
};
use crate::{
    ids,
    imports::{
        Context,
        accept::{Accepted, tell_of_circuit},
        connection::Connection,
        context::SpawnRequest,
        orphan::{Orphan, unless_orphaned},
        watch::Watch,
    },
    metrics::{Import, Metrics},
    quota::Permit,
    roster::{self, Coroutine, Doing, Kind, Present},
};

/// A tenant's component, ready to be entered.
pub struct Sandbox {
    /// What all its instances share.
    pub context: Arc<Context>,
    /// The component, for instances that last.
    pub loaded: Loaded,
    /// The same, for those that come one after another.
    pub pooled: Arc<Pooled>,
}

impl Sandbox {
    /// Serves one connection in a fresh instance, for which `memory` has been taken.
    pub async fn handle(
        self: Arc<Self>,
        mut accepted: Accepted,
        watch: Option<Arc<Watch>>,
        memory: Permit,
    ) -> Ended {
        let timing = self.context.metrics.timing(Import::AcceptToGuest);
        let id = ids::next();
        let loaded = self.loaded_for_one();
        let entry = loaded.entries.handle.expect("only components with this entry are served");
        let peer = accepted.peer;
        let present = self.present(id, Kind::Connection, Some(peer));
        let store = store_of(loaded, &self.context, (Occupancy::One, Some(memory)), id, present.as_ref());
        // Out here it lives until the fate is known, should the guest never get it.
        let fate = store.data().view.fate.clone();
        let pass = accepted.pass.take();
        let orphan = watch.as_ref().and_then(|watch| watch.orphan(1));
        let connection = Connection::of_handler(accepted, fate, watch.as_ref(), orphan.as_ref());
        let mut connection = Some(connection);
        let body = async |store: &mut Store<State>, instance: Instance| {
            drop(timing);
            let connection = connection.take().expect("entered once");
            let connection = store.data_mut().view.table.push(connection)?;
            let (result,) = call::<_, (Result<(), ()>,)>(store, &instance, &entry, (connection,)).await?;
            Ok(result)
        };
        let ended = self.enter_one_of(loaded, store, orphan, body).await;
        if let Ended::Returned(Err(())) = ended {
            self.context.metrics.handler_errors.increment();
        }
        ended.report(&self.context, id, Some(peer), "a connection's coroutine");
        if let Some(pass) = pass {
            let change = match ended {
                Ended::Trapped(_) => pass.trapped(),
                // It says nothing of the handler: its peers bring it about.
                Ended::Orphaned => None,
                Ended::Returned(_) | Ended::Exit(_) => pass.succeeded(),
            };
            tell_of_circuit(&self.context, change);
        }
        ended
    }

    /// Runs what `coroutine.spawn` asked for in a fresh instance, for which `memory` has been taken.
    pub async fn start(self: Arc<Self>, id: u64, request: SpawnRequest, memory: Permit) -> Ended {
        let loaded = self.loaded_for_one();
        let entry = loaded.entries.start.expect("the spawner is set only for components with this entry");
        let present = self.present(id, Kind::Spawned, None);
        let store = store_of(loaded, &self.context, (Occupancy::One, Some(memory)), id, present.as_ref());
        let fate = &store.data().view.fate;
        let peers = request.connections.len();
        let watch = Watch::of_spawned(&self.context).filter(|_| peers > 0);
        let orphan = watch.as_ref().and_then(|watch| watch.orphan(peers));
        let watched = |connection: Connection| match watch.as_ref().zip(orphan.as_ref()) {
            Some((watch, orphan)) => connection.watched_for(watch, orphan),
            None => connection,
        };
        // Out here they live until the fate is known, should the guest never get them.
        let mut unpacked: VecDeque<_> =
            request.connections.into_iter().map(|parcel| parcel.unpack(fate.clone()).map(watched)).collect();
        let body = async |store: &mut Store<State>, instance: Instance| {
            let mut connections = Vec::new();
            while let Some(connection) = unpacked.pop_front() {
                connections.push(store.data_mut().view.table.push(connection?)?);
            }
            let params = (request.entry, connections, request.bytes);
            // As long as the call holds the bytes.
            let _memory = request.memory;
            call::<(u32, Vec<Resource<Connection>>, Vec<u8>), ()>(store, &instance, &entry, params).await?;
            Ok(Ok(()))
        };
        let ended = self.enter_one_of(loaded, store, orphan.clone(), body).await;
        let peer = present.and_then(|present| present.peer());
        ended.report(&self.context, id, peer, "a spawned coroutine");
        ended
    }

    /// Runs a program whose main coroutine is its only one in this instance: a plain one, or a wasi:cli/run.
    pub async fn run(self: Arc<Self>, entry: ComponentExportIndex) -> Ended {
        let id = ids::next();
        let body = async |store: &mut Store<State>, instance: Instance| {
            let (result,) = call::<(), (Result<(), ()>,)>(store, &instance, &entry, ()).await?;
            Ok(result)
        };
        let present = self.present(id, Kind::Main, None);
        let store = store_of(&self.loaded, &self.context, (Occupancy::Many, None), id, present.as_ref());
        let ended = self.enter(store, body).await;
        ended.report(&self.context, id, None, "the program");
        ended
    }

    /// The memory that a fresh instance begins with, as far as the limits let it.
    pub fn fresh_bytes(&self) -> u64 {
        let most = self.context.memory.max().min(self.context.limits.fresh_memory_bytes_max as u64);
        self.loaded.initial_bytes.min(most)
    }

    /// Makes an instance and drops it: whether one can be made.
    pub async fn rehearse(self: Arc<Self>) -> Ended {
        let body = async |_: &mut Store<State>, _: Instance| Ok(Ok(()));
        self.enter(self.store(ids::next(), Occupancy::Many), body).await
    }

    pub(super) fn store(&self, id: u64, occupancy: Occupancy) -> Store<State> {
        store(&self.loaded.engine, &self.context, occupancy, id, None)
    }

    /// Enters a coroutine with an instance of its own, if somebody may want to see it.
    fn present(&self, id: u64, kind: Kind, peer: Option<SocketAddr>) -> Option<Present> {
        let coroutine = || Coroutine::new(id, kind, roster::Instance::new(id, false), peer);
        self.context.roster.as_ref().map(|roster| roster.enter(coroutine()))
    }

    fn loaded_for_one(&self) -> &Loaded {
        self.pooled.get(&self.loaded).unwrap_or(&self.loaded)
    }

    /// Makes an instance that lasts and lets `body` call it.
    pub(super) async fn enter(
        &self,
        store: Store<State>,
        body: impl AsyncFnOnce(&mut Store<State>, Instance) -> wasmtime::Result<Result<(), ()>>,
    ) -> Ended {
        self.enter_one_of(&self.loaded, store, None, body).await
    }

    /// Makes an instance and lets `body` call it; a trap, or a panic of the host, ends this coroutine alone. So does `orphan`, if all its
    /// peers are gone.
    async fn enter_one_of(
        &self,
        loaded: &Loaded,
        mut store: Store<State>,
        orphan: Option<Arc<Orphan>>,
        body: impl AsyncFnOnce(&mut Store<State>, Instance) -> wasmtime::Result<Result<(), ()>>,
    ) -> Ended {
        let fate = store.data().view.fate.clone();
        let last_yield = store.data().slice.last_yield.clone();
        let making_yield = last_yield.clone();
        let coroutine = store.data().view.coroutine.clone();
        let seen = coroutine.is_some() || store.data().view.crew.is_some();
        let call = Box::pin(async {
            self.context.metrics.instances.increment();
            let limit = self.context.limits.start_max;
            let making = loaded.pre.instantiate_async(&mut store);
            let instance = start::within(limit, &self.context, &making_yield, making).await?;
            store.data_mut().slice.started();
            store.data_mut().limiter.settle();
            if let Some(coroutine) = &store.data().view.coroutine {
                coroutine.begin(Doing::Running);
            }
            body(&mut store, instance).await
        });
        let seen = seen.then(|| self.context.metrics.clone());
        let turns = Turns { call, engine: &loaded.engine, last_yield, made_room: false, seen, coroutine };
        let ended = match unless_orphaned(orphan.as_deref(), turns).await {
            Some(Ok(called)) => Ended::new(called, &loaded.lines),
            Some(Err(panic)) => Ended::panicked(&self.context, &*panic),
            None => Ended::Orphaned,
        };
        if let Some(ending) = ended.cuts_off() {
            fate.trap(ending);
        }
        ended
    }
}

/// A store, for which memory may have been taken. A coroutine has it to itself, if that is known.
fn store_of(
    loaded: &Loaded,
    context: &Arc<Context>,
    (occupancy, memory): (Occupancy, Option<Permit>),
    id: u64,
    present: Option<&Present>,
) -> Store<State> {
    let mut store = store(&loaded.engine, context, occupancy, id, memory);
    if let Some(present) = present {
        store.data_mut().set_coroutine(present.coroutine());
    }
    store
}

/// Calls one of the instance's functions.
async fn call<P, R>(
    store: &mut Store<State>,
    instance: &Instance,
    entry: &ComponentExportIndex,
    params: P,
) -> wasmtime::Result<R>
where
    P: ComponentNamedList + Lower + Send + Sync + 'static,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    let function = instance.get_typed_func::<P, R>(&mut *store, entry)?;
    function.call_async(&mut *store, params).await
}

/// Polls a guest's call: each poll is a turn of its own, and a panic comes back as an error.
struct Turns<'a, F> {
    call: Pin<Box<F>>,
    engine: &'a Engine,
    last_yield: Arc<Yield>,
    /// The last turn ended because it had its share of operations.
    made_room: bool,
    /// Told how long they are, if somebody may want to see them.
    seen: Option<Arc<Metrics>>,
    /// They are this one's alone.
    coroutine: Option<Arc<Coroutine>>,
}

impl<F: Future> Future for Turns<'_, F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        slice::begin_turn();
        let _timing = self.seen.as_ref().map(|metrics| metrics.timing(Import::Slice));
        if self.seen.is_some() {
            sample::begin_turn();
            if let Some(coroutine) = &self.coroutine {
                coroutine.stacks.set_waker(cx.waker());
            }
        }
        if self.made_room {
            self.last_yield.returned();
        }
        // After a panic the future is only dropped, and with it the store, which nobody else sees.
        let (engine, call) = (self.engine, self.call.as_mut());
        let polled = trusted::within_alarm(engine, || catch_unwind(AssertUnwindSafe(|| call.poll(cx))));
        slice::end_turn();
        self.made_room = budget::is_exhausted();
        if let Some(coroutine) = &self.coroutine {
            sample::charge(coroutine);
        }
        match polled {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}
