//! The futures of operations: plain data, submitted when first polled, cancelled when dropped.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};

use super::TcpStream;
use super::owned::{Owned, on_worker};
use crate::budget;
use crate::buf::Buf;
use crate::driver::{Op, Outcome};
use crate::key::{Direction, OpKey};
use crate::reactor::NO_TICKET;
use crate::remote::{Message, Remote, WorkerId};
use crate::worker::local;

/// See [`TcpListener::accept`](super::TcpListener::accept).
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Accept(pub(super) Operation);

impl Future for Accept {
    type Output = io::Result<(TcpStream, SocketAddr)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(self.0.poll(cx))? {
            Outcome::Accepted(fd, peer) => Ok((TcpStream::new(fd)?, peer)),
            outcome => unexpected(&outcome),
        })
    }
}

/// See [`TcpStream::recv`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Recv(pub(super) Operation);

impl Recv {
    /// Has the kernel receive nothing more for the connection until it is asked again, so that what its peer sends waits
    /// there. After this has ended.
    pub fn pause(&self) {
        on_worker(self.0.worker, |reactor| reactor.pause(self.0.key.socket));
    }
}

impl Future for Recv {
    type Output = io::Result<Buf>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(Op::Recv(0)) = self.0.request {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "recv of at most 0 bytes");
            return Poll::Ready(Err(error));
        }
        Poll::Ready(match ready!(self.0.poll(cx))? {
            Outcome::Received(buf) => Ok(buf),
            outcome => unexpected(&outcome),
        })
    }
}

/// See [`TcpStream::send`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Send(pub(super) Operation);

impl Future for Send {
    type Output = io::Result<usize>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if matches!(&self.0.request, Some(Op::Send(data)) if data.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        Poll::Ready(match ready!(self.0.poll(cx))? {
            Outcome::Sent(taken) => Ok(taken),
            outcome => unexpected(&outcome),
        })
    }
}

/// See [`TcpStream::connect`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Connect {
    address: SocketAddr,
    /// The attempt, and the stream it may make; none before the first poll and after the end. In this order: the
    /// operation is cancelled first, then its socket closed.
    attempt: Option<(Operation, TcpStream)>,
}

impl Connect {
    pub(super) fn new(address: SocketAddr) -> Connect {
        Connect { address, attempt: None }
    }
}

impl Future for Connect {
    type Output = io::Result<TcpStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let address = self.address;
        let attempt = match &mut self.attempt {
            Some(attempt) => attempt,
            none => none.insert(begin(address)?),
        };
        let result = ready!(attempt.0.poll(cx));
        let (_, stream) = self.attempt.take().expect("just polled");
        Poll::Ready(match result? {
            Outcome::Connected => Ok(stream),
            outcome => unexpected(&outcome),
        })
    }
}

fn begin(address: SocketAddr) -> io::Result<(Operation, TcpStream)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    let stream = TcpStream::new(fd)?;
    let operation = Operation::new(stream.owned(), Direction::Write, Op::Connect(address));
    Ok((operation, stream))
}

/// An operation on a socket, by the keys of both.
pub(super) struct Operation {
    worker: WorkerId,
    key: OpKey,
    /// Its place in the socket's direction, while it has one.
    ticket: u32,
    /// What is asked, until it is submitted.
    request: Option<Op>,
    /// Another task uses what it comes to.
    for_another: bool,
}

impl Operation {
    pub(super) fn new(socket: &Owned, direction: Direction, op: Op) -> Operation {
        let key = OpKey { socket: socket.key(), direction };
        Operation { worker: socket.worker(), key, ticket: NO_TICKET, request: Some(op), for_another: false }
    }

    pub(super) fn for_another(mut self) -> Operation {
        self.for_another = true;
        self
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Outcome>> {
        debug_assert!(self.request.is_some() || self.ticket != NO_TICKET, "polled after its end");
        ready!(budget::poll_proceed(cx));
        let Operation { worker, key, ticket, request, for_another } = self;
        let result = ready!(on_worker(*worker, |reactor| reactor.poll(
            *key,
            ticket,
            request,
            cx.waker(),
            *for_another
        )));
        budget::spend();
        budget::moved(result.as_ref().map_or(0, Outcome::bytes));
        Poll::Ready(result)
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        let Operation { worker, key, ticket, .. } = *self;
        if ticket == NO_TICKET {
            return;
        }
        if local::is_current(worker) {
            local::with(|local| local.reactor(|reactor| reactor.cancel(key, ticket)));
        } else if let Some(remote) = Remote::find(worker) {
            let _ = remote.send(Message::Cancel(key, ticket));
        }
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operation")
            .field("worker", &self.worker)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// A driver that answers something else is broken.
fn unexpected<T>(outcome: &Outcome) -> T {
    unreachable!("an operation came to {outcome:?}")
}
