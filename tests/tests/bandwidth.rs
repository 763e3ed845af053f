//! Limits on bandwidth: no more passes, nothing is lost, and nobody is blamed for the wait.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::upstream::Upstream;
use conet_tests::{long, peer};

/// A host with a handler that has these limits.
fn limited(host: &str, guest: &str, lines: &str) -> Host {
    let config = Config::host(host).handler("h", guest, lines);
    Launch::serve(&config).flag("-vv").start()
}

/// Echoes so many bytes on each of so many connections at once, and checks every byte; gives how long that took.
fn echo(addr: SocketAddr, connections: usize, bytes: usize) -> Duration {
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| peer::echo_exact(peer::connect(addr), bytes));
        }
    });
    begun.elapsed()
}

/// How long so many bytes take at least: nothing that a slow machine could fail.
fn at_least(bytes: usize, per_second: usize) -> Duration {
    let burst = (per_second / 10).max(16 << 10);
    Duration::from_secs_f64(bytes.saturating_sub(burst) as f64 / per_second as f64)
}

/// Ends it, and gives a counter.
fn stop_counted(host: Host, counter: &str) -> u64 {
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    let count =
        exit.stderr.split(&format!(" {counter}=")).nth(1).unwrap_or_else(|| panic!("{}", exit.stderr));
    count.split_whitespace().next().and_then(|count| count.parse().ok()).expect("a number")
}

const FIBERS: &str = "shared-instances = true";

#[test]
fn what_a_tenant_receives_is_held_to_its_rate() {
    let host = limited("workers = 2", "echo-handler", "[tenant.limits]\nbandwidth-in = \"1MiB/s\"");
    let took = echo(host.addr_of("h"), 4, 128 << 10);
    assert!(took >= at_least(512 << 10, 1 << 20), "{took:?}");
    assert!(stop_counted(host, "bytes_in_held") > 0);
}

#[test]
fn what_a_tenant_sends_is_held_to_its_rate() {
    let host = limited("workers = 2", "echo-handler", "[tenant.limits]\nbandwidth-out = \"1MiB/s\"");
    let took = echo(host.addr_of("h"), 4, 128 << 10);
    assert!(took >= at_least(512 << 10, 1 << 20), "{took:?}");
    assert!(stop_counted(host, "bytes_out_held") > 0);
}

#[test]
fn coroutines_that_share_an_instance_are_held_to_it() {
    for limit in ["bandwidth-in", "bandwidth-out"] {
        let lines = format!("isolation = \"shared\"\n[tenant.limits]\n{limit} = \"1MiB/s\"");
        let host = limited(FIBERS, "echo_shared", &lines);
        let took = echo(host.addr_of("h"), 4, 128 << 10);
        assert!(took >= at_least(512 << 10, 1 << 20), "{limit}: {took:?}");
        host.stop();
    }
}

/// Each by itself: two take no longer than one.
#[test]
fn each_connection_has_a_rate_of_its_own() {
    for limit in ["connection-bandwidth-in", "connection-bandwidth-out"] {
        let host = limited("", "echo-handler", &format!("[tenant.limits]\n{limit} = \"256KiB/s\""));
        let took = echo(host.addr_of("h"), 4, 128 << 10);
        assert!(took >= at_least(128 << 10, 256 << 10), "{limit}: {took:?}");
        let counter = if limit.ends_with("in") { "bytes_in_held" } else { "bytes_out_held" };
        assert!(stop_counted(host, counter) > 0);
    }
}

/// Wherever a connection goes, and whoever has accepted it.
#[test]
fn spawned_coroutines_and_programs_are_held_to_it() {
    let program = "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]\n[tenant.limits]\nbandwidth-out = \"1MiB/s\"";
    let config = Config::host(FIBERS).tenant("p", "echo", program).handler(
        "h",
        "spawn_echo",
        "[tenant.limits]\nbandwidth-out = \"1MiB/s\"",
    );
    let host = Launch::serve(&config).start();
    for tenant in ["p", "h"] {
        let took = echo(host.addr_of(tenant), 4, 128 << 10);
        assert!(took >= at_least(512 << 10, 1 << 20), "{tenant}: {took:?}");
    }
    host.stop();
}

/// A pool's connections are the tenant's, too: 64 bytes out to the upstream and 64 to the peer for each.
#[test]
fn connections_that_are_made_are_held_to_it() {
    let upstream = Upstream::echo();
    let lines = format!(
        "env = {{ TARGET = \"{0}\" }}\nallow-connect = [\"{0}\"]\n[tenant.limits]\nbandwidth-out = \"1KiB/s\"",
        upstream.addr()
    );
    let host = limited("", "pool_handler", &lines);
    let begun = Instant::now();
    for _ in 0..6 {
        peer::round_trip(&mut host.connect_to("h"), &[7; 64]);
    }
    // A burst of 102.
    let least = Duration::from_secs_f64((6.0 * 128.0 - 102.0) / 1024.0);
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    assert!(stop_counted(host, "bytes_out_held") > 0);
}

/// Twenty wait for their turn, two seconds each time, with deadlines of a quarter of one.
#[test]
fn a_peer_is_not_blamed_for_what_is_held_up() {
    for (limit, deadline) in [("bandwidth-out", "write"), ("bandwidth-in", "idle")] {
        let lines = format!(
            "[tenant.limits]\n{limit} = \"1KiB/s\"\nfirst-byte = \"off\"\nwrite = \"off\"\nidle = \"off\"\n"
        )
        .replace(&format!("{deadline} = \"off\""), &format!("{deadline} = \"500ms\""));
        let host = limited("", "echo-handler", &lines);
        echo(host.addr_of("h"), 20, 250);
        host.stop();
    }
}

/// What was received and may not be had yet is there for the next call, however many are given up meanwhile.
#[test]
fn a_call_that_times_out_loses_nothing() {
    let lines = "isolation = \"shared\"\n[tenant.limits]\nbandwidth-in = \"64KiB/s\"";
    let host = limited(FIBERS, "recv_patiently", lines);
    let took = echo(host.addr_of("h"), 3, 32 << 10);
    assert!(took >= at_least(96 << 10, 64 << 10), "{took:?}");
    host.stop();
}

#[test]
fn closing_ends_a_call_that_is_held_up() {
    let lines = "isolation = \"shared\"\n[tenant.limits]\nconnection-bandwidth-in = \"1KiB/s\"";
    let host = limited(FIBERS, "recv_patiently", lines);
    let mut stream = host.connect_to("h");
    stream.write_all(&[b'c'; 64 << 10]).expect("the system takes it");
    host.wait_line("receiving ended with Some(Closed)");
    peer::expect_gone(&mut stream);
    host.stop();
}

/// What is under way goes on at the limit's pace, within the drain.
#[test]
fn a_drain_waits_for_what_is_held_up() {
    let host = limited("", "echo-handler", "[tenant.limits]\nbandwidth-out = \"64KiB/s\"\ndrain = \"1m\"");
    let mut stream = host.connect_to("h");
    peer::round_trip(&mut stream, b"served");
    stream.write_all(&[7; 32 << 10]).expect("the system takes it");
    stream.shutdown(Shutdown::Write).expect("it is open");
    host.signal(Signal::TERM);
    assert_eq!(peer::read_all(&mut stream).len(), 32 << 10);
    host.wait_exit().assert_code(0);
}

/// The whole matrix: the rate within five in a hundred over some seconds, of small messages and large ones, by few
/// connections and many. Needs a machine that can keep up.
#[test]
fn the_rate_is_kept_within_five_percent() {
    if !long() {
        return;
    }
    for limit in ["bandwidth-in", "bandwidth-out"] {
        for workers in [1, 2] {
            for (connections, message, rate) in
                [(1, 64 << 10, 8 << 20), (100, 16 << 10, 8 << 20), (1, 64, 64 << 10), (100, 64, 256 << 10)]
            {
                let lines = format!("[tenant.limits]\n{limit} = \"{rate}/s\"");
                let host = limited(&format!("workers = {workers}"), "echo-handler", &lines);
                let (passed, least, most) = measure(host.addr_of("h"), connections, message);
                let part = passed / rate as f64;
                eprintln!(
                    "{limit}, {workers} workers, {connections} connections, {message} bytes: {part:.3} of the rate; \
                     a connection {least} to {most} bytes"
                );
                assert!((0.95..=1.05).contains(&part), "{part}");
                host.stop();
            }
        }
    }
}

/// A connection with small messages beside many with large ones gets its share.
#[test]
fn connections_have_equal_parts() {
    if !long() {
        return;
    }
    let host = limited("workers = 2", "echo-handler", "[tenant.limits]\nbandwidth-in = \"1MiB/s\"");
    let addr = host.addr_of("h");
    let stop = AtomicBool::new(false);
    let (small, large) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| echo_on(addr, 32 << 10, &stop, &large));
        }
        // As many under way at once as would fill its part.
        scope.spawn(|| echo_on(addr, 4 << 10, &stop, &small));
        thread::sleep(Duration::from_secs(10));
        stop.store(true, Ordering::Relaxed);
    });
    let (small, large) = (small.into_inner() as f64, large.into_inner() as f64 / 20.0);
    eprintln!("small messages: {small} bytes, each with large ones: {large}");
    assert!(small > 0.5 * large, "{small} {large}");
    host.stop();
}

/// Bytes a second that are echoed, and the least and the most of one connection.
fn measure(addr: SocketAddr, connections: usize, message: usize) -> (f64, u64, u64) {
    let stop = AtomicBool::new(false);
    let counts: Vec<_> = (0..connections).map(|_| AtomicU64::new(0)).collect();
    let mut passed = 0.0;
    thread::scope(|scope| {
        for count in &counts {
            scope.spawn(|| echo_on(addr, message, &stop, count));
        }
        let sum = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
        thread::sleep(Duration::from_secs(2));
        let (before, begun) = (sum(), Instant::now());
        thread::sleep(Duration::from_secs(6));
        passed = (sum() - before) as f64 / begun.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
    });
    let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
    (passed, counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0))
}

/// Echoes message after message until told.
fn echo_on(addr: SocketAddr, message: usize, stop: &AtomicBool, count: &AtomicU64) {
    let mut stream = peer::connect(addr);
    let (message, mut answer) = (vec![7; message], vec![0; message]);
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&message).expect("the peer takes it");
        let mut left = message.len();
        while left > 0 {
            match stream.read(&mut answer[..left]).expect("the peer answers") {
                0 => panic!("the end of the stream"),
                some => {
                    left -= some;
                    count.fetch_add(some as u64, Ordering::Relaxed);
                }
            }
        }
    }
}
