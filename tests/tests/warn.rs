//! Limits and grants that only warn: what is beyond them passes, is counted, and told with the line that would allow it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::upstream::Upstream;
use conet_tests::{artifacts, peer};

const SHARED: &str = "shared-instances = true";

/// A host with an admin.
struct Watched {
    host: Host,
    admin: Socket,
}

impl Watched {
    fn start(host_lines: &str, tenants: impl FnOnce(Config) -> Config) -> Self {
        let admin = Socket::new();
        let config = tenants(Config::host(&format!("{}\n{host_lines}", admin.line())));
        Self { host: Launch::serve(&config).flag("-vv").start(), admin }
    }

    /// One handler, some of whose limits only warn.
    fn handler(guest: &str, warn: &[&str], limits: &str) -> Self {
        let lines = format!("warn = {warn:?}\n[tenant.limits]\n{limits}");
        Self::start("", |config| config.handler("h", guest, &lines))
    }

    /// Waits until so many would have been denied, and checks that Prometheus is told the same.
    fn wait_would_deny(&self, limit: &str, enough: impl Fn(u64) -> bool) -> u64 {
        // The host answers before it tells of its tenants.
        let count = |body: &str| {
            let told: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
            let tenant = told["tenants"].get(0)?;
            Some(tenant["would_deny"][limit].as_u64().unwrap_or_else(|| panic!("no {limit}: {body}")))
        };
        let told = self.admin.wait("/tenants", |told| count(&told.body).is_some_and(&enough));
        let metric = format!("limit=\"{limit}\"");
        let metrics = self.admin.get("/metrics").body;
        let line =
            metrics.lines().find(|line| line.starts_with("conet_would_deny_total") && line.contains(&metric));
        assert!(line.is_some(), "{metrics}");
        count(&told.body).expect("it has just been there")
    }

    /// Ends it, and checks that nothing was denied after all.
    fn stop(self, counter: &str) {
        self.host.signal(Signal::TERM);
        self.host.wait_exit().assert_code(0).assert_stderr(&format!(" {counter}=0 "));
    }
}

fn answered(count: usize, host: &Host) -> Vec<TcpStream> {
    let mut streams: Vec<_> = (0..count).map(|_| host.connect_to("h")).collect();
    for stream in &mut streams {
        peer::round_trip(stream, b"served");
    }
    streams
}

#[test]
fn connections_and_coroutines_beyond_their_limits_are_served() {
    for (limit, counter) in [("connections", "connections_waited"), ("coroutines", "coroutines_refused")] {
        let watched = Watched::handler("echo-handler", &[limit], &format!("{limit} = 2"));
        let mut streams = answered(2, &watched.host);
        assert_eq!(watched.wait_would_deny(limit, |_| true), 0);
        streams.extend(answered(3, &watched.host));
        assert_eq!(watched.wait_would_deny(limit, |count| count >= 3), 3);
        let line = watched.host.wait_line("would deny");
        assert!(
            line.contains(&format!("3 {limit} at once; to allow it: {limit} = 3 in its limits")),
            "{line}"
        );
        assert!(line.contains("tenant=h"), "{line}");
        drop(streams);
        watched.stop(counter);
    }
}

#[test]
fn connections_of_one_address_beyond_the_limit_are_served() {
    let watched = Watched::handler("echo-handler", &["connections-per-ip"], "connections-per-ip = 1");
    let streams = answered(3, &watched.host);
    assert_eq!(watched.wait_would_deny("connections-per-ip", |count| count >= 2), 2);
    watched.host.wait_line("2 connections at once from 127.0.0.1; to allow it: connections-per-ip = 2");
    drop(streams);
    watched.stop("refused_per_ip");
}

#[test]
fn connections_are_accepted_as_quickly_as_they_come() {
    let watched = Watched::handler("echo-handler", &["accept-rate"], "accept-rate = 1");
    let streams = answered(30, &watched.host);
    watched.wait_would_deny("accept-rate", |count| (1..30).contains(&count));
    watched.host.wait_line("to allow it: accept-rate = ");
    drop(streams);
    watched.stop("accepts_throttled");
}

/// Each wait that is too long counts once; a first byte that is late does not make the next one so.
#[test]
fn peers_that_keep_a_handler_waiting_are_left_alone() {
    let limits = "first-byte = \"100ms\"\nidle = \"200ms\"";
    let watched = Watched::handler("echo-handler", &["first-byte", "idle"], limits);
    let mut stream = watched.host.connect_to("h");
    assert_eq!(watched.wait_would_deny("first-byte", |count| count >= 1), 1);
    let line = watched.host.wait_line("first-byte = ");
    assert!(line.contains("to allow it: first-byte = \"200ms\" in its limits"), "{line}");
    for waits in 1..=2 {
        peer::round_trip(&mut stream, b"at last");
        assert_eq!(watched.wait_would_deny("idle", |count| count >= waits), waits);
    }
    watched.host.wait_line("to allow it: idle = \"400ms\" in its limits");
    peer::round_trip(&mut stream, b"and again");
    assert_eq!(watched.wait_would_deny("first-byte", |_| true), 1);
    drop(stream);
    watched.stop("idle_timeouts");
}

#[test]
fn a_peer_that_takes_nothing_is_left_alone() {
    let watched = Watched::handler("echo-handler", &["write"], "write = \"200ms\"\nidle = \"5m\"");
    let mut stream = watched.host.connect_to("h");
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("it is not zero");
    let chunk = vec![7; 64 << 10];
    let mut sent = 0;
    while let Ok(count) = stream.write(&chunk) {
        sent += count;
    }
    assert_eq!(watched.wait_would_deny("write", |count| count >= 1), 1);
    watched.host.wait_line("to allow it: write = \"400ms\"");
    // All of it comes after all.
    let end = stream.try_clone().expect("a socket can be duplicated");
    end.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(peer::read_all(&mut stream).len(), sent);
    watched.stop("write_timeouts");
}

/// It counts from ten seconds on.
#[test]
fn a_peer_that_sends_slowly_is_left_alone() {
    let limits = "receive-rate-min = 1000\nidle = \"5m\"";
    let watched = Watched::handler("echo-handler", &["receive-rate-min"], limits);
    let mut stream = watched.host.connect_to("h");
    peer::round_trip(&mut stream, b"a few bytes");
    assert_eq!(watched.wait_would_deny("receive-rate-min", |count| count >= 1), 1);
    watched.host.wait_line("to allow it: receive-rate-min = ");
    peer::round_trip(&mut stream, b"a few more");
    drop(stream);
    watched.stop("rate_timeouts");
}

#[test]
fn a_guest_computes_on() {
    let watched = Watched::start("workers = 1", |config| {
        let lines = "warn = [\"cpu\"]\n[tenant.limits]\ncpu = \"20ms\"\ndrain = \"100ms\"";
        config.handler("h", "spin", lines).handler("other", "echo-handler", "")
    });
    let mut spinner = watched.host.connect_to("h");
    peer::round_trip(&mut spinner, b"!");
    assert_eq!(watched.wait_would_deny("cpu", |count| count >= 1), 1);
    let line = watched.host.wait_line("of CPU time without waiting; to allow it: cpu = \"");
    assert!(line.contains("limit=\"cpu\""), "{line}");
    peer::echo_exact(watched.host.connect_to("other"), 10_000);
    assert!(peer::silent_for(&mut spinner, Duration::from_millis(200)), "it is neither reset nor closed");
    // It spends its budget once, however often over.
    assert_eq!(watched.wait_would_deny("cpu", |_| true), 1);
    watched.host.signal(Signal::TERM);
    watched.host.wait_exit().assert_code(3).assert_stderr(" kills_cpu=0 ");
}

#[test]
fn an_instance_takes_the_time_to_start_that_it_takes() {
    let text = r#"(component
        (import "conet:net/tcp@0.1.0" (instance $tcp (export "connection" (type (sub resource)))))
        (alias export $tcp "connection" (type $connection))
        (core module $guest
          (func $start (local $n i32)
            (local.set $n (i32.const 50000000))
            (loop $more (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
          (start $start)
          (func (export "handle") (param i32) (result i32) (i32.const 0)))
        (core instance $guest (instantiate $guest))
        (func $handle (param "connection" (own $connection)) (result (result))
          (canon lift (core func $guest "handle")))
        (instance $entry (export "handle" (func $handle)))
        (export "conet:net/handler-entry@0.1.0" (instance $entry)))"#;
    let path: PathBuf = artifacts::scratch().join("slow-start.wasm");
    std::fs::write(&path, wat::parse_str(text).expect("the text is well formed"))
        .expect("the folder is ours");
    let lines = "listen = [\"127.0.0.1:0\"]\nwarn = [\"start\"]\n[tenant.limits]\nstart = \"5ms\"";
    let watched = Watched::start("", |config| config.component("h", &path, lines));
    for connections in 1..=2 {
        let mut stream = watched.host.connect_to("h");
        assert_eq!(peer::read_all(&mut stream), b"");
        assert_eq!(watched.wait_would_deny("start", |count| count >= connections), connections);
    }
    watched.host.wait_line("to allow it: start = \"");
    watched.stop("kills_start");
}

/// An instance more than fits.
#[test]
fn memory_beyond_the_limit_is_given() {
    let watched = Watched::handler("echo-handler", &["tenant-memory"], "tenant-memory = \"1500KiB\"");
    let streams = answered(4, &watched.host);
    watched.wait_would_deny("tenant-memory", |count| count >= 1);
    let line = watched.host.wait_line("to allow it: tenant-memory = ");
    assert!(line.contains("MiB\" in its limits"), "{line}");
    drop(streams);
    watched.admin.wait("/tenants", |told| told.body.contains("\"memory_bytes\":{\"used\":0,"));
    watched.stop("memory_refused");
}

/// Ten listeners and ten pools, of each of which it may have three.
fn takes(limit: &str, counter: &str) {
    let lines = format!(
        "restart = \"never\"\nargs = [\"10\", \"10\"]\nallow-listen = [\"127.0.0.1:*\"]\nallow-connect = [\"127.0.0.1:*\"]\n\
         warn = [{limit:?}]\n[tenant.limits]\n{limit} = 3"
    );
    let watched = Watched::start(SHARED, |config| config.tenant("h", "takes", &lines));
    watched.host.wait_line("listeners=10 pools=10");
    assert_eq!(watched.wait_would_deny(limit, |count| count >= 7), 7);
    watched.host.wait_line(&format!("4 {limit} at once; to allow it: {limit} = 4 in its limits"));
    watched.stop(counter);
}

#[test]
fn listeners_beyond_the_limit_are_bound() {
    takes("listeners", "listeners_refused");
}

#[test]
fn pools_beyond_the_limit_are_opened() {
    takes("pools", "pools_refused");
}

/// What would have been denied is to open it: then nobody would have connected.
#[test]
fn a_pool_that_is_not_granted_counts_once() {
    let upstream = Upstream::echo();
    let lines = format!("env = {{ TARGET = \"{}\" }}\nwarn = [\"allow-connect\"]", upstream.addr());
    let watched = Watched::start("", |config| config.handler("h", "pool_handler", &lines));
    peer::round_trip(&mut watched.host.connect_to("h"), &[7; 64]);
    assert_eq!(watched.wait_would_deny("allow-connect", |count| count >= 1), 1);
    watched.stop("denied");
}

#[test]
fn a_guest_connects_and_looks_up_as_often_as_it_likes() {
    let upstream = Upstream::echo();
    let name = format!("localhost:{}", upstream.addr().port());
    for (limit, limits, counter) in [
        ("lookups", "lookups = 3", "lookups_refused"),
        ("outbound", "outbound = 1\noutbound-wait = \"1ms\"\nlookups = \"off\"", "outbound_refused"),
    ] {
        let lines = format!(
            "restart = \"never\"\nargs = [{name:?}, \"--connections\", \"20\", \"--requests\", \"2000\"]\n\
             allow-connect = [\"localhost:*\"]\nwarn = [{limit:?}]\n[tenant.limits]\n{limits}"
        );
        let watched = Watched::start(SHARED, |config| config.tenant("h", "client", &lines));
        watched.host.wait_line("the program returned, and");
        watched.wait_would_deny(limit, |count| (1..20).contains(&count));
        watched.host.wait_line(&format!("to allow it: {limit} = "));
        watched.stop(counter);
    }
}

#[test]
fn what_guests_print_is_logged() {
    let lines =
        "restart = \"never\"\nargs = [\"2000\"]\nwarn = [\"log-rate\"]\n[tenant.limits]\nlog-rate = \"1KiB\"";
    let watched = Watched::start("", |config| config.tenant("h", "print_much", lines));
    watched.host.wait_line("is not started again");
    watched.wait_would_deny("log-rate", |count| count >= 1000);
    watched.host.wait_line("line=\"000001999\"");
    let line = watched.host.wait_line("to allow it: log-rate = ");
    assert!(line.contains("KiB\" in its limits") || line.contains("MiB\" in its limits"), "{line}");
    watched.stop("log_lines_lost");
}

/// By address and by name. What is told is what would do: granted, nothing more would be denied.
#[test]
fn a_guest_connects_where_it_is_not_granted() {
    let upstream = Upstream::echo();
    let (port, addr) = (upstream.addr().port(), upstream.addr().to_string());
    for (target, allows) in
        [(addr.clone(), addr.clone()), (format!("localhost:{port}"), format!("localhost:{port}"))]
    {
        let with = |more: &str| {
            let lines =
                format!("restart = \"never\"\nargs = [{target:?}]\nwarn = [\"allow-connect\"]\n{more}");
            let watched = Watched::start(SHARED, |config| config.tenant("h", "client", &lines));
            watched.host.wait_line("the program returned, and");
            watched
        };
        let watched = with("");
        watched.wait_would_deny("allow-connect", |count| count >= 1);
        let line = watched.host.wait_line("would deny: connecting to ");
        assert!(line.contains(&format!("to allow it: allow-connect = [\"{allows}\"]")), "{line}");
        watched.stop("denied");

        // By name it has to be granted this host's own address, too.
        let watched = with(&format!("allow-connect = [{allows:?}, {addr:?}, \"[::1]:{port}\"]"));
        assert_eq!(watched.wait_would_deny("allow-connect", |_| true), 0);
        watched.stop("denied");
    }
    assert!(upstream.accepted() >= 4);
}

/// Nor does what is no address that others may have pass.
#[test]
fn the_admin_stays_out_of_reach() {
    let admin = Socket::new();
    let addresses = "admin-address = \"127.0.0.1:0\"\nprobe-address = \"0.0.0.0:0\"";
    let host_lines = format!("{SHARED}\n{}\n{addresses}", admin.line());
    let empty = || Config::host(&host_lines).handler("other", "echo-handler", "");
    let mut config = empty();
    let host = Launch::serve(&config).flag("-vv").start();
    let line = host.wait_line("admin at http://");
    let address = line.trim().trim_start_matches("admin at http://").trim_end_matches('/').to_owned();
    let line = host.wait_line("probes at http://");
    let probes = line.trim().trim_start_matches("probes at http://0.0.0.0").trim_end_matches('/').to_owned();
    let targets = [
        address,
        format!("127.0.0.1{probes}"),
        format!("127.0.0.2{probes}"),
        "169.254.169.254:80".to_owned(),
    ];
    for (number, target) in targets.into_iter().enumerate() {
        let lines = format!("restart = \"never\"\nargs = [{target:?}]\nwarn = [\"allow-connect\"]");
        config.replace(empty().tenant(&format!("t{number}"), "client", &lines));
        host.signal(Signal::HUP);
        let line = host.wait_line(&format!("denied: connecting to {target}"));
        assert!(!line.contains("would deny"), "{line}");
    }
    let told = admin.wait("/tenants", |told| told.body.contains("\"allow-connect\":")).body;
    assert!(told.contains("\"allow-connect\":0"), "{told}");
    host.stop();
}

#[test]
fn a_program_listens_where_it_is_not_granted() {
    let lines = "args = [\"127.0.0.1:0\"]\nwarn = [\"allow-listen\"]";
    let watched = Watched::start(SHARED, |config| config.tenant("h", "echo", lines));
    peer::echo_exact(watched.host.connect_to("h"), 10_000);
    assert_eq!(watched.wait_would_deny("allow-listen", |count| count >= 1), 1);
    let line = watched.host.wait_line("would deny: listening on 127.0.0.1:0 is not granted");
    assert!(line.contains("to allow it: allow-listen = [\"127.0.0.1:0\"]"), "{line}");
    watched.stop("denied");
}

#[test]
fn what_cannot_pass_is_refused_by_check() {
    let config = Config::new().handler("h", "echo-handler", "warn = [\"fresh-memory\", \"iddle\", \"idle\"]");
    let exit = Launch::check(&config).finish();
    exit.assert_code(2);
    exit.assert_stderr(
        "`fresh-memory` cannot let pass what is beyond it: a memory has its addresses reserved",
    );
    exit.assert_stderr("`iddle` is no grant or limit that can warn");
    assert!(!exit.stderr.contains("`idle` "), "{exit:?}");
}

/// What one tenant's limit lets pass is no other's: they deny as ever.
#[test]
fn a_tenant_that_does_not_warn_denies() {
    let watched = Watched::start("", |config| {
        config
            .handler(
                "h",
                "echo-handler",
                "warn = [\"connections-per-ip\"]\n[tenant.limits]\nconnections-per-ip = 1",
            )
            .handler("strict", "echo-handler", "[tenant.limits]\nconnections-per-ip = 1")
    });
    let streams = answered(2, &watched.host);
    let mut first = watched.host.connect_to("strict");
    peer::round_trip(&mut first, b"served");
    peer::expect_reset_of_new(watched.host.addr_of("strict"));
    let mut stream = first;
    stream.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(stream.read(&mut [0]).expect("it ends normally"), 0);
    drop(streams);
    watched.host.stop();
}
