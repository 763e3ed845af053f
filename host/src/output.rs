//! A sink that may block, with a bounded queue in front of it and a thread behind.

use std::{
    collections::{HashMap, VecDeque},
    io::Write,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use wasmtime_wasi_io::bytes::Bytes;

#[cfg(test)]
mod tests;

/// The queue. Its thread lives as long as the process.
#[derive(Default)]
pub struct Output {
    queue: Mutex<Queue>,
    /// Something was queued, or was written.
    changed: Condvar,
    next_key: AtomicU64,
}

#[derive(Default)]
struct Queue {
    /// Short ones are joined, so that what a queue of them takes is not many times the bytes in it.
    chunks: VecDeque<Vec<u8>>,
    /// Bytes queued and being written.
    pending_bytes: usize,
    /// Bytes that writers hold permits for.
    permitted_bytes: usize,
    /// Tasks that wait for room, by their writer.
    waiting: HashMap<u64, Waker>,
    /// The sink refused: nothing more will be written.
    closed: bool,
    lost_bytes: u64,
}

impl Output {
    /// A queue with the thread that writes to `sink`.
    pub fn start(name: &str, sink: impl Write + Send + 'static) -> std::io::Result<Arc<Self>> {
        let output = Arc::new(Self::default());
        output.write_to(name, sink)?;
        Ok(output)
    }

    /// Starts the thread of a queue that has none yet.
    pub fn write_to(
        self: &Arc<Self>,
        name: &str,
        mut sink: impl Write + Send + 'static,
    ) -> std::io::Result<()> {
        let drain = self.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || drain.drain(&mut sink))?;
        Ok(())
    }

    /// A new handle to write by.
    pub fn writer(self: &Arc<Self>) -> Writer {
        Writer { output: self.clone(), key: self.next_key.fetch_add(1, Ordering::Relaxed), permit: 0 }
    }

    /// Queues `bytes` if no more than `bytes_max` are pending then; otherwise they are lost. Whether they are queued.
    pub fn offer(&self, bytes: Bytes, bytes_max: usize) -> bool {
        let mut queue = self.queue();
        if queue.closed || queue.pending_bytes + bytes.len() > bytes_max {
            queue.lost_bytes += bytes.len() as u64;
            return false;
        }
        queue.push(bytes);
        self.changed.notify_all();
        true
    }

    /// Waits until all that was queued has been written, or cannot be, or for the deadline; whether nothing is left.
    /// Not for a worker.
    pub fn flush(&self, deadline: Option<Instant>) -> bool {
        let mut queue = self.queue();
        while queue.pending_bytes > 0 && !queue.closed {
            queue = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return false,
                Some(left) => {
                    self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        true
    }

    /// Bytes that were not written: because the sink was closed, or not yet.
    pub fn unwritten_bytes(&self) -> u64 {
        let queue = self.queue();
        queue.lost_bytes + queue.pending_bytes as u64
    }

    fn drain(&self, sink: &mut impl Write) {
        loop {
            let queue = self.queue();
            let ready = self.changed.wait_while(queue, |queue| queue.chunks.is_empty());
            let queue = ready.unwrap_or_else(PoisonError::into_inner);
            // The rest of a line, which many programs write in pieces, is on its way: another's must not come between.
            let whole =
                self.changed.wait_timeout_while(queue, LINE_TIME_MAX, |queue| queue.is_short_of_a_line());
            let chunks = std::mem::take(&mut whole.unwrap_or_else(PoisonError::into_inner).0.chunks);
            let mut open = true;
            for chunk in chunks {
                // Written outside the lock: the sink may block for long. After a gap there is nothing to go on with.
                open = open && sink.write_all(&chunk).and_then(|()| sink.flush()).is_ok();
                self.wrote(chunk.len(), open);
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
        self.changed.notify_all();
        if queue.closed || queue.has_room() {
            wake(queue);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes who waits: there is room.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    let waiting = std::mem::take(&mut queue.waiting);
    // Drop the lock before waking: a woken task may want it at once.
    drop(queue);
    waiting.into_values().for_each(Waker::wake);
}

impl Queue {
    /// Is all that is queued the beginning of a line, of sensible length?
    fn is_short_of_a_line(&self) -> bool {
        self.pending_bytes <= JOINED_BYTES_MAX
            && self.chunks.back().is_some_and(|last| !last.ends_with(b"\n"))
    }

    /// Is less than half queued? A writer wakes for a useful piece, and there is space for the permits given out.
    fn has_room(&self) -> bool {
        self.pending_bytes <= QUEUE_BYTES_MAX / 2
    }

    /// May another permit be given out?
    fn has_permit(&self) -> bool {
        self.pending_bytes + self.permitted_bytes <= QUEUE_BYTES_MAX / 2
    }

    fn push(&mut self, bytes: Bytes) {
        self.pending_bytes += bytes.len();
        match self.chunks.back_mut() {
            Some(last) if last.len() + bytes.len() <= JOINED_BYTES_MAX => last.extend_from_slice(&bytes),
            _ => self.chunks.push_back(bytes.into()),
        }
    }
}

/// One handle on an [`Output`], used by one task at a time.
pub struct Writer {
    output: Arc<Output>,
    /// Its place among those that wait: one, however often it is polled.
    key: u64,
    /// Bytes of the queue that are kept for it.
    permit: usize,
}

/// Why a write was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The sink is closed.
    Closed,
    /// It is more than was permitted.
    NotPermitted,
}

impl Writer {
    /// An error if the sink is closed.
    pub fn open(&self) -> Result<(), Refused> {
        if self.output.queue().closed { Err(Refused::Closed) } else { Ok(()) }
    }

    /// How many bytes the next write may have, 0 if there is no room. They are kept for it until then.
    pub fn permit(&mut self) -> Result<usize, Refused> {
        let mut queue = self.output.queue();
        if queue.closed {
            return Err(Refused::Closed);
        }
        if self.permit == 0 && queue.has_permit() {
            self.permit = CHUNK_BYTES_MAX;
            queue.permitted_bytes += CHUNK_BYTES_MAX;
        }
        Ok(self.permit)
    }

    /// Queues `bytes`, and gives back what is left of the permit. A write without one is taken while there is room.
    pub fn write(&mut self, bytes: Bytes) -> Result<(), Refused> {
        let mut queue = self.output.queue();
        if queue.closed {
            queue.lost_bytes += bytes.len() as u64;
            return Err(Refused::Closed);
        }
        // An empty chunk would take space that nobody counts.
        if bytes.is_empty() {
            return Ok(());
        }
        let fits = queue.has_permit() && bytes.len() <= CHUNK_BYTES_MAX;
        if bytes.len() > self.permit && !fits {
            return Err(Refused::NotPermitted);
        }
        queue.permitted_bytes -= std::mem::take(&mut self.permit);
        queue.push(bytes);
        self.output.changed.notify_all();
        if queue.has_permit() {
            wake(queue);
        }
        Ok(())
    }

    /// Ready when a permit can be had, or the sink is closed.
    pub fn poll_permit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.output.queue();
        if queue.closed || self.permit > 0 || queue.has_permit() {
            return Poll::Ready(());
        }
        queue.waiting.insert(self.key, cx.waker().clone());
        Poll::Pending
    }

    /// Queues `bytes`, a chunk at most, once there is room. Needs no permit, so those that others hold do not count.
    pub fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &Bytes) -> Poll<Result<(), Refused>> {
        let mut queue = self.output.queue();
        if queue.closed || bytes.is_empty() || bytes.len() <= self.permit {
            drop(queue);
            return Poll::Ready(self.write(bytes.clone()));
        }
        if bytes.len() > CHUNK_BYTES_MAX {
            return Poll::Ready(Err(Refused::NotPermitted));
        }
        if !queue.has_room() {
            queue.waiting.insert(self.key, cx.waker().clone());
            return Poll::Pending;
        }
        queue.push(bytes.clone());
        self.output.changed.notify_all();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut queue = self.output.queue();
        queue.waiting.remove(&self.key);
        queue.permitted_bytes -= self.permit;
        if queue.has_permit() {
            wake(queue);
        }
    }
}

/// Bytes of a queue. A writer waits from half of it; the other half is for permits given out before, and a chunk
/// more.
pub const QUEUE_BYTES_MAX: usize = 1 << 20;
/// Bytes of chunks that are written as one: as many as a pipe takes in one piece.
const JOINED_BYTES_MAX: usize = 4 << 10;
/// How long the end of a line is waited for.
const LINE_TIME_MAX: Duration = Duration::from_millis(20);
/// Bytes of one write.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;
