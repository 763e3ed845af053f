//! Answers each message with what its variable VERSION says, but traps if the first byte is below what TRAPS says.

use std::env::var;
use std::io::{Read, Result, Write};

use conet::net::TcpStream;

#[conet::handler]
fn on_connection(mut conn: TcpStream) -> Result<()> {
    let version = var("VERSION").unwrap_or_default();
    let traps = var("TRAPS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut chunk = [0; 512];
    while conn.read(&mut chunk)? > 0 {
        assert!(chunk[0] >= traps, "told to trap");
        conn.write_all(version.as_bytes())?;
    }
    Ok(())
}
