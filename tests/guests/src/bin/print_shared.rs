//! Two coroutines of one instance that print in turn, each its own id.

use std::io::Result;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

static ENDED: AtomicUsize = AtomicUsize::new(0);

#[conet::main]
fn main() -> Result<()> {
    println!("main {}", conet::id());
    for _ in 0..2 {
        conet::go(|| {
            for turn in 0..3 {
                println!("turn {turn} of {}", conet::id());
                eprintln!("turn {turn} of {}", conet::id());
                conet::sleep(Duration::from_millis(1));
            }
            ENDED.fetch_add(1, Ordering::Relaxed);
        })?;
    }
    // It ends with its instance, and the others with it.
    while ENDED.load(Ordering::Relaxed) < 2 {
        conet::sleep(Duration::from_millis(1));
    }
    Ok(())
}
