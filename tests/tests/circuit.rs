//! A handler that traps on every connection: the others are refused, until one that is let through is served.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::exposition::Samples;
use conet_tests::host::{Host, Launch};
use conet_tests::{long, peer};

/// A host with its admin and a handler that traps if it is told to.
fn serve(admin: &Socket, host: &str, guest: &str, lines: &str) -> Host {
    let config = Config::host(&format!("{}\n{host}", admin.line())).handler("h", guest, lines);
    let host = Launch::serve(&config).flag("-vv").start();
    host.addr_of("h");
    admin.wait("/readyz", |response| response.status == 200);
    host
}

/// One connection that traps.
fn trap(addr: SocketAddr) {
    let mut stream = peer::connect(addr);
    stream.write_all(b"!").expect("it is accepted");
    peer::expect_reset(&mut stream);
}

/// Whether a connection is served; else it is refused.
fn is_served(addr: SocketAddr) -> bool {
    let Ok(mut stream) = std::net::TcpStream::connect(addr) else { return false };
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

fn metric(admin: &Socket, name: &str) -> f64 {
    let text = admin.get("/metrics").assert(200).body.clone();
    Samples::read(&text).of(&format!("{name}{{tenant=\"h\"}}"))
}

fn state(admin: &Socket) -> String {
    let tenants: serde_json::Value = serde_json::from_str(&admin.get("/tenants").body).expect("JSON");
    tenants["tenants"][0]["state"].as_str().expect("a string").to_owned()
}

#[test]
fn traps_in_a_row_open_it_and_one_that_is_served_closes_it() {
    for (host_lines, guest, lines) in
        [("", "panic", ""), ("shared-instances = true", "panic_shared", "isolation = \"shared\"")]
    {
        let admin = Socket::new();
        let host = serve(&admin, &format!("workers = 2\n{host_lines}"), guest, lines);
        let addr = host.addr_of("h");
        assert_eq!((state(&admin).as_str(), metric(&admin, "conet_circuit_open")), ("running", 0.0));
        for _ in 0..5 {
            trap(addr);
        }
        host.wait_line("the last 5 connections trapped: refusing more, and letting one through in 1s");
        assert_eq!((state(&admin).as_str(), metric(&admin, "conet_circuit_open")), ("circuit-open", 1.0));
        assert_eq!(metric(&admin, "conet_traps_total"), 5.0);
        // The one that is let through traps, too.
        while metric(&admin, "conet_traps_total") < 6.0 {
            if let Ok(mut stream) = std::net::TcpStream::connect(addr) {
                let _ = stream.write_all(b"!").and_then(|()| stream.read_exact(&mut [0; 2]));
            }
        }
        host.wait_line("the connection that was let through trapped: letting the next one through in 2s");
        assert!(metric(&admin, "conet_circuit_refused_total") > 0.0);
        while !is_served(addr) {}
        host.wait_line("the connection that was let through did not trap: serving them again");
        assert_eq!((state(&admin).as_str(), metric(&admin, "conet_circuit_open")), ("running", 0.0));
        peer::round_trip(&mut host.connect_to("h"), b"served");
        assert_eq!(host.stderr().matches("refusing more").count(), 1, "a line for each change");
        host.stop();
    }
}

/// Every second connection traps: each success begins the count anew.
#[test]
fn a_handler_that_traps_sometimes_is_not_cut_off() {
    let admin = Socket::new();
    let host = serve(&admin, "", "panic", "");
    for _ in 0..20 {
        trap(host.addr_of("h"));
        let mut stream = host.connect_to("h");
        peer::round_trip(&mut stream, b"served");
        drop(stream);
        // Its end is what counts.
        admin.wait("/tenants", |response| response.body.contains("\"coroutines\":{\"used\":0,"));
    }
    assert_eq!(metric(&admin, "conet_circuit_refused_total"), 0.0);
    host.stop();
}

#[test]
fn it_can_be_off_or_later() {
    let admin = Socket::new();
    let host = serve(&admin, "", "panic", "[tenant.limits]\ncircuit-traps = \"off\"");
    for _ in 0..20 {
        trap(host.addr_of("h"));
    }
    assert_eq!(state(&admin), "running");
    host.stop();
    let admin = Socket::new();
    let host = serve(&admin, "", "panic", "[tenant.limits]\ncircuit-traps = 7\ncircuit-window = \"1h\"");
    for _ in 0..7 {
        trap(host.addr_of("h"));
    }
    host.wait_line("the last 7 connections trapped");
    host.stop();
}

/// Another tenant is served all the while, and a new version begins anew.
#[test]
fn it_is_one_version_s_of_one_tenant() {
    let admin = Socket::new();
    let lines = |limit: usize| format!("[tenant.limits]\nconnections = {limit}");
    let listen = conet_tests::process::free_port();
    let config = |limit| {
        Config::host(&admin.line())
            .tenant("h", "panic", &format!("listen = [\"127.0.0.1:{listen}\"]\n{}", lines(limit)))
            .handler("other", "echo-handler", "")
    };
    let mut file = config(100);
    let host = Launch::serve(&file).start();
    let mut other = host.connect_to("other");
    for _ in 0..5 {
        trap(host.addr_of("h"));
    }
    host.wait_line("refusing more");
    peer::round_trip(&mut other, b"served");
    peer::round_trip(&mut host.connect_to("other"), b"served");
    file.replace(config(101));
    admin.post("/reload").assert(200);
    peer::round_trip(&mut host.connect_to("h"), b"served anew");
    drop(other);
    host.stop();
}

/// An instance that cannot be made: of a shared handler, that is before it has served anybody.
#[test]
fn a_shared_handler_whose_instance_cannot_be_made_is_tried_again_ever_later() {
    for circuit in ["5", "\"off\""] {
        let admin = Socket::new();
        let lines = format!(
            "isolation = \"shared\"\n[tenant.limits]\nshared-memory = \"64KiB\"\ncircuit-traps = {circuit}\nrestarts = 2"
        );
        let host = serve(&admin, "shared-instances = true\nworkers = 1", "echo_shared", &lines);
        match circuit {
            "5" => {
                host.wait_line("refusing more, and letting one through in 1s");
                peer::expect_reset_of_new(host.addr_of("h"));
                host.wait_line("letting the next one through in 2s");
                assert_eq!(state(&admin), "circuit-open");
            }
            _ => {
                host.wait_line("cannot accept connections, trying again in 0ns");
                host.wait_line("cannot accept connections, trying again in 1s");
                host.wait_line("cannot accept connections, trying again in 2s");
                // It is logged first, and then shown.
                admin.wait("/tenants", |_| state(&admin) == "failed");
            }
        }
        host.stop();
    }
}

/// Two at once, the third waits.
#[test]
fn a_program_has_as_many_restarts_as_it_may() {
    let lines = "args = [\"3\"]\n[tenant.limits]\nrestarts = 2\nrestart-window = \"1h\"";
    let host =
        Launch::serve(&Config::host("shared-instances = true").tenant("p", "exit_code", lines)).start();
    host.wait_line("starting it again in 1s");
    assert_eq!(host.stderr().matches(": starting it again tenant").count(), 2, "{}", host.stderr());
    host.stop();
}

/// What a refused connection costs, and that the log stays within bounds however many trap: A10 and I8.
#[test]
fn a_storm_of_traps_is_cheap() {
    if !long() {
        return;
    }
    let admin = Socket::new();
    let host = serve(
        &admin,
        "workers = 1",
        "panic",
        "[tenant.limits]\naccept-rate = \"off\"\nconnections-per-ip = \"off\"",
    );
    let addr = host.addr_of("h");
    (0..5).for_each(|_| trap(addr));
    host.wait_line("refusing more");
    let (cpu, refused) = (host.process().cpu(), metric(&admin, "conet_circuit_refused_total"));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if let Ok(mut stream) = std::net::TcpStream::connect(addr) {
                        let _ = stream.write_all(b"!");
                        let _ = stream.read(&mut [0]);
                    }
                }
            });
        }
    });
    let count = metric(&admin, "conet_circuit_refused_total") - refused;
    let each = (host.process().cpu() - cpu).as_secs_f64() / count * 1e6;
    let traps = metric(&admin, "conet_traps_total");
    let lines = host.stderr().lines().count();
    eprintln!("{count} refused at {each:.1} us of CPU each; {traps} traps; {lines} lines logged");
    assert!(each <= 20.0, "{each}");
    assert!(traps < 20.0 && lines < 100, "{traps} {lines}");
    host.stop();
}

/// Without a circuit every connection traps: what is left out of the log is counted, and nothing else.
#[test]
fn lines_left_out_of_the_log_are_counted() {
    let admin = Socket::new();
    let limits =
        "[tenant.limits]\ncircuit-traps = \"off\"\naccept-rate = \"off\"\nconnections-per-ip = \"off\"";
    let host = serve(&admin, "", "panic", limits);
    let addr = host.addr_of("h");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || (0..200).for_each(|_| trap(addr)));
        }
    });
    admin.wait("/tenants", |response| response.body.contains("\"coroutines\":{\"used\":0,"));
    let (traps, left_out) =
        (metric(&admin, "conet_traps_total"), metric(&admin, "conet_host_lines_left_out_total"));
    assert_eq!(traps, 1600.0);
    host.signal(conet_tests::process::Signal::TERM);
    let exit = host.wait_exit_within(Duration::from_secs(30));
    let logged = exit.stderr.matches("a connection's coroutine trapped").count();
    assert_eq!(logged as f64 + left_out, traps);
}
