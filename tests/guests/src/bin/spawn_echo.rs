//! Echoes one message, and leaves the rest to a coroutine in an instance of its own.

use std::io::{self, Read, Write};

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> io::Result<()> {
    let mut chunk = [0; 4096];
    let count = conn.read(&mut chunk)?;
    conn.write_all(&chunk[..count])?;
    conet::spawn(echo, conn)?;
    Ok(())
}

fn echo(mut conn: TcpStream) {
    let mut chunk = [0; 4096];
    while let Ok(count @ 1..) = conn.read(&mut chunk) {
        if conn.write_all(&chunk[..count]).is_err() {
            return;
        }
    }
}
