//! Limits of the host and of the machine: what is beyond them is refused, and what is within still works.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use conet_tests::crowd::Crowd;
use conet_tests::host::{Host, Launch};
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

fn served(host: &Host) -> bool {
    let mut stream = host.connect();
    let mut answer = [0];
    std::io::Write::write_all(&mut stream, b"?").is_ok()
        && std::io::Read::read_exact(&mut stream, &mut answer).is_ok()
        && answer == *b"?"
}
