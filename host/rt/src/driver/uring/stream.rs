//! One connection: what is asked of it, what the kernel was asked for it, and what came of that.
//!
//! Of a connection that sends small messages the kernel is asked once to receive, and goes on by itself. Its first message
//! is received when it is there, as large ones are: by a call, straight into their task's buffer, once the kernel tells that
//! one would bring something. While the kernel receives, no such call is made: it would overtake what is on its way here.

use std::io;
use std::os::fd::OwnedFd;
use std::task::Poll;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, sockopt};

use super::buffers::BUFFER_BYTES;
use super::kept::Kept;
use super::ring::{Completion, Ring};
use super::token::{Request, Token};
use crate::buf::Buf;
use crate::driver::writing::{Write, Writing, again};
use crate::driver::{Cancel, Op, Outcome};
use crate::key::{Direction, SocketKey};

/// A connection and what is in flight on it.
pub(super) struct Stream {
    pub(super) key: SocketKey,
    fd: OwnedFd,
    /// The most bytes of the recv in flight.
    recv: Option<usize>,
    writing: Writing,
    /// What the kernel is to send when the ring is entered next.
    sending: Sending,
    /// What the kernel was asked in order to read.
    reading: Reading,
    /// It was asked to tell when a write may succeed.
    awaits_writable: bool,
    /// A plain recv may bring something now.
    readable: bool,
    /// Messages are large, or it is not known yet: they are received by plain calls.
    bulky: bool,
    /// What receiving has failed with.
    failed: Option<Errno>,
    kept: Kept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    None,
    InFlight,
    /// Nobody wants it any more, but it is still to be submitted, or its completion to be taken.
    Ending,
    /// It is over, and is to be told.
    Done(Result<u32, Errno>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    None,
    InFlight(Request),
    /// It was asked to end that; its completion is still to come.
    Ending(Request),
}

impl Stream {
    pub(super) fn new(key: SocketKey, fd: OwnedFd) -> Stream {
        Stream {
            key,
            fd,
            recv: None,
            writing: Writing::new(),
            sending: Sending::None,
            reading: Reading::None,
            awaits_writable: false,
            readable: false,
            bulky: true,
            failed: None,
            kept: Kept::default(),
        }
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Starts an operation.
    pub(super) fn start(&mut self, op: Op) {
        match op {
            Op::Recv(max) => self.recv = Some(max),
            Op::Connect(address) => self.writing.start(Write::Connect(Some(address))),
            Op::Send(data) => self.writing.start(Write::Send(data)),
            Op::Accept => unreachable!("a stream does not accept"),
        }
    }

    /// Carries out the operation in flight if it may succeed, or else asks the kernel to tell when it may.
    pub(super) fn attempt(&mut self, direction: Direction, ring: &mut Ring) -> Poll<io::Result<Outcome>> {
        match direction {
            Direction::Read => self.attempt_recv(ring),
            Direction::Write => self.attempt_write(ring),
        }
    }

    /// Sends all of it: now as much as goes, the rest as an operation in flight.
    pub(super) fn send_all(&mut self, data: &[u8], ring: &mut Ring) -> Poll<io::Result<()>> {
        let polled = self.writing.send_all(&self.fd, data);
        self.await_writable(ring);
        polled
    }

    /// As `send_all`, when the ring is entered next.
    pub(super) fn send_soon(&mut self, data: &[u8], ring: &mut Ring) {
        ring.send(&self.fd, self.key, data);
        self.sending = Sending::InFlight;
    }

    /// Ends an operation. What the kernel does for it goes on, and what that brings stays here for the next.
    pub(super) fn cancel(&mut self, direction: Direction, ring: &mut Ring) -> Cancel {
        match (direction, self.sending) {
            (Direction::Read, _) => {
                self.recv = None;
                self.kept.settle(&mut ring.buffers);
            }
            (Direction::Write, Sending::InFlight | Sending::Ending) => {
                self.sending = Sending::Ending;
                return Cancel::Later;
            }
            (Direction::Write, _) => {
                self.sending = Sending::None;
                self.writing.stop();
            }
        }
        Cancel::Gone
    }

    /// Takes a completion in, and tells which operation may come to something by it.
    pub(super) fn complete(
        &mut self,
        request: Request,
        completion: Completion,
        ring: &mut Ring,
    ) -> Option<Direction> {
        match request {
            Request::Receive | Request::Readable => self.complete_read(completion, ring),
            Request::Writable => {
                self.awaits_writable = false;
                self.writing.note_writable();
                self.writing.is_due().then_some(Direction::Write)
            }
            Request::Send => Some(self.complete_send(completion)),
        }
    }

    fn complete_send(&mut self, completion: Completion) -> Direction {
        self.sending = match (completion.result, completion.unsent, self.sending) {
            // There was no room for all of it: the rest goes on as any other does.
            (sent, Some(bytes), Sending::InFlight) => {
                self.writing.start(Write::SendAll(bytes, sent.map_or(0, |sent| sent as usize)));
                Sending::None
            }
            (result, ..) => Sending::Done(result),
        };
        Direction::Write
    }

    fn complete_read(&mut self, completion: Completion, ring: &mut Ring) -> Option<Direction> {
        if !completion.more {
            self.reading = Reading::None;
            // At the end of the stream, short of buffers, or cancelled: a plain call tells what is there.
            self.readable = true;
        }
        match completion.result {
            Ok(_) => {}
            Err(Errno::CANCELED | Errno::NOBUFS | Errno::INTR | Errno::AGAIN) => {}
            Err(error) => self.failed = Some(error),
        }
        if let Some(chunk) = completion.chunk {
            self.bulky |= chunk.len() == BUFFER_BYTES;
            self.kept.push(chunk, self.recv.is_some(), &mut ring.buffers);
            if self.bulky || self.kept.len() > KEPT_BYTES_MAX {
                self.end_reading(ring);
            }
        }
        let due = self.holds_bytes() || self.reading == Reading::None;
        (due && self.recv.is_some()).then_some(Direction::Read)
    }

    /// Whether something was received that no task has taken, be it an error.
    pub(super) fn holds_bytes(&self) -> bool {
        !self.kept.is_empty() || self.failed.is_some()
    }

    /// No operation is in flight.
    pub(super) fn is_unused(&self) -> bool {
        self.recv.is_none() && !self.writing.is_waiting() && self.sending == Sending::None
    }

    /// The kernel does nothing for it.
    pub(super) fn is_quiet(&self) -> bool {
        self.reading == Reading::None && !self.awaits_writable
    }

    /// Asks the kernel to end what it does for it.
    pub(super) fn end(&mut self, ring: &mut Ring) {
        self.end_reading(ring);
        if self.awaits_writable {
            ring.cancel(Token::Socket(self.key, Request::Writable));
        }
    }

    /// Asks the kernel to receive no more by itself.
    pub(super) fn pause(&mut self, ring: &mut Ring) {
        self.end_reading(ring);
    }

    /// Nobody will take what was received. As with bytes that are unread in the kernel, the peer is to get a reset then.
    pub(super) fn forget(&mut self, ring: &mut Ring) {
        if !self.kept.is_empty() {
            self.kept.clear(&mut ring.buffers);
            // It cannot fail on a socket of ours; if it did, the peer would get the end of the stream.
            let _ = sockopt::set_socket_linger(&self.fd, Some(Duration::ZERO));
        }
    }

    /// Its descriptor, and what was received and not taken.
    pub(super) fn into_parts(mut self, ring: &mut Ring) -> (OwnedFd, Vec<io::Result<Outcome>>) {
        let mut early = Vec::new();
        while let Some(buf) = self.kept.take(usize::MAX, &mut ring.buffers) {
            early.push(Ok(Outcome::Received(buf)));
        }
        early.extend(self.failed.map(|error| Err(error.into())));
        (self.fd, early)
    }

    #[cfg(test)]
    pub(super) fn is_receiving(&self) -> bool {
        self.reading == Reading::InFlight(Request::Receive)
    }

    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    fn attempt_write(&mut self, ring: &mut Ring) -> Poll<io::Result<Outcome>> {
        match self.sending {
            Sending::InFlight | Sending::Ending => return Poll::Pending,
            Sending::Done(result) => {
                self.sending = Sending::None;
                let sent = result.map(|len| Outcome::Sent(len as usize));
                return Poll::Ready(sent.map_err(io::Error::from));
            }
            Sending::None => {}
        }
        let polled = self.writing.attempt(&self.fd);
        self.await_writable(ring);
        polled
    }

    fn attempt_recv(&mut self, ring: &mut Ring) -> Poll<io::Result<Outcome>> {
        let Some(max) = self.recv else { return Poll::Pending };
        let received = match self.receive(max, ring) {
            Err(Errno::AGAIN) => {
                self.await_bytes(ring);
                return Poll::Pending;
            }
            received => received,
        };
        self.recv = None;
        Poll::Ready(received.map(Outcome::Received).map_err(io::Error::from))
    }

    fn receive(&mut self, max: usize, ring: &mut Ring) -> Result<Buf, Errno> {
        if let Some(buf) = self.kept.take(max, &mut ring.buffers) {
            return Ok(buf);
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.reading != Reading::None || !self.readable {
            return Err(Errno::AGAIN);
        }
        let mut buf = Buf::lend();
        let space = buf.spare(max);
        let len = again(|| net::recv(&self.fd, &mut *space, RecvFlags::empty())).map(|(len, _)| len);
        let len = len.inspect_err(|error| self.readable = *error != Errno::AGAIN)?;
        // Else it is asked for again, which tells at once if there is more. The end of the stream stays.
        self.readable = len == max || len == 0;
        self.bulky = len >= BUFFER_BYTES;
        Ok(buf.filled(len))
    }

    fn await_bytes(&mut self, ring: &mut Ring) {
        if self.reading != Reading::None {
            return;
        }
        let request = if self.bulky { Request::Readable } else { Request::Receive };
        let token = Token::Socket(self.key, request);
        match request {
            Request::Receive => ring.receive(&self.fd, token),
            _ => ring.poll(&self.fd, PollFlags::IN, token),
        }
        self.reading = Reading::InFlight(request);
    }

    fn await_writable(&mut self, ring: &mut Ring) {
        if self.writing.is_waiting() && !self.awaits_writable {
            ring.poll(&self.fd, PollFlags::OUT, Token::Socket(self.key, Request::Writable));
            self.awaits_writable = true;
        }
    }

    fn end_reading(&mut self, ring: &mut Ring) {
        if let Reading::InFlight(request) = self.reading {
            ring.cancel(Token::Socket(self.key, request));
            self.reading = Reading::Ending(request);
        }
    }
}

/// What a connection may send while nobody receives, until the rest has to wait in its socket. The kernel may have as much
/// as 32 buffers' worth on its way then.
const KEPT_BYTES_MAX: usize = 16 << 10;
