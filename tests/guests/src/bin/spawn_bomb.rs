//! Spawns coroutines that wait, until refused; says how many there were, and ends.

use std::time::Duration;

use conet::net::TcpStream;

#[conet::main]
fn main() {
    for count in 0..FAR_TOO_MANY {
        if let Err(error) = conet::spawn_with(wait, Vec::new(), Vec::new()) {
            println!("spawned={count} code={:?}", conet::ErrorCode::of(&error));
            return;
        }
    }
    println!("spawned={FAR_TOO_MANY} and never refused");
}

fn wait(_: Vec<TcpStream>, _: Vec<u8>) {
    conet::sleep(Duration::from_secs(600));
}

const FAR_TOO_MANY: usize = 20_000;
