//! A panic in any of the host's functions ends the coroutine that called it, and the host serves on.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::process::Command;

use conet_tests::artifacts;
use conet_tests::host::Launch;
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, peer, turn};

#[test]
fn panic_in_any_import_leaves_the_host_serving() {
    let _turn = turn();
    let faults = faults();
    assert!(faults.len() >= 15, "every import has its fault: {faults:?}");
    for fault in &faults {
        // Coroutines of one instance receive by way of its inbox.
        if fault != "tcp.recv" {
            serves_on(fibers(), fault);
        }
        // A plain handler cannot share its instance.
        if fault != "coroutine.go" && !fault.starts_with("inbox.") {
            serves_on(plain(), fault);
        }
    }
}

/// Without a fault the guests run to their end, so that what ends them above is the fault.
#[test]
fn guests_reach_every_import() {
    for guest in [plain(), fibers()] {
        let host = guest.start();
        let mut stream = host.connect();
        stream.write_all(b"?").expect("the guest receives");
        assert_eq!(peer::read_all(&mut stream), b"hello", "{host:?}");
        host.stop();
    }
}

fn serves_on(guest: Launch, fault: &str) {
    let host = guest.binary(artifacts::faulty_host()).process_env("CONET_FAULT", fault).start();
    for _ in 0..3 {
        let mut stream = match TcpStream::connect(host.addr()) {
            Ok(stream) => stream,
            // A guest that ends at once may be gone before its peer knows that it is connected.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => continue,
            Err(error) => panic!("{error}: {host:?}"),
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("the limit is not zero");
        // It may be gone already.
        let _ = stream.write_all(b"?");
        peer::expect_gone(&mut stream);
    }
    let message = format!("injected fault in {fault}");
    host.wait_line(&message);
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    let reached = exit.assert_code(0).stderr.matches(&message).count();
    assert!(reached >= 3, "the fault was reached by {reached} of 3 connections: {exit:?}");
}

fn plain() -> Launch {
    Launch::handler("every_import").option("--workers", "1").option("--allow-connect", "127.0.0.1:*")
}

fn fibers() -> Launch {
    let launch = Launch::handler("every_fiber_import").option("--isolation", "shared");
    launch.option("--workers", "1").option("--allow-connect", "127.0.0.1:*")
}

/// The imports that can be made to panic, as the host lists them.
fn faults() -> Vec<String> {
    let list = Command::new(artifacts::faulty_host()).env("CONET_FAULT", "list").output();
    let list = list.expect("cargo built it");
    assert!(list.status.success(), "{list:?}");
    String::from_utf8(list.stdout).expect("names").lines().map(str::to_owned).collect()
}
