//! Echoes one message, then receives for ever, whatever comes of it: with no time to wait if the message says so.

use std::io::{self, Read, Write};
use std::time::Duration;

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> io::Result<()> {
    let mut chunk = [0; 64];
    let received = conn.read(&mut chunk)?;
    conn.write_all(&chunk[..received])?;
    if chunk[0] == b't' {
        conn.set_read_timeout(Some(Duration::from_nanos(1)))?;
    }
    loop {
        let _ = conn.read(&mut chunk);
    }
}
