//! The buffers of a worker that the kernel receives into, shared by all its sockets.
//!
//! The kernel picks one for each message from a ring of those that are free. So a connection that waits holds none, and
//! all of them together are as many as one look at the sockets may bring. Where they do not suffice nothing is lost:
//! the kernel says so, and bytes stay in their socket.

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::kept::Piece;

/// The buffers, and the ring of free ones.
pub(super) struct Buffers {
    /// The ring, then the buffers, each [`STRIDE`] after the last.
    memory: NonNull<u8>,
    /// Where the next free buffer goes in the ring.
    tail: u16,
    /// Bytes in copies that were made to have buffers free.
    copied_bytes: usize,
}

/// Bytes in a buffer that is ours until it is given back.
#[derive(Debug)]
pub(super) struct Chunk {
    buffer: u16,
    start: u16,
    end: u16,
}

impl Chunk {
    pub(super) fn len(&self) -> usize {
        usize::from(self.end - self.start)
    }

    /// Leaves the first `count` bytes out.
    pub(super) fn skip(&mut self, count: usize) {
        assert!(count <= self.len());
        // Not more than its length.
        self.start += count as u16;
    }
}

impl Buffers {
    /// Lets the kernel have them, for requests of this ring. It uses them until the ring is gone, or at least nothing is
    /// in flight on it any more.
    pub(super) fn new(ring: &IoUring) -> io::Result<Buffers> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice touches no other memory.
        let memory = unsafe { mmap_anonymous(ptr::null_mut(), MEMORY_BYTES, access, MapFlags::PRIVATE) }?;
        let memory = NonNull::new(memory.cast()).expect("no mapping is at 0");
        let mut buffers = Buffers { memory, tail: 0, copied_bytes: 0 };
        let entries = buffers.entries() as u64;
        // SAFETY: the mapping begins with room for that many entries, and as `Ring` says outlives what uses it.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries, BUFFERS, GROUP, 0) }?;
        (0..BUFFERS).for_each(|buffer| buffers.free(buffer));
        Ok(buffers)
    }

    /// Takes a buffer over that the kernel has filled.
    ///
    /// # Safety
    ///
    /// A completion has named it, once for every call.
    pub(super) unsafe fn taken(&mut self, buffer: u16, len: usize) -> Chunk {
        assert!(buffer < BUFFERS && len <= BUFFER_BYTES);
        // Not more than a buffer has.
        Chunk { buffer, start: 0, end: len as u16 }
    }

    /// Lets the kernel have a chunk's buffer again.
    pub(super) fn give_back(&mut self, chunk: Chunk) {
        self.free(chunk.buffer);
    }

    /// What to keep of a chunk that nobody waits for: a copy, or the buffer itself once there are too many copies.
    pub(super) fn keep(&mut self, chunk: Chunk) -> Piece {
        if self.copied_bytes + chunk.len() > COPIED_BYTES_MAX {
            return Piece::Lent(chunk);
        }
        let copy: Box<[u8]> = self.bytes(&chunk).into();
        self.copied_bytes += copy.len();
        self.give_back(chunk);
        Piece::Copied { bytes: copy, start: 0 }
    }

    /// Ends a piece.
    pub(super) fn discard(&mut self, piece: Piece) {
        match piece {
            Piece::Lent(chunk) => self.give_back(chunk),
            Piece::Copied { bytes, .. } => self.copied_bytes -= bytes.len(),
        }
    }

    pub(super) fn bytes(&self, chunk: &Chunk) -> &[u8] {
        let start = place(chunk.buffer) + usize::from(chunk.start);
        // SAFETY: a chunk ends within its buffer, which the mapping holds and the kernel has written. It does not write
        // there again before `free`, for which `give_back` takes the only chunk that names the buffer.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(start), chunk.len()) }
    }

    #[cfg(test)]
    pub(super) fn copied_bytes(&self) -> usize {
        self.copied_bytes
    }

    fn free(&mut self, buffer: u16) {
        // SAFETY: buffers are numbered below `BUFFERS`, and the mapping holds as many.
        let address = unsafe { self.memory.as_ptr().add(place(buffer)) };
        // SAFETY: the place is within the ring, and nobody else uses it: the kernel does not look at it before the tail,
        // which it has not seen yet, has passed it. What is written is not the tail, which lies in the first entry too.
        let entry = unsafe { &mut *self.entries().add(usize::from(self.tail % BUFFERS)) };
        entry.set_addr(address as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the address is that of the first entry, in memory that is mapped and was zeroed.
        let tail = unsafe { BufRingEntry::tail(self.entries()) }.cast_mut();
        // SAFETY: it is aligned, as the entry is, and mapped. Kernel and program both use it as an atomic.
        unsafe { AtomicU16::from_ptr(tail) }.store(self.tail, Ordering::Release);
    }

    fn entries(&self) -> *mut BufRingEntry {
        self.memory.as_ptr().cast()
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new`, with this length. Nothing points to it: chunks have no addresses, and the kernel
        // does not use it any more, as `Ring` says.
        let unmapped = unsafe { munmap(self.memory.as_ptr().cast(), MEMORY_BYTES) };
        debug_assert!(unmapped.is_ok());
    }
}

/// Where a buffer begins in the mapping.
fn place(buffer: u16) -> usize {
    RING_BYTES + usize::from(buffer) * STRIDE
}

/// The group of the buffers: requests name it.
pub(super) const GROUP: u16 = 0;
/// What is received at once; larger messages go straight into their task's buffer, when it asks.
pub(super) const BUFFER_BYTES: usize = 4 << 10;
/// A power of two: several looks' worth, and so few that the ring of free ones is one page.
const BUFFERS: u16 = 256;
/// A line of the cache more than a buffer has: else the first lines of all would fall into the same few sets of it.
const STRIDE: usize = BUFFER_BYTES + 64;
const RING_BYTES: usize = BUFFERS as usize * size_of::<BufRingEntry>();
const MEMORY_BYTES: usize = RING_BYTES + BUFFERS as usize * STRIDE;
/// Of all sockets of a worker together. Beyond that buffers themselves are kept, and when they are gone bytes wait in
/// their sockets, where the kernel bounds them.
pub(super) const COPIED_BYTES_MAX: usize = 4 << 20;
