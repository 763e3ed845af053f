//! Sends `bye`, ends its sending side, then receives to the end and says on stdout how much it got.

use std::io::{Read, Write};
use std::net::Shutdown;

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> std::io::Result<()> {
    conn.write_all(b"bye")?;
    conn.shutdown(Shutdown::Write)?;
    let mut all = Vec::new();
    conn.read_to_end(&mut all)?;
    println!("received {}", all.len());
    Ok(())
}
