//! The access log: a line for each connection, when it ends.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::exposition::Samples;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, artifacts, peer};
use serde_json::Value;

/// A path that nothing is at.
fn fresh() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    artifacts::scratch().join(format!("access-{}.log", NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn host(log: &Path) -> Config {
    Config::host(&format!("shared-instances = true\nlog-format = \"json\"\naccess-log = {log:?}"))
}

/// The lines there are, as JSON.
fn lines(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).expect("the host has made it");
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Waits until there are so many lines.
fn wait_lines(log: &Path, count: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        if text.matches('\n').count() >= count {
            return lines(log);
        }
        assert!(start.elapsed() < PATIENCE, "waited for {count} lines: {text}");
        std::thread::yield_now();
    }
}

fn own(stream: &TcpStream) -> String {
    stream.local_addr().expect("it is connected").to_string()
}

#[test]
fn a_connection_s_line_tells_of_it() {
    for (guest, lines_of_tenant) in [
        ("echo-handler", "listen = [\"127.0.0.1:0\"]"),
        ("echo_shared", "listen = [\"127.0.0.1:0\"]\nisolation = \"shared\""),
        ("echo", "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]"),
    ] {
        let log = fresh();
        let host = Launch::serve(&host(&log).tenant("t", guest, lines_of_tenant)).start();
        let mut expected = Vec::new();
        for length in [0, 1, 1_000, 1_000_000] {
            let stream = host.connect_to("t");
            let peer = own(&stream);
            peer::echo_exact(stream, length);
            expected.push((peer, length as u64));
            wait_lines(&log, expected.len());
        }
        let listener = host.addr_of("t").to_string();
        host.stop();
        let lines = lines(&log);
        assert_eq!(lines.len(), expected.len(), "{guest}: {lines:?}");
        for (line, (peer, length)) in lines.iter().zip(expected) {
            assert_eq!((&line["tenant"], &line["direction"]), (&"t".into(), &"in".into()), "{guest}: {line}");
            assert_eq!(
                (&line["peer"], &line["listener"]),
                (&peer.into(), &listener.clone().into()),
                "{line}"
            );
            assert_eq!(
                (&line["received"], &line["sent"]),
                (&length.into(), &length.into()),
                "{guest}: {line}"
            );
            assert_eq!(line["end"], "eof", "{guest}: {line}");
            assert!(line["coroutine"].as_u64().is_some_and(|id| id > 0), "{line}");
            assert!(line["seconds"].as_f64().is_some_and(|seconds| (0.0..60.0).contains(&seconds)), "{line}");
            assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
            assert!(line.get("proxy").is_none(), "{line}");
        }
    }
}

/// One connection of a guest with these limits, and what its line says of its end.
fn ending(guest: &str, limits: &str, end: impl FnOnce(TcpStream, &Host)) -> String {
    let log = fresh();
    let config = host(&log).handler("t", guest, &format!("[tenant.limits]\n{limits}"));
    let host = Launch::serve(&config).start();
    let stream = host.connect_to("t");
    let peer = own(&stream);
    end(stream, &host);
    let lines = wait_lines(&log, 1);
    assert_eq!((lines.len(), &lines[0]["peer"]), (1, &peer.into()), "{lines:?}");
    lines[0]["end"].as_str().expect("a word").to_owned()
}

#[test]
fn a_line_tells_how_it_ended() {
    let told = |stream: &mut TcpStream| stream.write_all(b"!").expect("the host takes it");
    let finished = ending("who", "cpu = \"1s\"", |mut stream, _| {
        told(&mut stream);
        peer::read_all(&mut stream);
    });
    assert_eq!(finished, "finished");
    let eof = ending("echo-handler", "cpu = \"1s\"", |stream, _| peer::echo_exact(stream, 10));
    assert_eq!(eof, "eof");
    let reset = ending("echo-handler", "cpu = \"1s\"", |mut stream, _| {
        peer::round_trip(&mut stream, b"hello");
        peer::reset(stream);
    });
    assert_eq!(reset, "peer-reset");
    let trap = ending("panic", "cpu = \"1s\"", |mut stream, _| {
        told(&mut stream);
        peer::expect_reset(&mut stream);
    });
    assert_eq!(trap, "trap");
    let limit = ending("spin", "cpu = \"50ms\"", |mut stream, _| {
        told(&mut stream);
        peer::expect_reset(&mut stream);
    });
    assert_eq!(limit, "limit:cpu");
    let slow = |limits, message: &'static [u8]| {
        ending("echo-handler", limits, |mut stream, _| {
            peer::round_trip(&mut stream, message);
            peer::expect_reset(&mut stream);
        })
    };
    assert_eq!(slow("first-byte = \"100ms\"", b""), "timeout:first-byte");
    assert_eq!(slow("idle = \"100ms\"", b"hello"), "timeout:idle");
    let drained = ending("echo-handler", "drain = \"100ms\"", |mut stream, host| {
        peer::round_trip(&mut stream, b"hello");
        host.signal(Signal::TERM);
        peer::expect_reset(&mut stream);
    });
    assert_eq!(drained, "drain");
}

#[test]
fn a_client_behind_a_proxy_is_told_with_the_proxy() {
    let log = fresh();
    let config = host(&log).handler("t", "echo-handler", "proxy-protocol-from = [\"127.0.0.1\"]");
    let host = Launch::serve(&config).start();
    let mut stream = host.connect_to("t");
    let proxy = own(&stream);
    stream.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n").expect("the host takes it");
    peer::round_trip(&mut stream, b"hello");
    stream.shutdown(Shutdown::Write).expect("it is open");
    peer::read_all(&mut stream);
    let line = &wait_lines(&log, 1)[0];
    assert_eq!((&line["peer"], &line["proxy"]), (&"203.0.113.7:4711".into(), &proxy.into()));
    // Of the header nothing is the guest's.
    assert_eq!((&line["received"], &line["sent"]), (&5.into(), &5.into()));
    host.stop();
}

#[test]
fn what_guests_connect_to_is_told_as_outbound() {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = upstream.local_addr().expect("it is bound").to_string();
    let log = fresh();
    let grants = format!("args = [{target:?}]\nallow-connect = [\"127.0.0.1:*\"]\nrestart = \"never\"");
    let host = Launch::serve(&host(&log).tenant("t", "connect_for_ever", &grants)).start();
    let line = &wait_lines(&log, 1)[0];
    assert_eq!((&line["direction"], &line["peer"]), (&"out".into(), &target.into()), "{line}");
    assert!(line.get("listener").is_none(), "{line}");
    host.stop();
}

/// As text, among the host's messages.
#[test]
fn it_may_go_to_stderr() {
    let config = Config::host("access-log = \"stderr\"").handler("t", "echo-handler", "");
    let host = Launch::serve(&config).start();
    let stream = host.connect_to("t");
    let (peer, listener) = (own(&stream), host.addr_of("t"));
    peer::echo_exact(stream, 100);
    let line = host.wait_line(" access tenant=t ");
    let told = format!("direction=in listener={listener} peer={peer} coroutine=");
    assert!(line.contains(&told) && line.contains(" received=100 sent=100 seconds=0."), "{line}");
    assert!(line.ends_with(" end=eof"), "{line}");
    host.stop();
}

/// As logrotate has it: the file is moved away, the host is told, and goes on in a new one.
#[test]
fn it_is_opened_anew_on_sighup() {
    let (log, moved) = (fresh(), fresh());
    let host = Launch::serve(&host(&log).handler("t", "echo-handler", "")).start();
    peer::echo_exact(host.connect_to("t"), 1);
    wait_lines(&log, 1);
    std::fs::rename(&log, &moved).expect("it is ours");
    peer::echo_exact(host.connect_to("t"), 2);
    wait_lines(&moved, 2);
    host.signal(Signal::HUP);
    host.wait_line("reloaded");
    peer::echo_exact(host.connect_to("t"), 3);
    host.stop();
    let lengths = |log| lines(log).iter().map(|line| line["sent"].as_u64()).collect::<Vec<_>>();
    assert_eq!(lengths(&moved), [Some(1), Some(2)]);
    assert_eq!(lengths(&log), [Some(3)]);
}

/// Nobody reads the pipe: connections are served all the same, and what is not told is counted.
#[test]
fn a_log_that_is_stuck_holds_up_nobody() {
    let log = fresh();
    assert!(std::process::Command::new("mkfifo").arg(&log).status().expect("coreutils").success());
    // Open on both sides, so that neither waits for the other.
    let _reader = std::fs::OpenOptions::new().read(true).write(true).open(&log).expect("it is there");
    let socket = Socket::new();
    let config = Config::host(&format!("{}\naccess-log = {log:?}", socket.line()));
    let config = config.handler("t", "echo-handler", "[tenant.limits]\naccept-rate = \"off\"");
    let host = Launch::serve(&config).start();
    let addr = host.addr_of("t");
    socket.wait("/readyz", |response| response.status == 200);
    let lost = || {
        let told = Samples::read(&socket.get("/metrics").body);
        told.of("conet_access_lines_lost_total{tenant=\"t\"}")
    };
    let start = Instant::now();
    // As many as the pipe and the queue hold, and more.
    while lost() == 0.0 {
        assert!(start.elapsed() < PATIENCE, "it never fills");
        for _ in 0..500 {
            peer::round_trip(&mut peer::connect(addr), b"served");
        }
    }
    peer::round_trip(&mut peer::connect(addr), b"and after that");
    host.stop();
}

/// Read by somebody who begins late.
#[test]
fn each_connection_has_a_line_or_is_counted() {
    let log = fresh();
    assert!(std::process::Command::new("mkfifo").arg(&log).status().expect("coreutils").success());
    let late = std::fs::OpenOptions::new().read(true).write(true).open(&log).expect("it is there");
    let socket = Socket::new();
    let config = Config::host(&format!("{}\naccess-log = {log:?}", socket.line()));
    let config = config.handler("t", "echo-handler", "[tenant.limits]\naccept-rate = \"off\"");
    let host = Launch::serve(&config).flag("-vv").start();
    let addr = host.addr_of("t");
    socket.wait("/readyz", |response| response.status == 200);
    let lost =
        || Samples::read(&socket.get("/metrics").body).of("conet_access_lines_lost_total{tenant=\"t\"}");
    let mut made = 0;
    let mut make = |count| {
        for _ in 0..count {
            peer::round_trip(&mut peer::connect(addr), b"served");
        }
        made += count;
    };
    let start = Instant::now();
    while lost() == 0.0 {
        assert!(start.elapsed() < PATIENCE, "it never fills");
        make(500);
    }
    let mut reader = std::fs::File::open(&log).expect("the host writes");
    drop(late);
    let reads = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).expect("it is text");
        text
    });
    make(500);
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    let text = reads.join().expect("it has read to the end");
    let lost = exit.stderr.split(" access_lines_lost=").nth(1).expect("it is counted");
    let lost: usize = lost.split_whitespace().next().and_then(|count| count.parse().ok()).expect("a number");
    let ends = text.lines().filter(|line| line.contains(" end=")).count();
    assert!(lost > 0 && ends >= 500, "{ends} lines, {lost} lost");
    assert_eq!(ends + lost, made);
}

#[test]
fn a_file_that_cannot_be_opened_is_told_at_the_start() {
    let config = host(Path::new("/proc/nowhere/access.log")).handler("t", "echo-handler", "");
    let exit = Launch::serve(&config).finish();
    exit.assert_code(2).assert_stderr("cannot open the access log /proc/nowhere/access.log");
}

/// To open a pipe waits for its reader, which may never come.
#[test]
fn a_pipe_that_nobody_reads_is_refused_and_holds_nobody_up() {
    let pipe = fresh();
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("coreutils");
    assert!(made.success());
    let config = || host(&pipe).handler("h", "echo-handler", "");
    let exit = Launch::serve(&config()).finish();
    exit.assert_code(2).assert_stderr("a pipe that nobody reads").assert_stderr(&pipe.display().to_string());

    // One that writes, too, need not wait for who else does.
    let open = || std::fs::OpenOptions::new().read(true).write(true).open(&pipe).expect("it is there");
    let reader = open();
    let host = Launch::serve(&config()).start();
    peer::echo_exact(host.connect_to("h"), 10);
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).expect("the host writes");
    assert!(line.contains("\"end\":\"eof\""), "{line}");
    // At a reload, which opens it anew, there may be no reader any more: then it goes on as it was.
    host.signal(Signal::HUP);
    host.wait_line("a pipe that nobody reads");
    host.wait_line("reloaded ");
    peer::echo_exact(host.connect_to("h"), 10);
    host.stop();
}
