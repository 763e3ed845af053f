//! Upgrades: another process takes the host's place, and no connection notices.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use conet_tests::admin::{Socket, request};
use conet_tests::config::Config;
use conet_tests::crowd::Crowd;
use conet_tests::host::{Host, Launch, Successor};
use conet_tests::load::{Load, listen_drops};
use conet_tests::process::{Process, Signal};
use conet_tests::{PATIENCE, artifacts, long, peer, process, turn};

/// A handler that says which version it is, and an admin.
fn version(number: usize, socket: &Socket, lines: &str) -> Config {
    let env = format!("env = {{ VERSION = \"{number:04}\" }}");
    Config::host(&format!("{}\n{lines}", socket.line())).handler("v", "version", &env)
}

fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"which?").expect("it is connected");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("it answers");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Upgrades by the command, which must succeed.
fn upgrade(host: &Host, socket: &Socket, nth: usize) -> Successor {
    let output = command(socket);
    assert!(output.status.success(), "{output:?} {host:?}");
    let successor = host.wait_successor(nth);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with(&format!("upgraded: process {} serves", successor.process().id())), "{said}");
    successor
}

fn command(socket: &Socket) -> Output {
    Command::new(artifacts::host())
        .args(["upgrade", "--socket"])
        .arg(socket.path())
        .output()
        .expect("it can be started")
}

/// The process that the admin is in.
fn who(socket: &Socket) -> i32 {
    let body = socket.get("/tenants").assert(200).body.clone();
    let told: serde_json::Value = serde_json::from_str(&body).expect("it is JSON");
    told["host"]["process"]["id"].as_i64().expect("it tells its number") as i32
}

/// A program file of this test's own, which may be replaced.
struct Program(PathBuf);

impl Program {
    /// The host.
    fn host() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let program = Self(artifacts::scratch().join(format!("conet-host-{number}")));
        program.becomes_the_host();
        program
    }

    fn becomes_the_host(&self) {
        let fresh = self.0.with_extension("new");
        // It is large.
        fs::hard_link(artifacts::host(), &fresh)
            .or_else(|_| fs::copy(artifacts::host(), &fresh).map(drop))
            .expect("the scratch folder is ours");
        fs::rename(&fresh, &self.0).expect("the scratch folder is ours");
    }

    fn becomes(&self, script: &str) {
        let fresh = self.0.with_extension("new");
        fs::write(&fresh, format!("#!/bin/sh\n{script}\n")).expect("the scratch folder is ours");
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::rename(&fresh, &self.0).expect("the scratch folder is ours");
    }
}

#[test]
fn new_connections_go_to_the_next_process_and_old_ones_finish_on_the_old() {
    let socket = Socket::new();
    let mut config = version(1, &socket, "");
    let host = Launch::serve(&config).start();
    let addr = host.addr_of("v");
    let mut old = peer::connect(addr);
    assert_eq!(ask(&mut old), "0001");
    assert_eq!(who(&socket), host.process().id());
    let [launcher] = host.process().children()[..] else { panic!("it has a launcher: {host:?}") };
    // Whoever signals a service signals all of its processes.
    launcher.signal(Signal::USR2);
    launcher.signal(Signal::HUP);
    // The file is read anew.
    config.replace(version(2, &socket, ""));
    let successor = upgrade(&host, &socket, 1);
    assert_ne!(successor.process().id(), host.process().id());
    assert_eq!(who(&socket), successor.process().id());
    let mut new = peer::connect(addr);
    assert_eq!((ask(&mut old), ask(&mut new)), ("0001".to_owned(), "0002".to_owned()));
    host.wait_line("has 1 coroutine, which may take 10s to finish");
    // Its last connection is its end, which takes nothing away.
    drop(old);
    assert!(host.process().wait_end(PATIENCE) && launcher.wait_end(PATIENCE), "{host:?}");
    assert_eq!(ask(&mut new), "0002");
    assert_eq!(who(&socket), successor.process().id());
    drop(new);
    successor.stop();
    assert!(!socket.path().exists(), "the last one has removed it");
    host.wait_exit().assert_code(0);
}

#[test]
fn what_the_old_process_has_not_finished_in_time_is_cut_off() {
    let socket = Socket::new();
    let lines = "[defaults.limits]\ndrain = \"300ms\"";
    let host = Launch::serve(&version(1, &socket, lines)).start();
    let mut old = host.connect_to("v");
    assert_eq!(ask(&mut old), "0001");
    host.signal(Signal::USR2);
    let successor = host.wait_successor(1);
    peer::expect_reset(&mut old);
    assert_eq!(ask(&mut host.connect_to("v")), "0001");
    successor.stop();
    host.wait_exit().assert_code(3);
}

/// Held connections and new ones all the time, to a handler and to a program, while one process after the other takes over: not
/// one is refused, reset or wrong, the kernel has dropped none, the admin answers all the time, and nothing is left behind.
#[test]
fn no_connection_is_lost_over_many_upgrades() {
    let _turn = turn();
    let (upgrades, held) = if long() { (50, 1000) } else { (6, 200) };
    let held = held.min(process::fds_left() / 8);
    let (socket, port) = (Socket::new(), process::free_port());
    let lines = format!("shared-instances = true\nadmin-address = \"127.0.0.1:0\"\n{}", socket.line());
    let tenant = "[tenant.limits]\nconnections-per-ip = \"off\"\naccept-rate = \"off\"\ntenant-memory = \"4GiB\"\ndrain = \"1h\"";
    let program = format!("args = [\"127.0.0.1:{port}\"]\nallow-listen = [\"127.0.0.1:*\"]\n{tenant}");
    let config = Config::host(&lines)
        .handler("a", "echo-handler", tenant)
        .handler("held", "echo-handler", tenant)
        .tenant("p", "echo", &program);
    let host = Launch::serve(&config).start();
    let (a, p) = (host.addr_of("a"), host.addr_of("p"));
    let told = host.wait_line("admin at http://");
    let admin =
        told.trim_start_matches("admin at http://").trim_end_matches('/').parse().expect("an address");
    let listeners = [a, p, host.addr_of("held"), admin];
    let dropped = listen_drops(&listeners);
    let (mut of_handler, mut of_program) = (Load::start(a, 4), Load::start(p, 2));
    let mut crowd = Crowd::connect(host.addr_of("held"), held);
    crowd.round(0);
    let done = AtomicBool::new(false);
    let mut line = vec![host.process()];
    let mut launchers = host.process().children();
    let mut successors: Vec<Successor> = Vec::new();
    let mut asked = 0;
    thread::scope(|scope| {
        let asks = scope.spawn(|| {
            let mut asked = 0;
            while !done.load(Ordering::Relaxed) {
                socket.get("/readyz").assert(200);
                socket.get("/healthz").assert(200);
                request(peer::connect(admin), "GET", "/readyz", "localhost").assert(200);
                asked += 3;
            }
            asked
        });
        let finished = || asks.is_finished();
        for nth in 1..=upgrades {
            let successor = match nth % 2 {
                0 => upgrade(&host, &socket, nth),
                _ => {
                    line.last().expect("there is one").signal(Signal::USR2);
                    host.wait_successor(nth)
                }
            };
            of_handler.wait_more(50);
            of_program.wait_more(20);
            crowd.round(nth);
            assert!(!finished(), "the admin has not answered");
            line.push(successor.process());
            launchers.extend(successor.process().children());
            successors.push(successor);
        }
        done.store(true, Ordering::Relaxed);
        asked = asks.join().expect("the admin answers");
    });
    let served = of_handler.stop() + of_program.stop();
    crowd.round(upgrades + 1);
    assert_eq!(listen_drops(&listeners), dropped, "connections that the kernel dropped");
    eprintln!(
        "{upgrades} upgrades under {served} new connections and {held} held ones; the admin was asked {asked} times"
    );
    drop(crowd);
    // All but the last one are through now.
    let last = successors.pop().expect("there were upgrades");
    for process in &line[..upgrades] {
        assert!(process.wait_end(PATIENCE), "process {} does not end: {host:?}", process.id());
    }
    let last_launcher = last.process().children();
    for launcher in launchers.iter().filter(|one| last_launcher.iter().all(|other| other.id() != one.id())) {
        assert!(launcher.wait_end(PATIENCE), "launcher {} does not end: {host:?}", launcher.id());
    }
    assert_eq!(who(&socket), last.process().id());
    // Some more, of which nothing is held: none has more descriptors than the one before.
    let descriptors = last.process().fds();
    let mut next = last;
    for nth in upgrades + 1..=upgrades + LEAKS_SHOWN {
        let before = std::mem::replace(&mut next, upgrade(&host, &socket, nth));
        before.wait_end();
        settle_at_most(next.process(), descriptors);
    }
    let folder = socket.path().parent().expect("a folder");
    let aside = fs::read_dir(folder).expect("it is ours").flatten();
    let aside: Vec<_> =
        aside.map(|file| file.file_name()).filter(|name| name.as_encoded_bytes()[0] == b'.').collect();
    assert!(aside.is_empty(), "left beside the socket: {aside:?}");
    next.stop();
    host.wait_exit().assert_code(0);
}

/// A connection to the admin may end while descriptors are counted: a leak in each upgrade comes to more.
const LEAKS_SHOWN: usize = 4;

/// Waits until it has no more descriptors than that.
fn settle_at_most(process: Process, descriptors: usize) {
    let start = Instant::now();
    while process.fds() > descriptors {
        assert!(start.elapsed() < PATIENCE, "{} descriptors, and one had {descriptors}", process.fds());
        thread::yield_now();
    }
}

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

/// A program that waits, before it becomes the host, until the pipe of this name is written to.
fn waits_for(pipe: &Path) -> String {
    let made = Command::new("mkfifo").arg(pipe).status().expect("coreutils are there");
    assert!(made.success());
    format!("read line < {pipe:?}; exec {:?} \"$@\"", artifacts::host())
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
fn it_goes_without_a_wall_too() {
    let socket = Socket::new();
    let lines = "landlock = false\nseccomp = false\nno-new-privs = false\ncapabilities = \"keep\"";
    let host = Launch::serve(&version(1, &socket, lines)).start();
    let mut stream = host.connect_to("v");
    assert_eq!(ask(&mut stream), "0001");
    let first = upgrade(&host, &socket, 1);
    let second = upgrade(&host, &socket, 2);
    assert_eq!(ask(&mut stream), "0001");
    assert_eq!(ask(&mut host.connect_to("v")), "0001");
    first.wait_end();
    drop(stream);
    second.stop();
    host.wait_exit().assert_code(0);
}

/// The next process has no right to such a port, and needs none.
#[test]
fn a_port_that_only_root_may_have_is_handed_on() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("only root becomes another user: passed over");
        return;
    }
    let folder = std::env::temp_dir().join(format!("conet-upgrade-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
    let (component, program) = (folder.join("echo.wasm"), folder.join("conet-host"));
    // Where nobody can read them, whatever the folders above this project say.
    fs::copy(artifacts::guest("echo-handler"), &component).expect("a copy");
    fs::copy(artifacts::host(), &program).expect("a copy");
    let (socket, cache) = (folder.join("a.sock"), folder.join("cache"));
    let lines = format!(
        "[host]\nuser = \"nobody\"\ncache = {cache:?}\nadmin = {socket:?}\nlandlock = \"required\"\n"
    );
    let address = format!("127.{}.2.1:83", std::process::id() % 256);
    let listen = format!("listen = [{address:?}]");
    let file = Config::of(lines).component("echo", &component, &listen).moved_to(&folder);
    let host = Launch::serve(&file).binary(&program).start();
    let mut old = host.connect_to("echo");
    peer::round_trip(&mut old, b"the old one");
    host.signal(Signal::USR2);
    let successor = host.wait_successor(1);
    peer::echo_exact(host.connect_to("echo"), 1 << 16);
    peer::round_trip(&mut old, b"still the old one");
    for (key, expected) in
        [("Uid", "65534\t65534\t65534\t65534"), ("CapEff", "0000000000000000"), ("Seccomp", "2")]
    {
        let threads = successor.process().of_threads(key);
        assert!(threads.iter().all(|(_, value)| value == expected), "{key}: {threads:?}");
    }
    let about = fs::metadata(&socket).expect("it listens");
    assert_eq!((about.uid(), about.mode() & 0o777), (65534, 0o600));
    drop(old);
    successor.stop();
    host.wait_exit().assert_code(0);
    fs::remove_dir_all(folder).expect("it is ours");
}

#[test]
fn the_service_manager_is_told_of_the_next_process() {
    let path = artifacts::scratch().join("upgrade-notify.sock");
    let manager = UnixDatagram::bind(&path).expect("the scratch folder is ours");
    manager.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
    let told = || {
        let mut bytes = [0; 4096];
        let count = manager.recv(&mut bytes).expect("the host tells");
        let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
        text.lines().next().expect("a line").to_owned()
    };
    let socket = Socket::new();
    let lines = "landlock = \"required\"\nseccomp = \"required\"";
    let config = version(1, &socket, lines);
    let host = Launch::serve(&config).process_env("NOTIFY_SOCKET", &path).start();
    assert_eq!(told(), "READY=1");
    let mut old = host.connect_to("v");
    assert_eq!(ask(&mut old), "0001");
    let first = upgrade(&host, &socket, 1);
    assert_eq!(told(), format!("MAINPID={}", first.process().id()));
    assert_eq!(told(), "READY=1");
    let second = upgrade(&host, &socket, 2);
    assert_eq!(told(), format!("MAINPID={}", second.process().id()));
    assert_eq!(told(), "READY=1");
    // Those that have handed over end, and say nothing of it.
    drop(old);
    first.wait_end();
    assert!(host.process().wait_end(PATIENCE));
    second.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    second.wait_end();
    host.wait_exit().assert_code(0);
}

#[test]
fn sockets_that_systemd_passes_are_handed_on() {
    let socket = Socket::new();
    let passed = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        (listener, address)
    };
    let ((used, used_at), (spare, spare_at)) = (passed(), passed());
    let file = |second: &str| {
        let first = format!("listen = [\"{used_at}\"]\nenv = {{ VERSION = \"0001\" }}");
        Config::host(&socket.line()).tenant("v", "version", &first).with(second)
    };
    let mut config = file("");
    let host = Launch::serve(&config).passed("used", used).passed("spare", spare).start();
    let mut old = host.connect_to("v");
    assert_eq!(ask(&mut old), "0001");
    // Nobody listens there yet, and systemd would have it open all the same.
    let mut waits = peer::connect(spare_at);
    let first = upgrade(&host, &socket, 1);
    let component = artifacts::guest("version");
    config.replace(file(&format!(
        "[[tenant]]\nname = \"w\"\ncomponent = {component:?}\nlisten = [\"{spare_at}\"]\nenv = {{ VERSION = \"0002\" }}"
    )));
    let second = upgrade(&host, &socket, 2);
    assert_eq!(ask(&mut waits), "0002");
    assert_eq!((ask(&mut old), ask(&mut peer::connect(used_at))), ("0001".to_owned(), "0001".to_owned()));
    drop((old, waits));
    first.wait_end();
    // It finds them still when they go and come.
    config.replace(file(""));
    assert!(socket.post("/reload").assert(200).body.contains("1 removed"));
    config.replace(file(&format!(
        "[[tenant]]\nname = \"w\"\ncomponent = {component:?}\nlisten = [\"{spare_at}\"]\nenv = {{ VERSION = \"0003\" }}"
    )));
    assert!(socket.post("/reload").assert(200).body.contains("1 added"));
    // One that comes as a worker of the old version lets go may be the last it serves.
    while ask(&mut peer::connect(spare_at)) != "0003" {}
    second.stop();
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
