//! An ordinary command, without the SDK: sleeps as std does and says how long that took.

use std::time::{Duration, Instant};

fn main() {
    let start = Instant::now();
    std::thread::sleep(Duration::from_millis(50));
    println!("slept {} ms", start.elapsed().as_millis());
}
