//! Compiling strangers' components: in a child, within limits, and nothing to the tenants that run.

use std::fs;
use std::path::{Path, PathBuf};

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::host::{Exit, Host, Launch};
use conet_tests::process::{Process, Signal};
use conet_tests::{PATIENCE, artifacts, bombs, long, peer, turn};

/// A tenant that runs the component.
fn with(config: Config, component: &Path, limits: &str) -> Config {
    let tenant = format!("[[tenant]]\nname = \"bomb\"\ncomponent = {component:?}\nrestart = \"never\"");
    config.with(&format!("{tenant}\n[tenant.limits]\n{limits}"))
}

/// An echo, which goes on whatever else the file comes to say. Nothing is kept of what is compiled.
fn echo() -> Config {
    echo_of("")
}

/// With more lines of `[host]`.
fn echo_of(lines: &str) -> Config {
    Config::of(format!("[host]\ncache = \"off\"\n{lines}\n")).handler("echo", "echo-handler", "")
}

/// The same beside a program, in whose place another is compiled, and nothing else.
fn echo_and_program() -> Config {
    with(echo(), &artifacts::text_component("run_ok"), "")
}

/// Starts with a component that is refused; gives the line that says why.
#[track_caller]
fn refused(component: &Path, limits: &str) -> String {
    let exit: Exit =
        Launch::serve(&with(Config::of("[host]\ncache = \"off\"\n"), component, limits)).finish();
    let line = exit.assert_code(4).one_line();
    assert!(line.contains(".toml:5:13: ") && line.contains(component.to_str().expect("ASCII")), "{line}");
    line.to_owned()
}

#[test]
fn cpu_time_of_compiling_has_a_limit() {
    let _turn = turn();
    let line = refused(&bombs::live_locals(12_000), "compile-cpu = \"1s\"");
    assert!(line.contains("more than 1s of CPU time") && line.contains("`compile-cpu` raises"), "{line}");
}

#[test]
fn memory_of_compiling_has_a_limit() {
    let _turn = turn();
    let limits = "compile-memory = \"96MiB\"\ncompile-cpu = \"10m\"";
    let line = refused(&bombs::tiny_functions(200_000), limits);
    assert!(line.contains("more than 100663296 bytes of memory"), "{line}");
    assert!(line.contains("`compile-memory` raises"), "{line}");
}

#[test]
fn compiling_has_a_limit_by_the_clock() {
    let _turn = turn();
    let line = refused(&bombs::live_locals(12_000), "compile-cpu = \"10m\"\ncompile-time = \"500ms\"");
    assert!(line.contains("longer than 500ms") && line.contains("`compile-time` raises"), "{line}");
}

#[test]
fn a_component_has_so_many_bytes() {
    let line = refused(&bombs::padded(10 << 20), "");
    assert!(line.contains("more than 10485760") && line.contains("`component-size` raises"), "{line}");
    let line = refused(&bombs::padded(2000), "component-size = \"1KiB\"");
    assert!(line.contains("more than 1024,"), "{line}");
}

#[test]
fn a_component_makes_so_many_instances_of_itself() {
    let bomb = artifacts::text_component("outer_alias_bomb");
    let line = refused(&bomb, "");
    assert!(line.contains("more than 256,") && line.contains("`nested-instances` raises"), "{line}");
    let line = refused(&bomb, "nested-instances = 300");
    assert!(line.contains("more than 300,"), "{line}");
}

/// Tenants share what is compiled, so what one of them may use is there for the others.
#[test]
fn the_greatest_limit_of_those_with_one_component_holds() {
    let few = "[tenant.limits]\ncompile-time = \"1ms\"";
    let both = |more: &str| {
        let config = Config::of("[host]\ncache = \"off\"\n").handler("few", "echo-handler", few);
        config.handler("more", "echo-handler", more)
    };
    Launch::serve(&both(few)).finish().assert_code(4).assert_stderr("longer than 1ms");
    let host = Launch::serve(&both("")).start();
    peer::echo_exact(host.connect_to("few"), 1000);
    host.stop();
}

/// While it is compiled, a tenant answers every message; then the file is refused, and nothing is left of it.
#[test]
fn a_compile_bomb_costs_running_tenants_nothing() {
    let _turn = turn();
    let mut config = echo_and_program();
    let host = Launch::serve(&config).start();
    let mut held = host.connect_to("echo");
    peer::round_trip(&mut held, b"before");
    let bomb = bombs::live_locals(12_000);
    config.replace(with(echo(), &bomb, "compile-cpu = \"2s\""));
    host.signal(Signal::HUP);
    let child = compiling(&host);
    let mut meanwhile = 0;
    while !child.ended() {
        peer::round_trip(&mut held, b"while it is compiled");
        peer::echo_exact(host.connect_to("echo"), 1000);
        meanwhile += 1;
    }
    assert!(meanwhile > 0, "it took no time to compile");
    host.wait_line("more than 2s of CPU time");
    host.wait_line("all goes on as it was");
    peer::round_trip(&mut held, b"after");
    peer::echo_exact(host.connect_to("echo"), 1000);
    assert_eq!(host.process().compilers().len(), 0, "it is reaped");
    drop(held);
    host.stop();
}

/// What becomes of a child is told in words, and is nothing to the host.
#[test]
fn a_child_that_is_killed_is_an_error_in_words() {
    let _turn = turn();
    let mut config = echo_and_program();
    let host = Launch::serve(&config).start();
    host.addr_of("echo");
    config.replace(with(echo(), &endless(), "compile-cpu = \"10m\""));
    host.signal(Signal::HUP);
    compiling(&host).signal_if_there(Signal::KILL);
    host.wait_line("the process that compiles it ended by signal 9");
    host.wait_line("all goes on as it was");

    // One that hangs is ended at its time.
    config.replace(with(echo(), &endless(), "compile-cpu = \"10m\"\ncompile-time = \"2s\""));
    host.signal(Signal::HUP);
    compiling(&host).signal_if_there(Signal::STOP);
    host.wait_line("compiling it takes longer than 2s");
    assert_eq!(host.process().compilers().len(), 0, "it is reaped");
    peer::echo_exact(host.connect_to("echo"), 1000);
    host.stop();
}

/// What a child has, and has not.
#[test]
fn a_child_is_confined() {
    let _turn = turn();
    // Behind Landlock root's children cannot say that they are the first to go.
    let echo = || echo_of(if rustix::process::geteuid().is_root() { "landlock = false" } else { "" });
    let mut config = with(echo(), &artifacts::text_component("run_ok"), "");
    let host = Launch::serve(&config).process_env("SECRET", "s3cret").start();
    host.addr_of("echo");
    config.replace(with(echo(), &endless(), "compile-cpu = \"10m\""));
    host.signal(Signal::HUP);
    let child = compiling(&host);
    let proc = |name: &str| child.proc_file(name).unwrap_or_else(|| panic!("{name} of a child that lives"));
    // Each is in force before the component is read: when it computes, they all are.
    while child.cpu().is_zero() {}
    let limits = proc("limits");
    for (limit, soft, hard) in [
        ("Max cpu time", "600", "601"),
        ("Max file size", "0", "0"),
        ("Max data size", "1073741824", "1073741824"),
        ("Max address space", "2147483648", "2147483648"),
        ("Max core file size", "0", "0"),
    ] {
        let line = limits.lines().find(|line| line.starts_with(limit)).expect("the system knows it");
        let numbers: Vec<&str> = line[limit.len()..].split_whitespace().take(2).collect();
        assert_eq!(numbers, [soft, hard], "{limit}");
    }
    let stat = proc("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    let id = child.id().to_string();
    assert_eq!(fields[2], id, "a group of its own");
    assert_ne!(fields[3], id, "and no session");
    assert_eq!(fields[16], "19", "what others leave of the processors");
    assert_eq!(proc("oom_score_adj").trim(), "1000");
    // What is not dumpable is root's to read.
    if rustix::process::geteuid().is_root() {
        let environment = proc("environ");
        assert!(!environment.contains("SECRET") && !environment.contains("PATH"), "{environment:?}");
        let descriptors = fs::read_dir(format!("/proc/{id}/fd")).expect("it lives");
        let mut descriptors: Vec<_> = descriptors.flatten().map(|entry| entry.file_name()).collect();
        descriptors.sort();
        assert_eq!(descriptors, ["0", "1", "2"]);
    }
    assert!(host.process().compilers().len() == 1);
    // Two filters are its host's; two more leave it computing, and its streams.
    for (key, expected) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Seccomp_filters", "4")] {
        let threads = child.of_threads(key);
        assert!(threads.iter().all(|(_, value)| value == expected), "{key}: {threads:?}");
    }
}

/// Nobody has to wait for a compiler: not a signal, not a command, and not who wants the file read again.
#[test]
fn the_host_does_as_it_is_told_while_it_compiles() {
    let _turn = turn();
    let admin = Socket::new();
    let file = || {
        let host = format!("[host]\ncache = \"off\"\n{}\n", admin.line());
        Config::of(host).handler("echo", "echo-handler", "").handler("other", "echo-handler", "")
    };
    let with = |component: &Path, limits: &str| with(file(), component, limits);
    let good = artifacts::text_component("run_ok");
    let mut config = with(&good, "");
    let host = Launch::serve(&config).start();
    host.addr_of("other");
    config.replace(with(&endless(), "compile-cpu = \"10m\""));
    host.signal(Signal::HUP);
    let child = compiling(&host);
    assert_eq!(admin.post("/tenants/other/drain").status, 200);
    assert_eq!(admin.get("/healthz").status, 200);
    assert!(!child.ended(), "it compiles still");

    // Asked for meanwhile, it is read once more: both times it is refused.
    host.signal(Signal::HUP);
    child.signal_if_there(Signal::KILL);
    host.wait_count("ended by signal 9", 1);
    compiling(&host).signal_if_there(Signal::KILL);
    host.wait_count("all goes on as it was", 2);
    let metrics = admin.get("/metrics").body;
    for counted in [
        "conet_reloads_refused_total 2",
        "conet_components_refused_total 2",
        "conet_reloads_total 0",
        // The echo and the program.
        "conet_components_compiled_total 2",
    ] {
        assert!(metrics.contains(&format!("\n{counted}\n")), "{counted}: {metrics}");
    }

    host.signal(Signal::HUP);
    let child = compiling(&host);
    host.signal(Signal::TERM);
    host.wait_exit().assert_code(0);
    wait_until("the child ends", || child.ended());
}

/// A hundred times something that was a component: each is right, or refused in a line.
#[test]
fn damaged_components_are_right_or_refused_in_a_line() {
    let _turn = turn();
    let whole = fs::read(artifacts::guest("ending")).expect("cargo built it");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below
    };
    let (mut right, mut wrong) = (0, 0);
    for round in 0..if long() { 20 } else { 2 } {
        let mut config = Config::of("[host]\ncache = \"off\"\nshared-instances = true\n");
        for number in 0..DAMAGED {
            let mut bytes = whole.clone();
            match number % 4 {
                // Cut off, a byte changed, some changed, a piece of it somewhere else in it.
                0 => bytes.truncate(next(whole.len())),
                1 => bytes[next(whole.len())] ^= 1 << next(8),
                2 => (0..next(20)).for_each(|_| bytes[next(whole.len())] = next(256) as u8),
                _ => {
                    let (from, to, length) = (next(whole.len()), next(whole.len()), next(200));
                    let piece = whole[from..(from + length).min(whole.len())].to_vec();
                    bytes.splice(to..to, piece);
                }
            }
            let path = folder.path().join(format!("{round}-{number}.wasm"));
            fs::write(&path, bytes).expect("the folder is ours");
            config = config.with(&format!("[[tenant]]\nname = \"t{number}\"\ncomponent = {path:?}"));
        }
        let exit = Launch::check(&config).start().wait_exit_within(PATIENCE * 10);
        assert!([0, 2, 4].contains(&exit.code()), "{exit:?}");
        assert!(!exit.stderr.contains("panicked"), "{exit:?}");
        let lines: Vec<&str> = exit.stderr.lines().collect();
        let (count, problems) = lines.split_last().expect("not all of them are right");
        assert_eq!(*count, format!("{} problems", problems.len()));
        for line in problems {
            assert!(line.contains(".wasm: ") && line.len() < 1000, "{line}");
        }
        wrong += problems.len();
        right += DAMAGED - problems.len();
    }
    assert!(right > 0 && wrong > right, "{right} are right, {wrong} are refused");
}

/// What is in the cache and is not what conet put there is compiled again.
#[test]
fn damaged_entries_of_the_cache_are_counted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    let admin = Socket::new();
    let config = Config::of(format!("[host]\ncache = {cache:?}\n{}\n", admin.line()));
    let config = config.handler("echo", "echo-handler", "");
    // What is found in the cache, and what is compiled.
    for (damaged, compiled) in [(0, 1), (0, 0), (1, 1)] {
        let host = Launch::serve(&config).start();
        peer::echo_exact(host.connect_to("echo"), 1000);
        let metrics = admin.get("/metrics").body;
        for counted in [
            format!("conet_cache_entries_damaged_total {damaged}"),
            format!("conet_components_compiled_total {compiled}"),
        ] {
            assert!(metrics.contains(&format!("\n{counted}\n")), "{counted}: {metrics}");
        }
        host.stop();
        if compiled == 0 {
            let files = fs::read_dir(&cache).expect("the host made it").flatten().map(|file| file.path());
            let entry = files.max_by_key(|path| fs::metadata(path).map_or(0, |file| file.len()));
            let entry = entry.expect("one was written");
            let mut bytes = fs::read(&entry).expect("it is ours");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&entry, bytes).expect("it is ours");
        }
    }
}

#[test]
fn no_child_outlives_its_host() {
    let _turn = turn();
    let config = with(echo(), &endless(), "compile-cpu = \"10m\"");
    for signal in [Signal::KILL, Signal::TERM] {
        let host = Launch::serve(&config).start();
        let child = compiling(&host);
        host.signal(signal);
        host.process().wait_end(PATIENCE);
        wait_until("the child ends", || child.ended());
    }
}

/// However many components there are, one is compiled at a time.
#[test]
fn many_components_are_compiled_one_after_the_other() {
    let _turn = turn();
    let whole = fs::read(artifacts::guest("echo-handler")).expect("cargo built it");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut config = Config::of("[host]\ncache = \"off\"\n");
    for number in 0..MANY {
        // A custom section of their own makes them different.
        let name = format!("t{number:02}");
        let section = [&[0, name.len() as u8 + 1, name.len() as u8], name.as_bytes()].concat();
        let path = folder.path().join(format!("{name}.wasm"));
        fs::write(&path, [&whole[..], &section].concat()).expect("the folder is ours");
        config = config
            .with(&format!("[[tenant]]\nname = {name:?}\ncomponent = {path:?}\nlisten = [\"127.0.0.1:0\"]"));
    }
    let host = Launch::serve(&config).start();
    let mut most = 0;
    while !host.stderr().contains(&format!("for t{:02}", MANY - 1)) {
        most = most.max(host.process().compilers().len());
        assert!(!host.process().ended(), "{host:?}");
    }
    assert_eq!(most, 1, "children at once");
    for number in [0, MANY - 1] {
        peer::echo_exact(host.connect_to(&format!("t{number:02}")), 1000);
    }
    host.stop();
}

/// The child that compiles for this host, once there is one.
fn compiling(host: &Host) -> Process {
    let mut child = None;
    wait_until("a child compiles", || {
        child = host.process().compilers().pop();
        assert!(!host.process().ended(), "{host:?}");
        // Before it is the program that it shall be, its host waits for it.
        child.and_then(|child| child.proc_file("cmdline")).is_some_and(|line| line.contains("compile-child"))
    });
    child.expect("waited for")
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited for this in vain: {what}");
        std::thread::yield_now();
    }
}

/// What takes minutes of CPU time to compile.
fn endless() -> PathBuf {
    bombs::live_locals(24_000)
}

/// Components damaged at a time.
const DAMAGED: usize = 100;
/// Different components in one file.
const MANY: usize = 50;
