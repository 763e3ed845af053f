//! Where a guest is, or was when it trapped: by file and line, if its component has debug information.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use conet_tests::admin::Socket;
use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{artifacts, peer};
use serde_json::Value;

const SOURCE: &str = "tests/guests/src/bin/lines.rs";

/// Tells the guest how to go on; it answers with the line that it is about to be at.
fn tell(mut stream: &TcpStream, how: u8) -> u32 {
    stream.write_all(&[how]).expect("it is connected");
    let line = peer::read_line(&mut stream.try_clone().expect("a descriptor")).parse().expect("a number");
    assert!(source_line(line).is_some(), "{line}");
    line
}

/// The guest's own source, so that a line is seen to be the one that is meant.
fn source_line(line: u32) -> Option<String> {
    let source = fs::read_to_string(artifacts::workspace().join(SOURCE)).expect("the guest's source");
    source.lines().nth((line as usize).checked_sub(1)?).map(str::to_owned)
}

/// Has a connection's guest trap; gives the frame with the line that it was at, and what that line is in the source.
#[track_caller]
fn trap(host: &Host, mut stream: TcpStream, how: u8, times: usize) -> (String, String) {
    let line = tell(&stream, how);
    peer::expect_reset(&mut stream);
    let place = format!(" at {SOURCE}:{line} < ");
    host.wait_count(&place, times);
    let logged = host.wait_line(&place);
    let frame = logged.split(" < ").find(|frame| frame.ends_with(place.trim_end_matches(" < ")));
    (frame.expect("it is there").to_owned(), source_line(line).expect("it is in the source"))
}

/// After so many others that did.
#[track_caller]
fn assert_names_its_lines(host: &Host, connect: impl Fn() -> TcpStream, before: usize) {
    let (frame, source) = trap(host, connect(), b'p', before + 1);
    assert!(frame.starts_with("lines::panics at tests/") && source.contains("panic!("), "{frame}: {source}");
    let (frame, source) = trap(host, connect(), b'u', before + 1);
    let inlined = "lines::unwraps at library/core/src/option.rs:";
    assert!(frame.starts_with(inlined) && source.contains(".unwrap()"), "{frame}: {source}");
    assert!(frame.contains(", inlined at tests/"), "{frame}");
}

fn served(cache: &Path, component: &Path) -> Config {
    let handler = "listen = [\"127.0.0.1:0\"]\nisolation =";
    Config::of(format!("[host]\ncache = {cache:?}\nshared-instances = true\n"))
        .component("own", component, &format!("{handler} \"connection\""))
        .component("shared", component, &format!("{handler} \"shared\""))
}

/// A component that a child compiles, and then what is kept of it.
#[test]
fn a_trap_names_the_file_and_the_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cache = folder.path().join("cache");
    let config = served(&cache, &artifacts::guest("lines"));
    for start in ["cold", "from the cache"] {
        println!("{start}");
        let kept = fs::read_dir(&cache).map_or(0, Iterator::count);
        assert_eq!(kept > 0, start != "cold");
        let host = Launch::serve(&config).start();
        for (before, tenant) in ["own", "shared"].into_iter().enumerate() {
            assert_names_its_lines(&host, || host.connect_to(tenant), before);
        }
        host.stop();
    }
}

#[test]
fn so_does_one_of_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for isolation in ["connection", "shared"] {
        for _ in ["cold", "from the cache"] {
            let cache = folder.path().join(isolation);
            let launch = Launch::handler("lines").option("--isolation", isolation).option("--cache", cache);
            let host = launch.start();
            assert_names_its_lines(&host, || host.connect(), 0);
            host.stop();
        }
    }
}

/// A coroutine of `go`, in an instance that others share.
#[test]
fn so_does_a_coroutine_of_go() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let host =
        Launch::serve(&served(folder.path().join("cache").as_path(), &artifacts::guest("lines"))).start();
    let (frame, source) = trap(&host, host.connect_to("shared"), b'g', 1);
    assert!(frame.starts_with("lines::panics at ") && source.contains("panic!("), "{frame}: {source}");
    assert!(host.stderr().contains("guest-sdk/src/coroutine.rs:"), "it is started by `go`");
    host.stop();
}

/// With coroutines that share it, and an ordinary one.
#[test]
fn so_does_a_program() {
    for (guest, function) in
        [("lines_program", "lines_program::panics"), ("lines_command", "lines_command::main")]
    {
        let exit = Launch::guest(guest).finish();
        let line = exit.stdout_text();
        exit.assert_stderr(&format!(" < {function} at tests/guests/src/bin/{guest}.rs:{} < ", line.trim()));
    }
}

#[test]
fn stacks_of_coroutines_have_lines() {
    let socket = Socket::new();
    let handler = |isolation: &str| format!("isolation = \"{isolation}\"");
    let config = Config::host(&format!("{}\nshared-instances = true", socket.line()))
        .handler("own", "lines", &handler("connection"))
        .handler("shared", "lines", &handler("shared"));
    let host = Launch::serve(&config).start();
    host.wait_line("admin at ");
    let coroutines = |query: &str, is_told: &dyn Fn(&Value) -> bool| {
        let told = |body: &str| serde_json::from_str::<Value>(body).expect("JSON")["coroutines"][0].clone();
        let response =
            socket.wait(&format!("/coroutines?{query}"), |response| is_told(&told(&response.body)));
        told(&response.body)
    };
    for tenant in ["own", "shared"] {
        let stream = host.connect_to(tenant);
        let waits = |state: &'static str| move |one: &Value| one["state"] == state;
        coroutines(&format!("tenant={tenant}&stacks=1"), &waits("recv"));
        // In a shared instance that of its next call is told, and then nothing reaches it: it tells of the line before.
        let line = tell(&stream, b's') - u32::from(tenant == "shared");
        let query = format!("tenant={tenant}&state=sleep&stacks=1");
        let one = coroutines(&query, &|one| one["stack"].to_string().contains("lines::sleeps"));
        let frames = one["stack"]["frames"].as_array().expect("a list").clone();
        let frame = frames.iter().filter_map(Value::as_str).find(|frame| frame.contains("lines::sleeps"));
        let expected = format!("{SOURCE}:{line}");
        assert!(frame.is_some_and(|frame| frame.ends_with(&expected)), "{expected} in {frames:?}");
        let output = std::process::Command::new(artifacts::host())
            .args(["ps", "--stacks", "--tenant", tenant, "--socket"])
            .arg(socket.path())
            .output()
            .expect("the host can be run");
        let shown = String::from_utf8(output.stdout).expect("text");
        assert!(shown.contains("lines::sleeps at ") && shown.contains(&expected), "{shown}");
    }
    host.signal(Signal::KILL);
}

/// The component with other bytes in the section of lines.
fn damaged() -> PathBuf {
    let mut bytes = fs::read(artifacts::guest("lines")).expect("it was built");
    let name = b".debug_line";
    // Not `.debug_line_str`: the name's length stands before it.
    let is_name = |window: &[u8]| window[0] as usize == name.len() && &window[1..] == name;
    let start = bytes.windows(name.len() + 1).position(is_name).expect("it has lines") + name.len() + 1;
    bytes[start..start + 2000].fill(0xff);
    let path = artifacts::scratch().join("damaged-lines.wasm");
    fs::write(&path, bytes).expect("the scratch folder is ours");
    path
}

#[test]
fn a_component_with_garbage_for_lines_is_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let launch = Launch::serve(&served(folder.path().join("cache").as_path(), &damaged())).flag("-vv");
    // wasmtime's own switch has no effect.
    let host = launch.process_env("WASMTIME_BACKTRACE_DETAILS", "1").start();
    host.wait_line("debug information of a component is not read, or not all of it: it is malformed: ");
    let mut stream = host.connect_to("own");
    tell(&stream, b'p');
    peer::expect_reset(&mut stream);
    host.wait_line(" < lines::panics < lines::on_connection < ");
    host.stop();
}
