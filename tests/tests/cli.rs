//! The command line: how a guest's end becomes an exit code, what reaches the guest, what comes out.

use std::time::Duration;

use conet_tests::host::Launch;
use conet_tests::process::Signal;
use conet_tests::{artifacts, peer, turn};

#[test]
fn exit_code_tells_how_the_program_ended() {
    for (how, code) in [("ok", 0), ("err", 1), ("panic", 1), ("0", 0), ("7", 7), ("255", 255)] {
        Launch::guest("ending").arg(how).finish().assert_code(code);
    }
    Launch::guest("ending").arg("err").finish().assert_stderr("told to fail");
    Launch::guest("ending").arg("panic").finish().assert_stderr("told to panic");
    // wasm32-wasip2's std passes on only whether an exit code is 0.
    assert_ne!(Launch::guest("ending").arg("std").finish().code(), 0);
}

#[test]
fn exit_code_of_the_guest_is_the_hosts() {
    Launch::component(artifacts::text_component("exit_seven")).finish().assert_code(7);
    Launch::component(artifacts::text_component("run_ok")).finish().assert_code(0);
    Launch::guest("exit_code").arg("9").finish().assert_code(9);
}

#[test]
fn other_coroutines_end_when_the_program_returns() {
    let exit = Launch::guest("ends_with_others").finish();
    exit.assert_code(0);
    assert_eq!(exit.stdout_text(), "the other waits\nmain ends\n");
}

#[test]
fn guest_gets_its_arguments_and_the_granted_environment_only() {
    let launch =
        Launch::guest("show").option("--env", "GIVEN=yes = yes").process_env("SECRET", "of the host");
    let exit = launch.arg("one").arg("two words").arg("--listen").arg("").finish();
    exit.assert_code(0);
    assert_eq!(exit.stdout_text(), "arg one\narg two words\narg --listen\narg \nenv GIVEN=yes = yes\n");
}

#[test]
fn stdout_and_stderr_pass_through_whole() {
    let exit = Launch::guest("print_much").finish();
    exit.assert_code(0);
    let expected: String = (0..1_000_000).map(|number| format!("{number:09}\n")).collect();
    assert!(exit.stdout == expected.as_bytes(), "{} bytes of {}", exit.stdout.len(), expected.len());
    let lines: Vec<_> = exit.stderr.lines().filter(|line| line.contains("at 0")).collect();
    assert_eq!(lines.len(), 1000);
    assert!(lines[999].contains("at 000999000"), "{}", lines[999]);
}

#[test]
fn ordinary_command_runs_and_sleeps() {
    let exit = Launch::guest("plain_sleep").finish();
    exit.assert_code(0);
    let text = exit.stdout_text();
    let slept: u64 = text.split_whitespace().nth(1).and_then(|ms| ms.parse().ok()).expect("slept N ms");
    assert!((50..5_000).contains(&slept), "{text}");
}

/// A sleep is a wait as any other: the budget is for what is used between two.
#[test]
fn ordinary_command_that_sleeps_between_bursts_is_not_charged_for_their_sum() {
    let _turn = turn();
    let bursts = |count| Launch::guest("bursts").option("--cpu-max", "600ms").arg(count);
    let exit = bursts("40").finish();
    exit.assert_code(0);
    assert_eq!(exit.stdout_text(), "done\n");
    bursts("40").arg("sleepless").finish().assert_code(1).assert_stderr("CPU");
}

#[test]
fn ordinary_command_has_no_sockets_of_its_own() {
    let upstream = conet_tests::upstream::Upstream::echo();
    let exit = Launch::guest("plain_connect").arg(upstream.addr().to_string()).finish();
    exit.assert_code(0);
    assert_eq!(exit.stdout_text(), "failed: PermissionDenied\n");
    assert_eq!(upstream.accepted(), 0);
}

/// What a log reader does must not decide whether peers are served.
#[test]
fn closed_stdout_does_not_stop_the_host() {
    let host = Launch::handler("large_log").stdout_closed().start();
    for _ in 0..20 {
        peer::round_trip(&mut host.connect(), &[b'x'; 4096]);
    }
    host.stop();
}

#[test]
fn stdout_that_nobody_reads_does_not_stop_a_worker() {
    let host = Launch::handler("large_log").option("--workers", "1").stdout_unread().start();
    let mut quiet = host.connect();
    peer::round_trip(&mut quiet, b"before");
    // Far more than a pipe and any queue before it hold.
    let mut loud = host.connect();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut loud, &vec![b'x'; 16 << 20]));
    for _ in 0..2_000 {
        let took = peer::round_trip(&mut quiet, b"beside");
        assert!(took < Duration::from_secs(5), "{took:?} of {host:?}");
    }
    drop(host);
    // However it ended: the host is gone.
    let _ = writer.join().expect("the writer does not panic");
}

#[test]
fn closed_stderr_does_not_stop_the_host() {
    let host = Launch::handler("panic").option("--workers", "1").stderr_closed().start();
    for _ in 0..3 {
        let mut panics = host.connect();
        peer::round_trip(&mut panics, b"!");
        // The log tells of it, to nobody.
        peer::expect_reset(&mut panics);
        peer::round_trip(&mut host.connect(), b"after");
    }
    let mut open = host.connect();
    peer::round_trip(&mut open, b"before");
    host.signal(Signal::TERM);
    peer::round_trip(&mut open, b"while draining");
    drop(open);
    host.wait_exit().assert_code(0);
}

#[test]
fn denial_that_cannot_be_logged_is_still_one() {
    let host = Launch::handler("denied").option("--cpu-max", "60s").stderr_closed().start();
    let mut denied = host.connect();
    peer::round_trip(&mut denied, b"!");
    for _ in 0..3 {
        assert_eq!(peer::read_line(&mut denied), "1000 denied");
    }
    drop(denied);
    host.stop();
}

#[test]
fn stderr_that_nobody_reads_does_not_stop_a_worker() {
    let launch = Launch::handler("denied").option("--workers", "1").option("--cpu-max", "60s");
    let host = launch.stderr_unread().start();
    let mut quiet = host.connect();
    peer::round_trip(&mut quiet, b"before");
    let mut denied = host.connect();
    peer::round_trip(&mut denied, b"!");
    // A line for each is far more than a pipe and any queue before it hold.
    for _ in 0..20 {
        assert_eq!(peer::read_line(&mut denied), "1000 denied");
        peer::round_trip(&mut quiet, b"beside");
    }
    drop((denied, quiet));
    host.stop();
}

#[test]
fn cargo_package_is_built_and_run() {
    let launch = Launch::component(artifacts::workspace().join("guests/echo-handler"));
    // Meant for the host's own build: the guest's must not see them.
    let launch = launch
        .process_env("RUSTUP_TOOLCHAIN", "no-such-toolchain")
        .process_env("RUSTFLAGS", "--no-such-flag");
    let host = launch.option("--listen", "127.0.0.1:0").start();
    peer::echo_exact(host.connect(), 1000);
    host.stop();
}

#[test]
fn log_is_json_if_asked_for() {
    let exit = Launch::guest("echo").option("--log-format", "json").arg("127.0.0.1:80").finish();
    exit.assert_code(1);
    let line = exit.stderr.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{exit:?}"));
    let line: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert_eq!(line["level"], "WARN", "{line}");
    assert_eq!(line["fields"]["tenant"], "echo", "{line}");
    assert!(line["fields"]["message"].to_string().contains("--allow-listen 127.0.0.1:80"), "{line}");
}

#[test]
fn quiet_leaves_only_errors() {
    let exit = Launch::guest("echo").flag("-q").arg("127.0.0.1:80").finish();
    exit.assert_code(1);
    assert!(!exit.stderr.contains("denied"), "a warning: {exit:?}");
}

#[test]
fn driver_is_what_was_asked_for_or_the_best_there_is() {
    let named = Launch::guest("ending").option("--driver", "io-uring").arg("ok").finish();
    let has_io_uring = named.code() != 6;
    if has_io_uring {
        named.assert_code(0);
    } else {
        eprintln!("SKIPPED, but for the refusal: {}", named.stderr);
        named.assert_stderr("there is no io_uring").assert_stderr("--driver auto");
    }
    let drivers = [("auto", has_io_uring), ("io-uring", has_io_uring), ("epoll", false)];
    for (driver, is_ring) in drivers.into_iter().filter(|(driver, _)| has_io_uring || *driver != "io-uring") {
        let host = Launch::guest("echo").option("--driver", driver).arg("127.0.0.1:0").start();
        peer::echo_exact(host.connect(), 100_000);
        assert_eq!(host.process().has_descriptor("anon_inode:[io_uring]"), is_ring, "--driver {driver}");
        host.stop();
    }
}

#[test]
fn bad_arguments_exit_2_and_say_what_is_wrong() {
    let cases: [(&str, &str); 13] = [
        ("--no-such-option", "1"),
        ("--listen", "nowhere"),
        ("--isolation", "none"),
        ("--workers", "0"),
        ("--workers", "many"),
        ("--instances", "2"),
        ("--driver", "io_uring"),
        ("--memory-max", "12parsecs"),
        ("--cpu-max", "soon"),
        ("--connections-max", "0"),
        ("--allow-connect", "10.0.0.0/99"),
        ("--allow-listen", "*:http"),
        ("--env", "NO_EQUALS_SIGN"),
    ];
    for (option, value) in cases {
        let exit = Launch::guest("show").option(option, value).finish();
        exit.assert_code(2).assert_stderr(option);
        assert!(!exit.stderr.contains("panicked"), "{exit:?}");
    }
}

#[test]
fn directory_grant_of_what_is_not_there_exits_2() {
    let exit = Launch::guest("show").option("--dir", "/no/such/folder::/data").finish();
    exit.assert_code(2).assert_stderr("/no/such/folder");
}
