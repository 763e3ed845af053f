//! Receives and discards, an instance for each connection.

use std::io::{self, Read};

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> io::Result<()> {
    let mut buf = vec![0; 64 * 1024];
    while conn.read(&mut buf)? > 0 {}
    Ok(())
}
