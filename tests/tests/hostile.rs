//! Hostile guests beside a well-behaved connection: what they do ends them and nobody else.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use conet_tests::artifacts::{self, text_component};
use conet_tests::config::Config;
use conet_tests::host::{Host, Launch};
use conet_tests::process::Signal;
use conet_tests::{PATIENCE, peer, turn};

#[test]
fn spinning_connection_is_ended_at_its_budget_while_others_are_served() {
    let _turn = turn();
    let budget = Duration::from_secs(2);
    let host = one_worker("spin").option("--cpu-max", "2s").start();
    let mut beside = greeted(&host);
    let mut spinner = told(&host);
    let start = Instant::now();

    let watcher = thread::spawn(move || {
        peer::expect_reset(&mut spinner);
        start.elapsed()
    });
    let mut served = 0;
    let mut slowest = Duration::ZERO;
    while !watcher.is_finished() {
        slowest = slowest.max(peer::round_trip(&mut beside, b"beside"));
        served += 1;
        assert!(start.elapsed() < PATIENCE, "still spinning: {host:?}");
    }
    let ended = watcher.join().expect("the spinner is reset");
    // It gets half the worker at least, so its budget of CPU lasts that long, and cannot last for ever.
    assert!(ended >= budget.mul_f64(0.9), "ended after {ended:?} with a budget of {budget:?}: {host:?}");
    assert!(ended < budget * 20, "ended only after {ended:?}: {host:?}");
    assert!(served >= 50, "{served} round trips in {ended:?}: {host:?}");
    // A spinner that kept the worker would keep it for its whole budget.
    assert!(slowest < budget.mul_f64(0.75), "a round trip took {slowest:?}: {host:?}");

    peer::round_trip(&mut beside, b"after");
    peer::round_trip(&mut host.connect(), b"after");
    drop(beside);
    host.stop();
}

/// As many spinners as there are workers, and more: new connections are still served.
#[test]
fn spinners_on_every_worker_leave_room_for_others() {
    let _turn = turn();
    let host = Launch::handler("spin").option("--workers", "2").option("--cpu-max", "1s").start();
    let mut spinners: Vec<_> = (0..6).map(|_| told(&host)).collect();
    for _ in 0..20 {
        peer::round_trip(&mut host.connect(), b"new");
    }
    for spinner in &mut spinners {
        peer::expect_reset(spinner);
    }
    host.stop();
}

#[test]
fn spinning_coroutine_ends_its_shared_instance_and_the_next_connection_gets_a_new_one() {
    let _turn = turn();
    let launch = one_worker("spin_shared").option("--isolation", "shared");
    let host = launch.option("--cpu-max", "300ms").start();
    let mut sibling = greeted(&host);
    let mut spinner = told(&host);
    peer::expect_reset(&mut spinner);
    peer::expect_reset(&mut sibling);
    peer::echo_exact(host.connect(), 10_000);
    host.stop();
}

/// But for the first few, all of them have the same memory, one after another.
#[test]
fn instance_finds_nothing_that_another_has_left_in_memory() {
    let host = Launch::handler("leftovers").option("--connections-max", "1").start();
    for _ in 0..200 {
        let found = peer::read_line(&mut host.connect());
        let (before, after) = found.trim().split_once(' ').unwrap_or_else(|| panic!("{found:?}: {host:?}"));
        assert_eq!(before, "0", "marks of another instance: {host:?}");
        // It does find its own: in its heap, on its stack and in both kinds of statics.
        assert!(after.parse::<u32>().is_ok_and(|after| after >= 110_000), "{found:?}: {host:?}");
    }
    assert!(!host.stderr().contains("mapped anew"), "none had the memory of another: {host:?}");
    host.stop();
}

/// Its connection was accepted for it, so the peer is told as after any other trap.
#[test]
fn handler_that_traps_before_it_is_called_resets_its_connection() {
    let handler = Launch::component(text_component("handler_start_trap"));
    let host = handler.option("--listen", "127.0.0.1:0").start();
    for _ in 0..3 {
        peer::expect_reset_of_new(host.addr());
    }
    host.stop();
}

#[test]
fn spinning_coroutine_ends_its_program() {
    let _turn = turn();
    let host = Launch::guest("spin_program").option("--cpu-max", "300ms").start();
    let mut sibling = greeted(&host);
    let mut spinner = told(&host);
    peer::expect_reset(&mut spinner);
    peer::expect_reset(&mut sibling);
    let exit = host.wait_exit();
    exit.assert_code(1).assert_stderr("CPU");
}

#[test]
fn spinning_before_the_first_call_is_ended_too() {
    let _turn = turn();
    for name in ["start_spin", "run_spin"] {
        let start = Instant::now();
        Launch::component(text_component(name)).option("--cpu-max", "300ms").finish().assert_code(1);
        assert!(start.elapsed() < Duration::from_secs(20), "{name} took {:?}", start.elapsed());
    }
}

/// Computing, waiting for one thing, or for one thing after the other: all of it is the start.
#[test]
fn a_connection_whose_instance_does_not_start_in_time_is_reset() {
    let _turn = turn();
    for start in [
        "(loop $for-ever (br $for-ever))",
        "(call $sleep (i64.const 3600000000000))",
        "(loop $for-ever (call $sleep (i64.const 1000000)) (br $for-ever))",
    ] {
        let config = Config::host("workers = 1")
            .component(
                "slow",
                &starting(start),
                "listen = [\"127.0.0.1:0\"]\n[tenant.limits]\nstart = \"200ms\"",
            )
            .handler("good", "echo-handler", "");
        let host = Launch::serve(&config).flag("-vv").start();
        let mut good = host.connect_to("good");
        for _ in 0..2 {
            let mut slow = host.connect_to("slow");
            peer::round_trip(&mut good, b"beside");
            peer::expect_reset(&mut slow);
        }
        drop(good);
        host.wait_line("took more than 200ms to start");
        host.signal(Signal::TERM);
        host.wait_exit().assert_code(0).assert_stderr(" kills_start=2 ");
    }
}

/// The start has a limit of its own, and the CPU budget begins after it; without one, it has the budget.
#[test]
fn a_start_may_take_longer_than_the_cpu_budget() {
    let _turn = turn();
    let long = "(local $n i32) (local.set $n (i32.const 50000000))
                (loop $more (br_if $more (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))";
    let component = starting(long);
    for (limits, starts) in
        [("start = \"50s\"", true), ("start = \"off\"", false), ("start = \"10ms\"", false)]
    {
        let lines = format!("listen = [\"127.0.0.1:0\"]\n[tenant.limits]\ncpu = \"10ms\"\n{limits}");
        let host = Launch::serve(&Config::new().component("h", &component, &lines)).start();
        let mut stream = host.connect_to("h");
        if starts {
            assert_eq!(peer::read_all(&mut stream), b"");
        } else {
            peer::expect_reset(&mut stream);
        }
        host.stop();
    }
}

#[test]
fn a_program_that_does_not_start_in_time_is_ended() {
    let _turn = turn();
    let lines = "restart = \"never\"\n[tenant.limits]\nstart = \"200ms\"";
    let config = Config::new().component("p", &text_component("start_spin"), lines);
    let host = Launch::serve(&config).start();
    host.wait_line("the program trapped: took more than 200ms to start");
    host.stop();
}

/// The first instance starts, and the one it spawns does not.
#[test]
fn a_spawned_coroutine_that_does_not_start_in_time_is_ended() {
    let _turn = turn();
    let lines = "restart = \"never\"\n[tenant.limits]\nstart = \"200ms\"";
    let config = Config::new().component("p", &text_component("spawn_start_spin"), lines);
    let host = Launch::serve(&config).flag("-vv").start();
    host.wait_line("a spawned coroutine trapped: took more than 200ms to start");
    host.wait_line("the program returned, and");
    host.stop();
}

/// Receiving at the end of the stream, or with no time to wait, is using CPU: nothing is waited for.
#[test]
fn spinning_on_calls_that_never_wait_is_ended_too() {
    let _turn = turn();
    let host = one_worker("spin_receiving").option("--cpu-max", "300ms").start();
    for (message, ends) in [(b"e", true), (b"t", false)] {
        let mut spinner = host.connect();
        peer::round_trip(&mut spinner, message);
        if ends {
            spinner.shutdown(Shutdown::Write).expect("it is open");
        }
        peer::expect_reset(&mut spinner);
    }
    host.stop();
}

/// I/O that is always ready gives a guest no reason to wait: it must make room all the same.
#[test]
fn connection_that_is_always_ready_makes_room_for_others() {
    let _turn = turn();
    let host = one_worker("sip").option("--cpu-max", "60s").start();
    let mut beside = greeted(&host);
    let mut greedy = told(&host);
    let flood = thread::spawn(move || {
        let mut sent = 0;
        while let Ok(count @ 1..) = greedy.write(&[b'x'; 64 * 1024]) {
            sent += count;
        }
        sent
    });
    let start = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..500 {
        slowest = slowest.max(peer::round_trip(&mut beside, b"beside"));
    }
    assert!(!flood.is_finished(), "the flood must last to the end: {host:?}");
    // The flood would last a minute.
    assert!(slowest < Duration::from_secs(5), "a round trip took {slowest:?}: {host:?}");
    assert!(start.elapsed() < PATIENCE, "500 round trips took {:?}: {host:?}", start.elapsed());
    drop(host);
    assert!(flood.join().expect("the flood ends with its connection") > 0);
}

#[test]
fn panic_ends_its_connection_only() {
    let host = one_worker("panic").start();
    ends_its_connection_only(&host, "told to panic");
}

#[test]
fn panic_in_a_shared_instance_ends_it_and_the_next_connection_gets_a_new_one() {
    let host = one_worker("panic_shared").option("--isolation", "shared").start();
    let mut sibling = greeted(&host);
    peer::expect_reset(&mut told(&host));
    peer::expect_reset(&mut sibling);
    peer::echo_exact(host.connect(), 10_000);
    host.wait_line("told to panic");
    host.stop();
}

/// It was accepted for the instance that has ended: its peer must not take that for a normal end.
#[test]
fn connection_that_waits_for_a_coroutine_is_reset_with_the_others() {
    let launch = one_worker("panic_shared").option("--isolation", "shared");
    let host = launch.option("--coroutines-max", "1").start();
    let mut first = greeted(&host);
    let accepted = host.process().fds() + 1;
    let mut waiting = host.connect();
    let start = Instant::now();
    while host.process().fds() < accepted {
        assert!(start.elapsed() < PATIENCE, "the second one is not accepted: {host:?}");
    }
    first.write_all(b"!").expect("it is open");
    peer::expect_reset(&mut first);
    peer::expect_reset(&mut waiting);
    peer::echo_exact(host.connect(), 10_000);
    host.stop();
}

#[test]
fn stack_overflow_ends_its_connection_only_and_is_named() {
    let host = one_worker("stack_overflow").start();
    ends_its_connection_only(&host, "stack overflow");
}

#[test]
fn dropped_handle_ends_its_connection_only() {
    let host = one_worker("dropped_handle").start();
    let mut beside = greeted(&host);
    peer::expect_gone(&mut told(&host));
    host.wait_line("handle");
    peer::round_trip(&mut beside, b"after");
    drop(beside);
    let exit = drained(host);
    assert!(!exit.contains("still answers"), "{exit}");
}

#[test]
fn handle_of_another_type_ends_its_connection_only() {
    let host = one_worker("wrong_handle").start();
    ends_its_connection_only(&host, "handle");
}

/// A shared instance is one unit of failure: it ends, and the next connection has another.
#[test]
fn key_that_was_not_given_ends_the_instance() {
    let host = one_worker("forged_key").option("--isolation", "shared").start();
    let mut beside = greeted(&host);
    peer::expect_reset(&mut told(&host));
    host.wait_line("a connection that this instance does not have");
    peer::expect_reset(&mut beside);
    peer::echo_exact(host.connect(), 10_000);
    assert!(!drained(host).contains("receives"));
}

#[test]
fn memory_that_is_not_there_cannot_be_sent() {
    let host = one_worker("oversized_send").start();
    ends_its_connection_only(&host, "");
}

/// 2 MiB in one call: a trap under the default of 1 MiB, and clamped where the limit lets it come.
#[test]
fn one_call_brings_no_more_from_the_guest_than_host_call() {
    let host = Launch::serve(&Config::new().handler("h", "huge_send", "")).flag("-vv").start();
    let mut beside = host.connect_to("h");
    peer::round_trip(&mut beside, b"before");
    for _ in 0..3 {
        let mut stream = host.connect_to("h");
        peer::round_trip(&mut stream, b"!");
        peer::expect_reset(&mut stream);
    }
    peer::round_trip(&mut beside, b"after");
    drop(beside);
    host.signal(Signal::TERM);
    host.wait_exit().assert_code(0).assert_stderr(" traps=3 ");

    let lines = "[tenant.limits]\nhost-call = \"4MiB\"";
    let host = Launch::serve(&Config::new().handler("h", "huge_send", lines)).start();
    let mut stream = host.connect_to("h");
    peer::round_trip(&mut stream, b"!");
    assert_eq!(peer::read_all(&mut stream).len(), 65_536);
    host.stop();
}

#[test]
fn one_send_takes_64_kib_at_most() {
    let host = one_worker("large_send").start();
    let mut stream = told(&host);
    assert_eq!(peer::read_all(&mut stream), vec![b'x'; 65_536]);
    host.wait_stdout_line("taken: Ok(65536)");
    host.stop();
}

#[test]
fn one_recv_gives_64_kib_at_most() {
    let host = one_worker("recv_sizes").start();
    let mut stream = told(&host);
    stream.write_all(&vec![b'x'; 8 << 20]).expect("the guest receives all");
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    peer::read_all(&mut stream);
    // `invalid-argument` is the twelfth error code.
    host.wait_stdout_line("recv of at most 0: Err(11)");
    let line = host.wait_stdout_line("total=");
    assert!(line.starts_with("total=8388608 "), "{line}");
    let largest: usize = line.rsplit('=').next().and_then(|most| most.parse().ok()).expect("a number");
    assert!((1..=65_536).contains(&largest), "{line}");
    host.stop();
}

#[test]
fn memory_bomb_is_refused_and_what_it_took_is_given_back() {
    let _turn = turn();
    let host = one_worker("memory_bomb").option("--memory-max", "16MiB").start();
    let mut beside = greeted(&host);
    let before = host.process().rss_bytes();
    for _ in 0..40 {
        let mut bomb = told(&host);
        let taken: usize = peer::read_line(&mut bomb).parse().expect("a number of MiB");
        assert!((8..16).contains(&taken), "{taken} MiB of 16");
        // Then it asks again and cannot be refused politely.
        peer::expect_reset(&mut bomb);
        peer::round_trip(&mut beside, b"beside");
    }
    // Forty bombs took some 600 MiB in all.
    let grown = host.process().rss_bytes().saturating_sub(before);
    assert!(grown < 150 << 20, "{} MiB more than before: {host:?}", grown >> 20);
    peer::echo_exact(host.connect(), 10_000);
    drop(beside);
    host.stop();
}

/// Together they could take more than the host may lose.
#[test]
fn many_memory_bombs_at_once_stay_within_their_limits() {
    let _turn = turn();
    let host = Launch::handler("memory_bomb").option("--memory-max", "4MiB").start();
    let mut beside = greeted(&host);
    let before = host.process().rss_bytes();
    let mut bombs: Vec<_> = (0..50).map(|_| told(&host)).collect();
    let most = host.process().rss_bytes().saturating_sub(before);
    for bomb in &mut bombs {
        peer::expect_gone(bomb);
    }
    assert!(most < 300 << 20, "{} MiB for 50 guests of 4 MiB", most >> 20);
    peer::round_trip(&mut beside, b"after");
    drop(beside);
    host.stop();
}

#[test]
fn memory_limit_is_for_all_memories_together() {
    let component = Launch::component(text_component("two_memories"));
    component.option("--memory-max", "8MiB").finish().assert_code(0);
    // Its own check can fail: with more to take, it takes more than it should.
    Launch::component(text_component("two_memories")).finish().assert_code(1);
}

#[test]
fn table_bomb_is_refused() {
    let _turn = turn();
    Launch::component(text_component("table_bomb")).finish().assert_code(0);
}

#[test]
fn handle_bomb_is_refused() {
    let host = one_worker("handle_bomb").option("--allow-connect", "127.0.0.1:9").start();
    let mut beside = greeted(&host);
    let before = host.process().rss_bytes();
    let mut bomb = told(&host);
    let mut answer = String::new();
    // A trap at the limit is an answer as well.
    let how = bomb.read_to_string(&mut answer);
    if how.is_ok() {
        let count: usize = answer.trim().parse().expect("a number of handles");
        assert!((1..=1_100).contains(&count), "{count} handles: {host:?}");
    }
    let grown = host.process().rss_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{} KiB for one guest's handles", grown >> 10);
    peer::round_trip(&mut beside, b"after");
    peer::echo_exact(host.connect(), 1000);
    drop(beside);
    host.stop();
}

#[test]
fn panic_in_a_spawned_coroutine_leaves_its_parent() {
    let host = one_worker("spawn_panic").start();
    let mut parent = host.connect();
    peer::round_trip(&mut parent, b"five!");
    host.wait_line("spawned to panic with 5 bytes");
    for _ in 0..100 {
        peer::round_trip(&mut parent, b"still here");
    }
    drop(parent);
    host.stop();
}

/// The connection has moved to an instance that cannot be made: its peer is told as after a trap.
#[test]
fn spawned_instance_that_does_not_fit_resets_its_connection() {
    let host = Launch::guest("spawn_large").start();
    for _ in 0..3 {
        peer::expect_reset_of_new(host.addr());
    }
    host.stop();
}

#[test]
fn spawned_coroutine_has_a_memory_of_its_own() {
    let host = Launch::guest("spawn_count").start();
    for _ in 0..10 {
        let mut stream = host.connect();
        stream.write_all(b"?").expect("the coroutine receives");
        assert_eq!(peer::read_all(&mut stream), b"1\n");
    }
    drop(host);
}

/// One worker, so that both connections meet on it.
/// A handler that does this before it can be called, and then ends each connection at once.
fn starting(body: &str) -> PathBuf {
    let text = format!(
        r#"(component
             (import "conet:net/tcp@0.1.0" (instance $tcp (export "connection" (type (sub resource)))))
             (import "conet:net/coroutine@0.1.0" (instance $coroutine
               (export "sleep" (func (param "duration" u64)))))
             (alias export $tcp "connection" (type $connection))
             (core func $sleep (canon lower (func $coroutine "sleep")))
             (core module $guest
               (import "host" "sleep" (func $sleep (param i64)))
               (func $start {body})
               (start $start)
               (func (export "handle") (param i32) (result i32) (i32.const 0)))
             (core instance $guest (instantiate $guest (with "host" (instance (export "sleep" (func $sleep))))))
             (func $handle (param "connection" (own $connection)) (result (result))
               (canon lift (core func $guest "handle")))
             (instance $entry (export "handle" (func $handle)))
             (export "conet:net/handler-entry@0.1.0" (instance $entry)))"#
    );
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = artifacts::scratch().join(format!("starting-{number}.wasm"));
    std::fs::write(&path, wat::parse_str(text).expect("the text is well formed"))
        .expect("the folder is ours");
    path
}

fn one_worker(guest: &str) -> Launch {
    Launch::handler(guest).option("--workers", "1")
}

/// A connection that has been served once.
fn greeted(host: &Host) -> TcpStream {
    let mut stream = host.connect();
    peer::round_trip(&mut stream, b"hello");
    stream
}

/// A connection whose guest has been told to do what it is for, and is about to.
fn told(host: &Host) -> TcpStream {
    let mut stream = host.connect();
    peer::round_trip(&mut stream, b"!");
    stream
}

fn ends_its_connection_only(host: &Host, message: &str) {
    let mut beside = greeted(host);
    peer::expect_reset(&mut told(host));
    host.wait_line(message);
    for _ in 0..100 {
        peer::round_trip(&mut beside, b"beside");
    }
    peer::echo_exact(host.connect(), 10_000);
}

/// Drains the host; gives its whole stdout.
fn drained(host: Host) -> String {
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    exit.assert_code(0);
    exit.stdout_text()
}
