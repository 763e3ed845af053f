//! Small sends on their way: they leave together, at the next look at the sockets.
//!
//! When each leaves as its task asks, the kernel's code and the tasks' push one another out of the processor's caches
//! twice for every message. Together they cost a quarter less.

use std::ops::Range;

use crate::key::SocketKey;

/// The bytes taken from tasks and not yet given to the system. At most one part is of any one socket.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

/// Bytes of one socket.
pub(super) struct Part {
    pub(super) socket: SocketKey,
    pub(super) bytes: Range<usize>,
}

/// All that was in an outbox.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) parts: Vec<Part>,
}

impl Outbox {
    /// Adds the bytes of a socket that has no part here.
    pub(super) fn push(&mut self, socket: SocketKey, data: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.parts.push(Part { socket, bytes: start..self.bytes.len() });
    }

    /// Adds the bytes to the socket's part, if nothing has come after it.
    pub(super) fn append(&mut self, socket: SocketKey, data: &[u8]) -> bool {
        let last = self.parts.last_mut().filter(|last| last.socket == socket);
        let Some(last) = last.filter(|last| last.bytes.end == self.bytes.len()) else { return false };
        self.bytes.extend_from_slice(data);
        last.bytes.end = self.bytes.len();
        true
    }

    /// Whether so many bytes more are too many.
    pub(super) fn is_full(&self, more: usize) -> bool {
        self.bytes.len() + more > OUTBOX_BYTES_MAX || self.parts.len() == PARTS_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes the socket's part out, to be sent out of turn.
    pub(super) fn remove(&mut self, socket: SocketKey) -> Option<Vec<u8>> {
        // It is most often about what was added last.
        let place = self.parts.iter().rposition(|part| part.socket == socket)?;
        let part = self.parts.remove(place);
        let bytes = self.bytes[part.bytes].to_vec();
        if self.parts.is_empty() {
            self.bytes.clear();
        }
        Some(bytes)
    }

    /// Takes all out. Give it back when it is sent.
    pub(super) fn take(&mut self) -> Batch {
        Batch { bytes: std::mem::take(&mut self.bytes), parts: std::mem::take(&mut self.parts) }
    }

    /// Takes a batch back whose bytes are sent, for its memory.
    pub(super) fn recycle(&mut self, mut batch: Batch) {
        assert!(self.is_empty());
        batch.bytes.clear();
        batch.parts.clear();
        (self.bytes, self.parts) = (batch.bytes, batch.parts);
    }
}

/// What waits here is in the caches when it leaves.
const OUTBOX_BYTES_MAX: usize = 128 << 10;
const PARTS_MAX: usize = 128;
