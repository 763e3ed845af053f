//! What the kernel has received for a socket and its task has not yet taken.

use std::collections::VecDeque;

use super::buffers::{Buffers, Chunk};
use crate::buf::Buf;

/// Received bytes, in order.
#[derive(Default)]
pub(super) struct Kept {
    /// For a task that waits: it is about to take them.
    first: Option<Chunk>,
    /// What came after that, or while nobody waited. Seldom anything: a socket has no memory for it then.
    rest: VecDeque<Piece>,
    len: usize,
}

/// Bytes of one message.
pub(super) enum Piece {
    /// In the buffer they were received into.
    Lent(Chunk),
    /// In a copy of it, from `start` on.
    Copied { bytes: Box<[u8]>, start: usize },
}

impl Kept {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a chunk. `awaited` says that a task waits for it, so that copying it would be wasted.
    pub(super) fn push(&mut self, chunk: Chunk, awaited: bool, buffers: &mut Buffers) {
        if chunk.len() == 0 {
            return buffers.give_back(chunk);
        }
        let is_first = self.is_empty();
        self.len += chunk.len();
        if is_first && awaited {
            self.first = Some(chunk);
        } else {
            self.rest.push_back(buffers.keep(chunk));
        }
    }

    /// The task does not wait any more: its buffer is to be free for others.
    pub(super) fn settle(&mut self, buffers: &mut Buffers) {
        if let Some(chunk) = self.first.take() {
            self.rest.push_front(buffers.keep(chunk));
        }
    }

    /// Takes the first `max` bytes; none if there are none.
    pub(super) fn take(&mut self, max: usize, buffers: &mut Buffers) -> Option<Buf> {
        if self.is_empty() {
            return None;
        }
        let mut buf = Buf::lend();
        let (mut space, mut len) = (buf.spare(max), 0);
        while !space.is_empty()
            && let Some(mut piece) = self.pop()
        {
            let bytes = piece.bytes(buffers);
            let count = bytes.len().min(space.len());
            let (filled, left) = space.split_at_mut(count);
            filled.copy_from_slice(&bytes[..count]);
            (space, len) = (left, len + count);
            piece.skip(count);
            self.unpop(piece, buffers);
        }
        self.len -= len;
        Some(buf.filled(len))
    }

    /// Forgets all.
    pub(super) fn clear(&mut self, buffers: &mut Buffers) {
        while let Some(piece) = self.pop() {
            buffers.discard(piece);
        }
        self.len = 0;
    }

    fn pop(&mut self) -> Option<Piece> {
        match self.first.take() {
            Some(chunk) => Some(Piece::Lent(chunk)),
            None => self.rest.pop_front(),
        }
    }

    /// Puts back what is left of a piece.
    fn unpop(&mut self, piece: Piece, buffers: &mut Buffers) {
        if !piece.bytes(buffers).is_empty() {
            return self.rest.push_front(piece);
        }
        buffers.discard(piece);
        if self.rest.is_empty() {
            // Most sockets never have anything here again.
            self.rest = VecDeque::new();
        }
    }
}

impl Piece {
    fn bytes<'a>(&'a self, buffers: &'a Buffers) -> &'a [u8] {
        match self {
            Piece::Lent(chunk) => buffers.bytes(chunk),
            Piece::Copied { bytes, start } => &bytes[*start..],
        }
    }

    fn skip(&mut self, count: usize) {
        match self {
            Piece::Lent(chunk) => chunk.skip(count),
            Piece::Copied { start, .. } => *start += count,
        }
    }
}
