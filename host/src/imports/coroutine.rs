//! conet:net/coroutine, its twins, and `go`.

use std::time::Duration;

use conet_rt::time;
use wasmtime::component::{Access, Accessor, AccessorTask, HasSelf, Resource, TypedFunc};

use super::{HasView, View, context::SpawnRequest, fault, tcp::Connection, view::Live};
use crate::{
    bindings::{
        fibers,
        net::{coroutine::Host, types::ErrorCode},
    },
    ids,
    kill::Kill,
    quota::Permit,
};

impl Host for View {
    fn spawn(
        &mut self,
        entry: u32,
        connections: Vec<Resource<Connection>>,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<u64, ErrorCode>> {
        fault::point("coroutine.spawn");
        let mut parcels = Ok(Vec::new());
        for connection in connections {
            // All are taken from the guest, whatever becomes of one of them.
            let parcel = self.table.delete(connection)?.pack();
            parcels = parcels.and_then(|mut all: Vec<_>| {
                all.push(parcel?);
                Ok(all)
            });
        }
        let Some(spawner) = self.context.spawner.get() else { return Ok(Err(ErrorCode::Unsupported)) };
        Ok(parcels.and_then(|connections| spawner.spawn(SpawnRequest { entry, connections, bytes })))
    }

    async fn sleep(&mut self, duration: u64) -> wasmtime::Result<()> {
        fault::point("coroutine.sleep");
        time::sleep(Duration::from_nanos(duration)).await;
        self.blocked(true, false);
        Ok(())
    }

    async fn yield_now(&mut self) -> wasmtime::Result<()> {
        fault::point("coroutine.yield-now");
        time::yield_now().await;
        self.blocked(true, false);
        Ok(())
    }

    fn id(&mut self) -> wasmtime::Result<u64> {
        fault::point("coroutine.id");
        Ok(self.id)
    }
}

impl fibers::coroutine::Host for View {
    fn stack_overflow(&mut self) -> wasmtime::Result<()> {
        Err(Kill::ShadowStack.into())
    }
}

impl<T: HasView> fibers::coroutine::HostWithStore<T> for HasSelf<View> {
    fn go(mut access: Access<'_, T, Self>, entry: u32) -> wasmtime::Result<Result<u64, ErrorCode>> {
        fault::point("coroutine.go");
        let view = access.get();
        let Some(fibers) = &view.fibers else { return Ok(Err(ErrorCode::Unsupported)) };
        let Some(permit) = view.context.coroutines.try_acquire(1) else {
            view.context.metrics.coroutines_refused.increment();
            return Ok(Err(ErrorCode::LimitExceeded));
        };
        view.context.metrics.coroutines.increment();
        let started = Go { start: fibers.start, entry, _live: fibers.live.enter(), _permit: permit };
        access.spawn(started)?;
        Ok(Ok(ids::next()))
    }

    async fn sleep(accessor: &Accessor<T, Self>, duration: u64) -> wasmtime::Result<()> {
        fault::point("coroutine.sleep");
        time::sleep(Duration::from_nanos(duration)).await;
        accessor.with(|mut a| a.get().blocked(true, false));
        Ok(())
    }

    async fn yield_now(accessor: &Accessor<T, Self>) -> wasmtime::Result<()> {
        fault::point("coroutine.yield-now");
        time::yield_now().await;
        accessor.with(|mut a| a.get().blocked(true, false));
        Ok(())
    }
}

/// A coroutine on its own fiber in a shared instance, from `go` to its end.
struct Go {
    start: TypedFunc<(u32,), ()>,
    entry: u32,
    _live: Live,
    _permit: Permit,
}

impl<T: HasView> AccessorTask<T, HasSelf<View>> for Go {
    async fn run(self, accessor: &Accessor<T, HasSelf<View>>) -> wasmtime::Result<()> {
        self.start.call_concurrent(accessor, (self.entry,)).await
    }
}
