//! Coroutines suspended at different depths, each with canaries in every frame of its stack.

use std::cell::Cell;
use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

/// Counts of canaries looked at.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) checks: Cell<u64>,
    pub(crate) corrupted: Cell<u64>,
}

/// Runs the coroutines for so many rounds each; `suspend` waits, in a way that the number may choose.
pub(crate) fn run(coroutines: u64, rounds: u64, suspend: fn(u64)) -> Rc<Tally> {
    let tally = Rc::new(Tally::default());
    for coroutine in 0..coroutines {
        let tally = Rc::clone(&tally);
        let body = move || (0..rounds).for_each(|round| one_round(coroutine, round, suspend, &tally));
        if let Err(error) = conet::go(body) {
            eprintln!("coroutine {coroutine}: {error}");
            std::process::exit(1);
        }
    }
    // Each coroutine holds one.
    while Rc::strong_count(&tally) > 1 && tally.corrupted.get() == 0 {
        conet::sleep(Duration::from_millis(1));
    }
    tally
}

/// `checks=N corrupted=M`, and exit code 1 if any was.
pub(crate) fn report(tally: &Tally) {
    println!("checks={} corrupted={}", tally.checks.get(), tally.corrupted.get());
    if tally.corrupted.get() > 0 || tally.checks.get() == 0 {
        std::process::exit(1);
    }
}

/// The number at a place of the command line, or `default`.
pub(crate) fn argument(place: usize, default: u64) -> u64 {
    std::env::args().nth(place).map_or(default, |word| word.parse().expect("a number"))
}

fn one_round(coroutine: u64, round: u64, suspend: fn(u64), tally: &Tally) {
    suspend(coroutine + round);
    let depth = (coroutine * 7 + round * 13) % DEPTH_MAX + 1;
    dig(depth, coroutine << 32 | round << 8, suspend, tally);
}

/// Fills a frame, goes deeper or waits, and looks at the frame on the way back.
#[inline(never)]
fn dig(depth: u64, key: u64, suspend: fn(u64), tally: &Tally) {
    let mut frame: [u64; FRAME_WORDS] = std::array::from_fn(|word| canary(key + depth, word));
    black_box(&mut frame);
    if depth > 1 {
        dig(depth - 1, key, suspend, tally);
    } else {
        suspend(key >> 8);
    }
    if depth.is_multiple_of(16) {
        suspend(depth);
    }
    black_box(&mut frame);
    for (word, value) in frame.iter().enumerate() {
        tally.checks.set(tally.checks.get() + 1);
        if *value != canary(key + depth, word) {
            tally.corrupted.set(tally.corrupted.get() + 1);
        }
    }
}

fn canary(key: u64, word: usize) -> u64 {
    (key ^ word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
}

const DEPTH_MAX: u64 = 40;
const FRAME_WORDS: usize = 16;
