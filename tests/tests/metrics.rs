//! What the host tells at its end of what it has done, and what that costs.

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
