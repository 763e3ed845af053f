//! A program that sleeps as std does, twice, while another of its coroutines waits.

use std::time::Duration;

#[conet::main]
fn main() -> std::io::Result<()> {
    conet::go(|| conet::sleep(Duration::from_secs(600)))?;
    conet::yield_now();
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
