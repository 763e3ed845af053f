//! wasi:io on the store's table: a wait in it is a blocking point, as one in conet:net is.

use std::sync::atomic::Ordering;

use wasmtime::{
    AsContextMut, StoreContextMut,
    component::{HasData, HasSelf, Linker, Resource, ResourceTable},
};
use wasmtime_wasi_io::{
    bindings::wasi::io::{
        error,
        poll::{self, HostPollable},
        streams::{self, HostInputStream, HostOutputStream},
    },
    poll::DynPollable,
    streams::{DynInputStream, DynOutputStream, StreamError, StreamResult},
};

use super::{HasView, View, crew, view::noting_wait};
use crate::roster::{Doing, meanwhile};

/// Links wasi:io.
pub(crate) fn add_to_linker<T: HasView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    error::add_to_linker::<T, HasTable>(linker, |t| &mut t.view().table)?;
    poll::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
    streams::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
    // What a guest prints is whose who prints it, and that only the store knows.
    linker.allow_shadowing(true);
    let mut instance = linker.instance("wasi:io/streams@0.2.12")?;
    instance.func_wrap("[method]output-stream.write", |mut store, (stream, bytes): (Output, Vec<u8>)| {
        note_printing(store.as_context_mut());
        let view = store.data_mut().view();
        let written = HostOutputStream::write(view, stream, bytes);
        Ok((told(view, written)?,))
    })?;
    instance.func_wrap_async(
        "[method]output-stream.blocking-write-and-flush",
        |mut store, (stream, bytes)| {
            Box::new(async move {
                note_printing(store.as_context_mut());
                let view = store.data_mut().view();
                let written = HostOutputStream::blocking_write_and_flush(view, stream, bytes).await;
                Ok((told(view, written)?,))
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Which coroutine of a shared instance prints now, if it is known.
fn note_printing<T: HasView>(mut store: StoreContextMut<'_, T>) {
    if store.data().view_ref().crew.is_some()
        && let Some(caller) = crew::caller(store.as_context_mut())
    {
        store.data().view_ref().printing.store(caller.id, Ordering::Relaxed);
    }
}

/// A result as the guest is told it.
fn told(view: &mut View, result: StreamResult<()>) -> wasmtime::Result<Result<(), streams::StreamError>> {
    match result {
        Ok(()) => Ok(Ok(())),
        Err(error) => streams::Host::convert_stream_error(view, error).map(Err),
    }
}

impl View {
    /// The output of a call that may have waited.
    fn may_have_waited<R>(&mut self, (output, waited): (R, bool)) -> R {
        self.blocked(waited, false);
        output
    }
}

impl poll::Host for View {
    async fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        let who = self.coroutine.clone();
        let _meanwhile = meanwhile(who.as_deref(), Doing::Poll);
        let ready = noting_wait(self.table.poll(pollables)).await;
        self.may_have_waited(ready)
    }
}

impl HostPollable for View {
    async fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let who = self.coroutine.clone();
        let _meanwhile = meanwhile(who.as_deref(), Doing::Poll);
        let blocked = noting_wait(self.table.block(pollable)).await;
        self.may_have_waited(blocked)
    }

    async fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.table.ready(pollable).await
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        HostPollable::drop(&mut self.table, pollable)
    }
}

impl streams::Host for View {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<streams::StreamError> {
        self.table.convert_stream_error(error)
    }
}

type Input = Resource<DynInputStream>;
type Output = Resource<DynOutputStream>;

impl HostInputStream for View {
    async fn drop(&mut self, stream: Input) -> wasmtime::Result<()> {
        HostInputStream::drop(&mut self.table, stream).await
    }

    fn read(&mut self, stream: Input, len: u64) -> StreamResult<Vec<u8>> {
        self.table.read(stream, len)
    }

    async fn blocking_read(&mut self, stream: Input, len: u64) -> StreamResult<Vec<u8>> {
        let who = self.coroutine.clone();
        let _meanwhile = meanwhile(who.as_deref(), Doing::Stream);
        let read = noting_wait(self.table.blocking_read(stream, len)).await;
        self.may_have_waited(read)
    }

    fn skip(&mut self, stream: Input, len: u64) -> StreamResult<u64> {
        self.table.skip(stream, len)
    }

    async fn blocking_skip(&mut self, stream: Input, len: u64) -> StreamResult<u64> {
        let who = self.coroutine.clone();
        let _meanwhile = meanwhile(who.as_deref(), Doing::Stream);
        let skipped = noting_wait(self.table.blocking_skip(stream, len)).await;
        self.may_have_waited(skipped)
    }

    fn subscribe(&mut self, stream: Input) -> wasmtime::Result<Resource<DynPollable>> {
        HostInputStream::subscribe(&mut self.table, stream)
    }
}

impl HostOutputStream for View {
    async fn drop(&mut self, stream: Output) -> wasmtime::Result<()> {
        HostOutputStream::drop(&mut self.table, stream).await
    }

    fn check_write(&mut self, stream: Output) -> StreamResult<u64> {
        self.table.check_write(stream)
    }

    fn write(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        self.table.write(stream, bytes)
    }

    async fn blocking_write_and_flush(&mut self, stream: Output, bytes: Vec<u8>) -> StreamResult<()> {
        let who = self.coroutine.clone();
        let _meanwhile = meanwhile(who.as_deref(), Doing::Stream);
        let written = noting_wait(self.table.blocking_write_and_flush(stream, bytes)).await;
        self.may_have_waited(written)
    }

    fn flush(&mut self, stream: Output) -> StreamResult<()> {
        self.table.flush(stream)
    }

    async fn blocking_flush(&mut self, stream: Output) -> StreamResult<()> {
        let who = self.coroutine.clone();
        let _meanwhile = meanwhile(who.as_deref(), Doing::Stream);
        let flushed = noting_wait(self.table.blocking_flush(stream)).await;
        self.may_have_waited(flushed)
    }

    fn subscribe(&mut self, stream: Output) -> wasmtime::Result<Resource<DynPollable>> {
        HostOutputStream::subscribe(&mut self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Output, len: u64) -> StreamResult<()> {
        self.table.write_zeroes(stream, len)
    }

    async fn blocking_write_zeroes_and_flush(&mut self, stream: Output, len: u64) -> StreamResult<()> {
        let who = self.coroutine.clone();
        let _meanwhile = meanwhile(who.as_deref(), Doing::Stream);
        let written = noting_wait(self.table.blocking_write_zeroes_and_flush(stream, len)).await;
        self.may_have_waited(written)
    }

    fn splice(&mut self, to: Output, from: Input, len: u64) -> StreamResult<u64> {
        self.table.splice(to, from, len)
    }

    async fn blocking_splice(&mut self, to: Output, from: Input, len: u64) -> StreamResult<u64> {
        let who = self.coroutine.clone();
        let _meanwhile = meanwhile(who.as_deref(), Doing::Stream);
        let moved = noting_wait(self.table.blocking_splice(to, from, len)).await;
        self.may_have_waited(moved)
    }
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}
