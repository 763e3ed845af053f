//! Peers of a tenant: how many, how fast they come, and how long they may keep a handler waiting.

use std::io::{Read, Write};
use std::net::TcpStream;

use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::{Signal, TcpTimer};
use conet_tests::{PATIENCE, peer};

/// A host with one handler, with these limits.
fn limited(guest: &str, limits: &str) -> Host {
    let config = Config::new().handler("h", guest, &format!("[tenant.limits]\n{limits}"));
    Launch::serve(&config).flag("-vv").start()
}

/// Ends it, and checks that the counter has this value.
fn stop_counted(host: Host, counter: &str) {
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    exit.assert_stderr(&format!(" {counter} "));
}

#[test]
fn a_peer_that_sends_nothing_is_reset() {
    let host = limited("echo-handler", "first-byte = \"100ms\"\nidle = \"1m\"");
    let mut silent = host.connect_to("h");
    let mut quick = host.connect_to("h");
    peer::round_trip(&mut quick, b"in time");
    peer::expect_reset(&mut silent);
    peer::round_trip(&mut quick, b"and for long");
    drop(quick);
    stop_counted(host, "first_byte_timeouts=1");
}

#[test]
fn a_peer_that_goes_silent_is_reset() {
    let host = limited("echo-handler", "first-byte = \"1m\"\nidle = \"200ms\"");
    let mut stream = host.connect_to("h");
    peer::round_trip(&mut stream, b"one message");
    peer::expect_reset(&mut stream);
    stop_counted(host, "idle_timeouts=1");
}

/// Each message begins it anew, however long all of them take.
#[test]
fn a_peer_that_sends_now_and_then_is_not_idle() {
    let host = limited("echo-handler", "idle = \"400ms\"");
    let mut stream = host.connect_to("h");
    for _ in 0..10 {
        peer::round_trip(&mut stream, b"a message");
        assert!(peer::silent_for(&mut stream, std::time::Duration::from_millis(100)));
        stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    }
    drop(stream);
    stop_counted(host, "idle_timeouts=0");
}

#[test]
fn a_shared_handler_s_peers_have_the_same_deadlines() {
    let config = Config::host("shared-instances = true").handler(
        "h",
        "echo_shared",
        "isolation = \"shared\"\n[tenant.limits]\nfirst-byte = \"100ms\"\nidle = \"200ms\"",
    );
    let host = Launch::serve(&config).flag("-vv").start();
    peer::expect_reset(&mut host.connect_to("h"));
    let mut stream = host.connect_to("h");
    peer::round_trip(&mut stream, b"one message");
    peer::expect_reset(&mut stream);
    stop_counted(host, "idle_timeouts=1");
}

/// It sends for ever and takes nothing: the guest waits for room to answer.
#[test]
fn a_peer_that_takes_nothing_is_reset() {
    let host = limited("echo-handler", "write = \"200ms\"\nidle = \"1m\"");
    let mut stream = host.connect_to("h");
    let chunk = vec![7; 64 << 10];
    while stream.write_all(&chunk).is_ok() {}
    stop_counted(host, "write_timeouts=1");
}

/// From ten seconds on it must have sent so much on average; one that has sent enough before may rest.
#[test]
fn a_peer_that_sends_too_slowly_is_reset() {
    let host = limited("echo-handler", "receive-rate-min = 1000\nidle = \"5m\"");
    let (mut slow, mut quick) = (host.connect_to("h"), host.connect_to("h"));
    let begun = std::time::Instant::now();
    peer::round_trip(&mut slow, b"a few bytes");
    peer::round_trip(&mut quick, &[7; 200_000]);
    peer::expect_reset(&mut slow);
    assert!(begun.elapsed() >= std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    peer::round_trip(&mut quick, b"it has sent enough for minutes");
    drop(quick);
    stop_counted(host, "rate_timeouts=1");
}

/// Whether the system looks for a peer that shows no sign shows in its timer; that it then gives it up is the system's word.
#[test]
fn the_system_looks_for_a_silent_peer_after_keepalive() {
    for (limits, after) in
        [("", Some(60)), ("keepalive = \"200s\"", Some(200)), ("keepalive = \"off\"", None)]
    {
        let host = limited("echo-handler", limits);
        let mut stream = host.connect_to("h");
        peer::round_trip(&mut stream, b"there");
        let (own, peer) = (stream.peer_addr().expect("connected"), stream.local_addr().expect("connected"));
        // Until what it has sent is acknowledged, the timer is for that.
        let timer = loop {
            match host.process().tcp_timer(own, peer) {
                Some((TcpTimer::Other, _)) => continue,
                Some((TcpTimer::Keepalive, left)) => break Some(left.as_secs()),
                None => break None,
            }
        };
        match after {
            // A minute for a machine that is busy with something else.
            Some(after) => {
                let left = timer.unwrap_or_else(|| panic!("no timer with {limits:?}"));
                assert!((after.max(61) - 60..=after).contains(&left), "{left} s of {after}");
            }
            None => assert_eq!(timer, None, "switched off"),
        }
        drop(stream);
        host.stop();
    }
}

/// Over the limit from one address, another one is served.
#[test]
fn each_address_has_so_many_connections() {
    let host = limited("echo-handler", "connections-per-ip = 2");
    let addr = host.addr_of("h");
    let mut two = [host.connect_to("h"), host.connect_to("h")];
    for stream in &mut two {
        peer::round_trip(stream, b"one of two");
    }
    peer::expect_reset_of_new(addr);
    let mut other = peer::connect_from("127.0.0.2:0", addr);
    peer::round_trip(&mut other, b"from elsewhere");
    let [first, second] = two;
    drop(first);
    // Its place is free once the host has seen the end.
    let mut again = loop {
        // A reset may come before the connection is there to be used.
        let Ok(mut stream) = TcpStream::connect(addr) else { continue };
        let mut answer = [0];
        if stream.write_all(b"x").is_ok() && stream.read_exact(&mut answer).is_ok() {
            break stream;
        }
    };
    peer::round_trip(&mut again, b"in the free place");
    drop((second, again, other));
    host.stop();
}

/// All are served, but no faster than that: the burst of one, then the others in their turn.
#[test]
fn accepting_has_a_rate() {
    let host = limited("echo-handler", "accept-rate = 10");
    let begun = std::time::Instant::now();
    let mut streams: Vec<TcpStream> = (0..8).map(|_| host.connect_to("h")).collect();
    for stream in &mut streams {
        peer::round_trip(stream, b"served");
    }
    // Not a time that the machine's speed decides: ten a second, one at once.
    assert!(begun.elapsed() >= std::time::Duration::from_millis(500), "{:?}", begun.elapsed());
    drop(streams);
    host.stop();
}

/// With the policy `refuse` nobody waits: who is too many is reset, and told of now and then.
#[test]
fn connections_beyond_the_limit_are_refused_if_that_is_the_policy() {
    let host = limited("echo-handler", "connections = 2\nover-limit = \"refuse\"");
    let addr = host.addr_of("h");
    let mut two = [host.connect_to("h"), host.connect_to("h")];
    for stream in &mut two {
        peer::round_trip(stream, b"one of two");
    }
    for _ in 0..50 {
        peer::expect_reset_of_new(addr);
    }
    host.wait_line("connections refused: 1, the last one over `connections`");
    for stream in &mut two {
        peer::round_trip(stream, b"still one of two");
    }
    assert!(host.stderr().matches("connections refused").count() < 10, "{}", host.stderr());
    drop(two);
    stop_counted(host, "connections_refused=50");
}

/// By default it is let in as soon as there is room.
#[test]
fn connections_beyond_the_limit_wait_otherwise() {
    let host = limited("echo-handler", "connections = 1");
    let mut first = host.connect_to("h");
    peer::round_trip(&mut first, b"the only one");
    let mut second = host.connect_to("h");
    second.write_all(b"waits").expect("the system takes it");
    assert!(peer::silent_for(&mut second, std::time::Duration::from_millis(100)));
    drop(first);
    let mut answer = [0; 5];
    second.read_exact(&mut answer).expect("it has its turn");
    assert_eq!(&answer, b"waits");
    drop(second);
    stop_counted(host, "connections_refused=0");
}

/// One at once, the others too soon.
#[test]
fn accepts_beyond_the_rate_are_refused_if_that_is_the_policy() {
    let host = limited("echo-handler", "accept-rate = 1\nover-limit = \"refuse\"");
    let mut first = host.connect_to("h");
    peer::round_trip(&mut first, b"in time");
    let begun = std::time::Instant::now();
    let (mut served, mut refused) = (0, 0);
    while refused < 5 {
        let is_served = TcpStream::connect(host.addr_of("h"))
            .is_ok_and(|mut stream| stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok());
        *(if is_served { &mut served } else { &mut refused }) += 1;
    }
    assert!(served <= 1 + begun.elapsed().as_secs(), "{served} in {:?}", begun.elapsed());
    drop(first);
    stop_counted(host, "accepts_refused=5");
}

/// A handler's coroutines are limited in the same way.
#[test]
fn a_handler_s_coroutines_beyond_the_limit_are_refused_if_that_is_the_policy() {
    let host = limited("echo-handler", "coroutines = 1\nover-limit = \"refuse\"");
    let mut first = host.connect_to("h");
    peer::round_trip(&mut first, b"the only one");
    peer::expect_reset_of_new(host.addr_of("h"));
    peer::round_trip(&mut first, b"still there");
    drop(first);
    stop_counted(host, "coroutines_refused=1");
}

/// Rests on both sides, and no byte is lost, with all of it on.
#[test]
fn deadlines_cost_no_byte() {
    let host = limited("echo-handler", "first-byte = \"5s\"\nidle = \"5s\"\nwrite = \"5s\"");
    let addr = host.addr_of("h");
    let all: Vec<_> =
        (0..8).map(|_| std::thread::spawn(move || peer::echo_exact(peer::connect(addr), 4 << 20))).collect();
    all.into_iter().for_each(|one| one.join().expect("it has said what failed"));
    host.stop();
}
