//! Receives and discards, a coroutine for each connection: `bench-discard ADDRESS`.

use std::io::{self, Read};

use conet::net::{TcpListener, TcpStream};

#[conet::main]
fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:7000".into());
    for conn in TcpListener::bind(address)?.incoming() {
        let conn = conn?;
        conet::go(move || discard(conn))?;
    }
    Ok(())
}

fn discard(mut conn: TcpStream) -> io::Result<()> {
    // Not on a coroutine's small stack.
    let mut buf = vec![0; 64 * 1024];
    while conn.read(&mut buf)? > 0 {}
    Ok(())
}
