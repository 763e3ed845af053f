//! Limits of the host and of the machine: what is beyond them is refused, and what is within still works.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::crowd::Crowd;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, peer, turn};

/// Out of descriptors, the host waits for some instead of spinning, and goes on when there are.
#[test]
fn accept_backs_off_when_descriptors_run_out() {
    let _turn = turn();
    let host = Launch::handler("echo-handler").start();
    peer::round_trip(&mut host.connect(), b"first");
    host.process().limit_fds(host.process().fds() + 20);

    let mut streams: Vec<_> = (0..60).map(|_| host.connect()).collect();
    for stream in &mut streams {
        std::io::Write::write_all(stream, b"?").expect("the kernel takes it");
    }
    // The last one is still in the listener's queue, and the host has nothing else to do.
    let last = streams.last_mut().expect("there are sixty");
    assert!(peer::silent_for(last, Duration::from_millis(300)), "sixty fit beside the limit: {host:?}");
    let cpu = host.process().cpu();
    assert!(peer::silent_for(last, Duration::from_secs(2)), "sixty fit beside the limit: {host:?}");
    let spent = host.process().cpu() - cpu;
    assert!(spent < Duration::from_millis(400), "{spent:?} of CPU in 2 s: {host:?}");

    // One after another leaves and makes room for the next, until all have been answered.
    for (index, mut stream) in streams.into_iter().enumerate() {
        let mut answer = [0];
        std::io::Read::read_exact(&mut stream, &mut answer)
            .unwrap_or_else(|error| panic!("connection {index} was lost: {error}: {host:?}"));
        assert_eq!(answer, *b"?");
    }
    peer::echo_exact(host.connect(), 100_000);
    host.stop();
}

#[test]
fn connections_beyond_the_limit_wait_or_are_refused_and_the_rest_are_served() {
    let host = Launch::handler("echo-handler").option("--connections-max", "10").start();
    beyond_the_limit(&host, 10);
}

#[test]
fn coroutines_beyond_the_limit_are_refused_and_the_rest_are_served() {
    let host = Launch::guest("echo").option("--coroutines-max", "11").arg("127.0.0.1:0").start();
    beyond_the_limit(&host, 10);
}

/// Memory for some instances, and three times as many connections: who comes too late waits, most of them in the backlog.
#[test]
fn connections_wait_for_memory_and_none_is_reset() {
    let _turn = turn();
    let admin = Socket::new();
    let bytes = memory_of_one();
    let fit = 10;
    let lines =
        format!("[tenant.limits]\ntenant-memory = {}\nmemory-wait = \"10m\"", bytes * fit + bytes / 2);
    let config = Config::host(&admin.line()).handler("h", "echo-handler", &lines);
    let host = Launch::serve(&config).flag("-vv").start();
    let addr = host.addr_of("h");
    let fds = host.process().fds();
    let mut streams: Vec<_> = (0..3 * fit).map(|_| peer::connect(addr)).collect();
    for stream in &mut streams {
        stream.write_all(b"?").expect("the kernel takes it");
    }
    // Those that fit are answered; nobody leaves, so the others wait, and hold no descriptors but one for each worker.
    let answered = |stream: &mut TcpStream| !peer::silent_for(stream, Duration::from_millis(20));
    let start = Instant::now();
    while streams.iter_mut().filter_map(|stream| answered(stream).then_some(())).count() < fit {
        assert!(start.elapsed() < PATIENCE, "{fit} fit: {host:?}");
    }
    assert_eq!(
        streams.iter_mut().filter_map(|stream| answered(stream).then_some(())).count(),
        fit,
        "{host:?}"
    );
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let grown = host.process().fds().saturating_sub(fds);
    assert!(grown <= fit + workers + 8, "{grown} descriptors more for {fit} instances: {host:?}");

    // Whoever is answered leaves and makes room for another, until all have been served, to their end.
    let mut left = streams;
    let start = Instant::now();
    while !left.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{} are not served: {host:?}", left.len());
        let (ready, rest): (Vec<_>, Vec<_>) =
            left.into_iter().map(|mut one| (answered(&mut one), one)).partition(|(ready, _)| *ready);
        left = rest.into_iter().map(|(_, one)| one).collect();
        for (_, mut stream) in ready {
            stream.shutdown(Shutdown::Write).expect("it is connected");
            assert_eq!(peer::read_all(&mut stream), b"?", "{host:?}");
        }
    }
    admin.wait("/tenants", |told| memory_used(&told.body) == Some(0));
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    exit.assert_code(0).assert_stderr(" traps=0 ").assert_stderr(" memory_timeouts=0 ");
    assert!(!exit.stderr.contains(" memory_waited=0 "), "{exit:?}");
}

#[test]
fn a_connection_that_gets_no_memory_in_time_is_reset() {
    let lines =
        format!("[tenant.limits]\ntenant-memory = {}\nmemory-wait = \"200ms\"", memory_of_one() * 3 / 2);
    let host = Launch::serve(&Config::new().handler("h", "echo-handler", &lines)).flag("-vv").start();
    let mut first = host.connect_to("h");
    peer::round_trip(&mut first, b"it has all there is");
    peer::expect_reset(&mut host.connect_to("h"));
    peer::round_trip(&mut first, b"and keeps it");
    peer::echo_exact(first, 1000);
    // The next one finds it free, once the host has seen the end.
    let start = Instant::now();
    loop {
        let mut next = host.connect_to("h");
        let mut answer = [0];
        if next.write_all(b"?").is_ok() && next.read_exact(&mut answer).is_ok() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the memory does not come back: {host:?}");
    }
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    exit.assert_code(0).assert_stderr(" traps=0 ");
    assert!(!exit.stderr.contains(" memory_timeouts=0 "), "{exit:?}");
}

#[test]
fn spawn_without_memory_is_an_error() {
    let lines = "restart = \"never\"\n[tenant.limits]\ntenant-memory = \"24MiB\"";
    let config = Config::host("shared-instances = true").tenant("t", "spawn_bomb", lines);
    let host = Launch::serve(&config).flag("-vv").start();
    let line = host.wait_line("spawned=");
    assert!(line.contains("LimitExceeded"), "{line}");
    host.wait_line("the program returned, and");
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    exit.assert_stderr(" traps=0 ").assert_stderr(" coroutines_refused=0 ");
    assert!(!exit.stderr.contains(" memory_refused=0 "), "{exit:?}");
}

#[test]
fn spawn_beyond_the_limit_is_an_error() {
    let exit = Launch::guest("spawn_bomb").option("--coroutines-max", "100").finish();
    exit.assert_code(0);
    let text = exit.stdout_text();
    let count = text.split_whitespace().next().and_then(|pair| pair.strip_prefix("spawned=")?.parse().ok());
    let count: usize = count.unwrap_or_else(|| panic!("{exit:?}"));
    // Its first coroutine counts as well.
    assert!((90..=100).contains(&count), "{exit:?}");
    assert!(text.contains("LimitExceeded"), "{exit:?}");
}

#[test]
fn more_than_the_machine_allows_exits_6_with_the_numbers() {
    for isolation in ["connection", "shared"] {
        let launch = Launch::handler("echo_shared").option("--isolation", isolation);
        let exit = launch.option("--connections-max", "1000000").finish();
        let line = exit.assert_code(6).assert_stderr("--connections-max").one_line();
        // Of stock limits the mappings are the first to run out; a machine may have raised them.
        let limits = ["vm.max_map_count", "ulimit", "--memory-max"];
        assert!(limits.iter().any(|limit| line.contains(limit)), "which limit it is: {line}");
        let numbers =
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok());
        let needed = numbers.clone().max().expect("how much is needed");
        assert!(needed >= 1_000_000 && numbers.clone().any(|number| number < needed), "both numbers: {line}");
        assert_eq!(line.matches("or lower").count(), 1, "said once: {line}");
    }
}

#[test]
fn listeners_beyond_the_limit_are_refused_until_one_is_dropped() {
    let exit = Launch::guest("bind_bomb").finish();
    exit.assert_code(0);
    assert!(exit.stdout_text().contains("bound=64 code=Some(LimitExceeded)"), "{exit:?}");
}

/// Beyond its handles a guest gets an error from whatever would give it another, and goes on.
#[test]
fn handles_beyond_the_limit_are_an_error_and_no_trap() {
    let host = Launch::handler("handle_cap").option("--allow-connect", "127.0.0.1:*").start();
    let answers = peer::read_line(&mut host.connect());
    for call in ["open", "accept", "connect", "get", "bind"] {
        assert!(answers.contains(&format!("({call:?}, Some(LimitExceeded))")), "{answers}: {host:?}");
    }
    host.stop();
}

#[test]
fn more_copies_than_coroutines_exit_2_with_the_flags() {
    let launch = Launch::guest("echo").option("--instances", "per-worker").option("--workers", "2");
    let exit = launch.option("--coroutines-max", "1").arg("127.0.0.1:0").finish();
    let line = exit.assert_code(2).assert_stderr("--coroutines-max").one_line();
    assert!(line.contains("--instances per-worker") && line.contains("--workers"), "{line}");
    assert!(line.contains("2 copies") && line.contains("allows 1"), "{line}");
}

/// Of `most` + 5 connections `most` are served; when those leave, others are.
fn beyond_the_limit(host: &Host, most: usize) {
    let mut crowd = Crowd::connect(host.addr(), most);
    crowd.round(0);
    let mut beyond: Vec<_> = (0..5).map(|_| host.connect()).collect();
    for stream in &mut beyond {
        // It may be closed already.
        let _ = std::io::Write::write_all(stream, b"?");
        assert!(unanswered(stream), "more than {most} are served: {host:?}");
    }
    crowd.round(1);
    for stream in crowd.streams() {
        stream.shutdown(Shutdown::Write).expect("the connection is open");
        peer::read_all(stream);
    }
    drop((crowd, beyond));
    let start = Instant::now();
    while !served(host) {
        assert!(start.elapsed() < PATIENCE, "nobody is served any more: {host:?}");
    }
}

/// Whether a connection beyond the limit is closed, or kept waiting.
fn unanswered(stream: &mut std::net::TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("not zero");
    !matches!(std::io::Read::read(stream, &mut [0]), Ok(1))
}

/// What an instance of the echo begins with, as the admin tells it of one that waits.
fn memory_of_one() -> usize {
    let admin = Socket::new();
    let host = Launch::serve(&Config::host(&admin.line()).handler("h", "echo-handler", "")).start();
    let mut stream = host.connect_to("h");
    peer::round_trip(&mut stream, b"here");
    let told = admin.wait("/tenants", |told| memory_used(&told.body).is_some_and(|bytes| bytes > 0));
    let bytes = memory_used(&told.body).expect("it has just been there");
    drop(stream);
    host.stop();
    assert!(bytes > 64 << 10, "{bytes}");
    bytes
}

/// Of the first tenant; none if the host does not tell of any yet.
fn memory_used(told: &str) -> Option<usize> {
    let told: serde_json::Value = serde_json::from_str(told).expect("it is JSON");
    told["tenants"].get(0)?["memory_bytes"]["used"].as_u64().map(|bytes| bytes as usize)
}

fn served(host: &Host) -> bool {
    let mut stream = host.connect();
    let mut answer = [0];
    std::io::Write::write_all(&mut stream, b"?").is_ok()
        && std::io::Read::read_exact(&mut stream, &mut answer).is_ok()
        && answer == *b"?"
}
