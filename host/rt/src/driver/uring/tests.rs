#![allow(clippy::disallowed_methods, reason = "the peers are std's, on loopback, where nothing keeps them")]

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::buffers::{BUFFER_BYTES, COPIED_BYTES_MAX};
use super::*;
use crate::key::Direction;

#[test]
fn the_kernel_receives_again_and_again_unasked() {
    let Some(mut uring) = uring() else { return };
    let (key, mut far) = warm_pair(&mut uring, 0);
    for round in 0..10u8 {
        assert!(uring.submit(read(key), Op::Recv(100)).is_pending());
        assert!(!uring.ring.has_requests());
        far.write_all(&[round]).unwrap();
        assert_eq!(finish_recv(&mut uring, key), [round]);
    }
}

#[test]
fn large_messages_are_received_by_calls() {
    let Some(mut uring) = uring() else { return };
    let (key, mut far) = warm_pair(&mut uring, 0);
    let message = vec![7; 100_000];
    for _ in 0..5 {
        far.write_all(&message).unwrap();
        let mut received = Vec::new();
        while received.len() < message.len() {
            received.extend(recv(&mut uring, key));
        }
        assert!(received == message);
        assert!(!uring.streams[0].as_ref().unwrap().is_receiving());
    }
    // And small ones by the kernel again.
    for _ in 0..2 {
        far.write_all(b"small").unwrap();
        assert_eq!(recv(&mut uring, key), b"small");
    }
    assert!(uring.submit(read(key), Op::Recv(1)).is_pending());
    assert!(uring.streams[0].as_ref().unwrap().is_receiving());
}

/// So many peers send so much that all limits are met: the bytes of one, of copies, and of buffers.
#[test]
fn what_nobody_takes_is_bounded_and_holds_up_nobody() {
    let Some(mut uring) = uring() else { return };
    let message: Vec<u8> = (0..120_000u32).map(|place| (place / 5) as u8).collect();
    let mut crowd: Vec<_> = (0..60).map(|index| warm_pair(&mut uring, index)).collect();
    for (key, far) in &mut crowd {
        // Asked for and given up: the kernel goes on.
        assert!(uring.submit(read(*key), Op::Recv(1)).is_pending());
        assert!(matches!(uring.cancel(read(*key)), Cancel::Gone));
        far.write_all(&message).unwrap();
        settle(&mut uring);
    }
    let kept: Vec<usize> =
        crowd.iter().map(|(key, _)| find(&mut uring.streams, *key).unwrap().kept_bytes()).collect();
    assert!(kept.iter().all(|bytes| *bytes <= 2 * KERNEL_BYTES_MAX), "{kept:?}");
    let sum: usize = kept.iter().sum();
    assert!(sum > COPIED_BYTES_MAX && sum < COPIED_BYTES_MAX + (2 << 20), "{sum}");
    assert_eq!(kept.last(), Some(&0), "there were buffers to the end");
    let (key, mut far) = warm_pair(&mut uring, crowd.len() as u32);
    far.write_all(b"still served").unwrap();
    assert_eq!(recv(&mut uring, key), b"still served");
    for (key, _) in &crowd {
        let mut received = Vec::new();
        while received.len() < message.len() {
            received.extend(recv(&mut uring, *key));
        }
        assert!(received == message);
    }
    assert_eq!(uring.ring.buffers.copied_bytes(), 0);
}

#[test]
fn what_came_early_leaves_with_its_socket() {
    let Some(mut uring) = uring() else { return };
    let (key, mut far) = warm_pair(&mut uring, 0);
    assert!(!uring.holds_bytes(key));
    assert!(uring.submit(read(key), Op::Recv(1)).is_pending());
    assert!(matches!(uring.cancel(read(key)), Cancel::Gone));
    far.write_all(b"early").unwrap();
    settle(&mut uring);
    assert!(uring.holds_bytes(key));
    far.write_all(b", late").unwrap();
    let (fd, early) = uring.deregister(key);
    let mut received: Vec<u8> = Vec::new();
    for result in early {
        let Ok(Outcome::Received(buf)) = result else { panic!("{result:?}") };
        received.extend_from_slice(&buf);
    }
    assert!(received.starts_with(b"early"));
    far.shutdown(std::net::Shutdown::Write).unwrap();
    let mut near = TcpStream::from(fd);
    near.set_nonblocking(false).unwrap();
    near.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"early, late");
}

#[test]
fn a_closed_socket_goes_when_the_kernel_has_let_it_go() {
    for unread in [false, true] {
        let Some(mut uring) = uring() else { return };
        let (key, mut far) = warm_pair(&mut uring, 0);
        assert!(uring.submit(read(key), Op::Recv(1)).is_pending());
        assert!(matches!(uring.cancel(read(key)), Cancel::Gone));
        if unread {
            far.write_all(b"unread").unwrap();
            settle(&mut uring);
        }
        uring.close(key);
        assert_eq!(uring.closing.len(), 1);
        // Its place is free at once.
        let (next, mut other) = pair(&mut uring, 0, key.generation + 1);
        while !uring.closing.is_empty() {
            uring.wait(None, &mut Vec::new());
        }
        match far.read(&mut [0]) {
            Ok(len) => assert!(len == 0 && !unread),
            Err(error) => assert!(unread && error.kind() == ErrorKind::ConnectionReset, "{error}"),
        }
        other.write_all(b"next").unwrap();
        assert_eq!(recv(&mut uring, next), b"next");
    }
}

#[test]
fn a_send_without_room_goes_on_when_there_is() {
    let Some(mut uring) = uring() else { return };
    let (key, mut far, sent) = full_pair(&mut uring);
    uring.send_soon(key, b"and the rest");
    settle(&mut uring);
    assert!(uring.take(write(key)).is_pending());
    let mut received = vec![0; sent + 12];
    let reading = std::thread::spawn(move || far.read_exact(&mut received).map(|()| received));
    let mut announced = Vec::new();
    let taken = loop {
        uring.wait(None, &mut announced);
        if announced.contains(&write(key))
            && let Poll::Ready(taken) = uring.take(write(key))
        {
            break taken;
        }
    };
    assert!(matches!(taken, Ok(Outcome::Sent(12))), "{taken:?}");
    assert!(reading.join().unwrap().unwrap().ends_with(b"and the rest"));
}

#[test]
fn a_rest_without_room_is_given_up_at_once() {
    let Some(mut uring) = uring() else { return };
    let (key, _far, _) = full_pair(&mut uring);
    uring.send_soon(key, b"never");
    settle(&mut uring);
    assert!(uring.take(write(key)).is_pending());
    assert!(matches!(uring.cancel(write(key)), Cancel::Gone));
    uring.close(key);
    while !uring.closing.is_empty() {
        uring.wait(None, &mut Vec::new());
    }
}

#[test]
fn a_send_that_may_be_on_its_way_ends_later() {
    let Some(mut uring) = uring() else { return };
    let (key, mut far) = pair(&mut uring, 0, 1);
    uring.send_soon(key, b"on its way");
    assert!(matches!(uring.cancel(write(key)), Cancel::Later));
    let mut announced = Vec::new();
    while !announced.contains(&write(key)) {
        uring.wait(None, &mut announced);
    }
    let ended = uring.take(write(key));
    assert!(matches!(ended, Poll::Ready(Ok(Outcome::Sent(10)))), "{ended:?}");
    uring.close(key);
    let mut received = Vec::new();
    far.read_to_end(&mut received).unwrap();
    assert_eq!(received, b"on its way");
}

#[test]
fn what_comes_during_a_pause_waits_in_the_socket() {
    let Some(mut uring) = uring() else { return };
    let (key, mut far) = warm_pair(&mut uring, 0);
    assert!(uring.submit(read(key), Op::Recv(100)).is_pending());
    far.write_all(b"before").unwrap();
    assert_eq!(finish_recv(&mut uring, key), b"before");
    let stream =
        |uring: &mut Uring| find(&mut uring.streams, key).map(|it| (it.is_receiving(), it.kept_bytes()));
    assert_eq!(stream(&mut uring), Some((true, 0)));
    uring.pause(key);
    settle(&mut uring);
    far.write_all(b"meanwhile").unwrap();
    settle(&mut uring);
    assert_eq!(stream(&mut uring), Some((false, 0)));
    assert_eq!(recv(&mut uring, key), b"meanwhile");
    uring.close(key);
}

/// One of this machine's, if it has any.
fn uring() -> Option<Uring> {
    match check() {
        Ok(()) => Some(Uring::new(Remote::new().unwrap()).unwrap()),
        Err(why) => {
            eprintln!("SKIPPED: {why}");
            None
        }
    }
}

fn pair(uring: &mut Uring, index: u32, generation: u32) -> (SocketKey, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    near.set_nonblocking(true).unwrap();
    let key = SocketKey { index, generation };
    uring.register(key, near.into(), Kind::Stream);
    (key, listener.accept().unwrap().0)
}

/// One for which the kernel receives by itself from the next recv on.
fn warm_pair(uring: &mut Uring, index: u32) -> (SocketKey, TcpStream) {
    let (key, mut far) = pair(uring, index, 1);
    for message in [b"first", b"other"] {
        far.write_all(message).unwrap();
        assert_eq!(recv(uring, key), message);
    }
    (key, far)
}

/// One on which nothing more can be sent, and how much was.
fn full_pair(uring: &mut Uring) -> (SocketKey, TcpStream, usize) {
    let (key, far) = pair(uring, 0, 1);
    let mut sent = 0;
    while let Ok(taken) = rustix::net::send(uring.fd(key), &[7; 100_000], rustix::net::SendFlags::NOSIGNAL) {
        sent += taken;
    }
    (key, far, sent)
}

fn recv(uring: &mut Uring, key: SocketKey) -> Vec<u8> {
    match uring.submit(read(key), Op::Recv(1 << 16)) {
        Poll::Ready(Ok(Outcome::Received(buf))) => buf.into_vec(),
        Poll::Pending => finish_recv(uring, key),
        other => panic!("{other:?}"),
    }
}

fn finish_recv(uring: &mut Uring, key: SocketKey) -> Vec<u8> {
    let mut announced = Vec::new();
    loop {
        uring.wait(None, &mut announced);
        match uring.take(read(key)) {
            Poll::Ready(Ok(Outcome::Received(buf))) => return buf.into_vec(),
            Poll::Pending => {}
            other => panic!("{other:?}"),
        }
        assert!(!announced.is_empty(), "it waited for nothing");
    }
}

/// Until the kernel has nothing more to tell. What is sent on loopback is there at once.
fn settle(uring: &mut Uring) {
    uring.look(Some(Duration::ZERO));
    while !uring.ring.is_calm() {
        uring.look(Some(Duration::ZERO));
    }
    uring.due.clear();
}

fn read(socket: SocketKey) -> OpKey {
    OpKey { socket, direction: Direction::Read }
}

fn write(socket: SocketKey) -> OpKey {
    OpKey { socket, direction: Direction::Write }
}

/// What the kernel receives for one socket before it looks at others.
const KERNEL_BYTES_MAX: usize = 33 * BUFFER_BYTES;
