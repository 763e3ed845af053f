//! How sockets leave: closed, reset, or taken off the worker.

use std::io;
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown, sockopt};

use super::Reactor;
use super::left::Left;
use super::slot::Flight;
use super::socket::{Detached, open};
use crate::driver::{Cancel, Kind};
use crate::error;
use crate::key::{Direction, OpKey, SocketKey};

impl Reactor {
    /// Closes a socket: what waits on it ends with `closed`, and its descriptor goes when nothing is in flight and what
    /// was taken from its tasks has left.
    pub(crate) fn close(&mut self, key: SocketKey) {
        let resting = self.flush_socket(key);
        if self.end(key) == Some(Kind::Stream) {
            // The peer need not wait for what else is in flight here. This fails if it is not connected: just as well.
            let how = if resting { Shutdown::Read } else { Shutdown::Both };
            let _ = shutdown(self.driver.fd(key), how);
        }
        if resting {
            self.lingering.push_back((Instant::now() + LINGER, key));
        }
    }

    /// Closes a connection abruptly: the peer gets a reset, not the end of the stream, after what was sent if it is quick.
    pub(crate) fn reset(&mut self, key: SocketKey) {
        self.flush_socket(key);
        if let Ok(fd) = self.fd(key) {
            // It cannot fail on a socket of ours; if it did, the peer would get the end instead.
            let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
        }
        self.end(key);
        self.cut(key);
    }

    /// Gives up the rest that a closed connection still has to send.
    pub(super) fn cut(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(key.index as usize) else { return };
        if socket.key != key || socket.write.flight != Flight::Rest {
            return;
        }
        // As above.
        let _ = sockopt::set_socket_linger(self.driver.fd(key), Some(Duration::ZERO));
        socket.write.flight = ended(self.driver.cancel(OpKey { socket: key, direction: Direction::Write }));
        self.in_flight -= usize::from(socket.write.flight == Flight::None);
        if socket.is_quiet() {
            self.remove(key);
        }
    }

    /// Closes a socket; tells its kind if it stays open for what is in flight.
    fn end(&mut self, key: SocketKey) -> Option<Kind> {
        let socket = open(&mut self.sockets, key)?;
        socket.closing = true;
        socket.left = Left::default();
        for direction in [Direction::Read, Direction::Write] {
            let (slot, _) = socket.slot(direction);
            self.woken.extend(slot.waker.take());
            if slot.flight == Flight::Owned {
                slot.flight = ended(self.driver.cancel(OpKey { socket: key, direction }));
                self.in_flight -= usize::from(slot.flight == Flight::None);
            }
        }
        if !socket.is_quiet() {
            return Some(socket.kind);
        }
        self.remove(key);
        None
    }

    /// Gives the socket back, unless something is in flight.
    pub(crate) fn deregister(&mut self, key: SocketKey) -> io::Result<Detached> {
        self.flush_socket(key);
        let socket = open(&mut self.sockets, key).ok_or_else(error::closed)?;
        if !socket.is_unused() {
            return Err(error::busy());
        }
        let (room, ending) = (socket.room, socket.ending);
        let mut left = std::mem::take(&mut socket.left);
        self.sockets.remove(key.index as usize);
        let (fd, early) = self.driver.deregister(key);
        early.into_iter().for_each(|result| left.keep(Direction::Read, result));
        Ok(Detached { fd, room, left, ending })
    }
}

/// What is in flight after a cancellation whose result nobody wants.
fn ended(cancelled: Cancel) -> Flight {
    match cancelled {
        Cancel::Gone | Cancel::Done(_) => Flight::None,
        Cancel::Later => Flight::Orphan,
    }
}

/// How long a closed connection may take to send its rest. There is one only where the kernel is short of memory.
const LINGER: Duration = Duration::from_secs(10);

#[cfg(all(test, not(miri)))]
mod tests {
    #![allow(
        clippy::disallowed_methods,
        reason = "the peers are std's, on loopback, where nothing keeps them"
    )]

    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::driver::{Driver, DriverKind};
    use crate::remote::Remote;

    #[test]
    fn the_rest_leaves_after_the_close() {
        for (mut reactor, key, mut far, mut sent) in resting() {
            reactor.close(key);
            let mut received = Vec::new();
            far.set_nonblocking(true).unwrap();
            while !reactor.sockets.is_empty() {
                read_some(&mut far, &mut received);
                reactor.wait(Some(Duration::from_millis(1)));
            }
            far.set_nonblocking(false).unwrap();
            far.read_to_end(&mut received).unwrap();
            sent.extend_from_slice(REST);
            assert!(received == sent, "{} of {} bytes, or others", received.len(), sent.len());
        }
    }

    #[test]
    fn the_rest_leaves_before_the_end_of_the_stream() {
        for (mut reactor, key, mut far, mut sent) in resting() {
            reactor.shutdown(key, Shutdown::Write).unwrap();
            assert_eq!(reactor.try_send(key, b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
            let mut received = Vec::new();
            far.set_nonblocking(true).unwrap();
            while read_some(&mut far, &mut received) {
                reactor.wait(Some(Duration::from_millis(1)));
            }
            sent.extend_from_slice(REST);
            assert!(received == sent, "{} of {} bytes, or others", received.len(), sent.len());
        }
    }

    #[test]
    fn a_peer_that_does_not_take_the_rest_gets_a_reset_in_the_end() {
        for (mut reactor, key, mut far, _) in resting() {
            reactor.close(key);
            reactor.wait(Some(Duration::ZERO));
            assert!(!reactor.sockets.is_empty(), "it has time");
            reactor.lingering[0].0 = Instant::now();
            while !reactor.sockets.is_empty() {
                reactor.wait(None);
            }
            // The driver may close it a moment later.
            reactor.wait(Some(Duration::ZERO));
            assert_eq!(far.read_to_end(&mut Vec::new()).unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }

    /// With each driver there is, and however the rest was sent.
    fn resting() -> impl Iterator<Item = (Reactor, SocketKey, TcpStream, Vec<u8>)> {
        let drivers =
            [DriverKind::Epoll, DriverKind::IoUring].into_iter().filter(|driver| driver.check().is_ok());
        drivers.flat_map(|driver| [false, true].map(|at_once| resting_with(driver, at_once)))
    }

    /// A socket with a rest on its way, its peer, and what the kernel has taken: as if it had run out of memory.
    fn resting_with(driver: DriverKind, at_once: bool) -> (Reactor, SocketKey, TcpStream, Vec<u8>) {
        let remote = Remote::new().unwrap();
        let mut reactor = Reactor::new(Driver::new(driver, remote).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        let key = reactor.register(Detached::fresh(near.into()), Kind::Stream);
        let mut sent = Vec::new();
        let block: Vec<u8> = (0..100_000).map(|place| (place / 9) as u8).collect();
        while let Ok(taken) = reactor.try_send(key, &block) {
            sent.extend_from_slice(&block[..taken]);
        }
        reactor.sockets[key.index as usize].room = REST.len() + crate::room::OVERHEAD_BYTES;
        assert_eq!(reactor.try_send(key, REST).unwrap(), REST.len());
        if !at_once {
            reactor.wait(Some(Duration::ZERO));
        }
        assert!(reactor.flush_socket(key), "the kernel has taken all of it");
        (reactor, key, far, sent)
    }

    /// Reads what there is; false at the end.
    fn read_some(far: &mut TcpStream, received: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 50_000];
        match far.read(&mut buffer) {
            Ok(0) => return false,
            Ok(len) => received.extend_from_slice(&buffer[..len]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        true
    }

    const REST: &[u8] = b"and the rest";
}
