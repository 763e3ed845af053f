//! The blocking calls of coroutines that share an instance.

use wasmtime::component::{Accessor, HasSelf, Resource};

use super::{called, listener::Listener};
use crate::{
    bindings::{
        fibers,
        net::types::{ErrorCode, IpSocketAddress, Target},
    },
    imports::{HasView, View, connection::Connection, view::noting_wait, waiting::caller},
    roster::{Doing, meanwhile},
};

impl fibers::tcp::Host for View {}

impl<T: HasView> fibers::tcp::HostWithStore<T> for HasSelf<View> {
    async fn accept(
        accessor: &Accessor<T, Self>,
        listener: Resource<Listener>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<(Resource<Connection>, IpSocketAddress), ErrorCode>> {
        let accept = accessor.with(|mut a| a.get().begin_accept(&listener, timeout))?;
        let who = caller(accessor);
        let _meanwhile = meanwhile(who.as_deref(), Doing::Accept);
        let accepted = noting_wait(accept).await;
        accessor.with(|mut a| a.get().end_accept(accepted))
    }

    async fn connect(
        accessor: &Accessor<T, Self>,
        target: Target,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<Resource<Connection>, ErrorCode>> {
        let who = caller(accessor);
        let connect = accessor.with(|mut a| a.get().begin_connect(target, timeout, who.clone()));
        let _meanwhile = meanwhile(who.as_deref(), Doing::Connect);
        let connected = noting_wait(connect).await;
        accessor.with(|mut a| a.get().end_connect(connected))
    }

    async fn send(
        accessor: &Accessor<T, Self>,
        connection: Resource<Connection>,
        data: Vec<u8>,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Result<u32, ErrorCode>> {
        let send = accessor.with(|mut a| a.get().begin_send(&connection, data, timeout))?;
        let who = caller(accessor);
        let _meanwhile = meanwhile(who.as_deref(), Doing::Send);
        let sent = called(send).await;
        Ok(accessor.with(|mut a| a.get().end_send(&connection, sent)))
    }
}
