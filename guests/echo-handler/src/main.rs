//! The echo server as a handler: the host listens, accepts, and calls this for each connection.

use conet::net::TcpStream;
use std::io::{self, Read, Write};

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> io::Result<()> {
    let mut buf = [0; 4096];
    loop {
        match conn.read(&mut buf)? {
            0 => return Ok(()),
            n => conn.write_all(&buf[..n])?,
        }
    }
}
