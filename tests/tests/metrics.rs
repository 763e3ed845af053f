//! What the host tells of what it has done, while it runs and at its end, and what that costs.

use std::io::Write;
use std::time::{Duration, Instant};

use conet_tests::admin::{Response, Socket, ready, wait_state};
use conet_tests::config::Config;
use conet_tests::exposition::Samples;
use conet_tests::host::{Exit, Host, Launch};
use conet_tests::peer;
use conet_tests::process::Signal;

fn ended(host: Host) -> Exit {
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    exit.assert_code(0);
    exit
}

/// What is told of an import's calls: how many were measured, p50, p99, the greatest.
fn call_times(exit: &Exit, import: &str) -> Option<[u64; 4]> {
    let head = format!("waiting not counted, {import}: ");
    let line = exit.stderr.lines().find_map(|line| Some(line.split_once(&head)?.1))?;
    let numbers = ["sampled=", "p50_ns=", "p99_ns=", "max_ns="].map(|name| {
        let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
        word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line}"))
    });
    Some(numbers)
}

/// One call in 64 is measured, the first of each kind among them.
#[test]
fn times_of_calls_are_told_by_import() {
    for launch in [Launch::guest("echo").arg("127.0.0.1:0"), Launch::handler("echo-handler")] {
        let host = launch.flag("-vv").option("--workers", "1").start();
        let mut stream = host.connect();
        for _ in 0..200 {
            peer::round_trip(&mut stream, b"message");
        }
        drop(stream);
        let exit = ended(host);
        for import in ["recv", "try-send"] {
            let [sampled, p50, p99, max] = call_times(&exit, import).expect("it was called");
            assert_eq!(sampled, 4, "{import}: {exit:?}");
            assert!(0 < p50 && p50 <= p99 && p99 <= max, "{import}: {exit:?}");
        }
        assert_eq!(call_times(&exit, "connect"), None, "nobody called it: {exit:?}");
    }
}

/// Each worker counts for itself; what is told is the sum.
#[test]
fn counters_are_summed_over_workers() {
    let host = Launch::handler("echo-handler").flag("-vv").option("--workers", "4").start();
    let streams: Vec<_> = (0..40).map(|_| host.connect()).collect();
    for mut stream in streams {
        peer::round_trip(&mut stream, b"ten bytes.");
    }
    ended(host)
        .assert_stderr(" accepted=40 ")
        .assert_stderr(" bytes_in=400 ")
        .assert_stderr(" bytes_out=400 ");
}

/// A switch that takes a guarantee away is for measuring, and cannot be meant otherwise.
#[test]
fn preemption_goes_only_where_a_measurement_is_meant() {
    let launch = |purpose| Launch::guest("bursts").option("--no-preemption", purpose).arg("1");
    launch("").finish().assert_code(2).assert_stderr("for-measuring");
    let reachable = launch("for-measuring").option("--allow-listen", "0.0.0.0/0:*");
    reachable.finish().assert_code(2).assert_stderr("--allow-listen");
    let reachable = Launch::guest("echo-handler").option("--no-preemption", "for-measuring");
    reachable.option("--listen", "0.0.0.0:0").finish().assert_code(2).assert_stderr("loopback");
}

/// It does take it away, as a measurement must: what the CPU budget would end goes on, and the log warns of it.
#[test]
fn without_preemption_no_budget_ends_a_guest() {
    let bursts = || Launch::guest("bursts").option("--cpu-max", "200ms").arg("20").arg("sleepless");
    bursts().finish().assert_code(1).assert_stderr("CPU");
    let exit = bursts().option("--no-preemption", "for-measuring").finish();
    exit.assert_code(0).assert_stderr("guests are not preempted");
}

#[test]
fn metrics_are_right_and_move_with_what_happens() {
    let socket = Socket::new();
    let limits = "[tenant.limits]\nconnections = 7\nfresh-memory = \"4MiB\"";
    let config =
        Config::host(&socket.line()).handler("h", "echo-handler", limits).handler("bad", "panic", "");
    let host = ready(Launch::serve(&config).start(), &socket);
    let read = || Samples::read(&socket.get("/metrics").assert(200).body);
    let before = read();
    assert_eq!(before.of("conet_connections_accepted_total{tenant=\"h\"}"), 0.0);
    assert_eq!(before.of("conet_connections_limit{tenant=\"h\"}"), 7.0);
    assert_eq!(before.of("conet_ready"), 1.0);

    let mut streams: Vec<_> = (0..3).map(|_| host.connect_to("h")).collect();
    for stream in &mut streams {
        peer::round_trip(stream, b"ten bytes.");
    }
    let mut bad = host.connect_to("bad");
    bad.write_all(b"!").expect("it is connected");
    peer::expect_reset(&mut bad);
    // An accept may be between its permit and telling that it only waits.
    let connections =
        |response: &Response| Samples::read(&response.body).of("conet_connections{tenant=\"h\"}");
    socket.wait("/metrics", |response| connections(response) == 3.0);
    let during = read();
    for (series, value) in [
        ("conet_coroutines{tenant=\"h\"}", 3.0),
        ("conet_instances{tenant=\"h\"}", 3.0),
        ("conet_connections_accepted_total{tenant=\"h\"}", 3.0),
        ("conet_received_bytes_total{tenant=\"h\"}", 30.0),
        ("conet_sent_bytes_total{tenant=\"h\"}", 30.0),
        ("conet_traps_total{tenant=\"h\"}", 0.0),
        ("conet_traps_total{tenant=\"bad\"}", 1.0),
    ] {
        assert_eq!(during.of(series), value, "{series}");
    }
    assert!(during.of("conet_memory_bytes{tenant=\"h\"}") > before.of("conet_memory_bytes{tenant=\"h\"}"));
    assert!(during.of("conet_call_seconds_count{tenant=\"h\",call=\"recv\"}") >= 1.0);
    assert!(during.of("process_open_fds") > before.of("process_open_fds"));
    assert!(during.of("process_resident_memory_bytes") > 1e6);
    assert!(during.of("process_memory_mappings") > 10.0);
    assert!(during.of("process_memory_mappings") < during.of("process_max_memory_mappings"));
    socket.wait("/metrics", |metrics| {
        Samples::read(&metrics.body).of("conet_coroutines_by_state{tenant=\"h\",state=\"recv\"}") == 3.0
    });
    assert!(during.of("conet_accept_to_guest_seconds_count{tenant=\"h\"}") >= 1.0);
    assert!(during.of("conet_slice_seconds_count{tenant=\"h\"}") >= 1.0);
    drop(streams);
    wait_state(&socket, "h", "running");
    socket.wait("/metrics", |metrics| {
        Samples::read(&metrics.body).of("conet_connections{tenant=\"h\"}") == 0.0
    });
    host.stop();
}

/// A receive that waits is one, and an accept on each worker.
#[test]
fn operations_in_flight_are_told_by_worker() {
    let socket = Socket::new();
    let config = Config::host(&format!("workers = 2\n{}", socket.line())).handler("h", "echo-handler", "");
    let host = ready(Launch::serve(&config).start(), &socket);
    let all = |metrics: &Samples| {
        ["0", "1"]
            .map(|worker| metrics.of(&format!("conet_worker_operations{{worker=\"{worker}\"}}")))
            .iter()
            .sum::<f64>()
    };
    let wait_for = |count: f64| {
        socket.wait("/metrics", |metrics| all(&Samples::read(&metrics.body)) == count);
    };
    wait_for(2.0);
    let streams: Vec<_> = (0..10).map(|_| host.connect_to("h")).collect();
    wait_for(12.0);
    for mut stream in streams {
        peer::round_trip(&mut stream, b"message");
    }
    wait_for(2.0);
    host.stop();
}

/// What a guest may do is cut into slices. So the process is stopped while one computes, as a machine does that has too much to do.
#[test]
fn a_worker_that_does_not_look_at_its_sockets_is_told_of() {
    let socket = Socket::new();
    let spins = "[tenant.limits]\ncpu = \"1h\"";
    let config = Config::host(&format!("workers = 1\n{}", socket.line())).handler("spins", "spin", spins);
    let host = ready(Launch::serve(&config).start(), &socket);
    let stalls = |metrics: &Samples| metrics.of("conet_worker_stall_seconds_count{worker=\"0\"}");
    let longer = |metrics: &Samples| {
        stalls(metrics) - metrics.of("conet_worker_stall_seconds_bucket{worker=\"0\",le=\"0.005\"}")
    };
    let before = longer(&Samples::read(&socket.get("/metrics").body));
    let mut spinner = host.connect_to("spins");
    peer::round_trip(&mut spinner, b"!");
    socket.wait("/metrics", |metrics| {
        host.signal(Signal::STOP);
        let stopped = Instant::now();
        while stopped.elapsed() < Duration::from_millis(6) {
            std::thread::yield_now();
        }
        host.signal(Signal::CONT);
        longer(&Samples::read(&metrics.body)) > before
    });
    let metrics = Samples::read(&socket.get("/metrics").body);
    assert!(metrics.of("conet_worker_stall_seconds_sum{worker=\"0\"}") > 0.005);
    drop(host);
}

/// In the words of the access log, which need not be there: isolated handlers, shared ones and programs.
#[test]
fn ended_connections_are_told_by_how_they_ended() {
    let socket = Socket::new();
    let shared = "isolation = \"shared\"";
    let program = "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]";
    let config = Config::host(&format!("shared-instances = true\n{}", socket.line()))
        .handler("isolated", "echo-handler", "")
        .handler("shared", "echo_shared", shared)
        .tenant("program", "echo", program)
        .handler("traps", "panic", "")
        .handler("spins", "spin", "[tenant.limits]\ncpu = \"100ms\"")
        .handler("silent", "echo-handler", "[tenant.limits]\nfirst-byte = \"100ms\"");
    let host = ready(Launch::serve(&config).start(), &socket);
    for name in ["isolated", "shared", "program"] {
        peer::echo_exact(host.connect_to(name), 1000);
        let mut reset = host.connect_to(name);
        peer::round_trip(&mut reset, b"message");
        peer::reset(reset);
    }
    let mut trapped = host.connect_to("traps");
    peer::round_trip(&mut trapped, b"message");
    trapped.write_all(b"!").expect("it is connected");
    peer::expect_gone(&mut trapped);
    let mut spun = host.connect_to("spins");
    peer::round_trip(&mut spun, b"!");
    peer::expect_gone(&mut spun);
    peer::expect_gone(&mut host.connect_to("silent"));
    let expected = [
        ("isolated", "eof"),
        ("isolated", "peer-reset"),
        ("shared", "eof"),
        ("shared", "peer-reset"),
        ("program", "eof"),
        ("program", "peer-reset"),
        ("traps", "trap"),
        ("spins", "limit:cpu"),
        ("silent", "timeout:first-byte"),
    ];
    let series =
        |tenant, reason| format!("conet_connections_closed_total{{tenant=\"{tenant}\",reason=\"{reason}\"}}");
    let told = socket.wait("/metrics", |metrics| {
        let samples = Samples::read(&metrics.body);
        expected.iter().all(|(tenant, reason)| samples.of(&series(tenant, reason)) >= 1.0)
    });
    let samples = Samples::read(&told.body);
    // Each once, and in no other way.
    let all: f64 = samples
        .iter()
        .filter(|(series, _)| series.starts_with("conet_connections_closed_total"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(all, expected.len() as f64, "{told:?}");
    host.stop();
}
