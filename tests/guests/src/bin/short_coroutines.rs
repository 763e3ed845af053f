//! Many short coroutines, one after another: their stacks are used again, so memory stays as it is.
//!
//! Argument: how many, a million by default. Prints the pages of memory before and after, then stays until the host is
//! asked to end, so that its memory can be looked at.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use conet::net::TcpListener;

#[conet::main]
fn main() -> io::Result<()> {
    let count: u64 = std::env::args().nth(1).map_or(1_000_000, |word| word.parse().expect("a number"));
    // The first ones make the stacks that all others use again.
    run_coroutines(ALIVE_MAX)?;
    println!("before={}", memory_pages());
    run_coroutines(count)?;
    println!("coroutines={count} after={}", memory_pages());
    // Nobody comes.
    let _ = TcpListener::bind("127.0.0.1:0")?.accept();
    Ok(())
}

fn run_coroutines(count: u64) -> io::Result<()> {
    let done = Rc::new(Cell::new(0));
    for started in 1..=count {
        let counter = Rc::clone(&done);
        conet::go(move || {
            conet::yield_now();
            counter.set(counter.get() + 1);
        })?;
        while started - done.get() >= ALIVE_MAX {
            conet::yield_now();
        }
    }
    while done.get() < count {
        conet::yield_now();
    }
    Ok(())
}

#[cfg(target_family = "wasm")]
fn memory_pages() -> usize {
    core::arch::wasm32::memory_size(0)
}

#[cfg(not(target_family = "wasm"))]
fn memory_pages() -> usize {
    0
}

const ALIVE_MAX: u64 = 100;
