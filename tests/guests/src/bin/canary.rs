//! Canaries on the deep stacks of many coroutines stay intact while all of them wait in turn.
//!
//! Arguments: how many coroutines, how many rounds.

#[path = "canary/suite.rs"]
mod suite;

use std::time::Duration;

#[conet::main]
fn main() {
    let tally = suite::run(suite::argument(1, 1000), suite::argument(2, 100), suspend);
    suite::report(&tally);
}

fn suspend(number: u64) {
    if number.is_multiple_of(2) {
        conet::yield_now();
    } else {
        conet::sleep(Duration::from_micros(number % 500));
    }
}
