//! Prints which line of this file it is about to be at, and panics there, in a coroutine of `go`.

use std::time::Duration;

#[conet::main]
fn main() -> std::io::Result<()> {
    conet::go(panics)?;
    conet::sleep(Duration::from_secs(600));
    Ok(())
}

#[inline(never)]
fn panics() {
    println!("{}", line!() + 1);
    panic!("as it always does");
}
