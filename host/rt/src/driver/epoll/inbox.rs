//! What was received before its task asked for it: small messages, close together.

use crate::buf::Buf;

/// Room for early bytes, shared by all sockets of a worker.
pub(super) struct Inbox {
    bytes: Box<[u8]>,
    /// Bytes in use, of chunks that may be gone already.
    used: usize,
    /// Chunks not yet taken.
    chunks: usize,
}

/// A chunk's place. It must be taken.
#[derive(Debug)]
pub(super) struct Chunk {
    start: usize,
    len: usize,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox { bytes: vec![0; INBOX_BYTES].into_boxed_slice(), used: 0, chunks: 0 }
    }

    /// Room for a chunk, if there is room for a whole one.
    pub(super) fn space(&mut self) -> Option<&mut [u8]> {
        self.bytes.get_mut(self.used..self.used + CHUNK_BYTES_MAX)
    }

    /// Keeps the first bytes of `space`.
    pub(super) fn keep(&mut self, len: usize) -> Chunk {
        assert!(len <= CHUNK_BYTES_MAX && self.used + len <= self.bytes.len());
        let chunk = Chunk { start: self.used, len };
        self.used += len;
        self.chunks += 1;
        chunk
    }

    /// A chunk as a buffer.
    pub(super) fn take(&mut self, chunk: Chunk) -> Buf {
        let mut buf = Buf::lend();
        buf.spare(chunk.len).copy_from_slice(&self.bytes[chunk.start..chunk.start + chunk.len]);
        self.chunks -= 1;
        if self.chunks == 0 {
            self.used = 0;
        }
        buf.filled(chunk.len)
    }
}

/// What is received early of one socket: larger messages are received when their task asks, straight into its buffer.
pub(super) const CHUNK_BYTES_MAX: usize = 4 << 10;
/// A whole batch of the largest.
const INBOX_BYTES: usize = super::EVENTS_MAX * CHUNK_BYTES_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(inbox: &mut Inbox, bytes: &[u8]) -> Option<Chunk> {
        inbox.space()?[..bytes.len()].copy_from_slice(bytes);
        Some(inbox.keep(bytes.len()))
    }

    #[test]
    fn chunks_are_taken_in_any_order() {
        let mut inbox = Inbox::new();
        let [one, none, two] = [&b"one"[..], b"", b"two"].map(|bytes| keep(&mut inbox, bytes).unwrap());
        assert_eq!(&*inbox.take(two), b"two");
        assert_eq!(&*inbox.take(none), b"");
        assert_eq!(&*inbox.take(one), b"one");
    }

    #[test]
    fn it_is_empty_again_when_all_are_taken() {
        let mut inbox = Inbox::new();
        for round in 0..3 {
            let full = vec![round; CHUNK_BYTES_MAX];
            let mut chunks = Vec::new();
            while let Some(chunk) = keep(&mut inbox, &full) {
                chunks.push(chunk);
            }
            assert_eq!(chunks.len(), super::super::EVENTS_MAX);
            for chunk in chunks {
                assert_eq!(*inbox.take(chunk), full[..]);
            }
        }
    }
}
