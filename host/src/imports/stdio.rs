//! Guest output: a bounded queue each for standard output and error, drained by a thread.
//!
//! wasmtime-wasi's own writes from the worker, where a blocked terminal or pipe would stop every coroutine.

use std::{
    collections::VecDeque,
    io::Write,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
    thread,
};

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::bindings::cli::{stderr, stdout};
use wasmtime_wasi_io::{
    async_trait,
    bytes::Bytes,
    poll::Pollable,
    streams::{DynOutputStream, OutputStream, StreamError, StreamResult},
};

use super::{HasView, View, fault};

/// Links wasi:cli/stdout and wasi:cli/stderr.
pub(crate) fn add_to_linker<T: HasView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    stdout::add_to_linker::<T, HasSelf<View>>(linker, T::view)?;
    stderr::add_to_linker::<T, HasSelf<View>>(linker, T::view)
}

impl stdout::Host for View {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        fault::point("stdio.stdout");
        let stream: DynOutputStream = Box::new(Stream(self.context.stdout.clone()));
        Ok(self.table.push(stream)?)
    }
}

impl stderr::Host for View {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        fault::point("stdio.stderr");
        let stream: DynOutputStream = Box::new(Stream(self.context.stderr.clone()));
        Ok(self.table.push(stream)?)
    }
}

/// A sink of guest output with a thread behind it.
pub struct Output {
    queue: Mutex<Queue>,
    /// Something was queued, or was written.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    /// Bytes queued and being written.
    pending_bytes: usize,
    /// Tasks that wait for room.
    waiting: Vec<Waker>,
    /// The sink refused: nothing more will be written.
    closed: bool,
    lost_bytes: u64,
}

impl Output {
    /// Starts the thread that writes to `sink`.
    pub fn start(name: &str, mut sink: impl Write + Send + 'static) -> std::io::Result<Arc<Self>> {
        let output = Arc::new(Self { queue: Mutex::default(), changed: Condvar::new() });
        let drain = output.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || drain.drain(&mut sink))?;
        Ok(output)
    }

    /// Waits until all that was queued has been written, or cannot be. Not for a worker.
    pub fn flush(&self) {
        let queue = self.queue();
        let written = self.changed.wait_while(queue, |queue| queue.pending_bytes > 0 && !queue.closed);
        drop(written.unwrap_or_else(PoisonError::into_inner));
    }

    /// Bytes that were not written because the sink was closed.
    pub fn lost_bytes(&self) -> u64 {
        self.queue().lost_bytes
    }

    fn drain(&self, sink: &mut impl Write) {
        loop {
            let queue = self.queue();
            let ready = self.changed.wait_while(queue, |queue| queue.chunks.is_empty());
            let chunks = std::mem::take(&mut ready.unwrap_or_else(PoisonError::into_inner).chunks);
            for chunk in chunks {
                // Written outside the lock: the sink may block for long.
                let written = sink.write_all(&chunk).and_then(|()| sink.flush());
                self.wrote(chunk.len(), written.is_ok());
            }
        }
    }

    fn wrote(&self, bytes: usize, ok: bool) {
        let mut queue = self.queue();
        queue.pending_bytes -= bytes;
        if !ok {
            queue.closed = true;
            queue.lost_bytes += bytes as u64;
        }
        let waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        self.changed.notify_all();
        waiting.into_iter().for_each(Waker::wake);
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest's handle on an [`Output`].
struct Stream(Arc<Output>);

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut queue = self.0.queue();
        if queue.closed {
            queue.lost_bytes += bytes.len() as u64;
            return Err(StreamError::Closed);
        }
        if bytes.len() > queue.room() {
            return Err(StreamError::trap("wrote more than check-write allowed"));
        }
        queue.pending_bytes += bytes.len();
        queue.chunks.push_back(bytes);
        drop(queue);
        self.0.changed.notify_all();
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        // The thread flushes after each chunk.
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let queue = self.0.queue();
        if queue.closed { Err(StreamError::Closed) } else { Ok(queue.room()) }
    }
}

#[async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {
        std::future::poll_fn(|cx| {
            let mut queue = self.0.queue();
            if queue.closed || queue.room() > 0 {
                return Poll::Ready(());
            }
            queue.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Queue {
    /// Bytes that may be written now: none while more than half is queued, so that a writer wakes for a useful piece.
    fn room(&self) -> usize {
        if self.pending_bytes > QUEUE_BYTES_MAX / 2 { 0 } else { CHUNK_BYTES_MAX }
    }
}

/// Bytes queued before a writer waits; one chunk more at most.
const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Bytes of one write.
const CHUNK_BYTES_MAX: usize = 64 << 10;
