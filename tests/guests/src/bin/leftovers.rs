//! Says how many words of its memory another instance has marked, marks all kinds of its own, and says how
//! many it finds then.

use std::hint::black_box;
use std::io::{Result, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> Result<()> {
    let before = marks();
    for word in INITIALISED.iter().chain(&ZERO) {
        word.store(black_box(MARK), Relaxed);
    }
    let heap = vec![black_box(MARK); HEAP_WORDS];
    let after = mark_stack();
    black_box(heap);
    writeln!(conn, "{before} {after}")
}

/// As many words of the stack as nobody keeps in memory.
fn mark_stack() -> usize {
    let stack = black_box([black_box(MARK); STACK_WORDS]);
    let found = marks();
    black_box(stack);
    found
}

/// Words of the whole memory that are marked.
fn marks() -> usize {
    (1..memory_bytes() / 8).filter(|word| word_at(word * 8) == MARK).count()
}

#[cfg(target_family = "wasm")]
fn memory_bytes() -> usize {
    core::arch::wasm32::memory_size::<0>() << 16
}

#[cfg(target_family = "wasm")]
fn word_at(address: usize) -> u64 {
    // SAFETY: all of the memory can be read, whatever it is used for.
    unsafe { std::ptr::with_exposed_provenance::<u64>(address).read_volatile() }
}

#[cfg(not(target_family = "wasm"))]
fn memory_bytes() -> usize {
    0
}

#[cfg(not(target_family = "wasm"))]
fn word_at(_: usize) -> u64 {
    0
}

static INITIALISED: [AtomicU64; 1_000] = [const { AtomicU64::new(1) }; 1_000];
static ZERO: [AtomicU64; 1_000] = [const { AtomicU64::new(0) }; 1_000];

/// Only code has it as a constant.
const MARK: u64 = 0x6d61_726b_6564_2121;
const HEAP_WORDS: usize = 100_000;
const STACK_WORDS: usize = 8_000;
