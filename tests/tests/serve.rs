//! Many tenants in one process: `conet-host serve` and `check`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use conet_tests::config::Config;
use conet_tests::crowd::Crowd;
use conet_tests::host::{Exit, Launch};
use conet_tests::process::Signal;
use conet_tests::upstream::Upstream;
use conet_tests::{artifacts, peer, turn};

const SHARED: &str = "shared-instances = true";
const PROGRAM: &str = "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]";

/// A program, a handler with an instance each, and one that shares, beside each other.
#[test]
fn tenants_of_every_kind_are_served_side_by_side() {
    let config = Config::host(&format!("{SHARED}\nworkers = 2"))
        .tenant("program", "echo", PROGRAM)
        .handler("isolated", "echo-handler", "")
        .handler("shared", "echo_shared", "isolation = \"shared\"");
    let host = Launch::serve(&config).start();
    for tenant in ["program", "isolated", "shared"] {
        peer::echo_exact(host.connect_to(tenant), 1 << 20);
        let mut crowd = Crowd::connect(host.addr_of(tenant), 100);
        crowd.round(0);
        crowd.round(1);
    }
    host.stop();
}

#[test]
fn a_trap_of_one_tenant_is_nothing_to_another() {
    // All are to be served: what is refused with an open circuit has a test of its own.
    let bad = "[tenant.limits]\ncircuit-traps = \"off\"";
    let config = Config::new().handler("bad", "panic", bad).handler("good", "echo-handler", "");
    let host = Launch::serve(&config).start();
    let mut good = host.connect_to("good");
    for _ in 0..20 {
        let mut bad = host.connect_to("bad");
        bad.write_all(b"!").expect("it is connected");
        peer::expect_reset(&mut bad);
        peer::round_trip(&mut good, b"still here");
    }
    let line = host.wait_line("trapped");
    assert!(line.contains("tenant=bad"), "{line}");
    drop(good);
    host.stop();
}

/// What a guest prints has its tenant's name on it, and no line can pass for another's.
#[test]
fn guests_print_into_the_log_and_cannot_forge_its_lines() {
    let config = Config::new().tenant("printer", "show", "restart = \"never\"\nargs = [\"one\", \"\\u001b[31mforged \\\" tenant=victim\", \"\\nWARN all is lost\"]");
    let host = Launch::serve(&config).start();
    let line = host.wait_line("arg one");
    assert!(line.contains("INFO guest tenant=printer coroutine="), "{line}");
    assert!(line.ends_with(r#"stream="stdout" line="arg one""#), "{line}");
    let forged = host.wait_line("forged");
    assert!(forged.ends_with(r#"line="arg \u{1b}[31mforged \" tenant=victim""#), "{forged}");
    host.wait_line(r#"line="WARN all is lost""#);
    host.stop();
}

#[test]
fn a_program_that_ends_is_started_again_and_later_if_it_keeps_ending() {
    let config = Config::host(SHARED).tenant("ends", "exit_code", "args = [\"3\"]").handler(
        "good",
        "echo-handler",
        "",
    );
    let host = Launch::serve(&config).start();
    host.wait_line("exited with 3: starting it again");
    host.wait_line("too often: starting it again in 1s");
    peer::echo_exact(host.connect_to("good"), 1000);
    host.stop();
}

#[test]
fn a_program_is_not_started_again_against_its_policy() {
    for (policy, code, again) in
        [("never", "3", false), ("on-failure", "0", false), ("on-failure", "3", true)]
    {
        let lines = format!("restart = {policy:?}\nargs = [{code:?}]");
        let config = Config::host(SHARED).tenant("ends", "exit_code", &lines);
        let host = Launch::serve(&config).flag("-v").start();
        host.wait_line(if again { "starting it again" } else { "is not started again" });
        host.stop();
    }
}

/// In `serve` a guest's clocks go in steps, by default of a millisecond; in `run` they are the machine's.
#[test]
fn clocks_are_as_fine_as_the_limit_says() {
    let steps = |line: &str| {
        let of = |name: &str| {
            let (_, rest) = line.split_once(name).unwrap_or_else(|| panic!("no {name} in {line}"));
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
            digits.and_then(|digits| digits.parse::<u64>().ok()).unwrap_or_else(|| panic!("{line}"))
        };
        assert!(line.contains("slept=true"), "{line}");
        [of("monotonic="), of("wall=")]
    };
    for (limits, step) in [("", 1_000_000), ("clock-granularity = \"5ms\"", 5_000_000)] {
        let lines = format!("restart = \"never\"\n[tenant.limits]\ncpu = \"50s\"\n{limits}");
        let config = Config::host(SHARED).tenant("clocks", "clock_steps", &lines);
        let host = Launch::serve(&config).start();
        for found in steps(&host.wait_line("monotonic=")) {
            assert!(found >= step && found % step == 0, "{found} ns with {limits:?}");
        }
        host.stop();
    }
    let off = "restart = \"never\"\n[tenant.limits]\ncpu = \"50s\"\nclock-granularity = \"off\"";
    let host = Launch::serve(&Config::host(SHARED).tenant("clocks", "clock_steps", off)).start();
    assert!(steps(&host.wait_line("monotonic=")).iter().all(|found| *found < 1_000_000));
    host.stop();
    let exit = Launch::guest("clock_steps").finish();
    assert!(steps(&exit.assert_code(0).stdout_text()).iter().all(|found| *found < 1_000_000));
}

#[test]
fn clocks_tell_how_fine_they_are() {
    let component = artifacts::text_component("clock_resolution");
    let config = Config::new().component("clocks", &component, "restart = \"never\"");
    let host = Launch::serve(&config).flag("-v").start();
    host.wait_line("the program returned, and");
    host.stop();
    Launch::component(component).finish().assert_code(1);
}

#[test]
fn a_signal_drains_all_tenants() {
    let config =
        Config::host(SHARED).tenant("program", "echo", PROGRAM).handler("isolated", "echo-handler", "");
    let host = Launch::serve(&config).start();
    let mut streams: Vec<TcpStream> =
        ["program", "isolated"].iter().map(|name| host.connect_to(name)).collect();
    for stream in &mut streams {
        peer::round_trip(stream, b"before");
    }
    host.signal(Signal::TERM);
    host.wait_line("shutting down: ");
    for stream in &mut streams {
        peer::round_trip(stream, b"within the drain");
        stream.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(peer::read_all(stream), b"");
    }
    host.wait_exit().assert_code(0);
}

#[test]
fn what_the_drain_leaves_is_cut_off() {
    let config = Config::new().handler("h", "echo-handler", "[tenant.limits]\ndrain = \"200ms\"");
    let host = Launch::serve(&config).start();
    let mut stream = host.connect_to("h");
    peer::round_trip(&mut stream, b"before");
    host.signal(Signal::TERM);
    peer::expect_reset(&mut stream);
    host.wait_exit().assert_code(3).assert_stderr("cutting off 1 coroutine");
}

/// Tenants of one component share its code: a hundred of them start, and each answers.
#[test]
fn a_hundred_tenants_of_one_component() {
    let _turn = turn();
    let mut config = Config::host("workers = 2");
    for number in 0..100 {
        config = config.handler(&format!("t{number}"), "echo-handler", "");
    }
    let host = Launch::serve(&config).start();
    for number in 0..100 {
        let mut stream = host.connect_to(&format!("t{number}"));
        peer::round_trip(&mut stream, format!("tenant {number}").as_bytes());
    }
    host.stop();
}

#[test]
fn a_tenant_s_limits_are_its_own() {
    let one = "[tenant.limits]\nconnections = 1";
    let config = Config::new().handler("one", "echo-handler", one).handler("many", "echo-handler", "");
    let host = Launch::serve(&config).start();
    let mut first = host.connect_to("one");
    peer::round_trip(&mut first, b"the only one");
    let mut second = host.connect_to("one");
    second.write_all(b"waits").expect("it is in the backlog");
    let mut many = Crowd::connect(host.addr_of("many"), 50);
    many.round(0);
    assert!(peer::silent_for(&mut second, std::time::Duration::from_millis(200)));
    drop(first);
    let mut answer = [0; 5];
    second.read_exact(&mut answer).expect("it is served now");
    assert_eq!(&answer, b"waits");
    drop((second, many));
    host.stop();
}

/// It prints a million lines as fast as it can.
#[test]
fn guests_print_no_more_than_their_rate() {
    let limits = "[tenant.limits]\nlog-rate = \"1KiB\"\nlog-line = \"4\"";
    let config = Config::new()
        .tenant("loud", "print_much", &format!("restart = \"never\"\nargs = [\"100000\"]\n{limits}"))
        .handler("other", "echo-handler", "");
    let host = Launch::serve(&config).flag("-vv").start();
    host.wait_line("is not started again");
    peer::echo_exact(host.connect_to("other"), 10_000);
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    let printed = exit.stderr.matches("INFO guest tenant=loud").count();
    assert!((1..5_000).contains(&printed), "{printed} lines");
    exit.assert_stderr("cut=true");
    let lost = counter(&exit.stderr, "log_lines_lost");
    assert!(lost > 90_000, "{lost} lost");
}

#[test]
fn a_tenant_s_connects_and_lookups_have_limits() {
    let upstream = Upstream::echo();
    let name = format!("localhost:{}", upstream.addr().port());
    for (limits, counts) in [
        ("lookups = 3", "lookups_refused"),
        ("outbound = 1\noutbound-wait = \"1ms\"\nlookups = \"off\"", "outbound_refused"),
    ] {
        let lines = format!(
            "restart = \"never\"\nargs = [{name:?}, \"--connections\", \"20\", \"--requests\", \"2000\"]\n\
             allow-connect = [\"localhost:*\"]\n[tenant.limits]\n{limits}"
        );
        let config = Config::host(SHARED).tenant("c", "client", &lines);
        let host = Launch::serve(&config).flag("-vv").start();
        host.wait_line("is not started again");
        host.signal(Signal::TERM);
        let exit = host.wait_exit();
        let refused = counter(&exit.stderr, counts);
        assert!((1..=19).contains(&refused), "{counts}={refused}: {exit:?}");
    }
}

/// A counter of the one tenant that has counted it.
fn counter(stderr: &str, name: &str) -> u64 {
    let key = format!(" {name}=");
    let values = stderr.split(&key).skip(1);
    values
        .map(|rest| rest.split(' ').next().and_then(|value| value.parse::<u64>().ok()).expect("a number"))
        .sum()
}

#[test]
fn a_denial_names_the_line_that_would_allow_it() {
    let config = Config::host(SHARED).tenant("p", "echo", "args = [\"127.0.0.1:0\"]\nrestart = \"never\"");
    let host = Launch::serve(&config).start();
    let line = host.wait_line("denied: ");
    assert!(line.contains(r#"to allow it: allow-listen = ["127.0.0.1:0"] tenant=p"#), "{line}");
    host.stop();
}

fn check(config: &Config) -> Exit {
    let checked = Launch::check(config).finish();
    // `serve` refuses what `check` does, for the same reasons, and starts nothing.
    if checked.code() != 0 {
        let served = Launch::serve(config).finish();
        served.assert_code(checked.code());
        let problems = checked.stderr.rsplit_once('\n').and_then(|(all, _)| all.rsplit_once('\n'));
        let (problems, _count) = problems.expect("problems, and their number");
        assert_eq!(served.stderr.trim_end(), problems);
    }
    checked
}

#[test]
fn check_says_that_nothing_is_wrong_and_starts_nothing() {
    let config = Config::new().handler("h", "echo-handler", "");
    let checked = check(&config);
    checked.assert_code(0);
    assert!(checked.stdout_text().contains("1 tenant, nothing is wrong: h"), "{checked:?}");
    assert_eq!(checked.stderr, "");
}

#[test]
fn check_says_everything_that_is_wrong_with_its_line() {
    let echo = artifacts::guest("echo");
    let config = Config::of(format!(
        "[host]\nworkerz = 1\n[[tenant]]\nname = \"a\"\ncomponent = \"none.wasm\"\nlisten = [\"x\"]\n\
         [[tenant]]\nname = \"a\"\ncomponent = {echo:?}\n"
    ));
    let checked = check(&config);
    checked.assert_code(2);
    for says in [
        ":2:1: `workerz` is unknown in [host]: is `workers` meant?",
        ":6:11: ",
        "another tenant has the name",
    ] {
        checked.assert_stderr(says);
    }
}

#[test]
fn check_looks_at_the_components() {
    let (handler, text) = (artifacts::guest("echo-handler"), artifacts::workspace().join("README.md"));
    let zeros = "0".repeat(64);
    let tenant = |name: &str, lines: &str| format!("[[tenant]]\nname = {name:?}\n{lines}\n");
    let config = Config::of(
        [
            tenant("none", "component = \"none.wasm\""),
            tenant("text", &format!("component = {text:?}")),
            tenant("nowhere", &format!("component = {handler:?}")),
            tenant(
                "changed",
                &format!("component = {handler:?}\nsha256 = {zeros:?}\nlisten = [\"127.0.0.1:0\"]"),
            ),
            tenant(
                "alone",
                &format!("component = {handler:?}\nlisten = [\"127.0.0.1:0\"]\nisolation = \"shared\""),
            ),
            tenant(
                "folder",
                &format!("component = {handler:?}\nlisten = [\"127.0.0.1:0\"]\ndirs = [\"none::/d\"]"),
            ),
        ]
        .concat(),
    )
    .tenant("fibers", "echo", "")
    .tenant("listens", "show", "listen = [\"127.0.0.1:0\"]");
    let checked = check(&config);
    checked.assert_code(2);
    for says in [
        "none.wasm: No such file",
        "is not WebAssembly",
        "there is no `listen`",
        "has another hash: ",
        "#[conet::handler(shared)]",
        "none is not a folder",
        "shared-instances = true",
        "write allow-listen in place of `listen`",
        "8 problems",
    ] {
        checked.assert_stderr(says);
    }
}

#[test]
fn a_file_that_is_not_there_is_told() {
    let gone = Config::new();
    std::fs::remove_file(gone.path()).expect("it was there");
    Launch::check(&gone).finish().assert_code(2).assert_stderr("cannot read");
    Launch::serve(&gone).finish().assert_code(2).assert_stderr("cannot read");
}
