//! What is told of coroutines: who they are, what each waits for, and where its guest is.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;

use conet_tests::admin::{Response, Socket, request};
use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::{artifacts, peer};
use serde_json::Value;

const SHARED: &str = "shared-instances = true";
/// A coroutine that computes is looked at, and not ended.
const LIMITS: &str =
    "allow-listen = [\"127.0.0.1:*\"]\nallow-connect = [\"127.0.0.1:*\"]\n[tenant.limits]\ncpu = \"10m\"";

fn host(socket: &Socket, config: impl FnOnce(Config) -> Config) -> Host {
    let host = Launch::serve(&config(Config::host(&format!("{}\n{SHARED}", socket.line())))).start();
    host.wait_line("admin at ");
    socket.wait("/readyz", |response| response.status == 200);
    host
}

fn told(response: &Response) -> Value {
    serde_json::from_str(&response.assert(200).body).expect("JSON")
}

fn coroutines(told: &Value) -> &Vec<Value> {
    told["coroutines"].as_array().expect("a list")
}

/// Those that the query asks for, as soon as there are so many.
fn wait(socket: &Socket, query: &str, count: usize) -> Vec<Value> {
    let response =
        socket.wait(&format!("/coroutines?{query}"), |response| coroutines(&told(response)).len() == count);
    coroutines(&told(&response)).clone()
}

fn ask(host: &Host, tenant: &str, what: u8) -> TcpStream {
    let mut stream = host.connect_to(tenant);
    stream.write_all(&[what]).expect("it is connected");
    stream
}

/// The one whose connection this is.
fn of<'a>(all: &'a [Value], stream: &TcpStream) -> &'a Value {
    let address = stream.local_addr().expect("it is connected").to_string();
    all.iter().find(|one| one["peer"] == address.as_str()).unwrap_or_else(|| panic!("{address}: {all:?}"))
}

/// Two of one instance, each of which says who it is.
#[test]
fn a_line_that_a_guest_prints_names_the_coroutine_that_printed_it() {
    let admin = Socket::new();
    let config = Config::host(&format!("{}\nshared-instances = true", admin.line()));
    let host = Launch::serve(&config.tenant("p", "print_shared", "restart = \"never\"")).flag("-v").start();
    host.wait_count("line=\"turn 2 of ", 4);
    let mut printed = std::collections::BTreeMap::<String, usize>::new();
    for line in host.stderr().lines().filter(|line| line.contains("INFO guest")) {
        let (_, text) = line.split_once("line=\"").expect("a guest's line");
        let own = text.trim_end_matches('"').rsplit(' ').next().expect("an id");
        assert!(line.contains(&format!(" coroutine={own} ")), "{line}");
        *printed.entry(own.to_owned()).or_default() += 1;
    }
    let mut counts: Vec<_> = printed.into_values().collect();
    counts.sort_unstable();
    assert_eq!(counts, [1, 6, 6], "{host:?}");
    host.stop();
}

/// What it does. One that was woken to receive for the others of its instance is told to be running until it calls the host
/// again: which of them goes on, and perhaps computes, the guest does not tell.
fn is_told_as(one: &Value, state: &str) -> bool {
    let woken =
        one["shared"] == true && one["state"] == "running" && one["cpu_seconds"].as_f64() < Some(LASTING);
    one["state"] == state || woken && state == "recv"
}

#[test]
fn each_tells_what_it_waits_for() {
    let socket = Socket::new();
    let shared = format!("isolation = \"shared\"\n{LIMITS}");
    let host =
        host(&socket, |config| config.handler("own", "waits", LIMITS).handler("shared", "waits", &shared));
    let waits = [(b's', "sleep"), (b'a', "accept"), (b'p', "pool-wait"), (b'w', "send"), (b'c', "running")];
    for tenant in ["own", "shared"] {
        // One that waits for its first byte. In a shared instance whoever computes is the last.
        let silent = host.connect_to(tenant);
        let mut streams = vec![(silent, "recv")];
        for (what, state) in waits {
            streams.push((ask(&host, tenant, what), state));
            // Others may be seen in that state, too, for a moment: they are woken for one another, and make room in a long send.
            let address =
                streams.last().expect("it was pushed").0.local_addr().expect("it is connected").to_string();
            socket.wait(&format!("/coroutines?tenant={tenant}&state={state}"), |response| {
                let seconds = |one: &Value, key: &str| one[key].as_f64() > Some(LASTING);
                let key = if state == "running" { "cpu_seconds" } else { "state_seconds" };
                coroutines(&told(response)).iter().any(|one| one["peer"] == *address && seconds(one, key))
            });
        }
        let states = |response: &Response| -> Option<Vec<Value>> {
            let all = coroutines(&told(response)).clone();
            let is_so = |(stream, state): &(TcpStream, &str)| is_told_as(of(&all, stream), state);
            (all.len() == streams.len() && streams.iter().all(is_so)).then_some(all)
        };
        let all = socket.wait(&format!("/coroutines?tenant={tenant}"), |response| states(response).is_some());
        let all = states(&all).expect("it was so");
        for (stream, state) in &streams {
            let one = of(&all, stream);
            assert!(is_told_as(one, state), "{one}");
            assert_eq!(one["kind"], "connection", "{one}");
            assert_eq!((&one["tenant"], &one["draining"]), (&Value::from(tenant), &false.into()));
            assert_eq!(one["shared"], tenant == "shared", "{one}");
            assert!(one["memory_bytes"].as_u64() > Some(1 << 16), "{one}");
        }
        let ids: std::collections::BTreeSet<u64> = all.iter().filter_map(|one| one["id"].as_u64()).collect();
        assert_eq!(ids.len(), streams.len(), "each has its own id");
        // Those in their state for longest are first.
        let times: Vec<f64> = all.iter().filter_map(|one| one["state_seconds"].as_f64()).collect();
        assert!(times.is_sorted_by(|one, next| one >= next) && times.len() == all.len(), "{times:?}");
        // Whoever computes has used the time, and nobody else.
        let idle = wait(&socket, &format!("tenant={tenant}&state=sleep"), 1);
        assert!(idle[0]["cpu_seconds"].as_f64() < Some(0.1), "{idle:?}");
        drop(streams);
        if tenant == "own" {
            // Their connections' ends wake them, or not.
            wait(&socket, "tenant=own&state=recv", 0);
        }
    }
    host.signal(conet_tests::process::Signal::KILL);
}

#[test]
fn what_is_not_shown_is_counted() {
    let socket = Socket::new();
    let host =
        host(&socket, |config| config.handler("h", "echo-handler", "").handler("other", "echo-handler", ""));
    let mut streams: Vec<_> = (0..60).map(|_| host.connect_to("h")).collect();
    for stream in &mut streams {
        peer::round_trip(stream, b"ten bytes.");
    }
    wait(&socket, "tenant=h&state=recv&limit=100", 60);
    let page = told(&socket.get("/coroutines"));
    assert_eq!((coroutines(&page).len(), &page["matching"], &page["left_out"]), (50, &60.into(), &10.into()));
    assert_eq!(page["counts"], serde_json::json!({"h": {"recv": 60}, "other": {}}));
    let some = told(&socket.get("/coroutines?limit=3&tenant=h"));
    assert_eq!((coroutines(&some).len(), &some["left_out"]), (3, &57.into()));
    assert_eq!(told(&socket.get("/coroutines?tenant=other"))["matching"], 0);
    // The longest ago is the first, until something comes.
    let first = of(coroutines(&some), &streams[0])["id"].clone();
    peer::round_trip(&mut streams[0], b"ten bytes.");
    socket.wait("/coroutines?limit=100", |response| {
        let told = told(response);
        coroutines(&told).last().is_some_and(|last| last["id"] == first && last["state"] == "recv")
    });
    for (query, says) in [("state=x", "pool-wait"), ("limit=0", "from 1 to"), ("x=1", "tenant, state, limit")]
    {
        assert!(socket.get(&format!("/coroutines?{query}")).assert(400).body.contains(says), "{query}");
    }
    drop(streams);
    wait(&socket, "", 0);
    host.stop();
}

/// A program: its first coroutine accepts, and `go` has started the others in the same instance.
#[test]
fn coroutines_of_a_program_are_told_apart() {
    let socket = Socket::new();
    let lines = "args = [\"127.0.0.1:0\"]\nallow-listen = [\"127.0.0.1:*\"]";
    let host = host(&socket, |config| config.tenant("p", "echo", lines));
    let mut streams: Vec<_> = (0..3).map(|_| host.connect_to("p")).collect();
    for stream in &mut streams {
        peer::round_trip(stream, b"ten bytes.");
    }
    let receiving = wait(&socket, "tenant=p&state=recv", 3);
    let main = wait(&socket, "tenant=p&state=accept", 1);
    assert_eq!((&main[0]["kind"], &main[0]["peer"]), (&"main".into(), &Value::Null));
    for stream in &streams {
        let one = of(&receiving, stream);
        assert_eq!((&one["kind"], &one["instance"]), (&"go".into(), &main[0]["id"]), "{one}");
        assert_eq!((&one["shared"], &one["memory_bytes"]), (&true.into(), &main[0]["memory_bytes"]));
    }
    drop(streams);
    wait(&socket, "tenant=p", 1);
    host.stop();
}

/// Of one that waits already, at once; of one that computes, at the end of its slice.
#[test]
fn a_stack_is_told_of_who_waits_and_of_who_computes() {
    let socket = Socket::new();
    let host = host(&socket, |config| config.handler("h", "waits", LIMITS));
    let _streams = [ask(&host, "h", b's'), host.connect_to("h"), ask(&host, "h", b'c')];
    for (state, frames) in [
        ("sleep", &["waits::sleep_long", "waits::on_connection"][..]),
        ("recv", &["waits::on_connection"]),
        ("running", &["waits::on_connection"]),
    ] {
        wait(&socket, &format!("state={state}"), 1);
        let response = socket.wait(&format!("/coroutines?state={state}&stacks=1"), |response| {
            !coroutines(&told(response))[0]["stack"].is_null()
        });
        let stack = coroutines(&told(&response))[0]["stack"].clone();
        assert_eq!(stack["state"], state, "{stack}");
        let found: Vec<&str> =
            stack["frames"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        let places = frames.iter().map(|name| found.iter().position(|frame| frame.contains(name)));
        let places: Vec<_> = places.collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{frames:?} in {found:?}");
    }
    // Nobody asks, and nothing is told.
    assert!(coroutines(&told(&socket.get("/coroutines"))).iter().all(|one| one.get("stack").is_none()));
    host.signal(conet_tests::process::Signal::KILL);
}

/// Nothing reaches a fiber that sleeps in a shared instance: its stack is that of its next call.
#[test]
fn a_stack_in_a_shared_instance_is_that_of_the_next_call() {
    let socket = Socket::new();
    let host =
        host(&socket, |config| config.handler("h", "waits", &format!("isolation = \"shared\"\n{LIMITS}")));
    let mut stream = host.connect_to("h");
    wait(&socket, "state=recv", 1);
    let before = told(&socket.get("/coroutines?stacks=1"));
    assert!(coroutines(&before)[0].get("stack").is_none(), "{before}");
    stream.write_all(b"s").expect("it is connected");
    let response = socket.wait("/coroutines?state=sleep&stacks=1", |response| {
        coroutines(&told(response)).first().is_some_and(|one| !one["stack"].is_null())
    });
    let frames = coroutines(&told(&response))[0]["stack"]["frames"].to_string();
    assert!(frames.contains("waits::sleep_long"), "{frames}");
    host.signal(conet_tests::process::Signal::KILL);
}

#[test]
fn the_terminal_shows_coroutines() {
    let socket = Socket::new();
    let config = format!("{}\n{SHARED}\nadmin-address = \"127.0.0.1:0\"", socket.line());
    let host = Launch::serve(&Config::host(&config).handler("h", "waits", LIMITS)).start();
    let line = host.wait_line("admin at http://");
    let _asleep = ask(&host, "h", b's');
    wait(&socket, "state=sleep", 1);
    // Later, and so for a shorter time.
    let _silent = [host.connect_to("h"), host.connect_to("h")];
    wait(&socket, "state=recv", 2);
    let ps = |args: &[&str]| {
        let output =
            Command::new(artifacts::host()).arg("ps").args(args).arg("--socket").arg(socket.path()).output();
        let output = output.expect("the host can be run");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, table, _) = ps(&[]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(code == Some(0) && lines.len() == 4 && lines[0].starts_with("ID "), "{table}");
    assert!(
        lines[1].contains("sleep") && lines[1].contains("connection") && lines[1].contains("127.0.0.1:"),
        "{table}"
    );
    let (_, table, _) = ps(&["--state", "recv", "--limit", "1"]);
    assert!(table.contains("and 1 more") && !table.contains("sleep"), "{table}");
    let (_, table, _) = ps(&["--tenant", "none"]);
    assert_eq!(table.lines().count(), 1, "{table}");
    let (_, table, _) = ps(&["--state", "sleep", "--stacks"]);
    assert!(table.contains("    in sleep, ") && table.contains("      waits::sleep_long"), "{table}");
    let (_, json, _) = ps(&["--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON")["matching"], 3);
    let (code, _, error) = ps(&["--state", "asleep"]);
    assert!(code == Some(1) && error.contains("there is no state `asleep`; there are starting"), "{error}");
    // Stacks are work, and who is at the address may be anybody.
    let address: std::net::SocketAddr =
        line.trim_start_matches("admin at http://").trim_end_matches('/').parse().expect("an address");
    request(peer::connect(address), "GET", "/coroutines", "localhost").assert(200);
    request(peer::connect(address), "GET", "/coroutines?stacks=1", "localhost").assert(403);
    host.signal(conet_tests::process::Signal::KILL);
}

/// Without an admin nobody could look.
#[test]
fn versions_that_drain_are_told_apart() {
    let socket = Socket::new();
    let config = Config::host(&socket.line()).handler("h", "echo-handler", "");
    let host = Launch::serve(&config).start();
    let mut before = host.connect_to("h");
    peer::round_trip(&mut before, b"before");
    let _config = config.with("weight = 3");
    socket.post("/reload").assert(200);
    let mut after = host.connect_to("h");
    peer::round_trip(&mut after, b"after");
    let all = wait(&socket, "tenant=h&state=recv", 2);
    assert_eq!(
        (&of(&all, &before)["draining"], &of(&all, &after)["draining"]),
        (&true.into(), &false.into())
    );
    drop((before, after));
    wait(&socket, "", 0);
    host.stop();
}

/// Alone and among others of its instance: the log says which one it was, and for whom.
#[test]
fn a_trap_is_logged_with_its_coroutine_and_peer() {
    let socket = Socket::new();
    let shared = format!("isolation = \"shared\"\n{LIMITS}");
    let host =
        host(&socket, |config| config.handler("own", "waits", LIMITS).handler("shared", "waits", &shared));
    for tenant in ["own", "shared"] {
        let _others = [host.connect_to(tenant), host.connect_to(tenant)];
        let mut stream = host.connect_to(tenant);
        let all = wait(&socket, &format!("tenant={tenant}&state=recv"), 3);
        let id = of(&all, &stream)["id"].clone();
        stream.write_all(b"!").expect("it is connected");
        peer::expect_reset(&mut stream);
        let address = stream.local_addr().expect("it was connected");
        let line = host.wait_line(&format!("coroutine={id} peer={address}"));
        assert!(
            line.contains(&format!("tenant={tenant}")) && line.contains("waits::on_connection"),
            "{line}"
        );
    }
    host.signal(conet_tests::process::Signal::KILL);
}

/// Seconds: what others need, to make room or to be woken in vain, is a slice at most.
const LASTING: f64 = 0.1;
