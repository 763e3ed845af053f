//! What the admin tells, the commands it takes, and who may ask.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;
use std::time::{Duration, Instant};

use conet_tests::admin::{Response, Socket, exchange, request};
use conet_tests::browser::{browser, document};
use conet_tests::config::Config;
use conet_tests::exposition::Samples;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, artifacts, peer};
use serde_json::Value;

const ADDRESS: &str = "admin-address = \"127.0.0.1:0\"";
const SHARED: &str = "shared-instances = true";

/// With the admin at a socket and at an address, and a handler `h`.
fn both(socket: &Socket) -> Config {
    Config::host(&format!("{}\n{ADDRESS}", socket.line())).handler("h", "echo-handler", "")
}

fn address(host: &Host) -> SocketAddr {
    let line = host.wait_line("admin at http://");
    let address = line.trim_start_matches("admin at http://").trim_end_matches('/');
    address.parse().unwrap_or_else(|_| panic!("{line}"))
}

fn ready(host: Host, socket: &Socket) -> Host {
    host.wait_line("admin at ");
    socket.wait("/readyz", |response| response.status == 200);
    host
}

fn tenant(tenants: &Response, name: &str) -> Value {
    let told: Value = serde_json::from_str(&tenants.assert(200).body).expect("JSON");
    let tenants = told["tenants"].as_array().expect("a list");
    tenants.iter().find(|tenant| tenant["name"] == name).expect(name).clone()
}

fn wait_gone(socket: &Socket, name: &str) {
    let named = format!("\"name\":\"{name}\"");
    socket.wait("/tenants", |tenants| !tenants.assert(200).body.contains(&named));
}

fn wait_state(socket: &Socket, name: &str, state: &str) {
    socket.wait("/tenants", |tenants| tenant(tenants, name)["state"] == state);
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
fn metrics_are_right_and_move_with_what_happens() {
    let socket = Socket::new();
    let limits = "[tenant.limits]\nconnections = 7\nfresh-memory = \"4MiB\"";
    let config =
        Config::host(&socket.line()).handler("h", "echo-handler", limits).handler("bad", "panic", "");
    let host = ready(Launch::serve(&config).start(), &socket);
    let read = || Samples::read(&socket.get("/metrics").assert(200).body);
    let before = read();
    assert_eq!(before.of("conet_connections_accepted_total{tenant=\"h\"}"), 0.0);
    assert_eq!(before.of("conet_connections_limit{tenant=\"h\"}"), 7.0);
    assert_eq!(before.of("conet_ready"), 1.0);

    let mut streams: Vec<_> = (0..3).map(|_| host.connect_to("h")).collect();
    for stream in &mut streams {
        peer::round_trip(stream, b"ten bytes.");
    }
    let mut bad = host.connect_to("bad");
    bad.write_all(b"!").expect("it is connected");
    peer::expect_reset(&mut bad);
    // An accept may be between its permit and telling that it only waits.
    let connections =
        |response: &Response| Samples::read(&response.body).of("conet_connections{tenant=\"h\"}");
    socket.wait("/metrics", |response| connections(response) == 3.0);
    let during = read();
    for (series, value) in [
        ("conet_coroutines{tenant=\"h\"}", 3.0),
        ("conet_instances{tenant=\"h\"}", 3.0),
        ("conet_connections_accepted_total{tenant=\"h\"}", 3.0),
        ("conet_received_bytes_total{tenant=\"h\"}", 30.0),
        ("conet_sent_bytes_total{tenant=\"h\"}", 30.0),
        ("conet_traps_total{tenant=\"h\"}", 0.0),
        ("conet_traps_total{tenant=\"bad\"}", 1.0),
    ] {
        assert_eq!(during.of(series), value, "{series}");
    }
    assert!(during.of("conet_memory_bytes{tenant=\"h\"}") > before.of("conet_memory_bytes{tenant=\"h\"}"));
    assert!(during.of("conet_call_seconds_count{tenant=\"h\",call=\"recv\"}") >= 1.0);
    assert!(during.of("process_open_fds") > before.of("process_open_fds"));
    assert!(during.of("process_resident_memory_bytes") > 1e6);
    assert!(during.of("process_memory_mappings") > 10.0);
    assert!(during.of("process_memory_mappings") < during.of("process_max_memory_mappings"));
    socket.wait("/metrics", |metrics| {
        Samples::read(&metrics.body).of("conet_coroutines_by_state{tenant=\"h\",state=\"recv\"}") == 3.0
    });
    assert!(during.of("conet_accept_to_guest_seconds_count{tenant=\"h\"}") >= 1.0);
    assert!(during.of("conet_slice_seconds_count{tenant=\"h\"}") >= 1.0);
    drop(streams);
    wait_state(&socket, "h", "running");
    socket.wait("/metrics", |metrics| {
        Samples::read(&metrics.body).of("conet_connections{tenant=\"h\"}") == 0.0
    });
    host.stop();
}

/// A receive that waits is one, and an accept on each worker.
#[test]
fn operations_in_flight_are_told_by_worker() {
    let socket = Socket::new();
    let config = Config::host(&format!("workers = 2\n{}", socket.line())).handler("h", "echo-handler", "");
    let host = ready(Launch::serve(&config).start(), &socket);
    let all = |metrics: &Samples| {
        ["0", "1"]
            .map(|worker| metrics.of(&format!("conet_worker_operations{{worker=\"{worker}\"}}")))
            .iter()
            .sum::<f64>()
    };
    let wait_for = |count: f64| {
        socket.wait("/metrics", |metrics| all(&Samples::read(&metrics.body)) == count);
    };
    wait_for(2.0);
    let streams: Vec<_> = (0..10).map(|_| host.connect_to("h")).collect();
    wait_for(12.0);
    for mut stream in streams {
        peer::round_trip(&mut stream, b"message");
    }
    wait_for(2.0);
    host.stop();
}

/// What a guest may do is cut into slices. So the process is stopped while one computes, as a machine does that has too much to do.
#[test]
fn a_worker_that_does_not_look_at_its_sockets_is_told_of() {
    let socket = Socket::new();
    let spins = "[tenant.limits]\ncpu = \"1h\"";
    let config = Config::host(&format!("workers = 1\n{}", socket.line())).handler("spins", "spin", spins);
    let host = ready(Launch::serve(&config).start(), &socket);
    let stalls = |metrics: &Samples| metrics.of("conet_worker_stall_seconds_count{worker=\"0\"}");
    let longer = |metrics: &Samples| {
        stalls(metrics) - metrics.of("conet_worker_stall_seconds_bucket{worker=\"0\",le=\"0.005\"}")
    };
    let before = longer(&Samples::read(&socket.get("/metrics").body));
    let mut spinner = host.connect_to("spins");
    peer::round_trip(&mut spinner, b"!");
    socket.wait("/metrics", |metrics| {
        host.signal(Signal::STOP);
        let stopped = Instant::now();
        while stopped.elapsed() < Duration::from_millis(6) {
            std::thread::yield_now();
        }
        host.signal(Signal::CONT);
        longer(&Samples::read(&metrics.body)) > before
    });
    let metrics = Samples::read(&socket.get("/metrics").body);
    assert!(metrics.of("conet_worker_stall_seconds_sum{worker=\"0\"}") > 0.005);
    drop(host);
}

/// In the words of the access log, which need not be there: isolated handlers, shared ones and programs.
#[test]
fn ended_connections_are_told_by_how_they_ended() {
    let socket = Socket::new();
    let shared = "isolation = \"shared\"";
    let program = "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]";
    let config = Config::host(&format!("{SHARED}\n{}", socket.line()))
        .handler("isolated", "echo-handler", "")
        .handler("shared", "echo_shared", shared)
        .tenant("program", "echo", program)
        .handler("traps", "panic", "")
        .handler("spins", "spin", "[tenant.limits]\ncpu = \"100ms\"")
        .handler("silent", "echo-handler", "[tenant.limits]\nfirst-byte = \"100ms\"");
    let host = ready(Launch::serve(&config).start(), &socket);
    for name in ["isolated", "shared", "program"] {
        peer::echo_exact(host.connect_to(name), 1000);
        let mut reset = host.connect_to(name);
        peer::round_trip(&mut reset, b"message");
        peer::reset(reset);
    }
    let mut trapped = host.connect_to("traps");
    peer::round_trip(&mut trapped, b"message");
    trapped.write_all(b"!").expect("it is connected");
    peer::expect_gone(&mut trapped);
    let mut spun = host.connect_to("spins");
    peer::round_trip(&mut spun, b"!");
    peer::expect_gone(&mut spun);
    peer::expect_gone(&mut host.connect_to("silent"));
    let expected = [
        ("isolated", "eof"),
        ("isolated", "peer-reset"),
        ("shared", "eof"),
        ("shared", "peer-reset"),
        ("program", "eof"),
        ("program", "peer-reset"),
        ("traps", "trap"),
        ("spins", "limit:cpu"),
        ("silent", "timeout:first-byte"),
    ];
    let series =
        |tenant, reason| format!("conet_connections_closed_total{{tenant=\"{tenant}\",reason=\"{reason}\"}}");
    let told = socket.wait("/metrics", |metrics| {
        let samples = Samples::read(&metrics.body);
        expected.iter().all(|(tenant, reason)| samples.of(&series(tenant, reason)) >= 1.0)
    });
    let samples = Samples::read(&told.body);
    // Each once, and in no other way.
    let all: f64 = samples
        .iter()
        .filter(|(series, _)| series.starts_with("conet_connections_closed_total"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(all, expected.len() as f64, "{told:?}");
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

/// In a real browser: the page's policy lets its own script run, and that finds what it reads.
#[test]
fn the_page_shows_the_tenants() {
    let Some(browser) = browser() else { return eprintln!("passed over: there is no chromium") };
    let socket = Socket::new();
    let warns = "warn = [\"connections\", \"idle\"]\n[tenant.limits]\nconnections = 1";
    let config = both(&socket).handler("other", "echo-handler", "").handler("warns", "echo-handler", warns);
    let host = ready(Launch::serve(&config).start(), &socket);
    let mut streams: Vec<_> = ["h", "h", "h", "warns", "warns"].map(|name| host.connect_to(name)).into();
    for stream in &mut streams {
        peer::round_trip(stream, b"ten bytes.");
    }
    let document = document(&browser, &format!("http://{}/", address(&host)));
    for (name, says) in [("h", "3 of 10,000"), ("other", "0 of 10,000")] {
        let row = document.split("<tr").find(|row| row.contains(&format!("<span>{name}</span>")));
        let row = row.unwrap_or_else(|| panic!("no row of {name}: {document}"));
        assert!(row.contains(says) && row.contains("running, handler"), "{row}");
        assert!(row.contains(&host.addr_of(name).to_string()), "{row}");
        assert!(row.contains("of 512 MiB"), "{row}");
        // It has looked more than once.
        assert!(row.contains("points=\"5"), "{row}");
    }
    assert_eq!(document.matches("would deny: 1 connections</small>").count(), 1, "{document}");
    assert!(document.contains("<caption id=\"caption\">3 tenants</caption>"), "{document}");
    assert!(document.contains("id=\"coroutines-caption\">5 coroutines</span>"), "{document}");
    assert!(document.contains("<small class=\"states\">3 recv</small>"), "{document}");
    let coroutines = document.split("id=\"coroutines\"").nth(1).expect("a table of coroutines");
    for stream in &streams {
        let address = stream.local_addr().expect("it is connected").to_string();
        let row = coroutines.split("<tr").find(|row| row.contains(&address));
        let row = row.unwrap_or_else(|| panic!("no row of {address}: {coroutines}"));
        assert!(row.contains(">recv</td>") && row.contains(">connection</td>"), "{row}");
    }
    assert!(document.contains("<option value=\"pool-wait\">pool-wait</option>"), "{document}");
    drop(streams);
    host.stop();
}

/// The page may run and fetch nothing but its own, and each answer has another nonce.
#[test]
fn the_page_has_a_strict_policy() {
    let socket = Socket::new();
    let host = ready(Launch::serve(&both(&socket)).start(), &socket);
    let nonce = |page: &Response| {
        let head = "content-security-policy: default-src 'none'; script-src 'nonce-";
        let policy = page.head.lines().find_map(|line| line.strip_prefix(head)).expect("a policy");
        assert!(!policy.contains("unsafe") && policy.contains("connect-src 'self'"), "{policy}");
        let nonce = policy.split('\'').next().expect("it ends").to_owned();
        assert_eq!(page.body.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "script and style");
        nonce
    };
    let (one, other) = (socket.get("/"), socket.get("/"));
    assert_ne!(nonce(&one), nonce(&other));
    for outside in ["http://", "https://", "//cdn", "innerHTML", "@import"] {
        let own = one.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains(outside), "{outside}");
    }
    host.stop();
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
