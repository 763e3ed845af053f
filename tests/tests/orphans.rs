//! Handlers that go on after their peers are gone.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, artifacts, peer};

/// A host with a handler that goes on, which has a long time for it at the end.
struct Handler {
    host: Host,
    log: PathBuf,
}

impl Handler {
    fn start(limits: &str) -> Self {
        Self::draining("10m", limits)
    }

    fn draining(drain: &str, limits: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let log = artifacts::scratch().join(format!("orphans-{}-{number}.log", std::process::id()));
        let config = Config::host(&format!("access-log = {log:?}"));
        let limits = format!("[tenant.limits]\ndrain = \"{drain}\"\nlookups = \"off\"\n{limits}");
        let host = Launch::serve(&config.handler("h", "goes_on", &limits)).flag("-vv").start();
        Self { host, log }
    }

    /// A connection whose handler goes on in that way.
    fn going_on(&self, way: &str) -> TcpStream {
        let mut stream = self.host.connect_to("h");
        peer::round_trip(&mut stream, way.as_bytes());
        stream
    }

    /// Waits until its connections have ended, each in one of these ways.
    fn wait_ends(&self, ends: &[&str]) {
        let start = Instant::now();
        loop {
            let text = fs::read_to_string(&self.log).expect("the host has made it");
            let mut told: Vec<_> = text.lines().filter_map(|line| line.split(" end=").nth(1)).collect();
            if told.len() >= ends.len() {
                told.sort_unstable();
                return assert_eq!(told, ends);
            }
            assert!(start.elapsed() < PATIENCE, "{told:?}: {:?}", self.host);
            std::thread::yield_now();
        }
    }

    /// Ends it, with nothing left to wait for; so many have been ended as orphans.
    fn stop_counted(self, orphans: usize) {
        self.host.signal(Signal::TERM);
        let exit = self.host.wait_exit();
        exit.assert_code(0).assert_stderr(&format!(" orphans_ended={orphans} ")).assert_stderr(" traps=0 ");
    }
}

#[test]
fn a_handler_that_goes_on_after_its_peer_has_reset_it_is_ended() {
    for way in ["sleep", "std", "look up", "spawn"] {
        let handler = Handler::start("orphan = \"100ms\"");
        let other = handler.going_on("sleep");
        peer::reset(handler.going_on(way));
        handler.wait_ends(&["limit:orphan"]);
        handler.host.wait_line("went on for too long after its peer was gone");
        peer::reset(other);
        handler.wait_ends(&["limit:orphan"; 2]);
        handler.stop_counted(2);
    }
}

#[test]
fn a_handler_that_goes_on_after_the_host_has_reset_its_peer_is_ended() {
    let handler = Handler::start("orphan = \"100ms\"\nidle = \"100ms\"");
    let mut stream = handler.going_on("wait");
    peer::expect_reset(&mut stream);
    handler.wait_ends(&["timeout:idle"]);
    handler.stop_counted(1);
}

/// Ten times as long as it could go on otherwise.
#[test]
fn a_peer_that_ends_its_side_is_not_gone() {
    let handler = Handler::start("orphan = \"100ms\"");
    let mut stream = handler.host.connect_to("h");
    stream.write_all(b"answer").expect("the host takes it");
    stream.shutdown(Shutdown::Write).expect("it is open");
    assert_eq!(peer::read_all(&mut stream), b"answer later");
    handler.wait_ends(&["finished"]);
    handler.stop_counted(0);
}

#[test]
fn a_handler_that_has_ended_its_side_or_let_go_may_work_on() {
    let handler = Handler::start("orphan = \"100ms\"");
    let mut ended = handler.going_on("end");
    assert_eq!(ended.read(&mut [0]).expect("in order"), 0);
    drop(ended);
    drop(handler.going_on("let go"));
    handler.host.wait_line("worked on after the end");
    handler.host.wait_line("worked on without it");
    handler.stop_counted(0);
}

#[test]
fn it_can_be_off() {
    let handler = Handler::draining("100ms", "orphan = \"off\"\nidle = \"100ms\"");
    let mut other = handler.going_on("sleep");
    peer::reset(handler.going_on("sleep"));
    peer::reset(handler.going_on("spawn"));
    // Longer than it would have taken.
    assert!(peer::silent_for(&mut other, Duration::from_secs(1)));
    assert_eq!(fs::read_to_string(&handler.log).expect("it is there"), "");
    handler.host.signal(Signal::TERM);
    handler.host.wait_exit().assert_stderr(" orphans_ended=0 ");
}
