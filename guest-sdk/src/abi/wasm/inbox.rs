//! Receiving, for coroutines that share the instance: one waits in the host for all.
//!
//! Who receives leaves a request here and is suspended. One coroutine, the last to run out of work, takes all requests to
//! the host and waits there; what comes back it copies into the others' buffers, and then each that has an answer goes on
//! in turn, resumed by the one before it. So a message costs a switch of coroutines, and a call of the host only in part.
//!
//! The right to resume others is the *baton*. Nobody has it while one waits in the host, or when nobody receives. Whoever
//! is resumed has it, and passes it on before it waits again, for whatever.

use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use super::coroutine::{current, set_current};
use super::fiber::Fiber;
use super::realloc;
use super::returned::{List, Returned};
use super::socket::{CHUNK_BYTES_MAX, Connection};
use crate::ErrorCode;
use crate::abi::nanoseconds;

/// Receives into `buf`. For fibers.
pub(super) fn recv(
    connection: &Connection,
    buf: &mut [u8],
    timeout: Option<Duration>,
) -> Result<usize, ErrorCode> {
    let max = buf.len().min(CHUNK_BYTES_MAX);
    if connection.streams() {
        let received = try_recv(connection, &mut buf[..max])?;
        if received > 0 {
            return Ok(received);
        }
        connection.set_streams(false);
    }
    let me = current();
    let request = [connection.key(), timeout.map_or(NO_TIMEOUT, nanoseconds), max as u64];
    let waiter =
        Waiter { thread: thread(me), fiber: me, buf: buf.as_mut_ptr(), room: max, outcome: None, place: 0 };
    let ticket = with(|inbox| inbox.enter(waiter, request));
    loop {
        match with(|inbox| inbox.step(ticket, me)) {
            Step::Done(outcome) => {
                return outcome.map(|received| match received {
                    Received::Copied(length) => length,
                    Received::Kept => {
                        // There may be more: then it is cheaper to go on with this one than to take turns.
                        connection.set_streams(true);
                        fetch(ticket, &mut buf[..max])
                    }
                });
            }
            Step::Resume(next) => {
                // SAFETY: `next` is suspended, as every waiter is that neither has the baton nor waits in the host.
                unsafe { conet_fiber_suspend_then_resume(next) };
            }
            Step::Suspend(requests) => {
                if !requests.is_empty() {
                    // SAFETY: the list outlives the call.
                    unsafe { add(requests.as_ptr().cast(), requests.as_flattened().len()) };
                }
                // SAFETY: one that has the baton will resume this coroutine.
                unsafe { conet_fiber_suspend() };
            }
            Step::Lead(requests) => {
                let (answers, bytes) = wait(&requests);
                with(|inbox| {
                    inbox.reuse(requests);
                    inbox.deliver(ticket, &answers, &bytes);
                });
            }
        }
        set_current(me);
        with(|inbox| inbox.baton = Baton::With(me));
    }
}

/// The calling coroutine waits for something else, or ends: another goes on with the baton.
pub(super) fn leave() {
    if let Some(next) = with(|inbox| inbox.pass_on(current())) {
        // SAFETY: it is suspended, as in `recv`.
        unsafe { resume_later(next) };
    }
}

/// What the coroutines of this instance wait to receive.
struct Inbox {
    baton: Baton,
    /// By ticket.
    waiters: Vec<Option<Waiter>>,
    free: Vec<u32>,
    /// The tickets in use, in no order: a waiter knows its place.
    tickets: Vec<u32>,
    /// Answered, and not yet resumed.
    answered: VecDeque<u32>,
    /// Not yet at the host.
    requests: Vec<Request>,
}

/// Who may resume others.
#[derive(Clone, Copy, PartialEq)]
enum Baton {
    /// Nobody receives.
    Nobody,
    /// One waits in the host.
    Host,
    /// It runs, or is about to.
    With(*mut Fiber),
}

/// A coroutine that receives.
struct Waiter {
    thread: u32,
    fiber: *mut Fiber,
    buf: *mut u8,
    room: usize,
    outcome: Option<Result<Received, ErrorCode>>,
    /// Of its ticket among those in use.
    place: usize,
}

/// What came for a request.
#[derive(Clone, Copy)]
enum Received {
    /// So many bytes, which are in the buffer.
    Copied(usize),
    /// The host has the bytes.
    Kept,
}

/// A request as the contract has it. Its ticket is filled in here.
type Request = [u64; 3];

/// An answer as the contract has it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Answer(u64);

impl Answer {
    fn ticket(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn outcome(self) -> Result<Received, ErrorCode> {
        let lower = self.0 as u32;
        match lower & (ERROR | KEPT) {
            0 => Ok(Received::Copied(lower as usize)),
            KEPT => Ok(Received::Kept),
            _ => Err(ErrorCode::at(lower as u8)),
        }
    }
}

/// In the lower half of an answer: it is an error, or the bytes are to be taken.
const ERROR: u32 = 1 << 31;
const KEPT: u32 = 1 << 30;
const NO_TIMEOUT: u64 = u64::MAX;

/// What `wait` returns.
#[repr(C)]
struct Answers {
    answers: List<Answer>,
    bytes: List<u8>,
}

/// What one that receives does next.
enum Step {
    Done(Result<Received, ErrorCode>),
    /// Passes the baton to a thread.
    Resume(u32),
    /// Waits for the baton. The requests are for the host, where another waits.
    Suspend(Vec<Request>),
    /// Waits in the host, for all.
    Lead(Vec<Request>),
}

impl Inbox {
    fn enter(&mut self, mut waiter: Waiter, mut request: Request) -> u32 {
        let ticket = self.free.pop().unwrap_or_else(|| {
            self.waiters.push(None);
            // An instance has fewer coroutines than that.
            (self.waiters.len() - 1) as u32
        });
        request[2] |= u64::from(ticket) << 32;
        waiter.place = self.tickets.len();
        self.tickets.push(ticket);
        self.waiters[ticket as usize] = Some(waiter);
        self.requests.push(request);
        ticket
    }

    fn step(&mut self, ticket: u32, me: *mut Fiber) -> Step {
        if let Some(outcome) = self.waiter(ticket).outcome.take() {
            self.remove(ticket);
            return Step::Done(outcome);
        }
        if self.baton != Baton::Nobody && self.baton != Baton::With(me) {
            let waiting = self.baton == Baton::Host;
            return Step::Suspend(if waiting { std::mem::take(&mut self.requests) } else { Vec::new() });
        }
        if let Some(next) = self.answered.pop_front() {
            return Step::Resume(self.hand_to(next));
        }
        self.baton = Baton::Host;
        Step::Lead(std::mem::take(&mut self.requests))
    }

    /// Keeps the list's memory for the next requests.
    fn reuse(&mut self, mut requests: Vec<Request>) {
        requests.clear();
        if self.requests.capacity() == 0 {
            self.requests = requests;
        }
    }

    fn deliver(&mut self, leader: u32, answers: &[Answer], mut bytes: &[u8]) {
        for answer in answers {
            let (ticket, outcome) = (answer.ticket(), answer.outcome());
            let waiter = self.waiter(ticket);
            if let Ok(Received::Copied(length)) = outcome {
                let (received, rest) = bytes.split_at(length);
                assert!(length <= waiter.room, "the host has received more than was asked for");
                // SAFETY: the buffer is lent to its coroutine's `recv`, which has not returned, and has this room.
                unsafe { ptr::copy_nonoverlapping(received.as_ptr(), waiter.buf, length) };
                bytes = rest;
            }
            waiter.outcome = Some(outcome);
            if ticket != leader {
                self.answered.push_back(ticket);
            }
        }
    }

    /// The thread that gets `me`'s baton, if it has it and anybody receives.
    fn pass_on(&mut self, me: *mut Fiber) -> Option<u32> {
        if self.baton != Baton::With(me) {
            return None;
        }
        // One without an answer leads.
        let next = self.answered.pop_front().or_else(|| self.tickets.last().copied());
        if next.is_none() {
            self.baton = Baton::Nobody;
        }
        next.map(|ticket| self.hand_to(ticket))
    }

    fn hand_to(&mut self, ticket: u32) -> u32 {
        let waiter = self.waiter(ticket);
        let (fiber, thread) = (waiter.fiber, waiter.thread);
        self.baton = Baton::With(fiber);
        thread
    }

    fn waiter(&mut self, ticket: u32) -> &mut Waiter {
        self.waiters[ticket as usize].as_mut().expect("a ticket in use")
    }

    fn remove(&mut self, ticket: u32) {
        let place = self.waiter(ticket).place;
        self.waiters[ticket as usize] = None;
        self.free.push(ticket);
        self.tickets.swap_remove(place);
        if let Some(moved) = self.tickets.get(place).copied() {
            self.waiter(moved).place = place;
        }
    }
}

/// Uses the inbox. `f` must not wait.
fn with<R>(f: impl FnOnce(&mut Inbox) -> R) -> R {
    // SAFETY: an instance has one thread, no coroutine waits in `f`, and no `f` comes here again.
    f(unsafe { &mut *INBOX.0.get() })
}

/// The component model's number of the calling coroutine.
fn thread(me: *mut Fiber) -> u32 {
    // SAFETY: the calling coroutine's fiber lives as long as it runs.
    let known = unsafe { &mut (*me).thread };
    // SAFETY: it takes nothing.
    *known.get_or_insert_with(|| unsafe { index() })
}

fn wait(requests: &[Request]) -> (Box<[Answer]>, Box<[u8]>) {
    let mut place = MaybeUninit::<Answers>::uninit();
    // SAFETY: the list outlives the call, which writes two lists to the place: they are ours from here on.
    unsafe {
        conet_fiber_inbox_wait(requests.as_ptr().cast(), requests.as_flattened().len(), place.as_mut_ptr());
        let Answers { answers, bytes } = place.assume_init();
        (answers.take(), bytes.take())
    }
}

/// Puts what the host keeps for the ticket into `buf`.
fn fetch(ticket: u32, buf: &mut [u8]) -> usize {
    let take = || {
        let mut place = MaybeUninit::<List<u8>>::uninit();
        // SAFETY: the call writes a list to the place.
        unsafe {
            take(ticket, place.as_mut_ptr());
            place.assume_init()
        }
    };
    // SAFETY: the call does not wait, and a list of bytes is all that comes back, which nobody else takes.
    unsafe { realloc::with_lent(buf, take).move_to(buf) }
}

/// Receives what is there; nothing is no end.
fn try_recv(connection: &Connection, buf: &mut [u8]) -> Result<usize, ErrorCode> {
    let max = buf.len() as u32;
    // SAFETY: the call writes its result to the pointer, a list of bytes if it went well.
    let recv = || unsafe { Returned::by(|returned| try_recv_import(connection.handle(), max, returned)) };
    // SAFETY: the call does not wait, and a list of bytes is all that comes back.
    let bytes: List<u8> = unsafe { realloc::with_lent(buf, recv) }?;
    // SAFETY: the host has just returned it.
    Ok(unsafe { bytes.move_to(buf) })
}

impl Connection {
    /// What requests call it.
    fn key(&self) -> u64 {
        self.key_or(|handle| {
            // SAFETY: the handle is this connection's.
            unsafe { key(handle) }
        })
    }
}

struct Shared(UnsafeCell<Inbox>);

// SAFETY: an instance has one thread.
unsafe impl Sync for Shared {}

static INBOX: Shared = Shared(UnsafeCell::new(Inbox {
    baton: Baton::Nobody,
    waiters: Vec::new(),
    free: Vec::new(),
    tickets: Vec::new(),
    answered: VecDeque::new(),
    requests: Vec::new(),
}));

// The wrappers of build/fibers.rs.
unsafe extern "C" {
    fn conet_fiber_inbox_wait(words: *const u64, count: usize, returned: *mut Answers);
    fn conet_fiber_suspend();
    fn conet_fiber_suspend_then_resume(thread: u32);
}

#[link(wasm_import_module = "conet:fibers/inbox@0.1.0")]
unsafe extern "C" {
    fn key(connection: u32) -> u64;
    fn add(words: *const u64, count: usize);
    fn take(ticket: u32, returned: *mut List<u8>);
    #[link_name = "try-recv"]
    fn try_recv_import(connection: u32, max: u32, returned: *mut u8);
}

#[link(wasm_import_module = "conet:fibers/threads@0.1.0")]
unsafe extern "C" {
    fn index() -> u32;
    #[link_name = "resume-later"]
    fn resume_later(thread: u32);
}
