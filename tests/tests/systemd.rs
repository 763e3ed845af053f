//! What a service manager passes, which are sockets that listen already, and what it is told.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::{Process, Signal};
use conet_tests::{PATIENCE, admin, artifacts, peer, process};

/// Where a host tells how it is.
struct Manager {
    socket: UnixDatagram,
    /// As it stands in NOTIFY_SOCKET.
    address: String,
}

impl Manager {
    fn at_a_path() -> Self {
        let path = artifacts::scratch().join(format!("notify-{}.sock", next()));
        let socket = UnixDatagram::bind(&path).expect("the scratch folder is ours");
        Self::new(socket, path.display().to_string())
    }

    fn abstract_one() -> Self {
        let name = format!("conet-tests/{}/{}", std::process::id(), next());
        let address = UnixAddr::from_abstract_name(&name).expect("a name");
        Self::new(UnixDatagram::bind_addr(&address).expect("it is new"), format!("@{name}"))
    }

    fn new(socket: UnixDatagram, address: String) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
        Self { socket, address }
    }

    fn of(&self, launch: Launch) -> Launch {
        launch.process_env("NOTIFY_SOCKET", &self.address)
    }

    /// The next datagram's lines.
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("the host tells");
        String::from_utf8_lossy(&bytes[..count]).lines().map(str::to_owned).collect()
    }

    /// Reads on until one begins with this line.
    fn wait(&self, line: &str) -> Vec<String> {
        loop {
            let told = self.next();
            if told[0] == line {
                return told;
            }
        }
    }

    /// Nothing has been told that was not read.
    fn assert_told_nothing(&self) {
        self.socket.set_nonblocking(true).expect("it is a socket");
        let error = self.socket.recv(&mut [0; 4096]).expect_err("nothing was to be told");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        self.socket.set_nonblocking(false).expect("it is a socket");
    }
}

fn next() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn echoes(host: &Host, tenant: &str) {
    peer::echo_exact(host.connect_to(tenant), 1000);
}

/// Behind the wall, which keeps other sockets from it.
#[test]
fn the_manager_is_told_of_the_start_of_reloads_and_of_the_end() {
    for manager in [Manager::at_a_path(), Manager::abstract_one()] {
        let file = Config::host("landlock = \"required\"\nseccomp = \"required\"");
        let mut config = file.handler("one", "echo-handler", "[tenant.limits]\ndrain = \"100s\"");
        let host = manager.of(Launch::serve(&config)).start();
        let told = manager.next();
        assert_eq!(told[0], "READY=1");
        assert!(told[1].starts_with("STATUS=1 tenants on "), "{told:?}");
        echoes(&host, "one");
        let one = std::fs::read_to_string(config.path()).expect("it is there");
        config.replace(Config::of(one).handler("two", "echo-handler", ""));
        host.signal(Signal::HUP);
        let told = manager.next();
        assert_eq!(told[0], "RELOADING=1");
        let time = told[1].strip_prefix("MONOTONIC_USEC=").expect("systemd wants it");
        assert!(time.parse::<u64>().is_ok_and(|time| time > 0), "{told:?}");
        let told = manager.next();
        assert!(told[0] == "READY=1" && told[1].starts_with("STATUS=2 tenants"), "{told:?}");
        // A refused file ends the reload, too, in one line.
        config.replace(Config::of("nonsense\nand = more"));
        host.signal(Signal::HUP);
        assert_eq!(manager.next()[0], "RELOADING=1");
        let told = manager.next();
        assert!(told[0] == "READY=1" && told[1].contains("the last reload was refused"), "{told:?}");
        assert_eq!(told.len(), 2, "{told:?}");
        let held = host.connect_to("one");
        host.signal(Signal::TERM);
        let told = manager.next();
        assert_eq!(told[0], "STOPPING=1");
        // As long as the drain may take, and a little more.
        assert_eq!(told[1], "EXTEND_TIMEOUT_USEC=105000000");
        drop(held);
        host.wait_exit().assert_code(0);
        manager.assert_told_nothing();
    }
}

#[test]
fn a_host_that_cannot_start_is_never_ready() {
    let manager = Manager::at_a_path();
    let config = Config::new().tenant("h", "echo-handler", "listen = [\"192.0.2.1:7\"]");
    manager.of(Launch::serve(&config)).finish().assert_code(5);
    manager.assert_told_nothing();
    let elsewhere = Launch::serve(&Config::new().handler("h", "echo-handler", ""));
    // Whoever asks in a way that is not known is served all the same.
    let host = elsewhere.process_env("NOTIFY_SOCKET", "vsock:2:1").start();
    host.wait_line("neither a path nor an abstract socket");
    echoes(&host, "h");
    host.stop();
}

#[test]
fn run_tells_of_its_start_and_its_end() {
    let manager = Manager::at_a_path();
    let launch = manager.of(Launch::handler("echo-handler")).process_env("WATCHDOG_USEC", "100000");
    let host = launch.start();
    assert_eq!(manager.next()[0], "READY=1");
    peer::echo_exact(host.connect(), 1000);
    (0..3).for_each(|_| drop(manager.wait("WATCHDOG=1")));
    host.signal(Signal::TERM);
    manager.wait("STOPPING=1");
    host.wait_exit().assert_code(0);
}

/// Whatever guests do: that they have used up their time is nothing that the host needs to be killed for.
#[test]
fn a_watchdog_hears_of_the_host_again_and_again() {
    let manager = Manager::at_a_path();
    let file = |more: &str| {
        Config::host(more).handler("spins", "spin", "[tenant.limits]\ncpu = \"1h\"").handler(
            "h",
            "echo-handler",
            "",
        )
    };
    let mut config = file("workers = 2");
    let launch = manager.of(Launch::serve(&config)).process_env("WATCHDOG_USEC", "200000");
    let host = launch.start();
    manager.wait("READY=1");
    let spinners = [(); 4].map(|()| {
        let mut stream = host.connect_to("spins");
        peer::round_trip(&mut stream, b"!");
        stream
    });
    (0..5).for_each(|_| drop(manager.wait("WATCHDOG=1")));
    // With other workers, who have not been asked before.
    config.replace(file("workers = 1"));
    host.signal(Signal::HUP);
    manager.wait("RELOADING=1");
    manager.wait("READY=1");
    (0..5).for_each(|_| drop(manager.wait("WATCHDOG=1")));
    echoes(&host, "h");
    host.signal(Signal::TERM);
    manager.wait("STOPPING=1");
    drop((host, spinners));
}

/// The main thread waits for an instance of each new version: that is no reason to be killed.
#[test]
fn a_watchdog_hears_of_a_host_that_tries_out_a_version_for_long() {
    let manager = Manager::at_a_path();
    let mut config = Config::new().handler("h", "echo-handler", "");
    let launch = manager.of(Launch::serve(&config)).process_env("WATCHDOG_USEC", "40000");
    let host = launch.start();
    manager.wait("READY=1");
    let spins = artifacts::text_component("handler_start_spin");
    // It is compiled for the first one, and found for the second.
    let told = ["10ms", "3s"].map(|start| {
        let lines = format!("listen = [\"127.0.0.1:0\"]\n[tenant.limits]\nstart = {start:?}");
        config.replace(Config::new().component("spins", &spins, &lines));
        host.signal(Signal::HUP);
        manager.wait("RELOADING=1");
        let told = std::iter::from_fn(|| Some(manager.next().swap_remove(0)));
        told.take_while(|told| told != "READY=1").filter(|told| told == "WATCHDOG=1").count()
    });
    // It asks every 10 ms, and could have done so 300 times.
    assert!(told[1] > 100, "{told:?}");
    host.stop();
}

#[test]
fn a_watchdog_of_another_process_is_left_alone() {
    let manager = Manager::at_a_path();
    let config = Config::new().handler("h", "echo-handler", "");
    let launch = manager.of(Launch::serve(&config)).process_env("WATCHDOG_USEC", "20000");
    let host = launch.process_env("WATCHDOG_PID", "1").start();
    manager.wait("READY=1");
    echoes(&host, "h");
    host.signal(Signal::TERM);
    assert_eq!(manager.next()[0], "STOPPING=1", "and nothing before");
    host.wait_exit().assert_code(0);
}

fn listener_at(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

fn listener() -> (TcpListener, SocketAddr) {
    listener_at("127.0.0.1:0")
}

fn copy(listener: &TcpListener) -> TcpListener {
    listener.try_clone().expect("there are descriptors")
}

fn handler_at(address: SocketAddr) -> String {
    format!("listen = [\"{address}\"]")
}

/// A connection that came before the process did is served, and no socket is bound anew, by a reload neither.
#[test]
fn handlers_and_programs_listen_on_the_sockets_that_are_passed() {
    let ((first, at_first), (second, at_second)) = (listener(), listener());
    let early = [at_first, at_second].map(peer::connect);
    let program = format!("args = [\"{at_second}\"]\nallow-listen = [\"{at_second}\"]");
    let file = |more: &str| {
        Config::host("shared-instances = true")
            .tenant("h", "echo-handler", &format!("{}\n{more}", handler_at(at_first)))
            .tenant("p", "echo", &format!("{program}\n{more}"))
    };
    let mut config = file("");
    let host = Launch::serve(&config).passed("web", first).passed("", second).start();
    early.into_iter().for_each(|stream| peer::echo_exact(stream, 1000));
    assert_eq!((host.addr_of("h"), host.addr_of("p")), (at_first, at_second));
    config.replace(file("env = { N = \"1\" }"));
    host.signal(Signal::HUP);
    host.wait_line("0 added, 2 changed");
    for address in [at_first, at_second] {
        peer::echo_exact(peer::connect(address), 1000);
    }
    assert!(!host.stderr().contains("no tenant listens"), "{host:?}");
    host.stop();
}

/// Where `bind` would fail: the port is taken by the socket that is passed, whatever the right to it.
#[test]
fn nobody_needs_the_right_to_bind_what_is_passed() {
    let path = std::path::Path::new("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = std::fs::read_to_string(path).expect("Linux").trim().parse().expect("a port");
    let mut privileged = (1..first).rev();
    let Some((low, at)) = privileged.find_map(|port| {
        let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
        let address = listener.local_addr().expect("it is bound");
        Some((listener, address))
    }) else {
        eprintln!("NOT TESTED: this user may not bind a port below {first}");
        return;
    };
    let config = Config::new().tenant("h", "echo-handler", &handler_at(at));
    // No capability is left then, and the reload binds nothing.
    let host = Launch::serve(&config).passed("low", low).start();
    peer::echo_exact(host.connect_to("h"), 1000);
    host.signal(Signal::HUP);
    host.wait_line("reloaded ");
    peer::echo_exact(peer::connect(at), 1000);
    host.stop();
}

#[test]
fn addresses_of_ipv6_are_found_however_they_are_written() {
    let (socket, at) = listener_at("[::1]:0");
    let written = format!("listen = [\"[0:0:0:0:0:0:0:1]:{}\"]", at.port());
    let config = Config::new().tenant("h", "echo-handler", &written);
    let host = Launch::serve(&config).passed("six", socket).start();
    assert_eq!(host.addr_of("h"), at);
    peer::echo_exact(peer::connect(at), 1000);
    host.stop();
}

/// It stays open, and who comes to name it has it, with those who wait in it.
#[test]
fn a_socket_that_nobody_names_is_told_of_and_kept_for_a_reload() {
    let ((wanted, at), (later, at_later)) = (listener(), listener());
    let file =
        |addresses: &str| Config::new().tenant("h", "echo-handler", &format!("listen = [{addresses}]"));
    let (one, both) = (format!("\"{at}\""), format!("\"{at}\", \"{at_later}\""));
    let mut config = file(&one);
    let host = Launch::serve(&config).passed("web", wanted).passed("late", later).start();
    let line = host.wait_line("no tenant listens");
    assert!(line.contains("`late`") && line.contains(&at_later.to_string()), "{line}");
    let waits = peer::connect(at_later);
    for (nth, addresses) in [&both, &one, &both].into_iter().enumerate() {
        config.replace(file(addresses));
        host.signal(Signal::HUP);
        host.wait_count("reloaded ", nth + 1);
        if addresses == &both {
            peer::echo_exact(peer::connect(at_later), 1000);
        }
    }
    peer::echo_exact(waits, 1000);
    peer::echo_exact(peer::connect(at), 1000);
    assert_eq!(host.stderr().matches("no tenant listens").count(), 2, "{host:?}");
    host.stop();
}

/// Who passes a socket has it still, and with it the peers who come when the host has gone.
#[test]
fn who_connects_between_two_hosts_is_served_by_the_second() {
    let (socket, at) = listener();
    let config = Config::new().tenant("h", "echo-handler", &handler_at(at));
    let start = || Launch::serve(&config).passed("web", copy(&socket)).start();
    let first = start();
    peer::echo_exact(first.connect_to("h"), 1000);
    first.stop();
    let between = peer::connect(at);
    let second = start();
    peer::echo_exact(between, 1000);
    second.stop();
}

/// Its own probes included.
#[test]
fn the_admin_listens_on_what_is_passed() {
    let ((socket, at), (probes, at_probes)) = (listener(), listener());
    let lines = format!("admin-address = \"{at}\"\nprobe-address = \"{at_probes}\"");
    let config = Config::host(&lines).handler("h", "echo-handler", "");
    let host = Launch::serve(&config).passed("admin", socket).passed("probes", probes).start();
    host.addr_of("h");
    host.wait_line(&format!("admin at http://{at}/"));
    for address in [at, at_probes] {
        admin::request(peer::connect(address), "GET", "/healthz", &address.to_string()).assert(200);
    }
    assert!(!host.stderr().contains("no tenant listens"), "{host:?}");
    host.stop();
}

#[test]
fn what_cannot_be_listened_on_is_refused_by_its_name() {
    let config = Config::new().handler("h", "echo-handler", "");
    let (_listens, at) = listener();
    let refused = |launch: Launch, name: &str, why: &str| {
        launch.finish().assert_code(2).assert_stderr(&format!("`{name}`")).assert_stderr(why);
    };
    let launch = || Launch::serve(&config);
    refused(launch().passed("web", peer::connect(at)), "web", "does not listen");
    let (unix, _other) = std::os::unix::net::UnixStream::pair().expect("there are descriptors");
    refused(launch().passed("unix", unix), "unix", "not a valid tcp socket");
    refused(launch().passed("dns", UdpSocket::bind("127.0.0.1:0").expect("a port")), "dns", "tcp socket");
    let file = std::fs::File::open(config.path()).expect("it is there");
    refused(launch().passed("", file), "3", "not a socket");
    let (socket, _) = listener();
    let launch = Launch::guest("echo-handler").passed("web", socket.try_clone().expect("descriptors"));
    refused(launch.passed("more", peer::connect(at)), "more", "does not listen");
}

/// What another process was meant to have is none of the host's business.
#[test]
fn sockets_of_another_process_are_left_alone() {
    let config = Config::new().handler("h", "echo-handler", "");
    for (key, value) in [("LISTEN_PID", "1"), ("LISTEN_FDNAMES", "web")] {
        let launch = Launch::serve(&config).process_env("LISTEN_FDS", "1").process_env(key, value);
        let host = launch.start();
        peer::echo_exact(host.connect_to("h"), 1000);
        host.stop();
    }
}

/// Without an option a handler has all that is passed; a program binds what its grants say.
#[test]
fn run_listens_on_what_is_passed() {
    let ((first, at_first), (second, at_second)) = (listener(), listener());
    let host = Launch::guest("echo-handler").passed("one", copy(&first)).passed("two", second).start();
    for address in [at_first, at_second] {
        host.wait_line(&format!("listening on {address}"));
        peer::echo_exact(peer::connect(address), 1000);
    }
    host.stop();

    let named = Launch::guest("echo-handler").option("--listen", at_first.to_string());
    let (other, _) = listener();
    let host = named.passed("one", copy(&first)).passed("other", other).start();
    host.wait_line("`other`");
    peer::echo_exact(peer::connect(at_first), 1000);
    host.stop();

    let program = Launch::guest("echo").arg(at_first.to_string()).passed("one", first);
    let host = program.start();
    peer::echo_exact(peer::connect(host.addr()), 1000);
    assert_eq!(host.addr(), at_first);
    host.stop();
}

/// As a unit's `ListenStream=` does it: the process comes with the first connection.
#[test]
fn systemd_itself_passes_a_socket() {
    let systemd = "/usr/bin/systemd-socket-activate";
    if !std::path::Path::new(systemd).exists() {
        assert!(std::env::var_os("CONET_CI").is_none(), "{systemd} is not there: install systemd");
        eprintln!("NOT TESTED: {systemd} is not there");
        return;
    }
    let at = SocketAddr::from(([127, 0, 0, 1], process::free_port()));
    let config = Config::new().tenant("h", "echo-handler", &handler_at(at));
    let mut command = Command::new(systemd);
    command.arg("-l").arg(at.to_string()).arg("--fdname=web").arg(artifacts::host());
    let mut child = command.arg("serve").arg(config.path()).spawn().expect("it is there");
    // Until it listens, nobody does.
    let stream = loop {
        match TcpStream::connect(at) {
            Ok(stream) => break stream,
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
        assert!(child.try_wait().expect("it is ours").is_none(), "it has ended");
    };
    stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
    peer::echo_exact(stream, 1000);
    let process = Process::of(child.id());
    process.signal(Signal::TERM);
    assert!(process.wait_end(PATIENCE), "it drains");
    assert!(child.wait().expect("it is ours").success());
}
