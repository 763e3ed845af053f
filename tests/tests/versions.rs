//! Two versions of a tenant, while a reload has one take the other's place: they have no limit twice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::upstream::Upstream;
use conet_tests::{PATIENCE, peer};

/// A host whose file names a tenant `t` of two versions.
struct Versions {
    config: Config,
    second: Config,
    host: Host,
}

impl Versions {
    /// Handlers. The old one's connections may take their time.
    fn of_handler(guest: &str, lines: &str) -> Self {
        let limits = format!("[tenant.limits]\ndrain = \"10m\"\nfirst-byte = \"off\"\n{lines}");
        let version =
            |n| Config::new().handler("t", guest, &format!("env = {{ VERSION = \"000{n}\" }}\n{limits}"));
        Self::of(version(1), version(2))
    }

    fn of(first: Config, second: Config) -> Self {
        let host = Launch::serve(&first).flag("-vv").start();
        Self { config: first, second, host }
    }

    fn addr(&self) -> SocketAddr {
        self.host.addr_of("t")
    }

    /// From now on the second one serves whoever comes.
    fn reload(&mut self) {
        self.config.replace(std::mem::take(&mut self.second));
        self.host.signal(Signal::HUP);
        self.host.wait_line("0 added, 1 changed, 0 removed");
        self.host.wait_count("\nreloaded ", 1);
    }
}

/// Which version answers, if any does.
fn try_ask(stream: &mut TcpStream) -> Option<String> {
    let mut answer = [0; 4];
    stream.write_all(b"which?").ok()?;
    stream.read_exact(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

fn ask(stream: &mut TcpStream) -> String {
    try_ask(stream).expect("it answers")
}

/// Connects until `attempt` makes something of it.
fn until<T>(addr: SocketAddr, mut attempt: impl FnMut(&mut TcpStream) -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect_timeout(&addr, PATIENCE) {
            stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
            if let Some(made) = attempt(&mut stream) {
                return made;
            }
        }
        assert!(start.elapsed() < PATIENCE, "nothing comes of it");
    }
}

#[test]
fn bandwidth_is_that_of_both_together() {
    const RATE: usize = 64 << 10;
    const EACH: usize = 96 << 10;
    for limit in ["bandwidth-in", "bandwidth-out"] {
        let mut versions = Versions::of_handler("echo-handler", &format!("{limit} = \"{RATE}/s\""));
        let mut old = peer::connect(versions.addr());
        peer::round_trip(&mut old, b"the first version");
        let begun = Instant::now();
        let old = thread::spawn(move || peer::echo_exact(old, EACH));
        versions.reload();
        peer::echo_exact(peer::connect(versions.addr()), EACH);
        old.join().expect("all came back");
        // What may pass at once comes to less than that.
        let least = Duration::from_secs_f64((2 * EACH - (16 << 10)) as f64 / RATE as f64);
        assert!(begun.elapsed() >= least, "{limit}: {:?}, and not {least:?}", begun.elapsed());
        versions.host.stop();
    }
}

#[test]
fn connections_and_coroutines_are_those_of_both_together() {
    for limits in [
        "connections = 2\nover-limit = \"refuse\"",
        "connections-per-ip = 2",
        "coroutines = 2\nover-limit = \"refuse\"",
    ] {
        let mut versions = Versions::of_handler("version", limits);
        let addr = versions.addr();
        let mut held = [(); 2].map(|()| peer::connect(addr));
        assert!(held.iter_mut().all(|stream| ask(stream) == "0001"));
        versions.reload();
        peer::expect_reset_of_new(addr);
        let [first, mut second] = held;
        drop(first);
        assert_eq!(until(addr, try_ask), "0002", "{limits}");
        assert_eq!(ask(&mut second), "0001");
        drop(second);
        versions.host.stop();
    }
}

/// With the numbers of the new version.
#[test]
fn a_new_limit_counts_what_the_old_version_has() {
    let version = |n, connections| {
        let lines = format!(
            "env = {{ VERSION = \"000{n}\" }}\n[tenant.limits]\nconnections = {connections}\nover-limit = \"refuse\"\n\
             first-byte = \"off\""
        );
        Config::new().handler("t", "version", &lines)
    };
    let mut versions = Versions::of(version(1, 3), version(2, 2));
    let addr = versions.addr();
    let mut held = [(); 3].map(|()| peer::connect(addr));
    assert!(held.iter_mut().all(|stream| ask(stream) == "0001"));
    versions.reload();
    let [first, second, third] = held;
    drop(first);
    peer::expect_reset_of_new(addr);
    drop(second);
    assert_eq!(until(addr, try_ask), "0002");
    drop(third);
    versions.host.stop();
}

/// Those that wait are served once the old version's end.
#[test]
fn who_waits_for_a_connection_has_it_when_the_old_version_s_ends() {
    let mut versions = Versions::of_handler("version", "connections = 1");
    let addr = versions.addr();
    let mut old = peer::connect(addr);
    assert_eq!(ask(&mut old), "0001");
    versions.reload();
    let mut new = peer::connect(addr);
    new.write_all(b"which?").expect("the kernel takes it");
    assert!(peer::silent_for(&mut new, Duration::from_millis(200)), "it is one too many");
    drop(old);
    let mut answer = [0; 4];
    new.read_exact(&mut answer).expect("there is room now");
    assert_eq!(&answer, b"0002");
    drop(new);
    versions.host.stop();
}

/// One to an upstream that never answers.
#[test]
fn outbound_connections_are_those_of_both_together() {
    let upstream = Upstream::deaf();
    let mut versions = forwarding(&upstream);
    let addr = versions.addr();
    let mut old = peer::connect(addr);
    old.write_all(&[1; 64]).expect("the kernel takes it");
    let start = Instant::now();
    while upstream.accepted() == 0 {
        assert!(start.elapsed() < PATIENCE, "the first version does not connect");
        thread::yield_now();
    }
    versions.reload();
    let mut new = peer::connect(addr);
    new.write_all(&[2; 64]).expect("the kernel takes it");
    peer::expect_gone(&mut new);
    assert_eq!(upstream.accepted(), 1);
    drop(old);
    versions.host.signal(Signal::INT);
    versions.host.signal(Signal::INT);
}

#[test]
fn what_is_idle_in_the_old_version_s_pool_makes_room_for_the_new_one() {
    let upstream = Upstream::echo();
    let mut versions = forwarding(&upstream);
    let addr = versions.addr();
    let mut done = peer::connect(addr);
    peer::round_trip(&mut done, &[1; 64]);
    // It keeps the old version, and its pool.
    let mut held = peer::connect(addr);
    held.write_all(&[2; 63]).expect("the kernel takes it");
    until(addr, |stream| {
        peer::round_trip(stream, &[3; 64]);
        Some(())
    });
    versions.reload();
    peer::round_trip(&mut peer::connect(addr), &[4; 64]);
    held.write_all(&[2]).expect("the kernel takes it");
    held.read_exact(&mut [0; 64]).expect("the new one's makes room in its turn");
    drop((done, held));
    versions.host.stop();
}

/// One outbound connection to there, in a pool.
fn forwarding(upstream: &Upstream) -> Versions {
    let version = |n| {
        let lines = format!(
            "env = {{ TARGET = \"{0}\", VERSION = \"{n}\" }}\nallow-connect = [\"{0}\"]\n[tenant.limits]\noutbound = 1\n\
             outbound-wait = \"300ms\"\nfirst-byte = \"off\"\ndrain = \"10m\"",
            upstream.addr()
        );
        Config::new().handler("t", "pool_handler", &lines)
    };
    Versions::of(version(1), version(2))
}

/// The new version's first instance is made beside the old one's, whatever those have.
#[test]
fn memory_of_connections_is_that_of_both_together() {
    let bytes = memory_of_one();
    let lines = format!("tenant-memory = {}\nmemory-wait = \"200ms\"", bytes * 3 / 2);
    let mut versions = Versions::of_handler("version", &lines);
    let addr = versions.addr();
    let mut old = peer::connect(addr);
    assert_eq!(ask(&mut old), "0001");
    versions.reload();
    peer::expect_reset(&mut peer::connect(addr));
    assert_eq!(ask(&mut old), "0001");
    drop(old);
    assert_eq!(until(addr, try_ask), "0002");
    versions.host.stop();
}

/// It is started all the same, and finds its coroutines when the old one's have ended.
#[test]
fn a_program_with_all_its_coroutines_gives_way_to_the_next_version() {
    let version = |n| {
        let lines = format!(
            "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]\nenv = {{ VERSION = \"{n}\" }}\n\
             [tenant.limits]\ncoroutines = 2\ndrain = \"10m\""
        );
        // The other one brings room of the host's.
        Config::host("shared-instances = true").tenant("t", "echo", &lines).handler(
            "other",
            "echo-handler",
            "",
        )
    };
    let mut versions = Versions::of(version(1), version(2));
    let addr = versions.addr();
    let mut old = peer::connect(addr);
    peer::round_trip(&mut old, b"the only one");
    versions.reload();
    peer::expect_gone(&mut peer::connect(addr));
    versions.host.wait_line("connection refused: ");
    peer::round_trip(&mut old, b"still");
    drop(old);
    until(addr, |stream| stream.write_all(b"?").and_then(|()| stream.read_exact(&mut [0])).ok());
    versions.host.stop();
}

/// Each version prints more than its burst.
#[test]
fn what_guests_print_has_the_rate_of_both_together() {
    const RATE: f64 = 1024.0;
    let version = |n| {
        let lines = format!(
            "args = [\"1000\"]\nenv = {{ VERSION = \"{n}\" }}\nrestart = \"never\"\n[tenant.limits]\nlog-rate = \"1KiB\""
        );
        Config::new().tenant("t", "print_much", &lines)
    };
    let begun = Instant::now();
    let mut versions = Versions::of(version(1), version(2));
    versions.host.wait_count("is not started again", 1);
    versions.reload();
    versions.host.wait_count("is not started again", 2);
    let most = 4.0 * RATE + begun.elapsed().as_secs_f64() * RATE;
    // A line has nine bytes, and counts for 64 more.
    let logged = versions.host.stderr().matches("stream=\"stdout\"").count() as f64 * 73.0;
    assert!(logged > 2.0 * RATE && logged <= most, "{logged} bytes of {most}");
    versions.host.stop();
}

/// What an instance of the handler begins with, as the admin tells it of one that waits.
fn memory_of_one() -> usize {
    let admin = Socket::new();
    let host =
        Launch::serve(&Config::host(&admin.line()).handler("t", "version", "env = { VERSION = \"0001\" }"));
    let host = host.start();
    let mut stream = host.connect_to("t");
    ask(&mut stream);
    let told = admin.wait("/tenants", |told| memory_used(&told.body).is_some_and(|bytes| bytes > 0));
    drop(stream);
    host.stop();
    memory_used(&told.body).expect("it has just been there")
}

/// Of the first tenant; none if the host does not tell of any yet.
fn memory_used(told: &str) -> Option<usize> {
    let told: serde_json::Value = serde_json::from_str(told).expect("it is JSON");
    told["tenants"].get(0)?["memory_bytes"]["used"].as_u64().map(|bytes| bytes as usize)
}
