//! Connects to an address with all the time in the world, and says how that ended.

use std::time::Duration;

use conet::net::TcpStream;

#[conet::main]
fn main() -> std::io::Result<()> {
    let target = std::env::args().nth(1).ok_or_else(|| std::io::Error::other("no target"))?;
    match TcpStream::connect_timeout(target.as_str(), Duration::from_secs(3600)) {
        Ok(_) => println!("connected"),
        Err(error) => println!("failed: {:?}", conet::ErrorCode::of(&error)),
    }
    Ok(())
}
