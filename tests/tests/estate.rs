//! What an upgrade hands on beside connections: ports and sockets that the next process could not have by itself, and the
//! service manager.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::host::Launch;
use conet_tests::process::Signal;
use conet_tests::upgrade::{ask, upgrade, version};
use conet_tests::{PATIENCE, artifacts, peer};

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

/// For a moment it has another name, which may be longer than the system has room for.
#[test]
fn an_admin_s_socket_that_cannot_be_had_is_told_of() {
    let room = 107 - artifacts::scratch().as_os_str().len() - "//a".len();
    let folder = artifacts::scratch().join("x".repeat(room));
    fs::create_dir_all(&folder).expect("the scratch folder is ours");
    let admin = format!("admin = {:?}", folder.join("a"));
    let host = Launch::serve(&Config::host(&admin).handler("h", "echo-handler", "")).start();
    let mut old = host.connect_to("h");
    peer::round_trip(&mut old, b"the old one");
    host.signal(Signal::USR2);
    let successor = host.wait_successor(1);
    host.wait_line("this host has no admin: cannot have the admin's socket");
    let told = host.wait_line("upgraded: process ");
    assert!(told.contains("its admin may not answer: cannot have the admin's socket"), "{told}");
    peer::echo_exact(host.connect_to("h"), 1000);
    drop(old);
    successor.stop();
    host.wait_exit().assert_code(0);
    fs::remove_dir_all(folder).expect("it is ours");
}
