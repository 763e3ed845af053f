//! A coroutine that needs more stack than it has: a trap, before it writes to memory of its siblings.
//!
//! Argument: `deep`, the default, for many small frames; `huge` for one that is larger than all memory below the stack.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::rc::Rc;
use std::time::Duration;

#[conet::main]
fn main() -> io::Result<()> {
    let done = Rc::new(Cell::new(0));
    let result = Rc::clone(&done);
    let huge = std::env::args().nth(1).is_some_and(|word| word == "huge");
    conet::go(move || result.set(if huge { huge_frame() } else { dig(10_000) }))?;
    while done.get() == 0 {
        conet::sleep(Duration::from_millis(1));
    }
    println!("a small stack held it all: {}", done.get());
    Ok(())
}

#[inline(never)]
fn dig(depth: u64) -> u64 {
    let mut frame = [depth; 64];
    black_box(&mut frame);
    let below = if depth > 1 { dig(depth - 1) } else { 0 };
    black_box(&mut frame);
    below + u64::from(frame[0] == depth)
}

/// The stack pointer wraps around zero.
#[inline(never)]
fn huge_frame() -> u64 {
    let mut frame = [1_u8; 64 << 20];
    black_box(&mut frame);
    u64::from(frame[0])
}
