//! Nothing is reachable unless granted, and a denial names the flag that would grant it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use conet_tests::host::{Exit, Launch};
use conet_tests::peer;
use conet_tests::upstream::Upstream;

#[test]
fn listening_on_a_low_port_is_denied() {
    denied_listen("127.0.0.1:80");
}

#[test]
fn listening_on_all_addresses_is_denied() {
    denied_listen("0.0.0.0:7001");
    denied_listen("[::]:7001");
}

#[test]
fn granted_address_can_be_listened_on() {
    let host = Launch::guest("echo").option("--allow-listen", "0.0.0.0:*").arg("0.0.0.0:0").start();
    let addr = host.addr();
    assert!(addr.ip().is_unspecified(), "{addr}");
    peer::echo_exact(peer::connect(([127, 0, 0, 1], addr.port()).into()), 1000);
    host.stop();
}

#[test]
fn ipv6_loopback_can_be_listened_on() {
    // Not every machine has IPv6; one that has none cannot tell.
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let host = Launch::guest("echo").arg("[::1]:0").start();
    peer::echo_exact(host.connect(), 1000);
    host.stop();
}

#[test]
fn connecting_is_denied_by_default() {
    let upstream = Upstream::echo();
    let addr = upstream.addr().to_string();
    let exit = Launch::guest("client").arg(&addr).finish();
    exit.assert_code(1).assert_stderr(&format!("--allow-connect {addr}"));
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn connecting_by_name_is_denied_by_that_name() {
    let upstream = Upstream::echo();
    let target = format!("localhost:{}", upstream.addr().port());
    let exit = Launch::guest("client").arg(&target).finish();
    exit.assert_code(1).assert_stderr(&format!("--allow-connect {target}"));
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn granted_name_can_be_connected_to() {
    let upstream = Upstream::echo();
    let target = format!("localhost:{}", upstream.addr().port());
    Launch::guest("client").option("--allow-connect", &target).arg(&target).finish().assert_code(0);
    assert!(upstream.accepted() > 0);
}

/// A grant for other places opens nothing here: neither another port, nor `public`, nor an IPv4 address in IPv6 clothes.
#[test]
fn grant_is_for_what_it_names_only() {
    let upstream = Upstream::echo();
    let port = upstream.addr().port();
    let other = format!("127.0.0.1:{}", port ^ 1);
    for grant in ["public:*", "127.0.0.2:*", "10.0.0.0/8:*", &other] {
        for target in [format!("127.0.0.1:{port}"), format!("[::ffff:127.0.0.1]:{port}")] {
            let exit = Launch::guest("client").option("--allow-connect", grant).arg(&target).finish();
            exit.assert_code(1).assert_stderr("--allow-connect");
        }
    }
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn folder_can_be_read_and_written() {
    let folder = folder();
    let grant = format!("{}::/data", folder.path().display());
    assert_eq!(files(&grant, "read", "/data/note.txt"), "ok a note\n");
    assert_eq!(files(&grant, "write", "/data/new.txt"), "ok written\n");
    assert_eq!(fs::read_to_string(folder.path().join("new.txt")).expect("written"), "written by the guest");
}

#[test]
fn read_only_folder_cannot_be_written() {
    let folder = folder();
    let grant = format!("{}::/data:ro", folder.path().display());
    assert_eq!(files(&grant, "read", "/data/note.txt"), "ok a note\n");
    for path in ["/data/new.txt", "/data/note.txt"] {
        let answer = files(&grant, "write", path);
        assert!(answer.starts_with("failed"), "{answer}");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1);
    assert_eq!(fs::read_to_string(folder.path().join("note.txt")).expect("it is there"), "a note");
}

#[test]
fn folder_cannot_be_left() {
    let outside = folder();
    let inside = tempfile::tempdir().expect("a temporary folder");
    symlink(outside.path().join("note.txt"), inside.path().join("link")).expect("ours");
    symlink(outside.path(), inside.path().join("folder")).expect("ours");
    let grant = format!("{}::/data", inside.path().display());
    let name = outside.path().file_name().expect("it has a name").to_str().expect("of ASCII");
    let above = format!("/data/../{name}/note.txt");
    let direct = outside.path().join("note.txt");
    let direct = direct.to_str().expect("of ASCII");
    for path in
        ["/data/link", "/data/folder/note.txt", &above, direct, "/etc/passwd", "/data/../../etc/passwd"]
    {
        let answer = files(&grant, "read", path);
        assert!(answer.starts_with("failed"), "{path}: {answer}");
    }
}

#[test]
fn without_a_grant_there_is_no_file() {
    let exit = Launch::guest("files").arg("read").arg("/etc/passwd").finish();
    exit.assert_code(0);
    assert!(exit.stdout_text().starts_with("failed"), "{exit:?}");
}

fn denied_listen(addr: &str) {
    let exit: Exit = Launch::guest("echo").arg(addr).finish();
    exit.assert_code(1).assert_stderr(&format!("--allow-listen {addr}"));
    assert!(!exit.stderr.lines().any(|line| line.starts_with("listening on")), "{exit:?}");
}

/// A folder with a note in it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(Path::new(folder.path()).join("note.txt"), "a note").expect("ours");
    folder
}

fn files(grant: &str, operation: &str, path: &str) -> String {
    let exit = Launch::guest("files").option("--dir", grant).arg(operation).arg(path).finish();
    exit.assert_code(0);
    exit.stdout_text()
}
