//! The echo handler, for instances that serve many connections.

use conet::net::TcpStream;
use std::io::{self, Read, Write};

#[conet::handler(shared)]
fn on_connection(mut conn: TcpStream) -> io::Result<()> {
    let mut buf = [0; 4096];
    loop {
        match conn.read(&mut buf)? {
            0 => return Ok(()),
            n => conn.write_all(&buf[..n])?,
        }
    }
}
