//! Upgrades: another process takes the host's place, and no connection notices.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use conet_tests::admin::{Socket, request};
use conet_tests::config::Config;
use conet_tests::crowd::Crowd;
use conet_tests::host::{Launch, Successor};
use conet_tests::load::{Load, listen_drops};
use conet_tests::process::{Process, Signal};
use conet_tests::upgrade::{ask, upgrade, version, who};
use conet_tests::{PATIENCE, long, peer, process, turn};

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

/// The next process has nothing of them.
#[test]
fn those_who_wait_at_an_address_that_the_next_process_leaves_are_served() {
    let socket = Socket::new();
    let file = |number: usize| {
        let lines = format!("listen = [\"127.0.0.{number}:0\"]\nenv = {{ VERSION = \"{number:04}\" }}");
        // All but the first wait for a second each.
        let limits = "[tenant.limits]\naccept-rate = 1\nconnections-per-ip = \"off\"";
        Config::host(&socket.line()).tenant("v", "version", &format!("{lines}\n{limits}"))
    };
    let mut config = file(1);
    let host = Launch::serve(&config).start();
    let mut waiting: Vec<_> = (0..50).map(|_| host.connect_to("v")).collect();
    config.replace(file(2));
    let successor = upgrade(&host, &socket, 1);
    assert!(waiting.iter_mut().all(|stream| ask(stream) == "0001"), "{host:?}");
    let told = host.wait_line("listening on 127.0.0.2:");
    let elsewhere = told.split(' ').nth(2).and_then(|address| address.parse().ok()).expect("an address");
    assert_eq!(ask(&mut peer::connect(elsewhere)), "0002");
    drop(waiting);
    successor.stop();
    host.wait_exit().assert_code(0);
}
