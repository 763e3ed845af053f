//! Coroutines that share an instance: their stacks stay apart, their number has a limit, their end leaves nothing.

use std::{net::SocketAddr, thread};

use conet_tests::host::Launch;
use conet_tests::process::Signal;
use conet_tests::{long, peer, turn};

/// A thousand coroutines suspended deep in their stacks, each looking after its own canaries.
#[test]
fn stacks_stay_intact_across_suspensions() {
    let _turn = turn();
    let rounds = if long() { "1000" } else { "50" };
    let exit = Launch::guest("canary").flag("-vv").arg("1000").arg(rounds).finish();
    exit.assert_code(0);
    let [checks, corrupted] = numbers_after(&exit.stdout_text(), &["checks=", "corrupted="])[..] else {
        panic!("no counts in {exit:?}")
    };
    assert!(checks > 1_000_000 && corrupted == 0, "{exit:?}");
    // Suspended by the epoch as well, in the middle of whatever they did.
    let yields = numbers_after(&exit.stderr, &[" yields="]);
    assert!(yields.first().is_some_and(|yields| *yields > 0), "{exit:?}");
}

/// The same without the stack switch around blocking calls: the test above can fail.
#[test]
fn canaries_die_when_stacks_are_not_switched() {
    let _turn = turn();
    let exit = Launch::guest("canary_control").arg("1000").arg("5").finish();
    exit.assert_code(1);
    let corrupted = numbers_after(&exit.stdout_text(), &["corrupted="]);
    assert!(
        corrupted.first().is_some_and(|corrupted| *corrupted > 0),
        "by canaries, not by a trap: {exit:?}"
    );
}

#[test]
fn shadow_stack_overflow_is_a_trap_that_says_so() {
    for how in ["deep", "huge"] {
        let exit = Launch::guest("shadow_overflow").arg(how).finish();
        exit.assert_code(1).assert_stderr("a coroutine used up its stack");
        assert!(!exit.stderr.contains("out of bounds"), "caught before memory is hit: {exit:?}");
    }
}

/// `go` beyond the limit drops the closure, and the program goes on.
#[test]
fn coroutine_bomb_is_refused_and_the_program_goes_on() {
    let exit = Launch::guest("coroutine_bomb").option("--coroutines-max", "500").finish();
    exit.assert_code(0);
    let text = exit.stdout_text();
    // The main coroutine counts as well.
    assert!(text.contains("started=499 error=limit-exceeded") && text.contains("ended=499"), "{exit:?}");
}

/// Memory of the guest, and of the host around it.
#[test]
fn million_short_coroutines_leave_memory_flat() {
    let _turn = turn();
    let host = Launch::guest("short_coroutines").start();
    let pages_before = numbers_after(&host.wait_stdout_line("before="), &["before="])[0];
    let before = host.process().rss_bytes();
    let line = host.wait_stdout_line("after=");
    let [count, pages] = numbers_after(&line, &["coroutines=", "after="])[..] else { panic!("{line}") };
    let grown = host.process().rss_bytes().saturating_sub(before);
    println!("{pages_before} pages, then {pages}; the host grew by {grown} bytes");
    assert_eq!(count, 1_000_000);
    // A page of 64 KiB here and there; a byte or two of each coroutine would be many.
    assert!(pages <= pages_before + 8, "from {pages_before} to {pages} pages");
    assert!(grown < 8 << 20, "the host grew by {grown} bytes");
    host.stop();
}

#[test]
fn coroutines_share_plain_rust_state() {
    Launch::guest("rc_shared").finish().assert_code(0);
}

#[test]
fn blocking_call_beside_siblings_is_warned_of_once() {
    let exit = Launch::guest("freeze").finish();
    exit.assert_code(0);
    let warnings = exit.stderr.lines().filter(|line| line.contains("conet::sleep")).count();
    assert_eq!(warnings, 1, "{exit:?}");
}

/// Alone there is nobody to freeze.
#[test]
fn blocking_call_without_siblings_is_not_warned_of() {
    let exit = Launch::guest("plain_sleep").finish();
    exit.assert_code(0);
    assert_eq!(exit.stderr, "", "{exit:?}");
}

/// A coroutine that has waited gets a fresh slice: it does not yield for what it ran before, or what the clock did.
#[test]
fn resumed_coroutine_does_not_yield() {
    let _turn = turn();
    let host = Launch::handler("short_turns").flag("-vv").option("--workers", "1").start();
    let mut stream = host.connect();
    // Each computes for a part of a slice, together they do for many slices.
    for _ in 0..500 {
        peer::round_trip(&mut stream, b"awake");
    }
    drop(stream);
    host.signal(Signal::TERM);
    let exit = host.wait_exit();
    exit.assert_code(0);
    let [yields, fresh] = numbers_after(&exit.stderr, &[" yields=", " fresh_slices="])[..] else {
        panic!("no counters in {exit:?}")
    };
    // Whom the system stops in the middle of a turn may have used up its slice when it goes on.
    assert!(fresh >= 20 && yields * 4 < fresh, "{yields} yields, {fresh} fresh slices: {exit:?}");
}

/// Coroutines that receive together: one waits in the host for all, and each that is answered resumes the next. Whoever
/// waits for something else, or ends, must hand that on: else the others would never go on.
#[test]
fn coroutines_that_receive_together_wait_apart_too() {
    let _turn = turn();
    for workers in ["1", "2"] {
        let host = Launch::handler("mixed_waits")
            .option("--isolation", "shared")
            .option("--workers", workers)
            .start();
        let addr = host.addr();
        thread::scope(|scope| {
            for seed in 0..40_u64 {
                scope.spawn(move || exchange(addr, seed));
            }
        });
        host.signal(Signal::TERM);
        host.wait_exit().assert_code(0);
    }
}

/// Messages whose first byte tells the guest how to wait; each comes back whole.
fn exchange(addr: SocketAddr, mut seed: u64) {
    let mut stream = peer::connect(addr);
    for turn in 0..100_u64 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(turn | 1);
        let mut message = [turn as u8; 100];
        message[..8].copy_from_slice(&seed.rotate_right(29).to_le_bytes());
        peer::round_trip(&mut stream, &message);
    }
}

/// The numbers that follow these words, in the order of the words.
fn numbers_after(text: &str, words: &[&str]) -> Vec<u64> {
    let number = |word: &&str| {
        let (_, rest) = text.split_once(word)?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    };
    words.iter().filter_map(number).collect()
}
