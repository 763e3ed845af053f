//! A coroutine that needs more stack than it has: a trap, before it writes to memory of its siblings.

use std::cell::Cell;
use std::hint::black_box;
use std::io;
use std::rc::Rc;
use std::time::Duration;

#[conet::main]
fn main() -> io::Result<()> {
    let done = Rc::new(Cell::new(0));
    let result = Rc::clone(&done);
    conet::go(move || result.set(dig(10_000)))?;
    while done.get() == 0 {
        conet::sleep(Duration::from_millis(1));
    }
    println!("a small stack held {} frames of 512 bytes", done.get());
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
