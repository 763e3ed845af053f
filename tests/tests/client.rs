//! Guests as clients: connections out, and pools of them.

use std::collections::HashMap;
use std::io::{Read, Write};

use conet_tests::host::{Exit, Launch};
use conet_tests::peer;
use conet_tests::upstream::{Silent, Upstream};

#[test]
fn client_connects_once_for_each_connection_it_is_told_to_make() {
    let upstream = Upstream::echo();
    let exit = client(&upstream).arg("--connections").arg("20").arg("--requests").arg("100").finish();
    let summary = summary(exit.assert_code(0));
    assert_eq!(summary["errors"], 0.0, "{exit:?}");
    assert_eq!(summary["opened"], 20.0, "{exit:?}");
    assert!(summary["requests"] >= 100.0, "{exit:?}");
    assert_eq!(upstream.accepted(), 20, "{exit:?}");
}

#[test]
fn coroutines_share_the_connections_of_a_pool() {
    let upstream = Upstream::echo();
    let exit = pooled(client(&upstream)).finish();
    let summary = summary(exit.assert_code(0));
    assert_eq!(summary["errors"], 0.0, "{exit:?}");
    assert_eq!(summary["opened"], 8.0, "{exit:?}");
    assert!(summary["reused"] >= summary["requests"] - 8.0, "{exit:?}");
    assert_eq!(upstream.accepted(), 8, "the pool's max-open, however many requests: {exit:?}");
}

/// The same against the echo guest: two hosts, two sandboxes, real sockets between them.
#[test]
fn pool_of_one_host_against_echo_of_another() {
    let echo = Launch::guest("echo").arg("127.0.0.1:0").start();
    let addr = echo.addr().to_string();
    let exit = pooled(Launch::guest("client").option("--allow-connect", &addr).arg(&addr)).finish();
    let summary = summary(exit.assert_code(0));
    assert_eq!((summary["errors"], summary["opened"]), (0.0, 8.0), "{exit:?}");
    echo.stop();
}

#[test]
fn client_reports_a_server_that_answers_wrongly() {
    // As long as a request, so that it is the bytes that are wrong.
    let upstream = Upstream::always(&[b'?'; 64]);
    let exit = client(&upstream).arg("--connections").arg("1").arg("--requests").arg("1").finish();
    exit.assert_code(1).assert_stderr("is wrong");
}

#[test]
fn client_reports_a_refused_connection() {
    let addr = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        gone.local_addr().expect("it is bound").to_string()
    };
    let exit = Launch::guest("client").option("--allow-connect", &addr).arg(&addr).finish();
    exit.assert_code(1);
}

/// Instances are strangers to each other, but the pool is the tenant's.
#[test]
fn instances_share_a_pool() {
    let upstream = Upstream::echo();
    let addr = upstream.addr().to_string();
    let launch = Launch::handler("pool_handler").option("--allow-connect", &addr);
    let host = launch.option("--env", format!("TARGET={addr}")).start();
    for round in 0..10_u8 {
        peer::round_trip(&mut host.connect(), &[round; 64]);
    }
    assert_eq!(upstream.accepted(), 1, "ten instances, one after another: {host:?}");

    let mut streams: Vec<_> = (0..50).map(|_| host.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&[b'?'; 64]).expect("the handler receives");
    }
    for stream in &mut streams {
        let mut answer = [0; 64];
        stream.read_exact(&mut answer).expect("each waits its turn in line");
        assert_eq!(answer, [b'?'; 64]);
    }
    assert_eq!(upstream.accepted(), 2, "fifty at once, max-open 2: {host:?}");
    host.stop();
}

#[test]
fn waiting_for_a_pooled_connection_times_out() {
    let upstream = Upstream::echo();
    let addr = upstream.addr().to_string();
    let exit = Launch::guest("pool_timeout").option("--allow-connect", &addr).arg(&addr).finish();
    exit.assert_code(0);
    let stdout = exit.stdout_text();
    assert!(stdout.contains("TimedOut"), "{exit:?}");
    assert!(stdout.contains("opened=1 reused=1 waited=1 open=1"), "{exit:?}");
}

/// What one borrower left unread must never be read by the next.
#[test]
fn connection_with_unread_bytes_is_not_handed_on() {
    let upstream = Upstream::always(b"12");
    let exit = pool_health(&upstream).finish();
    exit.assert_code(0);
    assert!(exit.stdout_text().contains("opened=4 reused=0"), "{exit:?}");
    assert_eq!(upstream.accepted(), 4);
}

#[test]
fn connection_that_the_peer_has_closed_is_not_handed_on() {
    let upstream = Upstream::once(b"1");
    let exit = pool_health(&upstream).arg("drain").finish();
    exit.assert_code(0);
    assert!(exit.stdout_text().contains("opened=4 reused=0 discarded=4"), "{exit:?}");
    assert_eq!(upstream.accepted(), 4);
}

#[test]
fn closing_a_pooled_connection_discards_it() {
    let upstream = Upstream::always(b"1");
    let exit = pool_health(&upstream).arg("discard").finish();
    exit.assert_code(0);
    assert!(exit.stdout_text().contains("opened=4 reused=0 discarded=4"), "{exit:?}");
}

#[test]
fn healthy_connection_is_reused() {
    let upstream = Upstream::always(b"1");
    let exit = pool_health(&upstream).finish();
    exit.assert_code(0);
    assert!(exit.stdout_text().contains("opened=1 reused=3 discarded=0"), "{exit:?}");
    assert_eq!(upstream.accepted(), 1);
}

/// What is half closed is no connection for the next borrower.
#[test]
fn connection_that_was_shut_down_is_not_handed_on() {
    let upstream = Upstream::echo();
    let exit = pool_spoilt(&upstream, "shutdown");
    assert!(exit.stdout_text().contains("opened=2 reused=0 discarded=1"), "{exit:?}");
    assert_eq!(upstream.accepted(), 2);
}

/// Its answer may come later, and the next borrower would take it for its own.
#[test]
fn connection_on_which_a_recv_timed_out_is_not_handed_on() {
    let upstream = Upstream::echo();
    let exit = pool_spoilt(&upstream, "recv");
    assert!(exit.stdout_text().contains("opened=2 reused=0 discarded=1"), "{exit:?}");
    assert_eq!(upstream.accepted(), 2);
}

/// Some of what it was to send has gone out, and who knows how much.
#[test]
fn connection_on_which_a_send_timed_out_is_not_handed_on() {
    let upstream = Upstream::deaf();
    let exit = pool_spoilt(&upstream, "send");
    let text = exit.stdout_text();
    assert!(text.contains("send: Some(TimedOut)") && text.contains("idle=0 discarded=1"), "{exit:?}");
}

/// The guest has closed nothing, whatever the system calls it.
#[test]
fn send_to_a_peer_that_has_reset_is_a_reset() {
    let host = Launch::handler("send_on").option("--allow-connect", "127.0.0.1:*").start();
    let mut stream = host.connect();
    stream.read_exact(&mut [0; 64]).expect("it sends");
    peer::reset(stream);
    host.wait_stdout_line("failed: Some(ConnectionReset)");
    host.wait_stdout_line("again: Some(ConnectionReset)");
    host.wait_stdout_line("shut down: Some(Closed)");
    host.stop();
}

/// The guest has not let go of it: nobody knows what was asked on it.
#[test]
fn pooled_connection_that_spawn_refuses_is_not_handed_on() {
    let upstream = Upstream::echo();
    let exit = pool_spoilt(&upstream, "spawn");
    let text = exit.stdout_text();
    assert!(text.contains("spawn: Some(Unsupported)"), "{exit:?}");
    assert!(text.contains("opened=2 reused=0 discarded=1"), "{exit:?}");
}

#[test]
fn pool_options_that_cannot_work_are_refused_at_open() {
    let exit = Launch::guest("pool_options").option("--allow-connect", "127.0.0.1:9").finish();
    let text = exit.assert_code(0).stdout_text();
    assert!(text.contains("max_open: Some(InvalidArgument)"), "{exit:?}");
    assert!(text.contains("connect_timeout: Some(InvalidArgument)"), "{exit:?}");
}

/// The host's own limit on connecting holds whatever the guest asks for.
#[test]
fn connect_ends_at_the_hosts_limit() {
    let silent = Silent::new();
    let addr = silent.addr().to_string();
    let exit = Launch::guest("connect_for_ever").option("--allow-connect", &addr).arg(&addr).finish();
    exit.assert_code(0);
    assert!(exit.stdout_text().contains("failed: Some(TimedOut)"), "{exit:?}");
}

fn pool_spoilt(upstream: &Upstream, how: &str) -> Exit {
    let addr = upstream.addr().to_string();
    let exit = Launch::guest("pool_spoilt").option("--allow-connect", &addr).arg(&addr).arg(how).finish();
    exit.assert_code(0);
    exit
}

fn client(upstream: &Upstream) -> Launch {
    let addr = upstream.addr().to_string();
    Launch::guest("client").option("--allow-connect", &addr).arg(&addr)
}

fn pooled(client: Launch) -> Launch {
    client.arg("--pool").arg("8").arg("--coroutines").arg("100").arg("--requests").arg("5000")
}

fn pool_health(upstream: &Upstream) -> Launch {
    let addr = upstream.addr().to_string();
    Launch::guest("pool_health").option("--allow-connect", &addr).arg(&addr)
}

/// The numbers of the client's line `requests=… opened=… reused=… errors=… seconds=…`.
fn summary(exit: &Exit) -> HashMap<String, f64> {
    let stdout = exit.stdout_text();
    let line = stdout.lines().find(|line| line.starts_with("requests="));
    let line = line.unwrap_or_else(|| panic!("no summary in {exit:?}"));
    let pairs = line.split_whitespace().filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.parse().expect("a number"))).collect()
}
