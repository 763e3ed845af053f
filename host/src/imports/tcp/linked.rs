//! The two calls of every message, linked by hand: what is generated copies and allocates more.

use std::{
    future::{Future, ready},
    marker,
    pin::Pin,
    task::{self, Poll, ready},
};

use conet_rt::net::TcpStream;
use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{HasSelf, Linker, Resource, WasmList},
};

use super::super::{
    HasView, View,
    backtrace::take_if_wanted,
    connection::Connection,
    crew, fault,
    throttle::Receive,
    view::{Call, Called},
};
use crate::{
    bindings::net::{tcp, types::ErrorCode},
    roster::{Doing, Kind},
};

/// Links conet:net/tcp.
pub(in super::super) fn add_to_linker<T: HasView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    tcp::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
    // What a guest sends goes from its memory to where it leaves from, without a copy in between.
    linker.allow_shadowing(true);
    let mut instance = linker.instance("conet:net/tcp@0.1.0")?;
    instance.func_wrap(
        "[method]connection.try-send",
        |mut store, (connection, data): (_, WasmList<u8>)| {
            if store.data().view_ref().crew.is_some() {
                crew::show(store.as_context_mut());
            }
            let sent = store.data().view_ref().begin_try_send(&connection, data.as_le_slice(&store))?;
            Ok((store.data_mut().view().end_try_send(&connection, sent),))
        },
    )?;
    // What waits of a recv is small, and made where it waits.
    instance.func_wrap_async("[method]connection.recv", receiving)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// A recv under way, by a coroutine that has the store to itself.
pub(super) struct Receiving<'a, T: 'static> {
    store: StoreContextMut<'a, T>,
    connection: Resource<Connection>,
    begun: Result<Call<Receive>, ErrorCode>,
}

/// What it comes to.
pub(super) type Received = wasmtime::Result<(Result<Vec<u8>, ErrorCode>,)>;

impl<'a, T: HasView> Receiving<'a, T> {
    pub(super) fn new(
        mut store: StoreContextMut<'a, T>,
        connection: Resource<Connection>,
        max: u32,
        timeout: Option<u64>,
    ) -> wasmtime::Result<Self> {
        fault::point("tcp.recv");
        let begun = store.data_mut().view().begin_recv(&connection, max, timeout, TcpStream::recv)?;
        Ok(Self { store, connection, begun })
    }
}

/// It, or why the guest traps.
fn receiving<T: HasView>(
    store: StoreContextMut<'_, T>,
    (connection, max, timeout): (Resource<Connection>, u32, Option<u64>),
) -> Box<dyn Future<Output = Received> + marker::Send + '_> {
    match Receiving::new(store, connection, max, timeout) {
        Ok(receiving) => Box::new(receiving),
        Err(trap) => Box::new(ready(Err(trap))),
    }
}

/// Notes that the coroutine waits. Woken for nothing, somebody may want its stack.
fn waits<T: HasView>(store: &mut StoreContextMut<'_, T>, connection: &Resource<Connection>, again: bool) {
    let Some(coroutine) = store.data().view_ref().coroutine.clone() else { return };
    if again {
        return take_if_wanted(&coroutine, store);
    }
    coroutine.begin(Doing::Recv);
    if coroutine.kind != Kind::Connection
        && let Ok(connection) = store.data_mut().view().table.get_mut(connection)
        && !connection.noted
    {
        connection.note_peer(&coroutine);
    }
}

impl<T: HasView> Future for Receiving<'_, T> {
    type Output = Received;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let Self { store, connection, begun } = &mut *self;
        let received = match begun {
            Ok(call) => {
                let again = call.has_waited();
                let polled = call.poll_now(cx);
                if polled.is_pending() && store.data().view_ref().coroutine.is_some() {
                    waits(store, connection, again);
                }
                ready!(polled)
            }
            Err(code) => Called::refused(*code),
        };
        if received.waited {
            T::begin_slice(store.as_context_mut());
        }
        let received = store.data_mut().view().end_recv(connection, received);
        Poll::Ready(Ok((received.map(|buf| buf.to_vec()),)))
    }
}
