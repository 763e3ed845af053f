//! Upgrades that do not come about: the host serves on as if nothing had been.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::upgrade::{Program, ask, command, upgrade, version, waits_for, who};
use conet_tests::{PATIENCE, artifacts};

#[test]
fn a_wrong_file_leaves_the_old_process_serving() {
    let socket = Socket::new();
    let mut config = version(1, &socket, "");
    let host = Launch::serve(&config).start();
    let mut stream = host.connect_to("v");
    let gone = "[[tenant]]\nname = \"v\"\ncomponent = \"gone.wasm\"\nlisten = [\"127.0.0.1:0\"]\n";
    let spins = artifacts::text_component("handler_start_spin");
    let spins = Config::new().component(
        "v",
        &spins,
        "listen = [\"127.0.0.1:0\"]\n[tenant.limits]\nstart = \"100ms\"",
    );
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listen = format!("listen = [\"{}\"]", taken.local_addr().expect("it is bound"));
    let taken_too = version(2, &socket, "").tenant("late", "echo-handler", &listen);
    for (nth, (wrong, says)) in [
        (Config::of("[host]\nworkers = 0\n"), "write a whole number from 1"),
        (Config::of(gone), "cannot read"),
        (spins, "took more than 100ms to start"),
        (taken_too, "cannot listen on"),
    ]
    .into_iter()
    .enumerate()
    {
        config.replace(wrong);
        let refused = socket.post("/upgrade");
        refused.assert(409);
        assert!(refused.body.contains(says) && refused.body.contains("serves on"), "{refused:?}");
        host.wait_count("this process serves on", nth + 1);
        host.wait_line(says);
        assert_eq!(ask(&mut stream), "0001");
        assert_eq!(ask(&mut host.connect_to("v")), "0001");
        socket.get("/readyz").assert(200);
        let metrics = socket.get("/metrics").body;
        assert!(metrics.contains(&format!("\nconet_upgrades_refused_total {}\n", nth + 1)), "{metrics}");
        // Only the launcher is left.
        assert_eq!(host.process().children().len(), 1);
        assert_eq!(who(&socket), host.process().id());
    }
    let output = command(&socket);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("cannot listen on"), "{output:?}");
    config.replace(version(3, &socket, ""));
    let successor = upgrade(&host, &socket, 1);
    assert_eq!(ask(&mut host.connect_to("v")), "0003");
    assert_eq!(ask(&mut stream), "0001");
    drop(stream);
    successor.stop();
    host.wait_exit().assert_code(0);
}

#[test]
fn a_program_that_cannot_take_over_leaves_the_old_process_serving() {
    let socket = Socket::new();
    let program = Program::host();
    let host = Launch::serve(&version(1, &socket, "")).binary(&program.0).start();
    let mut stream = host.connect_to("v");
    let [launcher] = host.process().children()[..] else { panic!("it has a launcher: {host:?}") };
    for (script, says) in [
        ("exit 1", "has ended before it served"),
        ("kill -SEGV $$", "has ended before it served"),
        // It speaks, and not as a host does.
        ("echo conet handover 7 >&0; read line", "conet handover 7"),
        // It takes part for a while, but for what it is to say.
        (
            "echo 'conet handover 1\\c' >&0; sleep 0.1; echo '\"ready\"' >&0; exit 1",
            "has ended before it served",
        ),
        ("exec sleep 1000", "has said nothing within"),
    ] {
        program.becomes(script);
        let refused = socket.post("/upgrade");
        refused.assert(409);
        assert!(refused.body.contains(says) && refused.body.contains("serves on"), "{refused:?}");
        assert_eq!(ask(&mut stream), "0001");
        assert_eq!(ask(&mut host.connect_to("v")), "0001");
        // Of the one that does not end, nothing is left either.
        for process in launcher.children() {
            assert!(process.wait_end(PATIENCE), "{script}: {host:?}");
        }
    }
    fs::remove_file(&program.0).expect("it is ours");
    let refused = socket.post("/upgrade");
    assert!(refused.assert(409).body.contains("cannot start"), "{refused:?}");
    assert_eq!(ask(&mut host.connect_to("v")), "0001");
    program.becomes_the_host();
    let successor = upgrade(&host, &socket, 1);
    drop(stream);
    successor.stop();
    host.wait_exit().assert_code(0);
}

#[test]
fn without_its_launcher_a_host_says_so_and_serves_on() {
    let socket = Socket::new();
    let host = Launch::serve(&version(1, &socket, "")).start();
    let mut stream = host.connect_to("v");
    let [launcher] = host.process().children()[..] else { panic!("it has a launcher: {host:?}") };
    launcher.signal(Signal::KILL);
    assert!(launcher.wait_end(PATIENCE));
    let refused = socket.post("/upgrade");
    assert!(refused.assert(409).body.contains("`conet-host launcher`) has ended"), "{refused:?}");
    assert_eq!(ask(&mut stream), "0001");
    drop(stream);
    host.stop();
}

#[test]
fn while_one_is_under_way_another_one_and_a_reload_are_refused() {
    let socket = Socket::new();
    let program = Program::host();
    let mut config = version(1, &socket, "");
    let host = Launch::serve(&config).binary(&program.0).start();
    assert_eq!(ask(&mut host.connect_to("v")), "0001");
    let pipe = artifacts::scratch().join("upgrade-waits");
    program.becomes(&waits_for(&pipe));
    config.replace(version(2, &socket, ""));
    thread::scope(|scope| {
        let first = scope.spawn(|| socket.post("/upgrade"));
        socket.wait("/tenants", |response| response.body.contains("\"phase\":\"upgrading\""));
        socket.get("/readyz").assert(200);
        let second = socket.post("/upgrade");
        assert!(second.assert(409).body.contains("an upgrade is under way"), "{second:?}");
        let reload = socket.post("/reload");
        assert!(reload.assert(409).body.contains("an upgrade is under way"), "{reload:?}");
        host.signal(Signal::USR2);
        host.wait_count("upgrade: an upgrade is under way", 2);
        assert_eq!(ask(&mut host.connect_to("v")), "0001");
        fs::write(&pipe, "go\n").expect("it is read");
        first.join().expect("it is answered").assert(200);
    });
    let successor = host.wait_successor(1);
    assert_eq!(ask(&mut host.connect_to("v")), "0002");
    successor.stop();
    host.wait_exit().assert_code(0);
    fs::remove_file(pipe).expect("it is ours");
}

/// A signal, or a change that is watched for, comes once.
#[test]
fn a_reload_that_an_upgrade_has_held_up_comes_after_it_if_it_fails() {
    let socket = Socket::new();
    let program = Program::host();
    let mut config = version(1, &socket, "");
    let host = Launch::serve(&config).binary(&program.0).start();
    assert_eq!(ask(&mut host.connect_to("v")), "0001");
    let pipe = artifacts::scratch().join("upgrade-fails");
    let waits = waits_for(&pipe);
    program.becomes(waits.split_once("exec").map_or("", |(waits, _)| waits));
    host.signal(Signal::USR2);
    socket.wait("/tenants", |response| response.body.contains("\"phase\":\"upgrading\""));
    config.replace(version(2, &socket, ""));
    host.signal(Signal::HUP);
    host.wait_line("the file is not read again: an upgrade is under way");
    fs::write(&pipe, "go\n").expect("it is read");
    host.wait_line("has ended before it served");
    host.wait_count("\nreloaded ", 1);
    assert_eq!(ask(&mut host.connect_to("v")), "0002");
    host.stop();
    fs::remove_file(pipe).expect("it is ours");
}

#[test]
fn the_end_of_the_host_goes_before_an_upgrade() {
    let socket = Socket::new();
    let program = Program::host();
    let host = Launch::serve(&version(1, &socket, "")).binary(&program.0).start();
    assert_eq!(ask(&mut host.connect_to("v")), "0001");
    let [launcher] = host.process().children()[..] else { panic!("it has a launcher: {host:?}") };
    let pipe = artifacts::scratch().join("upgrade-withdrawn");
    program.becomes(&waits_for(&pipe));
    host.signal(Signal::USR2);
    socket.wait("/tenants", |response| response.body.contains("\"phase\":\"upgrading\""));
    let next = launcher.children();
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    exit.assert_code(0).assert_stderr("the host is ending");
    assert!(next.iter().chain([&launcher]).all(|process| process.wait_end(PATIENCE)), "{exit:?}");
    fs::remove_file(pipe).expect("it is ours");

    // One that drains hands nothing over.
    let host = Launch::serve(&version(1, &socket, "")).start();
    let mut stream = host.connect_to("v");
    assert_eq!(ask(&mut stream), "0001");
    host.signal(Signal::TERM);
    host.wait_line("shutting down");
    host.signal(Signal::USR2);
    host.wait_line("upgrade: the host is ending");
    assert!(socket.post("/upgrade").assert(409).body.contains("the host is ending"));
    drop(stream);
    host.wait_exit().assert_code(0);
}

#[test]
fn the_first_process_of_a_container_refuses() {
    let inside = artifacts::scratch().join("first-process");
    let script =
        format!("#!/bin/sh\nexec unshare --pid --fork --kill-child {:?} \"$@\"\n", artifacts::host());
    fs::write(&inside, script).expect("the scratch folder is ours");
    fs::set_permissions(&inside, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let may = Command::new("unshare").args(["--pid", "--fork", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("no name space for processes can be had: passed over");
        return;
    }
    let socket = Socket::new();
    let host = Launch::serve(&version(1, &socket, "")).binary(&inside).start();
    assert_eq!(ask(&mut host.connect_to("v")), "0001");
    let refused = socket.post("/upgrade");
    assert!(refused.assert(409).body.contains("replace the container"), "{refused:?}");
    assert_eq!(ask(&mut host.connect_to("v")), "0001");
    let [inner] = host.process().children()[..] else { panic!("unshare has one child: {host:?}") };
    inner.signal(Signal::TERM);
    host.wait_exit().assert_code(0);
}

/// A handler that traps on so many of 100 messages, and says which version it is.
fn traps(socket: &Socket, number: usize, traps: u8) -> Config {
    let env = format!("env = {{ VERSION = \"{number:04}\", TRAPS = \"{traps}\" }}");
    Config::host(&socket.line()).handler("v", "traps", &env)
}

/// What a new connection is answered, which may be cut off.
fn asked(host: &Host) -> Option<String> {
    let (mut stream, mut answer) = (TcpStream::connect(host.addr_of("v")).ok()?, [0; 4]);
    stream.write_all(b"!").and_then(|()| stream.read_exact(&mut answer)).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// Sends what traps until the version that does has been rolled back, and nobody has it any more.
fn trap(host: &Host, times: usize) {
    while host.stderr().matches("rolled back to the version before").count() < times {
        asked(host);
    }
    while asked(host).as_deref() != Some("0001") {}
}

/// The next process has no version from before, and would serve the one that failed.
#[test]
fn what_was_rolled_back_is_held_back_from_the_next_process() {
    let socket = Socket::new();
    let panics = |lines: &str| Config::host(&socket.line()).handler("v", "panic", lines);
    // Another version is another matter, and where nothing is rolled back, nothing is held back.
    for other in [traps(&socket, 3, 0), panics("rollback = \"off\"")] {
        let mut config = traps(&socket, 1, 0);
        let host = Launch::serve(&config).start();
        let refused = || {
            let refused = socket.post("/upgrade");
            let says = "the tenant `v`: the version that the file says is held back by the host before (";
            let body = &refused.assert(409).body;
            assert!(body.contains(says) && body.contains("serves on"), "{refused:?}");
            assert_eq!(who(&socket), host.process().id());
            assert_eq!(asked(&host).as_deref(), Some("0001"));
        };
        assert_eq!(asked(&host).as_deref(), Some("0001"));
        // By what it is made by, and by its component, whatever else has changed.
        config.replace(traps(&socket, 2, 100));
        socket.post("/reload").assert(200);
        trap(&host, 1);
        refused();
        config.replace(panics(""));
        socket.post("/reload").assert(200);
        trap(&host, 2);
        refused();
        config.replace(panics("weight = 2"));
        refused();
        config.replace(other);
        upgrade(&host, &socket, 1).stop();
        host.wait_exit().assert_code(0);
    }
}

/// The next process has been told of what was held back before that.
#[test]
fn a_roll_back_ends_an_upgrade_that_is_under_way() {
    let socket = Socket::new();
    let program = Program::host();
    let mut config = traps(&socket, 1, 0);
    let host = Launch::serve(&config).binary(&program.0).start();
    assert_eq!(asked(&host).as_deref(), Some("0001"));
    config.replace(traps(&socket, 2, 100));
    socket.post("/reload").assert(200);
    let pipe = artifacts::scratch().join("upgrade-rolls-back");
    program.becomes(&waits_for(&pipe));
    host.signal(Signal::USR2);
    socket.wait("/tenants", |response| response.body.contains("\"phase\":\"upgrading\""));
    trap(&host, 1);
    host.wait_line("this process serves on: a tenant was rolled back meanwhile");
    assert_eq!(asked(&host).as_deref(), Some("0001"));
    assert_eq!(who(&socket), host.process().id());
    host.stop();
    fs::remove_file(pipe).expect("it is ours");
}
