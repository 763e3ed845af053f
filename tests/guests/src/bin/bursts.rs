//! An ordinary command, without the SDK: computes in bursts of some 60 ms, as many as its first argument says, and sleeps
//! a moment after each. Without a sleep if there is a second argument.

use std::time::Duration;

use conet_test_guests::compute;

fn main() {
    let mut args = std::env::args().skip(1);
    let bursts: u32 = args.next().and_then(|count| count.parse().ok()).expect("a number of bursts");
    let sleepless = args.next().is_some();
    for _ in 0..bursts {
        compute(STEPS);
        if !sleepless {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    println!("done");
}

const STEPS: u64 = 20_000_000;
