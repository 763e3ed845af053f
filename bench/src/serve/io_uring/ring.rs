//! The ring and its buffers: all that needs unsafe code, behind functions that do not.
//!
//! Sockets are direct descriptors, *slots* of the ring's own table. Buffers are the kernel's until it hands
//! one out as a [`Chunk`], and its again once the chunk is given back.

#![allow(unsafe_code, reason = "the kernel is given addresses, which only this file does")]

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result};
use io_uring::squeue::Entry;
use io_uring::types::{BufRingEntry, Fd, Fixed};
use io_uring::{IoUring, cqueue, opcode};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::serve::BUFFER_BYTES;

pub(super) struct Ring {
    ring: IoUring,
    /// The ring of free buffers, shared with the kernel.
    free: *mut BufRingEntry,
    /// Where the next buffer goes in `free`; published by [`Self::wait`].
    tail: u16,
    /// The buffers, [`STRIDE`] apart.
    buffers: *mut u8,
    /// Buffers that are ours.
    taken: u16,
}

/// Bytes received, in a buffer that is ours until [`Ring::give_back`].
pub(super) struct Chunk {
    buffer: u16,
    pub(super) len: u32,
}

/// What the kernel has done.
pub(super) enum Completion {
    /// Accepted a connection into a slot. Unless `more`, it accepts no others.
    Accepted { slot: Result<u32, Errno>, more: bool },
    /// Received on a slot; nothing at the end of the stream. Unless `more`, it receives no more there.
    Received { slot: u32, outcome: Result<Option<Chunk>, Errno>, more: bool },
    /// Sent so many bytes of a chunk: all, unless the connection is broken.
    Sent { slot: u32, outcome: Result<u32, Errno> },
}

impl Ring {
    /// Has room for `slots` connections.
    pub(super) fn new(slots: u32) -> Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)
            .context(
                "cannot make an io_uring: the kernel is older than 6.1, or a seccomp profile forbids it",
            )?;
        ring.submitter().register_files_sparse(slots).context("cannot register a table of descriptors")?;
        // Never freed: the kernel may use both for as long as the process lives.
        let (free, buffers) = (
            allocate(usize::from(BUFFERS) * size_of::<BufRingEntry>()).cast(),
            allocate(usize::from(BUFFERS) * STRIDE),
        );
        // SAFETY: `free` has room for so many entries, is aligned to a page, and is never freed.
        unsafe { ring.submitter().register_buf_ring_with_flags(free as u64, BUFFERS, GROUP, 0) }
            .context("cannot register a ring of buffers")?;
        let mut ring = Self { ring, free, tail: 0, buffers, taken: BUFFERS };
        (0..BUFFERS).for_each(|buffer| ring.give_back(Chunk { buffer, len: 0 }));
        Ok(ring)
    }

    /// Accepts from `listener` again and again.
    pub(super) fn accept(&mut self, listener: &OwnedFd) -> Result<()> {
        let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).allocate_file_index(true);
        self.push(&accept.build().user_data(ACCEPT))
    }

    /// Receives on `slot` again and again.
    pub(super) fn receive(&mut self, slot: u32) -> Result<()> {
        self.push(&opcode::RecvMulti::new(Fixed(slot), GROUP).build().user_data(RECEIVE | u64::from(slot)))
    }

    /// Sends all of `chunk`, which stays the caller's to give back once that is done.
    pub(super) fn send(&mut self, slot: u32, chunk: &Chunk) -> Result<()> {
        let bytes = self.buffer(chunk.buffer);
        // The kernel goes on after a short send by itself.
        let flags = SendFlags::NOSIGNAL.bits() | RecvFlags::WAITALL.bits();
        let send = opcode::Send::new(Fixed(slot), bytes, chunk.len).flags(flags as i32);
        self.push(&send.build().user_data(SEND | u64::from(slot)))
    }

    /// Ends both directions of `slot`, which ends the receiving on it.
    pub(super) fn shut_down(&mut self, slot: u32) -> Result<()> {
        let shutdown = opcode::Shutdown::new(Fixed(slot), Shutdown::Both as i32);
        self.push(&shutdown.build().user_data(OTHER))
    }

    /// Closes `slot`, on which nothing is under way.
    pub(super) fn close(&mut self, slot: u32) -> Result<()> {
        self.push(&opcode::Close::new(Fixed(slot)).build().user_data(OTHER))
    }

    /// Lets the kernel have a chunk's buffer again.
    pub(super) fn give_back(&mut self, chunk: Chunk) {
        let address = self.buffer(chunk.buffer) as u64;
        // SAFETY: the index is within the ring. The kernel reads this entry only after the tail, which it has
        // not seen yet, has passed it, and the tail itself, in the first entry's reserved part, is not
        // touched.
        let entry = unsafe { &mut *self.free.add(usize::from(self.tail % BUFFERS)) };
        entry.set_addr(address);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(chunk.buffer);
        self.tail = self.tail.wrapping_add(1);
        self.taken -= 1;
    }

    /// Whether the kernel has a buffer to receive into.
    pub(super) fn has_free_buffers(&self) -> bool {
        self.taken < BUFFERS
    }

    /// Submits everything, waits for a completion, and adds all there are to `completions`.
    pub(super) fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        // SAFETY: `free` is the base of the ring, initialized, and lives for ever; the kernel and we use its
        // tail as an atomic.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.free).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
        match self.ring.submit_and_wait(1) {
            Err(error) if !is_temporary(&error) => return Err(error).context("io_uring_enter"),
            _ => {}
        }
        for entry in self.ring.completion() {
            self.taken += u16::from(cqueue::buffer_select(entry.flags()).is_some());
            completions.extend(completion(&entry));
        }
        Ok(())
    }

    fn push(&mut self, entry: &Entry) -> Result<()> {
        // SAFETY: the only address in an entry is that of a buffer, in `send`. Buffers are never freed, and
        // the kernel writes to this one only after `give_back`, which takes the chunk that the caller keeps
        // until the send is done.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            match self.ring.submit() {
                Err(error) if !is_temporary(&error) => return Err(error).context("io_uring_enter"),
                _ => {}
            }
        }
        Ok(())
    }

    fn buffer(&self, number: u16) -> *mut u8 {
        // SAFETY: buffers are numbered below `BUFFERS`, and there are as many.
        unsafe { self.buffers.add(usize::from(number) * STRIDE) }
    }
}

/// Pages of zeroes.
fn allocate(bytes: usize) -> *mut u8 {
    let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("a few megabytes are a layout");
    // SAFETY: the size is not zero.
    let address = unsafe { alloc_zeroed(layout) };
    if address.is_null() { handle_alloc_error(layout) } else { address }
}

/// Interrupted, or completions must be taken first.
fn is_temporary(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INTR | Errno::BUSY | Errno::AGAIN))
}

fn completion(entry: &cqueue::Entry) -> Option<Completion> {
    let (slot, more) = (entry.user_data() as u32, cqueue::more(entry.flags()));
    let result = u32::try_from(entry.result()).map_err(|_| Errno::from_raw_os_error(-entry.result()));
    match entry.user_data() & !u64::from(u32::MAX) {
        ACCEPT => Some(Completion::Accepted { slot: result, more }),
        RECEIVE => {
            let buffer = cqueue::buffer_select(entry.flags());
            let outcome = result.map(|len| buffer.map(|buffer| Chunk { buffer, len }));
            Some(Completion::Received { slot, outcome, more })
        }
        SEND => Some(Completion::Sent { slot, outcome: result }),
        _ => None,
    }
}

/// What an entry is about, above the slot.
const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
const SEND: u64 = 3 << 32;
const OTHER: u64 = 4 << 32;

/// The group of the buffers.
const GROUP: u16 = 0;

/// A power of two. All of them take turns, so their first lines should stay in the cache.
const BUFFERS: u16 = 1024;

/// A line of the cache more than a buffer: else the first lines of all would fall into the same few sets of
/// it.
const STRIDE: usize = BUFFER_BYTES + 64;

const PAGE_BYTES: usize = 4096;

const SUBMISSIONS: u32 = 4096;

const COMPLETIONS: u32 = 16 * 1024;
