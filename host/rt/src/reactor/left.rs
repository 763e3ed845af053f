//! What operations of nobody's have left for a socket's next user.

use std::collections::VecDeque;
use std::io;

use crate::buf::Buf;
use crate::driver::{Op, Outcome};
use crate::key::Direction;

/// Nothing, most often.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// What cancelled reads came to all the same, and what was received before it was asked for: the next ones get it.
    reads: Option<Box<Reads>>,
    /// What became of bytes from the outbox.
    error: Option<io::Error>,
    /// An operation has failed.
    failed: bool,
}

/// In order, and never empty.
#[derive(Debug, Default)]
struct Reads(VecDeque<io::Result<Outcome>>);

impl Left {
    pub(super) fn is_nothing(&self) -> bool {
        self.reads.is_none() && self.error.is_none()
    }

    /// Keeps what a cancelled read came to. What a cancelled write came to is of no use to the next.
    pub(super) fn keep(&mut self, direction: Direction, result: io::Result<Outcome>) {
        if direction == Direction::Read && !matches!(result, Ok(Outcome::Cancelled)) {
            self.reads.get_or_insert_default().0.push_back(result);
        }
    }

    /// Bytes that were received come before all that was and will be.
    pub(super) fn put_back(&mut self, buf: Buf) {
        if !buf.is_empty() {
            self.reads.get_or_insert_default().0.push_front(Ok(Outcome::Received(buf)));
        }
    }

    /// Bytes that were taken from a task cannot be sent.
    pub(super) fn keep_error(&mut self, error: io::Error) {
        self.error = Some(error);
        self.failed = true;
    }

    /// Whether an operation has failed: then the kernel is to say at once what a send comes to.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    pub(super) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// What this operation comes to without being submitted.
    pub(super) fn take_for(&mut self, op: &Op) -> Option<io::Result<Outcome>> {
        match op {
            Op::Connect(_) | Op::Send(_) => self.take_error().map(Err),
            Op::Recv(max) => self.take_read(*max),
            Op::Accept => self.take_read(usize::MAX),
        }
    }

    fn take_read(&mut self, max: usize) -> Option<io::Result<Outcome>> {
        let Reads(reads) = self.reads.as_deref_mut()?;
        if let Some(Ok(Outcome::Received(buf))) = reads.front_mut()
            && buf.len() > max
        {
            return Some(Ok(Outcome::Received(buf.split_to(max))));
        }
        let read = reads.pop_front();
        if reads.is_empty() {
            self.reads = None;
        }
        read
    }

    /// What the operation comes to. A reset that a send has met ends the stream for receivers too, who would take it
    /// for the peer's end.
    pub(super) fn amend(&mut self, result: io::Result<Outcome>) -> io::Result<Outcome> {
        let result = match result {
            Ok(Outcome::Received(buf)) if buf.is_empty() => match self.take_error() {
                Some(error) => Err(error),
                None => Ok(Outcome::Received(buf)),
            },
            result => result,
        };
        self.failed |= result.is_err();
        result
    }
}
