//! A program that returns while another of its coroutines still waits.

use std::time::Duration;

#[conet::main]
fn main() -> std::io::Result<()> {
    conet::go(|| {
        println!("the other waits");
        conet::sleep(Duration::from_secs(600));
        println!("the other ends");
    })?;
    conet::yield_now();
    println!("main ends");
    Ok(())
}
