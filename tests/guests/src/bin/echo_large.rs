//! The echo handler with a large buffer, for instances that serve many connections.

use conet::net::TcpStream;
use std::io::{self, Read, Write};

#[conet::handler(shared)]
fn on_connection(mut conn: TcpStream) -> io::Result<()> {
    // Not on a coroutine's small stack.
    let mut buf = vec![0; 64 * 1024];
    loop {
        match conn.read(&mut buf)? {
            0 => return Ok(()),
            n => conn.write_all(&buf[..n])?,
        }
    }
}
