//! Starts coroutines that do nothing, a hundred alive at most: `bench-spawn go|instance COUNT`.
//!
//! Of instances the last hundred may still be on their way when the rate is taken. What limits them to that
//! is `--coroutines-max`.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Instant;

#[conet::main]
fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let start = Instant::now();
    let count = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["go", count] => go(number(count)?)?,
        ["instance", count] => instances(number(count)?)?,
        _ => return Err(io::Error::new(ErrorKind::InvalidInput, "usage: bench-spawn go|instance COUNT")),
    };
    println!("spawned={count} seconds={}", start.elapsed().as_secs_f64());
    Ok(())
}

/// In batches, as the other languages' programs do.
fn go(count: u64) -> io::Result<u64> {
    let done = Rc::new(Cell::new(0));
    for batch in 1..=count.div_ceil(BATCH) {
        for _ in 0..BATCH {
            let done = Rc::clone(&done);
            conet::go(move || done.set(done.get() + 1))?;
        }
        while done.get() < batch * BATCH {
            conet::yield_now();
        }
    }
    Ok(done.get())
}

fn instances(count: u64) -> io::Result<u64> {
    for _ in 0..count {
        while let Err(error) = conet::spawn_with(|_, _| {}, Vec::new(), Vec::new()) {
            if error.kind() != ErrorKind::QuotaExceeded {
                return Err(error);
            }
            conet::yield_now();
        }
    }
    Ok(count)
}

fn number(word: &str) -> io::Result<u64> {
    word.parse().map_err(|_| io::Error::new(ErrorKind::InvalidInput, format!("not a number: {word}")))
}

const BATCH: u64 = 100;
