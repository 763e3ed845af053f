//! Waits in vain for the one connection of a pool that it holds itself, then gives it back and gets it again.

use std::time::Duration;

use conet::pool::{Options, Pool};

#[conet::main]
fn main() -> std::io::Result<()> {
    let target = std::env::args().nth(1).ok_or_else(|| std::io::Error::other("no target"))?;
    let options = Options { max_open: 1, max_idle: 1, ..Options::default() };
    let pool = Pool::open_with(target.as_str(), options)?;
    let held = pool.get()?;
    match pool.get_timeout(Duration::from_millis(50)) {
        Ok(_) => println!("a second connection"),
        Err(error) => println!("second: {:?}", conet::ErrorCode::of(&error)),
    }
    drop(held);
    pool.get_timeout(Duration::from_secs(10))?;
    let stats = pool.stats();
    println!("opened={} reused={} waited={} open={}", stats.opened, stats.reused, stats.waited, stats.open);
    Ok(())
}
