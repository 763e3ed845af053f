//! Starts coroutines that do nothing, as many alive as `--coroutines-max` lets: `bench-spawn go|instance COUNT`. Of
//! instances the last ones may still be on their way when the rate is taken.
//!
//! `bench-spawn first COUNT` starts instances too, and each prints the nanoseconds from its `spawn` to its first
//! instruction.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use conet::net::TcpStream;

use wasi::clocks::monotonic_clock::now;

// The host's clock as a number, which all instances have in common; std hides it in its `Instant`.
wit_bindgen::generate!({
    inline: "
        package wasi:clocks@0.2.0;
        interface monotonic-clock { type instant = u64; now: func() -> instant; }
        world clock { import monotonic-clock; }
    ",
});

#[conet::main]
fn main() -> io::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let start = Instant::now();
    let count = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["go", count] => go(number(count)?)?,
        ["instance", count] => instances(number(count)?)?,
        ["first", count] => return first(number(count)?),
        _ => {
            let usage = "usage: bench-spawn go|instance|first COUNT";
            return Err(io::Error::new(ErrorKind::InvalidInput, usage));
        }
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
        spawn(|_, _| {}, Vec::new)?;
    }
    Ok(count)
}

fn first(count: u64) -> io::Result<()> {
    for _ in 0..count {
        spawn(tell, || now().to_le_bytes().to_vec())?;
    }
    Ok(())
}

/// The fresh instance's side of it.
fn tell(_: Vec<TcpStream>, began: Vec<u8>) {
    let now = now();
    let began = began.try_into().map(u64::from_le_bytes);
    println!("first_ns={}", now - began.expect("the bytes of one number"));
}

/// Waits until there is room for another one.
fn spawn(f: fn(Vec<TcpStream>, Vec<u8>), bytes: impl Fn() -> Vec<u8>) -> io::Result<()> {
    while let Err(error) = conet::spawn_with(f, Vec::new(), bytes()) {
        if error.kind() != ErrorKind::QuotaExceeded {
            return Err(error);
        }
        // Not a yield: after that this instance goes on as long as its slice lasts, with nothing else ready in it.
        conet::sleep(PAUSE);
    }
    Ok(())
}

fn number(word: &str) -> io::Result<u64> {
    word.parse().map_err(|_| io::Error::new(ErrorKind::InvalidInput, format!("not a number: {word}")))
}

const BATCH: u64 = 100;

/// Shorter than a hundred instances take.
const PAUSE: Duration = Duration::from_micros(500);
