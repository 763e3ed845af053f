//! wasi:cli/stdout and stderr: guest output, on its way to a queue with a thread behind it, or to the log.
//!
//! wasmtime-wasi's own writes from the worker, where a blocked terminal or pipe would stop every coroutine.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::AtomicU64},
};

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::bindings::cli::{stderr, stdout};
use wasmtime_wasi_io::{
    async_trait,
    bytes::Bytes,
    poll::Pollable,
    streams::{DynOutputStream, OutputStream, StreamError, StreamResult},
};

use super::{HasView, View, context::GuestOutput, fault};
use crate::{
    guest_log::LineWriter,
    output::{CHUNK_BYTES_MAX, Refused, Writer},
};

/// Links wasi:cli/stdout and wasi:cli/stderr.
pub(crate) fn add_to_linker<T: HasView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    stdout::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
    stderr::add_to_linker::<T, HasSelf<View>>(linker, T::view)
}

impl stdout::Host for View {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        fault::point("stdio.stdout");
        let stream = stream(&self.context.stdout, &self.printing);
        Ok(self.table.push(stream)?)
    }
}

impl stderr::Host for View {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        fault::point("stdio.stderr");
        let stream = stream(&self.context.stderr, &self.printing);
        Ok(self.table.push(stream)?)
    }
}

fn stream(output: &GuestOutput, coroutine: &Arc<AtomicU64>) -> DynOutputStream {
    match output {
        GuestOutput::Stream(output) => Box::new(Stream(output.writer())),
        GuestOutput::Log { log, stream } => Box::new(Lines(log.writer(stream, coroutine))),
    }
}

/// A guest's handle on its lines in the log, which never wait: what is too much is lost, and counted.
struct Lines(LineWriter);

#[async_trait]
impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

/// A guest's handle on its output.
struct Stream(Writer);

#[async_trait]
impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Ok(self.0.write(bytes)?)
    }

    fn flush(&mut self) -> StreamResult<()> {
        // The thread flushes after each chunk.
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.0.permit()?)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        Ok(poll_fn(|cx| self.0.poll_write(cx, &bytes)).await?)
    }

    // Called after a flush and before a blocking write, which waits itself: a permit taken here would lie idle.
    async fn write_ready(&mut self) -> StreamResult<usize> {
        self.0.open()?;
        Ok(CHUNK_BYTES_MAX)
    }
}

#[async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_permit(cx)).await
    }
}

impl From<Refused> for StreamError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Closed => StreamError::Closed,
            Refused::NotPermitted => StreamError::trap("wrote more than check-write allowed"),
        }
    }
}
