//! The queues shared with the kernel: requests go in, completions come out.
//!
//! All memory that a request names is the ring's own: the buffers that are received into, until nothing is in flight, and
//! what is sent, until its completion is taken.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{Builder, EnterFlags, IoUring, cqueue, opcode};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::io::Errno;
use rustix::net::SendFlags;
use slab::Slab;

use super::buffers::{BUFFER_BYTES, Buffers, Chunk, GROUP};
use super::token::{Request, Token};
use crate::key::SocketKey;

/// A ring of this thread, with its buffers.
pub(super) struct Ring {
    ring: IoUring,
    /// The kernel tells here that there is something, while that is wanted.
    bell: OwnedFd,
    /// Dropped after `ring`, when nothing is in flight.
    pub(super) buffers: Buffers,
    /// Requests that found the submission queue full.
    backlog: VecDeque<Entry>,
    /// What is being sent, and on which socket.
    sends: Slab<(SocketKey, Vec<u8>)>,
    /// Vectors for the next.
    spare: Vec<Vec<u8>>,
    /// Requests of which a completion is still to come.
    in_flight: usize,
    /// The last look brought nothing.
    is_calm: bool,
}

/// What the kernel has done.
pub(super) struct Completion {
    pub(super) token: Token,
    pub(super) result: Result<u32, Errno>,
    /// What was received.
    pub(super) chunk: Option<Chunk>,
    /// What was to be sent, if not all of it was.
    pub(super) unsent: Option<Vec<u8>>,
    /// The request goes on.
    pub(super) more: bool,
}

impl Ring {
    pub(super) fn new() -> io::Result<Ring> {
        let mut ring = build()?;
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        ring.completion().disable_eventfd();
        ring.submitter().register_eventfd(bell.as_raw_fd())?;
        let buffers = Buffers::new(&ring)?;
        let (backlog, sends, spare) = Default::default();
        Ok(Ring { ring, bell, buffers, backlog, sends, spare, in_flight: 0, is_calm: false })
    }

    /// Receives again and again, until there is no buffer or it is cancelled.
    pub(super) fn receive(&mut self, fd: impl AsFd, token: Token) {
        self.push(opcode::RecvMulti::new(target(fd), GROUP).build(), token);
    }

    /// Sends what there is room for. It completes as soon as it is submitted, as the socket's `Send`: were the kernel to wait
    /// for room, it might do so in a thread of its own.
    pub(super) fn send(&mut self, fd: impl AsFd, socket: SocketKey, data: &[u8]) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.extend_from_slice(data);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        // Small, and fewer than there are sockets: both fit.
        let send =
            opcode::Send::new(target(fd), bytes.as_ptr(), bytes.len() as u32).flags(flags.bits() as i32);
        let token = Token::Send(self.sends.insert((socket, bytes)) as u32);
        self.push(send.build(), token);
    }

    /// Tells once when one of the events is there.
    pub(super) fn poll(&mut self, fd: impl AsFd, events: PollFlags, token: Token) {
        self.push(opcode::PollAdd::new(target(fd), mask(events)).build(), token);
    }

    /// Tells each time an event comes.
    pub(super) fn poll_again_and_again(&mut self, fd: impl AsFd, events: PollFlags, token: Token) {
        self.push(opcode::PollAdd::new(target(fd), mask(events)).multi(true).build(), token);
    }

    /// Asks that a request end; it still completes.
    pub(super) fn cancel(&mut self, token: Token) {
        let cancel = opcode::AsyncCancel::new(token.to_bits()).build().flags(Flags::SKIP_SUCCESS);
        self.queue(cancel.user_data(Token::Cancel.to_bits()));
    }

    /// Whether there is nothing to submit, and as far as can be told without asking the kernel nothing to be had.
    pub(super) fn is_calm(&mut self) -> bool {
        let queue = self.ring.submission();
        let asks = !queue.is_empty() || queue.taskrun() || queue.cq_overflow();
        drop(queue);
        self.is_calm && !asks && self.backlog.is_empty() && !self.has_completions()
    }

    /// Whether completions are there to be taken.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Readable when there is something, while it is watched. The ring's own descriptor is so only once this thread has had
    /// the kernel do its part.
    pub(super) fn readable(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Begins to tell. Whether there is something already is not told there.
    pub(super) fn watch(&mut self) -> bool {
        // It was told before, or it was not.
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.ring.completion().enable_eventfd();
        // The kernel sees that before this thread sees that there is nothing.
        fence(Ordering::SeqCst);
        self.ring.submission().taskrun() || self.has_completions()
    }

    /// Tells no more, as each time costs.
    pub(super) fn unwatch(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    pub(super) fn has_requests(&mut self) -> bool {
        !self.backlog.is_empty() || !self.ring.submission().is_empty()
    }

    /// Submits what was asked, waits for a completion until the time is over (none: no limit), and adds all there are.
    pub(super) fn enter(&mut self, timeout: Option<Duration>, completions: &mut Vec<Completion>) {
        self.refill();
        let timeout = if self.backlog.is_empty() { timeout } else { Some(Duration::ZERO) };
        let submitter = self.ring.submitter();
        let entered = match timeout {
            None => submitter.submit_and_wait(1),
            Some(Duration::ZERO) => {
                let count = self.ring.submission().len() as u32;
                // SAFETY: the count is what the queue holds, and there is no argument.
                unsafe { self.ring.submitter().enter::<()>(count, 0, EnterFlags::GETEVENTS.bits(), None) }
            }
            Some(timeout) => {
                let timeout = Timespec::from(timeout.min(WAIT_MAX));
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&timeout))
            }
        };
        match entered.map_err(|error| Errno::from_io_error(&error)) {
            // Time is over, a signal has come, or completions must be taken or memory be freed first.
            Ok(_) | Err(Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN)) => {}
            Err(error) => panic!("io_uring_enter: {error:?}"),
        }
        let before = completions.len();
        self.take(completions);
        self.is_calm = completions.len() == before;
    }

    /// Adds the completions that are there.
    pub(super) fn take(&mut self, completions: &mut Vec<Completion>) {
        let Ring { ring, buffers, sends, spare, in_flight, .. } = self;
        for entry in ring.completion() {
            let mut token = Token::from_bits(entry.user_data());
            if token == Token::Cancel {
                continue;
            }
            let result = u32::try_from(entry.result());
            let result = result.map_err(|_| Errno::from_raw_os_error(-entry.result()));
            let chunk = cqueue::buffer_select(entry.flags()).map(|buffer| {
                let len = result.map_or(0, |len| (len as usize).min(BUFFER_BYTES));
                // SAFETY: this completion names it, and is taken once.
                unsafe { buffers.taken(buffer, len) }
            });
            let mut unsent = None;
            if let Token::Send(number) = token {
                let (socket, bytes) = sends.remove(number as usize);
                token = Token::Socket(socket, Request::Send);
                match result {
                    Ok(len) if (len as usize) < bytes.len() => unsent = Some(bytes),
                    Err(Errno::AGAIN | Errno::INTR) => unsent = Some(bytes),
                    _ => recycle(spare, bytes),
                }
            }
            let more = cqueue::more(entry.flags());
            if !more {
                *in_flight -= 1;
            }
            completions.push(Completion { token, result, chunk, unsent, more });
        }
    }

    fn push(&mut self, request: Entry, token: Token) {
        self.in_flight += 1;
        self.queue(request.user_data(token.to_bits()));
    }

    fn queue(&mut self, request: Entry) {
        self.backlog.push_back(request);
        self.refill();
    }

    /// Moves requests into the submission queue, as far as there is room.
    fn refill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(request) = self.backlog.front() {
            // SAFETY: requests are made above. They name the group of buffers, which stay mapped until nothing is in
            // flight; bytes to send, which lie in `sends`, unmoved and unchanged, until the completion is taken; and
            // descriptors, of which the worst is that they are not open.
            if unsafe { queue.push(request) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }
}

impl Drop for Ring {
    /// Waits for what is in flight, so that no buffer goes while it is used.
    fn drop(&mut self) {
        while self.in_flight > 0 {
            let all = opcode::AsyncCancel2::new(CancelBuilder::any()).build().flags(Flags::SKIP_SUCCESS);
            self.queue(all.user_data(Token::Cancel.to_bits()));
            self.enter(None, &mut Vec::new());
        }
    }
}

/// Keeps what has been sent, for its memory.
fn recycle(spare: &mut Vec<Vec<u8>>, mut bytes: Vec<u8>) {
    if spare.len() < SPARE_MAX {
        bytes.clear();
        spare.push(bytes);
    }
}

/// With all that makes it quick, or with what the kernel has of it.
fn build() -> io::Result<IoUring> {
    let common = |builder: &mut Builder| {
        builder.setup_single_issuer().setup_submit_all().setup_taskrun_flag().setup_cqsize(COMPLETIONS);
        builder.dontfork();
    };
    let mut builder = IoUring::builder();
    common(&mut builder);
    match builder.setup_defer_taskrun().build(SUBMISSIONS) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {}
        built => return built,
    }
    // Before 6.1.
    let mut builder = IoUring::builder();
    common(&mut builder);
    builder.setup_coop_taskrun().build(SUBMISSIONS)
}

/// The events as the kernel takes them. Their type in rustix depends on what is under it.
fn mask(events: PollFlags) -> u32 {
    i32::from(events.bits()) as u32
}

fn target(fd: impl AsFd) -> Fd {
    Fd(fd.as_fd().as_raw_fd())
}

/// More than a turn's tasks ask for; what does not fit waits in memory.
const SUBMISSIONS: u32 = 256;
/// For kernels that bring all at once: thousands of sockets may be ready. What does not fit the kernel keeps until there is
/// room, at some cost.
const COMPLETIONS: u32 = 4096;
/// Vectors kept: a turn's worth, each of a small message.
const SPARE_MAX: usize = 64;
/// The longest wait; waking once a day is free.
const WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
