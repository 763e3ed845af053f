//! What the admin tells, the commands it takes, and who may ask.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;
use std::time::Instant;

use conet_tests::admin::{Response, Socket, address, both, exchange, ready, request, tenant, wait_state};
use conet_tests::config::Config;
use conet_tests::exposition::Samples;
use conet_tests::host::Launch;
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, artifacts, peer};
use serde_json::Value;

const SHARED: &str = "shared-instances = true";

fn wait_gone(socket: &Socket, name: &str) {
    let named = format!("\"name\":\"{name}\"");
    socket.wait("/tenants", |tenants| !tenants.assert(200).body.contains(&named));
}

#[test]
fn the_socket_is_for_this_user_alone_and_goes_with_the_host() {
    let socket = Socket::new();
    let host = ready(Launch::serve(&both(&socket)).start(), &socket);
    let found = std::fs::metadata(socket.path()).expect("it is there");
    assert!(found.file_type().is_socket());
    assert_eq!(found.mode() & 0o777, 0o600);
    host.stop();
    assert!(!socket.path().exists());
}

#[test]
fn pages_answer_over_the_socket_and_the_address() {
    let socket = Socket::new();
    let host = ready(Launch::serve(&both(&socket)).start(), &socket);
    let address = address(&host);
    for (page, kind) in [
        ("/healthz", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/tenants", "application/json"),
    ] {
        let unix = socket.get(page);
        let tcp = request(peer::connect(address), "GET", page, &address.to_string());
        for response in [unix, tcp] {
            response.assert(200);
            assert!(response.has_header(&format!("content-type: {kind}")), "{response:?}");
            assert!(response.has_header("cache-control: no-store"), "{response:?}");
        }
        socket.post(page).assert(405);
    }
    socket.get("/nothing").assert(404);
    host.stop();
}

/// Whoever is on this machine may connect there, and so may a page whose name was made to mean this machine.
#[test]
fn the_address_takes_no_commands_and_knows_no_names() {
    let socket = Socket::new();
    let host = ready(Launch::serve(&both(&socket)).start(), &socket);
    let address = address(&host);
    let ask = |method, page, host: &str| request(peer::connect(address), method, page, host);
    for command in ["/reload", "/tenants/h/drain", "/tenants/h/restart"] {
        ask("POST", command, "localhost").assert(403);
        ask("GET", command, "localhost").assert(405);
    }
    ask("GET", "/tenants", "rebound.example").assert(403);
    peer::echo_exact(host.connect_to("h"), 1000);
    host.stop();
}

#[test]
fn tenants_are_told_with_their_limits() {
    let socket = Socket::new();
    let program = "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]\nweight = 3";
    let config = Config::host(&format!("{}\n{SHARED}", socket.line()))
        .tenant("program", "echo", program)
        .handler("h", "echo-handler", "[tenant.limits]\ntenant-memory = \"64MiB\"");
    let host = ready(Launch::serve(&config).start(), &socket);
    let addresses = ["program", "h"].map(|name| host.addr_of(name).to_string());
    let tenants = socket.get("/tenants");
    let (program, handler) = (tenant(&tenants, "program"), tenant(&tenants, "h"));
    assert_eq!((&program["role"], &handler["role"]), (&"shared program".into(), &"handler".into()));
    assert_eq!((&program["weight"], &handler["weight"]), (&3.into(), &1.into()));
    assert_eq!(program["listeners"], serde_json::json!([addresses[0]]));
    assert_eq!(handler["listeners"], serde_json::json!([addresses[1]]));
    assert_eq!(handler["memory_bytes"]["limit"], 64 << 20);
    assert_eq!(program["state"], "running");
    assert!(program["cpu_seconds"].as_f64().expect("a number") >= 0.0);
    host.stop();
}

#[test]
fn a_tenant_drains_alone() {
    let socket = Socket::new();
    let config =
        Config::host(&socket.line()).handler("goes", "echo-handler", "").handler("stays", "echo-handler", "");
    let host = ready(Launch::serve(&config).start(), &socket);
    let address = host.addr_of("goes");
    let mut stream = host.connect_to("goes");
    peer::round_trip(&mut stream, b"before");
    socket.post("/tenants/goes/drain").assert(200);
    assert_eq!(tenant(&socket.get("/tenants"), "goes")["state"], "draining");
    assert_eq!(tenant(&socket.get("/tenants"), "goes")["listeners"], serde_json::json!([]));
    peer::round_trip(&mut stream, b"within the drain");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    assert_eq!(peer::read_all(&mut stream), b"");
    wait_gone(&socket, "goes");
    socket.post("/tenants/goes/drain").assert(404);
    assert!(TcpStream::connect(address).is_err(), "nobody waits in its backlog");
    peer::echo_exact(host.connect_to("stays"), 1000);
    socket.get("/readyz").assert(200);
    // The file still has it.
    assert!(socket.post("/reload").assert(200).body.contains("1 added"));
    wait_state(&socket, "goes", "running");
    host.stop();
}

#[test]
fn a_program_that_has_ended_is_started_again_by_command() {
    let socket = Socket::new();
    let lines = "restart = \"never\"\nargs = [\"3\"]";
    let config = Config::host(&format!("{}\n{SHARED}", socket.line())).tenant("ends", "exit_code", lines);
    let host = ready(Launch::serve(&config).start(), &socket);
    wait_state(&socket, "ends", "ended");
    socket.post("/tenants/ends/restart").assert(200);
    socket.wait("/tenants", |tenants| {
        let ends = tenant(tenants, "ends");
        ends["counters"]["restarts"] == 1 && ends["state"] == "ended"
    });
    socket.post("/tenants/none/restart").assert(404);
    host.stop();
}

/// A handler and a program: whoever is connected stays with the old version, and who comes finds the new one.
#[test]
fn a_tenant_that_runs_begins_anew_by_command() {
    let socket = Socket::new();
    let program = "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]";
    let config = Config::host(&format!("{}\n{SHARED}", socket.line()))
        .handler("h", "echo-handler", "")
        .tenant("p", "echo", program);
    let host = ready(Launch::serve(&config).start(), &socket);
    for name in ["h", "p"] {
        let address = host.addr_of(name);
        let mut before = host.connect_to(name);
        peer::round_trip(&mut before, b"before");
        let said = socket.post(&format!("/tenants/{name}/restart"));
        assert!(said.assert(200).body.starts_with(&format!("{name} has begun anew; ")), "{said:?}");
        peer::round_trip(&mut before, b"and after");
        // For a moment both versions accept.
        let moved = |tenants: &Response| {
            let now = tenant(tenants, name);
            let accepted = now["counters"]["accepted"].as_u64() > Some(0);
            if !accepted {
                peer::echo_exact(peer::connect(address), 1000);
            }
            accepted && now["state"] == "running" && now["older_coroutines"].as_u64() > Some(0)
        };
        socket.wait("/tenants", moved);
        peer::round_trip(&mut before, b"still");
        drop(before);
        socket.wait("/tenants", |tenants| tenant(tenants, name)["older_coroutines"] == 0);
        peer::echo_exact(peer::connect(address), 1000);
    }
    socket.post("/tenants/none/restart").assert(404);
    host.stop();
}

#[test]
fn a_reload_tells_what_came_of_it() {
    let socket = Socket::new();
    let config = Config::host(&socket.line()).handler("h", "echo-handler", "");
    let host = ready(Launch::serve(&config).start(), &socket);
    let mut before = host.connect_to("h");
    peer::round_trip(&mut before, b"before");
    assert!(socket.post("/reload").assert(200).body.contains("0 changed, 0 removed, 1 as they were"));
    let config = config.with("weight = 3");
    assert!(socket.post("/reload").assert(200).body.contains("1 changed"));
    let now = tenant(&socket.get("/tenants"), "h");
    assert_eq!(
        (&now["weight"], &now["older_coroutines"], &now["state"]),
        (&3.into(), &1.into(), &"running".into())
    );
    // Both versions are there, and each series is, once.
    Samples::read(&socket.get("/metrics").assert(200).body);
    drop(before);
    socket.wait("/tenants", |tenants| tenant(tenants, "h")["older_coroutines"] == 0);
    let config = config.with("nonsense = 1");
    let refused = socket.post("/reload");
    assert!(refused.assert(409).body.contains("`nonsense` is unknown"), "{refused:?}");
    assert_eq!(tenant(&socket.get("/tenants"), "h")["state"], "running");
    host.stop();
    drop(config);
}

#[test]
fn while_it_drains_the_host_is_alive_and_not_ready() {
    let socket = Socket::new();
    let host = ready(Launch::serve(&both(&socket)).start(), &socket);
    let mut stream = host.connect_to("h");
    peer::round_trip(&mut stream, b"before");
    host.signal(Signal::TERM);
    let response = socket.wait("/readyz", |response| response.status != 200);
    assert_eq!((response.status, response.body.as_str()), (503, "draining\n"));
    socket.get("/healthz").assert(200);
    wait_state(&socket, "h", "draining");
    drop(stream);
    host.wait_exit().assert_code(0);
}

/// Who is slow or asks for too much keeps nobody from the socket, nor from the tenants.
#[test]
fn slow_and_huge_requests_harm_nobody() {
    let socket = Socket::new();
    let host = ready(Launch::serve(&both(&socket)).start(), &socket);
    let address = address(&host);
    let mut slow: Vec<TcpStream> = (0..100).map(|_| peer::connect(address)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /tenants HTTP/1.1\r\nHost: loc").expect("it is connected, or in the backlog");
    }
    socket.get("/healthz").assert(200);
    let name = "x".repeat(1 << 20);
    let huge = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {name}\r\n\r\n");
    exchange(socket.connect(), huge.as_bytes()).assert(431);
    // The head ends, and a body that nobody reads begins.
    let body = "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n";
    exchange(socket.connect(), body.as_bytes()).assert(200);
    exchange(socket.connect(), b"\x16\x03\x01 not HTTP\r\n\r\n").assert(400);
    peer::echo_exact(host.connect_to("h"), 100_000);
    // The slow ones have had their time, and others come in.
    let ended = slow[0].read(&mut [0; 1024]);
    assert!(ended.is_ok() || ended.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    drop(slow);
    request(peer::connect(address), "GET", "/healthz", "localhost").assert(200);
    host.stop();
}

#[test]
fn what_a_killed_host_left_is_replaced() {
    let socket = Socket::new();
    let config = both(&socket);
    let host = ready(Launch::serve(&config).start(), &socket);
    host.signal(Signal::KILL);
    drop(host);
    assert!(socket.path().exists(), "nobody has removed it");
    ready(Launch::serve(&config).start(), &socket).stop();
}

#[test]
fn a_second_host_cannot_take_the_first_one_s_socket() {
    let socket = Socket::new();
    let config = both(&socket);
    let host = ready(Launch::serve(&config).start(), &socket);
    Launch::serve(&config).finish().assert_code(5).assert_stderr("another process serves it");
    socket.get("/readyz").assert(200);
    host.stop();
    std::fs::write(socket.path(), "precious").expect("a file");
    Launch::serve(&config).finish().assert_code(5).assert_stderr("something else of that name");
    assert_eq!(std::fs::read(socket.path()).expect("it is still there"), b"precious");
}

fn client(args: &[&str], socket: &Socket) -> (Option<i32>, String, String) {
    let output = Command::new(artifacts::host()).args(args).arg("--socket").arg(socket.path()).output();
    let output = output.expect("the host can be run");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_terminal_s_commands_ask_a_host_that_runs() {
    let socket = Socket::new();
    let host = ready(Launch::serve(&both(&socket)).start(), &socket);
    let stream = host.connect_to("h");
    let (code, table, _) = client(&["tenants"], &socket);
    assert_eq!(code, Some(0));
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows.len() == 2 && rows[0].starts_with("TENANT") && rows[1].starts_with("h "), "{table}");
    assert!(rows[1].contains("running") && rows[1].ends_with(&host.addr_of("h").to_string()), "{table}");
    let (code, json, _) = client(&["tenants", "--json"], &socket);
    let told: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &told["tenants"][0]["name"]), (Some(0), &"h".into()));
    let (code, top, _) = client(&["top", "--looks", "2", "--every", "10ms"], &socket);
    assert_eq!((code, top.matches("TENANT").count()), (Some(0), 2), "{top}");
    assert!(top.starts_with("conet-host ") && top.contains("/s"), "{top}");
    let (code, said, _) = client(&["reload"], &socket);
    assert!(code == Some(0) && said.contains("1 as they were"), "{said}");
    let (code, _, error) = client(&["drain", "none"], &socket);
    assert!(code == Some(1) && error.contains("no tenant \"none\" is served"), "{error}");
    let (code, _, error) = client(&["drain", "../x"], &socket);
    assert!(code == Some(2) && error.contains("names are of"), "{error}");
    let (code, said, _) = client(&["drain", "h"], &socket);
    assert!(code == Some(0) && said.contains("accepts nothing new"), "{said}");
    drop(stream);
    wait_gone(&socket, "h");
    host.stop();
    for command in [&["tenants"][..], &["top"], &["reload"], &["drain", "h"], &["restart", "h"]] {
        let (code, _, error) = client(command, &socket);
        assert!(code == Some(1) && error.contains("no host listens at"), "{command:?}: {error}");
    }
}

#[test]
fn an_address_that_others_reach_is_refused() {
    let config = Config::host("admin-address = \"0.0.0.0:0\"").handler("h", "echo-handler", "");
    Launch::check(&config).finish().assert_code(2).assert_stderr("put a proxy in front");
}

/// They may come from other machines, so that is all there is.
#[test]
fn probes_have_an_address_of_their_own_that_tells_nothing_else() {
    let config = Config::host("probe-address = \"0.0.0.0:0\"").handler("h", "echo-handler", "");
    let host = Launch::serve(&config).start();
    let line = host.wait_line("probes at http://");
    let address: SocketAddr = line
        .trim_start_matches("probes at http://")
        .trim_end_matches('/')
        .parse()
        .unwrap_or_else(|_| panic!("{line}"));
    let address = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let ask = |method, page| request(peer::connect(address), method, page, "conet.example:7071");
    host.addr_of("h");
    ask("GET", "/healthz").assert(200);
    let start = Instant::now();
    while ask("GET", "/readyz").status != 200 {
        assert!(start.elapsed() < PATIENCE, "never ready");
    }
    assert!(ask("GET", "/metrics").assert(200).body.contains("conet_ready 1"));
    for page in ["/", "/tenants", "/reload", "/tenants/h/drain"] {
        ask("GET", page).assert(404);
        ask("POST", page).assert(404);
    }
    // It is ready no longer before it has ended.
    let mut open = host.connect_to("h");
    peer::round_trip(&mut open, b"under way");
    host.signal(Signal::TERM);
    host.wait_line("shutting down: ");
    let start = Instant::now();
    while ask("GET", "/readyz").status != 503 {
        assert!(start.elapsed() < PATIENCE, "still ready");
    }
    drop(open);
    host.wait_exit().assert_code(0);
}
