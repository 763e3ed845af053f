//! The load generator against servers that are right and servers that are wrong, over loopback.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use conet_bench::load::{self, Pace, Plan, Report};
use conet_bench::serve::tokio::Flavor;
use conet_bench::serve::{self, Service};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};

const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The raw epoll baseline, until the test's process ends.
fn epoll_server() -> SocketAddr {
    let server = serve::epoll::Server::bind(ANY_PORT, Service::Echo).expect("a free port");
    let address = server.local_addr().expect("it is bound");
    thread::spawn(|| server.run());
    address
}

/// The raw io_uring baseline, where the system lets us.
fn io_uring_server() -> Option<SocketAddr> {
    if !serve::io_uring::is_available() {
        eprintln!("this system has no io_uring");
        return None;
    }
    let (sender, address) = mpsc::channel();
    thread::spawn(move || {
        let server = serve::io_uring::Server::bind(ANY_PORT).expect("a free port");
        sender.send(server.local_addr().expect("it is bound")).expect("the test waits");
        server.run()
    });
    Some(address.recv().expect("it binds"))
}

/// A server whose every connection is handled by `handle`.
fn server(handle: impl Fn(TcpStream) + Copy + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || handle(stream));
        }
    });
    address
}

/// Receives one message of 64 bytes and sends it back, changed by `change`. False: the connection is over.
fn echo_message(stream: &mut TcpStream, change: impl Fn(&mut [u8])) -> bool {
    let mut message = [0; 64];
    if stream.read_exact(&mut message).is_err() {
        return false;
    }
    change(&mut message);
    stream.write_all(&message).is_ok()
}

fn short(server: SocketAddr, connections: usize) -> Plan {
    let (warm_up, duration) = (Duration::from_millis(20), Duration::from_millis(200));
    Plan { warm_up, duration, verify: true, ..Plan::new(server, connections) }
}

fn run(plan: &Plan) -> Report {
    load::run(plan).expect("the connections open")
}

fn assert_clean(report: &Report) {
    assert!(report.errors.is_empty(), "{report}");
    assert!(report.requests > 0, "{report}");
    let latency = report.latency;
    assert!(
        latency.p50_us > 0.0 && latency.p50_us <= latency.p99_us && latency.p99_us <= latency.max_us,
        "{report}"
    );
}

#[test]
fn closed_loop_gets_every_byte_back_from_the_epoll_baseline() {
    let server = epoll_server();
    for (connections, size, depth) in [(1, 1, 1), (64, 64, 1), (8, 64, 16), (2, 1_000_000, 2)] {
        let pace = Pace::Closed { depth };
        assert_clean(&run(&Plan { size, pace, ..short(server, connections) }));
    }
}

#[test]
fn closed_loop_gets_every_byte_back_from_tokio() {
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread] {
        let (sender, address) = mpsc::channel();
        let bound = move |address| sender.send(address).expect("the test waits");
        thread::spawn(move || serve::tokio::run(ANY_PORT, flavor, Service::Echo, bound));
        let server = address.recv().expect("it binds");
        assert_clean(&run(&short(server, 64)));
        assert_clean(&run(&Plan { size: 300_000, ..short(server, 2) }));
    }
}

/// Over several rounds, so that slots are closed and used again, and with more than all buffers hold.
#[test]
fn closed_loop_gets_every_byte_back_from_io_uring() {
    let Some(server) = io_uring_server() else { return };
    for (connections, size, depth) in
        [(1, 1, 1), (64, 64, 1), (8, 64, 16), (2, 1_000_000, 2), (64, 100_000, 2), (3, 4096, 1)]
    {
        let pace = Pace::Closed { depth };
        assert_clean(&run(&Plan { size, pace, ..short(server, connections) }));
    }
}

/// A peer that sends and never reads takes every buffer; the others are served again once it is gone.
#[test]
fn io_uring_gets_its_buffers_back_from_a_peer_that_resets() {
    let Some(server) = io_uring_server() else { return };
    let mut greedy = TcpStream::connect(server).expect("it listens");
    // Not a wait for something: when nothing is taken any more, there is no buffer left.
    greedy.set_write_timeout(Some(Duration::from_secs(2))).expect("a valid timeout");
    let mut sent = 0;
    while let Ok(bytes) = greedy.write(&[7; 65_536]) {
        sent += bytes;
    }
    assert!(sent > 1024 * 4096, "{sent}");
    // With its echo unread, this is a reset.
    drop(greedy);
    assert_clean(&run(&short(server, 64)));
}

/// Bytes flow to a server that discards them; one that closes instead is an error.
#[test]
fn bulk_goes_at_the_speed_of_the_server() {
    let discarding = serve::epoll::Server::bind(ANY_PORT, Service::Discard).expect("a free port");
    let address = discarding.local_addr().expect("it is bound");
    thread::spawn(|| discarding.run());
    let (warm_up, duration) = (Duration::from_millis(20), Duration::from_millis(300));
    let rate = load::bulk(address, 4, warm_up, duration).expect("it takes all");
    assert!(rate > 0.0);

    let closing = server(|mut stream| drop(stream.read(&mut [0; 1000])));
    let error = load::bulk(closing, 2, warm_up, duration).expect_err("it closes").to_string();
    assert!(error.contains("does not take all"), "{error}");
}

/// A server that counts what it echoes: the exact number arrives, after one message on each connection, and
/// no more.
#[test]
fn an_exact_number_of_requests_is_sent() {
    static ECHOED: AtomicU64 = AtomicU64::new(0);
    let server = server(|mut stream| {
        // Counted before it is answered.
        let count = |_: &mut [u8]| {
            ECHOED.fetch_add(1, Ordering::SeqCst);
        };
        while echo_message(&mut stream, count) {}
    });
    let plan = Plan { threads: 2, pace: Pace::Closed { depth: 3 }, ..Plan::new(server, 7) };
    let (warm_up, duration) = (Duration::ZERO, Duration::from_secs(60));
    let report = run(&Plan { requests: Some(1001), warm_up, duration, ..plan });
    assert_clean(&report);
    assert_eq!(report.requests, 1001);
    assert!(report.seconds < 60.0, "{report}");
    assert_eq!(ECHOED.load(Ordering::SeqCst), 1001 + 7);
}

/// Each request comes on a connection of its own, which ends with a reset, so that no local port is left
/// waiting.
#[test]
fn connecting_makes_a_connection_for_each_request() {
    static RESETS: AtomicU64 = AtomicU64::new(0);
    let (sender, ended) = mpsc::channel();
    let sender = &*Box::leak(Box::new(sender));
    let server = server(move |mut stream| {
        echo_message(&mut stream, |_| {});
        let end = stream.read(&mut [0]).map_err(|error| error.kind());
        RESETS.fetch_add(u64::from(end == Err(ErrorKind::ConnectionReset)), Ordering::SeqCst);
        sender.send(()).expect("the test waits");
    });
    let (warm_up, duration) = (Duration::ZERO, Duration::from_secs(60));
    let plan = Plan { pace: Pace::Connect, requests: Some(100), warm_up, duration, ..Plan::new(server, 5) };
    let report = run(&plan);
    assert_clean(&report);
    assert_eq!(report.requests, 100);
    ended.iter().take(105).for_each(drop);
    assert_eq!(RESETS.load(Ordering::SeqCst), 105);
}

#[test]
fn requests_that_find_no_time_are_unanswered() {
    let server = server(|mut stream| {
        echo_message(&mut stream, |_| {});
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let plan = Plan { warm_up: Duration::ZERO, ..short(server, 3) };
    let report = run(&Plan { requests: Some(10), ..plan });
    assert_eq!((report.requests, report.errors.unanswered), (0, 10), "{report}");
}

#[test]
fn a_thousand_connections_over_two_threads_open_at_once() {
    assert_clean(&run(&Plan { threads: 2, ..short(epoll_server(), 1000) }));
}

#[test]
fn open_loop_keeps_its_rate() {
    let plan = Plan { pace: Pace::Open { rate: 1000 }, threads: 2, ..short(epoll_server(), 8) };
    let report = run(&Plan { duration: Duration::from_millis(500), ..plan });
    assert_clean(&report);
    // Answers that fall just outside the measured time on a busy machine are not in the rate.
    assert!((400..=510).contains(&report.requests), "{report}");
}

/// The point of the open loop: a server that stalls once for a quarter of the time delays a quarter of the
/// messages, though only one of them waited in the server. A generator that waited for it would see one slow
/// message in hundreds.
#[test]
fn a_stall_shows_in_every_message_it_delayed() {
    let stall = Duration::from_millis(250);
    let server = server(move |mut stream| {
        let mut messages = 0;
        while echo_message(&mut stream, |_| {}) {
            messages += 1;
            if messages == 300 {
                // Not a wait for something: the stall itself is what is measured.
                let (_silent, never) = mpsc::channel::<()>();
                let _ = never.recv_timeout(stall);
            }
        }
    });
    let plan = Plan { pace: Pace::Open { rate: 1000 }, ..short(server, 1) };
    let report = run(&Plan { duration: Duration::from_secs(1), ..plan });
    assert_clean(&report);
    let stall_us = stall.as_micros() as f64;
    assert!(report.latency.max_us > 0.9 * stall_us, "{report}");
    // 250 of 1,000 messages are late by up to 250 ms, evenly: the slowest in a hundred by over 200 ms.
    assert!(report.latency.p99_us > 0.8 * stall_us, "{report}");
}

#[test]
fn one_wrong_byte_is_an_error() {
    let server = server(|mut stream| {
        let mut messages = 0;
        while echo_message(&mut stream, |message| message[32] ^= u8::from(messages == 3)) {
            messages += 1;
        }
    });
    let report = run(&short(server, 2));
    assert_eq!(report.errors.connections.get("wrong bytes"), Some(&2), "{report}");
    assert_eq!(report.errors.unanswered, 2, "{report}");
}

#[test]
fn a_server_that_closes_is_an_error_and_the_others_go_on() {
    let server = server(|mut stream| {
        let mut first = [0; 1];
        // Only the connection whose stream starts as the other's does not is closed, after two messages.
        if stream.peek(&mut first).is_err() {
            return;
        }
        let mut messages = 0;
        while echo_message(&mut stream, |_| {}) {
            messages += 1;
            if first[0].is_multiple_of(2) && messages == 2 {
                return;
            }
        }
    });
    let report = run(&short(server, 16));
    let lost: u64 = report.errors.connections.values().sum();
    assert!((1..16).contains(&lost), "{report}");
    assert!(report.requests > 100, "{report}");
}

#[test]
fn a_request_that_is_never_answered_is_an_error() {
    let server = server(|mut stream| {
        // The ramp's echo, then silence until the generator closes.
        echo_message(&mut stream, |_| {});
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let report = run(&short(server, 3));
    assert_eq!((report.requests, report.errors.unanswered), (0, 3), "{report}");
}

#[test]
fn nobody_listening_is_a_clear_error() {
    // Bound and not listening, so that no other test is given the port.
    let socket =
        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a socket");
    bind(&socket, &ANY_PORT).expect("a free port");
    let address = SocketAddr::try_from(getsockname(&socket).expect("it is bound")).expect("an IP address");
    let error = format!("{:#}", load::run(&short(address, 4)).expect_err("nobody listens"));
    assert!(error.contains(&address.to_string()) && error.contains("refused"), "{error}");
}

#[test]
fn the_null_run_needs_no_server() {
    assert_clean(&run(&short(ANY_PORT, 16).null()));
}
