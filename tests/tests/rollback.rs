//! A new version that fails gives way to the one before it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::exposition::Samples;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, artifacts, peer, process};

/// Lines of a handler that says which version it is, and traps on so many of 100 messages.
fn lines(version: usize, traps: u8, more: &str) -> String {
    format!("env = {{ VERSION = \"{version:04}\", TRAPS = \"{traps}\" }}\n{more}")
}

fn reload(host: &Host, config: &mut Config, to: Config) {
    let before = host.stderr().matches("\nreloaded ").count();
    config.replace(to);
    host.signal(Signal::HUP);
    host.wait_count("\nreloaded ", before + 1);
}

/// The version that answers a message, unless it traps.
fn ask(stream: &mut TcpStream, message: u8) -> Option<String> {
    let mut answer = [0; 4];
    stream.write_all(&[message]).ok()?;
    stream.read_exact(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// The same of a new connection, which may be reset, but not refused.
fn asked(addr: SocketAddr, message: u8) -> Option<String> {
    let connected = TcpStream::connect(addr);
    let refused = matches!(&connected, Err(error) if error.kind() == ErrorKind::ConnectionRefused);
    assert!(!refused, "{addr} refuses connections");
    let mut stream = connected.ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    ask(&mut stream, message)
}

fn metric(admin: &Socket, name: &str, tenant: &str) -> f64 {
    let text = admin.get("/metrics").assert(200).body.clone();
    Samples::read(&text).of(&format!("{name}{{tenant=\"{tenant}\"}}"))
}

/// Why a tenant's new version is not served, as the admin tells it.
fn rolled_back(admin: &Socket, tenant: &str) -> Option<String> {
    let told: serde_json::Value = serde_json::from_str(&admin.get("/tenants").body).expect("JSON");
    let tenants = told["tenants"].as_array().expect("a list");
    let tenant = tenants.iter().find(|one| one["name"] == tenant).expect("it is there");
    tenant["rolled_back"].as_str().map(str::to_owned)
}

/// New connections all the time, with a message each. Not one may be refused.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(addr: SocketAddr) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let one = |_| {
            let (stop, sent) = (stop.clone(), sent.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    asked(addr, (number % 100) as u8);
                }
            })
        };
        let threads = (0..4).map(one).collect();
        Self { stop, sent, threads }
    }

    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no connection is refused"));
        self.sent.load(Ordering::Relaxed)
    }
}

/// Under load, on the same workers and on others: who comes afterwards is served, who has been there has noticed nothing.
#[test]
fn a_version_that_traps_gives_way_to_the_one_before() {
    for workers in [2, 1] {
        let admin = Socket::new();
        let file = |version: usize, traps: u8, workers: usize| {
            Config::host(&format!("workers = {workers}\n{}", admin.line()))
                .with("[defaults.limits]\naccept-rate = \"off\"\ndrain = \"1h\"\ntenant-memory = \"1GiB\"")
                .handler("v", "traps", &lines(version, traps, ""))
                .handler("other", "echo-handler", "")
        };
        let mut config = file(1, 0, 2);
        let host = Launch::serve(&config).flag("-vv").start();
        let addr = host.addr_of("v");
        let mut held: Vec<_> = (0..50).map(|_| peer::connect(addr)).collect();
        assert!(held.iter_mut().all(|one| ask(one, 0).as_deref() == Some("0001")));
        let mut other = host.connect_to("other");
        peer::round_trip(&mut other, b"before");
        let load = Load::start(addr);
        reload(&host, &mut config, file(2, 50, workers));
        let line = host.wait_line("rolled back to the version before");
        assert!(line.contains("ERROR") && line.contains("connections trapped"), "{line}");
        let sent = load.stop();
        // The one that failed is gone: what it had accepted has ended.
        host.wait_line("counters:");
        for message in 0..100 {
            assert_eq!(asked(addr, message).as_deref(), Some("0001"), "after {sent} connections");
        }
        assert!(held.iter_mut().all(|one| ask(one, 0).as_deref() == Some("0001")), "those from before");
        peer::round_trip(&mut other, b"not concerned");
        assert_eq!(metric(&admin, "conet_tenant_rollbacks_total", "v"), 1.0);
        assert_eq!(metric(&admin, "conet_tenant_rollbacks_total", "other"), 0.0);
        let why = rolled_back(&admin, "v").expect("it is told");
        assert!(why.ends_with("connections trapped"), "{why}");
        assert_eq!(rolled_back(&admin, "other"), None);
        let table = Command::new(artifacts::host()).arg("tenants").arg("--socket").arg(admin.path()).output();
        let table = String::from_utf8(table.expect("it runs").stdout).expect("text");
        assert!(table.contains(&format!("running (rolled back: {why})")), "{table}");
        drop((held, other));
        host.stop();
    }
}

#[test]
fn what_was_rolled_back_is_held_back_until_it_is_another_or_is_tried_again() {
    let admin = Socket::new();
    let file = |version: usize, traps: u8| {
        Config::host(&admin.line()).handler("v", "traps", &lines(version, traps, ""))
    };
    let trap = |host: &Host, times: usize| {
        let addr = host.addr_of("v");
        while host.stderr().matches("rolled back to the version before").count() < times {
            asked(addr, 0);
        }
        while asked(addr, 0).as_deref() != Some("0001") {}
    };
    let mut config = file(1, 0);
    let host = Launch::serve(&config).start();
    let addr = host.addr_of("v");
    reload(&host, &mut config, file(2, 100));
    trap(&host, 1);
    // The same file again.
    reload(&host, &mut config, file(2, 100));
    host.wait_line("0 added, 0 changed, 0 removed, 1 as they were; v is held back on the version before");
    while asked(addr, 0).as_deref() != Some("0001") {}
    // What else a reload brings comes.
    reload(&host, &mut config, file(2, 100).handler("more", "echo-handler", ""));
    peer::echo_exact(host.connect_to("more"), 1000);
    while asked(addr, 0).as_deref() != Some("0001") {}
    let again =
        Command::new(artifacts::host()).args(["reload", "--retry", "--socket"]).arg(admin.path()).output();
    let again = String::from_utf8(again.expect("it runs").stdout).expect("text");
    assert!(again.contains("1 changed") && !again.contains("held back"), "{again}");
    trap(&host, 2);
    assert_eq!(metric(&admin, "conet_tenant_rollbacks_total", "v"), 2.0);
    admin.post("/reload").assert(200);
    while asked(addr, 0).as_deref() != Some("0001") {}
    // Another version is another matter.
    reload(&host, &mut config, file(3, 0));
    while asked(addr, 0).as_deref() != Some("0003") {}
    admin.wait("/tenants", |_| rolled_back(&admin, "v").is_none());
    // And so is the first failure, once something else has been served.
    reload(&host, &mut config, file(2, 100));
    while host.stderr().matches("rolled back to the version before").count() < 3 {
        asked(addr, 0);
    }
    host.stop();
}

/// Few traps are no reason.
#[test]
fn a_version_that_traps_rarely_stays() {
    let admin = Socket::new();
    let file = |version: usize, traps: u8| {
        let rule = "rollback = { traps = \"5%\", within = \"1h\" }";
        Config::host(&admin.line()).handler("v", "traps", &lines(version, traps, rule))
    };
    let mut config = file(1, 0);
    let host = Launch::serve(&config).start();
    let addr = host.addr_of("v");
    reload(&host, &mut config, file(2, 1));
    while asked(addr, 99).as_deref() != Some("0002") {}
    let trapped = (0..300).filter(|number| asked(addr, (number % 100) as u8).is_none()).count();
    assert_eq!(trapped, 3);
    admin.wait("/metrics", |told| Samples::read(&told.body).of("conet_traps_total{tenant=\"v\"}") == 3.0);
    assert_eq!(asked(addr, 99).as_deref(), Some("0002"));
    assert!(!host.stderr().contains("rolled back"));
    // It is looked at all the time: in the end they are too many.
    while !host.stderr().contains("rolled back to the version before") {
        asked(addr, 0);
        // No streak that would open the circuit.
        asked(addr, 99);
    }
    host.stop();
}

/// One whose circuit opens has nobody to serve any more, so it is not waited for more connections.
#[test]
fn an_open_circuit_is_enough() {
    for (host_lines, good, bad, more) in [
        ("", "echo-handler", "panic", ""),
        ("shared-instances = true", "echo_shared", "panic_shared", "isolation = \"shared\""),
    ] {
        let file = |guest: &str| {
            let lines = format!("{more}\nrollback = {{ of = 1000, within = \"1h\" }}");
            Config::host(host_lines).handler("v", guest, &lines)
        };
        let mut config = file(good);
        let host = Launch::serve(&config).start();
        let addr = host.addr_of("v");
        peer::echo_exact(peer::connect(addr), 1000);
        reload(&host, &mut config, file(bad));
        while !host.stderr().contains("rolled back to the version before") {
            // The version before echoes it, while there are both.
            let Ok(mut stream) = TcpStream::connect(addr) else { continue };
            let _ = stream.write_all(b"!");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
        host.stop();
    }
}

/// Of two that fail alike, one is let be.
#[test]
fn it_can_be_off() {
    let admin = Socket::new();
    let with = |version: usize, traps: u8, on: &str| {
        let off = "rollback = \"off\"\n[tenant.limits]\ncircuit-traps = \"off\"";
        Config::host(&admin.line()).handler("off", "traps", &lines(version, traps, off)).handler(
            "on",
            "traps",
            &lines(version, traps, on),
        )
    };
    let file = |version: usize, traps: u8| with(version, traps, "");
    let mut config = file(1, 0);
    let host = Launch::serve(&config).start();
    let (off, on) = (host.addr_of("off"), host.addr_of("on"));
    reload(&host, &mut config, file(2, 50));
    while metric(&admin, "conet_traps_total", "off") < 40.0 {
        asked(off, 0);
    }
    while !host.stderr().contains("rolled back to the version before") {
        asked(on, 0);
    }
    while asked(on, 99).as_deref() != Some("0001") {}
    assert_eq!(asked(off, 99).as_deref(), Some("0002"));
    assert_eq!(metric(&admin, "conet_tenant_rollbacks_total", "off"), 0.0);
    // Nor is anything held back then.
    reload(&host, &mut config, with(2, 50, "rollback = \"off\""));
    while asked(on, 99).as_deref() != Some("0002") {}
    admin.wait("/tenants", |_| rolled_back(&admin, "on").is_none());
    host.stop();
}

/// A program that ends at once never accepts: all who connect meanwhile wait, and are served by the version before.
#[test]
fn a_program_that_ends_at_once_gives_way_and_nobody_notices() {
    let port = process::free_port();
    let file = |guest: &str, first: &str| {
        let lines = format!("args = [{first:?}]\nallow-listen = [\"127.0.0.1:*\"]");
        Config::host("shared-instances = true").tenant("p", guest, &lines)
    };
    let mut config = file("echo", &format!("127.0.0.1:{port}"));
    let host = Launch::serve(&config).start();
    let addr = host.addr_of("p");
    let mut held = peer::connect(addr);
    peer::round_trip(&mut held, b"to the first");
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = stop.clone();
    let load = thread::spawn(move || {
        let mut served = 0;
        while !stopping.load(Ordering::Relaxed) {
            peer::round_trip(&mut peer::connect(addr), b"a short connection");
            served += 1;
        }
        served
    });
    for (time, ends) in ["7", "panic", "ok"].into_iter().enumerate() {
        reload(&host, &mut config, file("ending", ends));
        host.wait_count("rolled back to the version before: it was started again 3 times", time + 1);
        peer::round_trip(&mut held, b"still to the first");
        peer::round_trip(&mut peer::connect(addr), b"after it");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(load.join().expect("no connection fails") > 0);
    drop(held);
    host.stop();
}

/// The first version has none before it, and one that fails is none to come back.
#[test]
fn without_a_version_that_did_better_that_is_told_once() {
    let file = |version: usize| {
        let lines = lines(version, 100, "[tenant.limits]\ncircuit-traps = \"off\"");
        Config::new().handler("v", "traps", &lines)
    };
    let mut config = file(1);
    let host = Launch::serve(&config).start();
    let addr = host.addr_of("v");
    for version in 1..=2 {
        let told = || host.stderr().matches("no version before this one that did better").count();
        while told() < version {
            asked(addr, 0);
        }
        (0..30).for_each(|_| drop(asked(addr, 0)));
        if version == 1 {
            reload(&host, &mut config, file(2));
        }
    }
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    assert_eq!(exit.stderr.matches("no version before this one that did better").count(), 2);
    assert!(!exit.stderr.contains("rolled back"));
}

/// The version before listens where it did, and the new one no more.
#[test]
fn listeners_come_back_as_well() {
    let one = process::free_port();
    let taken = TcpListener::bind(("127.0.0.1", one)).expect("it is free");
    let two = process::free_port();
    drop(taken);
    let file = |port: u16, version: usize, traps: u8| {
        let listen = format!("listen = [\"127.0.0.1:{port}\"]\n{}", lines(version, traps, ""));
        Config::new().tenant("v", "traps", &listen)
    };
    let mut config = file(one, 1, 0);
    let host = Launch::serve(&config).start();
    let first = host.addr_of("v");
    assert_eq!(asked(first, 0).as_deref(), Some("0001"));
    reload(&host, &mut config, file(two, 2, 100));
    let second = SocketAddr::from(([127, 0, 0, 1], two));
    while !host.stderr().contains("rolled back to the version before") {
        assert!(!host.stderr().contains("cannot come back"), "{host:?}");
        let Ok(mut stream) = TcpStream::connect(second) else { continue };
        ask(&mut stream, 0);
    }
    host.wait_count("listening on", 3);
    assert_eq!(asked(first, 0).as_deref(), Some("0001"));
    while TcpStream::connect(second).is_ok() {}
    host.stop();
}

/// Another tenant has it now, and keeps it.
#[test]
fn a_version_whose_address_is_taken_cannot_come_back() {
    let address = format!("127.0.0.1:{}", process::free_port());
    let file = |first: &str, lines: &str| {
        Config::new().tenant("v", "traps", &format!("listen = [{first:?}]\n{lines}"))
    };
    let mut config = file(&address, &lines(1, 0, ""));
    let host = Launch::serve(&config).start();
    assert_eq!(asked(host.addr_of("v"), 0).as_deref(), Some("0001"));
    let second = file("127.0.0.1:0", &lines(2, 50, "[tenant.limits]\ncircuit-traps = \"off\""));
    let other = format!("listen = [{address:?}]");
    reload(&host, &mut config, second.tenant("other", "echo-handler", &other));
    let of_v = |line: &&str| line.ends_with(" for v") && !line.contains(&address);
    let stderr = host.stderr();
    let second = stderr.lines().find(of_v).and_then(|line| line.split(' ').nth(2)).expect("it listens");
    let second: SocketAddr = second.parse().expect("an address");
    let told = "the version before cannot come back, so this one serves on: cannot listen on";
    while !host.stderr().contains(told) {
        asked(second, 0);
    }
    assert_eq!(asked(second, 99).as_deref(), Some("0002"));
    assert!(!host.stderr().contains("rolled back"));
    // What waits for the version before is the other tenant's, too.
    let (address, mut answer) = (address.parse().expect("an address"), [0; 4]);
    while answer != *b"echo" {
        let mut stream = peer::connect(address);
        stream.write_all(b"echo").and_then(|()| stream.read_exact(&mut answer)).expect("either answers");
    }
    host.stop();
}

#[test]
fn a_wrong_rule_is_refused_and_told() {
    for (rule, told) in [
        ("\"on\"", "write a table"),
        ("{ traps = \"200%\" }", "write a share"),
        ("{ traps = 10 }", "write a share"),
        ("{ of = 0 }", "write a whole number from 1"),
        ("{ within = \"0s\" }", "`0s` is zero"),
        ("{ trap = \"10%\" }", "is `traps` meant?"),
    ] {
        let config = Config::new().handler("v", "traps", &format!("rollback = {rule}"));
        Launch::check(&config).finish().assert_code(2).assert_stderr(told);
    }
}

/// One trap takes all of the connections that share its instance.
#[test]
fn connections_that_trap_together_count_each() {
    let file = |guest: &str| {
        let lines =
            "isolation = \"shared\"\n[tenant.limits]\ncircuit-traps = \"off\"\nconnections-per-ip = \"off\"";
        Config::host("shared-instances = true\nworkers = 1").handler("v", guest, lines)
    };
    let mut config = file("echo_shared");
    let host = Launch::serve(&config).start();
    peer::echo_exact(host.connect_to("v"), 1000);
    reload(&host, &mut config, file("panic_shared"));
    let mut all: Vec<_> = (0..100).map(|_| host.connect_to("v")).collect();
    for one in &mut all {
        peer::round_trip(one, b"message");
    }
    // Those of the version before, if there are any, are echoed.
    let trapped = all.iter_mut().any(|one| {
        let sent = one.write_all(b"!").and_then(|()| one.read_exact(&mut [0]));
        sent.is_err()
    });
    assert!(trapped, "{host:?}");
    host.wait_line("rolled back to the version before");
    drop(all);
    host.stop();
}
