//! The harness itself: its checks fail when they should.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::catch_unwind;
use std::process::Command;
use std::thread;
use std::time::Duration;

use conet_tests::artifacts::{remove_of_ended_processes, text_component, workspace};
use conet_tests::crowd::Crowd;
use conet_tests::peer;
use conet_tests::upstream::Upstream;

#[test]
fn echo_check_accepts_an_echo() {
    let upstream = Upstream::echo();
    for length in [0, 1, 65_537, 1 << 20] {
        peer::echo_exact(peer::connect(upstream.addr()), length);
    }
    Crowd::connect(upstream.addr(), 50).round(0);
    assert_eq!(upstream.accepted(), 54);
}

#[test]
fn echo_check_sees_a_wrong_a_missing_and_an_extra_byte() {
    let wrong: fn(&mut Vec<u8>) = |bytes| bytes[100_000] ^= 1;
    let missing: fn(&mut Vec<u8>) = |bytes| bytes.truncate(199_999);
    let extra: fn(&mut Vec<u8>) = |bytes| bytes.push(0);
    for change in [wrong, missing, extra] {
        let addr = serve_once(move |mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).expect("the peer ends its side");
            change(&mut all);
            // The check may have had enough before the end.
            let _ = stream.write_all(&all);
        });
        let check = catch_unwind(|| peer::echo_exact(peer::connect(addr), 200_000));
        assert!(check.is_err(), "the change was not seen");
    }
}

#[test]
fn reset_is_told_from_a_normal_end() {
    let addr = serve_once(drop);
    assert!(catch_unwind(|| peer::expect_reset(&mut peer::connect(addr))).is_err());
    let addr = serve_once(drop);
    peer::expect_gone(&mut peer::connect(addr));

    // It may come before the connection is known here.
    peer::expect_reset_of_new(serve_once(peer::reset));
}

#[test]
fn silence_is_told_from_an_answer_and_from_the_end() {
    let upstream = Upstream::echo();
    let mut stream = peer::connect(upstream.addr());
    assert!(peer::silent_for(&mut stream, Duration::from_millis(20)));
    stream.write_all(b"?").expect("it echoes");
    assert!(!peer::silent_for(&mut stream, Duration::from_secs(30)));

    let addr = serve_once(drop);
    assert!(!peer::silent_for(&mut peer::connect(addr), Duration::from_secs(30)));
}

#[test]
fn only_folders_of_live_processes_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut ended = Command::new("true").spawn().expect("a system has it");
    ended.wait().expect("it is our child");
    let folders = [ended.id(), std::process::id()].map(|id| folder.path().join(id.to_string()));
    for path in &folders {
        std::fs::create_dir(path).expect("ours");
        std::fs::write(path.join("left.wasm"), "").expect("ours");
    }
    remove_of_ended_processes(folder.path());
    assert_eq!(folders.map(|path| path.exists()), [false, true]);
}

/// What they do must be the reason that they are refused, not a slip of the pen.
#[test]
fn components_written_as_text_are_valid() {
    let texts = std::fs::read_dir(workspace().join("tests/guests/wat")).expect("it is in the repository");
    for text in texts {
        let path = text.expect("readable").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("of ASCII");
        let bytes = std::fs::read(text_component(name)).expect("it was just encoded");
        wasmparser::validate(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

/// A server of one connection.
fn serve_once(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || serve(listener.accept().expect("the test connects").0));
    addr
}
