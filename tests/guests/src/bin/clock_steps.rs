//! A program that reads its clocks in a loop, and prints the smallest steps they went in, in nanoseconds.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[conet::main]
fn main() -> std::io::Result<()> {
    let begun = Instant::now();
    let monotonic = smallest_step(|| begun.elapsed());
    let wall = smallest_step(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    // What is waited for is waited for, in whatever steps.
    let before = Instant::now();
    std::thread::sleep(Duration::from_millis(30));
    let slept = before.elapsed() >= Duration::from_millis(30);
    println!("monotonic={} wall={} slept={slept}", monotonic.as_nanos(), wall.as_nanos());
    Ok(())
}

fn smallest_step(mut read: impl FnMut() -> Duration) -> Duration {
    let mut smallest = Duration::MAX;
    let mut last = read();
    let mut steps = 0;
    while steps < 20 {
        let now = read();
        // The wall clock may be set back.
        if now > last {
            smallest = smallest.min(now - last);
            steps += 1;
        }
        last = now;
    }
    smallest
}
