//! Echo through every way to serve a connection: as a program, a handler with an instance each, a shared instance.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use conet_tests::crowd::Crowd;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{peer, process, turn};

#[test]
fn program_returns_every_byte() {
    returns_every_byte(&program().start());
}

#[test]
fn handler_returns_every_byte() {
    returns_every_byte(&Launch::handler("echo-handler").start());
}

#[test]
fn shared_handler_returns_every_byte() {
    returns_every_byte(&shared().start());
}

#[test]
fn program_serves_2000_at_once() {
    serves_2000(&program().start());
}

#[test]
fn handler_serves_2000_at_once() {
    serves_2000(&Launch::handler("echo-handler").start());
}

#[test]
fn shared_handler_serves_2000_at_once() {
    serves_2000(&shared().start());
}

#[test]
fn a_copy_per_worker_serves_one_port() {
    let _turn = turn();
    let host = program().option("--instances", "per-worker").option("--workers", "2").start();
    let mut crowd = Crowd::connect(host.addr(), 200);
    crowd.round(0);
    crowd.round(1);
    let listeners = host.stderr().matches("listening on").count();
    assert_eq!(listeners, 1, "lines for one listener of {host:?}");
    drop(crowd);
    host.stop();
}

/// The guest ends its sending side first and must still receive all.
#[test]
fn guest_receives_after_it_has_ended_its_sending_side() {
    let host = Launch::handler("half_close").start();
    let mut stream = host.connect();
    assert_eq!(peer::read_all(&mut stream), b"bye");
    stream.write_all(&[7; 300_000]).expect("the guest still receives");
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    host.wait_stdout_line("received 300000");
    host.stop();
}

#[test]
fn peer_reset_reaches_the_guest_as_an_error() {
    let host = Launch::handler("report_error").start();
    let mut stream = host.connect();
    stream.write_all(b"some").expect("the guest receives");
    peer::reset(stream);
    let line = host.wait_stdout_line("failed");
    assert!(line.contains("ConnectionReset"), "{line}");
    host.stop();
}

/// An error of a handler ends its connection; the operator sees how many there were.
#[test]
fn errors_of_handlers_are_counted() {
    for isolation in ["connection", "shared"] {
        let launch = Launch::handler("echo_shared").option("--isolation", isolation);
        let host = launch.flag("-vv").start();
        peer::echo_exact(host.connect(), 1000);
        for _ in 0..2 {
            let mut stream = host.connect();
            peer::round_trip(&mut stream, b"served");
            peer::reset(stream);
        }
        // The drain lets them see it.
        host.signal(Signal::TERM);
        host.wait_exit().assert_code(0).assert_stderr(" handler_errors=2 ");
    }
}

/// What is long comes to coroutines of one instance by itself, and they go on with what else their connections have.
#[test]
fn long_chunks_come_to_the_coroutine_that_receives_them() {
    for driver in ["epoll", "auto"] {
        let launch = Launch::handler("echo_large").option("--isolation", "shared");
        let host = launch.option("--driver", driver).start();
        returns_every_byte(&host);
        std::thread::scope(|scope| {
            for extra in 0..16 {
                let stream = host.connect();
                scope.spawn(move || peer::echo_exact(stream, (4 << 20) + extra));
            }
        });
        host.stop();
    }
}

/// Peers that send much, read nothing and cut the connection off leave nothing behind.
#[test]
fn peer_resets_leave_nothing_behind() {
    let _turn = turn();
    let host = Launch::handler("echo-handler").start();
    peer::round_trip(&mut host.connect(), b"first");
    let mut steady = host.connect();
    peer::round_trip(&mut steady, b"before");
    let fds = host.process().fds();
    for _ in 0..200 {
        let mut stream = host.connect();
        peer::round_trip(&mut stream, b"served");
        stream.set_nonblocking(true).expect("a socket has this option");
        // As much as the buffers between us take.
        while let Ok(1..) = stream.write(&[1; 64 * 1024]) {}
        peer::reset(stream);
    }
    // The host sees the resets in order, and this connection last.
    peer::round_trip(&mut host.connect(), b"after");
    peer::round_trip(&mut steady, b"after");
    let left = eventually_at_most(fds + 4, &mut steady, || host.process().fds());
    assert!(left, "{} descriptors, {fds} before: {host:?}", host.process().fds());
    drop(steady);
    host.stop();
}

fn program() -> Launch {
    Launch::guest("echo").arg("127.0.0.1:0")
}

fn shared() -> Launch {
    Launch::handler("echo_shared").option("--isolation", "shared")
}

fn returns_every_byte(host: &Host) {
    let _turn = turn();
    for length in [1, 2, 1000, 65_535, 65_536, 65_537, 1 << 20, 64 << 20] {
        peer::echo_exact(host.connect(), length);
    }
    // Nothing sent: nothing back, and a normal end.
    let mut silent = host.connect();
    silent.shutdown(Shutdown::Write).expect("the connection is open");
    assert_eq!(silent.read(&mut [0]).expect("a normal end"), 0);
}

fn serves_2000(host: &Host) {
    let _turn = turn();
    process::need_fds(2_500);
    let mut crowd = Crowd::connect(host.addr(), 2_000);
    for round in 0..5 {
        crowd.round(round);
    }
    for stream in crowd.streams() {
        stream.shutdown(Shutdown::Write).expect("the connection is open");
    }
    for stream in crowd.streams() {
        assert_eq!(peer::read_all(stream), b"", "bytes nobody sent");
    }
}

/// Whether `count` falls to `most`, while the host is kept turning by a conversation.
fn eventually_at_most(most: usize, steady: &mut TcpStream, mut count: impl FnMut() -> usize) -> bool {
    (0..10_000).any(|_| {
        peer::round_trip(steady, b"turn");
        count() <= most
    })
}
