//! Answers each message with what its variable VERSION says.

use std::io::{Read, Result, Write};

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> Result<()> {
    let version = std::env::var("VERSION").unwrap_or_default();
    let mut chunk = [0; 512];
    while conn.read(&mut chunk)? > 0 {
        conn.write_all(version.as_bytes())?;
    }
    Ok(())
}
