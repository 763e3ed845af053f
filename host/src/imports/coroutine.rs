//! conet:net/coroutine, its twins, and `go`.

use std::time::Duration;

use conet_rt::time;
use wasmtime::component::{Access, Accessor, AccessorTask, HasSelf, Resource, TypedFunc};

use super::{
    HasView, View,
    connection::Connection,
    context::SpawnRequest,
    crew, fault,
    view::Live,
    waiting::{caller, waiting},
};
use crate::{
    bindings::{
        fibers,
        net::{
            coroutine::{Host, HostWithStore},
            types::ErrorCode,
        },
    },
    config::warn::Warn,
    ids,
    kill::Kill,
    metrics::Import,
    quota::Permit,
    roster::{Doing, Kind, Present, meanwhile},
};

impl Host for View {
    fn spawn(
        &mut self,
        entry: u32,
        connections: Vec<Resource<Connection>>,
        bytes: Vec<u8>,
    ) -> wasmtime::Result<Result<u64, ErrorCode>> {
        fault::point("coroutine.spawn");
        let _timing = self.context.metrics.timing(Import::Spawn);
        let fit = connections.len() <= self.context.limits.fresh_handles_max;
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
        if !fit {
            return Ok(Err(ErrorCode::LimitExceeded));
        }
        let Some(memory) = self.context.memory.try_acquire(bytes.len() as u64) else {
            self.context.metrics.memory_refused.increment();
            return Ok(Err(ErrorCode::LimitExceeded));
        };
        let request = |connections| SpawnRequest { entry, connections, bytes, memory };
        Ok(parcels.and_then(|connections| spawner.spawn(request(connections))))
    }

    fn id(&mut self) -> wasmtime::Result<u64> {
        fault::point("coroutine.id");
        Ok(self.id)
    }
}

impl<T: HasView> HostWithStore<T> for HasSelf<View> {
    async fn sleep(mut access: Access<'_, T, Self>, duration: u64) -> wasmtime::Result<()> {
        fault::point("coroutine.sleep");
        waiting(&mut access, Doing::Sleep, time::sleep(Duration::from_nanos(duration))).await;
        access.get().blocked(true, false);
        Ok(())
    }

    async fn yield_now(mut access: Access<'_, T, Self>) -> wasmtime::Result<()> {
        fault::point("coroutine.yield-now");
        waiting(&mut access, Doing::Ready, time::yield_now()).await;
        access.get().blocked(true, false);
        Ok(())
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
        let _timing = view.context.metrics.timing(Import::Go);
        let Some(fibers) = &view.fibers else { return Ok(Err(ErrorCode::Unsupported)) };
        let Some(permit) = view.context.coroutines.try_acquire(1) else {
            view.context.metrics.coroutines_refused.increment();
            return Ok(Err(ErrorCode::LimitExceeded));
        };
        view.context.warn_beyond(Warn::Coroutines, &view.context.coroutines, "coroutines");
        view.context.metrics.coroutines.increment();
        let id = ids::next();
        let present = view.crew.as_ref().map(|crew| crew.enter(id, Kind::Go, None));
        let started = Go { start: fibers.start, entry, present, _live: fibers.live.enter(), _permit: permit };
        access.spawn(started)?;
        Ok(Ok(id))
    }

    async fn sleep(accessor: &Accessor<T, Self>, duration: u64) -> wasmtime::Result<()> {
        fault::point("coroutine.sleep");
        let who = caller(accessor);
        let _meanwhile = meanwhile(who.as_deref(), Doing::Sleep);
        time::sleep(Duration::from_nanos(duration)).await;
        accessor.with(|mut a| a.get().blocked(true, false));
        Ok(())
    }

    async fn yield_now(accessor: &Accessor<T, Self>) -> wasmtime::Result<()> {
        fault::point("coroutine.yield-now");
        let who = caller(accessor);
        let _meanwhile = meanwhile(who.as_deref(), Doing::Ready);
        time::yield_now().await;
        accessor.with(|mut a| a.get().blocked(true, false));
        Ok(())
    }
}

/// A coroutine on its own fiber in a shared instance, from `go` to its end.
struct Go {
    start: TypedFunc<(u32,), ()>,
    entry: u32,
    /// If somebody may want to see it.
    present: Option<Present>,
    _live: Live,
    _permit: Permit,
}

impl<T: HasView> AccessorTask<T, HasSelf<View>> for Go {
    async fn run(self, accessor: &Accessor<T, HasSelf<View>>) -> wasmtime::Result<()> {
        crew::run(accessor, self.start, (self.entry,), self.present.as_ref()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conet_rt::{WorkerConfig, net::TcpStream};

    use crate::{
        config::limits::Limits,
        imports::{Context, context::Spawn},
    };
    use std::{os::unix::net::UnixStream, sync::Mutex};

    /// Keeps what it is to start.
    #[derive(Default)]
    struct Queue(Mutex<Vec<SpawnRequest>>);

    impl Spawn for &'static Queue {
        fn spawn(&self, request: SpawnRequest) -> Result<u64, ErrorCode> {
            let mut queue = self.0.lock().expect("no test panics with it");
            queue.push(request);
            Ok(queue.len() as u64)
        }
    }

    #[test]
    fn bytes_on_their_way_count_as_the_tenants_memory() {
        let context = Context::test(Limits { tenant_memory_bytes_max: 100, ..Limits::default() });
        let queue: &'static Queue = Box::leak(Box::default());
        assert!(context.spawner.set(Box::new(queue)).is_ok());
        let mut view = View::new(context.clone(), 1, 10);
        let mut spawn = |bytes| view.spawn(0, Vec::new(), vec![0; bytes]).expect("no trap");
        assert_eq!(spawn(60), Ok(1));
        assert_eq!(context.memory.used(), 60);
        assert_eq!(spawn(60), Err(ErrorCode::LimitExceeded));
        assert_eq!(spawn(40), Ok(2));
        queue.0.lock().expect("no test panics with it").clear();
        assert_eq!(context.memory.used(), 0);
    }

    /// The fresh instance could not hold them: an error to the one who spawns, and no trap of what is spawned.
    #[test]
    fn connections_that_a_fresh_instance_could_not_hold_are_refused_and_closed() {
        let context = Context::test(Limits { fresh_handles_max: 2, ..Limits::default() });
        let queue: &'static Queue = Box::leak(Box::default());
        assert!(context.spawner.set(Box::new(queue)).is_ok());
        conet_rt::block_on(WorkerConfig::default(), async {
            let mut view = View::new(context.clone(), 1, 10);
            let mut spawn = |count| {
                let connections = (0..count).map(|_| {
                    let (socket, _) = UnixStream::pair().expect("descriptors");
                    let stream = TcpStream::from_fd(socket.into()).expect("a stream socket");
                    let permit = context.connections.try_acquire(1).expect("there are many");
                    let connection = Connection::new(stream, permit, view.fate.clone());
                    view.table.push(connection).expect("ten fit")
                });
                let connections = connections.collect();
                view.spawn(0, connections, Vec::new()).expect("no trap")
            };
            assert_eq!(spawn(3), Err(ErrorCode::LimitExceeded));
            assert_eq!(context.connections.used(), 0);
            assert_eq!(spawn(2), Ok(1));
        })
        .expect("a worker");
    }
}
