//! Start and end: ports, signals, drain.

use std::io::ErrorKind;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, long, peer, turn};

#[test]
fn handler_finishes_what_is_under_way_when_asked_to_end() {
    for signal in [Signal::TERM, Signal::INT] {
        finishes_what_is_under_way(Launch::handler("echo-handler").start(), signal);
    }
}

#[test]
fn shared_handler_finishes_what_is_under_way_when_asked_to_end() {
    finishes_what_is_under_way(shared().start(), Signal::TERM);
}

/// Its accept ends, and with it `main`; its other coroutines still finish.
#[test]
fn program_finishes_what_is_under_way_when_asked_to_end() {
    finishes_what_is_under_way(Launch::guest("echo").arg("127.0.0.1:0").start(), Signal::TERM);
}

#[test]
fn program_ends_when_asked_to() {
    let host = Launch::guest("echo").arg("127.0.0.1:0").start();
    peer::echo_exact(host.connect(), 1000);
    host.stop();
}

#[test]
fn drain_says_what_it_waits_for() {
    let idle = Launch::handler("echo-handler");
    let one = Launch::guest("echo").arg("127.0.0.1:0");
    for (launch, says) in
        [(idle, "shutting down"), (one, "shutting down: 1 coroutine may take 10s to finish")]
    {
        let host = launch.start();
        host.addr();
        host.signal(Signal::TERM);
        let exit = host.wait_exit();
        let said = exit.assert_code(0).stderr.lines().find(|line| line.starts_with("shutting down"));
        assert_eq!(said.and_then(|line| line.split(';').next()), Some(says), "{exit:?}");
    }
}

/// A stderr that takes nothing holds up whoever writes to it: the line about the listener is the start's last act.
#[test]
fn signal_is_a_drain_even_if_nobody_could_be_told_of_the_start() {
    let host = Launch::handler("echo-handler").stderr_full().start();
    let addr = host.process().listening();
    let mut open = peer::connect(addr);
    peer::round_trip(&mut open, b"before");
    host.signal(Signal::TERM);
    wait_refused(addr);
    peer::round_trip(&mut open, b"while draining");
    drop(open);
    host.wait_exit().assert_code(0);
}

#[test]
fn second_signal_ends_at_once_and_exits_3() {
    for launch in [Launch::handler("echo-handler"), shared()] {
        let host = launch.option("--drain-max", "60s").start();
        let mut stream = host.connect();
        peer::round_trip(&mut stream, b"open");
        host.signal(Signal::TERM);
        wait_refused(host.addr());
        let start = Instant::now();
        // A signal right after the first one is taken for the same wish, so again until it is another.
        while !host.process().wait_end(Duration::from_millis(20)) {
            assert!(start.elapsed() < Duration::from_secs(10), "still draining: {host:?}");
            host.signal(Signal::TERM);
        }
        host.wait_exit().assert_code(3);
        peer::expect_reset(&mut stream);
    }
}

#[test]
fn connection_that_outlasts_the_drain_is_reset_and_the_exit_code_is_3() {
    for launch in [Launch::handler("echo-handler"), shared()] {
        let host = launch.option("--drain-max", "300ms").start();
        let mut stream = host.connect();
        peer::round_trip(&mut stream, b"open");
        host.signal(Signal::TERM);
        host.wait_exit_within(Duration::from_secs(20)).assert_code(3);
        peer::expect_reset(&mut stream);
    }
}

/// Accepted it is, although no coroutine was free to serve it.
#[test]
fn connection_that_still_waits_for_a_coroutine_is_reset_at_the_end_of_the_drain() {
    for launch in [Launch::handler("echo-handler"), shared()] {
        let launch = launch.option("--workers", "1").option("--coroutines-max", "1");
        let host = launch.option("--drain-max", "300ms").start();
        let mut served = host.connect();
        peer::round_trip(&mut served, b"open");
        let accepted = host.process().fds() + 1;
        let mut waiting = host.connect();
        let start = Instant::now();
        while host.process().fds() < accepted {
            assert!(start.elapsed() < PATIENCE, "the second one is not accepted: {host:?}");
        }
        host.signal(Signal::TERM);
        host.wait_exit().assert_code(3);
        peer::expect_reset(&mut served);
        peer::expect_reset(&mut waiting);
    }
}

/// Neither while the guest still prints, nor when it has ended and its output is left in the queue.
#[test]
fn output_that_nobody_reads_does_not_outlast_the_drain() {
    for (lines, last) in [("1000000", "at 000050000"), ("40000", "at 000039000")] {
        let launch = Launch::guest("print_much").arg(lines).stdout_unread();
        let host = launch.option("--drain-max", "300ms").start();
        host.wait_line(last);
        host.signal(Signal::TERM);
        host.wait_exit().assert_code(3).assert_stderr("bytes of the guest's output are lost");
    }
}

#[test]
fn second_signal_does_not_wait_for_output_that_nobody_reads() {
    let launch = Launch::guest("print_much").arg("40000").stdout_unread();
    let host = launch.option("--drain-max", "10m").flag("-vv").start();
    host.wait_line("at 000039000");
    let start = Instant::now();
    // A signal right after the first one is taken for the same wish, so again until it is another.
    while !host.process().wait_end(Duration::from_millis(20)) {
        assert!(start.elapsed() < PATIENCE, "still waiting: {host:?}");
        host.signal(Signal::TERM);
    }
    let exit = host.wait_exit();
    exit.assert_code(3).assert_stderr("bytes of the guest's output are lost").assert_stderr("output_lost=");
    assert!(!exit.stderr.contains("output_lost=0 "), "{exit:?}");
}

/// A guest that never waits cannot outlast a drain either.
#[test]
fn spinning_guest_does_not_hold_up_the_end() {
    let _turn = turn();
    let launch = Launch::handler("spin").option("--cpu-max", "60s").option("--drain-max", "300ms");
    let host = launch.option("--workers", "1").start();
    let mut spinner = host.connect();
    peer::round_trip(&mut spinner, b"!");
    host.signal(Signal::TERM);
    host.wait_exit_within(Duration::from_secs(20)).assert_code(3);
}

#[test]
fn second_handler_on_a_port_exits_5() {
    let first = Launch::handler("echo-handler").start();
    let addr = first.addr().to_string();
    let exit = Launch::guest("echo-handler").option("--listen", &addr).finish();
    exit.assert_code(5).assert_stderr(&addr);
    exit.one_line();
    peer::echo_exact(first.connect(), 1000);
    first.stop();
}

#[test]
fn second_program_on_a_port_is_told_so() {
    for instances in ["1", "per-worker"] {
        let first = Launch::guest("echo").arg("127.0.0.1:0").start();
        let addr = first.addr().to_string();
        let exit = Launch::guest("echo").option("--instances", instances).arg(&addr).finish();
        exit.assert_code(1);
        exit.assert_stderr(&addr).assert_stderr("AddressInUse");
        assert!(exit.stderr.to_lowercase().contains("already in use"), "the host says so too: {exit:?}");
        peer::echo_exact(first.connect(), 1000);
        first.stop();
    }
}

/// CPU is charged, not time: a host that stands still charges nobody.
#[test]
fn stopped_host_ends_no_guest() {
    let _turn = turn();
    let pause = if long() { Duration::from_secs(5) } else { Duration::from_millis(1_500) };
    let host = Launch::handler("burst").option("--workers", "1").option("--cpu-max", "1s").start();
    let mut idle = host.connect();
    peer::round_trip(&mut idle, b"idle");
    let mut busy = host.connect();
    peer::round_trip(&mut busy, b"!");
    host.signal(Signal::STOP);
    // Nothing comes: it was stopped in the middle of its work.
    let stopped_within = peer::silent_for(&mut busy, pause);
    host.signal(Signal::CONT);
    assert!(stopped_within, "the burst ended before the host was stopped: make it longer");
    assert_eq!(peer::read_line(&mut busy), "done", "{host:?}");
    peer::round_trip(&mut idle, b"after");
    drop(idle);
    host.stop();
}

/// Each has less left than the next. Nobody else is let in, and the host ends with the last of them.
#[test]
fn every_request_that_is_under_way_is_answered() {
    let config = Config::host("shared-instances = true")
        .tenant("program", "echo", PROGRAM)
        .handler("handler", "echo-handler", "")
        .handler("shared", "echo_shared", "isolation = \"shared\"");
    let host = Launch::serve(&config).start();
    let addrs = ["program", "handler", "shared"].map(|name| host.addr_of(name));
    let mut requests: Vec<_> = (0..150).map(|nth| peer::connect(addrs[nth % addrs.len()])).collect();
    for request in &mut requests {
        peer::round_trip(request, b"half of it");
    }
    host.signal(Signal::TERM);
    addrs.into_iter().for_each(wait_refused);
    for mut request in requests {
        assert!(!host.process().wait_end(Duration::ZERO), "it has ended too early: {host:?}");
        peer::round_trip(&mut request, b"the other half");
        request.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(peer::read_all(&mut request), b"");
    }
    host.wait_exit().assert_code(0);
}

/// They are connected, though nobody has accepted them: the listener's end would reset them.
#[test]
fn connections_that_wait_to_be_accepted_at_the_end_are_served() {
    for (name, guest, lines) in
        [("program", "echo", PROGRAM), ("handler", "echo-handler", "listen = [\"127.0.0.1:0\"]")]
    {
        let slowly = format!("{lines}\n[tenant.limits]\naccept-rate = 1");
        let config = Config::host("shared-instances = true").tenant(name, guest, &slowly);
        let host = Launch::serve(&config).start();
        let mut connections: Vec<_> = (0..20).map(|_| host.connect()).collect();
        wait_connected(host.addr(), connections.len());
        host.signal(Signal::TERM);
        wait_refused(host.addr());
        for connection in &mut connections {
            peer::round_trip(connection, b"served");
        }
        drop(connections);
        host.wait_exit().assert_code(0);
    }
}

/// Waits until the server's side of so many connections is there, too: it comes after the client's.
fn wait_connected(addr: SocketAddr, count: usize) {
    let (port, start) = (format!(":{:04X}", addr.port()), Instant::now());
    let is_connected = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        // 01 is ESTABLISHED.
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("01")
    };
    loop {
        let sockets = std::fs::read_to_string("/proc/net/tcp").expect("this is Linux");
        if sockets.lines().filter(is_connected).count() >= count {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{addr} has fewer than {count} connections");
    }
}

/// A program that listens on a free port.
const PROGRAM: &str = "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]";

fn shared() -> Launch {
    Launch::handler("echo_shared").option("--isolation", "shared")
}

fn finishes_what_is_under_way(host: Host, signal: Signal) {
    let mut open = host.connect();
    peer::round_trip(&mut open, b"before");
    host.signal(signal);
    wait_refused(host.addr());
    peer::round_trip(&mut open, b"while draining");
    open.shutdown(Shutdown::Write).expect("the connection is open");
    assert_eq!(peer::read_all(&mut open), b"");
    host.wait_exit().assert_code(0);
}

/// Waits until nobody listens any more.
fn wait_refused(addr: SocketAddr) {
    let start = Instant::now();
    while !matches!(TcpStream::connect(addr), Err(error) if error.kind() == ErrorKind::ConnectionRefused) {
        assert!(start.elapsed() < PATIENCE, "{addr} still accepts");
    }
}

/// A listener that the copies of a program share is gone with the last of them that has it.
#[test]
fn copies_can_listen_again_where_they_have_stopped() {
    for workers in ["1", "2"] {
        // On an address of 127.0.0.0/8 that nobody else uses: the port is nobody's between two binds.
        let launch = Launch::guest("bind_again").option("--instances", "per-worker");
        let exit = launch.option("--workers", workers).arg("127.77.0.1:7177").finish();
        exit.assert_code(0);
        assert_eq!(exit.stdout_text().matches("again").count().to_string(), workers, "{exit:?}");
    }
}
