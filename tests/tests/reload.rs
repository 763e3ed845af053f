//! Reloads: what the file comes to say is taken up, and no connection notices.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use conet_tests::config::Config;
use conet_tests::crowd::Crowd;
use conet_tests::host::{Host, Launch};
use conet_tests::load::{Load, listen_drops};
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, long, peer, process, turn};

/// A handler that says which version it is.
fn version(number: usize) -> Config {
    Config::new().handler("v", "version", &format!("env = {{ VERSION = \"{number:04}\" }}"))
}

fn reload(host: &Host, config: &mut Config, to: Config) {
    let before = host.stderr().matches("\nreloaded ").count();
    config.replace(to);
    host.signal(Signal::HUP);
    host.wait_count("\nreloaded ", before + 1);
}

fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"which?").expect("it is connected");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn new_connections_go_to_the_new_version_and_old_ones_finish_on_the_old() {
    let mut config = version(1);
    let host = Launch::serve(&config).start();
    let addr = host.addr_of("v");
    let mut old = peer::connect(addr);
    assert_eq!(ask(&mut old), "0001");
    reload(&host, &mut config, version(2));
    // The port is the same, though the file asks for any.
    let mut new = loop {
        let mut stream = peer::connect(addr);
        if ask(&mut stream) == "0002" {
            break stream;
        }
    };
    assert_eq!(ask(&mut old), "0001");
    assert_eq!(ask(&mut new), "0002");
    drop((old, new));
    host.stop();
}

#[test]
fn what_has_not_changed_goes_on_as_it_is() {
    let both =
        |second| version(1).handler("second", "version", &format!("env = {{ VERSION = \"{second}\" }}"));
    let mut config = both("0001");
    let host = Launch::serve(&config).start();
    let mut kept = host.connect_to("v");
    assert_eq!(ask(&mut kept), "0001");
    reload(&host, &mut config, both("0002"));
    host.wait_line("0 added, 1 changed, 0 removed, 1 as they were");
    assert_eq!(ask(&mut kept), "0001");
    reload(&host, &mut config, both("0002"));
    host.wait_line("0 added, 0 changed, 0 removed, 2 as they were");
    drop(kept);
    host.stop();
}

#[test]
fn what_the_old_version_has_not_finished_in_time_is_cut_off() {
    let with = |number: usize| {
        let lines = format!("env = {{ VERSION = \"{number:04}\" }}\n[tenant.limits]\ndrain = \"300ms\"");
        Config::new().handler("v", "version", &lines).handler("other", "echo-handler", "")
    };
    let mut config = with(1);
    let host = Launch::serve(&config).start();
    let mut old = host.connect_to("v");
    let mut other = host.connect_to("other");
    assert_eq!(ask(&mut old), "0001");
    peer::round_trip(&mut other, b"before");
    reload(&host, &mut config, with(2));
    peer::expect_reset(&mut old);
    host.wait_line("cutting off 1 coroutines");
    peer::round_trip(&mut other, b"not concerned");
    drop(other);
    host.stop();
}

#[test]
fn tenants_come_and_go() {
    let mut config = version(1);
    let host = Launch::serve(&config).start();
    let addr = host.addr_of("v");
    assert_eq!(ask(&mut peer::connect(addr)), "0001");
    reload(&host, &mut config, version(1).handler("more", "echo-handler", ""));
    peer::echo_exact(host.connect_to("more"), 10_000);
    assert_eq!(ask(&mut peer::connect(addr)), "0001");
    reload(&host, &mut config, Config::new().handler("more", "echo-handler", ""));
    host.wait_line("0 added, 0 changed, 1 removed, 1 as they were");
    // Nobody listens there any more, once the last worker has let go.
    while TcpStream::connect_timeout(&addr, PATIENCE).map_err(|error| error.kind()).err()
        != Some(ErrorKind::ConnectionRefused)
    {}
    peer::echo_exact(host.connect_to("more"), 10_000);
    host.stop();
}

#[test]
fn a_wrong_file_is_refused_and_all_goes_on() {
    let mut config = version(1);
    let host = Launch::serve(&config).start();
    let mut stream = host.connect_to("v");
    for (wrong, says) in [
        ("[host]\nworkers = 0\n", "write a whole number from 1"),
        ("[[tenant]]\nname = \"v\"\ncomponent = \"gone.wasm\"\nlisten = [\"127.0.0.1:0\"]\n", "cannot read"),
    ] {
        config.replace(Config::of(wrong));
        let before = host.stderr().matches("all goes on as it was").count();
        host.signal(Signal::HUP);
        host.wait_count("all goes on as it was", before + 1);
        host.wait_line(says);
        assert_eq!(ask(&mut stream), "0001");
        assert_eq!(ask(&mut host.connect_to("v")), "0001");
    }
    // A component of which no instance can be made.
    let spins = conet_tests::artifacts::text_component("handler_start_spin");
    let lines = "listen = [\"127.0.0.1:0\"]\n[tenant.limits]\nstart = \"100ms\"";
    config.replace(Config::new().component("v", &spins, lines));
    host.signal(Signal::HUP);
    host.wait_line("took more than 100ms to start");
    assert_eq!(ask(&mut stream), "0001");
    assert_eq!(ask(&mut host.connect_to("v")), "0001");
    // An address that is taken: nothing of the file is taken up.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = format!("listen = [\"{}\"]", taken.local_addr().expect("it is bound"));
    config.replace(version(2).tenant("late", "echo-handler", &listen));
    host.signal(Signal::HUP);
    host.wait_line("cannot listen on");
    assert_eq!(ask(&mut host.connect_to("v")), "0001");
    reload(&host, &mut config, version(3));
    drop(stream);
    host.stop();
}

/// The next version of a program takes the socket over from the one before.
#[test]
fn a_program_hands_its_listener_on() {
    let program = |port: u16, more: &str| {
        let lines = format!("args = [\"127.0.0.1:{port}\"]\nallow-listen = [\"127.0.0.1:*\"]\n{more}");
        Config::host("shared-instances = true").tenant("p", "echo", &lines)
    };
    // The port must be the same for both, so it is chosen here.
    let port = process::free_port();
    let mut config = program(port, "");
    let host = Launch::serve(&config).start();
    let addr = host.addr_of("p");
    let mut old = peer::connect(addr);
    peer::round_trip(&mut old, b"to the first");
    let load = Load::start(addr, 2);
    for number in 0..5 {
        reload(&host, &mut config, program(port, &format!("env = {{ N = \"{number}\" }}")));
    }
    load.stop();
    peer::round_trip(&mut old, b"still to the first");
    drop(old);
    host.stop();
}

/// Held connections and new ones all the time, while versions, listeners and the number of workers change: not one is
/// refused, reset or wrong, and the kernel has dropped none.
#[test]
fn no_connection_is_lost_over_many_reloads() {
    let _turn = turn();
    let (reloads, held) = if long() { (100, 1000) } else { (20, 300) };
    let (reloads, held) = (reloads, held.min(process::fds_left() / 4));
    let file = |number: usize| {
        let mut config = Config::host(&format!("workers = {}", 1 + number / 2 % 2))
            .with("[defaults.limits]\ndrain = \"1h\"");
        let version = format!(
            "env = {{ N = \"{number}\" }}\n[tenant.limits]\nconnections-per-ip = \"off\"\naccept-rate = \"off\"\ntenant-memory = \"4GiB\""
        );
        config = config.handler("a", "echo-handler", &version);
        config = config.handler("held", "echo-handler", &version);
        if number % 3 == 1 {
            config = config.handler("sometimes", "echo-handler", &version);
        }
        config
    };
    let mut config = file(0);
    let host = Launch::serve(&config).start();
    let listeners = [host.addr_of("a"), host.addr_of("held")];
    let dropped = listen_drops(&listeners);
    let mut crowd = Crowd::connect(host.addr_of("held"), held);
    crowd.round(0);
    let mut load = Load::start(host.addr_of("a"), 8);
    for number in 1..=reloads {
        reload(&host, &mut config, file(number));
        load.wait_more(50);
    }
    let served = load.stop();
    crowd.round(1);
    assert_eq!(listen_drops(&listeners), dropped, "connections that the kernel dropped");
    eprintln!("{reloads} reloads under {served} new connections and {held} held ones");
    drop(crowd);
    host.stop();
}

/// The new version has nothing of them: the old one serves them, as one does that has no successor.
#[test]
fn those_who_wait_at_an_address_that_a_tenant_leaves_are_served() {
    let file = |number: usize| {
        let lines = format!("listen = [\"127.0.0.{number}:0\"]\nenv = {{ VERSION = \"{number:04}\" }}");
        // All but the first wait for a second each.
        let limits = "[tenant.limits]\naccept-rate = 1\nconnections-per-ip = \"off\"";
        Config::new().tenant("v", "version", &format!("{lines}\n{limits}"))
    };
    let mut config = file(1);
    let host = Launch::serve(&config).start();
    let mut waiting: Vec<_> = (0..50).map(|_| host.connect_to("v")).collect();
    reload(&host, &mut config, file(2));
    assert!(waiting.iter_mut().all(|stream| ask(stream) == "0001"), "{host:?}");
    let told = host.wait_line("listening on 127.0.0.2:");
    let elsewhere = told.split(' ').nth(2).and_then(|address| address.parse().ok()).expect("an address");
    assert_eq!(ask(&mut peer::connect(elsewhere)), "0002");
    drop(waiting);
    host.stop();
}
